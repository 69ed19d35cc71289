from nbformat.v4 import new_code_cell, new_output

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
