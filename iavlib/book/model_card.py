"""The numbers of the model card, from predictions of images that a model had not seen.

Runs of this machine and stored results alike; the page around them is ``book/model_card.md``.

The diagnosis by sex, age and site for the model card, by networks that had not seen an image.

Runs of this machine and stored results alike; the page around them is ``book/model_card.md``.
"""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from iavlib.core.project import Project

PAGE = "book/model_card"
_COHORT, _LEVEL, _DRAWS = "imapp", 0.9, 500
#: Factors of :func:`patient_facts`, as rows begin.
_KNOWN_BEFOREHAND = ("sex: ", "age: ", "site: ")
#: Images of a group whose coverage says anything.
_FEWEST = 30
_NOTHING = (
    "No predictions of all images of IMA++ by runs that had not seen them are stored with this "
    "book or finished on this machine; notebook {doc}`/notebooks/03_iaa_regression` says how to "
    "make them.\n"
)
_HEADER = (
    "| Images | n | Mean Dice | MAE (95 % interval) | MAE of the median | Bias "
    "| Inside 90 % interval (95 % interval) |\n| :-- | --: | --: | --: | --: | --: | --: |"
)


def model_card(project: Project) -> str:
    """Write the model's errors, overall and by subgroup, and what its order of images is worth.

    Parameters
    ----------
    project : Project

    Returns
    -------
    str
        Markdown; a sentence where there is nothing to measure.
    """
    from iavlib.experiments.lookup import known_results

    runs = known_results("iaa", _COHORT, project=project)
    if runs.empty:
        return _NOTHING
    from iavlib.experiments.evaluation import per_image, predictions_on_test, whole_models

    runs = whole_models(runs[~runs["weights_random"].astype(bool)])
    if runs.empty:
        return _NOTHING
    runs = runs[runs["data"] == runs["data"].value_counts().index[0]]
    tested = predictions_on_test(runs)
    errors = (tested["true"] - tested["predicted"]).abs().groupby(tested["model"]).mean()
    images = per_image(tested[tested["model"] == errors.idxmin()])
    told = _opening(str(errors.idxmin()), images)
    return f"{told}\n\n{_HEADER}\n{_rows(images)}\n\n{_order(images)}\n"


def _opening(model: str, images: pd.DataFrame) -> str:
    origin = ", ".join(sorted(set(images["origin"])))
    return (
        f"Model “{model}” ({origin}), {len(images):,} images, each predicted by a run that had "
        "seen neither the image nor its patient. Intervals are split-conformal, from the residuals "
        "of the other folds. The model is the one of the least error among those at hand, which "
        "flatters it a little."
    )


def _rows(images: pd.DataFrame) -> str:
    from iavlib.experiments.evaluation import with_intervals
    from iavlib.stats import errors_by_group, interval_coverage

    bounded = with_intervals(images, 1 - _LEVEL)
    constant = (images["true"] - images["constant"]).abs()
    lines, least = [], []
    for name, levels in _factors(images).items():
        groups = levels.astype(str)
        draw = {"clusters": images["cluster"], "n_boot": _DRAWS}
        errors = errors_by_group(images["true"], images["predicted"], groups, **draw)
        ends = (bounded["true"], bounded["lower"], bounded["upper"])
        covered = interval_coverage(*ends, groups)
        for group in (str(one) for one in levels.cat.categories if (levels == one).any()):
            row, inside = errors.loc[group], covered.loc[group]
            told = f"{inside['coverage']:.0%} ({inside['ci_low']:.0%} to {inside['ci_high']:.0%})"
            cells = (
                f"{name}{group}",
                f"{row['n']:,.0f}",
                f"{row['true_mean']:.3f}",
                f"{row['mae']:.3f} ({row['mae_low']:.3f} to {row['mae_high']:.3f})",
                f"{constant[groups == group].mean():.3f}",
                f"{row['bias']:+.3f}",
                told,
            )
            lines.append("| " + " | ".join(cells) + " |")
            if name in _KNOWN_BEFOREHAND and row["n"] >= _FEWEST:
                least.append((inside["coverage"], f"{name}{group}, {told}"))
    return "\n".join(lines) + (f"\n\n{_least(least)}" if least else "")


def _least(covered: list[tuple[float, str]]) -> str:
    return (
        f"Of the groups that can be known before anyone draws (sex, age, site; {_FEWEST} images or "
        f"more), {_LEVEL:.0%} intervals hold the truth least often in {min(covered)[1]}. Intervals "
        "are calibrated over all images: in a group below the promise they are too narrow."
    )


def _factors(images: pd.DataFrame) -> dict[str, pd.Series]:
    """Give the level of each image by factor, as categories in the order of the table."""
    agreed = pd.cut(images["true"], [-1, 0.5, 0.8, 1], labels=["0 to .5", ".5 to .8", ".8 to 1"])
    factors = {
        "": pd.Series("all images", index=images.index, dtype="category"),
        "malignancy: ": images["malignancy"].astype("category"),
        "masks: ": images["n_masks"].astype("category"),
        "true Dice: ": agreed,
    }
    return factors | _known_factors(images)


def _known_factors(images: pd.DataFrame) -> dict[str, pd.Series]:
    """Give sex, age and site of the images; nothing without the tables of the cohort."""
    from iavlib.stats import NOT_RECORDED

    facts = patient_facts(_COHORT)
    if facts is None:
        return {}
    found = {}
    for prefix in _KNOWN_BEFOREHAND:
        own = facts[prefix.removesuffix(": ")].reindex(images["image_id"]).astype("category")
        own = own.cat.add_categories(NOT_RECORDED).fillna(NOT_RECORDED)
        found[prefix] = own.set_axis(images.index)
    return found


def patient_facts(cohort: str) -> pd.DataFrame | None:
    """Read who and where the images of a cohort are of.

    Returns
    -------
    pandas.DataFrame or None
        Index ``image_id``: ``sex``, ``age`` (bands) and ``site``, missing where not recorded; None
        where the cohort's tables are not at hand.
    """
    from iavlib import data
    from iavlib.stats import age_bands

    try:
        images = data.load(cohort).images
    except data.DatasetUnavailable:
        return None
    bands = age_bands(images["age"].astype(float))
    return pd.DataFrame({"sex": images["sex"], "age": bands, "site": images["site"]})


def _order(images: pd.DataFrame) -> str:
    """Say what looking at the least predicted agreement first finds."""
    from iavlib.stats.triage import triage_gains

    scores = pd.DataFrame({"model": 1 - images["predicted"]})
    row = triage_gains(1 - images["true"], scores, images["cluster"], n_boot=_DRAWS).loc["model"]
    return (
        f"Of all disagreement (1 - Dice) the tenth of images with the least predicted agreement "
        f"holds {row['found_10']:.0%} ({row['found_10_low']:.0%} to {row['found_10_high']:.0%}), "
        f"the first fifth {row['found_20']:.0%}. The area between this curve and that of a random "
        f"order is {row['area_gained']:.3f} ({row['area_gained_low']:.3f} to "
        f"{row['area_gained_high']:.3f}), {row['of_possible']:.0%} of what is possible."
    )


_DIAGNOSIS_COHORT, _STEM, _PROFILE = "imapp", "04_mtl_diagnosis", "paper"
_ALPHA, _DIAGNOSIS_DRAWS = 0.5, 500
_SHOWN = ("auroc", "balanced_accuracy", "sensitivity", "specificity")
_NO_DIAGNOSIS = (
    "No predictions of malignancy for all images of IMA++ by runs that had not seen them are "
    "stored with this book or finished on this machine; notebook "
    "{doc}`/notebooks/04_mtl_diagnosis` says how to make them.\n"
)
_NO_FACTS = (
    "Sex, age and site are in the tables of IMA++, which are not at hand on the machine that made "
    "this book (`iav data fetch imapp`): subgroups were not measured.\n\n"
)
_DIAGNOSIS_HEADER = (
    "| Images | n (malignant) | AUROC | Balanced accuracy | Sensitivity | Specificity |\n"
    "| :-- | --: | --: | --: | --: | --: |"
)


def diagnosis_card(project: Project) -> str:
    """Write how well malignancy is told, overall and by sex, age and site.

    Parameters
    ----------
    project : Project

    Returns
    -------
    str
        Markdown with a table a model; a sentence where there is nothing to measure.
    """
    runs = _compared_models(project)
    if runs.empty:
        return _NO_DIAGNOSIS
    facts = patient_facts(_DIAGNOSIS_COHORT)
    told = "" if facts is not None else _NO_FACTS
    return told + "\n".join(_table(*model, facts) for model in _models(runs))


def _compared_models(project: Project) -> pd.DataFrame:
    """Find the runs of both arms whose folds together judge every image."""
    from iavlib.experiments.evaluation import whole_models
    from iavlib.experiments.lookup import read_results
    from iavlib.experiments.summary import IMAGENET, MULTI, SINGLE, describe_arms

    runs = whole_models(read_results(_PROFILE, _STEM, _DIAGNOSIS_COHORT, project=project))
    if runs.empty:
        return runs
    runs = describe_arms(runs)
    weighed = (runs["arm"] == SINGLE) | ((runs["arm"] == MULTI) & (runs["alpha"] == _ALPHA))
    return runs[weighed & (runs["start"] == IMAGENET)]


def _models(runs: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Go through the models: name, where their results are from, and probabilities by image."""
    from iavlib.experiments.summary import held_out_predictions, mean_over_runs

    for (label, backbone), group in runs.groupby(["label", "backbone"], sort=False):
        origin = ", ".join(sorted(set(group["origin"])))
        name = f"“{label}” ({backbone}, {origin}; {group['seed'].nunique()} seeds)"
        yield name, str(label), mean_over_runs(held_out_predictions(group))


def _table(name: str, label: str, images: pd.DataFrame, facts: pd.DataFrame | None) -> str:
    from iavlib.stats import scores_by_group

    groups = facts.reindex(images.index) if facts is not None else {}
    table = scores_by_group(
        images["malignant"],
        images["probability"],
        groups,
        clusters=images["patient_id"],
        n_boot=_DIAGNOSIS_DRAWS,
    )
    lines = [_line(key, row) for key, row in table.iterrows()]
    return (
        f"{_diagnosis_opening(name)}\n\n{_DIAGNOSIS_HEADER}\n"
        + "\n".join(lines)
        + f"\n\n{_spread(label, table)}\n"
    )


def _diagnosis_opening(name: str) -> str:
    return (
        f"Model {name}: the mean probability over seeds, each image by networks that had seen "
        "neither it nor its patient. Malignant is a probability of one half or more. Intervals "
        "(95 %) resample patients, not trainings, and are not corrected for the number of groups; "
        "a group with fewer than ten malignant or benign images is not measured."
    )


def _line(key: tuple[str, str], row: pd.Series) -> str:
    name = "all images" if key[0] == "all" else f"{key[0]}: {key[1]}"
    cells = [name, f"{row['n']:,} ({row['n_malignant']:,})"]
    if row["note"]:
        cells += [row["note"], "", "", ""]
    else:
        cells += [_with_ends(row, score) for score in _SHOWN]
    return "| " + " | ".join(cells) + " |"


def _with_ends(row: pd.Series, score: str) -> str:
    return f"{row[score]:.2f} ({row[f'{score}_low']:.2f} to {row[f'{score}_high']:.2f})"


def _spread(label: str, table: pd.DataFrame) -> str:
    """Name the groups that are told apart worst and best."""
    from iavlib.stats import NOT_RECORDED

    levels = table.index.get_level_values("level")
    measured = table[(table["note"] == "") & (levels != "all") & (levels != NOT_RECORDED)]
    if len(measured) < 2:
        return ""
    ends = [measured["auroc"].idxmin(), measured["auroc"].idxmax()]
    worst, best = (f"{key[0]} {key[1]}, {_with_ends(measured.loc[key], 'auroc')}" for key in ends)
    return (
        f"Of the {len(measured)} groups on record, “{label}” tells malignant from benign worst in "
        f"{worst}, and best in {best}. Of so many groups some differ by chance."
    )
