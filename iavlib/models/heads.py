"""Heads: what turns a vector of features into a prediction."""

from dataclasses import dataclass

import numpy as np
import torch
from scipy import stats
from torch import nn

from iavlib.models.errors import ModelError

HEAD_KINDS = ("paper", "linear", "beta", "quantile")
CONCENTRATION = 4.0  # of the Beta distribution that a new head predicts
_EDGE = 1e-4  # keeps both parameters of a Beta distribution above zero


@dataclass(frozen=True)
class HeadSpec:
    """What a head is like.

    Attributes
    ----------
    kind : {"paper", "linear", "beta", "quantile"}
        ``paper``: linear to ``hidden``, batch norm, ReLU, dropout, linear, as in the paper;
        unbounded. ``linear``: dropout and one linear layer. ``beta``: the two parameters of a Beta
        distribution over [0, 1]. ``quantile``: quantiles in [0, 1] that never cross, at
        :func:`quantile_levels`.
    outputs : int
        Numbers that ``paper`` and ``linear`` give (one for regression, one a class for
        classification), or of quantiles (odd, so that the median is among them).
    hidden : int
        Width of the hidden layer; 0 leaves it out of ``beta`` and ``quantile``.
    dropout : float
        Share of hidden units, or of features where there are none, dropped while training.
    start : float or None
        Where predictions begin before any training, such as the median of the training part.
        None begins at 0 (``paper``, ``linear``) or at the middle of [0, 1].
    """

    kind: str
    outputs: int = 1
    hidden: int = 256
    dropout: float = 0.5
    start: float | None = None

    def __post_init__(self):
        if self.kind not in HEAD_KINDS:
            raise ModelError(f"head kind {self.kind!r}: known are {', '.join(HEAD_KINDS)}")
        if self.outputs < 1 or self.hidden < (1 if self.kind == "paper" else 0):
            raise ModelError(f"head {self.kind!r}: outputs and hidden must be positive")
        if not 0 <= self.dropout < 1:
            raise ModelError(f"head {self.kind!r}: dropout {self.dropout} is not in [0, 1)")
        if self.kind == "beta" and self.outputs != 1:
            raise ModelError("a beta head predicts one distribution: outputs must be 1")
        if self.kind == "quantile" and self.outputs % 2 == 0:
            raise ModelError("a quantile head needs an odd number of outputs, to hold the median")
        bounded = self.kind in ("beta", "quantile")
        if self.start is not None and bounded and not 0 < self.start < 1:
            raise ModelError(f"head {self.kind!r}: start {self.start} is not between 0 and 1")

    @property
    def width(self) -> int:
        """Numbers in a row of the raw output: two for a Beta distribution, else ``outputs``."""
        return 2 if self.kind == "beta" else self.outputs


def quantile_levels(outputs: int) -> np.ndarray:
    """Return the levels of a quantile head: evenly from .05 to .95, the median for one.

    Raises
    ------
    ModelError
        If `outputs` is not odd and positive.
    """
    if outputs < 1 or outputs % 2 == 0:
        raise ModelError(f"a quantile head needs an odd number of outputs, not {outputs}")
    return np.array([0.5]) if outputs == 1 else np.linspace(0.05, 0.95, outputs)


class BetaOutput(nn.Module):
    """Two numbers to the parameters of a Beta distribution, through its mean and concentration."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (B, 2): alpha and beta, both positive."""
        x = x.float()  # half precision cannot tell a mean of 0.9999 from 1
        mean = _EDGE + (1 - 2 * _EDGE) * torch.sigmoid(x[:, 0])
        concentration = nn.functional.softplus(x[:, 1]) + 0.1
        return torch.stack([mean * concentration, (1 - mean) * concentration], dim=1)


class QuantileOutput(nn.Module):
    """Q + 1 numbers to Q quantiles in [0, 1]: shares of the interval, summed up."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (B, Q), not decreasing along a row."""
        return torch.softmax(x.float(), dim=1).cumsum(dim=1)[:, :-1].clamp(0, 1)


def build_head(spec: HeadSpec, features: int) -> nn.Module:
    """Return a new head.

    Linear layers start as in the paper: weights Kaiming-normal (fan in, ReLU), biases 0. The last
    layer of a head that begins somewhere (``beta``, ``quantile``, or with ``start``) starts with
    small weights instead (standard deviation .001) and the bias that gives ``start``.

    Parameters
    ----------
    spec : HeadSpec
    features : int
        Length of the feature vector.

    Returns
    -------
    torch.nn.Module
        From (B, features) to (B, ``spec.width``).
    """
    outputs = {"beta": 2, "quantile": spec.outputs + 1}.get(spec.kind, spec.outputs)
    if spec.kind == "linear" or spec.hidden == 0:
        layers = [nn.Dropout(spec.dropout), nn.Linear(features, outputs)]
    else:
        layers = [
            nn.Linear(features, spec.hidden),
            nn.BatchNorm1d(spec.hidden),
            nn.ReLU(),
            nn.Dropout(spec.dropout),
            nn.Linear(spec.hidden, outputs),
        ]
    head = nn.Sequential(*layers)
    for layer in (item for item in layers if isinstance(item, nn.Linear)):
        nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="relu")
        nn.init.zeros_(layer.bias)
    if spec.kind != "paper" or spec.start is not None:
        nn.init.normal_(layers[-1].weight, std=0.001)
        with torch.no_grad():
            layers[-1].bias.copy_(torch.as_tensor(_start_bias(spec), dtype=torch.float32))
    if spec.kind == "beta":
        head.append(BetaOutput())
    elif spec.kind == "quantile":
        head.append(QuantileOutput())
    return head


def _start_bias(spec: HeadSpec) -> np.ndarray:
    """Return the bias with which a head predicts ``start`` for every image."""
    if spec.kind in ("paper", "linear"):
        return np.full(spec.outputs, spec.start or 0.0)
    start = 0.5 if spec.start is None else spec.start
    if spec.kind == "beta":
        mean = (start - _EDGE) / (1 - 2 * _EDGE)
        return np.array([np.log(mean / (1 - mean)), np.log(np.expm1(CONCENTRATION - 0.1))])
    levels = quantile_levels(spec.outputs)
    # Even on either side of the median, which is at `start`.
    quantiles = np.where(levels <= 0.5, 2 * levels * start, start + (2 * levels - 1) * (1 - start))
    return np.log(np.diff(np.concatenate([[0.0], quantiles, [1.0]])))


def predicted_mean(head_kind: str, raw):
    """Return the point prediction of a regression head.

    Parameters
    ----------
    head_kind : str
        Kind of :class:`HeadSpec`.
    raw : torch.Tensor or numpy.ndarray of shape (B, width)
        What the head gave.

    Returns
    -------
    torch.Tensor or numpy.ndarray of shape (B,)
        The output itself (``paper``, ``linear``; not clamped), the mean of the Beta
        distribution, or the median quantile.
    """
    _check_regression(head_kind, raw)
    if head_kind == "beta":
        return raw[:, 0] / (raw[:, 0] + raw[:, 1])
    return raw[:, raw.shape[1] // 2]


def predicted_quantiles(head_kind: str, raw, levels) -> np.ndarray:
    """Return quantiles of the distribution that a ``beta`` or ``quantile`` head predicts.

    Parameters
    ----------
    head_kind : {"beta", "quantile"}
    raw : torch.Tensor or numpy.ndarray of shape (B, width)
        What the head gave.
    levels : sequence of float
        Between 0 and 1.

    Returns
    -------
    numpy.ndarray of shape (B, number of levels)
        Between the levels of a quantile head it is linear, and runs to 0 and 1 at the ends.

    Raises
    ------
    ModelError
        If the head gives a point only, or a level is not in [0, 1].
    """
    _check_regression(head_kind, raw)
    if head_kind not in ("beta", "quantile"):
        raise ModelError(f"a {head_kind!r} head predicts a point and no distribution")
    levels = np.asarray(levels, dtype=float)
    if ((levels < 0) | (levels > 1)).any():
        raise ModelError(f"levels of quantiles must lie in [0, 1], not {levels.tolist()}")
    raw = raw.detach().cpu().double().numpy() if isinstance(raw, torch.Tensor) else np.asarray(raw)
    if head_kind == "beta":
        return stats.beta.ppf(levels[None, :], raw[:, :1], raw[:, 1:])
    known = np.concatenate([[0.0], quantile_levels(raw.shape[1]), [1.0]])
    rows = [np.interp(levels, known, np.concatenate([[0.0], row, [1.0]])) for row in raw]
    return np.array(rows).reshape(len(raw), len(levels))


def _check_regression(head_kind: str, raw) -> None:
    if head_kind not in HEAD_KINDS:
        raise ModelError(f"head kind {head_kind!r}: known are {', '.join(HEAD_KINDS)}")
    width = {"beta": 2}.get(head_kind, 1)
    fits = raw.ndim == 2 and (raw.shape[1] == width or (head_kind == "quantile"))
    if not fits:
        raise ModelError(
            f"a {head_kind!r} regression head gives rows of {width}, not {tuple(raw.shape)}; "
            "a classification head has no mean"
        )
