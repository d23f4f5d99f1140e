from .catalogue import (
    COHORTS as COHORTS,
    DEFAULT as DEFAULT,
    DIAGNOSED as DIAGNOSED,
    available as available,
    choose as choose,
    fingerprint as fingerprint,
    load as load,
)
from .cohort import (
    Cohort as Cohort,
    label_map as label_map,
    target as target,
    target_names as target_names,
)
from .duplicates import (
    overlap_report as overlap_report,
    without_overlap as without_overlap,
)
from .official_splits import (
    check_subsets as check_subsets,
    official_split as official_split,
)
from .splits import (
    Split as Split,
    dice_range as dice_range,
)
