"""The book's own Sphinx extensions: third-party files, address, places of citations."""

import base64
import hashlib
import importlib.util
import io
import json
import os
import re
import subprocess
import sys
import tarfile
from collections.abc import Callable
from html import escape
from pathlib import Path
from types import ModuleType, SimpleNamespace

import nbformat
import pytest
from server import ROOT

BOOK = ROOT / "book"


def load(name: str) -> ModuleType:
    """Return an extension, loaded afresh from the book's folder."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "book" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def archive(path: Path, files: dict[str, bytes]) -> Path:
    """Write an archive as npm makes them: everything below ``package/``."""
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(f"package/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


Prepared = Callable[..., ModuleType]


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Prepared:
    """Return the extension with one made-up package in place of npm's."""

    def prepare(sha512: str | None = None, files: object = None) -> ModuleType:
        module = load("offline")
        content = {"a.js": b"one", "fonts/x.woff": b"x", "fonts/y.woff": b"y"}
        tar = archive(tmp_path / "a-1.0.tgz", content)
        digest = base64.b64encode(hashlib.sha512(tar.read_bytes()).digest()).decode()
        wanted = files or {"a.js": "widgets/a.js", "fonts/*": "fonts/"}
        listed = {"a@1.0": {"sha512": sha512 or digest, "files": wanted}}
        (tmp_path / "list.json").write_text(json.dumps(listed))
        monkeypatch.setattr(module, "PACKAGES", tmp_path / "list.json")
        monkeypatch.setattr(module, "VENDOR", tmp_path / "static" / "vendor")
        fetched = {"a@1.0": tar}
        monkeypatch.setattr(module, "download", lambda packages, folder: fetched)
        return module

    return prepare


def test_wanted_files_are_unpacked_once(offline: Prepared) -> None:
    """The second build finds them, and asks npm for nothing."""
    module = offline()
    assert module.provide(module.VENDOR) is True
    assert (module.VENDOR / "widgets" / "a.js").read_bytes() == b"one"
    assert (module.VENDOR / "fonts" / "y.woff").read_bytes() == b"y"
    module.download = None
    assert module.provide(module.VENDOR) is False
    assert [p.name for p in module.VENDOR.parent.iterdir()] == ["vendor"]


def test_a_changed_list_is_fetched_again(offline: Prepared) -> None:
    module = offline()
    module.provide(module.VENDOR)
    module = offline(files={"a.js": "widgets/b.js"})
    assert module.provide(module.VENDOR) is True
    assert not (module.VENDOR / "widgets" / "a.js").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sha512": "AAAA"}, "SHA-512 AAAA wanted"),
        ({"files": {"b": "b"}}, "holds no b"),
    ],
)
def test_what_is_not_as_listed_is_refused(
    offline: Prepared, change: dict[str, object], message: str
) -> None:
    """And leaves what an earlier build fetched where it is."""
    module = offline()
    module.provide(module.VENDOR)
    before = (module.VENDOR / "stamp").read_text()
    module = offline(**change)
    with pytest.raises(module.UnavailableError, match=message):
        module.provide(module.VENDOR)
    assert (module.VENDOR / "stamp").read_text() == before


def test_without_npm_the_configuration_stays_as_it_was(
    offline: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The book then builds all the same, with the addresses that Sphinx brings."""
    pytest.importorskip("sphinx", reason="the book's tools are not installed")
    module = offline()

    def fail(packages: list[str], folder: Path) -> None:
        raise module.UnavailableError("npm failed: no network")

    monkeypatch.setattr(module, "download", fail)
    config, styles = SimpleNamespace(), []
    app = SimpleNamespace(add_css_file=lambda name, **_: styles.append(name))
    module.use_local_files(app, config)
    assert vars(config) == {}
    assert styles == []


def test_each_icon_of_the_pages_has_a_picture(html: Path) -> None:
    """`icons.css` is in the place of the theme's icon font."""
    style = (ROOT / "book/static/icons.css").read_text(encoding="utf-8")
    pages = "".join(p.read_text(encoding="utf-8") for p in html.rglob("*.html"))
    icons = re.findall(
        r'class="[^"]*\bfa[bs]?(?:-solid)? (?:[^"]* )?fa-([\w-]+)', pages
    )
    names = set(icons) - {"lg", "solid", "brands"}
    assert len(names) > 10
    assert [name for name in names if f".fa-{name} " not in style] == []


def test_only_used_styles_are_kept() -> None:
    """What is chosen among, or forbidden, need not be there."""
    pytest.importorskip("tinycss2", reason="the book's tools are not installed")
    from tinycss2 import parse_stylesheet

    lean = load("lean")
    style = """a.in, a.out { x: 1 } p:not(.out) { x: 2 } .out { x: 3 }
    @media print { .out { x: 4 } .in:is(.out, b) { x: 5 } }
    @media (x) { .out { x: 6 } }"""
    kept = lean.lean(parse_stylesheet(style, True, True), {"in"})
    assert re.findall(r"x: (\d)", kept) == ["1", "2", "5"]
    assert "a.out" not in kept


def test_cards_tell_what_the_chapters_tell() -> None:
    contents = load("contents")
    book = contents.chapters(["book/index", "book/corpus", "book/notation"])
    [corpus] = book
    assert corpus.title == "The corpus"
    assert f"# {corpus.sentence}" in (BOOK / "src" / "corpus.py").read_text("utf-8")
    assert corpus.times == "Read in 45 minutes, runs in 45 seconds"
    [(section, purpose, _)] = corpus.explorers()
    assert section == "A text whose entropy is known"
    assert purpose == contents.explorer_purposes()["SurpriseExplorer"]


def test_each_explorer_has_its_own_description_and_is_listed_where_it_is() -> None:
    pytest.importorskip("docutils", reason="the book's tools are not installed")
    contents = load("contents")
    names = [f"book/{path.stem}" for path in sorted((ROOT / "book/src").glob("*.py"))]
    book = contents.chapters(names)
    found = [explorer for chapter in book for explorer in chapter.explorers()]
    purposes = [purpose for _, purpose, _ in found]
    assert len(set(purposes)) == len(purposes)
    assert contents.PURPOSES.keys() <= {section for section, _, _ in found}
    overview, explorers = contents.gallery(book)
    listed = re.findall(r'">(.*?)</a>', overview)
    assert listed == [escape(title) for title in re.findall("## (.*)", explorers)]
    page = (ROOT / "book/explorers.md").read_text(encoding="utf-8")
    by_hand = re.findall(r"^- \[(.*?)\]", page, re.MULTILINE)
    assert by_hand == re.findall(r"^## (.*)", page, re.MULTILINE)
    assert (
        page.index(contents.LIST) < page.index("\n## ") < page.index(contents.GALLERY)
    )


def test_every_chapter_has_times_and_a_picture() -> None:
    contents = load("contents")
    names = [path.stem for path in sorted((ROOT / "book/src").glob("*.py"))]
    for chapter in contents.chapters([f"book/{name}" for name in names]):
        assert re.fullmatch(r"Read in .+, runs in .+", chapter.times), chapter.name
        picture = ROOT / "book/figures" / f"{contents.PICTURES[chapter.name]}.svg"
        assert picture.is_file()


def test_the_address_is_told_once() -> None:
    """No other file of the site repeats what `repository: url` says."""
    config = SimpleNamespace(
        html_theme_options={"repository_url": "https://github.com/Ada/engine"},
        html_baseurl="",
    )
    load("address").spread(SimpleNamespace(), config)
    assert config.html_baseurl == "https://ada.github.io/engine/"
    assert config.ogp_site_url == "https://ada.github.io/engine/"
    assert config.notfound_urls_prefix == "/engine/"
    config.html_baseurl = "https://example.org/book/"
    load("address").spread(SimpleNamespace(), config)
    assert config.notfound_urls_prefix == "/book/"
    text = (ROOT / "_config.yml").read_text(encoding="utf-8")
    assert text.count("github.com/") == 1
    assert "github.io" not in text


CITING = {
    "index": "B\n=\n\n.. toctree::\n\n   last\n   first\n   references\n",
    "first": "First page\n==========\n\n:cite:`one,two`, :cite:p:`two`\n",
    "last": "Last page\n=========\n\nFor :cite:t:`two` see below.\n",
    "references": "References\n==========\n\n.. bibliography::\n",
    "conf": "extensions = ['sphinxcontrib.bibtex', 'cited_in']\n"
    "bibtex_bibfiles = ['references.bib']\n",
}


def test_references_link_to_the_pages_that_cite_them(tmp_path: Path) -> None:
    """In the order of the table of contents, also after one page alone has changed."""
    pytest.importorskip("sphinxcontrib.bibtex", reason="the book's tools are missing")
    for page, text in CITING.items():
        suffix = "py" if page == "conf" else "rst"
        (tmp_path / f"{page}.{suffix}").write_text(text)
    entries = [f"@misc{{{key}, title={{{key}}}, year={{1}}}}" for key in ("one", "two")]
    (tmp_path / "references.bib").write_text("\n".join(entries))

    def build() -> list[list[tuple[str, str]]]:
        """Return for each reference the links and titles of the pages citing it."""
        sphinx = [sys.executable, "-m", "sphinx", "-q", "-W", str(tmp_path)]
        environment = os.environ | {"PYTHONPATH": str(ROOT / "book")}
        subprocess.run([*sphinx, str(tmp_path / "out")], env=environment, check=True)
        html = (tmp_path / "out/references.html").read_text(encoding="utf-8")
        lines = re.findall(r'<p class="cited-in">Cited in (.*?)</p>', html)
        return [re.findall(r'href="(.*?)">(.*?)</a>', line) for line in lines]

    [one], [last, first] = build()
    assert one == first
    assert [last[1], first[1]] == ["Last page", "First page"]
    page, _, place = first[0].partition("#")
    assert f'id="{place}"' in (tmp_path / "out" / page).read_text(encoding="utf-8")
    (tmp_path / "last.rst").write_text("Last page\n=========\n\n:cite:t:`one`\n")
    assert build() == [[last, first], [first]]


def test_notebooks_for_colab_install_the_package_and_are_free_of_myst(
    html: Path,
) -> None:
    """Each is a valid notebook, whose outputs are those of the book's."""
    for path in [*BOOK.glob("*.ipynb"), *BOOK.glob("assignments/*.ipynb")]:
        original = nbformat.read(path, as_version=4)
        made = nbformat.read(html.parent / "colab" / path.relative_to(ROOT), 4)
        nbformat.validate(made)
        install = made.cells.pop(1)
        assert install.source.startswith('%pip install -q "llmcourse[chapters] @ git+')
        assert install.source.endswith('#subdirectory=llmcourse/models"')
        code = [cell for cell in original.cells if cell.cell_type == "code"]
        there = [cell for cell in made.cells if cell.cell_type == "code"]
        for ours, theirs in zip(code, there, strict=True):
            folded = theirs.metadata.pop("cellView", None) == "form"
            assert folded == ("jupyter" in ours.metadata)
            assert theirs == ours
        text = "\n".join(c.source for c in made.cells if c.cell_type == "markdown")
        assert not re.search(
            r"\{(doc|term|ref|eq|cite\S*)\}`|^:::|^\(\w+\)=", text, re.M
        )
        for picture in re.findall(r"\]\((https://\S+/_images/(\S+))\)", text):
            assert (html / "_images" / picture[1]).is_file()


def test_each_chapter_opens_with_a_card_and_a_folded_set_up(html: Path) -> None:
    for path in BOOK.glob("*.ipynb"):
        page = (html / "book" / f"{path.stem}.html").read_text(encoding="utf-8")
        card = page.split('<div class="opening')[1].split("<section")[0]
        for words in ("You need", "Takes", "Runs in", "Binder", "Codespaces"):
            assert words in card
        assert page.count(f"/blob/colab/book/{path.stem}.ipynb") == 2  # and above
        assert page.count("Show the set-up") == page.count('<section id="setup">')


def test_a_mark_goes_to_its_own_formula() -> None:
    """Also where the same text stands elsewhere in the paragraph."""
    nodes = pytest.importorskip("docutils.nodes")
    formulas = load("formulas")
    formula = nodes.math("", "x")
    paragraph = nodes.paragraph(
        "", "", nodes.strong("", "Bold"), nodes.Text(". "), formula, nodes.Text(". ")
    )
    formulas._take_mark(formula)
    assert formula["mark"] == "."
    assert paragraph.astext() == "Bold. x "


def test_models_are_made_again_only_if_the_package_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("sphinx", reason="the book's tools are not installed")
    extension = load("model_in_page")
    monkeypatch.setattr(extension, "MODELS", ("base-llm",))
    app = SimpleNamespace(builder=SimpleNamespace(format="html"), outdir=tmp_path)
    extension.write_files(app)
    folder = tmp_path / "_static" / "model"
    weights, last = folder / "base-llm.safetensors", folder / "explorers.css"
    made = weights.read_bytes()
    weights.write_bytes(b"as it was")
    extension.write_files(app)
    assert weights.read_bytes() == b"as it was"
    os.utime(last, (0, 0))  # older than any file of the package
    extension.write_files(app)
    assert weights.read_bytes() == made
