import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from docutils.utils.math.latex2mathml import MathError

from iavlib.book.extension import to_mathml

NAMESPACE = "{http://www.w3.org/1998/Math/MathML}"


def tags(formula, block=False):
    text = to_mathml(formula, block).replace("&ApplyFunction;", "")
    return [element.tag.removeprefix(NAMESPACE) for element in ET.fromstring(text).iter()]


def test_a_fraction():
    assert tags(r"\frac{a}{b}") == ["math", "mfrac", "mi", "mi"]


def test_the_index_of_an_accented_letter_stands_beside_it():
    assert "munderover" not in tags(r"\hat\beta_1 + \overline{X}_{\max} + \widehat{F_{a}}_n")


@pytest.mark.parametrize("name", ["align", "align*", "gather", "split"])
def test_aligned_equations(name):
    formula = rf"\begin{{{name}}}a &= b \\ c &= d\end{{{name}}}"
    assert tags(formula, block=True).count("mtr") == 2


@pytest.mark.parametrize(
    "formula",
    [
        r"\operatorname*{arg\,max}_{\theta} f",
        r"\mathop{\mathrm{median}}_i x_i",
        r"\left\{ x \,\middle|\, y \right\}",
        r"X \stackrel{d}{=} Y",
        r"a = b \nonumber",
    ],
)
def test_commands_that_docutils_does_not_know(formula):
    text = to_mathml(formula)
    ET.fromstring(text.replace("&ApplyFunction;", ""))
    assert "\\" not in text


def test_bars_are_fences():
    text = to_mathml(r"\lvert A \rvert")
    assert 'form="prefix"' in text
    assert 'form="postfix"' in text


def test_an_unknown_command_is_an_error():
    with pytest.raises(MathError, match="nosuch"):
        to_mathml(r"\nosuch{x}")


@pytest.mark.parametrize(
    ("formula", "fences"),
    [(r"\frac{2|A \cap B|}{|A| + |B|}", 6), ("p(a|b)", 0), (r"\left|x\right|", 0), ("|a", 0)],
)
def test_plain_bars_are_fences_where_they_come_in_pairs(formula, fences):
    assert to_mathml(formula).count("form=") == fences


def formulas():
    """List the formulas of all notebooks, those in lines of their own first."""
    for path in sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb")):
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            text = "".join(cell["source"])
            if cell["cell_type"] == "markdown":
                blocks = re.findall(r"\$\$(.+?)\$\$", text, flags=re.S)
                text = re.sub(r"\$\$.+?\$\$", "", text, flags=re.S)
                inline = re.findall(r"(?<!\\)\$([^$\n]+)\$", text)
                yield from ((path.stem, one) for one in (*blocks, *inline))


def test_every_formula_of_the_notebooks_can_be_shown():
    found = list(formulas())
    assert len({stem for stem, _ in found}) >= 5
    for stem, formula in found:
        assert "<math" in to_mathml(formula, block=True), stem
