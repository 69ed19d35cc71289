import pytest
from nbconvert.filters import markdown2html
from nbformat.v4 import new_code_cell, new_markdown_cell, new_output

from llmcourse.classroom.recorded import HideHiddenTests


def test_a_hidden_test_shows_its_message_once_and_no_code() -> None:
    told = "NameError: name 'x' is not defined"
    error = new_output("error", ename="NameError", evalue=told, traceback=["secret"])
    hidden = "# Hidden: x\n### BEGIN HIDDEN TESTS\nassert x\n### END HIDDEN TESTS"
    cell, _ = HideHiddenTests().preprocess_cell(
        new_code_cell(hidden, outputs=[error]), {}, 0
    )
    assert cell.source == "# Hidden: x"
    assert cell.outputs[0].traceback == [told]


@pytest.mark.parametrize(
    ("comment", "shown"),
    [
        ("Wrong: if a<b and b>c then", "if a&lt;b and b&gt;c then"),
        ("groups, <from the right>", "groups, &lt;from the right&gt;"),
        ("see `x<y`", "<code>x&lt;y</code>"),
        ("since $a<b$ and c<d", "since $a&lt;b$ and c&lt;d"),
        ("**Good**\n\n<script>", "<strong>Good</strong>"),
    ],
)
def test_all_of_a_comment_is_shown(comment: str, shown: str) -> None:
    cell = new_markdown_cell("", metadata={"nbgrader": {"comment": comment}})
    cell, _ = HideHiddenTests().preprocess_cell(cell, {}, 0)
    page = markdown2html(cell.metadata["nbgrader"]["comment"])
    assert shown in page
    assert "<script>" not in page
