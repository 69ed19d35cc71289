"""The page that a student gets back.

nbgrader makes it. It shows 0 points for an answer that nobody has marked, and calls
every test "Test cell", so its text is changed here.
"""

import re


def finished(page: str, waiting: list[str]) -> str:
    """Return nbgrader's page with tests by name and no points for unmarked answers.

    Args:
        page: The page.
        waiting: The answers that are not marked yet.
    """
    page = page.replace("<html>", '<html lang="en">', 1)
    link = r'(<a href="#([\w-]+)">)(?:Test cell|Written response)</a>'
    page = re.sub(link, r"\1\2</a>", page)
    if waiting:
        rest = f"; not marked yet: {', '.join(waiting)})"
        total = r"\(Score: ([\d./ ]+)\)"
        page = re.sub(total, rf"(Score so far: \1{rest}", page, count=1)
    for cell in waiting:  # in the contents, and above the answer
        own = rf'(?s)((?:href="#|name="){cell}">.*?)Score: [\d.]+ / ([\d.]+)'
        page = re.sub(own, r"\1Not marked yet: \2 points", page, count=2)
    return page
