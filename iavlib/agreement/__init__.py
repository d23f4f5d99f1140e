"""How much annotators agree: metrics of pairs of masks and what they sum up to."""

from iavlib.agreement.annotator_quality import (
    agreement_with_others,
    near_duplicate_annotators,
    outlying_annotators,
)
from iavlib.agreement.annotators import annotator_summary, rank_annotators
from iavlib.agreement.boundary import assd, boundary_f1, hd, hd95, nsd, surface_distances
from iavlib.agreement.consensus import Staple, majority_vote, mean_map, random_annotator, staple
from iavlib.agreement.consensus_files import write_consensus
from iavlib.agreement.image_level import image_level
from iavlib.agreement.labelled import labelled_images, labelled_pairs
from iavlib.agreement.leave_one_out import annotator_measures, boundary_shift, leave_one_out
from iavlib.agreement.overlap import cohens_kappa, dice, fleiss_kappa, jaccard, soft_dice
from iavlib.agreement.pairwise import PairOptions, image_pairs, pair_metrics
from iavlib.agreement.prepared import PreparedMask, prepare
from iavlib.agreement.quality import check_masks, compare_findings
from iavlib.agreement.sets import (
    dice_match,
    dice_max,
    ged_released,
    generalised_energy_distance,
)
from iavlib.agreement.spatial_staple import SpatialStaple, spatial_staple
from iavlib.agreement.stack import mask_stack
from iavlib.agreement.surface import mask_surface
from iavlib.agreement.tables import PairTable, pair_table

__all__ = [
    "PairOptions",
    "PairTable",
    "PreparedMask",
    "SpatialStaple",
    "Staple",
    "agreement_with_others",
    "annotator_measures",
    "annotator_summary",
    "assd",
    "boundary_f1",
    "boundary_shift",
    "check_masks",
    "cohens_kappa",
    "compare_findings",
    "dice",
    "dice_match",
    "dice_max",
    "fleiss_kappa",
    "ged_released",
    "generalised_energy_distance",
    "hd",
    "hd95",
    "image_level",
    "image_pairs",
    "jaccard",
    "labelled_images",
    "labelled_pairs",
    "leave_one_out",
    "majority_vote",
    "mask_stack",
    "mask_surface",
    "mean_map",
    "near_duplicate_annotators",
    "nsd",
    "outlying_annotators",
    "pair_metrics",
    "pair_table",
    "prepare",
    "random_annotator",
    "rank_annotators",
    "soft_dice",
    "spatial_staple",
    "staple",
    "surface_distances",
    "write_consensus",
]
