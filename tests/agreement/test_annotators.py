"""Annotators measured against the others, where the truth about them is known."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings, strategies as st
from hypothesis.extra.numpy import arrays

from iavlib.agreement import (
    annotator_measures,
    annotator_summary,
    boundary_shift,
    leave_one_out,
)
from iavlib.agreement.annotator_bias import MEASURES
from iavlib.core.errors import DataError
from iavlib.masks import dice, majority_vote

masks_of_one_image = st.integers(2, 4).flatmap(lambda n: arrays(bool, (n, 7, 9)))


def disc(radius: float, size: int = 120, y: float = 0.5, x: float = 0.5) -> np.ndarray:
    rows, columns = np.mgrid[:size, :size]
    return np.hypot(rows - y * size, columns - x * size) < radius


def measures_of(drawn) -> pd.DataFrame:
    """Table from (image_id, {annotator: mask})."""
    rows = []
    for image_id, masks in drawn:
        measured = leave_one_out(list(masks.values()), list(masks))
        rows += [
            {"image_id": image_id, "annotator": name} | row
            for name, row in zip(masks, measured, strict=True)
        ]
    return pd.DataFrame(rows)


def values(summary: pd.DataFrame, quantity: str) -> pd.Series:
    return summary[summary["quantity"] == quantity].set_index("annotator")["value"]


# --- signed boundary distance --------------------------------------------------------------------


@pytest.mark.parametrize("grown", [1, 4, 10])
def test_a_grown_disc_is_shifted_by_what_it_grew(grown):
    assert boundary_shift(disc(30 + grown), disc(30)) == pytest.approx(grown, abs=0.25)
    assert boundary_shift(disc(30 - grown), disc(30)) == pytest.approx(-grown, abs=0.25)


def test_a_moved_disc_is_not_shifted():
    assert boundary_shift(disc(30, x=0.5), disc(30, x=0.6)) == pytest.approx(0, abs=0.05)


@given(masks_of_one_image)
@settings(deadline=None)
def test_exchange_turns_the_sign_and_mirrors_change_nothing(stack):
    assume(stack[0].any() and stack[1].any())
    shift = boundary_shift(stack[0], stack[1])
    assert boundary_shift(stack[1], stack[0]) == pytest.approx(-shift)
    assert boundary_shift(stack[0][::-1], stack[1][::-1]) == pytest.approx(shift)
    assert boundary_shift(stack[0].T, stack[1].T) == pytest.approx(shift)
    assert boundary_shift(stack[0], stack[0]) == 0


def test_shift_of_squares_by_hand():
    """3x3 in 5x5: of 16 pixels outside 12 at 1 and 4 at sqrt 2, the 8 inside all at 1."""
    inner, outer = np.zeros((9, 9), bool), np.zeros((9, 9), bool)
    inner[3:6, 3:6] = outer[2:7, 2:7] = True
    expected = (12 + 4 * np.sqrt(2) + 8) / 24
    assert boundary_shift(outer, inner) == pytest.approx(expected)


def test_no_shift_from_an_empty_mask():
    assert np.isnan(boundary_shift(disc(5), np.zeros((120, 120))))
    with pytest.raises(DataError, match="mask 2: 119x119"):
        boundary_shift(disc(5), disc(5, size=119))


# --- against the others --------------------------------------------------------------------------


@given(arrays(bool, st.sampled_from([(2, 7, 9), (4, 7, 9)])))
@settings(deadline=None)
def test_against_an_odd_number_of_others_it_is_the_majority_vote(stack):
    """Written out on the whole image; two masks are measured against each other."""
    rows = leave_one_out(stack, "abcd"[: len(stack)])
    for j, row in enumerate(rows):
        others = np.delete(stack, j, axis=0)
        vote = majority_vote(others) if len(others) > 1 else others[0]
        hits, misses = (stack[j] & vote).sum(), (~stack[j] & ~vote).sum()
        assert row["dice"] == pytest.approx(dice(stack[j], vote))
        if vote.any():
            assert row["sensitivity"] == pytest.approx(hits / vote.sum())
        else:
            assert np.isnan(row["sensitivity"])
        if not vote.all():
            assert row["specificity"] == pytest.approx(misses / (~vote).sum())
        if vote.any() and stack[j].any():
            assert row["log_area_ratio"] == pytest.approx(np.log(stack[j].sum() / vote.sum()))
            assert row["boundary_shift"] == pytest.approx(boundary_shift(stack[j], vote))
        else:
            assert np.isnan(row["log_area_ratio"]) and np.isnan(row["boundary_shift"])


def test_a_tie_of_two_others_counts_one_half():
    small, middle, large = disc(20), disc(25), disc(30)
    row = leave_one_out([middle, small, large], "abc")[0]
    consensus = (small.sum() + large.sum()) / 2
    assert row["log_area_ratio"] == pytest.approx(np.log(middle.sum() / consensus))
    assert row["boundary_shift"] == pytest.approx(0, abs=0.2)
    hits = small.sum() + (middle & ~small).sum() / 2
    assert row["sensitivity"] == pytest.approx(hits / consensus)
    assert row["boundary_shift_normalized"] == row["boundary_shift"] / np.hypot(120, 120)


def test_masks_of_one_annotator_share_one_vote():
    """b drew three times, so b's masks do not outvote c, and a is measured against both alike."""
    inner, outer = disc(20), disc(30)
    one = leave_one_out([disc(25), inner, outer], "abc")[0]
    three = leave_one_out([disc(25), inner, inner, inner, outer], "abbbc")[0]
    assert three == pytest.approx(one, nan_ok=True)
    assert three["n_others"] == 2


def test_agreement_with_oneself():
    a, b, c = disc(20), disc(24), disc(30)
    rows = leave_one_out([a, b, c, disc(10)], ["x", "x", "x", "y"])
    assert rows[0]["self_dice"] == pytest.approx((dice(a, b) + dice(a, c)) / 2)
    assert rows[2]["self_dice"] == pytest.approx((dice(c, a) + dice(c, b)) / 2)
    assert np.isnan(rows[3]["self_dice"])
    alone = leave_one_out([a, b], ["x", "x"])
    assert alone[0]["self_dice"] == pytest.approx(dice(a, b))
    assert alone[0]["n_others"] == 0
    assert np.isnan(alone[0]["dice"])


def test_annotators_must_fit_the_masks():
    with pytest.raises(ValueError, match="1 annotators for 2 masks"):
        leave_one_out([disc(5), disc(6)], ["a"])


# --- known annotators ----------------------------------------------------------------------------

#: Log radius of each annotator's discs against the true one, and its spread.
BIASES = {"A": 0.15, "B": 0.08, "C": 0.0, "D": -0.05, "E": -0.18}
SPREADS = {"A": 0.02, "B": 0.10, "C": 0.02, "D": 0.05, "E": 0.02}


@pytest.fixture(scope="module")
def known():
    """Discs by annotators with known bias and spread; two or three of them an image."""
    rng = np.random.default_rng(5)

    def draw(radius, name):
        log_radius = BIASES[name] + SPREADS[name] * rng.standard_normal()
        return disc(radius * np.exp(log_radius), 96)

    drawn = []
    for k in range(120):
        who = rng.choice(list(BIASES), rng.integers(2, 4), replace=False)
        radius = rng.uniform(15, 28)
        drawn.append((f"I{k:03d}", {str(name): draw(radius, name) for name in who}))
    return measures_of(drawn)


def test_estimated_biases_are_the_true_ones(known):
    summary = annotator_summary(known, n_boot=300)
    truth = pd.Series(BIASES) - np.mean(list(BIASES.values()))
    area = values(summary, "log_area_bias")
    assert area.sum() == pytest.approx(0, abs=1e-9)
    assert (area / 2).to_dict() == pytest.approx(truth.to_dict(), abs=0.03)
    for quantity in ("log_area_ratio", "boundary_shift", "boundary_bias"):
        assert np.corrcoef(values(summary, quantity), truth)[0, 1] > 0.97
    rows = summary[summary["quantity"] == "log_area_bias"].set_index("annotator")
    assert ((rows["low"] - 0.02 < 2 * truth) & (2 * truth < rows["high"] + 0.02)).all()
    assert (rows["low"] < rows["value"]).all() and (rows["value"] < rows["high"]).all()


def test_the_inconsistent_annotator_is_found(known):
    spread = values(annotator_summary(known, n_boot=300), "log_area_spread").sort_values()
    assert spread.index[-2:].tolist() == ["D", "B"]
    assert (spread / 2).to_dict() == pytest.approx(SPREADS, abs=0.025)


def test_two_annotators_share_their_inconsistency():
    rng = np.random.default_rng(0)
    drawn = [
        (f"I{k}", {"A": disc(25), "B": disc(25 * np.exp(0.1 * rng.standard_normal()))})
        for k in range(60)
    ]
    spread = values(annotator_summary(measures_of(drawn), n_boot=20), "log_area_spread")
    assert spread["A"] == pytest.approx(spread["B"])
    assert np.hypot(spread["A"], spread["B"]) == pytest.approx(0.2, rel=0.25)


def test_biases_see_through_who_shares_images_with_whom():
    """C shares images with A (who draws large) only, D with E (who draws small) only."""
    rng = np.random.default_rng(1)
    partners = [("C", "A")] * 30 + [("D", "E")] * 30 + [("A", "E")] * 30
    drawn = []
    for k, who in enumerate(partners):
        radius = rng.uniform(15, 28)
        masks = {name: disc(radius * np.exp(BIASES[name]), 96) for name in who}
        drawn.append((f"I{k}", masks))
    summary = annotator_summary(measures_of(drawn), n_boot=50)
    shift, bias = values(summary, "log_area_ratio"), values(summary, "log_area_bias")
    assert shift["C"] < -0.2 < 0.2 < shift["D"]
    assert bias["C"] - bias["D"] == pytest.approx(2 * (BIASES["C"] - BIASES["D"]), abs=0.03)
    assert bias["A"] - bias["E"] == pytest.approx(2 * (BIASES["A"] - BIASES["E"]), abs=0.03)


def test_annotators_without_common_images_are_not_compared():
    drawn = [(f"I{k}", {"A": disc(20 + k), "B": disc(25)}) for k in range(4)]
    drawn += [(f"J{k}", {"C": disc(40 + k), "D": disc(25)}) for k in range(4)]
    summary = annotator_summary(measures_of(drawn), n_boot=50)
    groups = summary.groupby("annotator")["group"].first()
    assert groups["A"] == groups["B"] != groups["C"] == groups["D"]
    bias = values(summary, "log_area_bias")
    assert bias["A"] + bias["B"] == pytest.approx(0, abs=1e-9)
    assert bias["C"] + bias["D"] == pytest.approx(0, abs=1e-9)


def test_sensitivity_and_specificity_are_those_the_masks_were_made_with():
    rng = np.random.default_rng(2)
    rates = {"A": (0.95, 0.99), "B": (0.9, 0.97), "C": (0.8, 0.99), "D": (0.97, 0.9)}
    rates |= {"E": (0.93, 0.98)}
    truth = disc(30, 96)
    drawn = [
        (
            f"I{k}",
            {
                name: np.where(truth, rng.random(truth.shape) < p, rng.random(truth.shape) > q)
                for name, (p, q) in rates.items()
            },
        )
        for k in range(6)
    ]
    summary = annotator_summary(measures_of(drawn), n_boot=50)
    truth = pd.DataFrame(rates, index=["sensitivity", "specificity"])
    for quantity in truth.index:
        found = values(summary, quantity)
        # The consensus of four is not the truth, but close.
        assert found.to_dict() == pytest.approx(truth.loc[quantity].to_dict(), abs=0.03)
        assert np.corrcoef(found, truth.loc[quantity])[0, 1] > 0.97


def test_clusters_widen_the_interval(known):
    """Images of one patient resampled together: the same value, another interval."""
    images = known["image_id"].unique()
    patients = pd.Series([f"P{k // 30}" for k in range(len(images))], index=images)
    alone = annotator_summary(known, n_boot=200)
    together = annotator_summary(known, patients, n_boot=200)
    assert together["value"].equals(alone["value"])
    assert not np.allclose(together["low"], alone["low"], equal_nan=True)


def test_a_seed_gives_the_same_table_twice(known):
    one, two = (annotator_summary(known, n_boot=50, seed=7) for _ in range(2))
    pd.testing.assert_frame_equal(one, two)
    other = annotator_summary(known, n_boot=50, seed=8)
    assert not np.allclose(other["low"], one["low"], equal_nan=True)


def test_an_annotator_who_drew_once_has_no_interval_of_the_spread(known):
    single = known[known["image_id"] == "I000"].assign(annotator=["Z", "A", "B"][:3])[:2]
    table = pd.concat([known[known["image_id"] != "I000"], single])
    summary = annotator_summary(table, n_boot=100).set_index(["annotator", "quantity"])
    assert np.isnan(summary.loc[("Z", "log_area_spread"), "value"])
    assert np.isnan(summary.loc[("Z", "dice"), "low"])
    assert summary.loc[("Z", "dice"), "n_masks"] == 1


def test_what_cannot_be_summed_up(known):
    with pytest.raises(ValueError, match="no mask could be measured"):
        annotator_summary(known.assign(**dict.fromkeys(MEASURES, np.nan)))
    with pytest.raises(ValueError, match="have no cluster, first I"):
        annotator_summary(known, pd.Series({"I000": "P"}))


# --- files ---------------------------------------------------------------------------------------


def test_measures_of_a_cohort(make_cohort):
    drawn = {f"I{k}": {"x": disc(20 + k), "y": disc(25), "z": disc(30)} for k in range(6)}
    drawn |= {"alone": {"x": disc(9)}, "gone": {"x": disc(9), "y": None}}
    drawn |= {"own": {("x", 1): disc(20), ("x", 2): disc(22)}}
    cohort = make_cohort(drawn)
    table = annotator_measures(cohort, processes=1)
    assert table["image_id"].drop_duplicates().tolist() == [f"I{k}" for k in range(6)] + [
        "gone",
        "own",
    ]
    assert table["mask_id"][0] == "I0_x_T1_S1_0.png"
    expected = leave_one_out([disc(23), disc(25), disc(30)], "xyz")
    found = table[table["image_id"] == "I3"][list(MEASURES)].to_dict("records")
    for row, measure in zip(found, expected, strict=True):
        assert row == pytest.approx({m: measure[m] for m in MEASURES}, nan_ok=True)
    gone = table[table["image_id"] == "gone"]
    assert gone["problem"].str.contains("there is no file").all()
    assert gone["hint"].notna().all() and gone["dice"].isna().all()
    assert table[table["image_id"] == "own"]["self_dice"].notna().all()
    assert len(annotator_summary(table, cohort.clusters(), n_boot=20)) == 30
    pd.testing.assert_frame_equal(annotator_measures(cohort, processes=2), table)


def test_biases_of_the_phantom(tmp_path):
    """Who draws large and who small, beside what the phantom's annotators were made with."""
    from iavlib.data.datasets import phantom

    cohort = phantom.load(n_images=200, size=(64, 48), cache=tmp_path)
    measures = annotator_measures(cohort, processes=1)
    summary = annotator_summary(measures, cohort.clusters(), n_boot=20)
    biases = summary[(summary["quantity"] == "log_area_bias") & (summary["n_masks"] >= 25)]
    truth = cohort.extras["annotators"].loc[biases["annotator"], "bias"]
    assert len(truth) >= 4
    assert np.corrcoef(biases["value"], truth)[0, 1] > 0.7
