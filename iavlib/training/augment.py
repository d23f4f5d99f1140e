"""Random changes of whole batches of images, on the device that holds them.

Changes are drawn for each image. Draws come from a generator on the CPU, so that the same seed
gives the same changes on every device; the draws move to the device, not the images.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from iavlib.core.errors import TrainingError

#: Rotation of the student report, in degrees to either side.
DEGREES = 10.0
#: Largest change of brightness, contrast and saturation, and of scale, in ``ours``.
JITTER, ZOOM = 0.1, 0.1
#: Devices that change one image after the other, since one fits into a core's own memory.
ONE_BY_ONE = ("cpu",)
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
    if pixels.is_floating_point() and pixels.data_ptr() == images.data_ptr():
        pixels = pixels.clone()
    return as_unit(AUGMENTATIONS[policy](pixels, generator)).permute(0, 3, 1, 2)


def as_unit(pixels: Tensor) -> Tensor:
    """Return uint8 from 0 to 255 as float32 from 0 to 1, and floats as they are."""
    return pixels.float().div_(255) if pixels.dtype == torch.uint8 else pixels


def turn(pixels: Tensor, quarters: Tensor, across: Tensor, down: Tensor) -> Tensor:
    """Rotate by quarter turns counter-clockwise, then mirror left to right and upside down.

    Parameters
    ----------
    pixels : torch.Tensor, shape (n, size, size, 3)
    quarters : torch.Tensor of int, shape (n,)
        From 0 to 3.
    across, down : torch.Tensor of bool, shape (n,)
    """
    # Any of these is a transposition, or none, and then up to two reflections: eight in all.
    transposed = quarters % 2 == 1
    across = across ^ (quarters >= 2)
    down = down ^ (quarters == 1) ^ (quarters == 2)
    kinds = transposed.int() * 4 + across.int() * 2 + down.int()
    turned = pixels.clone()
    for kind in range(1, 8):
        dims = [dim for dim, flips in ((2, kind & 2), (1, kind & 1)) if flips]
        _change(turned, kinds == kind, lambda some, kind=kind, dims=dims: _turn(some, kind, dims))
    return turned


def autocontrast(pixels: Tensor, which: Tensor) -> Tensor:
    """Stretch each channel of the chosen images to the range from 0 to 1.

    Bytes are returned as floats from 0 to 1, whether chosen or not; floats are changed in place.
    """
    rows = pixels.flatten(2)
    size, top = pixels.shape[2], 255.0 if pixels.dtype == torch.uint8 else 1.0
    # Along the height first: a reduction over neighbours in memory is many times slower.
    low = rows.amin(1).unflatten(1, (size, 3)).amin(1).float()
    high = rows.amax(1).unflatten(1, (size, 3)).amax(1).float()
    still = (low == high) | ~which.to(pixels.device, non_blocking=True)[:, None]
    low, high = low.masked_fill(still, 0), high.masked_fill(still, top)
    rows = rows.float() if pixels.dtype == torch.uint8 else rows
    # In two steps: where the range is small, a product and a sum of it would cancel.
    pixels = affine_(rows.view(pixels.shape), torch.ones_like(low), -low)
    return affine_(pixels, 1 / (high - low), torch.zeros_like(low)).clamp_(0, 1)


def affine_(pixels: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Multiply and add, in place, numbers of each channel, or of each image and channel.

    Parameters
    ----------
    pixels : torch.Tensor of float, shape (n, height, width, 3)
        Contiguous.
    scale, shift : torch.Tensor, shape (3,) or (n, 3)
    """
    # Repeated along a row, so that the innermost loop is as long as a row and not three.
    scale, shift = (each.view(-1, 1, 3).repeat(1, 1, pixels.shape[2]) for each in (scale, shift))
    rows = pixels.flatten(2)
    torch.addcmul(shift, rows, scale, out=rows)
    return pixels


def sharpen(pixels: Tensor, which: Tensor, factor: float = 2.0) -> Tensor:
    """Move the chosen images, in place, away from a smoothed version, except at their borders.

    With factor 0 they are smoothed by a 3 x 3 kernel of weights 1 and 5 in its middle, with
    factor 1 nothing changes, as in Pillow and torchvision.
    """
    if min(pixels.shape[1:3]) < 3:
        return pixels
    return _change(pixels, which, lambda some: _sharpen(some, factor))


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
    """Change the chosen images in place; `which` is on the CPU, so that nothing waits for it."""
    chosen = which.nonzero().squeeze(1)
    if pixels.device.type in ONE_BY_ONE:
        for image in (pixels[i : i + 1] for i in chosen.tolist()):
            changed = change(image)
            if changed.data_ptr() != image.data_ptr():
                image.copy_(changed)
    elif len(chosen):
        chosen = chosen.to(pixels.device, non_blocking=True)
        pixels.index_copy_(0, chosen, change(pixels.index_select(0, chosen)))
    return pixels


def _turn(pixels: Tensor, kind: int, dims: list[int]) -> Tensor:
    pixels = pixels.transpose(1, 2).contiguous() if kind & 4 else pixels
    for dim in dims:  # one after the other: for both at once PyTorch has no fast way
        pixels = pixels.flip(dim)
    return pixels


def _sharpen(pixels: Tensor, factor: float) -> Tensor:
    rows = pixels.flatten(2)  # neighbours in a row are three numbers apart
    down = rows[:, :-2] + rows[:, 1:-1]
    down += rows[:, 2:]
    around = down[:, :, :-6] + down[:, :, 3:-3]
    around += down[:, :, 6:]
    # The kernel of ones and a five is the sum of nine and four more of the middle, over 13.
    inner = rows[:, 1:-1, 3:-3]
    inner.mul_(factor + (1 - factor) * 4 / 13).add_(around, alpha=(1 - factor) / 13)
    return pixels.clamp_(0, 1)


def _chance(n: int, generator) -> Tensor:
    return torch.rand(n, generator=generator) < 0.5


def _between(n: int, low: float, high: float, generator) -> Tensor:
    return torch.rand(n, generator=generator) * (high - low) + low


def _flips(pixels: Tensor, generator) -> Tensor:
    n = len(pixels)
    quarters = torch.randint(4, (n,), generator=generator)
    return turn(pixels, quarters, _chance(n, generator), _chance(n, generator))


def _paper(pixels: Tensor, generator) -> Tensor:
    pixels = _flips(pixels, generator)
    pixels = autocontrast(pixels, _chance(len(pixels), generator))
    # The paper also blurs by sigma 0.1: the kernel's weights beside its middle are 2e-22, less
    # than a float from 0 to 1 can hold, so that nothing changes.
    return sharpen(pixels, _chance(len(pixels), generator))


def _student(pixels: Tensor, generator) -> Tensor:
    n = len(pixels)
    none = torch.zeros(n, dtype=torch.long)
    pixels = turn(pixels, none, _chance(n, generator), none > 0)
    return warp(as_unit(pixels), _between(n, -DEGREES, DEGREES, generator), torch.ones(n))


def _ours(pixels: Tensor, generator) -> Tensor:
    n = len(pixels)
    pixels = as_unit(_flips(pixels, generator))
    # Only magnified: black rims would be new to the network.
    pixels = warp(pixels, torch.zeros(n), _between(n, 1, 1 + ZOOM, generator))
    factors = [_between(n, 1 - JITTER, 1 + JITTER, generator) for _ in range(3)]
    return adjust_colours(pixels, *factors)


#: What happens to the pixels, shape (n, size, size, 3), uint8 or float.
AUGMENTATIONS: dict[str, Callable[[Tensor, torch.Generator | None], Tensor]] = {
    "none": lambda pixels, generator: pixels,
    "paper": _paper,
    "flips": _flips,
    "student": _student,
    "ours": _ours,
}
