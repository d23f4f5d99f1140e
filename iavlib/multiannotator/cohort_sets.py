"""A cohort's pictures and masks as arrays; simulated annotators on a cohort's true masks.

Reading one picture of a cohort with its annotators' masks, all of one size in the end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from iavlib.core.errors import LabelError
from iavlib.data.cohort import Cohort
from iavlib.data.images import image_size, read_image, read_mask
from iavlib.multiannotator.dataset import MISSING, MultiAnnotatorSet
from iavlib.multiannotator.simulation import PAPER_ANNOTATORS, SimulatedAnnotator, named, simulate


@dataclass(frozen=True)
class LabelValues:
    """Which grey value of a mask file means which class.

    Attributes
    ----------
    greys : tuple of int
        Of the classes 1, 2 …; empty where every value above 0 is the one class.
    structures : mapping of str to tuple of int
        Classes that make up each structure.
    """

    greys: tuple[int, ...]
    structures: Mapping[str, tuple[int, ...]]

    @classmethod
    def of(cls, cohort: Cohort) -> LabelValues:
        """Read them from the cohort's table ``classes``; without one, masks are binary.

        The table's index names the classes; ``grey`` is their value in mask files, and
        ``structures`` names, separated by spaces, what each is part of.
        """
        table = cohort.extras.get("classes", pd.DataFrame({"grey": [], "structures": []}))
        structures: dict[str, list[int]] = {}
        for number, names in enumerate(table["structures"], start=1):
            for name in names.split():
                structures.setdefault(name, []).append(number)
        greys = tuple(int(grey) for grey in table["grey"])
        return cls(greys, {name: tuple(classes) for name, classes in structures.items()})

    @property
    def n_classes(self) -> int:
        """Number of classes, with the background."""
        return max(len(self.greys), 1) + 1


def read_picture(path: str, size: tuple[int, int]) -> np.ndarray:
    """Read an image and squash it to a size (height, width), averaging: uint8, (h, w, 3)."""
    height, width = size
    picture = Image.fromarray(read_image(path))
    return np.asarray(picture.resize((width, height), Image.Resampling.BICUBIC))


def read_labels(path: str, size: tuple[int, int], values: LabelValues) -> np.ndarray:
    """Read a mask and squash it to a size by nearest neighbour.

    Returns
    -------
    numpy.ndarray of int8, shape (height, width)

    Raises
    ------
    DataError
        If the file is no mask.
    LabelError
        If it holds values that stand for no class.
    """
    height, width = size
    labels = read_mask(path).astype(np.int8) if not values.greys else _classes(path, values)
    return np.asarray(Image.fromarray(labels).resize((width, height), Image.Resampling.NEAREST))


def check_sizes(image_id: str, sizes: Mapping[str, tuple[int, int]]) -> None:
    """Raise where the masks of one picture differ in size.

    Raises
    ------
    LabelError
        Naming the first two files that differ.
    """
    first = next(iter(sizes))
    for name, size in sizes.items():
        if size != sizes[first]:
            told = " and ".join(f"{n} {sizes[n][0]}x{sizes[n][1]}" for n in (first, name))
            raise LabelError(
                f"picture {image_id!r}",
                f"its masks have different sizes: {told}",
                "replace the one that has not the picture's size",
            )


def fits(picture: tuple[int, int], mask: tuple[int, int], geometry: str) -> bool:
    """Tell whether masks lie over a picture once both are squashed to one size.

    Parameters
    ----------
    picture, mask : tuple of int
        Width and height of the files.
    geometry : {"original", "squashed", "cropped"}
        How the picture's file relates to the published pixels. A squashed one shows all of them;
        any other must have the size of its masks, or their shape to within a pixel.
    """
    if geometry == "squashed" or picture == mask:
        return True
    if geometry == "cropped":
        return False
    return abs(picture[0] * mask[1] - picture[1] * mask[0]) <= max(*picture, *mask)


def mask_sizes(paths: Mapping[str, str]) -> dict[str, tuple[int, int]]:
    """Read the width and height of mask files, by the file's name."""
    return {Path(path).name: image_size(path) for path in paths.values()}


def _classes(path: str, values: LabelValues) -> np.ndarray:
    # A file with several classes: its greys count as they are, so only plain grey files do.
    grey = read_image(path)[..., 0]
    labels = np.zeros(grey.shape, np.int8)
    for number, value in enumerate(values.greys, start=1):
        labels[grey == value] = number
    if unknown := sorted(set(np.unique(grey[labels == 0]).tolist()) - {0}):
        raise LabelError(
            path,
            f"values {unknown[:5]} stand for no class; declared are {[0, *values.greys]}",
            "write one of these values in each pixel, without smoothing or JPEG",
        )
    return labels


FRACTIONS = (0.7, 0.1, 0.2)
TRUTHS = ("known", "majority", "first")
ONE_ANNOTATOR = "(the image's first)"


def from_cohort(
    cohort: Cohort,
    size: int | tuple[int, int] = 64,
    annotators: Sequence[str] | None = None,
    truth: str | None = None,
    at_least: int = 1,
    fractions: Sequence[float] | str | None = FRACTIONS,
    seed: int = 0,
) -> MultiAnnotatorSet:
    """Read a cohort's pictures and masks.

    Pictures are squashed to one size, averaging, and masks likewise, by nearest neighbour. A
    picture is left out, and counted in the set's notes, where its file or all its masks are
    absent, where its file was cropped so that its masks do not lie over it, or where it has fewer
    annotators than asked. Of several masks by one annotator the first by name is taken.

    Parameters
    ----------
    cohort : Cohort
        Its ``extras["classes"]`` tells of masks with several classes.
    size : int or (height, width)
    annotators : sequence of str, optional
        Whose masks to read, in this order; unless given, all who drew a mask that is used, by
        name.
    truth : {"known", "majority", "first"} or an annotator's name, optional
        What to take as true: what a program drew (of a phantom), the vote of the annotators read
        (ties are foreground; with several classes the lowest of the most voted), the first
        annotator each picture has, or one annotator (other pictures are left out). Unless given,
        what is known, otherwise nothing.
    at_least : int
        Annotators a picture must have.
    fractions : sequence of float, "published" or None
        Shares of train, val and test, split by patient; the cohort's published split; none.
    seed : int
        Of the split.

    Returns
    -------
    MultiAnnotatorSet

    Raises
    ------
    LabelError
        If no picture is left, an annotator or a truth is unknown, masks of one picture differ in
        size, or a mask holds a class beyond those declared.
    DataError
        If a file cannot be read.
    """
    wanted = _wanted(cohort, annotators)
    truth = _truth(cohort, truth, wanted)
    shape = (size, size) if isinstance(size, int) else tuple(size)
    values = LabelValues.of(cohort)
    chosen, notes = _usable(cohort, wanted, truth, at_least)
    if annotators is None:
        wanted = tuple(sorted({name for own in chosen.values() for name in own}))
    pictures = [_read(cohort, image_id, own, shape, values) for image_id, own in chosen.items()]
    labels = np.full((len(chosen), len(wanted), *shape), MISSING, np.int8)
    for number, (_, own) in enumerate(pictures):
        for name, label in own.items():
            labels[number, wanted.index(name)] = label
    ids = pd.Index(list(chosen))
    made = MultiAnnotatorSet(
        name=cohort.name,
        images=np.stack([picture for picture, _ in pictures]),
        labels=labels,
        annotators=wanted,
        n_classes=values.n_classes,
        ids=ids,
        truth=None,
        clusters=cohort.clusters()[ids].to_numpy(object),
        subsets=_parts(cohort, ids, fractions, seed),
        structures=values.structures,
        synthetic=cohort.synthetic,
        notes=tuple(notes),
    )
    return _with_truth(made, cohort, truth, shape, values)


def simulated_on(
    cohort: Cohort,
    size: int | tuple[int, int] = 64,
    annotators: Sequence[str | SimulatedAnnotator] = PAPER_ANNOTATORS,
    level: float = 1.0,
    truth: str = "first",
    fractions: Sequence[float] | str | None = FRACTIONS,
    seed: int = 0,
) -> MultiAnnotatorSet:
    """Put simulated annotators on a cohort's own masks, taken as the truth.

    Parameters
    ----------
    cohort : Cohort
        One mask a picture is enough.
    size, fractions, seed
        As for :func:`from_cohort`; the seed is that of the annotators too.
    annotators : sequence of str or SimulatedAnnotator
    level : float
        Annotation noise of the annotators given by kind.
    truth : {"first", "majority", "known"} or an annotator's name
        Which masks the annotators are simulated on. The first annotator is one person's work; the
        majority vote of two is their union.

    Returns
    -------
    MultiAnnotatorSet
        ``simulated_annotators`` is True, and ``synthetic`` what it is of the cohort.

    Raises
    ------
    LabelError, DataError
        As :func:`from_cohort` and :func:`iavlib.multiannotator.simulate`.
    """
    real = from_cohort(cohort, size, None, truth, 1, fractions, seed)
    made = named(annotators, level)
    return replace(
        real,
        name=f"{cohort.name}-simulated",
        labels=simulate(real.truth, made, real.n_classes, real.ids, seed),
        annotators=tuple(one.name for one in made),
        simulated_annotators=True,
    )


def _wanted(cohort: Cohort, annotators) -> tuple[str, ...]:
    there = sorted(cohort.masks["annotator"].unique())
    wanted = tuple(there if annotators is None else annotators)
    if unknown := [name for name in wanted if name not in there]:
        raise LabelError(
            f"{cohort.name}, annotator {unknown[0]!r}",
            "drew no mask of this cohort",
            f"choose among {', '.join(there)}",
        )
    return wanted


def _truth(cohort: Cohort, truth: str | None, wanted: tuple[str, ...]) -> str | None:
    known = "truth" in cohort.extras
    truth = ("known" if known else None) if truth is None else truth
    if truth is None or (truth in TRUTHS and (truth != "known" or known)) or truth in wanted:
        return truth
    raise LabelError(
        f"{cohort.name}, truth {truth!r}",
        "no truth is known of it" if truth == "known" else "there is no such truth",
        f"choose majority, first, or one of {', '.join(wanted)}",
    )


def _usable(cohort: Cohort, wanted, truth: str | None, at_least: int):
    """Choose pictures and one mask file an annotator; tell what is left out."""
    masks = cohort.masks[cohort.masks["annotator"].isin(wanted)]
    here = masks[masks["path"].notna()].sort_index()
    once = here.drop_duplicates(["image_id", "annotator"])
    own = {
        image_id: dict(zip(group["annotator"], group["path"], strict=True))
        for image_id, group in once.groupby("image_id", sort=False)
    }
    chosen, left = {}, {}
    for image_id, row in cohort.images.iterrows():
        reason = _reason(image_id, row, own.get(image_id, {}), wanted, truth, at_least)
        if reason:
            left[reason] = left.get(reason, 0) + 1
        else:
            chosen[image_id] = own[image_id]
    notes = [f"left out: {n:,} pictures, {reason}" for reason, n in left.items()]
    if len(here) > len(once):
        notes.append(f"left out: {len(here) - len(once):,} further masks by an image's annotator")
    if not chosen:
        told = "; ".join(notes) or "it has no pictures"
        raise LabelError(cohort.name, f"no picture is left ({told})", "put files beside its tables")
    return chosen, notes


def _reason(image_id, row, own: dict[str, str], wanted, truth, at_least: int) -> str | None:
    """Say why a picture is left out; None where it is not."""
    if not own:
        return "no mask here"
    if pd.isna(row["path"]):
        return "no image file"
    if len(own) < at_least:
        return f"fewer than {at_least} annotators"
    if truth in wanted and truth not in own:
        return f"no mask by {truth}"
    sizes = mask_sizes(own)
    check_sizes(image_id, sizes)
    if not fits(image_size(row["path"]), next(iter(sizes.values())), row["geometry"]):
        return f"masks do not lie over the {row['geometry']} image file"
    return None


def _read(cohort: Cohort, image_id: str, own: dict[str, str], shape, values: LabelValues):
    labels = {name: read_labels(path, shape, values) for name, path in own.items()}
    return read_picture(cohort.images.loc[image_id, "path"], shape), labels


def _parts(cohort: Cohort, ids: pd.Index, fractions, seed: int) -> np.ndarray | None:
    if fractions is None:
        return None
    if isinstance(fractions, str):
        table = cohort.extras.get(f"{fractions}_split")
        if table is None:
            told = f"it has no {fractions} split"
            raise LabelError(cohort.name, told, "give fractions, such as (0.7, 0.1, 0.2)")
        return table.loc[ids, "subset"].to_numpy(object)
    split = cohort.select(ids).split(fractions, seed, stratify=("malignancy", "n_masks"))
    return split.assignment[ids].to_numpy(object)


def _with_truth(made: MultiAnnotatorSet, cohort: Cohort, truth: str | None, shape, values):
    if truth is None:
        return made
    if truth == "known":
        paths = cohort.extras["truth"]["path"]
        maps = np.stack([read_labels(paths[one], shape, values) for one in made.ids])
    elif truth == "majority":
        maps = majority_labels(made)
    else:
        first = (~made.missing).argmax(axis=1)
        place = first if truth == "first" else np.full(len(made), made.annotator_index(truth))
        maps = made.labels[np.arange(len(made)), place]
    whose = {"majority": "majority vote", "first": ONE_ANNOTATOR}.get(truth, truth)
    return replace(made, truth=maps.astype(np.int8), truth_is=whose)


def majority_labels(labelled: MultiAnnotatorSet) -> np.ndarray:
    """Return the class most annotators chose, in each pixel.

    With two classes a tie is foreground, as elsewhere here; with more, the lowest foreground
    class among the most voted.

    Returns
    -------
    numpy.ndarray of int8, shape (n, height, width)
    """
    foreground = range(1, labelled.n_classes)
    votes = np.stack([(labelled.labels == one).sum(axis=1) for one in (*foreground, 0)])
    return np.asarray([*foreground, 0], np.int8)[votes.argmax(axis=0)]
