"""Missing packages are named; faults of our own stay what they are."""

import pytest

from llmcourse.extras import needed_for


def test_a_missing_package_is_named_with_its_extra():
    message = r'a pie needs the package flour: pip install "llmcourse\[kitchen\]"'
    with pytest.raises(ImportError, match=message), needed_for("a pie", "kitchen"):
        import flour  # noqa: F401


@pytest.mark.parametrize(
    "line", ["import llmcourse.flour", "from llmcourse.files import flour"]
)
def test_what_the_course_itself_lacks_is_no_extra(line):
    with pytest.raises(ImportError) as caught, needed_for("a pie", "kitchen"):
        exec(line)
    assert "kitchen" not in str(caught.value)
