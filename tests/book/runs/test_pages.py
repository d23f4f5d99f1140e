from types import SimpleNamespace

import pytest

from iavlib.book import display, pages
from iavlib.book.site import check_pages

COHORT = SimpleNamespace(
    name="phantom", synthetic=True, images=range(1200), masks=range(3000), citation="A <b> & C"
)


def test_synthetic_data_are_announced_in_large():
    page = display.banner(COHORT)._repr_html_()
    assert "Computed on synthetic data" in page
    assert "1,200 images, 3,000 annotator masks" in page
    assert pages.SYNTHETIC_CLASS in page


def test_real_data_are_named_and_cited():
    real = SimpleNamespace(**{**vars(COHORT), "synthetic": False, "name": "imapp"})
    page = display.banner(real)._repr_html_()
    assert "Data: imapp" in page
    assert "A &lt;b&gt; &amp; C" in page
    assert pages.SYNTHETIC_CLASS not in page
    assert "synthetic" not in repr(display.banner(real)).lower()


def test_stored_results_beside_synthetic_data_are_told_apart():
    stored = SimpleNamespace(
        cohort="imapp", n_images=14967, n_masks=17684, label="stored 2026-02-03"
    )
    banner = display.banner(COHORT, stored)
    page = banner._repr_html_()
    assert "imapp (14,967 images, 17,684 annotator masks; stored 2026-02-03)" in page
    assert "1,200 images" in page
    assert pages.SYNTHETIC_CLASS in page
    assert banner.title != display.banner(COHORT).title


PAGE = """<article>
<div class="cell_output"><figure><img alt="A curve" src="../_images/a.png"/>
<figcaption>c</figcaption></figure></div>{more}</article>"""


INLINE = 'src="data:image/png;base64,AA=="'


@pytest.mark.parametrize(
    ("more", "problems"),
    [
        ("", []),
        ('<img alt="" src="_images/b.png">', ["p: picture b.png has no alt text"]),
        ('<img alt="../_images/b.png" src="_images/b.png">', ["p: picture b.png has no alt"]),
        ('<img alt="" src="_static/logo.png">', []),
        (
            '<div class="cell_output"><img alt="x" src="_images/b.png"></div>',
            ["p: picture b.png has no caption"],
        ),
        (
            f'<div class="cell_output"><img alt="x" {INLINE}></div>',
            ["p: picture 2 of the page has"],
        ),
        (
            f'<figure class="cell_output"><img {INLINE}><figcaption> </figcaption></figure>',
            ["p: picture 2 of the page has no alt", "p: picture 2 of the page has no caption"],
        ),
    ],
)
def test_built_pages_are_looked_through(tmp_path, more, problems):
    (tmp_path / "index.html").write_text("")
    (tmp_path / "p.html").write_text(PAGE.format(more=more))
    found = check_pages(tmp_path, ["p"])
    assert len(found) == len(problems)
    assert all(f.startswith(p) for f, p in zip(found, problems, strict=True))


def test_a_missing_page_and_a_silent_synthetic_page_are_problems(tmp_path):
    (tmp_path / "a.html").write_text("<p>numbers</p>")
    found = check_pages(tmp_path, ["a", "b"], synthetic={"a"})
    assert found == [
        "index.html was not built",
        "a: computed on synthetic data but does not state it",
        "b: is in _toc.yml but was not built",
    ]
    (tmp_path / "index.html").write_text("")
    (tmp_path / "b.html").write_text("")
    (tmp_path / "a.html").write_text(display.banner(COHORT)._repr_html_())
    assert check_pages(tmp_path, ["a", "b"], synthetic={"a"}) == []


def test_a_page_must_hold_the_figures_that_its_notebook_draws(tmp_path):
    for name in ("index", "a", "b"):
        (tmp_path / f"{name}.html").write_text("<article>No figure.</article>")
    (tmp_path / "b.html").write_text(PAGE.format(more=""))
    found = check_pages(tmp_path, ["a", "b"], drawn={"a", "b"})
    assert found == ["a: its notebook draws figures, but it holds none"]
