"""Write the whole book as PDF and EPUB, from the built site.

    python -m pip install -e ".[print]"
    python book/print.py                  _build/print/book.pdf and book.epub
    python book/print.py --only rlhf      one chapter, rlhf.pdf and rlhf.epub
    python book/print.py --publish        the same, copied beside the site, with links

Chromium prints (Debian's, or `playwright install chromium`), and does so twice: after
the first time the pages of all headings are known, for the table of contents.
What is folded is unfolded; quizzes have their answers at the end; explorers become
pictures with a link. The package's functions and the gallery are on the site alone.
"""

from __future__ import annotations

import argparse
import datetime
import re
import shutil
import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from bs4 import BeautifulSoup, Tag

if TYPE_CHECKING:
    from playwright.sync_api import Browser

BOOK = Path(__file__).resolve().parent
ROOT = BOOK.parent
HTML = ROOT / "_build" / "html"
OUT = ROOT / "_build" / "print"
LEFT_OUT = ("explorers", "api")
PLACE = "<!-- the book on paper -->"  # on the first page, for links to the files
CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "chrome")
VIEW = 'script[type="application/vnd.jupyter.widget-view+json"]'
# What has no use on paper.
REMOVED = (
    "script:not([type*=view]), style, .headerlink, button.copybtn, .start, #cite,"
    "#the-chapters, #slides-1, .toctree-wrapper"
)
PAPER = """
@page { size: A4; margin: 22mm 22mm 24mm; font: 9pt "Source Sans 3", sans-serif;
  @bottom-center { content: counter(page); } @top-right { color: #555; } }
@page front { @bottom-center { content: none; } }
"""
# A bar that stays at the top would lie across what is taller than the window.
HIDE_WHAT_STAYS = """() => {
  for (const element of document.querySelectorAll("body *")) {
    const { position } = getComputedStyle(element);
    if (position === "fixed" || position === "sticky") element.style.display = "none";
  }
}"""
# Names and punctuation have no colour of their own: half of the marks in code.
PLAIN_CODE = ".highlight :is(.n, .p, .w, .nn, .nf, .nc, .nb, .o)"


def table_of_contents() -> list[tuple[str, list[str]]]:
    """Return the parts of the book: caption and pages of each."""

    def pages(entries: list[dict[str, Any]]) -> list[str]:
        found = []
        for entry in entries:
            found.append(entry["file"].removeprefix("book/"))
            for tree in entry.get("subtrees", ()):
                found += pages(tree["sections"])
        return [page for page in found if page.split("/")[0] not in LEFT_OUT]

    contents = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    parts = [(p.get("caption", ""), pages(p["chapters"])) for p in contents["parts"]]
    return [("", ["index"]), *parts]


class Page:
    """A page of the site, made ready for paper."""

    def __init__(self, name: str, site: str) -> None:
        self.name = name
        self.address = f"{site}book/{name}.html"
        text = (HTML / "book" / f"{name}.html").read_text(encoding="utf-8")
        self.soup = BeautifulSoup(text, "html.parser")
        body = self.soup.select_one("article.bd-article > section")
        if body is None:
            raise SystemExit(f"{name}: no page of this book's site")
        self.body: Tag = body
        for element in body.select(REMOVED):
            element.decompose()
        for element in body.select(PLAIN_CODE):
            element.unwrap()
        for element in body.select(".citation, .citation-list"):
            del element["role"]  # of an older standard
        if name == "index":
            body.h1.string = "About this book"

    @property
    def key(self) -> str:
        """The name as it stands in anchors and file names."""
        return self.name.replace("/", "-")

    @property
    def title(self) -> str:
        """The heading, with its number."""
        return str(self.body.h1.get_text())

    def tag(self, name: str, text: str = "", **attributes: str) -> Tag:
        """Return a new element."""
        made = self.soup.new_tag(name, attrs=attributes)
        made.string = text
        return made

    def link(self, before: str, anchor: str = "") -> Tag:
        """Return a paragraph with a link to this page on the site."""
        line = self.tag("p", before, **{"class": "on-the-site"})
        address = self.address + anchor
        line.append(self.tag("a", address.removeprefix("https://"), href=address))
        return line

    def unfold(self) -> None:
        """Show what is folded; solutions and answers say what they are."""
        for fold in self.body.select("details:not([hidden])"):
            summary = fold.summary.extract()
            text = summary.get_text(" ", strip=True)
            fold.name = "div"
            fold.attrs = {"class": "unfolded"}
            if "olution" in text or "Answer" in text:
                label = "Answer" if "Answer" in text else "Solution"
                fold.insert(0, self.tag("p", label, **{"class": "label"}))

    def set_quizzes(self) -> None:
        """Give options letters, and tell the right ones at the end."""
        for quiz in self.body.select(".llmcourse-quiz"):
            quiz.find_previous("p").string = "The answers follow the questions."
            quiz.attrs = {"class": "quiz"}
            answers = self.tag("ol", **{"class": "answers"})
            for box in quiz.select("fieldset"):
                box.name = "div"
                box.legend.name = "p"
                box.ul.name = "ol"
                for place, option in enumerate(box.select("li")):
                    reason = option.select_one("[data-right]").extract()
                    if reason["data-right"] == "1":
                        reason.name, reason.attrs = "li", {}
                        reason.insert(0, f"({'abcdefgh'[place]}) ")
                        answers.append(reason)
                    option.button.name = "span"
                    option.span.attrs = {}
            for status in quiz.select("[role=status]"):
                status.decompose()
            quiz.append(self.tag("p", "Answers", **{"class": "label"}))
            quiz.append(answers)

    def set_explorers(self, pictures: list[Path], kinds: list[str]) -> None:
        """Put a picture and a link where an explorer is."""
        views = self.body.select(VIEW)
        for view, picture, kind in zip(views, pictures, kinds, strict=True):
            section = view.find_parent("section")
            line = self.link("Explore it on the site: ", f"#{section['id']}")
            view.parent.append(line)
            address = picture.relative_to(OUT).as_posix()
            view.replace_with(self.tag("img", src=address, alt=kind))
        for place in self.body.select('div[class*="llmcourse-"]'):
            place.append(self.link(""))
        for links in self.body.select('p:has(> a[href^="https://codespaces.new/"])'):
            links.replace_with(self.link("On the site: "))

    def point_inside(self, pages: set[str]) -> None:
        """Let links lead into the book where it has their page, else to the site."""
        for element in self.body.select("[id]"):
            element["id"] = f"{self.key}--{element['id']}"
        self.body["id"] = self.key
        folder = (HTML / "book" / self.name).parent
        for link in self.body.select("a[href]"):
            if re.match(r"\w+:", link["href"]):
                continue
            path, _, anchor = link["href"].partition("#")
            target = (folder / path).resolve() if path else None
            try:
                page = target.relative_to(HTML).as_posix() if target else ""
            except ValueError:
                continue
            name = page.removeprefix("book/").removesuffix(".html") or self.name
            if name in pages:
                key = name.replace("/", "-")
                link["href"] = f"#{key}--{anchor}" if anchor else f"#{key}"
            else:
                site = self.address.split("book/")[0]
                link["href"] = f"{site}{page}" + (f"#{anchor}" if anchor else "")
        for image in self.body.select("img"):
            del image["loading"]
            if "_images/" in image["src"]:
                image["src"] = f"../html/_images/{image['src'].split('_images/')[1]}"

    def headings(self) -> list[tuple[str, str]]:
        """Return anchor and text of each section."""
        found = []
        for section in self.body.select("section > h2"):
            found.append((str(section.parent["id"]), section.get_text()))
        return found


def kinds_of_explorers(name: str) -> list[str]:
    """Return what each explorer of a chapter shows, in the order of the page."""
    import contents

    chapters = contents.chapters([f"book/{name}"])
    return [purpose for c in chapters for _, purpose, _ in c.explorers()]


def photograph(browser: Browser, name: str, wanted: int) -> list[Path]:
    """Return a picture of each explorer on a page."""
    if not wanted:
        return []
    (OUT / "pictures").mkdir(parents=True, exist_ok=True)
    size = {"width": 760, "height": 1000}
    tab = browser.new_page(viewport=size, device_scale_factor=2, color_scheme="light")
    tab.goto((HTML / "book" / f"{name}.html").as_uri())
    explorers = tab.locator(".cell_output .llmcourse-explorer")
    explorers.nth(wanted - 1).wait_for()
    tab.evaluate(HIDE_WHAT_STAYS)
    pictures = []
    for number in range(wanted):
        path = OUT / "pictures" / f"{name}-{number + 1}.png"
        explorers.nth(number).screenshot(path=path)
        pictures.append(path)
    tab.close()
    return pictures


def read_pages(browser: Browser, names: list[str]) -> list[Page]:
    """Return the pages of the book, ready for paper."""
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    sys.path.insert(0, str(BOOK))
    from address import site_address

    site = site_address(config["repository"]["url"])
    pages = []
    for name in names:
        page = Page(name, site)
        kinds = kinds_of_explorers(name) if page.body.select(VIEW) else []
        page.set_explorers(photograph(browser, name, len(kinds)), kinds)
        page.unfold()
        page.set_quizzes()
        page.point_inside(set(names))
        pages.append(page)
    return pages


def list_contents(pages: list[Page], numbers: dict[str, int]) -> str:
    """Return the table of contents, with a number for each anchor that has one."""

    def entry(level: str, anchor: str, text: str) -> str:
        number = numbers.get(anchor, "")
        return (
            f'<p class="{level}"><a href="#{anchor}">{text}</a>'
            f'<span class="page">{number}</span></p>'
        )

    shown = {page.name: page for page in pages}
    lines = ['<section class="contents"><h1>Contents</h1>']
    for caption, names in table_of_contents():
        here = [shown[name] for name in names if name in shown]
        if here and caption:
            lines.append(f'<p class="part">{caption}</p>')
        for page in here:
            lines.append(entry("chapter", page.key, page.title))
            if page.title[0].isdigit():
                lines += [entry("section", *heading) for heading in page.headings()]
    return "\n".join([*lines, "</section>"])


def about() -> dict[str, str]:
    """Return what stands on the title page."""
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    return {
        "title": config["title"],
        "author": config["author"],
        "version": version("llmcourse"),
        "date": f"{datetime.date.today():%-d %B %Y}",
        "modified": f"{datetime.date.today()}T00:00:00Z",
        "repository": config["repository"]["url"],
    }


def assemble(pages: list[Page], numbers: dict[str, int]) -> str:
    """Return one HTML page with all that is printed."""
    said = about()
    static = "../html/_static"
    styles = [f"{static}/pygments.css", f"{static}/vendor/katex/katex.min.css"]
    styles += ["../../book/print.css"]
    links = "".join(f'<link rel="stylesheet" href="{style}">' for style in styles)
    fonts = (BOOK / "static" / "fonts.css").read_text(encoding="utf-8")
    fonts = fonts.replace("optional", "block").replace("vendor/", f"{static}/vendor/")
    heads = []
    for page in pages:
        title = page.title.replace('"', '\\"')
        heads.append(f"#{page.key} {{ page: {page.key} }}")
        heads.append(f'@page {page.key} {{ @top-right {{ content: "{title}" }} }}')
    bodies = "\n".join(str(page.body) for page in pages)
    return f"""<!doctype html>
<html lang="en" data-theme="light">
<head><meta charset="utf-8"><title>{said["title"]}</title>{links}
<style>{fonts}{PAPER}{"".join(heads)}</style></head>
<body>
<section class="title-page">
<img src="../../book/figures/logo.svg" alt="">
<p class="title">{said["title"]}</p>
<p>{said["author"]}</p>
<p>Version {said["version"]}, {said["date"]}</p>
<p>Text: CC BY 4.0. Code: MIT License.<br>{said["repository"]}</p>
</section>
{list_contents(pages, numbers)}
{bodies}
</body></html>"""


def print_pdf(browser: Browser, pages: list[Page], path: Path) -> Path:
    """Write the PDF and return its path."""
    from pypdf import PdfReader

    for hidden in (h for page in pages for h in page.body.select(".katex-mathml")):
        hidden.decompose()  # the second copy of a formula, for the screen
    source = path.with_suffix(".html")
    numbers: dict[str, int] = {}
    for _ in range(2):
        source.write_text(assemble(pages, numbers), encoding="utf-8")
        tab = browser.new_page()
        tab.goto(source.as_uri(), timeout=0)  # it takes its time
        tab.evaluate("document.fonts.ready")
        tab.pdf(
            path=path,
            prefer_css_page_size=True,
            print_background=True,
            outline=True,
            tagged=True,
        )
        tab.close()
        reader = PdfReader(path)
        for name, place in reader.named_destinations.items():
            number = reader.get_destination_page_number(place)
            numbers[name.removeprefix("/")] = (number or 0) + 1
    return path


def publish(files: list[Path]) -> None:
    """Copy the book beside the built site, and link to it on the first page."""
    links = []
    for file in files:
        shutil.copy(file, HTML)
        megabytes = file.stat().st_size / 1e6
        kind = file.suffix[1:].upper()
        links.append(f'<a href="../{file.name}">{kind}</a> ({megabytes:.0f} MB)')
    line = f"<p>The whole book to print or to take along: {', '.join(links)}.</p>"
    path = HTML / "book" / "index.html"
    page = path.read_text(encoding="utf-8")
    if PLACE not in page:
        raise SystemExit(f"the first page has no place {PLACE!r} for links: build it")
    path.write_text(page.replace(PLACE, line), encoding="utf-8")


def main() -> int:
    """Run the command line; return its exit code."""
    parser = argparse.ArgumentParser(description="Write the book as PDF and EPUB.")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--only", nargs="+", metavar="PAGE", help="a few pages")
    which.add_argument("--publish", action="store_true", help="beside the site, too")
    args = parser.parse_args()
    names = [name for _, part in table_of_contents() for name in part]
    if unknown := [name for name in args.only or () if name not in names]:
        parser.error(f"no page {', '.join(unknown)}: there are {', '.join(names)}")
    if not (HTML / "index.html").is_file():
        raise SystemExit("the site is not built: run jupyter-book build .")
    OUT.mkdir(parents=True, exist_ok=True)
    from epub import write_epub
    from playwright.sync_api import sync_playwright

    chromium = next(filter(None, map(shutil.which, CHROMIUM)), None)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox"]
        )
        wanted = [name for name in names if name in (args.only or names)]
        pages = read_pages(browser, wanted)
        name = pages[0].key if args.only else "book"
        epub = write_epub(OUT / f"{name}.epub", pages, about())
        pdf = print_pdf(browser, pages, OUT / f"{name}.pdf")
    print(epub, pdf, sep="\n")
    if args.publish:
        publish([pdf, epub])
    return 0


if __name__ == "__main__":
    sys.exit(main())
