"""The diagnosis by sex, age and site for the model card, by networks that had not seen an image.

Runs of this machine and stored results alike; the page around them is ``book/model_card.md``.
"""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from iavlib.book.model_card import patient_facts
from iavlib.execution.project import Project

_COHORT, _STEM, _PROFILE = "imapp", "04_mtl_diagnosis", "paper"
_ALPHA, _DRAWS = 0.5, 500
_SHOWN = ("auroc", "balanced_accuracy", "sensitivity", "specificity")
_NOTHING = (
    "No predictions of malignancy for all images of IMA++ by runs that had not seen them are "
    "stored with this book or finished on this machine; notebook "
    "{doc}`/notebooks/04_mtl_diagnosis` says how to make them.\n"
)
_NO_FACTS = (
    "Sex, age and site are in the tables of IMA++, which are not at hand on the machine that made "
    "this book (`iav data fetch imapp`): subgroups were not measured.\n\n"
)
_HEADER = (
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
        return _NOTHING
    facts = patient_facts(_COHORT)
    told = "" if facts is not None else _NO_FACTS
    return told + "\n".join(_table(*model, facts) for model in _models(runs))


def _compared_models(project: Project) -> pd.DataFrame:
    """Find the runs of both arms whose folds together judge every image."""
    from iavlib.experiments.evaluation import whole_models
    from iavlib.experiments.notebook import read_results
    from iavlib.experiments.results.diagnosis import IMAGENET, MULTI, SINGLE, describe_arms

    runs = whole_models(read_results(_PROFILE, _STEM, _COHORT, project=project))
    if runs.empty:
        return runs
    runs = describe_arms(runs)
    weighed = (runs["arm"] == SINGLE) | ((runs["arm"] == MULTI) & (runs["alpha"] == _ALPHA))
    return runs[weighed & (runs["start"] == IMAGENET)]


def _models(runs: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Go through the models: name, where their results are from, and probabilities by image."""
    from iavlib.experiments.results.diagnosis import held_out_predictions
    from iavlib.experiments.results.gains import mean_over_runs

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
        n_boot=_DRAWS,
    )
    lines = [_line(key, row) for key, row in table.iterrows()]
    return f"{_opening(name)}\n\n{_HEADER}\n" + "\n".join(lines) + f"\n\n{_spread(label, table)}\n"


def _opening(name: str) -> str:
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
    from iavlib.stats.diagnosis.subgroups import NOT_RECORDED

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
