"""Which images of an experiment are for training, validation and testing."""

from __future__ import annotations

import pandas as pd

from iavlib.core.errors import ExperimentError
from iavlib.data.cohort import Cohort
from iavlib.data.official_splits import official_split
from iavlib.data.splits import share_of_clusters
from iavlib.experiments.config import Experiment, Split


def assign_parts(cohort: Cohort, experiment: Experiment) -> pd.Series:
    """Split a cohort as an experiment says.

    Parameters
    ----------
    cohort : Cohort
        Only images that can be used.
    experiment : Experiment
        Its ``split``, ``train_share`` and ``seed``.

    Returns
    -------
    pandas.Series
        ``train``, ``val`` or ``test`` for each image, indexed by ``image_id``. Training images
        that a share below 1 leaves out are not in it; shares of one seed are nested.

    Raises
    ------
    ExperimentError
        If the cohort cannot be split so.
    """
    try:
        subsets = _split(cohort, experiment.split)
    except (ValueError, TypeError) as error:
        raise ExperimentError("split", str(error), "correct the experiment's split") from error
    if experiment.train_share < 1:
        train = subsets.index[subsets == "train"]
        chosen = share_of_clusters(
            cohort.clusters()[train], experiment.train_share, experiment.seed
        )
        subsets = subsets.drop(train.difference(chosen))
    return subsets


def _split(cohort: Cohort, split: Split) -> pd.Series:
    settings = split.model_dump(exclude={"kind"})
    if split.kind == "official":
        return official_split(cohort, **settings).assignment
    return (cohort.fold if split.kind == "kfold" else cohort.split)(**settings).assignment
