"""A course's weeks: what is read, what is handed in, and how long both take.

The minutes are those that chapters and assignments state in their first cells. So the
tables in `course_plan.md` follow them (`python book/notebooks.py assignments`).
"""

import re
from pathlib import Path

SOURCES = Path(__file__).resolve().parents[1] / "tests" / "assignments"
Plan = dict[str, tuple[str, str]]  # the chapters and the assignments of each week
PLANS: dict[str, Plan] = {
    "4": {
        "1": ("tokenization attention transformer", "tokenization transformer"),
        "2": ("pretraining fine_tuning", "pretraining fine_tuning"),
        "3": (
            "instruction_tuning rlhf reward_hacking reasoning",
            "instruction_tuning rlhf",
        ),
        "4": ("context_window deployment", "context_window deployment"),
    },
    "8": {
        "1": ("tokenization embeddings", "tokenization"),
        "2": ("attention transformer", "transformer"),
        "3": ("pretraining scaling_laws", "pretraining"),
        "4": ("fine_tuning", "fine_tuning"),
        "5": ("instruction_tuning rlhf", "instruction_tuning"),
        "6": ("reward_hacking reasoning", "rlhf"),
        "7": ("context_window retrieval", "retrieval"),
        "8": ("deployment", "deployment"),
    },
    "14": {
        "1": ("pipeline corpus", "corpus"),
        "2": ("tokenization embeddings", "tokenization"),
        "3": ("attention", "embeddings"),
        "4": ("transformer", "transformer"),
        "5": ("pretraining", "pretraining"),
        "6": ("scaling_laws scaling", ""),
        "7": ("fine_tuning", "fine_tuning"),
        "8": ("instruction_tuning", "instruction_tuning"),
        "9": ("rlhf", ""),
        "10": ("reward_hacking reasoning", "rlhf"),
        "11": ("context_window", "context_window"),
        "12": ("retrieval", "retrieval"),
        "13, 14": ("deployment real_models", "deployment project"),
    },
}
WORDS = {"half an hour": 30, "an hour": 60, "two hours": 120, "a day": 480}


def minutes(text: str) -> int:
    """Return a time in minutes.

    Raises:
        ValueError: If it is neither a number of minutes nor one of `WORDS`.

    >>> minutes("45 minutes"), minutes("10"), minutes("half an hour")
    (45, 10, 30)
    """
    if text in WORDS:
        return WORDS[text]
    if not (number := re.fullmatch(r"(\d+)(?: minutes)?", text)):
        raise ValueError(f"minutes were wanted, or {', '.join(WORDS)}; got {text!r}")
    return int(number[1])


def reading(name: str) -> int:
    """Return how many minutes a chapter takes to read with its code."""
    import contents

    [chapter] = contents.chapters([f"book/{name}"])
    found = contents.READING.search("\n".join(chapter.opening))
    assert found is not None, f"{name} does not say how long it takes"
    return minutes(found[1])


def work(name: str) -> int:
    """Return how many minutes an assignment's tasks take."""
    text = (SOURCES / f"{name}.py").read_text(encoding="utf-8")
    rows = re.findall(r"^# \| \d\. .* \| (.*) \|$", text, re.MULTILINE)
    assert rows, f"{name} has no table of tasks"
    return sum(minutes(row) for row in rows)


def hours(n_minutes: int) -> str:
    """Return minutes as hours and minutes.

    >>> hours(100), hours(0)
    ('1:40', '–')
    """
    return f"{n_minutes // 60}:{n_minutes % 60:02}" if n_minutes else "–"


def table(plan: Plan) -> str:
    """Return a plan as a table in Markdown."""
    lines = ["| Week | Read | Hand in | Reading | Assignment | Hours |"]
    lines += ["|---|---|---|---|---|---|"]
    totals = [0, 0]
    for week, (chapters, assignments) in plan.items():
        read = sum(map(reading, chapters.split()))
        done = sum(map(work, assignments.split()))
        totals = [totals[0] + read, totals[1] + done]
        cells = [
            week,
            ", ".join(f"{{doc}}`{name}`" for name in chapters.split()),
            ", ".join(
                f"{{doc}}`{name} <assignments/{name}>`" for name in assignments.split()
            )
            or "–",
            *map(hours, (read, done, read + done)),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    cells = ["**Sum**", "", "", *map(hours, (*totals, sum(totals)))]
    return "\n".join([*lines, f"| {' | '.join(cells)} |"])


def with_weeks(page: str) -> str:
    """Return a page with the table of each plan between its marks."""
    for name, plan in PLANS.items():
        begin, end = f"<!-- {name} weeks -->\n", f"<!-- end of {name} weeks -->"
        before, rest = page.split(begin)
        page = f"{before}{begin}\n{table(plan)}\n\n{end}{rest.split(end)[1]}"
    return page
