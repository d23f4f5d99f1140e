"""Does agreement tell anything, and can it be told? Statistics that know no dataset.

Rows of one patient or image resemble each other, so every interval here resamples clusters and
every permutation moves labels between them.
"""

from iavlib.stats.association import Association, Estimate, association
from iavlib.stats.comparison import cluster_mean, compare_associations, compare_within_between
from iavlib.stats.diagnosis.calibration import (
    calibration_line,
    expected_calibration_error,
    reliability_curve,
)
from iavlib.stats.diagnosis.classification import classification_scores, compare_scores
from iavlib.stats.diagnosis.delong import (
    Auroc,
    AurocDifference,
    auroc,
    auroc_covariance,
    compare_aurocs,
    compare_independent_aurocs,
    equal_aurocs,
)
from iavlib.stats.diagnosis.diagnosis_samples import OneClassError
from iavlib.stats.diagnosis.gain_intervals import average_gain, average_gain_on_other_images
from iavlib.stats.diagnosis.gain_model import GainModel, gain_model
from iavlib.stats.diagnosis.multitask_gain import (
    UnpairedRunsError,
    cell_gains,
    gain_tests,
    paired_gains,
)
from iavlib.stats.diagnosis.roc import precision_recall_curve, roc_band, roc_curve
from iavlib.stats.diagnosis.subgroups import age_bands, scores_by_group
from iavlib.stats.diagnosis.temperature import Temperature, fit_temperature
from iavlib.stats.diagnosis.thresholds import Threshold, choose_threshold
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
from iavlib.stats.linear import DependentColumnsError, clustered_linear_model, identified_terms
from iavlib.stats.mixed_effects import MixedEffects, NotIdentifiedError, mixed_effects_model
from iavlib.stats.multiplicity import holm
from iavlib.stats.permutation import (
    PermutationTest,
    cluster_permutation_test,
    mean_difference_of,
    rank_biserial_of,
)
from iavlib.stats.prediction.baselines import (
    StatisticsBaseline,
    constant_baseline,
    fit_statistics_baseline,
    out_of_fold,
    out_of_fold_constant,
    out_of_fold_statistics,
)
from iavlib.stats.prediction.conformal import (
    Conformal,
    conformal_quantile,
    conformal_rank,
    conformalized_quantiles,
    out_of_fold_intervals,
    split_conformal,
)
from iavlib.stats.prediction.image_statistics import image_statistics
from iavlib.stats.prediction.interval_coverage import clopper_pearson, interval_coverage
from iavlib.stats.prediction.model_comparison import (
    Friedman,
    KruskalWallis,
    friedman,
    kruskal_wallis,
    shapiro_by_model,
)
from iavlib.stats.prediction.model_pairs import nemenyi, paired_differences, wilcoxon_holm
from iavlib.stats.prediction.normalised_errors import kruskal_power, z_normalised_kruskal
from iavlib.stats.prediction.prediction_distribution import (
    compare_distributions,
    predictions_against_truth,
    predictions_by_malignancy,
    spread_of_errors,
)
from iavlib.stats.prediction.regression_errors import (
    compare_errors,
    errors_by_group,
    point_errors,
    regression_errors,
    relative_reduction,
)
from iavlib.stats.prediction.triage import triage_curve, triage_gains
from iavlib.stats.resampling import Bootstrap, cluster_bootstrap, cluster_bootstrap_rows

__all__ = [
    "Association",
    "Auroc",
    "AurocDifference",
    "Bootstrap",
    "Conformal",
    "DependentColumnsError",
    "Dominance",
    "Estimate",
    "FactorMatrix",
    "Friedman",
    "GainModel",
    "KruskalWallis",
    "MixedEffects",
    "NotIdentifiedError",
    "OneClassError",
    "PermutationTest",
    "StatisticsBaseline",
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
    "clopper_pearson",
    "cluster_bootstrap",
    "cluster_bootstrap_rows",
    "cluster_mean",
    "cluster_permutation_test",
    "clustered_linear_model",
    "cohens_d",
    "cohens_d_of_squared_variances",
    "compare_associations",
    "compare_aurocs",
    "compare_distributions",
    "compare_errors",
    "compare_independent_aurocs",
    "compare_scores",
    "compare_within_between",
    "conformal_quantile",
    "conformal_rank",
    "conformalized_quantiles",
    "constant_baseline",
    "equal_aurocs",
    "errors_by_group",
    "expected_calibration_error",
    "factor_matrix",
    "factor_pair",
    "first_order_dominance",
    "fit_statistics_baseline",
    "fit_temperature",
    "friedman",
    "gain_model",
    "gain_tests",
    "holm",
    "identified_terms",
    "image_statistics",
    "interval_coverage",
    "kruskal_power",
    "kruskal_wallis",
    "mean_difference_of",
    "mixed_effects_model",
    "natural_key",
    "nemenyi",
    "out_of_fold",
    "out_of_fold_constant",
    "out_of_fold_intervals",
    "out_of_fold_statistics",
    "paired_differences",
    "paired_gains",
    "point_biserial",
    "point_errors",
    "precision_recall_curve",
    "predictions_against_truth",
    "predictions_by_malignancy",
    "rank_biserial",
    "rank_biserial_of",
    "recorded_factors",
    "regression_errors",
    "relative_reduction",
    "reliability_curve",
    "roc_band",
    "roc_curve",
    "scores_by_group",
    "shapiro_by_model",
    "split_conformal",
    "spread_of_errors",
    "triage_curve",
    "triage_gains",
    "weighted_cohens_d",
    "weighted_mean_difference",
    "weighted_point_biserial",
    "weighted_rank_biserial",
    "wilcoxon_holm",
    "within_between",
    "z_normalised_kruskal",
]
