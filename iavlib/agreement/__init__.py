"""How much annotators agree: metrics of pairs of masks and what they sum up to."""

from iavlib.agreement.annotator_quality import (
    agreement_with_others,
    near_duplicate_annotators,
    outlying_annotators,
)
from iavlib.agreement.annotators import annotator_summary, rank_annotators
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
from iavlib.agreement.leave_one_out import annotator_measures, boundary_shift, leave_one_out
from iavlib.agreement.quality import check_masks, compare_findings
from iavlib.agreement.spatial_staple import SpatialStaple, spatial_staple
from iavlib.agreement.stack import mask_stack

__all__ = [
    "SpatialStaple",
    "Staple",
    "agreement_with_others",
    "annotator_measures",
    "annotator_summary",
    "boundary_shift",
    "check_masks",
    "compare_findings",
    "image_level",
    "labelled_images",
    "labelled_pairs",
    "leave_one_out",
    "majority_vote",
    "mask_stack",
    "mean_map",
    "near_duplicate_annotators",
    "outlying_annotators",
    "random_annotator",
    "rank_annotators",
    "spatial_staple",
    "staple",
    "write_consensus",
]
