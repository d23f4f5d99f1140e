from .annotator_bias import (
    agreement_with_others as agreement_with_others,
    annotator_measures as annotator_measures,
    annotator_summary as annotator_summary,
    area_agreement as area_agreement,
    boundary_shift as boundary_shift,
    leave_one_out as leave_one_out,
    near_duplicate_annotators as near_duplicate_annotators,
    outlying_annotators as outlying_annotators,
)
from .consensus_files import (
    export_masks as export_masks,
    write_consensus as write_consensus,
)
from .mask_quality import check_masks as check_masks, compare_findings as compare_findings
from .tables import (
    PairTable as PairTable,
    image_level as image_level,
    labelled_images as labelled_images,
    labelled_pairs as labelled_pairs,
    pair_table as pair_table,
)
