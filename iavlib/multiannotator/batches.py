"""Batches of pictures with the label maps of several annotators, which are turned together.

The counterpart of :class:`iavlib.training.batches.ImageBatches`, whose targets are numbers: what
turns a picture must turn its labels too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from iavlib.core.errors import TrainingError
from iavlib.multiannotator.dataset import MultiAnnotatorSet
from iavlib.training.hardware import choose_device

#: What moves pixels and labels alike; ``flips``: multiples of 90 degrees (180 where pictures are
#: not square) and mirroring, each picture for itself.
AUGMENTATIONS = ("none", "flips")


class LabelledBatches:
    """Pictures of a set with targets, on the device that trains.

    Parameters
    ----------
    labelled : MultiAnnotatorSet
    targets : mapping of str to numpy.ndarray, shape (n, ...)
        Whole numbers keep their type, all others become float32. Those whose last two axes are
        height and width are turned with their pictures.
    mean, std : sequence of float
        One a channel, by which pictures from 0 to 1 are normalised.
    device : str or torch.device
    key : str
        What else a run depends on, for :attr:`fingerprint`.

    Attributes
    ----------
    ids : pandas.Index
    device : torch.device
    """

    def __init__(
        self,
        labelled: MultiAnnotatorSet,
        targets: Mapping[str, np.ndarray],
        mean: Sequence[float],
        std: Sequence[float],
        device: str | torch.device = "auto",
        key: str = "",
    ):
        self.ids: pd.Index = labelled.ids
        self.device = choose_device(device)
        self._images = torch.from_numpy(np.ascontiguousarray(labelled.images)).to(self.device)
        self._shape = labelled.images.shape[1:3]
        self._targets = {}
        for name, values in targets.items():
            if len(values) != len(self.ids):
                raise TrainingError(f"{len(values)} values of {name!r} for {len(self.ids)} images")
            values = np.asarray(values)
            whole = values if values.dtype.kind in "iu" else values.astype(np.float32)
            self._targets[name] = torch.from_numpy(np.ascontiguousarray(whole)).to(self.device)
        self._mean = torch.tensor(mean, device=self.device, dtype=torch.float32)[:, None, None]
        self._std = torch.tensor(std, device=self.device, dtype=torch.float32)[:, None, None]
        self._key = repr((labelled.fingerprint, tuple(mean), tuple(std), key))

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def fingerprint(self) -> str:
        """Twelve hexadecimal digits that change with pictures, labels, targets and the key."""
        digest = hashlib.sha256(self._key.encode())
        for name, values in self._targets.items():
            digest.update(name.encode() + values.cpu().numpy().tobytes())
        return digest.hexdigest()[:12]

    def stream(
        self,
        plan: Sequence[np.ndarray],
        generator: torch.Generator | None = None,
        augmentation: str = "none",
    ) -> Iterator[dict[str, Tensor]]:
        """Put the batches of a plan together, one after the other."""
        for indices in plan:
            yield self.batch(indices, generator, augmentation)

    def batch(
        self,
        indices: Sequence[int],
        generator: torch.Generator | None = None,
        augmentation: str = "none",
    ) -> dict[str, Tensor]:
        """Put one batch together.

        Parameters
        ----------
        indices : sequence of int
            Positions in ``ids``.
        generator : torch.Generator, optional
            Of the CPU.
        augmentation : str
            Name in :data:`AUGMENTATIONS`.

        Returns
        -------
        dict of str to torch.Tensor
            ``images``, float32 of shape (b, channels, height, width), normalised, channels last;
            ``index``, the positions, on the CPU; and each target.

        Raises
        ------
        TrainingError
            If label maps cannot follow this augmentation.
        """
        if augmentation not in AUGMENTATIONS:
            raise TrainingError(
                f"label maps cannot follow augmentation {augmentation!r}; "
                f"choose {' or '.join(AUGMENTATIONS)}"
            )
        index = torch.from_numpy(np.asarray(indices, np.int64))
        there = index.to(self.device)
        found = {name: values[there] for name, values in self._targets.items()}
        images = normalised(self._images[there], self._mean, self._std)
        if augmentation == "flips":
            turns = _draw_turns(len(index), self._shape, generator)
            images = _turn(images, turns)
            for name, values in found.items():
                if values.ndim >= 3 and tuple(values.shape[-2:]) == self._shape:
                    found[name] = _turn(values, turns)
        images = images.contiguous(memory_format=torch.channels_last)
        return {"images": images, "index": index, **found}


def normalised(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Bring pictures (b, height, width, channels), bytes or 0 to 1, to (b, channels, ...)."""
    values = images.float() / 255 if images.dtype == torch.uint8 else images.float()
    return (values.permute(0, 3, 1, 2) - mean) / std


def channel_statistics(images: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Compute mean and standard deviation of each channel, of values from 0 to 1.

    A channel of one value has the deviation 1.
    """
    scale = 255 if images.dtype == np.uint8 else 1
    flat = images.reshape(-1, images.shape[-1])
    mean, std = flat.mean(0, dtype=np.float64) / scale, flat.std(0, dtype=np.float64) / scale
    return tuple(mean.tolist()), tuple(np.where(std > 0, std, 1.0).tolist())


def _draw_turns(n: int, shape: tuple[int, int], generator) -> Tensor:
    """Draw one of eight turns a picture: quarters of a circle, and four more if mirrored."""
    turns = torch.randint(0, 8, (n,), generator=generator)
    return turns if shape[0] == shape[1] else turns - turns % 2


def _turn(values: Tensor, turns: Tensor) -> Tensor:
    result = values.clone()
    for turn in turns.unique().tolist():
        which = (turns == turn).to(values.device)
        some = values[which]
        some = some.flip(-1) if turn >= 4 else some
        result[which] = torch.rot90(some, turn % 4, (-2, -1))
    return result
