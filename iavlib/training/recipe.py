"""How a network is trained, as one value: optimiser, schedule, batches, what is kept."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from iavlib.core.errors import TrainingError, suggest
from iavlib.core.settings import Settings, read_settings, read_yaml

Count = Annotated[int, Field(ge=1)]
NonNegative = Annotated[float, Field(ge=0)]


class Recipe(Settings):
    """All choices of a training run but the network, the data and the seed.

    Attributes
    ----------
    name : str
    loss : str
        Name in :data:`iavlib.training.losses.LOSSES`; the objective reads it.
    head, dropout : str and float
        Kind of head and its dropout, used where the network is built.
    optimizer : {"sgd", "adam", "adamw"}
    lr : float
        Learning rate of the heads, and of the backbone times ``backbone_lr_factor``.
    momentum, nesterov : float and bool
        Of SGD only.
    weight_decay : float
    decay_norms : bool
        Whether biases and normalisation weights decay too, as in the paper.
    schedule : {"step", "cosine", "constant", "plateau"}
        step: lr times ``gamma`` every ``step_size`` epochs. cosine: from lr to nothing, by steps.
        plateau: lr times ``gamma`` where ``select`` was not better for more than ``step_size``
        epochs.
    warmup_epochs : float
        Epochs of linear warm-up of the learning rate.
    epochs : int
        In total, warm-up included.
    batch_size, eval_batch_size : int
    num_aug : int
        Passes over the training images per epoch.
    drop_last : bool
        Leave out what does not fill a batch, as the paper; else the last batch is smaller, and
        one image left over joins the batch before it.
    augmentation : str
        Name in :data:`iavlib.training.augment.AUGMENTATIONS`.
    label_transform : {"none", "logit"}
        Applied by the code that prepares targets.
    select : tuple of str, optional
        Validation metric and "min" or "max": the epoch whose weights are kept, the first among
        equals. None keeps the last.
    select_above : float, optional
        What the metric must be above (or below, with "min") for an epoch to be kept at all. The
        paper's code starts its search for the best balanced accuracy at 0.
    patience : int, optional
        Number of epochs without a better one after which training stops.
    ema : float, optional
        Decay of the exponential moving average of the weights, which then is what is validated
        and kept. It grows from (1 + n) / (10 + n) after n steps to this value.
    backbone_lr_factor : float
    freeze_batchnorm : bool
        The backbone's BatchNorm keeps the statistics it starts with.
    clip_norm : float, optional
        Largest norm of the gradient.
    precision : {"fp32", "bf16", "fp16"}
        Of autocast, over forward pass and loss.
    """

    name: str = "custom"
    loss: str = "smooth_l1"
    head: str = "paper"
    dropout: float = 0.5
    optimizer: Literal["sgd", "adam", "adamw"] = "adamw"
    lr: Annotated[float, Field(gt=0)] = 1e-3
    momentum: NonNegative = 0.9
    nesterov: bool = True
    weight_decay: NonNegative = 1e-4
    decay_norms: bool = False
    schedule: Literal["step", "cosine", "constant", "plateau"] = "cosine"
    step_size: Count = 10
    gamma: float = 0.1
    warmup_epochs: NonNegative = 0.0
    epochs: Count = 20
    batch_size: Annotated[int, Field(ge=2)] = 32  # BatchNorm needs two images
    eval_batch_size: Count = 64
    num_aug: Count = 1
    drop_last: bool = False
    augmentation: Literal["none", "paper", "flips", "student", "ours"] = "ours"
    label_transform: Literal["none", "logit"] = "none"
    select: tuple[str, Literal["min", "max"]] | None = ("mae", "min")
    select_above: float | None = None
    patience: Count | None = None
    ema: Annotated[float, Field(ge=0, lt=1)] | None = None
    backbone_lr_factor: NonNegative = 1.0
    freeze_batchnorm: bool = False
    clip_norm: Annotated[float, Field(gt=0)] | None = None
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"

    @model_validator(mode="after")
    def _check_patience(self):
        if self.patience is not None and self.select is None:
            raise ValueError(f"patience is {self.patience}, it should be None where select is None")
        if self.schedule == "plateau" and self.select is None:
            raise ValueError("schedule is plateau, which needs select")
        return self


#: The recipes by name; ``recipes.yml`` lists what differs from the defaults.
RECIPES = {
    name: Recipe(name=name, **fields)
    for name, fields in read_yaml(Path(__file__).with_name("recipes.yml")).items()
    if not name.startswith("_")
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
    values = RECIPES[name].model_dump() | overrides
    return read_settings(Recipe, values, f"recipe {name!r}", TrainingError)
