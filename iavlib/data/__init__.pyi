from .catalogue import (
    DEFAULT as DEFAULT,
    Dataset as Dataset,
    Layout as Layout,
    available as available,
    choose as choose,
    dataset_names as dataset_names,
    diagnosed as diagnosed,
    find_dataset as find_dataset,
    fingerprint as fingerprint,
    load as load,
    register_dataset as register_dataset,
)
from .cohort import (
    Cohort as Cohort,
    target as target,
    target_names as target_names,
)
from .official_splits import (
    check_subsets as check_subsets,
    official_split as official_split,
    overlap_report as overlap_report,
    without_overlap as without_overlap,
)
from .splits import Split as Split, dice_range as dice_range
