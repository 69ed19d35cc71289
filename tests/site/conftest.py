"""Fixtures for driving the built site; skipped with a reason where that cannot be.

``LLMCOURSE_SITE=required`` turns each of these skips into a failure.

Playwright keeps an event loop running in the thread that it was started in, and a
thread has one at most.  All that drives the browser therefore runs in a thread of its
own, so that tests elsewhere can run loops of theirs.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright
from server import HTML, VENDOR, missing, serve
from visitor import Visitor

CHROMIUM = (
    "chromium-headless-shell",  # the same engine without windows takes less time
    *("chromium", "chromium-browser", "google-chrome", "chrome"),
)
BROWSER_THREAD = ThreadPoolExecutor(max_workers=1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.site)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a test that has the fixture `visit` in the browser's thread."""
    if "visit" not in pyfuncitem.fixturenames:
        return None
    names = pyfuncitem._fixtureinfo.argnames
    arguments = {name: pyfuncitem.funcargs[name] for name in names}
    BROWSER_THREAD.submit(pyfuncitem.obj, **arguments).result()
    return True


@pytest.fixture(scope="session")
def html() -> Path:
    if not (HTML / "index.html").is_file():
        missing("the site is not built: run jupyter-book build .")
    return HTML


@pytest.fixture(scope="session")
def site(html: Path) -> Iterator[str]:
    with serve() as address:
        yield address


@pytest.fixture(scope="session")
def axe(html: Path) -> str:
    script = VENDOR / "axe-core" / "axe.min.js"
    if not script.is_file():
        missing("axe-core was not fetched when the site was built")
    return script.read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    found = next(filter(None, map(shutil.which, CHROMIUM)), None)
    executable = os.environ.get("CHROMIUM", found)
    if executable is None:
        missing("no Chromium is installed (CHROMIUM may name one)")
    playwright = BROWSER_THREAD.submit(sync_playwright().start).result()
    launch = playwright.chromium.launch
    yield BROWSER_THREAD.submit(
        launch, executable_path=executable, args=["--no-sandbox"]
    ).result()
    BROWSER_THREAD.submit(playwright.stop).result()


@pytest.fixture
def visit(browser: Browser, site: str) -> Iterator[Callable[..., Visitor]]:
    """Return what opens a window: ``visit(width=1200, scheme="light")``."""
    visitors: list[Visitor] = []

    def new(width: int = 1200, scheme: str = "light") -> Visitor:
        visitors.append(Visitor(browser, site, width, scheme))
        return visitors[-1]

    yield new
    for visitor in visitors:
        BROWSER_THREAD.submit(visitor.context.close).result()
