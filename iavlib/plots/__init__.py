"""Figures of the book: one function a figure, each returning a matplotlib Figure."""

from iavlib.plots.annotators import (
    confusion_architecture,
    confusion_pictures,
    curves,
    rates_learnt_against_true,
)
from iavlib.plots.association import by_malignancy, dominance_curves, factor_heatmaps, forest
from iavlib.plots.dataset import (
    annotator_overlap,
    completeness,
    long_tails,
    masks_per_image,
    metric_distributions,
)
from iavlib.plots.diagnosis import precision_recall, reliability, roc, subgroup_forest
from iavlib.plots.diagnosis_first import expertness_pictures, intervals, methods_compared
from iavlib.plots.examples import examples_by_agreement, outlines
from iavlib.plots.explanations import (
    agreement_matrix,
    attribution_forest,
    cascade_lines,
    gain_bars,
    overlays,
)
from iavlib.plots.models import critical_difference, learning_curve, model_forest, paired_by_seed
from iavlib.plots.multitask import alpha_ablation, gain_forest, paired_runs, training_size_curves
from iavlib.plots.prediction import (
    coverage_and_width,
    predicted_against_true,
    prediction_densities,
    prediction_intervals,
    residuals,
)
from iavlib.plots.preference import agreement_reliability, annotator_pictures, dice_matrices
from iavlib.plots.style import use_style
from iavlib.plots.tables import readable
from iavlib.plots.triage import triage_curves

use_style()

__all__ = [
    "agreement_matrix",
    "agreement_reliability",
    "alpha_ablation",
    "annotator_overlap",
    "annotator_pictures",
    "attribution_forest",
    "by_malignancy",
    "cascade_lines",
    "completeness",
    "confusion_architecture",
    "confusion_pictures",
    "coverage_and_width",
    "critical_difference",
    "curves",
    "dice_matrices",
    "dominance_curves",
    "examples_by_agreement",
    "expertness_pictures",
    "factor_heatmaps",
    "forest",
    "gain_bars",
    "gain_forest",
    "intervals",
    "learning_curve",
    "long_tails",
    "masks_per_image",
    "methods_compared",
    "metric_distributions",
    "model_forest",
    "outlines",
    "overlays",
    "paired_by_seed",
    "paired_runs",
    "precision_recall",
    "predicted_against_true",
    "prediction_densities",
    "prediction_intervals",
    "rates_learnt_against_true",
    "readable",
    "reliability",
    "residuals",
    "roc",
    "subgroup_forest",
    "training_size_curves",
    "triage_curves",
]
