"""Heads: how they start, what they predict."""

import numpy as np
import pytest
import torch
from scipy import stats

from iavlib.core.errors import ModelError
from iavlib.models import HeadSpec, build_head, predicted_mean, predicted_quantiles, quantile_levels


def test_paper_head_starts_as_in_the_paper():
    torch.manual_seed(0)
    head = build_head(HeadSpec("paper", 2), 1024)
    kinds = [type(layer).__name__ for layer in head]
    assert kinds == ["Linear", "BatchNorm1d", "ReLU", "Dropout", "Linear"]
    assert head[3].p == 0.5 and head[4].out_features == 2
    assert not head[0].bias.any() and not head[4].bias.any()
    assert head[0].weight.std().item() == pytest.approx(np.sqrt(2 / 1024), rel=0.02)
    assert head[4].weight.std().item() == pytest.approx(np.sqrt(2 / 256), rel=0.1)


@pytest.mark.parametrize("kind", ["paper", "linear", "beta", "quantile"])
@pytest.mark.parametrize("start", [0.3, 0.86])
def test_a_head_starts_where_it_is_told(kind, start):
    spec = HeadSpec(kind, outputs=5 if kind == "quantile" else 1, start=start)
    torch.manual_seed(1)
    head = build_head(spec, 64).eval()
    raw = head(torch.randn(400, 64))
    assert raw.shape == (400, spec.width)
    assert predicted_mean(kind, raw).mean().item() == pytest.approx(start, abs=0.02)


def test_beta_stays_positive_in_half_precision_and_far_out():
    head = build_head(HeadSpec("beta", hidden=0), 2)
    for x in (torch.full((1, 2), 1e4), torch.full((1, 2), -1e4)):
        raw = head[-1](x.half())
        assert raw.dtype == torch.float32 and (raw > 0).all() and raw.isfinite().all()


def test_quantiles_do_not_cross_and_stay_inside():
    head = build_head(HeadSpec("quantile", 19), 16)
    raw = head(torch.randn(64, 16) * 100)
    assert raw.shape == (64, 19)
    assert (raw.diff(dim=1) >= 0).all() and raw.min() >= 0 and raw.max() <= 1


def test_untrained_quantiles_are_those_of_the_uniform():
    head = build_head(HeadSpec("quantile", 5, hidden=0), 4)
    np.testing.assert_allclose(head(torch.zeros(1, 4)).detach()[0], quantile_levels(5), atol=1e-6)


def test_point_predictions():
    raw = np.array([[3.0, 1.0], [1.0, 1.0]])
    np.testing.assert_allclose(predicted_mean("beta", raw), [0.75, 0.5])
    np.testing.assert_allclose(predicted_mean("quantile", np.array([[0.2, 0.7, 0.9]])), [0.7])
    tensor = torch.tensor([[1.3], [-0.2]])
    assert torch.equal(predicted_mean("paper", tensor), tensor[:, 0])


def test_predicted_quantiles():
    raw = torch.tensor([[3.0, 1.5]])
    found = predicted_quantiles("beta", raw, [0.05, 0.5, 0.95])
    np.testing.assert_allclose(found[0], stats.beta(3, 1.5).ppf([0.05, 0.5, 0.95]))
    found = predicted_quantiles("quantile", np.array([[0.2, 0.6, 0.8]]), [0, 0.05, 0.5, 0.725, 1])
    np.testing.assert_allclose(found, [[0, 0.2, 0.6, 0.7, 1]])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"kind": "papr"}, "known are paper, linear, beta, quantile"),
        ({"kind": "paper", "outputs": 0}, "positive"),
        ({"kind": "beta", "outputs": 2}, "one distribution"),
        ({"kind": "quantile", "outputs": 4}, "odd"),
        ({"kind": "paper", "dropout": 1.0}, "dropout"),
        ({"kind": "beta", "start": 1.0}, "between 0 and 1"),
    ],
)
def test_a_wrong_head_is_refused(options, said):
    with pytest.raises(ModelError, match=said):
        HeadSpec(**options)


def test_wrong_use_of_predictions_is_refused():
    with pytest.raises(ModelError, match="classification"):
        predicted_mean("paper", np.zeros((3, 2)))
    with pytest.raises(ModelError, match="no distribution"):
        predicted_quantiles("paper", np.zeros((3, 1)), [0.5])
    with pytest.raises(ModelError, match="levels"):
        predicted_quantiles("beta", np.ones((3, 2)), [5])
