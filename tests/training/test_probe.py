"""Frozen features, kept; heads on them, held back by what the training part says."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import make_regression
from sklearn.linear_model import Ridge
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVR

from iavlib.core.errors import TrainingError
from iavlib.training import predict as module
from iavlib.training.predict import frozen_features, predict
from iavlib.training.probe import _KINDS as PROBES, fit_probe, ridge_path

HALF = (0.5, 0.5, 0.5)


@pytest.fixture
def data():
    """Features of which a few tell the target; the rows of a group are nearly equal."""
    x, y = make_regression(60, 30, n_informative=4, noise=3.0, random_state=0)
    y = 0.5 + 0.1 * (y - y.mean()) / y.std()
    rng = np.random.default_rng(0)
    twin = x + 0.01 * rng.normal(size=x.shape)
    groups = np.tile([f"patient {i}" for i in range(60)], 2)
    return np.concatenate([x, twin]), np.concatenate([y, y]), groups


def test_features_are_the_networks_and_computed_once(cache, tiny, tmp_path, monkeypatch):
    network = tiny()
    first = frozen_features(network, cache, HALF, HALF, tmp_path)
    assert first.index.equals(cache.ids) and first.shape == (len(cache), 8)
    with torch.inference_mode():
        images = torch.from_numpy(np.array(cache.pixels)).permute(0, 3, 1, 2) / 255
        expected = network.eval().features((images - 0.5) / 0.5).numpy()
    assert first.to_numpy() == pytest.approx(expected, abs=1e-5)
    monkeypatch.setattr(module, "_compute", lambda *_: pytest.fail("computed again"))
    assert frozen_features(tiny(), cache, HALF, HALF, tmp_path).equals(first)


def test_other_weights_or_normalisation_are_other_features(cache, tiny, tmp_path):
    first = frozen_features(tiny(), cache, HALF, HALF, tmp_path)
    other = frozen_features(tiny(seed=1), cache, HALF, HALF, tmp_path)
    brighter = frozen_features(tiny(), cache, (0.4,) * 3, HALF, tmp_path)
    assert not first.equals(other) and not first.equals(brighter)
    assert len(list(tmp_path.glob("*.npy"))) == 3


@pytest.mark.parametrize("damage", ["short", "changed", "no index"])
def test_damaged_features_are_computed_anew(cache, tiny, tmp_path, damage):
    first = frozen_features(tiny(), cache, HALF, HALF, tmp_path)
    (path,) = tmp_path.glob("*.npy")
    content = path.read_bytes()
    if damage == "short":
        path.write_bytes(content[:-4])
    elif damage == "changed":
        path.write_bytes(content[:-4] + b"1234")
    else:
        path.with_suffix(".json").unlink()
    assert frozen_features(tiny(), cache, HALF, HALF, tmp_path).equals(first)
    assert path.read_bytes() == content


def test_features_that_are_not_finite_name_images(cache, tiny, tmp_path):
    network = tiny()
    network.backbone[0].weight.data.fill_(float("nan"))
    with pytest.raises(TrainingError, match="24 images are NaN or infinite: image_00, image_01"):
        frozen_features(network, cache, HALF, HALF, tmp_path)
    assert not list(tmp_path.glob("*.npy"))


def test_a_head_on_kept_features_is_the_network(cache, subsets, tiny, tmp_path):
    network = tiny().eval()
    mean, std = subsets[0].mean, subsets[0].std
    kept = frozen_features(network, cache, mean, std, tmp_path)
    with torch.inference_mode():
        chosen = torch.tensor(kept.loc[subsets[1].ids].to_numpy())
        raw = network.heads["iaa"](chosen).numpy()
    assert raw == pytest.approx(predict(network, subsets[1])["iaa"], abs=1e-5)


def test_ridge_is_scikit_learns(data):
    x, y, _ = data
    x = StandardScaler().fit_transform(x)
    grid = [{"alpha": 0.1}, {"alpha": 10.0}, {"alpha": 1e4}]
    for each, head in zip(grid, ridge_path(x, y, grid, 0), strict=True):
        expected = Ridge(alpha=each["alpha"]).fit(x, y).predict(x[:9])
        assert head(x[:9]) == pytest.approx(expected, rel=1e-6)


def test_ridge_also_with_more_features_than_rows(data):
    x, y, _ = data
    (head,) = ridge_path(x[:12], y[:12], [{"alpha": 2.0}], 0)
    centred = x[:12] - x[:12].mean(0)
    (centred_head,) = ridge_path(centred, y[:12], [{"alpha": 2.0}], 0)
    expected = Ridge(alpha=2.0).fit(centred, y[:12]).predict(centred)
    assert centred_head(centred) == pytest.approx(expected, rel=1e-6)
    assert np.isfinite(head(x)).all()


def test_support_vectors_are_scikit_learns(data):
    x, y, groups = data
    probe = fit_probe("svr", x, y, groups)
    chosen = {**probe.chosen, "gamma": probe.chosen["gamma"] / x.shape[1]}
    expected = make_pipeline(StandardScaler(), SVR(**chosen)).fit(x, y).predict(x[:9])
    assert probe.predict(x[:9]) == pytest.approx(expected, rel=1e-6)


def test_what_is_chosen_is_best_over_folds_of_whole_groups(data):
    x, y, groups = data
    probe = fit_probe("ridge", x, y, groups, seed=3)
    errors = pd.Series(0.0, probe.inner["alpha"])
    for inside, outside in GroupKFold(5, shuffle=True, random_state=3).split(x, y, groups):
        assert not set(groups[inside]) & set(groups[outside])
        for alpha in errors.index:
            model = make_pipeline(StandardScaler(), Ridge(alpha=alpha)).fit(x[inside], y[inside])
            errors[alpha] += np.abs(model.predict(x[outside]) - y[outside]).sum() / len(y)
    assert probe.inner["error"].to_numpy() == pytest.approx(errors.to_numpy(), rel=1e-5)
    assert probe.chosen == {"alpha": errors.idxmin()}


@pytest.mark.parametrize("kind", PROBES)
def test_every_probe_beats_a_constant_and_repeats(data, kind):
    x, y, groups = data
    target = (y > 0.5).astype(int) if kind == "logistic" else y
    train = np.isin(groups, pd.unique(groups)[:45])
    probes = [fit_probe(kind, x[train], target[train], groups[train], seed=2) for _ in range(2)]
    predicted = probes[0].predict(x[~train])
    assert (predicted == probes[1].predict(x[~train])).all()
    assert probes[0].chosen in probes[0].inner.drop(columns="error").to_dict("records")
    if kind == "logistic":
        assert ((predicted > 0.5) == target[~train]).mean() > 0.7
    else:
        error = np.abs(predicted - target[~train]).mean()
        assert error < 0.9 * np.abs(np.median(target[train]) - target[~train]).mean()


def test_few_groups_make_few_folds(data):
    x, y, _ = data
    groups = np.repeat(["a", "b", "c"], 40)
    assert np.isfinite(fit_probe("ridge", x, y, groups).predict(x)).all()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"kind": "forest"}, "no probe 'forest'; known: ridge, svr, network, logistic"),
        ({"target": np.arange(3.0)}, "3 targets and 120 groups do not belong together"),
        ({"target": np.r_[np.nan, np.zeros(119)]}, "1 rows have a missing feature or target"),
        ({"groups": np.full(120, "one")}, "needs two groups or more"),
        ({"groups": np.array([None] * 120, object)}, "a group is missing"),
        ({"kind": "logistic"}, "logistic takes classes 0 and 1"),
    ],
)
def test_what_cannot_be_is_said(data, change, said):
    x, y, groups = data
    told = {"kind": "ridge", "features": x, "target": y, "groups": groups, **change}
    with pytest.raises(TrainingError, match=said):
        fit_probe(**told)
