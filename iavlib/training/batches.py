"""Batches of cached images and their targets, put together on the device that trains.

Where cached pixels lie while a network trains: on the device, or mapped from disk.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from iavlib.core.errors import TrainingError
from iavlib.training.augment import affine_, augment
from iavlib.training.hardware import choose_device
from iavlib.training.image_cache import ImageCache

_SHARE = 1 / 3  # of the device's free memory that pixels may fill
_BLOCK = 256  # images whose values are counted at a time


class Pixels:
    """The images of a cache, for one device.

    Parameters
    ----------
    cache : ImageCache
    device : str or torch.device
    memory : {"auto", "device", "host"}
        See :meth:`iavlib.training.batches.ImageBatches.from_cache`.

    Attributes
    ----------
    device : torch.device
    resident : bool
        Whether the images lie in the device's memory. On a CPU they always do: the system keeps
        what is read of the file in memory as long as there is room.
    ahead : bool
        Whether it pays to read a batch while another is trained on.
    """

    def __init__(self, cache: ImageCache, device: str | torch.device = "auto", memory="auto"):
        if memory not in ("auto", "device", "host"):
            raise TrainingError(f"memory is {memory!r}, it must be auto, device or host")
        self.device, self.key, self.size = choose_device(device), cache.key, cache.size
        self._pixels = torch.from_numpy(np.asarray(cache.pixels))
        on_gpu = self.device.type == "cuda"
        if memory == "auto" and on_gpu:
            free, _ = torch.cuda.mem_get_info(self.device)
            memory = "device" if self._pixels.nbytes < _SHARE * free else "host"
        self.resident = not on_gpu or memory == "device"
        self.ahead = not self.resident
        if on_gpu and self.resident:
            self._pixels = self._pixels.to(self.device)

    def rows(self, rows: Tensor) -> Tensor:
        """Return some images as uint8 of shape (b, size, size, 3); pinned where they must move."""
        rows = rows.to(self._pixels.device)
        chosen = self._pixels.index_select(0, rows)
        return chosen.pin_memory() if self.ahead else chosen


def channel_statistics(pixels: np.ndarray, rows: np.ndarray) -> tuple[tuple, tuple]:
    """Compute mean and standard deviation of each channel over all pixels of some images.

    Parameters
    ----------
    pixels : numpy.ndarray of uint8, shape (n, size, size, 3)
    rows : numpy.ndarray of int
        The images that count; those of the training part.

    Returns
    -------
    mean, std : tuple of three floats
        Of values from 0 to 1, exact but for the last digits. A channel of one value has the
        deviation 1.

    Raises
    ------
    TrainingError
        If there is no image.
    """
    if len(rows) == 0:
        raise TrainingError("mean and std of no images: the training part is empty")
    counts = np.zeros((3, 256))
    for start in range(0, len(rows), _BLOCK):
        block = pixels[rows[start : start + _BLOCK]].reshape(-1, 3)
        for channel in range(3):
            counts[channel] += np.bincount(block[:, channel], minlength=256)
    share, values = counts / counts.sum(1, keepdims=True), np.arange(256) / 255
    mean = share @ values
    std = np.sqrt((share * (values - mean[:, None]) ** 2).sum(1))
    return tuple(mean.tolist()), tuple(np.where(std > 0, std, 1.0).tolist())


class ImageBatches:
    """Images with their targets, any of which make a batch.

    Parameters
    ----------
    pixels : Pixels
        All images of a cache, in which these images are rows.
    ids : pandas.Index
        Ids of these images.
    rows : numpy.ndarray of int, shape (n,)
        Their rows in `pixels`.
    targets : mapping of str to numpy.ndarray, shape (n, ...)
        Whole numbers become int64, all others float32.
    mean, std : sequence of three floats
        By which images from 0 to 1 are normalised.

    Attributes
    ----------
    ids : pandas.Index
    device : torch.device
    mean, std : tuple of float
    """

    def __init__(self, pixels: Pixels, ids, rows, targets: Mapping[str, np.ndarray], mean, std):
        self._pixels, self.ids, self._rows = pixels, pd.Index(ids), np.asarray(rows, np.int64)
        self.device = pixels.device
        self.mean, self.std = tuple(map(float, mean)), tuple(map(float, std))
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise TrainingError(f"normalising takes three means and deviations, not {mean}, {std}")
        self._targets = {}
        for name, values in targets.items():
            if name in ("images", "index"):
                raise TrainingError(f"a target cannot be called {name!r}: batches use the name")
            if len(values) != len(self.ids):
                raise TrainingError(f"{len(values)} values of {name!r} for {len(self.ids)} images")
            self._targets[name] = _tensor(name, values).to(self.device)
        self._scale = torch.tensor(self.std, device=self.device).reciprocal()
        self._shift = -torch.tensor(self.mean, device=self.device) * self._scale

    @classmethod
    def from_cache(
        cls,
        cache: ImageCache,
        targets: pd.DataFrame,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        train=None,
        device: str | torch.device = "auto",
        memory: str = "auto",
    ) -> ImageBatches:
        """Take images of a cache, with a table of targets.

        Parameters
        ----------
        cache : ImageCache
        targets : pandas.DataFrame
            Indexed by image id; one column a target. Decides which images there are.
        mean, std : sequence of three floats, optional
            Of the network's weights. Without them, those of the training part are computed.
        train : sequence of str, optional
            Ids of the training part; only needed without `mean` and `std`.
        device : str or torch.device
            "auto" is a GPU if there is one.
        memory : {"auto", "device", "host"}
            Where pixels lie: on the device while they fill less than a third of what is free
            there, else mapped from disk and copied batch by batch.

        Raises
        ------
        TrainingError
            If normalisation is not given and the training part neither.
        KeyError
            If an image is not in the cache.
        """
        rows = cache.rows(targets.index)
        if (mean is None) != (std is None):
            raise TrainingError("give both mean and std, or neither")
        if mean is None:
            if train is None:
                raise TrainingError(
                    "the weights bring no mean and std: give the ids of the training part, so that "
                    "they are computed from it and from nothing else"
                )
            mean, std = channel_statistics(cache.pixels, cache.rows(train))
        columns = {str(name): targets[name].to_numpy() for name in targets}
        return cls(Pixels(cache, device, memory), targets.index, rows, columns, mean, std)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def size(self) -> int:
        """Width and height of the images in pixels."""
        return self._pixels.size

    @property
    def fingerprint(self) -> str:
        """Twelve hexadecimal digits that change with the images, targets and normalisation."""
        digest = hashlib.sha256(repr((self._pixels.key, self.mean, self.std)).encode())
        digest.update(self._rows.tobytes())
        for name, values in self._targets.items():
            digest.update(name.encode() + values.cpu().numpy().tobytes())
        return digest.hexdigest()[:12]

    def target(self, name: str) -> np.ndarray:
        """Return the values of a target, in the order of ``ids``.

        Raises
        ------
        TrainingError
            If there is no such target.
        """
        if name not in self._targets:
            known = ", ".join(self._targets) or "none"
            raise TrainingError(f"there is no target {name!r}; there are: {known}")
        return self._targets[name].cpu().numpy()

    def select(self, ids) -> ImageBatches:
        """Return some of the images, in the order given; pixels are shared.

        Raises
        ------
        KeyError
            If an image is not among these.
        """
        chosen = self.ids.get_indexer(pd.Index(ids))
        if (chosen < 0).any():
            unknown = pd.Index(ids)[chosen < 0]
            raise KeyError(f"no image {', '.join(map(str, unknown[:5]))} ({len(unknown)} unknown)")
        targets = {name: values.cpu().numpy()[chosen] for name, values in self._targets.items()}
        rows = self._rows[chosen]
        return ImageBatches(self._pixels, self.ids[chosen], rows, targets, self.mean, self.std)

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
            Of the CPU; what augmentation draws from.
        augmentation : str
            Name in :data:`iavlib.training.augment.AUGMENTATIONS`.

        Returns
        -------
        dict of str to torch.Tensor
            ``images``, float32 of shape (b, 3, size, size), normalised, channels last;
            ``index``, the positions, on the CPU; and each target.
        """
        indices = np.asarray(indices, np.int64)
        return self._finish(indices, self._fetch(indices), generator, augmentation)

    def stream(
        self,
        plan: Sequence[np.ndarray],
        generator: torch.Generator | None = None,
        augmentation: str = "none",
    ) -> Iterator[dict[str, Tensor]]:
        """Put the batches of a plan together, one after the other.

        Where pixels do not lie on the device, the next batch is read while one is trained on.
        What is read is given by the plan and what is drawn is drawn here, so that nothing depends
        on which is faster.
        """
        if not self._pixels.ahead:
            for indices in plan:
                yield self.batch(indices, generator, augmentation)
            return
        with ThreadPoolExecutor(1) as reader:
            coming = None
            for position, indices in enumerate(plan):
                fetched = self._fetch(indices) if coming is None else coming.result()
                if position + 1 < len(plan):
                    coming = reader.submit(self._fetch, plan[position + 1])
                yield self._finish(indices, fetched, generator, augmentation)

    def _fetch(self, indices: np.ndarray) -> Tensor:
        return self._pixels.rows(torch.from_numpy(self._rows[indices]))

    def _finish(self, indices, pixels: Tensor, generator, augmentation: str) -> dict[str, Tensor]:
        pixels = pixels.to(self.device, non_blocking=True).permute(0, 3, 1, 2)
        images = augment(pixels, augmentation, generator)
        affine_(images.permute(0, 2, 3, 1), self._scale, self._shift)
        index = torch.from_numpy(np.asarray(indices))
        there = index.to(self.device, non_blocking=True)
        targets = {name: values[there] for name, values in self._targets.items()}
        return {"images": images, "index": index, **targets}


def plan_batches(n: int, batch_size: int, drop_last: bool, order: np.ndarray) -> list[np.ndarray]:
    """Cut an order of images into batches of two images or more.

    Parameters
    ----------
    n : int
        Number of images.
    batch_size : int
    drop_last : bool
        Leave out the images that fill no batch, unless they are all there are.
    order : numpy.ndarray of int, shape (n,)

    Returns
    -------
    list of numpy.ndarray
        One image left over joins the batch before it: BatchNorm has no use for a batch of one.

    Raises
    ------
    TrainingError
        If there are fewer than two images.
    """
    if n < 2:
        raise TrainingError(f"training takes two images or more, and there are {n}")
    plan = [order[start : start + batch_size] for start in range(0, n, batch_size)]
    if len(plan) > 1 and len(plan[-1]) < batch_size:
        if drop_last:
            plan.pop()
        elif len(plan[-1]) == 1:
            plan[-2:] = [np.concatenate(plan[-2:])]
    return plan


def _tensor(name: str, values) -> Tensor:
    values = np.asarray(values)
    try:
        whole = values.dtype.kind in "iub"
        return torch.from_numpy(values.astype(np.int64 if whole else np.float32))
    except (TypeError, ValueError):
        raise TrainingError(f"target {name!r} is of {values.dtype}, not of numbers") from None
