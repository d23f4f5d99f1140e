import json

import pytest
from typer.testing import CliRunner

from iavlib.book.claims import count_verdicts, ledger, markdown_table
from iavlib.cli.main import app
from iavlib.core.errors import ManifestError

#: What `iav claims --json` prints of every claim.
KEYS = (
    *("id", "source", "statement", "reported", "measured", "interval", "n", "cohort", "synthetic"),
    *("profile", "verdict", "needs", "coverage", "simulated", "baseline", "reduction"),
    *("reduction_interval", "reported_baseline", "reported_reduction"),
)
R, P, C = "reproduced", "partly", "contradicted"
NO = None


@pytest.mark.parametrize(
    ("compare", "reported", "value", "interval", "verdict"),
    [
        ({"kind": "equal"}, 16, 16, NO, R),
        ({"kind": "equal"}, 16, 17, NO, C),
        ({"kind": "close", "tolerance": 0.005}, 0.781, 0.786, NO, R),  # not less in binary
        ({"kind": "close", "tolerance": 0.005}, 0.781, 0.7865, NO, P),
        ({"kind": "close", "tolerance": 0.005}, 0.781, 0.7712, NO, P),
        ({"kind": "close", "tolerance": 0.005}, 0.781, 0.770, NO, C),
        ({"kind": "close", "tolerance": 0.005}, 0.781, 0.7, [0.6, 0.8], P),
        ({"kind": "close", "tolerance": 0.005}, 0.781, 0.7, [0.6, 0.78], C),
        ({"kind": "p-below", "threshold": 0.001}, None, 0.0, NO, R),
        ({"kind": "p-below", "threshold": 0.001}, None, 0.001, NO, P),
        ({"kind": "p-below", "threshold": 0.001}, None, 0.049, NO, P),
        ({"kind": "p-below", "threshold": 0.001}, None, 0.05, NO, C),
        ({"kind": "p-above", "threshold": 0.05}, 0.8, 0.051, NO, R),
        ({"kind": "p-above", "threshold": 0.05}, 0.8, 0.05, NO, C),
        ({"kind": "negative"}, None, -1, [-2, -0.5], R),
        ({"kind": "negative"}, None, -1, [-2, 0], P),
        ({"kind": "negative"}, None, -1, [-2, 0.5], P),
        ({"kind": "negative"}, None, -1, NO, P),
        ({"kind": "negative"}, None, 0, [-1, 1], C),
        ({"kind": "positive"}, None, 1, [0.5, 2], R),
        ({"kind": "positive"}, None, 1, [0, 2], P),
        ({"kind": "positive"}, None, -1, [-2, 1], C),
        ({"kind": "at-most"}, 0.1, 0.1, NO, R),
        ({"kind": "at-most"}, 0.1, 0.11, NO, C),
        ({"kind": "at-most"}, 0.1, 0.11, [0.09, 0.12], P),
        ({"kind": "at-most", "tolerance": 0.01}, 0.1, 0.11, NO, R),
        ({"kind": "at-most", "tolerance": 0.01}, 0.1, 0.12, NO, P),
        ({"kind": "at-most", "tolerance": 0.01}, 0.1, 0.121, NO, C),
        ({"kind": "at-most", "limit": 2}, 3.14, 1.9, NO, R),
        ({"kind": "at-least"}, 0.9, 0.9, NO, R),
        ({"kind": "at-least", "tolerance": 0.01}, 0.9, 0.88, NO, P),
        ({"kind": "at-least", "tolerance": 0.01}, 0.9, 0.87, [0.8, 0.9], P),
        ({"kind": "at-least", "limit": 1}, None, 0.9, NO, C),
    ],
)
def test_every_kind_of_comparison(lab, claim, compare, reported, value, interval, verdict):
    lab.claims(claim | {"compare": compare, "reported": reported})
    lab.ran("01_first", {"value": value, "interval": interval})
    (row,) = ledger(lab.project)
    assert row["verdict"] == verdict
    assert (row["measured"], row["interval"]) == (value, interval)


def test_a_claim_that_was_not_measured_says_what_it_needs(lab):
    (row,) = ledger(lab.project)
    assert tuple(row) == KEYS
    assert row["verdict"] == "not run"
    assert row["needs"] == "the tables"
    assert row["synthetic"] is False
    assert {row[key] for key in ("measured", "interval", "n", "cohort", "profile")} == {None}


def test_synthetic_values_are_shown_and_earn_no_verdict(lab):
    lab.ran("01_first", {"cohort": "phantom", "synthetic": True, "value": 0.5})
    (row,) = ledger(lab.project)
    assert (row["measured"], row["synthetic"], row["verdict"]) == (0.5, True, "not run")
    # not even under the name of a real cohort
    lab.ran("01_first", {"cohort": "real", "synthetic": True, "value": 0.5})
    assert ledger(lab.project)[0]["verdict"] == "not run"


def test_other_real_data_are_left_out(lab):
    lab.ran("01_first", {"cohort": "mine", "value": 0.5})
    (row,) = ledger(lab.project)
    assert (row["measured"], row["cohort"], row["verdict"]) == (None, None, "not run")


def test_real_data_then_scale_then_size_then_date_decide(lab):
    lab.ran("01_first", {"value": 0.1, "cohort": "phantom", "synthetic": True, "n": 10**6})
    lab.ran("02_second", {"value": 0.2, "n": 50}, profile="smoke")
    assert ledger(lab.project)[0]["measured"] == 0.2
    lab.ran("03_third", {"value": 0.3, "n": 20}, profile="paper")
    assert ledger(lab.project)[0]["measured"] == 0.3
    lab.ran("04_fourth", {"value": 0.4, "n": 30}, profile="paper")
    assert ledger(lab.project)[0]["measured"] == 0.4
    lab.ran("05_fifth", {"value": 0.5, "n": 30}, profile="paper", finished="2026-01-02T00:00:00Z")
    assert ledger(lab.project)[0]["measured"] == 0.5


def test_what_the_user_changed_is_part_of_the_profile(lab):
    lab.ran("01_first", {}, overrides={"n_images": 5})
    assert ledger(lab.project)[0]["profile"] == "quick, n_images=5"


def test_the_result_of_a_notebook_that_is_gone_does_not_count(lab):
    lab.ran("01_first", {})
    (lab.project.notebooks / "01_first.ipynb").unlink()
    assert ledger(lab.project)[0]["verdict"] == "not run"


def test_a_damaged_manifest_is_named(lab):
    path = lab.ran("01_first", {})
    path.write_text(path.read_text()[:-9])
    with pytest.raises(ManifestError, match=r"01_first.json: half-written"):
        ledger(lab.project)


def test_the_command_prints_json_with_exactly_these_keys(lab):
    lab.ran("01_first", {"value": 0.501, "interval": [0.4, 0.6]})
    result = CliRunner().invoke(app, ["claims", "--json"])
    assert result.exit_code == 0
    (row,) = json.loads(result.output)
    assert tuple(row) == KEYS
    assert (row["measured"], row["interval"], row["verdict"]) == (0.501, [0.4, 0.6], R)


def test_the_command_prints_a_table(lab):
    lab.ran("01_first", {"value": 0.501, "interval": [0.4, 0.6], "n": 3103})
    output = CliRunner().invoke(app, ["claims"], env={"COLUMNS": "200"}).output
    assert "0.501 [0.4, 0.6]" in output
    assert "n\u00a0=\u00a03,103" in output
    assert "1 of 1 claims have a verdict: 1 reproduced" in output


def test_markdown_keeps_bars_inside_cells(lab, claim):
    lab.claims(claim | {"statement": "The |r| is a\nhalf."}, claim | {"id": "other"})
    lab.ran("01_first", {"id": "other", "value": 0.5})
    rows = ledger(lab.project)
    lines = markdown_table(rows).splitlines()
    assert lines[0] == "**paper2020**"
    assert r"| The \|r\| is a half. | {bdg-light}`not run` | 0.5 | – | needs the tables |" in lines
    assert "1 of 2 claims have a verdict" in count_verdicts(rows)


def test_sources_keep_the_order_of_the_list(lab, claim):
    ids = [("a", "p2"), ("b", "p1"), ("c", "p2")]
    lab.claims(*(claim | {"id": name, "source": source} for name, source in ids))
    rows = ledger(lab.project)
    assert [row["id"] for row in rows] == ["a", "b", "c"]
    titles = [line for line in markdown_table(rows).splitlines() if line.startswith("**")]
    assert titles == ["**p2**", "**p1**"]
