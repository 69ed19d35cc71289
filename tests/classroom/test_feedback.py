from llmcourse.classroom.feedback import finished
from llmcourse.classroom.pages import render

PAGE = """<html><h4>tokenization (Score: 14.0 / 20.0)</h4>
<a href="#test-merge">Test cell</a> (Score: 1.0 / 1.0)
<a href="#numbers">Written response</a> (Score: 0.0 / 3.0)
<a name="test-merge"></a> Score: 1.0 / 1.0
<a name="numbers"></a> <b>an answer</b>
Score: 0.0 / 3.0
</html>"""


def test_an_answer_that_waits_has_no_points() -> None:
    assert finished(PAGE, ["numbers"]).splitlines() == [
        '<html lang="en"><h4>tokenization '
        "(Score so far: 14.0 / 20.0; not marked yet: numbers)</h4>",
        '<a href="#test-merge">test-merge</a> (Score: 1.0 / 1.0)',
        '<a href="#numbers">numbers</a> (Not marked yet: 3.0 points)',
        '<a name="test-merge"></a> Score: 1.0 / 1.0',
        '<a name="numbers"></a> <b>an answer</b>',
        "Not marked yet: 3.0 points",
        "</html>",
    ]


def test_a_page_where_all_is_marked_keeps_its_points() -> None:
    made = finished(PAGE, [])
    assert "(Score: 14.0 / 20.0)" in made
    assert made.count("Score: 0.0 / 3.0") == 2


def test_the_page_of_an_unreadable_hand_in_quotes_what_is_wrong() -> None:
    told = ["a.ipynb is no notebook: <b>"]
    page = render("unreadable.html", name="rlhf", reasons=told)
    assert "<li>a.ipynb is no notebook: &lt;b&gt;</li>" in page
