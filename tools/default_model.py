"""Make iavlib/predict/default_model again: `IAV_DATA_HOME=... python tools/default_model.py`.

Needs the images of IMA++ and `pip install 'iavlib[weights]'`. Features are computed once and kept
in the cache; everything after that takes a minute. Its figures are printed, and in the model card.
"""

from __future__ import annotations

import hashlib
import json
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors.numpy import save
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVR

from iavlib import stats
from iavlib.core.files import write_bytes, write_json, write_text
from iavlib.experiments import Experiment, resolve
from iavlib.experiments.runner import load_cohort
from iavlib.experiments.tasks.image import image_table
from iavlib.experiments.tasks.image_training import MeanOverViews
from iavlib.explain.attribution import GRADCAM, Explainer
from iavlib.models import build_network
from iavlib.predict.ood import NEIGHBOURS
from iavlib.predict.packaged import FACTS, FOLDER, TENSORS, add_heads
from iavlib.training.batches import ImageBatches
from iavlib.training.image_cache import cache_images
from iavlib.training.predict import frozen_features

BACKBONE, VIEWS, COMPONENTS, FOLDS, SEED, ALPHA = "tf_efficientnet_lite0", 4, 32, 5, 0, 0.1
AGREEMENT_GRID = [{"C": C, "gamma": g} for C, g in product((0.2, 0.4, 0.8, 1.6), (0.5, 1.0))]
MALIGNANCY_GRID = [{"C": C} for C in (3e-4, 1e-3, 3e-3, 1e-2)]
_CENTRED_ON = 128  # images whose mean is the zero of heat maps
CARD = """# Model card: the default model of `iav predict`

**Research software, no medical device.** No diagnosis and no decision about a person may be
based on it.

What it predicts: the mean Dice of two people's outlines of a skin lesion, with a 90 % interval,
and the probability of malignancy, from one dermoscopic photograph. An image that differs from
those it learned from is flagged.

How: features of `{backbone}` with ImageNet weights ({weights[detail]}; Apache-2.0), not trained
further, mean of {views} views. Agreement: support vector regression on {components} principal
components. Malignancy: logistic regression. Made by `tools/default_model.py`, {finished}.

Data: {n[train]:,} images of {n[patients]:,} patients (an image without a patient counts as its
own), those of the multi-annotator subset of IMA++ that were at hand, as public copies of 180 or
256 pixels: {n[benign]} benign, {n[malignant]} malignant, and {other} indeterminate ones for
agreement only. The tables of IMA++ are CC BY-NC-ND 4.0, its images CC-0 or CC BY-NC: the model
is for research.

Judged out of fold: five folds by patient; every setting was chosen by a second cross-validation
within the other four. 95 % intervals in brackets; those of agreement resample patients.

| | Model | Baseline |
| :-- | :-- | :-- |
{rows}

Of the 90 % intervals (conformal, by fifth of predicted agreement), {all:.1%} contain the true
value; by fifth, the lowest predictions first: {coverage}. They reach this far to both sides:
{margins} (the fifths end at {edges}).

Limits:

- All images are of the ISIC archive: other cameras, skin tones and clinics were not tested, and
  errors on other images are likely to be larger.
- Agreement depends on who draws and with what tool, which the model does not know, and the Dice
  of one pair of outlines is itself a noisy measurement.
- Probabilities of malignancy are for images of which {share:.0%} are malignant, as these.
- An image that is not flagged may still be unusual.

`iav predict --model <run>` takes a network trained on other images instead.
"""


def fit_agreement(features, target, C, gamma):
    """Fit support vectors on principal components; gamma is in units of 1 / features."""
    scale = StandardScaler().fit(features)
    pca = PCA(COMPONENTS, svd_solver="randomized", random_state=SEED).fit(scale.transform(features))
    projection = (pca.components_ / scale.scale_).T.astype(np.float16).astype(float)
    offset = scale.mean_ @ projection
    support = (features @ projection - offset).astype(np.float16).astype(float)
    gamma = gamma / features.shape[1]
    model = SVR(C=C, epsilon=0.02, gamma=gamma).fit(support, target)
    dual = np.zeros(len(target))
    dual[model.support_] = model.dual_coef_[0]
    head = {"projection": projection, "offset": offset, "support": support, "dual": dual}
    return head | {"bias": model.intercept_[0], "gamma": gamma}


def predict_agreement(head, features):
    """Predict as the head in the library, in double precision."""
    some = features @ head["projection"] - head["offset"]
    squared = ((some[:, None] - head["support"]) ** 2).sum(2)
    return (np.exp(-head["gamma"] * squared) @ head["dual"] + head["bias"]).clip(0, 1)


def fit_malignancy(features, target, C):
    """Fit a logistic regression; return its slope and bias for features as they are."""
    scale = StandardScaler().fit(features)
    model = LogisticRegression(C=C, max_iter=2000).fit(scale.transform(features), target)
    slope = model.coef_[0] / scale.scale_
    return {"slope": slope, "bias": model.intercept_[0] - slope @ scale.mean_}


def predict_malignancy(head, features):
    """Predict the probability of malignancy."""
    return 1 / (1 + np.exp(-(features @ head["slope"] + head["bias"])))


KINDS = {
    "agreement": (fit_agreement, predict_agreement, AGREEMENT_GRID, lambda t, p: abs(t - p).mean()),
    "malignancy": (fit_malignancy, predict_malignancy, MALIGNANCY_GRID, log_loss),
}


def folds_of(strata, groups, seed):
    """Divide by patient, balanced over strata."""
    splitter = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
    return list(splitter.split(groups, strata, groups))


def choose(kind, features, target, groups, strata):
    """Choose from the grid by cross-validation by patient; return the choice and its fit."""
    fit, predict, grid, error = KINDS[kind]
    folds = folds_of(strata, groups, SEED + 1)
    errors = [
        np.mean(
            [
                error(target[b], predict(fit(features[a], target[a], **c), features[b]))
                for a, b in folds
            ]
        )
        for c in grid
    ]
    chosen = grid[int(np.argmin(errors))]
    return chosen, fit(features, target, **chosen)


def out_of_fold(kind, features, target, groups, strata, known):
    """Predict every image by a head chosen and fitted on other patients' images alone."""
    predicted, fold = np.full(len(target), np.nan), np.zeros(len(target), int)
    for number, (inside, outside) in enumerate(folds_of(strata, groups, SEED)):
        inside = inside[known[inside]]
        own = features[inside], target[inside], groups[inside], strata[inside]
        chosen, head = choose(kind, *own)
        predicted[outside], fold[outside] = KINDS[kind][1](head, features[outside]), number
        print(f"{kind}, fold {number + 1}: {chosen}", flush=True)
    return predicted, fold


def distances_by_patient(some, support, groups):
    """Distance of each image to the tenth nearest of other patients."""
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (some, support)]
    squared = 2 - 2 * unit[0] @ unit[1].T
    squared[groups[:, None] == groups] = np.inf
    return np.sqrt(np.partition(squared, NEIGHBOURS - 1, axis=1)[:, NEIGHBOURS - 1].clip(min=0))


def main(folder: Path = FOLDER) -> None:
    """Fit, judge and write the model and its card."""
    cohort = load_cohort("imapp")
    table = image_table(cohort)
    table = table[table["path"].notna() & table["iaa"].notna()]
    network = build_network(BACKBONE, {}, "package").eval()
    weights, cache = network.weights, cache_images(table["path"], network.weights.input_size)
    single = frozen_features(network, cache, weights.mean, weights.std).to_numpy(float)
    plain, network.backbone = network.backbone, MeanOverViews(network.backbone, VIEWS)
    features = frozen_features(network, cache, weights.mean, weights.std).to_numpy(float)
    network.backbone = plain
    agreement, groups = table["iaa"].to_numpy(), pd.factorize(table["cluster"])[0]
    strata = pd.qcut(agreement, 5, labels=False)
    classes = table["malignancy"].map({"benign": 0, "malignant": 1})
    known = classes.notna().to_numpy()
    malignant = classes.fillna(0).to_numpy(int)
    everywhere = np.ones(len(table), bool)
    predicted, fold = out_of_fold("agreement", features, agreement, groups, strata, everywhere)
    probability, _ = out_of_fold("malignancy", features, malignant, groups, malignant, known)
    chosen, head = choose("agreement", features, agreement, groups, strata)
    own = features[known], malignant[known], groups[known], malignant[known]
    chosen_malignancy, logistic = choose("malignancy", *own)
    errors = stats.regression_errors(agreement, predicted, groups)
    auroc = stats.auroc(malignant[known], probability[known], groups[known])
    bounds = stats.out_of_fold_intervals(agreement, predicted, fold, ALPHA, kind="mondrian")
    fifth = pd.qcut(predicted, 5, labels=False)
    coverage = stats.interval_coverage(agreement, bounds["lower"], bounds["upper"], fifth)
    mondrian = stats.mondrian_intervals(agreement, predicted, ALPHA)
    median = [abs(agreement[fold == k] - np.median(agreement[fold != k])) for k in range(FOLDS)]
    tensors = {
        "projection": head["projection"].astype(np.float16),
        "offset": head["offset"].astype(np.float32),
        "support": head["support"].astype(np.float16),
        "dual": head["dual"].astype(np.float32),
        "bias": np.float32(head["bias"])[None].reshape(()),
        "malignancy": logistic["slope"].astype(np.float32),
        "image": table.index.str.removeprefix("ISIC_").astype(int).to_numpy(np.int32),
        "agreement": agreement.astype(np.float32),
        "agreement_predicted": predicted.astype(np.float32),
        "distances": distances_by_patient(
            single @ head["projection"] - head["offset"], head["support"], groups
        ).astype(np.float32),
    }
    tensors = {name: np.ascontiguousarray(values) for name, values in tensors.items()}

    def rounded(*values):
        return [round(float(value), 4) for value in values]

    of = {n: rounded(*errors.loc[n, ["estimate", "ci_low", "ci_high"]]) for n in ("mae", "pearson")}
    resolved = resolve(Experiment(cohort="imapp", backbone=BACKBONE, weights="package"), cohort)
    n = {"train": len(table), "patients": int(groups.max() + 1)}
    n |= {"malignant": int(malignant.sum()), "benign": int(known.sum() - malignant.sum())}
    facts = {
        "id": "default",
        "cohort": cohort.name,
        "data": resolved.data,
        "files": resolved.files,
        "finished": str(pd.Timestamp.now("UTC").date()),
        "synthetic": False,
        "weights_random": False,
        "n": {
            "train": len(table),
            "patients": int(groups.max() + 1),
            "malignant": int(malignant.sum()),
            "benign": int(known.sum() - malignant.sum()),
        },
        "backbone": BACKBONE,
        "weights": {"source": weights.source, "detail": weights.detail},
        "views": VIEWS,
        "gamma": head["gamma"],
        "malignancy_bias": float(logistic["bias"]),
        "chosen": {"agreement": chosen, "malignancy": chosen_malignancy},
        "out_of_fold": {
            **of,
            "median_mae": round(float(np.concatenate(median).mean()), 4),
            "auroc": rounded(auroc.value, auroc.low, auroc.high),
            "coverage": rounded(*coverage["coverage"]),
            "width": rounded(*coverage["width_mean"]),
        },
        "intervals": {
            "alpha": ALPHA,
            "edges": rounded(*mondrian.edges),
            "margins": rounded(
                *(margin for _, margin in sorted(mondrian.conformal.margins.items()))
            ),
        },
        "centre": {},
    }
    given = {name: torch.from_numpy(np.atleast_1d(x)) for name, x in tensors.items()}
    given["bias"] = given["bias"].reshape(())
    complete = add_heads(facts, given)
    some = np.random.default_rng(SEED).permutation(len(table))[:_CENTRED_ON]
    batches = ImageBatches.from_cache(cache, table.iloc[some][["iaa"]], weights.mean, weights.std)
    images = (batch["images"] for batch in batches.in_order(16))
    facts["centre"] = Explainer(complete, None, [GRADCAM]).centre_on(images).reference
    content = save(tensors)
    facts["sha256"] = hashlib.sha256(content).hexdigest()
    write_bytes(folder / TENSORS, content)
    write_json(folder / FACTS, facts)
    write_text(folder / "README.md", card(facts))
    print(json.dumps(facts["out_of_fold"], indent=1))


def card(facts) -> str:
    """Write the model card."""
    n, of, cuts = facts["n"], facts["out_of_fold"], facts["intervals"]

    def row(name, values, digits, baseline):
        value, low, high = (f"{value:.{digits}f}" for value in values)
        return f"| {name} | {value} [{low}, {high}] | {baseline} |"

    rows = [
        row("mean absolute error of agreement", of["mae"], 3, f"{of['median_mae']:.3f} (median)"),
        row("Pearson r of agreement", of["pearson"], 2, 0),
        row("AUROC of malignancy", of["auroc"], 2, 0.5),
    ]
    named = {"rows": "\n".join(rows), "components": COMPONENTS, **facts}
    named |= {"coverage": ", ".join(f"{value:.0%}" for value in of["coverage"][:5])}
    named |= {"margins": ", ".join(f"{value:.2f}" for value in cuts["margins"])}
    named |= {
        "edges": ", ".join(f"{value:.2f}" for value in cuts["edges"]),
        "all": of["coverage"][-1],
    }
    named |= {"other": n["train"] - n["malignant"] - n["benign"]}
    named |= {"share": n["malignant"] / (n["malignant"] + n["benign"])}
    return CARD.format(**named)


if __name__ == "__main__":
    main()
