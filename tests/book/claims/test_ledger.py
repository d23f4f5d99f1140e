import json

import pytest
from bs4 import BeautifulSoup
from typer.testing import CliRunner

from iavlib.book.claims import (
    by_source,
    count_verdicts,
    format_data,
    format_measured,
    format_reported,
    format_setting,
    ledger,
)
from iavlib.book.front import claims_table
from iavlib.book.manifest import read_manifest
from iavlib.cli.main import app
from iavlib.core.errors import ManifestError

#: What `iav claims --json` prints of every claim.
KEYS = {
    *("id", "source", "place", "statement", "unit", "reported", "computed", "computed_from"),
    *("finding", "notebook", "needs", "measured", "interval", "n", "seeds", "patients", "cohort"),
    *("coverage", "simulated", "synthetic", "protocol", "profile", "note", "baseline"),
    *("reduction", "reduction_interval", "setting", "evidence", "verdict", "reason"),
    *("smallest_effect", "smallest_because", "standard_error", "mde", "pooled", "datasets"),
}
EFFECT = {"kind": "positive", "smallest": 1, "because": "less is noise"}
REDUCTION = {"kind": "reduction", "smallest": 0.1, "because": "a constant needs no model"}


@pytest.fixture
def effect(claim):
    """A claim about an effect of 4 points, on two data sets."""
    changes = {"reported": 4, "unit": "points", "compare": EFFECT, "cohorts": ["real", "other"]}
    return claim | changes | {"own_data": ["real"], "over_seeds": True, "range": [-100, 100]}


@pytest.fixture
def row(lab):
    """Return the only row of the ledger."""

    def read():
        (only,) = ledger(lab.project)
        return only

    return read


def test_a_claim_that_was_not_measured_says_what_it_needs(lab, row):
    assert set(row()) == KEYS
    assert (row()["evidence"], row()["verdict"], row()["setting"]) == ("not run", "not run", None)
    assert row()["reason"] == "needs the tables"
    assert {row()[key] for key in ("measured", "interval", "n", "cohort", "profile")} == {None}


@pytest.mark.parametrize(
    ("record", "setting"),
    [
        ({"protocol": "published"}, "same data and protocol"),
        ({}, "same data, other protocol"),
        ({"coverage": [10, 10]}, "same data, other protocol"),
        ({"coverage": [9, 10], "protocol": "published"}, "other or partial data"),
        ({"cohort": "other", "protocol": "published"}, "other or partial data"),
        ({"simulated": True, "protocol": "published"}, "simulated annotators"),
        ({"cohort": "other", "simulated": True}, "simulated annotators"),
    ],
)
def test_the_setting_says_how_near_the_measurement_is_to_the_source(
    lab, effect, row, record, setting
):
    lab.claims(effect | {"protocol": "other"})
    lab.ran("01_first", {"value": 3, "interval": [2, 4], "seeds": 5} | record)
    assert (row()["setting"], row()["evidence"]) == (setting, "supported")
    word = "reproduced" if setting == "same data and protocol" else "supported"
    assert row()["verdict"] == word, "only the source's own data and protocol judge its number"
    lab.ran("01_first", {"value": 0, "interval": [-1, 1], "seeds": 5} | record)
    assert row()["verdict"] == f"not {word}"


def test_coverage_is_of_the_sources_own_data(lab, effect, row):
    lab.claims(effect)
    lab.ran("01_first", {"value": 3, "interval": [2, 4], "coverage": [9, 10]})
    assert row()["coverage"] == [9, 10]
    lab.ran("01_first", {"value": 3, "interval": [2, 4], "coverage": [9, 10], "cohort": "other"})
    assert row()["coverage"] is None


def test_counts_of_other_data_are_not_compared(lab, claim, row):
    lab.claims(claim | {"own_data": []})
    lab.ran("01_first", {"value": 0.5})
    assert row()["evidence"] == "not comparable"


def test_what_is_another_quantity_is_not_compared_unless_the_protocol_is_the_sources(
    lab, effect, row
):
    lab.claims(effect | {"not_comparable": "an easier task", "protocol": "other"})
    lab.ran("01_first", {"value": 3, "interval": [2, 4], "simulated": True})
    assert (row()["evidence"], row()["reason"]) == ("not comparable", "an easier task")
    lab.ran(
        "01_first", {"value": 3, "interval": [2, 4], "simulated": True, "protocol": "published"}
    )
    assert (row()["evidence"], row()["setting"]) == ("supported", "simulated annotators")


@pytest.mark.parametrize(
    ("value", "interval", "kept", "evidence"),
    [
        (3, None, False, "inconclusive"),
        (3, [3, 3], False, "inconclusive"),
        (3, [2, 140], False, "inconclusive"),
        (3, [2, 4], True, "supported"),
        (3, [-2, 8], True, "inconclusive"),
        (0, [-2, 2], True, "not supported"),
    ],
)
def test_an_interval_of_no_width_or_beyond_the_possible_is_none(
    lab, effect, row, value, interval, kept, evidence
):
    lab.claims(effect)
    lab.ran("01_first", {"value": value, "interval": interval, "n": 80, "seeds": 3})
    assert row()["evidence"] == evidence
    assert row()["interval"] == (interval if kept else None)
    assert (row()["mde"] is not None) is kept
    assert ("would be found with 80" in row()["reason"]) is (kept and evidence == "inconclusive")


def test_images_seeds_and_patients_are_kept_apart(lab, effect, row):
    lab.claims(effect)
    lab.ran("01_first", {"value": 3, "interval": [2, 4], "n": 80, "seeds": 5, "patients": 60})
    assert (row()["n"], row()["seeds"], row()["patients"]) == (80, 5, 60)
    text = format_data(row()).replace("\u00a0", " ")
    assert text == "real, n = 80, patients = 60, seeds = 5 (quick)"
    # before seeds were recorded, n of a claim over seeds counted them
    lab.ran("01_first", {"value": 3, "interval": [2, 4], "n": 3})
    assert (row()["n"], row()["seeds"]) == (None, 3)


def test_each_data_set_has_a_row_and_the_claim_their_mean(lab, effect, row):
    lab.claims(effect)
    records = [
        {"value": 6, "interval": [5, 7], "n": 50, "seeds": 5},
        {"value": 0, "interval": [-1, 1], "n": 70, "seeds": 5, "cohort": "other"},
    ]
    lab.ran("01_first", *records)
    assert [each["cohort"] for each in row()["datasets"]] == ["other", "real"]
    assert {each["cohort"]: each["evidence"] for each in row()["datasets"]} == {
        **{"real": "supported", "other": "not supported"}
    }
    assert (row()["pooled"], row()["n"], row()["evidence"]) == (2, 120, "inconclusive")
    assert row()["measured"] == pytest.approx(3, abs=0.01)
    assert row()["interval"][0] < 0 and row()["interval"][1] > 6
    assert row()["setting"] == "other or partial data", "the farther of the two"
    # where each alone says the same, so does the mean
    records[1] |= {"value": 3, "interval": [2, 4]}
    lab.ran("01_first", *records)
    assert (row()["pooled"], row()["evidence"]) == (2, "supported")
    assert row()["interval"][0] < 0 and "in each of 2 data sets" in row()["reason"]
    table = BeautifulSoup(claims_table(lab.project, [row()]), "html.parser")
    assert len(table.select("tbody tr")) == 3, "one line per data set below that of the claim"


def test_data_sets_without_intervals_are_not_averaged(lab, effect, row):
    lab.claims(effect)
    lab.ran("01_first", {"value": 6}, {"value": 0, "interval": [-1, 1], "cohort": "other"})
    assert row()["pooled"] is None and len(row()["datasets"]) == 2
    assert row()["evidence"] == "inconclusive"


def test_an_error_on_other_images_is_judged_by_what_it_is_below_a_constant(lab, claim, row):
    numbers = {"reported": 0.108, "computed": 0.176, "computed_from": "1 - 0.108 / 0.131"}
    lab.claims(claim | numbers | {"unit": "error", "compare": REDUCTION, "range": [0, 1]})
    record = {"value": 0.1232, "interval": [0.117, 0.129], "baseline": 0.1412, "n": 1053}
    lab.ran("01_first", record | {"coverage": [1053, 2394], "reduction_interval": [0.11, 0.165]})
    assert row()["evidence"] == "supported"
    assert row()["reduction"] == pytest.approx(1 - 0.1232 / 0.1412)
    measured = format_measured(row()).replace("\u00a0", " ")
    assert measured == "0.123 (0.117 to 0.129); 12.7 (11.0 to 16.5) % below a constant's 0.141"
    assert format_reported(row()).startswith("0.108; our calculation: 0.176 (1 - 0.108")
    assert "1,053 of the source's 2,394" in format_data(row())
    for interval, evidence in (([0.09, 0.19], "inconclusive"), ([-0.1, 0.09], "not supported")):
        lab.ran("01_first", record | {"reduction_interval": interval})
        assert row()["evidence"] == evidence
    lab.ran("01_first", {"value": 0.108})  # of an earlier version: no constant beside it
    assert row()["evidence"] == "inconclusive"


def test_without_its_own_interval_that_of_the_error_serves(lab, claim, row):
    lab.claims(claim | {"unit": "error", "compare": REDUCTION, "reported": None})
    lab.ran("01_first", {"value": 0.11, "interval": [0.105, 0.12], "baseline": 0.14})
    assert row()["reduction_interval"] == pytest.approx([1 - 0.12 / 0.14, 1 - 0.105 / 0.14])
    assert row()["evidence"] == "supported"


def test_a_finding_is_no_claim_of_a_source(lab, claim, effect):
    finding = effect | {"id": "found", "source": "this book", "reported": None}
    lab.claims(finding, claim)
    lab.ran(
        "01_first", {}, {"id": "found", "value": 3, "interval": [2, 4], "protocol": "published"}
    )
    found, mean = ledger(lab.project)
    assert (found["finding"], found["setting"], found["verdict"]) == (True, None, "supported")
    assert count_verdicts([found, mean]) == (
        "Of 1 claims of the sources: 1 reproduced. Of 1 findings of this book: 1 supported."
    )
    assert [source for source, _ in by_source([found, mean])] == ["paper2020", "this book"]


def test_values_on_invented_images_are_never_beside_a_reported_number(lab, row):
    lab.ran("01_first", {"cohort": "phantom", "synthetic": True, "value": 0.5})
    assert (row()["measured"], row()["synthetic"]) == (0.5, True)
    assert (row()["setting"], row()["evidence"]) == (None, "not run")
    assert format_measured(row()) == format_setting(row()) == "–"
    assert format_data(row()) == "needs the tables"
    # not even under the name of a real cohort
    lab.ran("01_first", {"cohort": "real", "synthetic": True, "value": 0.5})
    assert row()["evidence"] == "not run"
    lab.ran("02_second", {"value": 0.5, "n": 3}, profile="smoke")
    assert (row()["synthetic"], row()["evidence"], row()["n"]) == (False, "supported", 3)


def test_other_real_data_are_left_out(lab, row):
    lab.ran("01_first", {"cohort": "mine", "value": 0.5})
    assert (row()["measured"], row()["cohort"], row()["verdict"]) == (None, None, "not run")


def test_on_one_data_set_scale_then_size_then_date_decide(lab, row):
    lab.ran("02_second", {"value": 0.2, "n": 50}, profile="smoke")
    assert row()["measured"] == 0.2
    lab.ran("03_third", {"value": 0.3, "n": 20}, profile="paper")
    assert row()["measured"] == 0.3
    lab.ran("04_fourth", {"value": 0.4, "n": 30}, profile="paper")
    assert row()["measured"] == 0.4
    lab.ran("05_fifth", {"value": 0.5, "n": 30}, profile="paper", finished="2026-01-02T00:00:00Z")
    assert row()["measured"] == 0.5
    assert row()["datasets"] == [] and row()["pooled"] is None


def test_what_the_user_changed_is_part_of_the_profile(lab, row):
    lab.ran("01_first", {}, overrides={"n_images": 5})
    assert row()["profile"] == "quick, n_images=5"


def test_the_result_of_a_notebook_that_is_gone_does_not_count(lab, row):
    lab.ran("01_first", {})
    (lab.project.notebooks / "01_first.ipynb").unlink()
    assert row()["verdict"] == "not run"


def test_a_damaged_manifest_is_named(lab):
    path = lab.ran("01_first", {})
    path.write_text(path.read_text()[:-9])
    with pytest.raises(ManifestError, match=r"01_first.json: half-written"):
        ledger(lab.project)


def test_a_manifest_with_or_without_the_later_fields_is_read(lab):
    read_manifest(lab.ran("01_first", {"value": 0.5}))
    read_manifest(lab.ran("01_first", {"coverage": None, "simulated": False, "seeds": 3}))
    path = lab.ran("01_first", {"simulated": "yes"})
    with pytest.raises(ManifestError, match="simulated is 'yes', it should be a valid boolean"):
        read_manifest(path)


def test_the_command_prints_json_with_exactly_these_keys(lab):
    lab.ran("01_first", {"value": 0.501, "interval": [0.4, 0.6]})
    result = CliRunner().invoke(app, ["claims", "--json"])
    assert result.exit_code == 0
    (row,) = json.loads(result.output)
    assert set(row) == KEYS
    assert (row["measured"], row["interval"]) == (0.501, [0.4, 0.6])
    assert (row["setting"], row["verdict"]) == ("same data and protocol", "reproduced")


def test_the_command_prints_a_table_with_both_labels(lab):
    lab.ran("01_first", {"value": 0.501, "interval": [0.4, 0.6], "n": 3103})
    output = CliRunner().invoke(app, ["claims"], env={"COLUMNS": "200"}).output
    for text in ("0.501 (0.400 to 0.600)", "n\u00a0=\u00a03,103", "same data and protocol"):
        assert text in output
    assert "Of 1 claims of the sources: 1 reproduced." in output


def test_statements_are_text_not_html(lab, claim):
    lab.claims(claim | {"statement": "The |r| is <b>a\nhalf</b> & p < .05."})
    table = BeautifulSoup(claims_table(lab.project, ledger(lab.project)), "html.parser")
    assert table.select_one("tbody b") is None
    words = " ".join(table.select_one("tbody tr").get_text(" ").split())
    assert words.startswith("The |r| is <b>a half</b> & p < .05.")
    assert words.endswith("not run 0.5 – needs the tables")


@pytest.mark.parametrize(
    ("unit", "value", "interval", "text"),
    [
        ("count", 14967, None, "14,967"),
        ("points", -0.04, [-1.21, 2.038], "0.0 (-1.2 to 2.0) points"),
        ("%", 94.914, [78.04, 100], "94.9 (78.0 to 100.0) %"),
        ("Dice", 0.7, [0.65, 0.7512], "0.700 (0.650 to 0.751)"),
        ("p", 0.0421, None, "0.042"),
        ("p", 4.3e-6, None, "4.3e-06"),
    ],
)
def test_a_unit_has_always_as_many_digits(lab, claim, row, unit, value, interval, text):
    lab.claims(claim | {"unit": unit})
    lab.ran("01_first", {"value": value, "interval": interval})
    assert format_measured(row()).replace("\u00a0", " ") == text


def test_sources_keep_the_order_of_the_list(lab, claim):
    ids = [("a", "p2"), ("b", "p1"), ("c", "p2")]
    lab.claims(*(claim | {"id": name, "source": source} for name, source in ids))
    rows = ledger(lab.project)
    assert [row["id"] for row in rows] == ["a", "b", "c"]
    assert [source for source, _ in by_source(rows)] == ["p2", "p1"]
