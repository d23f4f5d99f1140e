"""The coverage page: whatever a source did is named once, with its state."""

import re

import pytest
import yaml
from pybtex.database import parse_file

from iavlib.book.coverage import STATES, coverage_page, load_coverage
from iavlib.book.recording import load_claims
from iavlib.book.site import toc_entries
from iavlib.core.errors import BookError
from iavlib.core.project import find_project

ITEM = {"item": "Table 1", "what": "All", "state": "not built", "because": "no code"}


@pytest.fixture(scope="module")
def project():
    from pathlib import Path

    return find_project(Path(__file__).parent)


@pytest.fixture(scope="module")
def items(project):
    sources = load_coverage(project.book / "coverage.yml")
    return [(source, item) for source, items in sources.items() for item in items]


def test_every_page_and_claim_it_names_exists(project, items):
    pages, claims = set(toc_entries(project)), load_claims(project.claims)
    sources = set(parse_file(str(project.references)).entries)
    for source, item in items:
        assert source in sources
        assert set(item.pages) <= pages, item.item
        assert set(item.claims) <= claims.keys(), item.item
        assert all(claims[name].source == source for name in item.claims), item.item
    assert "book/coverage" in pages


def test_every_claim_of_a_source_belongs_to_one_item(project, items):
    named = [name for _, item in items for name in item.claims]
    claims = load_claims(project.claims).values()
    assert sorted(named) == sorted(claim.id for claim in claims if not claim.finding)


def test_the_page_shows_every_item_with_its_state(project, items):
    page = coverage_page(project)
    rows = [line for line in page.splitlines() if line.startswith("| ") and ":--" not in line]
    shown = [row for row in rows if not row.startswith("| Item |")]
    assert len(shown) == len(items)
    for row, (_, item) in zip(shown, items, strict=True):
        assert f"| {item.state} |" in row and item.what in row
    total = re.search(r"Of (\d+) items: (\d+) done here", page)
    done = sum(item.state == STATES[0] for _, item in items)
    assert total.groups() == (str(len(items)), str(done))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"state": "done"}, "should be 'done here', 'other setting'"),
        ({"because": None}, "because is for what is not 'done here', and required there"),
        ({"state": "done here"}, "because is for what is not 'done here'"),
        ({"state": "done here", "because": None}, "what is done here needs pages"),
        ({"page": ["a"]}, "no field 'page'; did you mean 'pages'"),
        ({"what": " "}, "at least 1 character"),
    ],
)
def test_a_badly_written_item_is_named(tmp_path, change, message):
    path = tmp_path / "coverage.yml"
    path.write_text(yaml.safe_dump({"paper": [ITEM, ITEM | change]}))
    with pytest.raises(BookError, match=message) as caught:
        load_coverage(path)
    assert "paper.1" in str(caught.value)


@pytest.mark.parametrize("text", ["- a", "[", "paper: 3"])
def test_a_file_of_another_kind_is_refused(tmp_path, text):
    path = tmp_path / "coverage.yml"
    path.write_text(text)
    with pytest.raises(BookError, match=r"coverage\.yml"):
        load_coverage(path)


def test_a_project_without_the_file_has_no_such_page(lab):
    assert coverage_page(lab.project) == "\n"
