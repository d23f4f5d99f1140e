r"""MR-Net: a prediction for any weighting of the annotators (Ji et al., CVPR 2021).

An *expertise vector* v has one weight per annotator; these sum to 1. The target for v is
:math:`\sum_r v_r m_r`, with m_r the mask of annotator r: one weight of 1 asks for that annotator,
equal weights for the mean vote. Three modules follow each other.

**Expertise-aware inferring.** A convolution turns v into the state (h, c) of a convolutional LSTM
that reads the U-Net's coarsest features F once,

.. math:: i, f, o, g = G(F \,\|\, h), \quad c' = \sigma(f)\, c + \sigma(i) \tanh g, \quad
    F' = \sigma(o) \tanh c',

and F' takes the place of F; the decoder gives a first prediction. **Reconstruction.** A second
network sees image, first prediction and v, and gives every annotator's mask. **Perception.** The
decoder's features are enhanced where the first prediction is high and where the reconstructed
masks deviate from each other, and give the final prediction.

In each step an image has three vectors: one annotator drawn at random, random weights from 1 to
10, and equal weights. Their losses have the weights 1, 2 and 3, for the first prediction and the
last; of the first, :math:`0.7` of these and :math:`0.3` of the difference between what is
reconstructed from it and from its target, for equal weights. Each module learns from the output
of those before it, but does not change them.

Built from the released code (github.com/jiwei0921/MRNet: vectors, weights and the LSTM cell) and
the abstract. What differs: the reconstructing network is a U-Net instead of VGG-16, features are
enhanced by blurs of 3 x 3 pixels (31 x 31 at 256 pixels), the difference of reconstructions is the
mean square of probabilities and changes the first prediction (in the code this is detached, so
that the term has no effect), and classes exclude each other.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from iavlib.models.unet import WIDTHS, ConvBlock, UNet, stages_for
from iavlib.multiannotator import losses
from iavlib.multiannotator.method import UNET_SETTINGS, Method, Outputs, Problem
from iavlib.multiannotator.methods import register

#: Shares of the losses of one annotator, random and equal weights.
SHARES = (1 / 6, 2 / 6, 3 / 6)


def _spread(vectors: Tensor, maps: Tensor) -> Tensor:
    """Repeat vectors (B, n) in all pixels of maps."""
    return vectors[..., None, None].expand(-1, -1, *maps.shape[-2:])


class ExpertiseCell(nn.Module):
    """The convolutional LSTM of the module's description, of one step."""

    def __init__(self, features: int, annotators: int):
        super().__init__()
        self.embed = nn.Conv2d(annotators, features, 3, padding=1)
        self.gates = nn.Conv2d(2 * features, 4 * features, 3, padding=1)

    def forward(self, features: Tensor, expertise: Tensor) -> Tensor:
        """Return features (B, F, h, w) as seen with expertise (B, R)."""
        state = self.embed(_spread(expertise, features))
        enter, forget, leave, new = self.gates(torch.cat((features, state), 1)).chunk(4, 1)
        cell = forget.sigmoid() * state + enter.sigmoid() * new.tanh()
        return leave.sigmoid() * cell.tanh()


class Reconstruction(nn.Module):
    """From image, a prediction for an expertise vector and that vector to each annotator's mask."""

    def __init__(self, problem: Problem, widths):
        super().__init__()
        self.shape = (problem.n_annotators, problem.n_classes)
        self.unet = UNet(problem.channels + sum(self.shape), widths)
        self.last = nn.Conv2d(self.unet.features, self.shape[0] * self.shape[1], 1)

    def forward(self, images: Tensor, predicted: Tensor, expertise: Tensor) -> Tensor:
        """Return probabilities (B, R, C, H, W)."""
        seen = torch.cat((images, predicted, _spread(expertise, images)), 1)
        return self.last(self.unet(seen)).unflatten(1, self.shape).softmax(2)


class Perception(nn.Module):
    """The final prediction, from features enhanced by two kinds of maps for each class."""

    def __init__(self, features: int, classes: int):
        super().__init__()
        self.refine = ConvBlock(features, features)
        self.last = nn.Conv2d(2 * (classes - 1) * features, classes, 3, padding=1)

    def forward(self, features: Tensor, predicted: Tensor, masks: Tensor) -> Tensor:
        """Return logits (B, C, H, W) from features, a prediction and all annotators' masks."""
        where = torch.cat((predicted[:, 1:], masks.std(1, correction=0)[:, 1:]), 1)
        wide = F.avg_pool2d(where, 3, stride=1, padding=1)
        low, high = wide.amin((2, 3), keepdim=True), wide.amax((2, 3), keepdim=True)
        attention = torch.maximum((wide - low) / (high - low + losses.EPSILON), where)
        enhanced = self.refine(features).unsqueeze(1) * (1 + attention.unsqueeze(2))
        return self.last(enhanced.flatten(1, 2))


class MultiRaterNetwork(nn.Module):
    """The three modules, and a U-Net between."""

    def __init__(self, backbone: nn.Module, problem: Problem, widths):
        super().__init__()
        self.backbone = backbone
        self.expertise = ExpertiseCell(backbone.deepest, problem.n_annotators)
        self.first = nn.Conv2d(backbone.features, problem.n_classes, 1)
        self.reconstruction = Reconstruction(problem, widths)
        self.perception = Perception(backbone.features, problem.n_classes)

    def forward(self, images: Tensor, expertise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Predict for expertise vectors (B, R).

        Returns
        -------
        first : torch.Tensor, shape (B, C, H, W)
            Logits.
        masks : torch.Tensor, shape (B, R, C, H, W)
            Probabilities.
        final : torch.Tensor, shape (B, C, H, W)
            Logits.
        """
        features = self.backbone(images, lambda deepest: self.expertise(deepest, expertise))
        first = self.first(features)
        predicted = first.detach().softmax(1)
        masks = self.reconstruction(images, predicted, expertise)
        return first, masks, self.perception(features.detach(), predicted, masks.detach())


@register("mrnet", "MR-Net")
class MultiRaterNet(Method):
    """The method of the module's description.

    Settings: those of the U-Net, whose ``widths`` the reconstructing network has in any case;
    ``consistency``, the share of the difference between reconstructions.
    """

    defaults: ClassVar[Mapping[str, Any]] = {**UNET_SETTINGS, "widths": WIDTHS, "consistency": 0.3}

    def check(self) -> None:
        """Raise :class:`MethodError` where the share makes no sense."""
        if not 0 <= self.settings["consistency"] < 1:
            self.refuse("consistency must be within [0, 1)")

    def build(self, problem: Problem) -> nn.Module:
        """Make the network."""
        widths = stages_for(problem.height, problem.width, self.settings["widths"])
        return MultiRaterNetwork(self.backbone(problem), problem, widths)

    def loss(self, network: nn.Module, batch: dict[str, Tensor], epoch: int, stage: str) -> Tensor:
        """Compute the sum of the losses of all modules."""
        n, share = len(batch["images"]), self.settings["consistency"]
        images, labels = batch["images"].repeat(3, 1, 1, 1), batch["labels"].repeat(3, 1, 1, 1)
        expertise = draw_expertise(batch["labels"])
        first, masks, final = network(images, expertise)
        of_annotators = losses.one_hot(labels, first.shape[1])
        target = torch.einsum("br,brchw->bchw", expertise, of_annotators)
        shares = torch.tensor(SHARES, device=images.device).repeat_interleave(n) / n
        first_loss, last_loss = (
            (shares * losses.soft_cross_entropy(logits.float(), target)).sum()
            for logits in (first, final)
        )
        total = (1 - share) * first_loss + last_loss
        total = total + losses.mean_likelihood(masks.float(), labels)
        if share:
            module, equal = network.reconstruction, slice(2 * n, None)
            fixed = {name: one.detach() for name, one in module.named_parameters()}
            from_first, from_target = (
                functional_call(module, fixed, (images[equal], one[equal], expertise[equal]))
                for one in (first.softmax(1), target)
            )
            total = total + share * F.mse_loss(from_first, from_target)
        return total

    def outputs(self, network, images: Tensor, generator, n_samples: int) -> Outputs:
        """Give the prediction for equal weights, and for each annotator's."""
        vectors = torch.eye(network.expertise.embed.in_channels, device=images.device)
        vectors = [vectors.mean(0), *vectors]
        finals = [network(images, one.expand(len(images), -1))[2].softmax(1) for one in vectors]
        return Outputs(finals[0], torch.stack(finals[1:], 1))


def draw_expertise(labels: Tensor) -> Tensor:
    """Draw three expertise vectors per image: one annotator, random and equal weights.

    Annotators who did not label the image have no weight. Draws come from PyTorch's global
    generator of the CPU.

    Parameters
    ----------
    labels : torch.Tensor of int, shape (B, R, H, W)

    Returns
    -------
    torch.Tensor, shape (3 B, R)
        All images with the first kind, then with the second, then with the third.
    """
    given = (labels[:, :, 0, 0] >= 0).float()
    chances = torch.rand(given.shape).to(given) * given
    one = F.one_hot(chances.argmax(1), given.shape[1])
    mixed = torch.randint(1, 11, given.shape).to(given)
    weights = torch.cat((one * given, mixed * given, given))
    return weights / weights.sum(1, keepdim=True)
