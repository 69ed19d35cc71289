"""What is written for people and platforms, from the templates in `templates/`."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader

TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).with_name("templates")),
    trim_blocks=True,
    keep_trailing_newline=True,
)


def render(template: str, **values: object) -> str:
    """Return a text from a template of Jinja.

    >>> render("unreadable.html", name="rlhf", reasons=[]).splitlines()[3]
    '<title>rlhf: not graded</title>'
    """
    return TEMPLATES.get_template(template).render(values)
