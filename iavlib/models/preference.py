r"""Heads of AVAP (Guo et al. 2022): how many annotators mark a pixel, and what each of them does.

*Annotator variation*: for every structure, M + 1 agreement classes, the number of M annotators who
mark a pixel.

*Annotator preference*: a controller sees the mean features of the picture and the annotator's code
(one of M), and writes the weights of three small convolutions, 3 x 3, 3 x 3 and 1 x 1, which are
then applied to the features of that picture:

.. math:: w_r = \varphi(\mathrm{GAP}(F) \,\|\, e_r), \qquad
    h_1 = \mathrm{BN}(\mathrm{ReLU}(F * w_{r,1})), \quad
    h_2 = \mathrm{BN}(\mathrm{ReLU}(h_1 * w_{r,2})), \quad
    s_r = h_2 * w_{r,3}.

The paper prints kernels of 3 x 3 x 3 and 1 x 1 x 1 for pictures, which have two dimensions; here
they have two. Normalisation comes after the ReLU, as Eq. 6 has it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from iavlib.core.errors import ModelError

#: What the controller may see.
CONDITIONS = ("both", "code", "features")
#: Channels of the dynamic layers, as in the design that the paper follows.
CHANNELS = 8


class AgreementHead(nn.Module):
    """Logits of agreement classes: for each structure two blocks of convolutions and a last one.

    Parameters
    ----------
    features, structures, annotators : int
    """

    def __init__(self, features: int, structures: int, annotators: int):
        super().__init__()
        self.heads = nn.ModuleList(
            nn.Sequential(
                _block(features), _block(features), nn.Conv2d(features, annotators + 1, 1)
            )
            for _ in range(structures)
        )

    def forward(self, features: Tensor) -> Tensor:
        """Give (B, S, M + 1, H, W) of features (B, F, H, W)."""
        return torch.stack([head(features) for head in self.heads], 1)


def _block(features: int) -> nn.Sequential:
    """Twice a convolution, ReLU and batch normalisation, in this order."""
    layers: list[nn.Module] = []
    for _ in range(2):
        layers += [
            nn.Conv2d(features, features, 3, padding=1),
            nn.ReLU(),
            nn.BatchNorm2d(features),
        ]
    return nn.Sequential(*layers)


class PreferenceHead(nn.Module):
    """Logits of what an annotator marks, by convolutions that a controller writes for her.

    Parameters
    ----------
    features, annotators, classes : int
    channels : int
        Of the dynamic layers, to which the features are reduced before.
    condition : {"both", "code", "features"}
        What the controller sees; with features alone it cannot tell annotators apart.
    """

    def __init__(
        self,
        features: int,
        annotators: int,
        classes: int,
        channels: int = CHANNELS,
        condition: str = "both",
    ):
        super().__init__()
        if condition not in CONDITIONS:
            raise ModelError(f"no condition {condition!r}; choose {', '.join(CONDITIONS)}")
        self.annotators, self.channels, self.condition = annotators, channels, condition
        self.shapes = dynamic_shapes(channels, classes)
        seen = {"both": features + annotators, "code": annotators, "features": features}
        self.reduce = nn.Conv2d(features, channels, 1)
        self.controller = nn.Conv2d(seen[condition], dynamic_parameters(channels, classes), 1)
        self.norms = nn.ModuleList(nn.BatchNorm2d(channels) for _ in self.shapes[:-1])
        self._start()

    def _start(self) -> None:
        """Let the layers written for everybody start as layers do, and differ a little."""
        starts = []
        for shape in self.shapes:
            weight = torch.empty(shape)
            nn.init.kaiming_uniform_(weight, a=5**0.5)
            starts += [weight.flatten(), torch.zeros(shape[0])]
        with torch.no_grad():
            self.controller.bias.copy_(torch.cat(starts))
            self.controller.weight.mul_(0.5)

    def forward(self, features: Tensor, annotators: Tensor) -> Tensor:
        """Give logits (B, classes, H, W).

        Parameters
        ----------
        features : torch.Tensor, shape (B, F, H, W)
        annotators : torch.Tensor of int64, shape (B,)
            Whose mark is wanted of each picture.
        """
        written = self.controller(self._condition(features, annotators))[..., 0, 0]
        maps, place = self.reduce(features), 0
        for number, shape in enumerate(self.shapes):
            size = shape[1] * shape[2] * shape[3] * shape[0]
            weight, bias = written[:, place : place + size], written[:, place + size :]
            maps = convolve_each(maps, weight.unflatten(1, shape), bias[:, : shape[0]])
            place += size + shape[0]
            if number < len(self.norms):
                maps = self.norms[number](F.relu(maps))
        return maps

    def _condition(self, features: Tensor, annotators: Tensor) -> Tensor:
        pooled = features.mean((2, 3), keepdim=True)
        code = F.one_hot(annotators, self.annotators).to(pooled.dtype)[..., None, None]
        seen = {"both": (pooled, code), "code": (code,), "features": (pooled,)}
        return torch.cat(seen[self.condition], 1)


def dynamic_shapes(channels: int, classes: int) -> tuple[tuple[int, int, int, int], ...]:
    """Return the shapes of the kernels that are written: 3 x 3, 3 x 3 and 1 x 1."""
    hidden = (channels, channels, 3, 3)
    return hidden, hidden, (classes, channels, 1, 1)


def dynamic_parameters(channels: int, classes: int) -> int:
    """Count the numbers that are written for one picture and annotator."""
    return sum(
        outputs * inputs * height * width + outputs
        for outputs, inputs, height, width in dynamic_shapes(channels, classes)
    )


def convolve_each(maps: Tensor, weights: Tensor, biases: Tensor) -> Tensor:
    """Convolve every picture with kernels of its own, keeping its size.

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
    found = F.conv2d(joined, kernels, biases.reshape(-1), padding=side // 2, groups=n)
    return found.reshape(n, outputs, *maps.shape[-2:])
