"""What an experiment may set beside the fields of a recipe; nothing here needs PyTorch."""

from __future__ import annotations

from typing import Any

from iavlib.errors import suggest
from iavlib.experiments.errors import ExperimentError
from iavlib.experiments.spec import Experiment

PROBE = "probe"
PROBE_HEADS = ("ridge", "svr", "network")
FINETUNE = "finetune"
# recipes that reproduce others' work start as that did
_START = {"paper": "zero", "student": "zero", FINETUNE: "ridge"}
#: Setting to the values it can have; None is any whole number.
OURS: dict[str, tuple[Any, ...] | None] = {
    "tta": (1, 2, 4, 8),
    "start": ("zero", "median", "ridge"),
    "normalise": ("weights", "train"),
    "quantiles": None,
    "control": ("none", "shuffled_iaa"),
}


def split_settings(experiment: Experiment) -> tuple[dict[str, Any], dict[str, Any]]:
    """Tell apart what ``overrides`` set of a recipe and what they set of a task.

    Returns
    -------
    dict
        ``tta`` (views averaged for a prediction: 1, 2, 4 or 8), ``start`` (where predictions begin:
        ``zero``, ``median`` of the training part, or ``ridge``: a linear head as ridge regression
        on the untouched features gives it), ``normalise`` (images by what goes with the
        ``weights``, or by mean and deviation of the ``train`` part), ``quantiles`` (of a head
        of that kind) and ``control`` (``shuffled_iaa`` exchanges the agreement of training images
        by the seed, so that nothing can be learnt of it), all of them.
    dict
        The other overrides.

    Raises
    ------
    ExperimentError
        If a value is none of those possible.
    """
    chosen = {
        "tta": 4 if experiment.recipe == FINETUNE else 1,
        "start": _START.get(experiment.recipe, "median"),
        "normalise": "train" if experiment.recipe == "paper" else "weights",
        "quantiles": 5,
        "control": "none",
    }
    chosen |= {name: value for name, value in experiment.overrides.items() if name in OURS}
    for name, value in chosen.items():
        known = OURS[name]
        if known is not None and value not in known:
            raise ExperimentError(
                f"overrides.{name} = {value!r}", "is not possible", suggest_values(value, known)
            )
    fields = {name: value for name, value in experiment.overrides.items() if name not in OURS}
    return chosen, fields


def check_probe(fields: dict[str, Any]) -> None:
    """Refuse overrides that no probe has."""
    for name, value in fields.items():
        if name != "head":
            raise ExperimentError(
                f"overrides.{name}", "is nothing that a probe has", "it has head, tta, normalise"
            )
        if value not in PROBE_HEADS:
            known = ", ".join(PROBE_HEADS)
            raise ExperimentError(f"overrides.head = {value!r}", "is no head", f"known: {known}")


def check_start(start: str, head: str, label_transform: str) -> None:
    """Refuse to start at a ridge regression what is no linear head of the target itself."""
    if start == "ridge" and (head != "linear" or label_transform != "none"):
        raise ExperimentError(
            "overrides.start = 'ridge'",
            f"does not fit a head of kind {head!r} with label_transform {label_transform!r}",
            "set head: linear and label_transform: none, or start: median",
        )


def suggest_values(value: Any, known: tuple[Any, ...]) -> str:
    """Say which values are possible, the nearest first where there is one."""
    return suggest(str(value), map(str, known))
