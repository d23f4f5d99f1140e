"""What is explained: one number of a network's output, and in which direction.

grad-cam's own default, the largest output, is the only output of a regression head: it can only
show what *raises* the prediction. Here each head has two targets, one a direction.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from iavlib.explain.errors import ExplainError
from iavlib.models.heads import predicted_mean
from iavlib.models.network import Network

RAISES, LOWERS = "raises agreement", "lowers agreement"
MALIGNANT, BENIGN = "malignant", "benign"


@dataclass(frozen=True)
class Target:
    """A number that each image has, to be explained.

    Attributes
    ----------
    name : str
        One of :data:`RAISES`, :data:`LOWERS`, :data:`MALIGNANT` and :data:`BENIGN`.
    head : str
        Name of the network's head.
    kind : str
        Kind of a regression head, as :class:`iavlib.models.HeadSpec` has it; empty for a
        classification of two classes.
    sign : {1, -1}
        -1 turns the number round.
    """

    name: str
    head: str
    kind: str
    sign: int

    def level(self, outputs: Mapping[str, Tensor]) -> Tensor:
        """Return the number itself, whatever the direction, of shape (B,).

        The predicted agreement, or the logit of class 1 minus that of class 0.
        """
        raw = outputs[self.head]
        return predicted_mean(self.kind, raw) if self.kind else raw[:, 1] - raw[:, 0]

    def score(self, outputs: Mapping[str, Tensor]) -> Tensor:
        """Return what attribution is made for, of shape (B,): the number times ``sign``."""
        return self.sign * self.level(outputs)


def find_targets(network: Network) -> dict[str, Target]:
    """List what can be explained of a network.

    Parameters
    ----------
    network : Network
        Its heads of one output (or of a distribution) predict agreement, those of two outputs tell
        class 1 (malignant, melanoma) from class 0.

    Returns
    -------
    dict of str to Target
        By name, two a head: that which lowers agreement before that which raises it, malignant
        before benign.

    Raises
    ------
    ExplainError
        If a head has another number of outputs, or two predict the same.
    """
    found: dict[str, Target] = {}
    for head, spec in network.specs.items():
        if spec.kind in ("beta", "quantile") or spec.outputs == 1:
            own = (Target(LOWERS, head, spec.kind, -1), Target(RAISES, head, spec.kind, 1))
        elif spec.outputs == 2:
            own = (Target(MALIGNANT, head, "", 1), Target(BENIGN, head, "", -1))
        else:
            told = f"has {spec.outputs} outputs"
            raise ExplainError(f"head {head!r}", told, "explain heads of one or two outputs")
        if own[0].name in found:
            told = f"predicts the same as head {found[own[0].name].head!r}"
            raise ExplainError(f"head {head!r}", told, "explain a network with one of them")
        found |= {target.name: target for target in own}
    return found


def choose_targets(network: Network, names) -> tuple[Target, ...]:
    """Return the targets of these names, or all where `names` is None.

    Raises
    ------
    ExplainError
        If the network has none of that name.
    """
    known = find_targets(network)
    names = tuple(known) if names is None else tuple(names)
    for name in names:
        if name not in known:
            raise ExplainError(f"target {name!r}", "is not there", f"known: {', '.join(known)}")
    return tuple(known[name] for name in names)
