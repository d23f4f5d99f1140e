"""Sphinx extension: pages that need nothing from other servers, and what describes them.

Formulas are written as MathML, which browsers display without scripts; the usual renderer loads
MathJax from another server, and without network a page shows raw LaTeX. docutils converts LaTeX to
MathML. A command that it does not know becomes a warning (and so an error of the book's build)
that names it. In addition the environments ``align``, ``gather``, ``split`` and their starred forms
and the commands in `_REWRITTEN` are understood.

The scripts that would load code runners from elsewhere are removed: this book has none, and Jupyter
Book adds them twice, which browsers report as an error on every page.

A page describes itself to search engines and to those that show a link's preview. The address of a
public repository in ``CITATION.cff`` brings the theme's buttons (Colab, Binder, edit, issue).
"""

import html
import re
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.utils.math.latex2mathml import MathError, tex2mathml
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.util import logging
from sphinx.util.math import get_node_equation_number

from iavlib.book.front import read_citation
from iavlib.core.files import load_template

logger = logging.getLogger(__name__)

_ACCENTS = "hat|widehat|bar|overline|tilde|widetilde|vec|dot|ddot|check|breve"
_GROUP = r"\{(?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*\}"
_ARGUMENT = rf"(?:{_GROUP}|\\[A-Za-z]+|\w)"
#: Tried in this order.
_REWRITTEN = {
    # docutils would put the index of an accented letter below it, as under a sum
    rf"(\\(?:{_ACCENTS})(?![A-Za-z])\s*{_ARGUMENT})(?=\s*_)": r"{\1{}}",
    r"\\mathop\b": r"\\operatorname*",
    r"(\\operatorname\*?\s*\{[^{}]*)\\,": r"\1 ",  # an operator's name is plain text
    r"(\\operatorname\*?)\s*\{\\(?:mathrm|text)\{([^{}]*)\}\}": r"\1{\2}",
    rf"\\operatorname\*\s*({_GROUP})\s*_\s*({_ARGUMENT})": r"\\underset{\2}{\\operatorname\1}",
    r"\\operatorname\*": r"\\operatorname",
    r"\\stackrel\b": r"\\overset",
    r"\\(?:nonumber|notag)\b": "",
    r"\\middle\s*\|": r"\\mid ",
    r"\\(begin|end)\{(?:align|gather|split|eqnarray)\*?\}": r"\\\1{aligned}",
}
#: Bars around a formula: without a form they would be spaced like "divides".
_FENCE = '<mo form="{}" stretchy="false">{}</mo>'


def to_mathml(formula: str, block: bool = False) -> str:
    r"""Translate a LaTeX formula.

    Parameters
    ----------
    formula : str
        LaTeX without dollar signs.
    block : bool, optional
        Whether the formula stands on lines of its own.

    Returns
    -------
    str
        A ``<math>`` element.

    Raises
    ------
    docutils.utils.math.latex2mathml.MathError
        If a command or environment is not understood.
    """
    text = _pair_bars(formula.strip())
    for pattern, replacement in _REWRITTEN.items():
        text = re.sub(pattern, replacement, text)
    mathml = tex2mathml(text, as_block=block)
    for bar, close in (("|", r"\rvert"), ("\u2016", r"\rVert")):
        mathml = mathml.replace(f'<mo class="mathopen">{bar}</mo>', _FENCE.format("prefix", bar))
        if close in text:
            mathml = mathml.replace(f"<mo>{bar}</mo>", _FENCE.format("postfix", bar))
    return mathml


def _pair_bars(formula: str) -> str:
    r"""Turn the bars of ``|A|`` into fences; leave the one of ``p(a|b)``, which follows a letter.

    Bars that are part of a command (``\left|``, ``\|``) are left alone, too.
    """
    pieces = re.split(r"(?<!\\)(?<!left)(?<!right)(?<![bB]ig[lrg])(?<![bB]ig)\|", formula)
    text, is_open = pieces[0], False
    for piece in pieces[1:]:
        before = text.rstrip()[-1:]
        if is_open or not (before.isalpha() or before in {")", "}"}):
            text += r"\rvert " if is_open else r"\lvert "
            is_open = not is_open
        else:
            text += "|"
        text += piece
    return formula if is_open else text


def _render(translator: Any, node: nodes.Element, block: bool) -> None:
    try:
        translator.body.append(to_mathml(node.astext(), block))
    except MathError as error:
        logger.warning("formula %r: %s", node.astext(), error, location=node, type="mathml")
        translator.body.append(f"<code>{translator.encode(node.astext())}</code>")


def visit_inline(translator: Any, node: nodes.math) -> None:
    """Write a formula within a line."""
    translator.body.append(translator.starttag(node, "span", "", CLASS="math notranslate"))
    _render(translator, node, block=False)
    translator.body.append("</span>")
    raise nodes.SkipNode


def visit_block(translator: Any, node: nodes.math_block) -> None:
    """Write a formula on lines of its own, with its number if it has one."""
    translator.body.append(translator.starttag(node, "div", CLASS="math notranslate"))
    if node["number"]:
        translator.body.append(f'<span class="eqno">({get_node_equation_number(translator, node)})')
        translator.add_permalink_ref(node, "Link to this equation")
        translator.body.append("</span>")
    _render(translator, node, block=True)
    translator.body.append("</div>\n")
    raise nodes.SkipNode


_RUNNERS = "sphinx_thebe"


def _silence_runners(app: Sphinx, _: Config) -> None:
    """Disconnect what sphinx-thebe does to pages; its (empty) style remains, as pages link it."""
    for listeners in list(app.events.listeners.values()):
        for listener in list(listeners):
            handler = listener.handler
            module, name = getattr(handler, "__module__", ""), getattr(handler, "__name__", "")
            if module == _RUNNERS and name != "st_static_path":
                app.disconnect(listener.id)


def _add_buttons(app: Sphinx, config: Config) -> None:
    """Show the book's name beside its logo, and buttons for the repository if it is known."""
    options = config.html_theme_options
    options["logo"] = {"text": config.html_title}
    if address := read_citation(Path(app.srcdir)).get("repository-code"):
        buttons = ("use_repository_button", "use_issues_button", "use_edit_page_button")
        options |= {"repository_url": address, **dict.fromkeys(buttons, True)}
        runners = {"colab_url": "https://colab.research.google.com"}
        runners["binderhub_url"] = "https://mybinder.org"
        options["launch_buttons"] = {**options.get("launch_buttons", {}), **runners}


_METATAGS = load_template("iavlib.book", "metatags.html")
#: Characters of a description that search engines and previews show.
_LONGEST = 200


def _describe(app: Sphinx, page: str, template: str, context: dict[str, Any], tree: Any) -> None:
    """Describe a page in its head, and correct what is no longer allowed in its body."""
    # entries of a bibliography are items of its list; the role that docutils gives is deprecated
    context["body"] = context.get("body", "").replace("doc-biblioentry", "listitem")
    if tree is None:
        return
    paragraphs = (node.astext() for node in tree.findall(nodes.paragraph))
    first = " ".join(next((text for text in paragraphs if len(text) > 40), "").split())
    if len(first) > _LONGEST:
        first = first[:_LONGEST].rsplit(" ", 1)[0] + " …"
    title = html.unescape(re.sub(r"<[^>]+>", "", context.get("title", "")))
    facts = {"book": app.config.html_title, "title": title, "description": first, "page": page}
    facts["root"] = app.config.html_baseurl.rstrip("/")
    context["metatags"] = context.get("metatags", "") + _METATAGS.render(facts)


def _drop_second_icons(app: Sphinx, error: Exception | None) -> None:
    """Empty the script of the theme's icons (1.5 MB): its style draws them, too."""
    script = Path(app.outdir) / "_static" / "scripts" / "fontawesome.js"
    if script.is_file():
        script.write_text("")


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the math renderer ``mathml``, remove the code runners, describe the pages."""
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
    app.connect("config-inited", _silence_runners)
    app.connect("config-inited", _add_buttons)
    app.connect("html-page-context", _describe)
    app.connect("build-finished", _drop_second_icons)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
