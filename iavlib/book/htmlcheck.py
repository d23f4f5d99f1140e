"""Looking through the built pages for what Sphinx does not call a mistake."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from html.parser import HTMLParser
from pathlib import Path

from iavlib.execution.pages import SYNTHETIC_CLASS

_VOID = frozenset(
    {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "wbr"}
)


class _Page(HTMLParser):
    """Collect the pictures, the pasted values and the notices of one page."""

    def __init__(self) -> None:
        super().__init__()
        self.problems: list[str] = []
        self.says_synthetic = False
        self._open: list[set[str]] = []
        self._pasted: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        classes = set((attributes.get("class") or "").split())
        if SYNTHETIC_CLASS in classes:
            self.says_synthetic = True
        if tag == "img" and "_images/" in (attributes.get("src") or ""):
            self._check_picture(attributes)
        if "pasted-text" in classes:
            self._pasted = ""
        if tag not in _VOID:
            self._open.append(classes | {f"<{tag}>"})

    def handle_endtag(self, tag: str) -> None:
        if tag == "span" and self._pasted is not None:
            if not self._pasted.strip():
                self.problems.append("a glued value is empty")
            self._pasted = None
        while self._open and f"<{tag}>" not in self._open.pop():
            pass

    def handle_data(self, data: str) -> None:
        if self._pasted is not None:
            self._pasted += data

    def _check_picture(self, attributes: dict[str, str | None]) -> None:
        name = Path(attributes["src"] or "").name
        alt = (attributes.get("alt") or "").strip()
        if not alt or Path(alt).name == name:
            self.problems.append(f"picture {name} has no alt text (mystnb: image: alt)")
        is_output = any("cell_output" in classes for classes in self._open)
        if is_output and not any("<figure>" in classes for classes in self._open):
            self.problems.append(f"picture {name} has no caption (mystnb: figure: caption)")


def check_pages(html: Path, pages: Iterable[str], synthetic: Collection[str] = ()) -> list[str]:
    """Check the built pages of the book.

    Parameters
    ----------
    html : Path
        Folder of the built book.
    pages : iterable of str
        Every page of the table of contents.
    synthetic : collection of str, optional
        Pages that must say that their data are synthetic.

    Returns
    -------
    list of str
        One line a problem: a page without HTML, a picture without alt text or
        caption, an empty glued value, a synthetic page that does not say so.
    """
    problems = []
    if not (html / "index.html").is_file():
        problems.append("index.html was not built")
    for page in pages:
        file = html / f"{page}.html"
        if not file.is_file():
            problems.append(f"{page}: is in _toc.yml but was not built")
            continue
        parser = _Page()
        parser.feed(file.read_text(encoding="utf-8"))
        problems += [f"{page}: {problem}" for problem in dict.fromkeys(parser.problems)]
        if page in synthetic and not parser.says_synthetic:
            problems.append(f"{page}: computed on synthetic data but does not say so")
    return problems
