from .boundary import (
    assd as assd,
    boundary_f1 as boundary_f1,
    hd as hd,
    hd95 as hd95,
    nsd as nsd,
    surface_distances as surface_distances,
)
from .consensus import (
    SpatialStaple as SpatialStaple,
    Staple as Staple,
    majority_vote as majority_vote,
    mean_map as mean_map,
    random_annotator as random_annotator,
    spatial_staple as spatial_staple,
    staple as staple,
)
from .overlap import (
    cohens_kappa as cohens_kappa,
    dice as dice,
    fleiss_kappa as fleiss_kappa,
    jaccard as jaccard,
    soft_dice as soft_dice,
)
from .pairwise import (
    PairOptions as PairOptions,
    image_pairs as image_pairs,
    pair_metrics as pair_metrics,
)
from .sets import (
    dice_match as dice_match,
    dice_max as dice_max,
    ged_released as ged_released,
    generalised_energy_distance as generalised_energy_distance,
)
from .stack import (
    mask_stack as mask_stack,
)
from .surfaces import (
    PreparedMask as PreparedMask,
    mask_surface as mask_surface,
    prepare as prepare,
)
