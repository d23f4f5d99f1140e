"""How much annotators agree: metrics of pairs of masks and what they sum up to."""

from iavlib.agreement.boundary import assd, boundary_f1, hd, hd95, nsd, surface_distances
from iavlib.agreement.image_level import image_level
from iavlib.agreement.labelled import labelled_images, labelled_pairs
from iavlib.agreement.overlap import cohens_kappa, dice, fleiss_kappa, jaccard, soft_dice
from iavlib.agreement.pairwise import PairOptions, image_pairs, pair_metrics
from iavlib.agreement.prepared import PreparedMask, prepare
from iavlib.agreement.sets import dice_match, dice_max, generalised_energy_distance
from iavlib.agreement.surface import mask_surface
from iavlib.agreement.tables import PairTable, pair_table

__all__ = [
    "PairOptions",
    "PairTable",
    "PreparedMask",
    "assd",
    "boundary_f1",
    "cohens_kappa",
    "dice",
    "dice_match",
    "dice_max",
    "fleiss_kappa",
    "generalised_energy_distance",
    "hd",
    "hd95",
    "image_level",
    "image_pairs",
    "jaccard",
    "labelled_images",
    "labelled_pairs",
    "mask_surface",
    "nsd",
    "pair_metrics",
    "pair_table",
    "prepare",
    "soft_dice",
    "surface_distances",
]
