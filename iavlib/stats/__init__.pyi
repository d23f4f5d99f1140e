from .associations import (
    Association as Association,
    association as association,
)
from .calibration import (
    Temperature as Temperature,
    calibration_line as calibration_line,
    expected_calibration_error as expected_calibration_error,
    fit_temperature as fit_temperature,
    reliability_curve as reliability_curve,
)
from .classification import (
    Threshold as Threshold,
    choose_threshold as choose_threshold,
    classification_scores as classification_scores,
    compare_scores as compare_scores,
)
from .comparison import (
    cluster_mean as cluster_mean,
    compare_associations as compare_associations,
    compare_within_between as compare_within_between,
)
from .conformal import (
    Conformal as Conformal,
    conformal_quantile as conformal_quantile,
    conformal_rank as conformal_rank,
    conformalized_quantiles as conformalized_quantiles,
    out_of_fold_intervals as out_of_fold_intervals,
    split_conformal as split_conformal,
)
from .diagnosis_samples import (
    OneClassError as OneClassError,
)
from .dominance import (
    Dominance as Dominance,
    PermutationTest as PermutationTest,
    cluster_permutation_test as cluster_permutation_test,
    first_order_dominance as first_order_dominance,
    mean_difference_of as mean_difference_of,
    rank_biserial_of as rank_biserial_of,
)
from .effects import (
    cohens_d as cohens_d,
    cohens_d_of_squared_variances as cohens_d_of_squared_variances,
    holm as holm,
    point_biserial as point_biserial,
    rank_biserial as rank_biserial,
    weighted_cohens_d as weighted_cohens_d,
    weighted_mean_difference as weighted_mean_difference,
    weighted_point_biserial as weighted_point_biserial,
    weighted_rank_biserial as weighted_rank_biserial,
)
from .factors import (
    FactorMatrix as FactorMatrix,
    WithinBetween as WithinBetween,
    factor_matrix as factor_matrix,
    factor_pair as factor_pair,
    natural_key as natural_key,
    recorded_factors as recorded_factors,
    within_between as within_between,
)
from .gains import (
    GainModel as GainModel,
    UnpairedRunsError as UnpairedRunsError,
    average_gain as average_gain,
    average_gain_on_other_images as average_gain_on_other_images,
    cell_gains as cell_gains,
    gain_model as gain_model,
    gain_tests as gain_tests,
    paired_gains as paired_gains,
)
from .image_baselines import (
    image_statistics as image_statistics,
)
from .linear_models import (
    DependentColumnsError as DependentColumnsError,
    MixedEffects as MixedEffects,
    NotIdentifiedError as NotIdentifiedError,
    clustered_linear_model as clustered_linear_model,
    identified_terms as identified_terms,
    mixed_effects_model as mixed_effects_model,
)
from .model_comparison import (
    Friedman as Friedman,
    KruskalWallis as KruskalWallis,
    friedman as friedman,
    kruskal_wallis as kruskal_wallis,
    nemenyi as nemenyi,
    paired_differences as paired_differences,
    shapiro_by_model as shapiro_by_model,
    wilcoxon_holm as wilcoxon_holm,
)
from .predictions import (
    compare_distributions as compare_distributions,
    predictions_against_truth as predictions_against_truth,
    predictions_by_malignancy as predictions_by_malignancy,
    spread_of_errors as spread_of_errors,
)
from .regression import (
    StatisticsBaseline as StatisticsBaseline,
    clopper_pearson as clopper_pearson,
    compare_errors as compare_errors,
    constant_baseline as constant_baseline,
    errors_by_group as errors_by_group,
    fit_statistics_baseline as fit_statistics_baseline,
    interval_coverage as interval_coverage,
    kruskal_power as kruskal_power,
    out_of_fold as out_of_fold,
    out_of_fold_constant as out_of_fold_constant,
    out_of_fold_statistics as out_of_fold_statistics,
    point_errors as point_errors,
    regression_errors as regression_errors,
    relative_reduction as relative_reduction,
    z_normalised_kruskal as z_normalised_kruskal,
)
from .resampling import (
    Bootstrap as Bootstrap,
    Estimate as Estimate,
    cluster_bootstrap as cluster_bootstrap,
    cluster_bootstrap_rows as cluster_bootstrap_rows,
    mean_interval as mean_interval,
)
from .roc import (
    Auroc as Auroc,
    AurocDifference as AurocDifference,
    auroc as auroc,
    auroc_covariance as auroc_covariance,
    compare_aurocs as compare_aurocs,
    compare_independent_aurocs as compare_independent_aurocs,
    equal_aurocs as equal_aurocs,
    precision_recall_curve as precision_recall_curve,
    roc_band as roc_band,
    roc_curve as roc_curve,
)
from .subgroups import (
    age_bands as age_bands,
    scores_by_group as scores_by_group,
)
from .triage import (
    triage_curve as triage_curve,
    triage_gains as triage_gains,
)
