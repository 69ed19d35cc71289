"""A reader at the site's pages, who notes every fault."""

from playwright.sync_api import Browser, ConsoleMessage, Page, Request, Route

# Sums up how far what is seen jumps while a page loads, as browsers score it.
SHIFT = """window.layoutShift = 0;
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) window.layoutShift += entry.value;
}).observe({ type: "layout-shift", buffered: true });"""

# On a phone, wide code and tables scroll inside their own boxes, not the page.
TOO_WIDE = """() => document.documentElement.scrollWidth <= innerWidth ? [] :
  [...document.querySelectorAll("article *")]
    .filter((e) => e.getBoundingClientRect().right > innerWidth + 1)
    .filter((e) => !e.closest("pre, [style*=overflow], .highlight"))
    .map((e) => e.outerHTML.slice(0, 120))"""

# In code a colour comes from the classes of a word and of what it is in, so one word of
# each kind shows it; axe takes twice as long where it reads each of some thousands.
ALIKE = """() => { const seen = new Set();
  for (const e of document.querySelectorAll("pre span[class], dt span[class]")) {
    const around = [e, e.parentElement, e.closest("dl, .cell_input, .cell_output")];
    const kind = around.map((each) => each?.localName + each?.className).join(" ");
    if (e.children.length === 0 && e.attributes.length === 1 && seen.has(kind))
      e.replaceWith(e.textContent);
    seen.add(kind);
  } }"""


class Visitor:
    """A reader's window in which no host but the site's can be reached."""

    def __init__(self, browser: Browser, site: str, width: int, scheme: str) -> None:
        self.site = site
        self.faults: list[str] = []
        self.context = browser.new_context(
            viewport={"width": width, "height": 900},
            color_scheme="dark" if scheme == "dark" else "light",
            reduced_motion="reduce",
        )
        self.context.set_default_timeout(300_000)
        self.context.route("**/*", self._guard)
        self.context.add_init_script(SHIFT)
        self.page: Page = self.context.new_page()
        self.requests: list[Request] = []
        self.page.on("requestfinished", lambda r: self.requests.append(r))
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.faults.append(f"error: {error}"))
        self.page.on(
            "response",
            lambda r: r.status >= 400 and self.faults.append(f"{r.status}: {r.url}"),
        )

    def _guard(self, route: Route) -> None:
        url = route.request.url
        if url.startswith((self.site, "blob:", "data:")):
            route.continue_()
        else:
            self.faults.append(f"asked an outside host: {url}")
            route.abort()

    def _console(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.faults.append(f"console: {message.text}")

    def open(self, path: str) -> Page:
        """Open a page and wait until its explorers and fonts are there."""
        self.page.goto(self.site + path)
        self.page.wait_for_function(
            """() => {
              const awaited = document.querySelectorAll(
                'script[type="application/vnd.jupyter.widget-view+json"]');
              return [...awaited].every((script) => script.parentElement.querySelector(
                ".llmcourse-explorer"));
            }"""
        )
        self.page.evaluate("async () => { await document.fonts.ready; }")
        return self.page

    def loaded(self) -> int:
        """Return the bytes that the site has sent, uncompressed as it sends them."""
        own = [r for r in self.requests if r.url.startswith(self.site)]
        return sum(request.sizes()["responseBodySize"] for request in own)

    def barriers(self, axe: str, part: str = "html") -> list[str]:
        """Return what axe finds, in the dark too, and what is too wide for a phone.

        Args:
            axe: The source of axe-core; the page is left dark and 390 pixels wide.
            part: A selector of what has changed since `test_page` has read it all.
        """
        page = self.page
        page.evaluate(axe)
        page.evaluate(ALIKE)
        # The theme makes what scrolls focusable 300 ms after a page has changed.
        page.evaluate("() => new Promise((done) => setTimeout(done, 350))")
        found = violations(page, part=part)
        page.emulate_media(color_scheme="dark")
        page.wait_for_selector('html[data-theme="dark"]')
        found += violations(page, '{runOnly: ["color-contrast"]}', part)
        page.set_viewport_size({"width": 390, "height": 900})
        page.wait_for_timeout(100)
        return found + list(page.evaluate(TOO_WIDE))


def violations(page: Page, options: str = "{}", part: str = "html") -> list[str]:
    """Return what axe finds fault with in the parts of a page with a selector."""
    run = f"async (part) => (await axe.run(part, {options})).violations"
    found = page.evaluate(run, part)
    return [
        f"{violation['id']}: {node['html'][:160]} {node['failureSummary'][:200]}"
        for violation in found
        for node in violation["nodes"]
    ]
