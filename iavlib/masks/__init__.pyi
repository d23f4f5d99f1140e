from .consensus import (
    SpatialStaple as SpatialStaple,
    Staple as Staple,
    majority_vote as majority_vote,
    mean_map as mean_map,
    random_annotator as random_annotator,
    spatial_staple as spatial_staple,
    staple as staple,
)
from .metrics import (
    METRICS as METRICS,
    MaskPair as MaskPair,
    Metric as Metric,
    PairOptions as PairOptions,
    assd as assd,
    boundary_f1 as boundary_f1,
    cohens_kappa as cohens_kappa,
    dice as dice,
    hd as hd,
    hd95 as hd95,
    image_pairs as image_pairs,
    jaccard as jaccard,
    metric_names as metric_names,
    nsd as nsd,
    pair_metrics as pair_metrics,
    register_metric as register_metric,
    surface_distances as surface_distances,
)
from .overlap import (
    array_dice as array_dice,
    class_dice as class_dice,
    dice_from_counts as dice_from_counts,
    fleiss_kappa as fleiss_kappa,
    ged_released as ged_released,
    generalised_energy_distance as generalised_energy_distance,
    mask_stack as mask_stack,
    soft_dice as soft_dice,
)
from .surfaces import PreparedMask as PreparedMask, mask_surface as mask_surface, prepare as prepare
