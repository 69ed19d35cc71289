"""Whatever the service's description allows or forbids, it does as described."""

import pytest
from hypothesis import HealthCheck, settings
from service_cases import small_service

schemathesis = pytest.importorskip("schemathesis")


@pytest.fixture(scope="module")
def api():
    with small_service() as (url, _):
        config = schemathesis.Config.from_dict(
            # That a prompt is too long for the window, or that speakers do not take
            # turns, no schema can say: 400 is right for what the schema allows.
            {
                "checks": {
                    "positive_data_acceptance": {
                        "expected-statuses": ["2xx", "400", "404", "429"]
                    }
                }
            }
        )
        yield schemathesis.openapi.from_url(f"{url}/openapi.json", config=config)


schema = schemathesis.pytest.from_fixture("api")


@schema.parametrize()
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
def test_every_path_does_as_described(case):
    case.call_and_validate()
