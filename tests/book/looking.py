"""Opening the pages of a built book, checking its links, and asking for its claims."""

import json
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote, urlsplit

import yaml
from bs4 import BeautifulSoup
from selenium.webdriver.support.ui import WebDriverWait

DESKTOP, PHONE = (1300, 1000), (390, 844)


def pages(project) -> list[str]:
    toc = yaml.safe_load((project / "_toc.yml").read_text())
    return [toc["root"], *(c["file"] for part in toc["parts"] for c in part["chapters"])]


@contextmanager
def served(html: Path):
    """Serve a built book over HTTP as a web server would; give its address."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def end_headers(self):
            self.send_header("Cache-Control", "no-store")  # the weight of a page is measured
            super().end_headers()

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=html))
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()


#: What the tests ask of every page, asked in one visit: opening a page costs seconds.
FACTS = """
const pictures = [...document.querySelectorAll("article img")].map(image => {
  const caption = image.closest("figure")?.querySelector("figcaption");
  return {
    source: image.src, alt: image.getAttribute("alt") || "",
    caption: caption?.checkVisibility() ? caption.innerText : null,
  };
});
const tables = [...document.querySelectorAll(".iav-table")]
  .filter(table => table.scrollWidth > table.clientWidth)
  .map(t => ({index: t.tabIndex, role: t.getAttribute("role"), label: t.ariaLabel}));
const entries = performance.getEntriesByType("resource");
const page = performance.getEntriesByType("navigation")[0];
return {
  broken: [...document.images].filter(i => !i.naturalWidth).map(i => i.src), pictures, tables,
  overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
  banner: document.querySelector(".iav-synthetic")?.innerText || "",
  text: document.querySelector("article").innerText,
  weight: [page, ...entries].reduce((sum, entry) => sum + entry.encodedBodySize, 0),
};
"""


def visit(browser, address: str) -> None:
    """Open a page and wait for it; on a busy machine `get` may end with the tab's empty page."""
    browser.get(address)
    there = "return location.href == arguments[0] && document.readyState == 'complete'"
    WebDriverWait(browser, 300).until(lambda b: b.execute_script(there, address))


def look_at_all(browser, addresses, size, more=lambda: {}) -> dict[str, dict]:
    """Visit pages at one size of the window; return what :data:`FACTS` and `more` find on each."""
    seen = {}
    browser.set_window_size(*size)
    browser.get_log("browser")  # which empties it
    for page, address in addresses.items():
        visit(browser, address)
        seen[page] = browser.execute_script(FACTS) | more()
        log = browser.get_log("browser")
        seen[page]["errors"] = [entry for entry in log if entry["level"] == "SEVERE"]
    browser.get("about:blank")
    return seen


def open_page(browser, project, page: str, size=DESKTOP) -> None:
    browser.set_window_size(*size)
    visit(browser, (project / "_build" / "html" / f"{page}.html").as_uri())


def barriers(browser, axe) -> list[tuple[str, str]]:
    """List the rules that a page violates seriously, each with an element."""
    browser.set_script_timeout(500)
    browser.execute_script(axe)
    found = browser.execute_async_script(
        "axe.run(document, {resultTypes: ['violations']}).then(arguments[0])"
    )
    return [
        (violation["id"], violation["nodes"][0]["html"][:200])
        for violation in found["violations"]
        if violation["impact"] in ("serious", "critical")
    ]


def claims(iav, project) -> dict[str, dict]:
    output = iav(project, "claims", "--json")
    assert output.returncode == 0, output.stderr
    return {row["id"]: row for row in json.loads(output.stdout)}


def broken_links(html: Path) -> list[str]:
    """List links and sources whose file or anchor does not exist, as ``page: address``."""
    files = [file for file in html.rglob("*.html") if "_static" not in file.parts]
    pages = {file: BeautifulSoup(file.read_text(), "html.parser") for file in files}
    anchors = {
        file: {e["id"] for e in page.select("[id]")} | {a["name"] for a in page.select("a[name]")}
        for file, page in pages.items()
    }
    broken = []
    for file, page in pages.items():
        for element in page.select("[href], img[src], script[src]"):
            address = element.get("href") or element["src"]
            parts = urlsplit(address)
            if parts.scheme or parts.netloc or address in ("", "#"):
                continue
            target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            known = anchors.get(target)
            if not target.exists() or (parts.fragment and known and parts.fragment not in known):
                broken.append(f"{file.relative_to(html)}: {address}")
    return sorted(set(broken))
