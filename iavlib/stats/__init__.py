"""Does agreement tell anything? Statistics on arrays and tables, knowing no dataset.

Rows of one patient or image resemble each other, so every interval here resamples clusters and
every permutation moves labels between them.
"""

from iavlib.stats.association import Association, Estimate, association
from iavlib.stats.calibration import (
    calibration_line,
    expected_calibration_error,
    reliability_curve,
)
from iavlib.stats.classification import classification_scores, compare_scores
from iavlib.stats.comparison import (
    cluster_mean,
    compare_associations,
    compare_within_between,
)
from iavlib.stats.delong import (
    Auroc,
    AurocDifference,
    auroc,
    auroc_covariance,
    compare_aurocs,
    compare_independent_aurocs,
    equal_aurocs,
)
from iavlib.stats.diagnosis_samples import OneClassError
from iavlib.stats.dominance import Dominance, first_order_dominance
from iavlib.stats.effects import (
    cohens_d,
    cohens_d_of_squared_variances,
    point_biserial,
    rank_biserial,
    weighted_cohens_d,
    weighted_mean_difference,
    weighted_point_biserial,
    weighted_rank_biserial,
)
from iavlib.stats.factors import (
    FactorMatrix,
    WithinBetween,
    factor_matrix,
    factor_pair,
    natural_key,
    recorded_factors,
    within_between,
)
from iavlib.stats.gain_intervals import average_gain, average_gain_on_other_images
from iavlib.stats.gain_model import GainModel, gain_model
from iavlib.stats.linear import (
    DependentColumnsError,
    clustered_linear_model,
    identified_terms,
)
from iavlib.stats.mixed_effects import (
    MixedEffects,
    NotIdentifiedError,
    mixed_effects_model,
)
from iavlib.stats.multiplicity import holm
from iavlib.stats.multitask_gain import (
    UnpairedRunsError,
    cell_gains,
    gain_tests,
    paired_gains,
)
from iavlib.stats.permutation import (
    PermutationTest,
    cluster_permutation_test,
    mean_difference_of,
    rank_biserial_of,
)
from iavlib.stats.resampling import Bootstrap, cluster_bootstrap, cluster_bootstrap_rows
from iavlib.stats.roc import precision_recall_curve, roc_band, roc_curve
from iavlib.stats.subgroups import age_bands, scores_by_group
from iavlib.stats.temperature import Temperature, fit_temperature
from iavlib.stats.thresholds import Threshold, choose_threshold

__all__ = [
    "Association",
    "Auroc",
    "AurocDifference",
    "Bootstrap",
    "DependentColumnsError",
    "Dominance",
    "Estimate",
    "FactorMatrix",
    "GainModel",
    "MixedEffects",
    "NotIdentifiedError",
    "OneClassError",
    "PermutationTest",
    "Temperature",
    "Threshold",
    "UnpairedRunsError",
    "WithinBetween",
    "age_bands",
    "association",
    "auroc",
    "auroc_covariance",
    "average_gain",
    "average_gain_on_other_images",
    "calibration_line",
    "cell_gains",
    "choose_threshold",
    "classification_scores",
    "cluster_bootstrap",
    "cluster_bootstrap_rows",
    "cluster_mean",
    "cluster_permutation_test",
    "clustered_linear_model",
    "cohens_d",
    "cohens_d_of_squared_variances",
    "compare_associations",
    "compare_aurocs",
    "compare_independent_aurocs",
    "compare_scores",
    "compare_within_between",
    "equal_aurocs",
    "expected_calibration_error",
    "factor_matrix",
    "factor_pair",
    "first_order_dominance",
    "fit_temperature",
    "gain_model",
    "gain_tests",
    "holm",
    "identified_terms",
    "mean_difference_of",
    "mixed_effects_model",
    "natural_key",
    "paired_gains",
    "point_biserial",
    "precision_recall_curve",
    "rank_biserial",
    "rank_biserial_of",
    "recorded_factors",
    "reliability_curve",
    "roc_band",
    "roc_curve",
    "scores_by_group",
    "weighted_cohens_d",
    "weighted_mean_difference",
    "weighted_point_biserial",
    "weighted_rank_biserial",
    "within_between",
]
