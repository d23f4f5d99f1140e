"""Random changes of whole batches of images, on the device that holds them.

Each image of a batch draws for itself. Draws come from a generator of the CPU, so that the same
seed gives the same changes on every device; what is drawn moves to the device, not the images.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from iavlib.training.errors import TrainingError

#: Rotation of the student report, in degrees to either side.
DEGREES = 10.0
#: Largest change of brightness, contrast and saturation, and of scale, in ``ours``.
JITTER, ZOOM = 0.1, 0.1
_LUMA = (0.2989, 0.587, 0.114)


def augment(images: Tensor, policy: str, generator: torch.Generator | None = None) -> Tensor:
    """Change each image of a batch at random.

    Parameters
    ----------
    images : torch.Tensor of uint8 or float, shape (n, 3, size, size)
        From 0 to 255, or from 0 to 1. Not changed.
    policy : str
        Name in :data:`AUGMENTATIONS`. ``paper``: multiples of 90 degrees, flips, autocontrast,
        blur of sigma 0.1 and sharpness of factor 2, each of the flips, autocontrast and
        sharpness with probability one half. ``flips``: multiples of 90 degrees and flips.
        ``student``: horizontal flips and rotation within 10 degrees. ``ours``: multiples of 90
        degrees, flips, mild changes of scale, brightness, contrast and saturation.
    generator : torch.Generator, optional
        Of the CPU.

    Returns
    -------
    torch.Tensor of float32, shape (n, 3, size, size), channels last in memory
        From 0 to 1.

    Raises
    ------
    TrainingError
        If there is no such policy.
    """
    if policy not in AUGMENTATIONS:
        known = ", ".join(AUGMENTATIONS)
        raise TrainingError(f"there is no augmentation {policy!r}; known: {known}")
    # n, size, size, 3: contiguous, so that an image is one stretch of memory.
    pixels = images.permute(0, 2, 3, 1).contiguous()
    pixels = AUGMENTATIONS[policy](pixels, generator)
    return as_unit(pixels).permute(0, 3, 1, 2)


def as_unit(pixels: Tensor) -> Tensor:
    """Return uint8 from 0 to 255 as float32 from 0 to 1, and floats as they are."""
    return pixels.float().div_(255) if pixels.dtype == torch.uint8 else pixels


def rotate_quarters(pixels: Tensor, quarters: Tensor) -> Tensor:
    """Rotate each image by a number of quarter turns, counter-clockwise."""
    turned = pixels.clone()
    for k in (1, 2, 3):
        _change(turned, quarters == k, lambda some, k=k: torch.rot90(some, k, (1, 2)))
    return turned


def flip(pixels: Tensor, which: Tensor, dim: int) -> Tensor:
    """Mirror the chosen images along a dimension, 1 for upside down and 2 for left to right."""
    return _change(pixels.clone(), which, lambda some: some.flip(dim))


def autocontrast(pixels: Tensor, which: Tensor) -> Tensor:
    """Stretch each channel of the chosen images to the range from 0 to 1."""
    return _change(pixels.clone(), which, _stretch)


def sharpen(pixels: Tensor, which: Tensor, factor: float = 2.0) -> Tensor:
    """Move the chosen images away from a smoothed version of themselves, but for their rims.

    With factor 0 they are smoothed by a 3 x 3 kernel of weights 1 and 5 in its middle, with
    factor 1 nothing changes, as in Pillow and torchvision.
    """
    return _change(pixels.clone(), which, lambda some: _sharpen(some, factor))


def gaussian_blur(pixels: Tensor, kernel_size: int = 5, sigma: float = 0.1) -> Tensor:
    """Smooth all images, reflecting them at their rims; the kernel is torchvision's.

    With the paper's sigma of 0.1 the weights beside the middle are 2e-22, less than a float from 0
    to 1 can tell: the images are returned as they are.
    """
    half = (kernel_size - 1) / (2 * 2**0.5)
    weights = torch.softmax(-(torch.linspace(-half, half, kernel_size) / sigma).square(), 0)
    if 1 - weights[kernel_size // 2] < torch.finfo(torch.float32).eps / 4:
        return pixels
    rim, channels = kernel_size // 2, pixels.shape[-1]
    kernel = weights.to(pixels.device).expand(channels, 1, 1, kernel_size)
    images = F.pad(pixels.permute(0, 3, 1, 2), (rim,) * 4, mode="reflect")
    images = F.conv2d(F.conv2d(images, kernel, groups=channels), kernel.mT, groups=channels)
    return images.permute(0, 2, 3, 1).contiguous()


def warp(pixels: Tensor, degrees: Tensor, scale: Tensor) -> Tensor:
    """Rotate counter-clockwise and scale each image about its centre; black moves in from outside.

    Parameters
    ----------
    pixels : torch.Tensor of float, shape (n, height, width, 3)
    degrees, scale : torch.Tensor, shape (n,)
        A scale above 1 magnifies.
    """
    angle = torch.deg2rad(degrees)
    cos, sin, zero = torch.cos(angle) / scale, torch.sin(angle) / scale, torch.zeros_like(angle)
    ratio = pixels.shape[1] / pixels.shape[2]
    rows = (cos, -sin * ratio, zero, sin / ratio, cos, zero)
    matrix = torch.stack(rows, 1).view(-1, 2, 3).to(pixels.device, non_blocking=True)
    images = pixels.permute(0, 3, 1, 2)
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
    warped = F.grid_sample(images, grid, mode="bilinear", align_corners=False)
    return warped.permute(0, 2, 3, 1).contiguous()


def adjust_colours(
    pixels: Tensor, brightness: Tensor, contrast: Tensor, saturation: Tensor
) -> Tensor:
    """Multiply saturation (about each pixel's grey), contrast (about the mean), brightness."""
    luma = torch.tensor(_LUMA, device=pixels.device)
    factors = torch.stack((brightness, contrast, saturation), 1)
    brightness, contrast, saturation = factors.to(pixels.device, non_blocking=True).unbind(1)
    mean = pixels.mean((1, 2)) @ luma
    grey = (1 - saturation)[:, None, None] * luma[:, None]
    matrix = grey + saturation[:, None, None] * torch.eye(3, device=pixels.device)
    matrix = (brightness * contrast)[:, None, None] * matrix
    offset = brightness * (1 - contrast) * mean
    changed = torch.baddbmm(offset[:, None, None], pixels.flatten(1, 2), matrix)
    return changed.view_as(pixels).clamp_(0, 1)


def _change(pixels: Tensor, which: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    """Change the chosen images in place; `which` is of the CPU, so that nothing waits for it."""
    chosen = which.nonzero().squeeze(1)
    if len(chosen):
        chosen = chosen.to(pixels.device, non_blocking=True)
        pixels.index_copy_(0, chosen, change(pixels.index_select(0, chosen)).contiguous())
    return pixels


def _stretch(pixels: Tensor) -> Tensor:
    low, high = pixels.amin((1, 2), keepdim=True), pixels.amax((1, 2), keepdim=True)
    flat = high == low
    low, width = low.masked_fill(flat, 0), (high - low).masked_fill(flat, 1)
    return (pixels - low).div_(width).clamp_(0, 1)


def _sharpen(pixels: Tensor, factor: float) -> Tensor:
    inner = pixels[:, 1:-1, 1:-1]
    around = F.avg_pool2d(pixels.permute(0, 3, 1, 2), 3, stride=1).permute(0, 2, 3, 1)
    # The kernel of ones and a five is nine means of nine and four more of the middle.
    inner.mul_(factor + (1 - factor) * 4 / 13).add_(around, alpha=(1 - factor) * 9 / 13)
    return pixels.clamp_(0, 1)


def _chance(n: int, generator) -> Tensor:
    return torch.rand(n, generator=generator) < 0.5


def _between(n: int, low: float, high: float, generator) -> Tensor:
    return torch.rand(n, generator=generator) * (high - low) + low


def _none(pixels: Tensor, generator) -> Tensor:
    return pixels


def _flips(pixels: Tensor, generator) -> Tensor:
    n = len(pixels)
    pixels = rotate_quarters(pixels, torch.randint(4, (n,), generator=generator))
    pixels = flip(pixels, _chance(n, generator), 2)
    return flip(pixels, _chance(n, generator), 1)


def _paper(pixels: Tensor, generator) -> Tensor:
    pixels = as_unit(_flips(pixels, generator))
    pixels = autocontrast(pixels, _chance(len(pixels), generator))
    pixels = gaussian_blur(pixels)
    return sharpen(pixels, _chance(len(pixels), generator))


def _student(pixels: Tensor, generator) -> Tensor:
    n = len(pixels)
    pixels = as_unit(flip(pixels, _chance(n, generator), 2))
    return warp(pixels, _between(n, -DEGREES, DEGREES, generator), torch.ones(n))


def _ours(pixels: Tensor, generator) -> Tensor:
    n = len(pixels)
    pixels = as_unit(_flips(pixels, generator))
    # Only magnified: black rims would be new to the network.
    pixels = warp(pixels, torch.zeros(n), _between(n, 1, 1 + ZOOM, generator))
    factors = [_between(n, 1 - JITTER, 1 + JITTER, generator) for _ in range(3)]
    return adjust_colours(pixels, *factors)


#: What happens to the pixels, shape (n, size, size, 3), uint8 or float.
AUGMENTATIONS: dict[str, Callable[[Tensor, torch.Generator | None], Tensor]] = {
    "none": _none,
    "paper": _paper,
    "flips": _flips,
    "student": _student,
    "ours": _ours,
}
