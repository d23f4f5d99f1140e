"""A small book from notebooks to HTML. Notebooks are run by kernels, pages built by Sphinx."""

import json
import re
import shutil
import time
from pathlib import Path

import pytest
from bs4 import BeautifulSoup
from iav_process import iav
from typer.testing import CliRunner

from iavlib.book import site
from iavlib.book.site import build_book, toc_entries, toc_notebooks
from iavlib.cli.main import app
from iavlib.core.errors import BookError

CONFIG = Path(__file__).parents[3] / "_config.yml"
FIGURE = """
import matplotlib.pyplot as plt
from iavlib import book
drawing, ax = plt.subplots()
book.figure(drawing, "Axes without <content>.", "One pair of axes")
"""
PRINTED = """
from IPython.display import Markdown
Markdown("Lower by $\\\\frac{a}{b}$; see [the start](../book/index.md) and [this](01_first.ipynb).")
"""
INDEX = r"""# The whole

See {cite:t}`paper2020`, {doc}`/notebooks/01_first` and $\lvert A \rvert$.

```{include} generated/story.md
```

```{include} generated/answers.md
```

```{include} generated/scorecard.md
```

```{include} generated/provenance.md
```

```{bibliography}
```
"""


@pytest.fixture(scope="module")
def shop(lasting_workshop):
    made = lasting_workshop
    shutil.copy(CONFIG, made.project.config)
    shutil.copytree(CONFIG.parent / "book" / "_static", made.project.book / "_static")
    made.page("index", INDEX)
    made.write(made.project.references, "@misc{paper2020, title={T}, author={A. Toy}, year={2020}}")
    made.toc(["book/index", "notebooks/01_first"])
    path = made.good_notebook(
        "01_first",
        FIGURE,
        PRINTED,
        "book.record('toy-mean', size, cohort=cohort, n=9)",
        "from iavlib.book import banner\nbanner(cohort)",
        parameters="size = 0.25",
        synthetic=True,
    )
    content = json.loads(path.read_text())
    content["cells"][0]["source"] = "# Chapter\n\nBy Mann-Whitney.\n\n$$ a = b $$ (eq-one)"
    path.write_text(json.dumps(content))
    made.profile("quick", {"01_first": {"size": 0.5}})
    return made


@pytest.fixture(autouse=True)
def inside(shop, monkeypatch):
    monkeypatch.delenv("IAV_PROJECT", raising=False)
    monkeypatch.chdir(shop.project.root)


def page(shop, name):
    return (shop.project.html / f"{name}.html").read_text()


def words(shop, name):
    return " ".join(re.sub(r"<[^>]+>", "", page(shop, name)).split())


@pytest.fixture(scope="module")
def first_build(shop):
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.chdir(shop.project.root)
    assert CliRunner().invoke(app, ["run", "--job"]).exit_code == 0
    monkeypatch.undo()
    return build_book(shop.project)


def test_a_good_book_has_no_problem(shop, first_build):
    assert first_build.problems == ()
    assert first_build.ok
    assert (shop.project.html / "index.html").is_file()


def test_a_page_says_what_it_was_made_of(shop, first_build):
    text = page(shop, "notebooks/01_first")
    assert text.index("Computed on synthetic data") < text.index("By Mann-Whitney")
    assert text.count("Computed on synthetic data") == 1, "moved to the top, not shown twice"
    assert "How this page was made" in text
    assert "profile quick" in text
    assert "<math" in text
    assert 'alt="One pair of axes"' in text and "Axes without &lt;content&gt;." in text
    assert "manifest.finish" not in text
    injected = text[text.index("tag_injected-parameters") :][:200]
    assert "tag_hide-input" in injected


def test_the_first_page_shows_the_scorecard_and_the_runs(shop, first_build):
    text = words(shop, "book/index")
    assert "Do annotators agree less on malignant lesions? Not measured here." in text
    assert "Computed on invented images only" in text and ": 1 of the claims" in text
    assert "Of 1 claims of the sources: 1 not run." in text
    assert "not run 0.5 – needs nothing" in text, "no invented number beside a reported one"
    assert "The mean is a half." in text
    assert "Toy 2020" in text, "the source of a claim is cited"
    assert re.search(r"Chapter\s+good\s+quick\s+toy \(synthetic\)", text)


def test_printed_markdown_has_working_links_and_formulas(shop, first_build):
    page_ = BeautifulSoup(page(shop, "notebooks/01_first"), "html.parser")
    printed = next(p for p in page_.select(".cell_output p") if "Lower by" in p.get_text())
    assert printed.select_one("math mfrac")
    assert [a["href"] for a in printed.select("a")] == ["../book/index.html", "#"]


def test_every_link_and_anchor_of_the_book_resolves(shop, first_build, broken_links):
    assert broken_links(shop.project.html) == []


def test_a_page_describes_itself(shop, first_build):
    head = BeautifulSoup(page(shop, "notebooks/01_first"), "html.parser").head
    facts = {meta.get("property") or meta.get("name"): meta.get("content") for meta in head("meta")}
    assert facts["og:title"] == "Chapter" and facts["og:type"] == "article"
    assert "og:image" not in facts, "a preview needs whole addresses"
    assert head.select_one('link[rel="icon"]')


def test_nothing_is_loaded_from_elsewhere_and_search_knows_the_words(shop, first_build):
    elsewhere = re.compile(r"""<(?:script|link|img)[^>]+(?:src|href)=["']https?:""")
    for file in shop.project.html.rglob("*.html"):
        assert not elsewhere.search(file.read_text())
        assert "THEBE" not in file.read_text()
    index = (shop.project.html / "searchindex.js").read_text()
    assert '"whitnei"' in index or "whitnei:" in index, "the search looks for word stems"


def test_a_second_build_does_nothing(shop, first_build):
    started = time.monotonic()
    assert iav(shop.project, "book") == (0, "nothing to do: 2 of 2 jobs are up to date\n", "")
    assert time.monotonic() - started < 10
    assert "Book, nothing changed" in iav(shop.project, "book", "--no-run")[1]


@pytest.mark.thorough
def test_a_failed_notebook_and_a_warning_fail_the_book_but_not_its_building(shop, first_build):
    shop.toc(["book/index", "notebooks/01_first", "notebooks/02_second", "book/extra"])
    shop.page("extra", "# Extra\n\n[lost](nothing.md)")
    shop.notebook(
        "02_second", "print('came so far')", "# why\n1 / 0", "print('never')", title="Two"
    )
    first = iav(shop.project, "book")
    assert "\n01_first" not in first[1]
    assert "FAILED in code cell 2 (# why): ZeroDivisionError: division by zero" in first[1]
    # a build that reads nothing anew would not repeat the warning
    again = iav(shop.project, "book", "--no-run")
    for code, output, errors in (first, again):
        assert code == 1
        assert "problem: book/extra.md:3: WARNING: " in output + errors
        assert "Not a good book: 1 of its notebooks failed, 1 problems." in output + errors
    text = words(shop, "notebooks/02_second")
    assert "This notebook failed" in text
    assert "stopped in code cell 2" in text
    assert "came so far" in text
    assert "never" not in text


@pytest.mark.thorough
def test_a_notebook_that_was_not_run_says_so(shop, first_build):
    shop.toc(["book/index", "notebooks/01_first", "notebooks/03_later"])
    shop.notebook("03_later", "x = 1", title="Later on")
    shop.page("index", INDEX + "\n[later](../notebooks/03_later.ipynb)\n")
    result = build_book(shop.project)
    assert result.problems == ()
    text = words(shop, "notebooks/03_later")
    assert "Later on" in text
    assert "iav run 03_later" in text
    assert 'href="../notebooks/03_later.html"' in page(shop, "book/index")
    assert not (shop.project.html / "notebooks" / "02_second.html").exists()


def test_a_change_of_the_library_alone_builds_the_book_again(workshop, monkeypatch):
    workshop.write(workshop.project.config, "title: Toy\n")
    before = site.assemble(workshop.project).stamp()
    assert before == site.assemble(workshop.project).stamp()
    monkeypatch.setattr(site, "library_hash", lambda: "another")
    assert site.assemble(workshop.project).stamp() != before


def test_a_page_of_the_toc_that_is_missing_is_named(workshop):
    workshop.toc(["book/index", "book/indx"])
    with pytest.raises(BookError, match=r"lists book/indx, but .* did you mean 'book/index'"):
        toc_entries(workshop.project)
    workshop.toc(["book/index", "notebooks/01_first"])
    with pytest.raises(BookError, match="lists notebooks/01_first"):
        toc_entries(workshop.project)


def test_a_page_twice_in_the_toc_is_refused(workshop):
    workshop.toc(["book/index", "book/index.md"])
    with pytest.raises(BookError, match="lists book/index twice"):
        toc_entries(workshop.project)


def test_parts_and_sections_of_the_toc_are_read_in_order(workshop):
    for stem in ("01_a", "02_b"):
        workshop.notebook(stem)
    workshop.page("more", "# More")
    workshop.write(
        workshop.project.toc,
        "format: jb-book\nroot: book/index\nparts:\n- caption: One\n  chapters:\n"
        "  - file: notebooks/01_a\n    sections:\n    - file: book/more\n"
        "- caption: Two\n  chapters:\n  - file: notebooks/02_b\n",
    )
    assert toc_entries(workshop.project) == [
        "book/index",
        "notebooks/01_a",
        "book/more",
        "notebooks/02_b",
    ]
    assert [path.stem for path in toc_notebooks(workshop.project)] == ["01_a", "02_b"]
