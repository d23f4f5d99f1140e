"""A cohort's images and masks as arrays; simulated annotators on a cohort's own masks."""

from __future__ import annotations

from collections import Counter
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
from iavlib.multiannotator.fusion import majority_labels
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
        ``structures`` names, separated by spaces, the structures that each is part of.
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


def read_labels(path: str, size: tuple[int, int], values: LabelValues) -> np.ndarray:
    """Read a mask and resize it by nearest neighbour.

    Returns
    -------
    numpy.ndarray of int8, shape (height, width)

    Raises
    ------
    DataError
        If the file is not a mask.
    LabelError
        If it holds values that stand for no class.
    """
    height, width = size
    labels = read_mask(path).astype(np.int8) if not values.greys else _classes(path, values)
    return np.asarray(Image.fromarray(labels).resize((width, height), Image.Resampling.NEAREST))


def fits(image: tuple[int, int], mask: tuple[int, int], geometry: str) -> bool:
    """Return whether masks lie over an image once both are resized to one size.

    Parameters
    ----------
    image, mask : tuple of int
        Width and height of the files.
    geometry : {"original", "squashed", "cropped"}
        How the image's file relates to the published pixels. A squashed one shows all of them;
        any other must have the size of its masks, or their shape to within a pixel.
    """
    if geometry == "squashed" or image == mask:
        return True
    if geometry == "cropped":
        return False
    return abs(image[0] * mask[1] - image[1] * mask[0]) <= max(*image, *mask)


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
        problem = f"values {unknown[:5]} stand for no class; declared are {[0, *values.greys]}"
        hint = "write one of these values in each pixel, without smoothing or JPEG"
        raise LabelError(path, problem, hint)
    return labels


FRACTIONS = (0.7, 0.1, 0.2)
ONE_ANNOTATOR = "(the image's first)"


def from_cohort(
    cohort: Cohort,
    size: int | tuple[int, int] = 64,
    annotators: Sequence[str] | None = None,
    truth: str | None = None,
    min_masks: int = 1,
    fractions: Sequence[float] | str | None = FRACTIONS,
    seed: int = 0,
) -> MultiAnnotatorSet:
    """Read a cohort's images and masks.

    Images are resized to one size by bicubic interpolation, masks by nearest neighbour. An image
    is left out, and counted in the set's notes, where its file or all its masks are absent, where
    its file was cropped so that its masks do not lie over it, or where it has fewer annotators
    than required. Of several masks by one annotator the first by name is taken.

    Parameters
    ----------
    cohort : Cohort
        Its ``extras["classes"]`` describes masks with several classes.
    size : int or (height, width)
    annotators : sequence of str, optional
        Whose masks to read, in this order; by default all who drew a mask that is used, by name.
    truth : {"known", "majority", "first"} or an annotator's name, optional
        What to take as true: what a program drew (of a phantom), the vote of the annotators read
        (ties are foreground; with several classes the lowest of the most voted), the first
        annotator of each image, or one annotator (other images are left out). By default the known
        truth, otherwise none.
    min_masks : int
        Annotators an image must have.
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
        If no image is left, an annotator or a truth is unknown, masks of one image differ in
        size, or a mask holds a class beyond those declared.
    DataError
        If a file cannot be read.
    """
    known = sorted(cohort.masks["annotator"].unique())
    wanted = tuple(known if annotators is None else annotators)
    if unknown := [name for name in wanted if name not in known]:
        where, hint = f"{cohort.name}, annotator {unknown[0]!r}", f"choose among {', '.join(known)}"
        raise LabelError(where, "drew no mask of this cohort", hint)
    truth = _checked_truth(cohort, truth, wanted)
    height, width = (size, size) if isinstance(size, int) else tuple(size)
    values = LabelValues.of(cohort)
    chosen, notes = _usable(cohort, wanted, truth, min_masks)
    if annotators is None:
        wanted = tuple(sorted({name for paths in chosen.values() for name in paths}))
    labels = np.full((len(chosen), len(wanted), height, width), MISSING, np.int8)
    images = np.empty((len(chosen), height, width, 3), np.uint8)
    for row, (image_id, paths) in enumerate(chosen.items()):
        for name, path in paths.items():
            labels[row, wanted.index(name)] = read_labels(path, (height, width), values)
        image = Image.fromarray(read_image(cohort.images.loc[image_id, "path"]))
        images[row] = image.resize((width, height), Image.Resampling.BICUBIC)
    ids = pd.Index(list(chosen))
    about = {"notes": tuple(notes), "citation": cohort.citation, "synthetic": cohort.synthetic}
    arrays = (images, labels, wanted, values.n_classes, ids)
    dataset = MultiAnnotatorSet(
        cohort.name,
        *arrays,
        clusters=cohort.clusters()[ids].to_numpy(object),
        subsets=_split(cohort, ids, fractions, seed),
        structures=values.structures,
        **about,
    )
    return _with_truth(dataset, cohort, truth, values)


def simulated_on(
    cohort: Cohort,
    size: int | tuple[int, int] = 64,
    annotators: Sequence[str | SimulatedAnnotator] = PAPER_ANNOTATORS,
    level: float = 1.0,
    truth: str = "first",
    fractions: Sequence[float] | str | None = FRACTIONS,
    seed: int = 0,
    strength: str = "examples",
) -> MultiAnnotatorSet:
    """Put simulated annotators on a cohort's own masks, taken as the truth.

    Parameters
    ----------
    cohort : Cohort
        One mask per image is enough.
    size, fractions, seed
        As for :func:`from_cohort`; the seed is that of the annotators too.
    annotators : sequence of str or SimulatedAnnotator
    level : float
        Annotation noise of the annotators given by kind.
    strength : {"examples", "published"}
        As for :func:`simulated_mnist`.
    truth : {"first", "majority", "known"} or an annotator's name
        Which masks the annotators are simulated on. The first annotator is one person's work; the
        majority vote of two is their union.

    Returns
    -------
    MultiAnnotatorSet
        ``simulated_annotators`` is True, and ``synthetic`` that of the cohort.

    Raises
    ------
    LabelError, DataError
        As :func:`from_cohort` and :func:`iavlib.multiannotator.simulate`.
    """
    real = from_cohort(cohort, size, None, truth, 1, fractions, seed)
    simulated = named(annotators, level)
    return replace(
        real,
        name=f"{cohort.name}-simulated",
        labels=simulate(real.truth, simulated, real.n_classes, real.ids, seed, strength=strength),
        annotators=tuple(one.name for one in simulated),
        simulated_annotators=True,
    )


def _checked_truth(cohort: Cohort, truth: str | None, wanted: tuple[str, ...]) -> str | None:
    known = ["known"] if "truth" in cohort.extras else []
    if truth is None:
        return known[0] if known else None
    if truth in (choices := [*known, "majority", "first", *wanted]):
        return truth
    problem = "no truth is known of it" if truth == "known" else "there is no such truth"
    hint = f"choose one of {', '.join(choices)}"
    raise LabelError(f"{cohort.name}, truth {truth!r}", problem, hint)


def _usable(cohort: Cohort, wanted, truth: str | None, min_masks: int):
    """Choose images and one mask file per annotator; note what is left out."""
    masks = cohort.masks[cohort.masks["annotator"].isin(wanted)]
    here = masks[masks["path"].notna()].sort_index()
    once = here.drop_duplicates(["image_id", "annotator"])
    paths = {
        image_id: dict(zip(group["annotator"], group["path"], strict=True))
        for image_id, group in once.groupby("image_id", sort=False)
    }
    required = truth if truth in wanted else None
    reasons = {
        image_id: _reason(image_id, row, paths.get(image_id, {}), required, min_masks)
        for image_id, row in cohort.images.iterrows()
    }
    chosen = {image_id: paths[image_id] for image_id, reason in reasons.items() if not reason}
    left_out = Counter(filter(None, reasons.values()))
    notes = [f"left out: {n:,} images, {reason}" for reason, n in left_out.items()]
    if len(here) > len(once):
        notes.append(f"left out: {len(here) - len(once):,} further masks by an image's annotator")
    if not chosen:
        problem = f"no image is left ({'; '.join(notes) or 'it has no images'})"
        raise LabelError(cohort.name, problem, "put files beside its tables")
    return chosen, notes


def _reason(image_id, row, own: dict[str, str], required: str | None, min_masks: int) -> str | None:
    """Return why an image is left out; None where it is not."""
    if not own:
        return "no mask here"
    if pd.isna(row["path"]):
        return "no image file"
    if len(own) < min_masks:
        return f"fewer than {min_masks} annotators"
    if required and required not in own:
        return f"no mask by {required}"
    sizes = mask_sizes(own)
    if len(set(sizes.values())) > 1:
        each = " and ".join(f"{name} {width}x{height}" for name, (width, height) in sizes.items())
        problem = f"its masks have different sizes: {each}"
        hint = "replace the one that does not have the image's size"
        raise LabelError(f"image {image_id!r}", problem, hint)
    if not fits(image_size(row["path"]), next(iter(sizes.values())), row["geometry"]):
        return f"masks do not lie over the {row['geometry']} image file"
    return None


def _split(cohort: Cohort, ids: pd.Index, fractions, seed: int) -> np.ndarray | None:
    if fractions is None:
        return None
    if isinstance(fractions, str):
        table = cohort.extras.get(f"{fractions}_split")
        if table is None:
            problem = f"it has no {fractions} split"
            raise LabelError(cohort.name, problem, "give fractions, such as (0.7, 0.1, 0.2)")
        return table.loc[ids, "subset"].to_numpy(object)
    split = cohort.select(ids).split(fractions, seed, stratify=("malignancy", "n_masks"))
    return split.assignment[ids].to_numpy(object)


def _with_truth(dataset: MultiAnnotatorSet, cohort: Cohort, truth: str | None, values):
    if truth is None:
        return dataset
    if truth == "known":
        paths, shape = cohort.extras["truth"]["path"], dataset.labels.shape[2:]
        maps = np.stack([read_labels(paths[one], shape, values) for one in dataset.ids])
    elif truth == "majority":
        maps = majority_labels(dataset)
    else:
        of_one = truth != "first"
        column = dataset.annotator_index(truth) if of_one else (~dataset.missing).argmax(axis=1)
        maps = dataset.labels[np.arange(len(dataset)), column]
    whose = {"majority": "majority vote", "first": ONE_ANNOTATOR}.get(truth, truth)
    return replace(dataset, truth=maps.astype(np.int8), truth_is=whose)
