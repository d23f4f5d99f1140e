"""The claims of DiFF, on tables made by hand."""

import numpy as np
import pandas as pd
import pytest

from iavlib.experiments import claims as results

SEEDS = [0, 1, 2]


def test_the_range_over_raters_does_not_look_twice():
    steady = pd.DataFrame(
        {"seed": SEEDS, "trained_a": [0.8] * 3, "trained_b": [0.7] * 3, "trained_c": [0.6] * 3}
    )
    assert results.range_over_raters(steady).tolist() == pytest.approx([20] * 3)
    generator = np.random.default_rng(0)
    noise = [
        results.range_over_raters(
            pd.DataFrame(
                {"seed": SEEDS} | {f"trained_{r}": generator.normal(0.7, 0.05, 3) for r in "abcd"}
            )
        ).mean()
        for _ in range(100)
    ]
    assert abs(np.mean(noise)) < 2
    assert results.range_over_raters(steady[["seed", "trained_a"]]).empty
    assert results.range_over_raters(steady.iloc[:1]).empty


def test_the_order_of_blocks_is_a_rank_correlation_a_seed():
    rows = [
        {"seed": s, "blocks": b, "soft_dice": 0.5 + (0.01 * n if s else -0.01 * n)}
        for s in (0, 1)
        for n, b in enumerate(("none", 1, "B1 B2", "B3 B2 B1"))
    ]
    rows += [{"seed": s, "blocks": 4.0, "soft_dice": 0.6 if s else 0.4} for s in (0, 1)]
    rows += [{"seed": s, "blocks": "B2 B3", "soft_dice": 0.9} for s in (0, 1)]  # not from B1 on
    found = results.order_of_blocks(pd.DataFrame(rows))
    assert found.to_dict() == pytest.approx({0: -1, 1: 1})
    gains = results.gain_of_blocks(pd.DataFrame(rows), "soft_dice")
    assert gains.to_dict() == pytest.approx({0: -3, 1: 3})


def test_no_mask_is_no_rater():
    runs = pd.DataFrame(
        {"seed": SEEDS, "trained_a": [0.8] * 3, "trained_b": [0.7] * 3, "trained_NoMask": [0.2] * 3}
    )
    assert results.range_over_raters(runs).tolist() == pytest.approx([10] * 3)


def test_a_claim_takes_three_seeds_and_weights_that_have_learnt():
    rows = pd.DataFrame(
        {"seed": SEEDS, "auroc": [0.7, 0.8, 0.9], "cohort_name": "isic2017-simulated"}
        | {"synthetic": False, "weights_random": False, "n_images": 200.0}
    )
    nothing = rows.iloc[:0]
    (one,) = results.diff_claims(nothing, nothing, rows).to_dict("records")
    assert one["cohort"].simulated and one["entry"]["coverage"] == (200, 1600)
    assert one["entry"]["seeds"] == 3 and one["entry"]["value"] == pytest.approx(80)
    assert list(one["values"]) == pytest.approx([70, 80, 90])
    (few,) = results.diff_claims(nothing, nothing, rows.iloc[:2]).to_dict("records")
    (random,) = results.diff_claims(nothing, nothing, rows.assign(weights_random=True)).to_dict(
        "records"
    )
    assert few["entry"] is None and random["entry"] is None
    assert results.diff_claims(nothing, nothing, nothing).empty
