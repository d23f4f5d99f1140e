"""Random subsets of a cohort that are balanced over given factors and share no patient."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from iavlib.core.errors import DataError

SUBSET_NAMES = ("train", "val", "test")
STRATIFY = ("dice_range", "malignancy", "n_masks")
DICE_EDGES = (0.5, 0.8)
DICE_LABELS = ("<.5", ".5 to .8", ">=.8")


@dataclass(frozen=True)
class Split:
    """Which subset each image belongs to.

    Attributes
    ----------
    assignment : pandas.Series
        Subset of each image, indexed by ``image_id``.
    report : pandas.DataFrame
        One row per subset and level of each stratifying factor: number of images, share within
        the subset, share in the whole, and their difference in percentage points.
    rule : str
        How the subsets were made, in a sentence.
    """

    assignment: pd.Series
    report: pd.DataFrame
    rule: str = ""

    def __getitem__(self, subset: str) -> pd.Index:
        """Return the image ids of one subset."""
        subsets = sorted(set(self.assignment))
        if subset not in subsets:
            raise KeyError(f"no subset {subset!r}; there are {', '.join(subsets)}")
        return self.assignment.index[self.assignment == subset]

    @property
    def sizes(self) -> dict[str, int]:
        """Number of images of each subset."""
        return self.assignment.value_counts(sort=False).to_dict()


def dice_range(mean_dice: pd.Series) -> pd.Series:
    """Bin image-level mean Dice as the paper does: < .5, .5 to below .8, >= .8."""
    binned = np.digitize(mean_dice.to_numpy(float), DICE_EDGES)
    labels = pd.Series(np.array(DICE_LABELS, dtype=object)[binned], index=mean_dice.index)
    return labels.where(mean_dice.notna(), "none")


def split_images(
    cohort,
    fractions=(0.7, 0.1, 0.2),
    seed: int = 0,
    stratify=STRATIFY,
    group: str | None = "patient",
) -> Split:
    """Split a cohort's images by greedy stratified assignment of whole clusters.

    Clusters are taken from the largest to the smallest, those with rare strata first, in
    seeded random order among equals; each goes to the subset that misses most images of the
    cluster's strata (Sechidis, Tsoumakas and Vlahavas 2011, extended to clusters), among the
    subsets that still have room. Sizes are therefore exact up to the last cluster.

    Parameters
    ----------
    cohort : Cohort
    fractions : sequence or mapping of float
        Shares of the subsets, summing to 1; a sequence of three is train, val and test.
    seed : int
        Same seed, same split.
    stratify : sequence of str
        What the subsets are balanced over: ``dice_range`` (mean Dice below .5, from .5 to below
        .8, from .8), ``n_masks`` or any column of ``images``.
    group : {"patient", "linked", None} or a column of ``images``
        What must not be split; ``linked`` images share a patient or a lesion. None treats every
        image as independent, as the paper does.

    Raises
    ------
    ValueError
        If the fractions do not sum to 1, or a factor is unknown.
    DataError
        If there are fewer clusters than subsets.
    """
    subsets = _named_fractions(fractions)
    factors = _factors(cohort, stratify)
    clusters = _clusters(cohort, group)
    n = clusters.nunique()
    if n < len(subsets):
        problem = f"{n} clusters cannot fill {len(subsets)} subsets"
        raise DataError(cohort.name, problem, "give images of more patients, or fewer subsets")
    strata, names = pd.factorize(factors.astype(str).agg(" | ".join, axis=1))
    shares = list(subsets.values())
    assigned = _assign(pd.factorize(clusters)[0], strata, len(names), shares, seed)
    subset = np.array(list(subsets), dtype=object)[assigned]
    assignment = pd.Series(subset, index=cohort.images.index, name="subset")
    return Split(assignment, balance(assignment, factors, list(subsets)))


def fold_images(
    cohort,
    fold: int,
    folds: int = 5,
    val: float = 0.125,
    seed: int = 0,
    stratify=STRATIFY,
    group: str | None = "patient",
) -> Split:
    """Take one fold for testing and split the others into training and validation.

    The folds of one seed are a partition: over ``fold = 0, 1, …`` every image is tested once.

    Parameters
    ----------
    cohort : Cohort
    fold, folds : int
        Which fold, from 0, of how many is for testing.
    val : float
        Share of the other folds' images that are for validation.
    seed, stratify, group
        As for :func:`split_images`, for the folds as for the choice of validation images.

    Raises
    ------
    ValueError
        As :func:`split_images`, or if there is no such fold.
    """
    if not 0 <= fold < folds:
        raise ValueError(f"fold must be from 0 to {folds - 1}, not {fold}")
    subsets = {str(number): 1 / folds for number in range(folds)}
    assignment = split_images(cohort, subsets, seed, stratify, group).assignment
    others = cohort.select(assignment.index[assignment != str(fold)])
    inner = split_images(others, {"train": 1 - val, "val": val}, [seed, fold], stratify, group)
    chosen = inner.assignment.reindex(cohort.images.index).fillna("test").rename("subset")
    return Split(chosen, balance(chosen, _factors(cohort, stratify), list(SUBSET_NAMES)))


def share_of_clusters(clusters: pd.Series, share: float, seed: int) -> pd.Index:
    """Choose whole clusters at random until they hold a share of the images.

    Parameters
    ----------
    clusters : pandas.Series
        Cluster of each image, indexed by ``image_id``.
    share : float
        In (0, 1].
    seed : int
        Shares of one seed are nested: a smaller one is part of every larger one.

    Returns
    -------
    pandas.Index
        Images of the chosen clusters, at least `share` of all, in the order given.
    """
    codes, names = pd.factorize(clusters)
    order = np.random.default_rng(seed).permutation(len(names))
    sizes = np.bincount(codes, minlength=len(names))[order]
    n_before = np.cumsum(sizes) - sizes
    chosen = order[n_before < share * len(clusters) - 1e-9]
    return clusters.index[np.isin(codes, chosen)]


def _named_fractions(fractions) -> dict[str, float]:
    if isinstance(fractions, Mapping):
        subsets = dict(fractions)
    elif isinstance(fractions, Sequence) and len(fractions) <= len(SUBSET_NAMES):
        names = ("train", "test") if len(fractions) == 2 else SUBSET_NAMES
        subsets = dict(zip(names, fractions, strict=False))
    else:
        raise ValueError("fractions: give two or three numbers, or a mapping of subset to share")
    if any(share <= 0 for share in subsets.values()) or not np.isclose(sum(subsets.values()), 1):
        raise ValueError(f"fractions must be positive and sum to 1, not {subsets}")
    return subsets


def _factors(cohort, stratify) -> pd.DataFrame:
    columns = {}
    for name in stratify or ():
        if name == "dice_range":
            mean_dice = cohort.pairs.groupby("image_id")["dice"].mean()
            columns[name] = dice_range(mean_dice.reindex(cohort.images.index))
        elif name == "n_masks":
            counts = cohort.masks["image_id"].value_counts()
            columns[name] = counts.reindex(cohort.images.index, fill_value=0)
        elif name in cohort.images:
            columns[name] = cohort.images[name].astype(object).fillna("missing")
        else:
            raise ValueError(f"{cohort.name}: images have no column {name!r} to stratify by")
    columns = columns or {"all": "all"}
    return pd.DataFrame(columns, index=cohort.images.index)


def _clusters(cohort, group) -> pd.Series:
    if group is None:
        return pd.Series(cohort.images.index, index=cohort.images.index)
    if group == "patient":
        return cohort.clusters()
    if group == "linked":
        return linked_clusters(cohort.images[["patient_id", "lesion_id"]])
    if group not in cohort.images:
        raise ValueError(f"{cohort.name}: images have no column {group!r} to group by")
    own = pd.Series("image:" + cohort.images.index.astype(str), index=cohort.images.index)
    return cohort.images[group].astype(object).fillna(own)


def linked_clusters(keys: pd.DataFrame) -> pd.Series:
    """Cluster the rows that share a value in any column, directly or through others.

    Parameters
    ----------
    keys : pandas.DataFrame
        One row per image, one column per kind of name (patient, lesion); a missing name links
        nothing.

    Returns
    -------
    pandas.Series
        Cluster of each row, named after its first row.
    """
    n, first, second = len(keys), [], []
    total = n
    for column in keys:
        codes, names = pd.factorize(keys[column])
        known = np.flatnonzero(codes >= 0)
        first.append(known)
        second.append(codes[known] + total)
        total += len(names)
    rows, nodes = np.concatenate(first), np.concatenate(second)
    graph = coo_array((np.ones(len(rows), bool), (rows, nodes)), shape=(total, total))
    component = connected_components(graph, directed=False)[1][:n]
    names = pd.Series(keys.index.astype(str), index=keys.index)
    return names.groupby(component).transform("first").rename("cluster")


def _assign(cluster, stratum, n_strata, shares, seed) -> np.ndarray:
    """Return the subset number of each image, given integer codes of its cluster and stratum."""
    n_clusters = cluster.max() + 1
    content = np.zeros((n_clusters, n_strata), int)
    np.add.at(content, (cluster, stratum), 1)
    sizes, frequency = content.sum(1), content.sum(0)
    room = _largest_remainder(len(cluster), shares)
    need = np.outer(shares, frequency).astype(float)
    rarity = np.array([frequency[row > 0].min() for row in content])
    order = np.lexsort((np.random.default_rng(seed).random(n_clusters), rarity, -sizes))
    subset_of = np.empty(n_clusters, int)
    for c in order:
        # The small second term settles ties between strata by what each subset lacks overall.
        lack = need @ content[c] / sizes[c] + 1e-3 * room / len(cluster)
        fits = room >= sizes[c]
        subset = np.argmax(np.where(fits, lack, -np.inf)) if fits.any() else np.argmax(room)
        subset_of[c] = subset
        need[subset] -= content[c]
        room[subset] -= sizes[c]
    return subset_of[cluster]


def _largest_remainder(n: int, shares) -> np.ndarray:
    exact = np.asarray(shares) * n
    counts = np.floor(exact).astype(int)
    for subset in np.argsort(counts - exact, kind="stable")[: n - counts.sum()]:
        counts[subset] += 1
    return counts


def balance(assignment: pd.Series, factors: pd.DataFrame, subsets: list[str]) -> pd.DataFrame:
    """Compare the composition of subsets; see :attr:`Split.report`."""
    rows = []
    for factor in factors:
        overall = factors[factor].value_counts(normalize=True).sort_index()
        for subset in subsets:
            levels = factors.loc[assignment == subset, factor].value_counts()
            for level, share in overall.items():
                n = int(levels.get(level, 0))
                within = n / max(levels.sum(), 1)
                rows.append((subset, factor, str(level), n, within, share, 100 * (within - share)))
    columns = ["subset", "factor", "level", "n", "share", "share_overall", "difference_points"]
    return pd.DataFrame(rows, columns=columns)
