"""How much annotators agree: metrics of pairs of masks and what they sum up to."""

from iavlib.agreement.consensus import (
    Staple,
    majority_vote,
    mean_map,
    random_annotator,
    staple,
)
from iavlib.agreement.consensus_files import write_consensus
from iavlib.agreement.image_level import image_level
from iavlib.agreement.labelled import labelled_images, labelled_pairs
from iavlib.agreement.spatial_staple import SpatialStaple, spatial_staple
from iavlib.agreement.stack import mask_stack

__all__ = [
    "SpatialStaple",
    "Staple",
    "image_level",
    "labelled_images",
    "labelled_pairs",
    "majority_vote",
    "mask_stack",
    "mean_map",
    "random_annotator",
    "spatial_staple",
    "staple",
    "write_consensus",
]
