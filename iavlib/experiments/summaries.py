"""Many runs in a few rows: by model, by size of the training part, by backbone and seed."""

from __future__ import annotations

import pandas as pd

from iavlib.experiments.store import FINISHED
from iavlib.stats import paired_differences

_ALIKE = ["model", "backbone", "train_share"]


def model_name(row: pd.Series) -> str:
    """Name the model of a run: by its label where it has one, else by backbone and recipe."""
    return row["label"] or f"{row['backbone']}, {row['recipe']}"


def run_summary(runs: pd.DataFrame) -> pd.DataFrame:
    """Sum up runs that differ in fold or seed only.

    Parameters
    ----------
    runs : pandas.DataFrame
        Rows of :func:`iavlib.experiments.sweep` or :func:`iavlib.experiments.read_results`.

    Returns
    -------
    pandas.DataFrame
        Indexed by ``model``: ``backbone``, ``weights``, ``share`` of the training patients, runs
        ``finished`` ``of`` those listed, ``origin`` of the finished ones, mean ``train`` images,
        mean and standard deviation of ``mae``, mean ``pearson`` and ``reduction``.
    """
    rows = []
    named = runs.assign(model=runs.apply(model_name, axis=1))
    for (model, backbone, share), group in named.groupby(_ALIKE, sort=False):
        done = group[group["status"] == FINISHED]
        source = done["weights_source"] if "weights_source" in done else done["weights"]
        weights = ", ".join(sorted(set(source if len(done) else group["weights"])))
        rows.append(
            {
                "model": model,
                "backbone": backbone,
                "weights": weights.replace("none", "none (random)"),
                "share": share,
                "finished": len(done),
                "of": len(group),
                "origin": ", ".join(sorted(set(done["origin"]))),
                "train": done["n_train"].mean() if "n_train" in done else float("nan"),
                **{
                    name: done[name].mean() if name in done else float("nan")
                    for name in ("mae", "pearson", "reduction")
                },
                "mae_sd": done["mae"].std() if "mae" in done else float("nan"),
            }
        )
    return pd.DataFrame(rows).set_index("model")


def learning_runs(runs: pd.DataFrame) -> pd.DataFrame:
    """Arrange the runs of models that were also trained on shares of the images.

    Returns
    -------
    pandas.DataFrame
        ``model``, ``n_train`` (the mean over runs of one share, which differ by a few images) and
        ``error``, as :func:`iavlib.plots.learning_curve` takes them.
    """
    done = runs[runs["status"] == FINISHED]
    done = done.assign(model=done.apply(model_name, axis=1))
    mine = done[done["model"].isin(done.loc[done["train_share"] < 1, "model"])]
    size = mine.groupby(["model", "train_share"])["n_train"].transform("mean").round().astype(int)
    return mine.assign(n_train=size, error=mine["mae"])[["model", "n_train", "error"]]


def errors_by_backbone(runs: pd.DataFrame, measure: str = "mae") -> pd.DataFrame:
    """Arrange finished runs' errors by seed (rows) and backbone (columns).

    Parameters
    ----------
    runs : pandas.DataFrame
        Rows of :func:`iavlib.experiments.sweep` or :func:`iavlib.experiments.read_results`.
    measure : str
        A column.

    Returns
    -------
    pandas.DataFrame
        Empty where nothing is finished; NaN where one run is missing.
    """
    done = runs[runs["status"] == FINISHED]
    if done.empty:
        return pd.DataFrame()
    return done.pivot_table(index="seed", columns="backbone", values=measure, sort=False)


def lead(errors: pd.DataFrame, model: str) -> dict:
    """Say by how much a model errs less than the best of the others, over seeds.

    Returns
    -------
    dict
        ``value`` (its error minus that of the other with the least mean error, negative where it
        is best) and ``interval`` (t interval over seeds).
    """
    whole = errors.dropna()
    other = whole.drop(columns=model).mean().idxmin()
    row = paired_differences(whole[[model, other]], model).iloc[0]
    sign = 1 if row["first"] == model else -1
    ends = sorted((sign * row["ci_low"], sign * row["ci_high"]))
    return {"value": sign * row["difference"], "interval": tuple(ends)}
