"""From pairs of masks to one row an image."""

import pandas as pd

from iavlib.data.schemas import METRICS


def image_level(pairs: pd.DataFrame) -> pd.DataFrame:
    """Average every metric over the pairs of each image.

    Parameters
    ----------
    pairs : pandas.DataFrame
        Pairs table of a cohort: one row per unordered pair of annotators' masks.

    Returns
    -------
    pandas.DataFrame
        Index ``image_id``, in order of first appearance; for each metric ``<metric>_mean`` and
        ``<metric>_std`` (n - 1 in the denominator, missing for a single pair), and ``n_pairs``.
        Distances that do not exist (an empty mask) are left out of their mean.
    """
    groups = pairs.groupby("image_id", sort=False)
    table = groups[list(METRICS)].agg(["mean", "std"])
    table.columns = [f"{metric}_{statistic}" for metric, statistic in table.columns]
    return table.assign(n_pairs=groups.size())
