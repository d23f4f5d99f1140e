"""Our tables under the column names in which IMA++ publishes its own."""

import pandas as pd

from iavlib.data.imapp import PUBLISHED_METRIC

_PAIR = {
    "image_id": "img_id",
    "mask_1": "mask1",
    "mask_2": "mask2",
    "annotator_1": "annotator1",
    "annotator_2": "annotator2",
    **PUBLISHED_METRIC,
    "tool_1": "tool1",
    "skill_1": "skill_level1",
    "tool_2": "tool2",
    "skill_2": "skill_level2",
}


def published_pairs(pairs: pd.DataFrame) -> pd.DataFrame:
    """Rename a pairs table's columns to those of IMA++, in their order; ours come last."""
    ours = [column for column in pairs if column not in _PAIR]
    return pairs[[*_PAIR, *ours]].rename(columns=_PAIR)


def published_images(images: pd.DataFrame) -> pd.DataFrame:
    """Rename the columns of :func:`iavlib.agreement.image_level` to those of IMA++."""
    names = {
        f"{metric}_{statistic}": f"{theirs}_{statistic}"
        for metric, theirs in PUBLISHED_METRIC.items()
        for statistic in ("mean", "std")
    }
    return images.rename(columns=names).rename_axis("img_id")
