"""What can stop a training run, said in a way that names the place and the mend."""

from collections.abc import Sequence


class TrainingError(ValueError):
    """A recipe, a set of batches or a target is not what training needs."""


class CheckpointError(RuntimeError):
    """A checkpoint cannot be written, cannot be read, or belongs to another run."""


class NonFiniteLossError(RuntimeError):
    """The loss was NaN or infinite; the weights are of no use from here on.

    Attributes
    ----------
    ids : list of str
        Ids of the images of that batch.
    epoch, step : int
        Counted from 0.
    """

    def __init__(self, value: float, ids: Sequence[str], epoch: int, step: int):
        self.ids, self.epoch, self.step = [str(name) for name in ids], epoch, step
        super().__init__(
            f"the loss is {value} in epoch {epoch}, step {step}, whose batch held "
            f"{len(self.ids)} images: {', '.join(self.ids)}. Look at these images and their "
            "targets; if they are in order, lower lr, or use precision fp32 or bf16."
        )
