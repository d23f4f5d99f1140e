from pathlib import Path

import pytest

from iavlib.book.recording import load_claims
from iavlib.core.errors import ClaimError
from iavlib.core.project import find_project

EFFECT = {"kind": "positive", "smallest": 0.1, "because": "less is noise"}


def test_a_claim_is_read(lab):
    claim = load_claims(lab.project.claims)["mean"]
    assert (claim.compare.kind, claim.compare.tolerance) == ("equal", 0.01)
    assert claim.cohorts == ["real"]
    assert claim.reported == 0.5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"needs": None}, r"claim 1 \(mean\): needs is None, it should be a valid string"),
        ({"needs": " "}, "needs is ' ', .* at least 1 character"),
        ({"reported": "half"}, "reported.* is 'half', it should be a valid number"),
        ({"reported": True}, "reported is True, it should not be true or false"),
        ({"reported": float("nan")}, "reported.* is nan, it should be a finite number"),
        ({"cohorts": "real"}, "cohorts is 'real', it should be a valid list"),
        ({"cohorts": []}, r"cohorts is \[\], List should have at least 1 item"),
        ({"unit": "metres"}, "unit is 'metres', it should be 'count', 'p',"),
        ({"compare": {"kind": "closer"}}, "kind is 'closer', it should be 'equal', 'p-below',"),
        ({"compare": "equal"}, "compare is 'equal', it should be a valid dictionary"),
        ({"compare": {"kind": "equal", "tolerence": 1}}, "'tolerence'; did you mean 'tolerance'"),
        ({"compare": {"kind": "equal", "tolerance": -1}}, "tolerance is -1, it should be greater"),
        ({"compare": EFFECT | {"tolerance": 1}}, "positive has no 'tolerance'"),
        ({"compare": {"kind": "positive", "because": "x"}}, "positive needs smallest"),
        ({"compare": {"kind": "positive", "smallest": 1}}, "positive needs because"),
        ({"compare": EFFECT | {"smallest": 0}}, "smallest is 0, it should be greater"),
        ({"compare": EFFECT, "reported": 0.05}, "claimed effect is less than the smallest"),
        ({"compare": EFFECT | {"kind": "negative"}}, "claimed effect is less than the smallest"),
        ({"compare": {"kind": "p-below"}}, "p-below needs threshold"),
        ({"compare": {"kind": "equal"}, "reported": None}, "equal compares with a number"),
        ({"compare": EFFECT | {"kind": "at-most"}, "reported": None}, "at-most compares with a"),
        ({"computed": 1}, "computed and computed_from belong together"),
        ({"computed_from": "2 less 1"}, "computed and computed_from belong together"),
        ({"source": "this book"}, "a finding of this book has no reported value"),
        ({"setting": "here"}, "setting.* is 'here', it should be 'same data and protocol'"),
        ({"protocol": "mine"}, "protocol is 'mine', it should be 'published' or 'other'"),
        ({"reporte": 1}, "no field 'reporte'; did you mean 'reported'"),
    ],
)
def test_a_badly_written_claim_is_named(lab, claim, change, message):
    lab.claims(claim | change)
    with pytest.raises(ClaimError, match=message):
        load_claims(lab.project.claims)


@pytest.mark.parametrize("key", ["id", "place", "reported", "unit", "compare", "cohorts"])
def test_a_missing_key_is_named(lab, claim, key):
    del claim[key]
    lab.claims(claim)
    with pytest.raises(ClaimError, match=f"{key} is missing"):
        load_claims(lab.project.claims)


def test_numbers_that_yaml_reads_as_text_are_numbers(lab, claim):
    lab.project.claims.write_text(lab.project.claims.read_text().replace("0.01", "1e-2"))
    assert load_claims(lab.project.claims)["mean"].compare.tolerance == 0.01


def test_an_id_comes_once(lab, claim):
    lab.claims(claim, claim)
    with pytest.raises(ClaimError, match="the id 'mean' appears twice"):
        load_claims(lab.project.claims)


@pytest.mark.parametrize(("text", "message"), [("a: 1", "must be a list"), ("[", "not valid YAML")])
def test_a_file_that_is_no_list_is_refused(lab, text, message):
    lab.project.claims.write_text(text)
    with pytest.raises(ClaimError, match=message):
        load_claims(lab.project.claims)


@pytest.fixture(scope="module")
def committed():
    return load_claims(find_project(Path(__file__).parent).claims)


def test_the_committed_claims_are_whole(committed):
    expected = {"imapp-images": 14967, "imapp-masks": 17684, "mtl-gain": 4.2, "iaa-mae": 0.108}
    assert {name: committed[name].reported for name in expected} == expected
    assert all(claim.place and claim.needs for claim in committed.values())


def test_a_reported_number_is_what_a_source_prints_and_differences_are_ours(committed):
    for name, first, second in (
        *(("cm-over-vote", 82.92, 62.89), ("cm-trace-helps", 82.92, 79.63)),
        *(("avap-average-over-mh", 85.13, 83.40), ("diff-tg-dice", 89.48, 82.15)),
    ):
        claim = committed[name]
        assert claim.reported is None and claim.computed == pytest.approx(first - second)
        assert claim.computed_from == f"{first:.2f} less {second:.2f}"
    assert committed["iaa-mae"].computed == pytest.approx(1 - 0.108 / 0.131, abs=5e-4)


def test_what_no_source_claims_is_a_finding(committed):
    findings = {name for name, claim in committed.items() if claim.finding}
    assert {"diff-tg-blocks", "avap-own-annotator-best", "iaa-pearson", "imapp-pairs"} <= findings
    assert not findings & {"mtl-gain", "iaa-mae", "cm-over-vote", "avap-encoding-over-features"}
