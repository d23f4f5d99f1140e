"""The threshold above which a probability counts as malignant, chosen on a validation part.

Between two neighbouring scores every threshold calls the same rows malignant, so the candidates
are the middles between neighbours, one below all scores and one above all. The middle is what
generalises best when nothing else is known.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from iavlib.stats.diagnosis.diagnosis_samples import diagnosis_sample

__all__ = ["Threshold", "choose_threshold"]

Rule = Literal["balanced_accuracy", "specificity", "sensitivity"]

_ROUNDING = 1e-9


@dataclass(frozen=True)
class Threshold:
    """A threshold and what it did on the rows that chose it.

    Attributes
    ----------
    value : float
        A row is called malignant when its probability is at least this.
    rule : str
    target : float or None
        The rate asked for, of the rules that fix one.
    sensitivity, specificity, balanced_accuracy : float
        On the rows that chose it: hopeful, and no result.
    n, n_malignant : int
    n_tied : int
        Candidates that were as good, this one included.
    """

    value: float
    rule: str
    target: float | None
    sensitivity: float
    specificity: float
    balanced_accuracy: float
    n: int
    n_malignant: int
    n_tied: int


def choose_threshold(
    malignant: ArrayLike,
    probability: ArrayLike,
    rule: Rule = "balanced_accuracy",
    target: float | None = None,
) -> Threshold:
    """Choose a threshold on the rows of a validation part.

    Parameters
    ----------
    malignant : array_like of bool, shape (n,)
    probability : array_like of float, shape (n,)
    rule : {"balanced_accuracy", "specificity", "sensitivity"}
        The highest balanced accuracy, which is also the highest Youden index (twice balanced
        accuracy minus 1); the highest sensitivity with a specificity of at least `target`; the
        highest specificity with a sensitivity of at least `target`.
    target : float, optional
        Between 0 and 1, for the last two rules; .9 unless given.

    Returns
    -------
    Threshold
        Of candidates that tie in balanced accuracy, that nearest to .5, because no row speaks for
        moving it further; of two equally near, the lower one, which misses fewer malignancies.
        The other two rules have no ties: of candidates alike in the rate asked for, the best in
        the other rate is taken.

    Raises
    ------
    OneClassError
        When a class is missing.
    ValueError
        When the rule is unknown, or the target makes no sense.

    References
    ----------
    Youden, W. J. (1950). Index for rating diagnostic tests. Cancer 3, 32-35.
    """
    sample = diagnosis_sample(malignant, probability)
    cuts, sensitivity, specificity = _candidates(sample.malignant, sample.score)
    balanced = (sensitivity + specificity) / 2
    target = _check_rule(rule, target)
    if rule == "balanced_accuracy":
        tied = np.flatnonzero(balanced >= balanced.max() - _ROUNDING)
    else:
        rates = {
            "specificity": (specificity, sensitivity),
            "sensitivity": (sensitivity, specificity),
        }
        asked, wanted = rates[rule]
        allowed = np.where(asked >= target - _ROUNDING, wanted, -1.0)
        best = allowed >= allowed.max() - _ROUNDING
        tied = np.flatnonzero(best & (asked >= asked[best].max() - _ROUNDING))
    chosen = min(tied, key=lambda i: (round(abs(cuts[i] - 0.5), 12), cuts[i]))
    return Threshold(
        value=float(cuts[chosen]),
        rule=rule,
        target=target,
        sensitivity=float(sensitivity[chosen]),
        specificity=float(specificity[chosen]),
        balanced_accuracy=float(balanced[chosen]),
        n=len(sample),
        n_malignant=sample.n_malignant,
        n_tied=len(tied),
    )


def _candidates(malignant: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, ...]:
    """Thresholds from low to high, with sensitivity and specificity of each."""
    values, which = np.unique(score, return_inverse=True)
    above = (values[-1] + 1) / 2 if values[-1] < 1 else np.nextafter(1, 2)
    cuts = np.r_[values[0] / 2, (values[1:] + values[:-1]) / 2, above]
    # A middle may round down to its lower neighbour, which would then be called malignant.
    cuts[1:-1] = np.where(cuts[1:-1] > values[:-1], cuts[1:-1], values[1:])
    positive = np.bincount(which, malignant, len(values))
    negative = np.bincount(which, ~malignant, len(values))
    missed = np.r_[0, np.cumsum(positive)]
    spared = np.r_[0, np.cumsum(negative)]
    return cuts, 1 - missed / missed[-1], spared / spared[-1]


def _check_rule(rule: str, target: float | None) -> float | None:
    """Check rule and target; give the target's default."""
    if rule not in ("balanced_accuracy", "specificity", "sensitivity"):
        raise ValueError(
            f"rule must be balanced_accuracy, specificity or sensitivity, not {rule!r} (the "
            "Youden index is largest where balanced_accuracy is)"
        )
    if rule == "balanced_accuracy":
        if target is not None:
            raise ValueError("balanced_accuracy takes no target: it fixes no rate")
        return None
    target = 0.9 if target is None else target
    if not 0 < target <= 1:
        raise ValueError(f"target must lie between 0 and 1, for instance 0.9, not {target}")
    return float(target)
