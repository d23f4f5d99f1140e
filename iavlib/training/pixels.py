"""Where cached pixels lie while a network trains: on the device, or mapped from disk."""

import numpy as np
import torch
from torch import Tensor

from iavlib.training.errors import TrainingError
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
