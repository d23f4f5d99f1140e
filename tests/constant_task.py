"""A task that takes no time: it predicts the training part's median. Imported, it is registered."""

import os
import time

import pandas as pd

from iavlib.experiments import TASKS, Experiment, Outcome, Task
from iavlib.experiments.config import TaskSettings
from iavlib.experiments.scores import constant_baselines, scores_by_subset
from iavlib.experiments.tasks import assign_subsets


class ConstantSettings(TaskSettings):
    calls: str = ""
    gate: str = ""
    error: str = ""
    unless: str = ""
    shift: float = 0
    times: float = 1


def targets(cohort):
    mean = cohort.pairs.groupby("image_id")["dice"].mean()
    return mean.reindex(cohort.images.index).dropna().to_frame("target")


def fit(experiment: Experiment, cohort, folder, log) -> Outcome:
    """Do as the settings say: fail with a kind of error, wait, tell of every call in a file."""
    wishes = experiment.settings.given()
    if "calls" in wishes:
        with open(wishes["calls"], "a") as stream:
            stream.write(f"{os.getpid()}\n")
    while "gate" in wishes and not os.path.exists(wishes["gate"]):
        time.sleep(0.02)
    if "error" in wishes and not os.path.exists(wishes.get("unless", "")):
        raise {"value": ValueError, "memory": MemoryError}[wishes["error"]]("as was wished")
    table = targets(cohort)
    subsets = assign_subsets(cohort.select(table.index), experiment)
    true = table.loc[subsets.index, "target"]
    predictions = pd.DataFrame({"subset": subsets, "true": true}).rename_axis("image_id")
    shift = wishes.get("shift", 0) * wishes.get("times", 1)
    predictions["predicted"] = true[subsets == "train"].median() + shift
    predictions = predictions.reset_index()
    log("fitted")
    return Outcome(
        predictions,
        scores_by_subset(predictions) if "times" not in wishes else {},
        baselines=constant_baselines(predictions),
        weights={"source": experiment.weights, "is_random": experiment.weights == "random"},
    )


def fill_in(experiment: Experiment) -> Experiment:
    if experiment.weights == "auto":
        return experiment.replace(weights="none")
    return experiment


TASK = Task("constant", targets, fit, fill_in, ConstantSettings)
TASKS[TASK.name] = TASK
