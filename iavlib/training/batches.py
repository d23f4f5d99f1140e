"""Batches of images and their targets, assembled and augmented on the device that trains."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from iavlib.core.errors import TrainingError
from iavlib.training.augment import affine_, augment, turn
from iavlib.training.hardware import choose_device
from iavlib.training.image_cache import ImageCache

#: Augmentations that label maps can follow. ``flips``: multiples of 90 degrees (of 180 where
#: images are not square) and mirroring, drawn for each image.
JOINT_AUGMENTATIONS = ("none", "flips")
_MAX_SHARE = 1 / 3  # of the device's free memory that pixels may fill
_BLOCK = 256  # images whose values are counted at a time


class Pixels:
    """Images for one device: in its memory, or in that of the host where they would fill it.

    Parameters
    ----------
    images : numpy.ndarray, shape (n, height, width, channels)
        uint8, or float from 0 to 1; may be mapped from disk.
    device : str or torch.device

    Attributes
    ----------
    device : torch.device
    shape : tuple of int
        Height, width and channels.
    ahead : bool
        Whether pixels are copied batch by batch, so that it pays to read the next batch while one
        is trained on. Never on a CPU: the system keeps what is read of a file in memory.
    """

    def __init__(self, images: np.ndarray, device: str | torch.device = "auto"):
        self.device, self.shape = choose_device(device), images.shape[1:]
        self._pixels = torch.from_numpy(np.ascontiguousarray(images))
        self.ahead = False
        if self.device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(self.device)
            self.ahead = self._pixels.nbytes >= _MAX_SHARE * free
            if not self.ahead:
                self._pixels = self._pixels.to(self.device)

    def rows(self, rows: Tensor) -> Tensor:
        """Return some images, shape (b, height, width, channels); pinned where they must move."""
        chosen = self._pixels.index_select(0, rows.to(self._pixels.device))
        return chosen.pin_memory() if self.ahead else chosen


def channel_statistics(
    images: np.ndarray, rows: np.ndarray | None = None
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Compute mean and standard deviation of each channel over all pixels of some images.

    Parameters
    ----------
    images : numpy.ndarray, shape (n, height, width, channels)
        uint8, or float from 0 to 1.
    rows : numpy.ndarray of int, optional
        The images that count, usually those of the training split; all unless given.

    Returns
    -------
    mean, std : tuple of float
        One per channel, of values from 0 to 1, exact but for the last digits. A constant channel
        has the deviation 1.

    Raises
    ------
    TrainingError
        If there is no image.
    """
    rows = np.arange(len(images)) if rows is None else rows
    if len(rows) == 0:
        raise TrainingError("mean and std of no images: the training split is empty")
    channels = images.shape[-1]
    if images.dtype == np.uint8:
        counts = np.zeros((channels, 256))
        for start in range(0, len(rows), _BLOCK):
            block = images[rows[start : start + _BLOCK]].reshape(-1, channels)
            counts += [np.bincount(block[:, channel], minlength=256) for channel in range(channels)]
        share, values = counts / counts.sum(1, keepdims=True), np.arange(256) / 255
        mean = share @ values
        std = np.sqrt((share * (values - mean[:, None]) ** 2).sum(1))
    else:
        values = images[rows].reshape(-1, channels)
        mean, std = values.mean(0, dtype=np.float64), values.std(0, dtype=np.float64)
    return tuple(mean.tolist()), tuple(np.where(std > 0, std, 1.0).tolist())


class ImageBatches:
    """Images with their targets, any of which make a batch.

    Built by :meth:`from_cache` (photographs by id, with a table of numbers) or by
    :meth:`from_arrays` (images in memory, with numbers and label maps, which are augmented
    jointly).

    Attributes
    ----------
    ids : pandas.Index
    device : torch.device
    mean, std : tuple of float
        One per channel, by which images from 0 to 1 are normalised.
    """

    def __init__(self, pixels: Pixels, ids, rows, targets, mean, std, key: str, joint: bool):
        self._pixels, self.ids, self._rows = pixels, pd.Index(ids), np.asarray(rows, np.int64)
        self.device, self._key, self._joint = pixels.device, key, joint
        self.mean, self.std = tuple(map(float, mean)), tuple(map(float, std))
        channels = pixels.shape[-1]
        if not channels == len(self.mean) == len(self.std) or min(self.std) <= 0:
            wanted = f"{channels} means and deviations above 0"
            raise TrainingError(f"normalising takes {wanted}, not {mean}, {std}")
        self._moments = torch.tensor((self.mean, self.std), device=self.device)
        self._targets = {}
        for name, values in targets.items():
            if name in ("images", "index"):
                raise TrainingError(f"a target cannot be called {name!r}: batches use the name")
            if len(values) != len(self.ids):
                raise TrainingError(f"{len(values)} values of {name!r} for {len(self.ids)} images")
            self._targets[name] = _tensor(name, values).to(self.device)

    @classmethod
    def from_cache(
        cls,
        cache: ImageCache,
        targets: pd.DataFrame,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        train=None,
        device: str | torch.device = "auto",
    ) -> ImageBatches:
        """Take images of a cache, with a table of targets.

        Parameters
        ----------
        cache : ImageCache
        targets : pandas.DataFrame
            Indexed by image id, one column per target; selects the images.
        mean, std : sequence of three floats, optional
            Of the network's weights. Without them, those of the training split are computed.
        train : sequence of str, optional
            Ids of the training split; only needed without `mean` and `std`.
        device : str or torch.device
            "auto" is a GPU if there is one.

        Raises
        ------
        TrainingError
            If neither normalisation nor the training split is given.
        KeyError
            If an image is not in the cache.
        """
        rows = cache.rows(targets.index)
        if (mean is None) != (std is None):
            raise TrainingError("give both mean and std, or neither")
        if mean is None:
            if train is None:
                hint = "give the ids of the training split, so that they are computed from it alone"
                raise TrainingError(f"the weights have no mean and std: {hint}")
            mean, std = channel_statistics(cache.pixels, cache.rows(train))
        columns = {str(name): targets[name].to_numpy() for name in targets}
        pixels = Pixels(cache.pixels, device)
        return cls(pixels, targets.index, rows, columns, mean, std, cache.key, joint=False)

    @classmethod
    def from_arrays(
        cls,
        images: np.ndarray,
        ids,
        targets: Mapping[str, np.ndarray],
        mean: Sequence[float],
        std: Sequence[float],
        device: str | torch.device = "auto",
        key: str = "",
    ) -> ImageBatches:
        """Take images in memory, with targets that may be label maps.

        Parameters
        ----------
        images : numpy.ndarray, shape (n, height, width, channels)
            uint8, or float from 0 to 1.
        ids : sequence of str, length n
        targets : mapping of str to numpy.ndarray, shape (n, ...)
            Those whose last two axes are height and width are augmented jointly with their images;
            augmentation is limited to :data:`JOINT_AUGMENTATIONS`.
        mean, std : sequence of float
            One per channel.
        device : str or torch.device
        key : str
            Identifies images and whatever else a run depends on, for :attr:`fingerprint`.
        """
        rows = np.arange(len(images))
        return cls(Pixels(images, device), ids, rows, targets, mean, std, key, joint=True)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def fingerprint(self) -> str:
        """Twelve hexadecimal digits that change with the images, targets and normalisation."""
        digest = hashlib.sha256(repr((self._key, self.mean, self.std)).encode())
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
        some = copy.copy(self)
        some.ids, some._rows = self.ids[chosen], self._rows[chosen]
        some._targets = {name: values[chosen] for name, values in self._targets.items()}
        return some

    def batch(
        self,
        indices: Sequence[int],
        generator: torch.Generator | None = None,
        augmentation: str = "none",
    ) -> dict[str, Tensor]:
        """Assemble one batch.

        Parameters
        ----------
        indices : sequence of int
            Positions in ``ids``.
        generator : torch.Generator, optional
            Of the CPU; what augmentation draws from.
        augmentation : str
            Name in :data:`iavlib.training.augment.AUGMENTATIONS`, or in
            :data:`JOINT_AUGMENTATIONS` where targets may be label maps.

        Returns
        -------
        dict of str to torch.Tensor
            ``images``, float32 of shape (b, channels, height, width), normalised, channels last;
            ``index``, the positions, on the CPU; and each target.

        Raises
        ------
        TrainingError
            If there is no such augmentation, or label maps cannot follow it.
        """
        return self._finish(indices, self._fetch(indices), generator, augmentation)

    def stream(
        self,
        plan: Sequence[np.ndarray],
        generator: torch.Generator | None = None,
        augmentation: str = "none",
    ) -> Iterator[dict[str, Tensor]]:
        """Assemble the batches of a plan, one after the other.

        Where pixels do not lie on the device, the next batch is read while one is trained on.
        The plan alone decides what is read, and all draws are made here, so that nothing depends
        on which is faster.
        """
        if not self._pixels.ahead or not len(plan):
            yield from (self.batch(indices, generator, augmentation) for indices in plan)
            return
        with ThreadPoolExecutor(1) as reader:
            coming = reader.submit(self._fetch, plan[0])
            for position, indices in enumerate(plan, 1):
                fetched = coming.result()
                if position < len(plan):
                    coming = reader.submit(self._fetch, plan[position])
                yield self._finish(indices, fetched, generator, augmentation)

    def in_order(self, batch_size: int) -> Iterator[dict[str, Tensor]]:
        """Assemble batches of all images in the order of ``ids``, not augmented."""
        order = np.arange(len(self))
        yield from self.stream(np.split(order, range(batch_size, len(order), batch_size)))

    def _fetch(self, indices: Sequence[int]) -> Tensor:
        return self._pixels.rows(torch.from_numpy(self._rows[np.asarray(indices, np.int64)]))

    def _finish(self, indices, pixels: Tensor, generator, augmentation: str) -> dict[str, Tensor]:
        pixels = pixels.to(self.device, non_blocking=True)
        index = torch.from_numpy(np.asarray(indices, np.int64))
        there = index.to(self.device, non_blocking=True)
        targets = {name: values[there] for name, values in self._targets.items()}
        if self._joint:
            pixels, targets = self._augment_jointly(pixels, targets, generator, augmentation)
            images = normalise(pixels, *self._moments)
        else:
            images = augment(pixels.permute(0, 3, 1, 2), augmentation, generator)
            mean, scale = self._moments[0], self._moments[1].reciprocal()
            affine_(images.permute(0, 2, 3, 1), scale, -mean * scale)
        return {"images": images, "index": index, **targets}

    def _augment_jointly(self, pixels: Tensor, targets, generator, augmentation: str):
        """Apply the same change to each image and its label maps."""
        if augmentation not in JOINT_AUGMENTATIONS:
            hint = f"choose {' or '.join(JOINT_AUGMENTATIONS)}"
            raise TrainingError(f"label maps cannot follow augmentation {augmentation!r}; {hint}")
        if augmentation == "none":
            return pixels, targets
        height, width, _ = self._pixels.shape
        drawn = torch.randint(0, 8, (len(pixels),), generator=generator)
        drawn = drawn if height == width else drawn - drawn % 2
        mirrored = drawn >= 4
        change = torch.where(mirrored, -drawn, drawn) % 4, mirrored, torch.zeros_like(mirrored)
        for name, values in targets.items():
            if values.ndim >= 3 and values.shape[-2:] == (height, width):
                maps = values.reshape(len(values), -1, height, width).permute(0, 2, 3, 1)
                changed = turn(maps.contiguous(), *change).permute(0, 3, 1, 2)
                targets[name] = changed.reshape(values.shape).contiguous()
        return turn(pixels, *change), targets


def normalise(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Subtract the mean and divide by the deviation of each channel.

    Parameters
    ----------
    images : torch.Tensor, shape (b, height, width, channels)
        uint8, or float from 0 to 1.
    mean, std : torch.Tensor, shape (channels,)

    Returns
    -------
    torch.Tensor of float32, shape (b, channels, height, width), channels last in memory
    """
    values = images.float() / 255 if images.dtype == torch.uint8 else images.float()
    values = (values - mean) / std
    return values.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)


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
    """Single numbers become int64 or float32; whole numbers of label maps keep their type."""
    values = np.asarray(values)
    try:
        if values.ndim < 3 and values.dtype.kind in "iub":
            values = values.astype(np.int64)
        elif values.dtype.kind not in "iu":
            values = values.astype(np.float32)
        return torch.from_numpy(np.ascontiguousarray(values))
    except (TypeError, ValueError):
        raise TrainingError(f"target {name!r} is of {values.dtype}, not of numbers") from None
