"""Sphinx extension: pages that need nothing from other servers.

Formulas are written as MathML, and the scripts that would load code runners
from elsewhere are left out: this book has none, and Jupyter Book adds them twice,
which browsers report as an error on every page.
"""

from __future__ import annotations

from typing import Any

from sphinx.application import Sphinx
from sphinx.config import Config

from iavlib.book.mathml import STYLE, visit_block, visit_inline

_RUNNERS = "sphinx_thebe"
# long names and wide tables must not push a page beyond the rim of a phone
_NARROW = """\
article code, article code .pre { overflow-wrap: anywhere; white-space: normal; }
article table { display: block; overflow-x: auto; max-width: 100%; }
"""


def _silence_runners(app: Sphinx, _: Config) -> None:
    """Disconnect what sphinx-thebe does to pages; its (empty) style stays, as pages link it."""
    for listeners in list(app.events.listeners.values()):
        for listener in list(listeners):
            handler = listener.handler
            module, name = getattr(handler, "__module__", ""), getattr(handler, "__name__", "")
            if module == _RUNNERS and name != "st_static_path":
                app.disconnect(listener.id)


def _add_style(app: Sphinx, page: str, template: str, context: dict[str, Any], tree: Any) -> None:
    context["metatags"] = context.get("metatags", "") + f"<style>{STYLE}{_NARROW}</style>"


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the math renderer ``mathml`` and take the code runners out."""
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
    app.connect("config-inited", _silence_runners)
    app.connect("html-page-context", _add_style)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
