"""Sums over runs of DiFF, on tables made by hand."""

import numpy as np
import pandas as pd
import pytest

from iavlib.experiments.results import diagnosis_first as results, segmentation as comparison
from iavlib.experiments.results.diagnosis_first import measured_claims

SEEDS = [0, 1, 2]


def test_the_range_over_raters_does_not_look_twice():
    steady = pd.DataFrame(
        {"seed": SEEDS, "own_a": [0.8] * 3, "own_b": [0.7] * 3, "own_c": [0.6] * 3}
    )
    assert results.range_over_raters(steady).tolist() == pytest.approx([20] * 3)
    generator = np.random.default_rng(0)
    noise = [
        results.range_over_raters(
            pd.DataFrame(
                {"seed": SEEDS} | {f"own_{r}": generator.normal(0.7, 0.05, 3) for r in "abcd"}
            )
        ).mean()
        for _ in range(100)
    ]
    assert abs(np.mean(noise)) < 2
    assert results.range_over_raters(steady[["seed", "own_a"]]).empty
    assert results.range_over_raters(steady.iloc[:1]).empty


def test_the_order_of_blocks_is_a_rank_correlation_a_seed():
    rows = [
        {"seed": s, "blocks": b, "soft_dice": 0.5 + (0.01 * b if s else -0.01 * b)}
        for s in (0, 1)
        for b in (0, 1, 2, 3)
    ]
    rows += [
        {"seed": s, "blocks": np.nan, "soft_dice": 0.6 if s else 0.4} for s in (0, 1)
    ]
    found = results.order_of_blocks(pd.DataFrame(rows))
    assert found.to_dict() == pytest.approx({0: -1, 1: 1})
    gains = results.gain_of_blocks(pd.DataFrame(rows))
    assert gains.to_dict() == pytest.approx({0: -10, 1: 10})


def test_a_claim_takes_three_seeds_and_weights_that_have_learnt():
    rows = pd.DataFrame(
        {"seed": SEEDS, "auroc": [0.7, 0.8, 0.9], "cohort_name": "isic2017-simulated"}
        | {"synthetic": False, "weights_random": False, "n_images": 200.0}
    )
    nothing = rows.iloc[:0]
    (one,) = measured_claims(nothing, nothing, rows)
    assert one.can_be_judged and one.cohort.simulated and one.coverage == (200, 1600)
    assert list(one.values) == pytest.approx([70, 80, 90])
    (few,) = measured_claims(nothing, nothing, rows.iloc[:2])
    (random,) = measured_claims(nothing, nothing, rows.assign(weights_random=True))
    assert not few.can_be_judged and not random.can_be_judged


def _parts(quick_seeds, full_seeds, label):
    rows = [("quick", s) for s in quick_seeds], [("full", s) for s in full_seeds]
    return [
        pd.DataFrame(
            {"scale": k, "seed": s, "task": "comparison", "label": label, "status": "finished"}
            for k, s in one
        )
        for one in rows
    ]


def test_the_full_scale_is_taken_part_by_part_where_it_has_the_seeds():
    enough, few = _parts([0], SEEDS, "a"), _parts([0], [0, 1], "b")
    quick, full = (pd.concat(pair) for pair in zip(enough, few, strict=True))
    found = results.best_runs(quick, full)
    assert found.groupby("label")["scale"].unique().map(list).to_dict() == {
        "a": ["full"],
        "b": ["quick"],
    }
    undone = full.assign(status="missing")
    assert set(results.best_runs(quick, undone)["scale"]) == {"quick"}
    assert len(results.best_runs(quick, pd.DataFrame())) == len(quick)


@pytest.mark.parametrize(
    ("gains", "said"),
    [
        ([0.05, 0.06, 0.07], "is above 0"),
        ([-0.05, -0.06, -0.07], "is below 0"),
        ([-0.05, 0.0, 0.06], "cannot be told from 0"),
        ([0.05, 0.06], "is of too few seeds to be judged"),
    ],
)
def test_a_gain_with_permuted_diagnoses_is_judged_by_its_interval(gains, said):
    seeds = SEEDS[: len(gains)]
    permuted = pd.DataFrame(
        {"seed": seeds, "clinic_majority": 0.5, "diagnosis": "permuted"}
        | {"clinic_expg": [0.5 + gain for gain in gains]}
    )
    true = permuted.assign(clinic_expg=0.9, diagnosis=None)
    both = pd.concat([true, permuted])
    assert results.gain_is_gone(both, "clinic") == said
    assert results.gains_in_words(both, "clinic", "true").startswith("40.0")


def _compared(cohort, method, dice):
    columns = {"cohort_name": cohort, "method": method, "seed": range(len(dice)), "soft_dice": dice}
    fixed = {"status": "finished", "task": "comparison", "n_parameters": 1234.0}
    return pd.DataFrame(columns | fixed | {"method_seconds": 0.26, f"dice_{cohort}-a": dice})


def test_the_table_of_a_page_has_usual_names_and_intervals():
    runs = pd.concat(
        [_compared("x", "mode-labels", [0.5, 0.6, 0.7]), _compared("y", "fuse-diff", [0.9])]
    )
    table = comparison.comparison_table(runs)
    cells = comparison.in_cells(table).rename(comparison.title_of, level="method")
    assert cells.loc[("x", "MV-UNet"), "soft_dice"] == "0.600 (0.352 to 0.848)"
    assert cells.loc[("y", "DF-GT"), "soft_dice"] == "0.900"
    assert cells.loc[("x", "MV-UNet"), ["n_parameters", "method_seconds", "seeds"]].tolist() == [
        "1,234",
        "0.3",
        "3",
    ]
    assert "ged" not in cells
    dice = comparison.raters_dice(runs)
    assert dice.loc[("x", "mode-labels"), "x-a"] == pytest.approx(0.6)
    assert np.isnan(dice.loc[("x", "mode-labels"), "y-a"])
    assert dice.index.tolist() == table.index.tolist()
    assert comparison.title_of("cm") == "CM"
    assert comparison.raters_dice(runs.assign(task="take-give")).empty
