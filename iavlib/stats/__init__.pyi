from .associations import (
    Association as Association,
    Dominance as Dominance,
    association as association,
    cohens_d as cohens_d,
    cohens_d_of_squared_variances as cohens_d_of_squared_variances,
    first_order_dominance as first_order_dominance,
    holm as holm,
    rank_biserial as rank_biserial,
    weighted_cohens_d as weighted_cohens_d,
    weighted_mean_difference as weighted_mean_difference,
    weighted_point_biserial as weighted_point_biserial,
    weighted_rank_biserial as weighted_rank_biserial,
)
from .classification import (
    CLASSIFICATION_SCORES as CLASSIFICATION_SCORES,
    NOT_RECORDED as NOT_RECORDED,
    Auroc as Auroc,
    AurocDifference as AurocDifference,
    Threshold as Threshold,
    age_bands as age_bands,
    auroc as auroc,
    choose_threshold as choose_threshold,
    classification_scores as classification_scores,
    compare_aurocs as compare_aurocs,
    roc_curve as roc_curve,
    scores_by_group as scores_by_group,
)
from .conformal import (
    INTERVALS as INTERVALS,
    AdaptiveConformal as AdaptiveConformal,
    Conformal as Conformal,
    conformal_quantile as conformal_quantile,
    conformal_rank as conformal_rank,
    conformalized_quantiles as conformalized_quantiles,
    interval_coverage as interval_coverage,
    min_calibration as min_calibration,
    mondrian_intervals as mondrian_intervals,
    out_of_fold_intervals as out_of_fold_intervals,
    quantile_intervals as quantile_intervals,
    split_conformal as split_conformal,
)
from .factors import (
    FactorMatrix as FactorMatrix,
    factor_matrix as factor_matrix,
    factor_pair as factor_pair,
    natural_key as natural_key,
    recorded_factors as recorded_factors,
)
from .gains import (
    UnpairedRunsError as UnpairedRunsError,
    average_gain_on_other_images as average_gain_on_other_images,
    paired_gains as paired_gains,
)
from .image_baselines import (
    StatisticsBaseline as StatisticsBaseline,
    fit_statistics_baseline as fit_statistics_baseline,
    image_statistics as image_statistics,
)
from .linear_models import (
    DependentColumnsError as DependentColumnsError,
    MixedEffects as MixedEffects,
    NotIdentifiedError as NotIdentifiedError,
    clustered_coefficient as clustered_coefficient,
    mixed_effects_model as mixed_effects_model,
    random_effects_mean as random_effects_mean,
    specification_curve as specification_curve,
)
from .model_comparison import (
    kruskal_power as kruskal_power,
    z_normalised_kruskal as z_normalised_kruskal,
)
from .regression import (
    compare_distributions as compare_distributions,
    errors_by_group as errors_by_group,
    partial_correlation as partial_correlation,
    point_errors as point_errors,
    predictions_against_truth as predictions_against_truth,
    predictions_by_malignancy as predictions_by_malignancy,
    regression_errors as regression_errors,
    relative_reduction as relative_reduction,
)
from .reliability import (
    error_floor as error_floor,
    intraclass_correlation as intraclass_correlation,
    limits_of_agreement as limits_of_agreement,
    noise_ceiling as noise_ceiling,
)
from .resampling import (
    Bootstrap as Bootstrap,
    Estimate as Estimate,
    bootstrap_mean as bootstrap_mean,
    cluster_bootstrap as cluster_bootstrap,
    mean_interval as mean_interval,
)
from .samples import OneClassError as OneClassError
from .triage import triage_curve as triage_curve, triage_gains as triage_gains
