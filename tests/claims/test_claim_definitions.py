from pathlib import Path

import pytest

from iavlib.book.claim_definitions import ClaimError, load_claims
from iavlib.core.project import find_project


def test_a_claim_is_read(lab):
    claim = load_claims(lab.project.claims)["mean"]
    assert (claim.kind, claim.options, claim.cohorts) == ("close", {"tolerance": 0.01}, ("real",))
    assert claim.reported == 0.5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"needs": None}, r"claim 1 \(mean\): needs must be text"),
        ({"reported": "0.5"}, "reported must be a number or null"),
        ({"reported": True}, "reported must be a number or null"),
        ({"cohorts": "real"}, "cohorts must be a list"),
        ({"cohorts": []}, "cohorts must be a list"),
        ({"compare": {"kind": "closer"}}, r"unknown kind 'closer'; did you mean 'close'"),
        ({"compare": "close"}, "compare must be a mapping"),
        ({"compare": {"kind": "close"}}, "close needs tolerance"),
        ({"compare": {"kind": "close", "tolerance": -1}}, "tolerance must be a number"),
        ({"compare": {"kind": "equal", "tolerance": 1}}, "equal has no 'tolerance'"),
        ({"compare": {"kind": "p-below"}}, "p-below needs threshold"),
        ({"compare": {"kind": "equal"}, "reported": None}, "equal compares with a number"),
        ({"compare": {"kind": "at-most"}, "reported": None}, "at-most compares with a number"),
        ({"baseline": 1}, r"a baseline is for an error .* \{kind: at-most\}"),
        ({"baseline": 0, "compare": {"kind": "at-most"}}, "baseline must be a positive number"),
        ({"baseline": "1", "compare": {"kind": "at-most"}}, "baseline must be a positive number"),
        (
            {"baseline": 1, "reported": None, "compare": {"kind": "at-most", "limit": 2}},
            "a baseline is for an error with a reported value",
        ),
        ({"reporte": 1}, "unknown key 'reporte'; did you mean 'reported'"),
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
    with pytest.raises(ClaimError, match=f"{key} missing"):
        load_claims(lab.project.claims)


def test_an_id_comes_once(lab, claim):
    lab.claims(claim, claim)
    with pytest.raises(ClaimError, match="the id 'mean' comes twice"):
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
