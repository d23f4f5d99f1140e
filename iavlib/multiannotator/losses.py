"""Losses of overlap, for methods that weigh one beside their cross-entropy."""

import torch
from torch import Tensor


def dice_loss(probabilities: Tensor, target: Tensor) -> Tensor:
    """Compute 1 less the soft Dice, its sums over the whole batch, the mean over classes.

    Parameters
    ----------
    probabilities, target : torch.Tensor, shape (B, C, H, W)

    Notes
    -----
    A class that is neither predicted nor there counts as met. Sums over the batch rather than each
    picture let a picture without foreground say nothing of the foreground.
    """
    common = (probabilities * target).sum((0, 2, 3))
    both = (probabilities + target).sum((0, 2, 3))
    return 1 - ((2 * common + 1) / (both + 1)).mean()


def overlap_loss(maps: Tensor, labels: Tensor) -> Tensor:
    """Compute the Dice loss of every annotator over the pictures that she labelled.

    Parameters
    ----------
    maps : torch.Tensor, shape (B, R, C, H, W)
        Probabilities.
    labels : torch.Tensor of int, shape (B, R, H, W)
        -1 where an annotator did not label the picture.

    Returns
    -------
    torch.Tensor, shape (R,)
        0 for an annotator who labelled none of them; as :func:`dice_loss` otherwise.
    """
    given = (labels[:, :, 0, 0] >= 0)[..., None, None, None]
    # Missing pictures are taken out before the sums: what is there cannot reach a gradient.
    found = torch.where(given, maps, torch.zeros_like(maps))
    target = torch.zeros_like(found).scatter_(2, labels.clamp_min(0).long().unsqueeze(2), 1.0)
    target = target * given
    common = (found * target).sum((0, 3, 4))
    both = (found + target).sum((0, 3, 4))
    return 1 - ((2 * common + 1) / (both + 1)).mean(1)
