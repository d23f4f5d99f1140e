r"""Heads that model annotators: confusion matrices per pixel, and preferences.

**Confusion matrices** (Zhang et al. 2023). ``A[k, j]`` is the probability that an annotator gives
class k to a pixel whose true class is j: columns are true classes and sum to one. With p(x) the
probabilities of the true class, the annotator's label has the probabilities A(x) p(x). All heads
return tensors (B, R, C, C, H, W) of images, annotators, given class, true class and pixels; axes
on which a head does not depend have length one.

**Agreement and preference** (AVAP, Guo et al. 2022). For every structure there are M + 1 agreement
classes, the number of M annotators who mark a pixel. For preferences a controller reads the mean
features of the image and the annotator's code (one of M), and predicts the weights of three small
convolutions, 3 x 3, 3 x 3 and 1 x 1, which are then applied to the features of that image:

.. math:: w_r = \varphi(\mathrm{GAP}(F) \,\|\, e_r), \qquad
    h_1 = \mathrm{BN}(\mathrm{ReLU}(F * w_{r,1})), \quad
    h_2 = \mathrm{BN}(\mathrm{ReLU}(h_1 * w_{r,2})), \quad
    s_r = h_2 * w_{r,3}.

The paper prints kernels of 3 x 3 x 3 and 1 x 1 x 1 for images of two dimensions; here they have
two. Normalisation comes after the ReLU, as in Eq. 6.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from iavlib.core.errors import ModelError
from iavlib.models.unet import convolution_layers

#: Keeps sums of columns away from 0.
EPSILON = 1e-6
#: What the controller of preferences may see.
CONDITIONS = ("both", "code", "features")
#: Channels of the dynamic layers, as in the design that the paper follows.
CHANNELS = 8


def apply_confusion(confusion: Tensor, probabilities: Tensor) -> Tensor:
    """Return the probabilities of annotators' labels (B, R, C, H, W), from A and p (B, C, H, W)."""
    return (confusion * probabilities[:, None, None]).sum(3)


def mean_trace(confusion: Tensor, max_diagonal: float = 1.0) -> Tensor:
    """Return the trace of each image's and annotator's matrices, averaged over pixels: (B, R).

    Elements of the diagonal are clipped at `max_diagonal`.
    """
    return confusion.diagonal(dim1=2, dim2=3).clamp_max(max_diagonal).sum(-1).mean((2, 3))


def normalise_columns(positive: Tensor) -> Tensor:
    """Divide columns (axis 2 of B, R, C, C, H, W) by their sums."""
    positive = positive + EPSILON
    return positive / positive.sum(2, keepdim=True)


def confusion_entries(width: int, height: int, classes: int, rank: int | None = None) -> int:
    """Count the numbers that describe one annotator's matrices of one image (Table 4).

    Parameters
    ----------
    width, height, classes : int
    rank : int, optional
        Of the low-rank form; the full matrices unless given.
    """
    return width * height * (classes**2 if rank is None else 2 * classes * rank)


def confusion_flops(width: int, height: int, classes: int, rank: int | None = None) -> int:
    """Count the operations of applying one annotator's matrices to one image (Table 4).

    The full product takes L multiplications and L - 1 additions for each of L classes; the
    published count of the low-rank form is 4 L (l - 0.25) - l per pixel.
    """
    if rank is None:
        return width * height * (2 * classes - 1) * classes
    return width * height * (4 * classes * rank - classes - rank)


class _PositiveMaps(nn.Module):
    """From features to some positive maps per annotator, shared up to the last layers."""

    def __init__(self, features: int, annotators: int, maps: int, blocks: int):
        super().__init__()
        self.annotators, self.maps = annotators, maps
        layers: list[nn.Module] = []
        inputs, groups, outputs = features, 1, annotators * features
        for _ in range(blocks):
            layers += convolution_layers(inputs, outputs, groups)
            inputs, groups = outputs, annotators
        layers.append(nn.Conv2d(inputs, annotators * maps, 1, groups=groups))
        self.layers = nn.Sequential(*layers)

    def forward(self, features: Tensor) -> Tensor:
        return F.softplus(self.layers(features)).unflatten(1, (self.annotators, self.maps))


class PixelConfusion(nn.Module):
    """One matrix per annotator and pixel.

    Parameters
    ----------
    features, annotators, classes : int
    blocks : int
        3 x 3 convolutions of each annotator's own before the last one; 0 as in the paper's text
        (all but the last layer are shared), 4 as in its released code.
    """

    def __init__(self, features, annotators, classes, blocks: int = 0):
        super().__init__()
        self.classes = classes
        self.head = _PositiveMaps(features, annotators, classes**2, blocks)

    def forward(self, features: Tensor) -> Tensor:
        """Return (B, R, C, C, H, W) from features (B, F, H, W)."""
        return normalise_columns(self.head(features).unflatten(2, (self.classes, self.classes)))


class LowRankConfusion(nn.Module):
    """One matrix per annotator and pixel: two factors of low rank, and a multiple of identity.

    Rank-l factors alone cannot do what they are for when l is 1: every column of the product of a
    column and a row, divided by its sum, is the same, so that labels would not depend on the
    truth. The released code therefore adds a multiple of the identity before it normalises.

    Parameters
    ----------
    features, annotators, classes, rank : int
    blocks : int
        As for :class:`PixelConfusion`.
    residual : bool
        Whether to add the multiple of identity, as the released code does but not the paper.
    """

    def __init__(self, features, annotators, classes, rank=1, blocks=0, residual: bool = True):
        super().__init__()
        if not 1 <= rank <= classes:
            raise ModelError(f"rank {rank} of a {classes} x {classes} matrix: give 1 to {classes}")
        self.classes, self.rank, self.residual = classes, rank, residual
        self.head = _PositiveMaps(features, annotators, 2 * classes * rank + residual, blocks)

    def forward(self, features: Tensor) -> Tensor:
        """Return (B, R, C, C, H, W) from features (B, F, H, W)."""
        maps, half = self.head(features), self.classes * self.rank
        given = maps[:, :, :half].unflatten(2, (self.classes, self.rank))
        true = maps[:, :, half : 2 * half].unflatten(2, (self.rank, self.classes))
        # An einsum would multiply tiny matrices one pixel at a time, which takes far longer.
        product = (given.unsqueeze(4) * true.unsqueeze(2)).sum(3)
        if self.residual:
            identity = torch.eye(self.classes, device=maps.device)[..., None, None]
            product = product + maps[:, :, -1, None, None] * identity
        return normalise_columns(product)


class GlobalConfusion(nn.Module):
    """One matrix per annotator, for all images and pixels; before softplus it is the identity.

    With that start, of the released code, the diagonal is .65 with two classes, .39 with four.
    Its entries move ten times as fast as others at the same learning rate: each of them alone has
    to go from 0 to where softplus is nearly nothing, and a short training would end on the way.
    """

    SPEED = 10.0

    def __init__(self, annotators: int, classes: int):
        super().__init__()
        self.raw = nn.Parameter(torch.eye(classes).repeat(annotators, 1, 1) / self.SPEED)

    def forward(self, features: Tensor) -> Tensor:
        """Return (B, R, C, C, 1, 1)."""
        matrices = normalise_columns(F.softplus(self.raw * self.SPEED)[None, ..., None, None])
        return matrices.expand(len(features), -1, -1, -1, -1, -1)


class FixedConfusion(nn.Module):
    """Matrices that are known and not learned; identity until :meth:`set` is called."""

    def __init__(self, annotators: int, classes: int):
        super().__init__()
        self.register_buffer("matrices", torch.eye(classes).repeat(annotators, 1, 1))

    def set(self, matrices) -> None:
        """Take matrices (R, C, C); a column of NaN (a class that never occurs) stays identity."""
        given = torch.as_tensor(matrices, dtype=self.matrices.dtype)
        self.matrices.copy_(torch.where(given.isnan(), self.matrices.cpu(), given))

    def forward(self, features: Tensor) -> Tensor:
        """Return (B, R, C, C, 1, 1)."""
        return self.matrices[None, ..., None, None].expand(len(features), -1, -1, -1, -1, -1)


class AgreementHead(nn.Module):
    """Logits of agreement classes: for each structure two blocks of convolutions and a last one.

    Parameters
    ----------
    features, structures, annotators : int
    """

    def __init__(self, features: int, structures: int, annotators: int):
        super().__init__()

        def layers() -> list[nn.Module]:
            convolution = nn.Conv2d(features, features, 3, padding=1)
            return [convolution, nn.ReLU(), nn.BatchNorm2d(features)]

        self.heads = nn.ModuleList()
        for _ in range(structures):
            blocks = [nn.Sequential(*layers(), *layers()) for _ in range(2)]
            self.heads.append(nn.Sequential(*blocks, nn.Conv2d(features, annotators + 1, 1)))

    def forward(self, features: Tensor) -> Tensor:
        """Return (B, S, M + 1, H, W) from features (B, F, H, W)."""
        return torch.stack([head(features) for head in self.heads], 1)


class PreferenceHead(nn.Module):
    """Logits of what an annotator marks, by convolutions whose weights a controller predicts.

    Parameters
    ----------
    features, annotators, classes : int
    channels : int, optional
        Of the dynamic layers; the features are reduced to as many first. None for as many as
        there are features, which are then not reduced.
    condition : {"both", "code", "features"}
        What the controller sees; from features alone it cannot distinguish annotators.
    """

    def __init__(self, features, annotators, classes, channels=CHANNELS, condition: str = "both"):
        super().__init__()
        if condition not in CONDITIONS:
            raise ModelError(f"no condition {condition!r}; choose {', '.join(CONDITIONS)}")
        self.annotators, self.condition = annotators, condition
        self.reduce = nn.Identity() if channels is None else nn.Conv2d(features, channels, 1)
        channels = features if channels is None else channels
        hidden = (channels, channels, 3, 3)
        self.shapes = hidden, hidden, (classes, channels, 1, 1)
        inputs = {"both": features + annotators, "code": annotators, "features": features}
        starts = []  # layers for all annotators start as layers do, and differ a little
        written = sum(torch.Size(shape).numel() + shape[0] for shape in self.shapes)
        self.controller = nn.Conv2d(inputs[condition], written, 1)
        self.norms = nn.ModuleList(nn.BatchNorm2d(channels) for _ in self.shapes[:-1])
        for shape in self.shapes:
            weight = nn.init.kaiming_uniform_(torch.empty(shape), a=5**0.5)
            starts += [weight.flatten(), torch.zeros(shape[0])]
        with torch.no_grad():
            self.controller.bias.copy_(torch.cat(starts))
            self.controller.weight.mul_(0.5)

    def forward(self, features: Tensor, annotators: Tensor) -> Tensor:
        """Return logits (B, classes, H, W).

        Parameters
        ----------
        features : torch.Tensor, shape (B, F, H, W)
        annotators : torch.Tensor of int64, shape (B,)
            The annotator whose mark is predicted, for each image.
        """
        pooled = features.mean((2, 3), keepdim=True)
        code = F.one_hot(annotators, self.annotators).to(pooled.dtype)[..., None, None]
        seen = {"both": (pooled, code), "code": (code,), "features": (pooled,)}
        written = self.controller(torch.cat(seen[self.condition], 1))[..., 0, 0]
        maps, start = self.reduce(features), 0
        for number, shape in enumerate(self.shapes):
            end = start + torch.Size(shape).numel()
            weight, bias = written[:, start:end], written[:, end : end + shape[0]]
            maps, start = convolve_each(maps, weight.unflatten(1, shape), bias), end + shape[0]
            if number < len(self.norms):
                maps = self.norms[number](F.relu(maps))
        return maps


def convolve_each(maps: Tensor, weights: Tensor, biases: Tensor) -> Tensor:
    """Convolve every image with kernels of its own, keeping its size.

    Parameters
    ----------
    maps : torch.Tensor, shape (B, C, H, W)
    weights : torch.Tensor, shape (B, O, C, k, k)
        With odd k.
    biases : torch.Tensor, shape (B, O)

    Returns
    -------
    torch.Tensor, shape (B, O, H, W)
    """
    n, outputs, inputs, side, _ = weights.shape
    joined = maps.reshape(1, n * inputs, *maps.shape[-2:])
    kernels = weights.reshape(n * outputs, inputs, side, side)
    convolved = F.conv2d(joined, kernels, biases.reshape(-1), padding=side // 2, groups=n)
    return convolved.reshape(n, outputs, *maps.shape[-2:])
