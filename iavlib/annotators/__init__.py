"""Labels of several annotators to learn from: sets as arrays, simulated annotators, metrics.

>>> from iavlib import annotators
>>> digits = annotators.digits((40, 10, 20), level=0.5)
>>> annotators.true_confusion(digits).overall.shape
(5, 2, 2)
"""

from iavlib.annotators.annotator_set import MISSING, MultiAnnotatorSet
from iavlib.annotators.calibration import Reliability, reliability
from iavlib.annotators.confusion import (
    TrueConfusion,
    confusion_counts,
    error_rates,
    pixel_confusion,
    true_confusion,
)
from iavlib.annotators.digit_sets import digits
from iavlib.annotators.errors import LabelError
from iavlib.annotators.from_cohort import from_cohort, majority_labels, simulated_on
from iavlib.annotators.metrics import (
    Ranking,
    class_dice,
    confusion_error,
    confusion_error_released,
    dice_matrix,
    incompetence,
    mean_dice,
    rank_annotators,
    rate_correlations,
)
from iavlib.annotators.simulated import (
    MULTI_CLASS_ANNOTATORS,
    PAPER_ANNOTATORS,
    SimulatedAnnotator,
    crowd,
    simulate,
)

__all__ = [
    "MISSING",
    "MULTI_CLASS_ANNOTATORS",
    "PAPER_ANNOTATORS",
    "LabelError",
    "MultiAnnotatorSet",
    "Ranking",
    "Reliability",
    "SimulatedAnnotator",
    "TrueConfusion",
    "class_dice",
    "confusion_counts",
    "confusion_error",
    "confusion_error_released",
    "crowd",
    "dice_matrix",
    "digits",
    "error_rates",
    "from_cohort",
    "incompetence",
    "majority_labels",
    "mean_dice",
    "pixel_confusion",
    "rank_annotators",
    "rate_correlations",
    "reliability",
    "simulate",
    "simulated_on",
    "true_confusion",
]
