"""Losses that methods share."""

import torch
from torch import Tensor

#: Probabilities are kept above this before their logarithm is taken.
EPSILON = 1e-7


def one_hot(labels: Tensor, classes: int) -> Tensor:
    """Return labels (B, R, H, W) as float (B, R, C, H, W); 0 in all classes where missing."""
    numbers = torch.arange(classes, dtype=labels.dtype, device=labels.device)
    return (labels.unsqueeze(2) == numbers[:, None, None]).float()


def label_likelihood(maps: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the negative log-likelihood of the labels that annotators gave.

    Parameters
    ----------
    maps : torch.Tensor, shape (B, R, C, H, W)
        Probabilities, not logits.
    labels : torch.Tensor of int, shape (B, R, H, W)
        -1 where an annotator did not label the image.

    Returns
    -------
    loss : torch.Tensor, shape (B, R)
        Mean over pixels of -log p(label); exactly 0, with no gradient, where labels are missing.
    given : torch.Tensor of bool, shape (B, R)
    """
    given = labels[:, :, 0, 0] >= 0
    chosen = maps.gather(2, labels.clamp_min(0).long().unsqueeze(2)).squeeze(2)
    # Missing labels are taken out before the logarithm, so that no gradient depends on them.
    chosen = torch.where(given[..., None, None], chosen, torch.ones_like(chosen))
    return -(chosen.clamp_min(EPSILON)).log().mean((2, 3)), given


def mean_likelihood(maps: Tensor, labels: Tensor) -> Tensor:
    """Compute the mean of :func:`label_likelihood` over the label maps that are there: a scalar."""
    each, given = label_likelihood(maps, labels)
    return each.sum() / given.sum()


def soft_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Compute the mean over pixels of the cross-entropy with probabilities: (B,)."""
    return -(target * logits.log_softmax(1)).sum(1).mean((1, 2))


def _soft_dice(probabilities: Tensor, target: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Compute soft Dice with its sums over some axes; 1 where a class is in neither."""
    return (2 * (probabilities * target).sum(axes) + 1) / ((probabilities + target).sum(axes) + 1)


def dice_loss(probabilities: Tensor, target: Tensor) -> Tensor:
    """Compute 1 less the soft Dice, its sums over the whole batch, the mean over classes.

    Parameters
    ----------
    probabilities, target : torch.Tensor, shape (B, C, H, W)

    Notes
    -----
    A class that is neither predicted nor present counts as correct. With sums over the batch
    rather than each image, an image without foreground does not affect the foreground's loss.
    """
    return 1 - _soft_dice(probabilities, target, (0, 2, 3)).mean()


def overlap_loss(maps: Tensor, labels: Tensor) -> Tensor:
    """Compute the Dice loss of every annotator over the images that the annotator labelled.

    Parameters
    ----------
    maps : torch.Tensor, shape (B, R, C, H, W)
        Probabilities.
    labels : torch.Tensor of int, shape (B, R, H, W)
        -1 where an annotator did not label the image.

    Returns
    -------
    torch.Tensor, shape (R,)
        0 for an annotator who labelled none of them; as :func:`dice_loss` otherwise.
    """
    given = (labels[:, :, 0, 0] >= 0)[..., None, None, None]
    # Missing images are taken out before the sums, so that no gradient depends on them.
    probabilities = torch.where(given, maps, torch.zeros_like(maps))
    return 1 - _soft_dice(probabilities, one_hot(labels, maps.shape[2]), (0, 3, 4)).mean(1)
