r"""How many of M annotators mark a pixel: what labels say of it, also where some are missing.

With k marks among the m annotators who labelled a picture, out of M, the number j of all M who
would mark it is not known. If who labelled was chosen at random, k is hypergeometric,

.. math:: P(k \mid j) = \binom{j}{k} \binom{M-j}{m-k} \Big/ \binom{M}{m},

and the likelihood of predicted probabilities p_j of the levels is the sum of p_j P(k | j). Where
nobody is missing that is p_k, and the usual cross-entropy.
"""

from collections.abc import Mapping, Sequence
from math import comb

import torch
from torch import Tensor

from iavlib.multiannotator.losses import dice_loss
from iavlib.multiannotator.method import EPSILON


def level_table(annotators: int) -> Tensor:
    """Return P(k | j) for m annotators at hand: shape (M + 1, M + 1, M + 1), axes m, k and j."""
    levels = range(annotators + 1)
    table = torch.zeros(annotators + 1, annotators + 1, annotators + 1)
    for there in levels:
        for marks in range(there + 1):
            for level in levels:
                ways = comb(level, marks) * comb(annotators - level, there - marks)
                table[there, marks, level] = ways / comb(annotators, there)
    return table


def membership(structures: Mapping[str, Sequence[int]], n_classes: int) -> Tensor:
    """Return which classes make up which structure: bool, shape (structures, classes)."""
    found = torch.zeros(len(structures), n_classes, dtype=torch.bool)
    for row, classes in enumerate(structures.values()):
        found[row, list(classes)] = True
    return found


def count_marks(labels: Tensor, member: Tensor) -> tuple[Tensor, Tensor]:
    """Count who marked a pixel, and who labelled the picture.

    Parameters
    ----------
    labels : torch.Tensor of int, shape (B, R, H, W)
        -1 where an annotator did not label the picture.
    member : torch.Tensor of bool, shape (S, C)
        Of :func:`membership`.

    Returns
    -------
    marks : torch.Tensor of int64, shape (B, S, H, W)
    there : torch.Tensor of int64, shape (B,)
    """
    given = labels[:, :, 0, 0] >= 0
    marked = member[:, labels.clamp_min(0).long()] & given[None, :, :, None, None]
    return marked.sum(2).transpose(0, 1), given.sum(1)


def level_likelihood(marks: Tensor, there: Tensor, table: Tensor) -> Tensor:
    """Look up P(k | j) of every pixel: (B, S, M + 1, H, W)."""
    each = there[:, None, None, None].expand_as(marks)
    return table[each, marks].movedim(-1, 2)


def level_losses(logits: Tensor, likelihood: Tensor) -> tuple[Tensor, Tensor]:
    """Compute cross-entropy and Dice loss of predicted levels.

    Parameters
    ----------
    logits : torch.Tensor, shape (B, S, M + 1, H, W)
    likelihood : torch.Tensor, same shape
        Of :func:`level_likelihood`.

    Returns
    -------
    cross_entropy, dice : torch.Tensor
        Scalars. The Dice loss is towards the likelihood, divided by its sum over levels.
    """
    probabilities = logits.float().softmax(2)
    seen = (probabilities * likelihood).sum(2).clamp_min(EPSILON)
    target = likelihood / likelihood.sum(2, keepdim=True)
    return -seen.log().mean(), dice_loss(probabilities.flatten(0, 1), target.flatten(0, 1))


def shares(levels: Tensor, how: str = "expectation") -> Tensor:
    """Return the calibrated map: which share of annotators marks a pixel, (B, S, H, W).

    Parameters
    ----------
    levels : torch.Tensor, shape (B, S, M + 1, H, W)
        Probabilities of agreement classes.
    how : {"expectation", "argmax"}
        The mean of the classes, or the most probable one; divided by M.
    """
    largest = levels.shape[2] - 1
    if how == "argmax":
        return levels.argmax(2).to(levels.dtype) / largest
    steps = torch.arange(largest + 1, dtype=levels.dtype, device=levels.device)
    return (levels * steps[:, None, None]).sum(2) / largest


def class_shares(of_structures: Tensor, member: Tensor) -> Tensor:
    """Return shares of classes, (B, C, H, W), from those of structures, (B, S, H, W).

    A class's share follows from the structures it is part of (a rim is a disc less its cup); what
    comes out below 0 is 0, background is the rest, and all sum to 1.
    """
    inverse = torch.linalg.pinv(member[:, 1:].to(of_structures.dtype))
    foreground = torch.einsum("cs,bshw->bchw", inverse, of_structures).clamp_min(0)
    background = (1 - foreground.sum(1, keepdim=True)).clamp_min(0)
    found = torch.cat((background, foreground), 1)
    return found / found.sum(1, keepdim=True)
