from pathlib import Path

import pytest

from iavlib.book.recording import load_claims
from iavlib.core.errors import ClaimError
from iavlib.core.project import find_project


def test_a_claim_is_read(lab):
    claim = load_claims(lab.project.claims)["mean"]
    assert (claim.compare.kind, claim.compare.tolerance) == ("close", 0.01)
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
        ({"compare": {"kind": "closer"}}, "kind is 'closer', it should be 'equal', 'close',"),
        ({"compare": "close"}, "compare is 'close', it should be a valid dictionary"),
        ({"compare": {"kind": "close", "tolerence": 1}}, "'tolerence'; did you mean 'tolerance'"),
        ({"compare": {"kind": "close"}}, "close needs tolerance"),
        ({"compare": {"kind": "close", "tolerance": -1}}, "tolerance is -1, it should be greater"),
        ({"compare": {"kind": "equal", "tolerance": 1}}, "equal has no 'tolerance'"),
        ({"compare": {"kind": "p-below"}}, "p-below needs threshold"),
        ({"compare": {"kind": "equal"}, "reported": None}, "equal compares with a number"),
        ({"compare": {"kind": "at-most"}, "reported": None}, "at-most compares with a number"),
        ({"baseline": 1}, r"a baseline is for an error .* \{kind: at-most\}"),
        ({"baseline": 0, "compare": {"kind": "at-most"}}, "baseline is 0, it should be greater"),
        (
            {"baseline": 1, "reported": None, "compare": {"kind": "at-most", "limit": 2}},
            "a baseline is for an error with a reported value",
        ),
        ({"reporte": 1}, "no field 'reporte'; did you mean 'reported'"),
    ],
)
def test_a_badly_written_claim_is_named(lab, claim, change, message):
    lab.claims(claim | change)
    with pytest.raises(ClaimError, match=message):
        load_claims(lab.project.claims)


@pytest.mark.parametrize("key", ["id", "place", "reported", "compare", "cohorts"])
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


def test_the_committed_claims_are_whole():
    claims = load_claims(find_project(Path(__file__).parent).claims)
    expected = {"imapp-images": 14967, "imapp-masks": 17684, "imapp-pairs": 3103}
    assert {name: claims[name].reported for name in expected} == expected


def test_the_error_of_predicted_agreement_has_the_papers_constant_beside_it():
    claims = load_claims(find_project(Path(__file__).parent).claims)
    assert (claims["iaa-mae"].reported, claims["iaa-mae"].baseline) == (0.108, 0.131)
    assert claims["iaa-pearson"].baseline is None
