r"""MaxMIG: two views of the truth that know as much as possible of each other (Cao et al. 2019).

A *data classifier*, the network, predicts the class from the image, h(x); a *label aggregator*
predicts it from the labels alone, :math:`g(y) \propto p \exp \sum_r W_r[y_r]`, with p the share of
classes and a learnt matrix W_r for each annotator. Given the truth, image and labels are
independent, so that all they tell of each other is the truth. Both are trained to maximise the
mutual information gain, for the Kullback-Leibler divergence

.. math:: \frac{1}{n}\sum_i (1 + \log K_{ii}) - \frac{1}{n(n-1)}\sum_{i \ne j} K_{ij}, \qquad
    K_{ij} = \sum_c \frac{h_c(x_i)\, g_c(y_j)}{p_c},

where i and j are the pixels of a batch. All pairs are taken: their sum needs no loop over them,
as it is that of the products of two means. No annotator is assumed to be right more often than
not but through the start: W_r is the logarithm of the matrix that the majority vote implies.

Built from the released code (github.com/Newbeeer/Max-MIG: the gain, the aggregator and the
estimate of matrices) and the introduction of the paper. What is settled here: p is that of the
majority vote and fixed; annotators' matrices, which the aggregator does not determine, are the
shares of labels by the aggregator's classes (as the released code estimates them), followed as
AggNet's are. The forecaster from image and labels together is Bayes' rule with these.
"""

import torch
from torch import Tensor, nn

from iavlib.multiannotator import losses
from iavlib.multiannotator.dataset import MultiAnnotatorSet
from iavlib.multiannotator.method import Problem
from iavlib.multiannotator.methods import register
from iavlib.multiannotator.methods.aggnet import AggNet, add_votes


def information_gain(first: Tensor, second: Tensor, prior: Tensor) -> Tensor:
    """Compute the gain of the module's description.

    Parameters
    ----------
    first, second : torch.Tensor, shape (B, C, H, W)
        Two predictions of the same pixels.
    prior : torch.Tensor, shape (C,)

    Returns
    -------
    torch.Tensor
        A scalar; at its largest the mutual information of the two, in nats.
    """
    scaled = first / prior[:, None, None]
    same = (scaled * second).sum(1)
    n = same.numel()
    pairs = n**2 * (scaled.mean((0, 2, 3)) * second.mean((0, 2, 3))).sum()
    others = (pairs - same.sum()) / (n**2 - n)
    return 1 + same.clamp_min(losses.EPSILON).log().mean() - others


@register("maxmig", "MaxMIG")
class MaxMIG(AggNet):
    """The method of the module's description; settings as those of AggNet."""

    def build(self, problem: Problem) -> nn.Module:
        """Make the network and the aggregator."""
        network = super().build(problem)
        network.votes = nn.Parameter(network.confusion.matrices.log())
        return network

    def start(self, network: nn.Module, data: MultiAnnotatorSet, recipe) -> None:
        """Start from the majority vote."""
        super().start(network, data, recipe)
        with torch.no_grad():
            network.votes.copy_(network.confusion.matrices.log())

    def loss(self, network: nn.Module, batch: dict[str, Tensor], epoch: int, stage: str) -> Tensor:
        """Compute the negative gain, and update the matrices."""
        logits, _ = network(batch["images"])
        labels, prior = losses.one_hot(batch["labels"], logits.shape[1]), network.confusion.prior
        aggregated = add_votes(prior.log()[:, None, None], labels, network.votes).softmax(1)
        with torch.no_grad():
            network.confusion.follow(aggregated, labels, self.settings["momentum"])
        return -information_gain(logits.float().softmax(1), aggregated, prior)
