"""Whatever the service's description allows or forbids, it does as described.

A few requests for each path, the same ones each time; the environment variable
``SCHEMA_EXAMPLES`` asks for more, and each time for others.
"""

import os

import pytest
from hypothesis import HealthCheck, given, settings
from service_cases import small_service

schemathesis = pytest.importorskip("schemathesis")

N_EXAMPLES = int(os.environ.get("SCHEMA_EXAMPLES", "8"))  # for each path
PATHS = [
    ("GET", "/v1/models"),
    ("GET", "/v1/models/{name}"),
    ("POST", "/v1/completions"),
    ("POST", "/v1/chat/completions"),
    ("GET", "/health"),
    ("GET", "/metrics"),
]


@pytest.fixture(scope="module")
def described():
    with small_service() as (url, _):
        # That a prompt is too long for the window, or that speakers do not take turns,
        # no schema can say: 400 is right for some of what the schema allows.
        accepted = {"expected-statuses": ["2xx", "400", "404", "429"]}
        config = schemathesis.Config.from_dict(
            {"checks": {"positive_data_acceptance": accepted}}
        )
        yield schemathesis.openapi.from_url(f"{url}/openapi.json", config=config)


# What is asked for with GET has no wrong form.
RIGHT, WRONG = (
    schemathesis.GenerationMode.POSITIVE,
    schemathesis.GenerationMode.NEGATIVE,
)


@pytest.mark.parametrize(
    ("method", "path", "mode"),
    [(*path, RIGHT) for path in PATHS]
    + [(*path, WRONG) for path in PATHS if path[0] == "POST"],
)
def test_every_path_does_as_described(described, method, path, mode):
    wanted = settings(
        max_examples=N_EXAMPLES,
        derandomize="SCHEMA_EXAMPLES" not in os.environ,
        suppress_health_check=list(HealthCheck),
    )

    @wanted
    @given(described[path][method].as_strategy(generation_mode=mode))
    def check(case):
        case.call_and_validate()

    check()
