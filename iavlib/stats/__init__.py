"""Does agreement tell anything? Statistics on arrays and tables, knowing no dataset.

Rows of one patient or image resemble each other, so every interval here resamples clusters and
every permutation moves labels between them.
"""

from iavlib.stats.association import Association, Estimate, association
from iavlib.stats.comparison import (
    cluster_mean,
    compare_associations,
    compare_within_between,
)
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
from iavlib.stats.permutation import (
    PermutationTest,
    cluster_permutation_test,
    mean_difference_of,
    rank_biserial_of,
)
from iavlib.stats.resampling import Bootstrap, cluster_bootstrap, cluster_bootstrap_rows

__all__ = [
    "Association",
    "Bootstrap",
    "DependentColumnsError",
    "Dominance",
    "Estimate",
    "FactorMatrix",
    "MixedEffects",
    "NotIdentifiedError",
    "PermutationTest",
    "WithinBetween",
    "association",
    "cluster_bootstrap",
    "cluster_bootstrap_rows",
    "cluster_mean",
    "cluster_permutation_test",
    "clustered_linear_model",
    "cohens_d",
    "cohens_d_of_squared_variances",
    "compare_associations",
    "compare_within_between",
    "factor_matrix",
    "factor_pair",
    "first_order_dominance",
    "holm",
    "identified_terms",
    "mean_difference_of",
    "mixed_effects_model",
    "natural_key",
    "point_biserial",
    "rank_biserial",
    "rank_biserial_of",
    "recorded_factors",
    "weighted_cohens_d",
    "weighted_mean_difference",
    "weighted_point_biserial",
    "weighted_rank_biserial",
    "within_between",
]
