"""Errors judged beside the constant median of their own data; what else a row says of its data."""

import json

import pytest
from typer.testing import CliRunner

from iavlib.book.claims import format_data, format_measured, format_reported, ledger, markdown_table
from iavlib.book.manifest import read_manifest
from iavlib.cli.main import app
from iavlib.core.errors import ManifestError

R, P, C = "reproduced", "partly", "contradicted"


@pytest.fixture
def lab(lab, claim):
    """A paper that reports .108, of which a constant makes .131: 17.6 % less."""
    compare = {"kind": "at-most", "tolerance": 0.005}
    lab.claims(claim | {"reported": 0.108, "baseline": 0.131, "compare": compare})
    return lab


@pytest.mark.parametrize(
    ("value", "baseline", "reduction_interval", "verdict"),
    [
        (0.110, 0.140, [0.15, 0.27], R),
        (0.113, 0.131, [0.10, 0.18], R),  # 13.7 %, its interval reaches 17.6 %
        (0.113, 0.131, [0.10, 0.17], P),  # close, and too little below a constant
        (0.113, 0.115, [-0.04, 0.18], P),  # not shown to beat a constant at all
        (0.121, 0.150, [0.15, 0.24], P),  # 19 % less on harder data
        (0.121, 0.140, [0.08, 0.19], P),
        (0.121, 0.140, [0.08, 0.17], C),
        (0.115, 0.131, [0.08, 0.17], C),  # within twice the tolerance is not within it
        (0.131, 0.131, [-0.2, 0.2], C),
    ],
)
def test_both_counts_decide(lab, value, baseline, reduction_interval, verdict):
    record = {"value": value, "baseline": baseline, "reduction_interval": reduction_interval}
    lab.ran("01_first", record)
    (row,) = ledger(lab.project)
    assert row["verdict"] == verdict
    assert row["reduction"] == pytest.approx(1 - value / baseline)
    assert row["reduction_interval"] == reduction_interval
    assert row["reported_reduction"] == pytest.approx(1 - 0.108 / 0.131)


@pytest.mark.parametrize(
    ("value", "interval", "verdict"),
    [(0.110, [0.105, 0.120], R), (0.121, [0.114, 0.128], P), (0.121, [0.118, 0.124], C)],
)
def test_without_its_own_interval_that_of_the_error_serves(lab, value, interval, verdict):
    lab.ran("01_first", {"value": value, "interval": interval, "baseline": 0.140})
    (row,) = ledger(lab.project)
    assert row["verdict"] == verdict
    low, high = row["reduction_interval"]
    assert (low, high) == pytest.approx((1 - interval[1] / 0.14, 1 - interval[0] / 0.14))


def test_without_any_interval_the_reduction_itself_must_do(lab):
    lab.ran("01_first", {"value": 0.113, "baseline": 0.1375})
    assert ledger(lab.project)[0]["verdict"] == R
    lab.ran("01_first", {"value": 0.113, "baseline": 0.1365})
    assert ledger(lab.project)[0]["verdict"] == P


def test_a_value_of_an_earlier_version_is_reproduced_partly_at_best(lab):
    lab.ran("01_first", {"value": 0.108})
    (row,) = ledger(lab.project)
    assert (row["verdict"], row["reduction"], row["baseline"]) == (P, None, None)
    lab.ran("01_first", {"value": 0.120, "interval": [0.107, 0.13]})
    assert ledger(lab.project)[0]["verdict"] == C


def test_the_row_shows_both_numbers_and_what_was_at_hand(lab):
    record = {"value": 0.1232, "interval": [0.117, 0.129], "baseline": 0.1412, "n": 1053}
    lab.ran("01_first", record | {"coverage": [1053, 2394], "reduction_interval": [0.09, 0.165]})
    rows = ledger(lab.project)
    measured = (
        "0.1232 [0.117, 0.129]; 12.7\u00a0% [9.0\u00a0%, 16.5\u00a0%] below a constant's 0.1412"
    )
    assert format_measured(rows[0]) == measured
    assert format_reported(rows[0]) == "0.108; 17.6\u00a0% below a constant's 0.131"
    data = "real, n\u00a0=\u00a01,053, 1,053 of the paper's 2,394 (quick)"
    assert format_data(rows[0]) == data
    line = markdown_table(rows).splitlines()[-1]
    assert measured in line and data in line
    output = CliRunner().invoke(app, ["claims", "--json"]).output
    assert json.loads(output)[0]["coverage"] == [1053, 2394]
    table = CliRunner().invoke(app, ["claims"], env={"COLUMNS": "250"}).output
    assert "1,053 of the paper's 2,394" in table


def test_a_reduction_is_shown_for_a_claim_without_a_baseline_and_judges_nothing(lab, claim):
    lab.claims(claim)
    lab.ran("01_first", {"value": 0.5, "baseline": 0.4})
    (row,) = ledger(lab.project)
    assert (row["verdict"], row["reported_reduction"]) == (R, None)
    assert format_measured(row) == "0.5; -25.0\u00a0% below a constant's 0.4"
    assert format_reported(row) == "0.5"


def test_simulated_annotators_earn_a_verdict_and_are_flagged(lab, claim):
    lab.claims(claim)
    lab.ran("01_first", {"value": 0.5, "simulated": True})
    (row,) = ledger(lab.project)
    assert (row["simulated"], row["synthetic"], row["verdict"]) == (True, False, R)
    assert format_data(row) == "real, simulated annotators, n\u00a0=\u00a010 (quick)"
    assert "{bdg-info}`simulated annotators` real, n" in markdown_table([row])


def test_real_annotators_go_before_simulated_ones(lab, claim):
    lab.claims(claim)
    lab.ran("01_first", {"value": 0.4, "simulated": True, "n": 1000}, profile="paper")
    lab.ran("02_second", {"value": 0.5}, profile="smoke")
    (row,) = ledger(lab.project)
    assert (row["measured"], row["simulated"]) == (0.5, False)


def test_invented_images_stay_invented_whoever_drew_on_them(lab, claim):
    lab.claims(claim)
    lab.ran("01_first", {"cohort": "phantom", "synthetic": True, "simulated": True})
    (row,) = ledger(lab.project)
    assert row["verdict"] == "not run"
    assert "{bdg-warning}`synthetic`" in markdown_table([row])


def test_a_manifest_with_or_without_the_later_fields_is_read(lab):
    read_manifest(lab.ran("01_first", {"value": 0.5}))
    read_manifest(lab.ran("01_first", {"coverage": None, "simulated": False, "baseline": 0.1}))
    path = lab.ran("01_first", {"simulated": "yes"})
    with pytest.raises(ManifestError, match="simulated is 'yes', it should be a valid boolean"):
        read_manifest(path)
