"""How a network is trained, as one value: optimiser, schedule, batches, what is kept."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

from iavlib.core.errors import TrainingError, suggest

_CHOICES = {
    "optimizer": ("sgd", "adam", "adamw"),
    "schedule": ("step", "cosine", "constant"),
    "precision": ("fp32", "bf16", "fp16"),
    "augmentation": ("none", "paper", "flips", "student", "ours"),
}
_NUMBERS = ("lr", "momentum", "weight_decay", "gamma", "dropout", "warmup_epochs", "l2sp")
_NUMBERS += ("backbone_lr_factor",)
_MAYBE_NUMBERS = ("ema", "clip_norm", "patience")
_TRUTHS = ("nesterov", "decay_norms", "drop_last", "freeze_batchnorm")
_WHOLE = ("freeze_epochs", "patience")
_AT_LEAST_ONE = ("epochs", "batch_size", "eval_batch_size", "num_aug", "step_size")
_NOT_NEGATIVE = ("weight_decay", "momentum", "warmup_epochs", "freeze_epochs", "l2sp")


@dataclass(frozen=True)
class Recipe:
    """All choices of a training run but the network, the data and the seed.

    Attributes
    ----------
    name : str
    loss : str
        Name in :data:`iavlib.training.losses.LOSSES`; the objective reads it.
    head, dropout : str and float
        Kind of head and its dropout, for whoever builds the network.
    optimizer : {"sgd", "adam", "adamw"}
    lr : float
        Learning rate of the heads, and of the backbone times ``backbone_lr_factor``.
    momentum, nesterov : float and bool
        Of SGD only.
    weight_decay : float
    decay_norms : bool
        Whether biases and normalisation weights decay too, as in the paper.
    schedule : {"step", "cosine", "constant"}
        step: lr times ``gamma`` every ``step_size`` epochs. cosine: from lr to nothing, by steps.
    warmup_epochs : float
        The learning rate rises linearly over these, counted from the end of ``freeze_epochs``.
    epochs : int
        All of them, those with a frozen backbone included.
    batch_size, eval_batch_size : int
    num_aug : int
        Passes over the training images an epoch.
    drop_last : bool
        Leave out what does not fill a batch, as the paper; else the last batch is smaller, and
        one image left over joins the batch before it.
    augmentation : str
        Name in :data:`iavlib.training.augment.AUGMENTATIONS`.
    label_transform : {"none", "logit"}
        For whoever prepares targets.
    select : tuple of str, optional
        Validation metric and "min" or "max": the epoch whose weights are kept, the first among
        equals. None keeps the last.
    select_above : float, optional
        What the metric must be above (or below, with "min") for an epoch to be kept at all. The
        paper's code starts its search for the best balanced accuracy at 0.
    patience : int, optional
        Stop after so many epochs without a better one.
    ema : float, optional
        Decay of the exponential moving average of the weights, which then is what is validated
        and kept. It grows from (1 + n) / (10 + n) after n steps to this value.
    freeze_epochs : int
        The backbone is frozen, its normalisation too, for so many epochs at first.
    backbone_lr_factor : float
    freeze_batchnorm : bool
        The backbone's BatchNorm keeps the statistics it starts with.
    l2sp : float
        Strength of the pull of the backbone towards its starting weights (Li, Grandvalet and
        Davoine 2018), in place of a pull towards zero.
    clip_norm : float, optional
        Largest norm of the gradient.
    precision : {"fp32", "bf16", "fp16"}
        Of autocast, over forward pass and loss.
    """

    name: str = "custom"
    loss: str = "smooth_l1"
    head: str = "paper"
    dropout: float = 0.5
    optimizer: str = "adamw"
    lr: float = 1e-3
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 1e-4
    decay_norms: bool = False
    schedule: str = "cosine"
    step_size: int = 10
    gamma: float = 0.1
    warmup_epochs: float = 0.0
    epochs: int = 20
    batch_size: int = 32
    eval_batch_size: int = 64
    num_aug: int = 1
    drop_last: bool = False
    augmentation: str = "ours"
    label_transform: str = "none"
    select: tuple[str, str] | None = ("mae", "min")
    select_above: float | None = None
    patience: int | None = None
    ema: float | None = None
    freeze_epochs: int = 0
    backbone_lr_factor: float = 1.0
    freeze_batchnorm: bool = False
    l2sp: float = 0.0
    clip_norm: float | None = None
    precision: str = "fp32"

    def __post_init__(self):
        if isinstance(self.select, list):  # as YAML and JSON give it
            object.__setattr__(self, "select", tuple(self.select))
        for field, known in _CHOICES.items():
            _check(self, field, getattr(self, field) in known, f"one of {', '.join(known)}")
        self._check_types()
        for field in _AT_LEAST_ONE:
            value = getattr(self, field)
            _check(self, field, _is_whole(value) and value >= 1, "a whole number from 1")
        for field in _NOT_NEGATIVE:
            _check(self, field, getattr(self, field) >= 0, "0 or more")
        _check(self, "lr", self.lr > 0, "above 0")
        _check(self, "batch_size", self.batch_size > 1, "2 or more, as BatchNorm needs")
        _check(self, "backbone_lr_factor", self.backbone_lr_factor >= 0, "0 or more")
        _check(self, "ema", self.ema is None or 0 <= self.ema < 1, "None, or from 0 to below 1")
        _check(self, "patience", self.patience is None or self.patience >= 1, "None, or 1 or more")
        _check(self, "clip_norm", self.clip_norm is None or self.clip_norm > 0, "None or above 0")
        good = self.select is None or (len(self.select) == 2 and self.select[1] in ("min", "max"))
        _check(self, "select", good, 'None, or a metric and "min" or "max"')
        stops = self.patience is None or self.select is not None
        _check(self, "patience", stops, "None where select is None")

    def _check_types(self) -> None:
        for field in _NUMBERS:
            _check(self, field, _is_number(getattr(self, field)), "a number")
        for field in _MAYBE_NUMBERS:
            value = getattr(self, field)
            _check(self, field, value is None or _is_number(value), "a number, or None")
        for field in _TRUTHS:
            _check(self, field, isinstance(getattr(self, field), bool), "True or False")
        for field in _WHOLE:
            value = getattr(self, field)
            _check(self, field, value is None or _is_whole(value), "a whole number")

    def to_dict(self) -> dict:
        """Return the fields as JSON can hold them."""
        fields = dataclasses.asdict(self)
        return {**fields, "select": list(self.select) if self.select else None}


def _is_number(value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_whole(value) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _check(recipe: Recipe, field: str, good: bool, must: str) -> None:
    if not good:
        raise TrainingError(
            f"recipe {recipe.name!r}: {field} is {getattr(recipe, field)!r}, it must be {must}"
        )


#: The recipes by name. "paper" and "paper_finetune" are the published ones; "student" the
#: contradicting report's.
RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe(
            name="paper",
            optimizer="sgd",
            lr=0.01,
            decay_norms=True,
            schedule="step",
            epochs=50,
            num_aug=3,
            drop_last=True,
            augmentation="paper",
            precision="fp16",
        ),
        Recipe(
            name="paper_finetune",
            optimizer="sgd",
            lr=0.001,
            decay_norms=True,
            schedule="step",
            step_size=3,
            epochs=15,
            num_aug=3,
            drop_last=True,
            augmentation="paper",
            precision="fp16",
        ),
        Recipe(
            name="modern",
            loss="beta_nll",
            head="beta",
            weight_decay=0.05,
            warmup_epochs=2,
            epochs=30,
            patience=8,
            ema=0.99,
            backbone_lr_factor=0.1,
            clip_norm=1.0,
            precision="bf16",
        ),
        Recipe(
            name="finetune",
            loss="mae",
            head="linear",
            dropout=0.3,
            lr=3e-4,
            weight_decay=1e-4,
            warmup_epochs=0.8,
            epochs=8,
            ema=0.99,
            backbone_lr_factor=0.33,
            freeze_batchnorm=True,
            clip_norm=1.0,
            augmentation="flips",
            precision="bf16",
        ),
        Recipe(
            name="student",
            loss="mse",
            head="linear",
            dropout=0.0,
            optimizer="adam",
            lr=1e-4,
            weight_decay=0.0,
            decay_norms=True,
            schedule="constant",
            epochs=10,
            augmentation="student",
            select=("mse", "min"),
            patience=3,
        ),
        Recipe(  # of segmentation by several annotators: the last epoch, for the truth is unknown
            name="annotators",
            lr=1e-2,
            weight_decay=1e-5,
            warmup_epochs=1,
            epochs=40,
            batch_size=16,
            augmentation="none",
            select=None,
        ),
        Recipe(  # that of the confusion-matrix method's released notebook of digits
            name="annotators-released",
            lr=1e-2,
            weight_decay=1e-5,
            decay_norms=True,
            schedule="constant",
            epochs=40,
            batch_size=5,
            augmentation="none",
            select=None,
        ),
        Recipe(
            name="smoke",
            optimizer="sgd",
            lr=0.01,
            schedule="step",
            epochs=2,
            batch_size=8,
            eval_batch_size=16,
            augmentation="flips",
        ),
    )
}


def get_recipe(name: str, **overrides) -> Recipe:
    """Return a recipe by name, with some fields changed.

    Parameters
    ----------
    name : str
        Name in :data:`RECIPES`.
    **overrides
        Fields of :class:`Recipe`.

    Raises
    ------
    TrainingError
        If the recipe or a field is unknown, or a value cannot be; near names are suggested.
    """
    if name not in RECIPES:
        raise TrainingError(f"there is no recipe {name!r}; {suggest(name, RECIPES)}")
    fields = [field.name for field in dataclasses.fields(Recipe) if field.name != "name"]
    for field in overrides:
        if field not in fields:
            raise TrainingError(f"a recipe has no field {field!r}; {suggest(field, fields)}")
    return dataclasses.replace(RECIPES[name], **overrides)
