"""Images with the label maps of several annotators, as arrays to learn from."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import pandas as pd

from iavlib.core.errors import LabelError

MAX_CLASSES = np.iinfo(np.int8).max
#: The label of every pixel of an image that an annotator did not label.
MISSING = -1
#: Fields with one value per image, which selections of images select too.
_PER_IMAGE = ("images", "labels", "ids", "truth", "clusters", "subsets", "diagnosis")


@dataclass(frozen=True, eq=False)
class MultiAnnotatorSet:
    """Images of one size with one label map per annotator, some of which may be missing.

    Attributes
    ----------
    name : str
    images : numpy.ndarray of uint8 or float, shape (n, height, width, channels)
    labels : numpy.ndarray of int8, shape (n, annotators, height, width)
        Classes from 0 (background); -1 throughout where the annotator did not label the image.
    annotators : tuple of str
        Also those who labelled none of these images (after a selection, or by mistake):
        positions mean the same annotator in every subset. See :attr:`unseen`.
    n_classes : int
        With the background.
    ids : pandas.Index of str
    truth : numpy.ndarray of int8, shape (n, height, width), or None
        The true labels, or those taken as true: ``truth_is`` states which.
    truth_is : str
        Empty without a truth; "known" where a program drew it, otherwise whose labels they are.
    clusters : numpy.ndarray of str, shape (n,)
        What a split must keep together (the patient); each image by itself by default.
    subsets : numpy.ndarray of str, shape (n,), or None
        Subset of the split that each image belongs to.
    structures : mapping of str to tuple of int
        Classes that make up each structure, such as a cup within a disc; one structure per
        foreground class by default.
    diagnosis : numpy.ndarray of int, shape (n,), or None
        0 or 1 (malignant), for methods that learn from the diagnosis of each image too.
    simulated_annotators : bool
        True where a program drew the labels, whatever the images are.
    synthetic : bool
        True where the images themselves are synthetic.
    notes : tuple of str
        What was left out in making the set, with counts.
    citation : str
        Source of the images.

    Raises
    ------
    LabelError
        If shapes do not fit each other, a class is beyond those declared, an annotator labelled
        part of an image, an image has no label at all, or names are not unique. It names the
        image or the annotator, the problem and a remedy.

    Notes
    -----
    One label map per image is enough. An annotator who never marks anything is kept: a blank one is
    a case to learn. An annotator who labelled no image cannot be learnt: methods call
    :meth:`require_seen`.
    """

    name: str
    images: np.ndarray = field(repr=False)
    labels: np.ndarray = field(repr=False)
    annotators: tuple[str, ...]
    n_classes: int
    ids: pd.Index = field(repr=False)
    truth: np.ndarray | None = field(default=None, repr=False)
    truth_is: str = ""
    clusters: np.ndarray | None = field(default=None, repr=False)
    subsets: np.ndarray | None = field(default=None, repr=False)
    structures: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    diagnosis: np.ndarray | None = field(default=None, repr=False)
    simulated_annotators: bool = False
    synthetic: bool = False
    notes: tuple[str, ...] = ()
    citation: str = ""

    def __post_init__(self):
        ids = pd.Index([str(image_id) for image_id in self.ids], name="image_id", dtype=object)
        per_class = {f"class {number}": (number,) for number in range(1, self.n_classes)}
        single = {"foreground": (1,)}
        structures = self.structures or (single if self.n_classes == 2 else per_class)
        fields = {
            "ids": ids,
            "annotators": tuple(self.annotators),
            "clusters": np.asarray(ids if self.clusters is None else self.clusters, dtype=object),
            "subsets": None if self.subsets is None else np.asarray(self.subsets, dtype=object),
            "structures": {name: tuple(classes) for name, classes in structures.items()},
        }
        for key, value in fields.items():
            object.__setattr__(self, key, value)
        _check_shapes(self)
        _check_classes(self)
        _check_missing(self)

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        height, width = self.images.shape[1:3]
        kind = "synthetic, " if self.synthetic else ""
        kind += "simulated annotators, " if self.simulated_annotators else ""
        kind += f"{len(self):,} images of {width}x{height}, {len(self.annotators)} annotators"
        n_maps = int((~self.missing).sum())
        maps = f"{n_maps:,} label maps, {self.n_classes} classes"
        return f"MultiAnnotatorSet({self.name!r}, {kind}, {maps})"

    @cached_property
    def missing(self) -> np.ndarray:
        """Whether each annotator did not label each image: bool, shape (n, annotators)."""
        return self.labels[:, :, 0, 0] == MISSING

    @property
    def masks(self) -> pd.DataFrame:
        """One row per label map: ``image_id`` and ``annotator``, as in a cohort's table."""
        rows, columns = np.nonzero(~self.missing)
        names = np.asarray(self.annotators, dtype=object)[columns]
        return pd.DataFrame({"image_id": self.ids[rows], "annotator": names})

    @property
    def counts(self) -> pd.Series:
        """Number of images that each annotator labelled."""
        counts = (~self.missing).sum(axis=0)
        return pd.Series(counts, pd.Index(self.annotators, name="annotator"), name="n_images")

    @property
    def unseen(self) -> tuple[str, ...]:
        """Annotators who labelled no image of the set."""
        return tuple(self.counts.index[self.counts == 0])

    @cached_property
    def fingerprint(self) -> str:
        """Twelve hexadecimal digits that change with any pixel, label, name or diagnosis."""
        digest = hashlib.sha256(repr((self.name, self.annotators, self.n_classes)).encode())
        digest.update(repr(sorted(self.structures.items())).encode())
        for texts in (self.ids, self.clusters, () if self.subsets is None else self.subsets):
            digest.update("\n".join(map(str, texts)).encode() + b"\0")
        for array in (self.images, self.labels, self.truth):
            if array is not None:
                digest.update(f"{array.dtype}{array.shape}".encode())
                digest.update(np.ascontiguousarray(array))
        value = digest.hexdigest()[:12]
        if self.diagnosis is None:
            return value
        return hashlib.sha256(f"{value}{self.diagnosis.tolist()}".encode()).hexdigest()[:12]

    def annotator_index(self, name: str) -> int:
        """Return an annotator's position.

        Raises
        ------
        LabelError
            If there is no such annotator.
        """
        self._require("annotator", name, self.annotators)
        return self.annotators.index(name)

    def _require(self, what: str, name: str, known: Iterable[str]) -> None:
        if name not in known:
            hint = f"choose among {', '.join(known)}"
            raise LabelError(f"{self.name}, {what} {name!r}", "there is none of that name", hint)

    def require_seen(self) -> None:
        """Raise :class:`LabelError`, with their names, if annotators labelled no image."""
        if self.unseen:
            where = f"{self.name}, annotator {', '.join(map(repr, self.unseen[:5]))}"
            problem = (
                f"labelled none of the {len(self)} images ({len(self.unseen)} such annotators)"
            )
            hint = "leave them out with of_annotators(), or split so that each subset has some"
            raise LabelError(where, problem, hint)

    def take(self, positions) -> MultiAnnotatorSet:
        """Return the images at these positions (whole numbers, or one bool per image)."""
        chosen = np.arange(len(self))[np.asarray(positions)]
        values = {name: getattr(self, name) for name in _PER_IMAGE}
        return replace(self, **{k: v[chosen] for k, v in values.items() if v is not None})

    def select(self, image_ids: Iterable[str]) -> MultiAnnotatorSet:
        """Return these images only, in their order here.

        Raises
        ------
        KeyError
            If an image is not in the set.
        """
        wanted = set(map(str, image_ids))
        if unknown := sorted(wanted - set(self.ids)):
            raise KeyError(f"{self.name}: no image {', '.join(unknown[:5])}")
        return self.take(self.ids.isin(list(wanted)))

    def subset(self, name: str) -> MultiAnnotatorSet:
        """Return one subset of the split.

        Raises
        ------
        KeyError
            If the set is not split, or has no such subset.
        """
        known = () if self.subsets is None else tuple(dict.fromkeys(self.subsets))
        if name not in known:
            raise KeyError(f"{self.name}: no subset {name!r}; known: {', '.join(known) or 'none'}")
        return self.take(self.subsets == name)

    def of_annotators(self, names: Sequence[str]) -> MultiAnnotatorSet:
        """Return the labels of these annotators only, in this order, on the images they labelled.

        Raises
        ------
        LabelError
            If there is no such annotator, or none of them labelled anything.
        """
        columns = [self.annotator_index(name) for name in names]
        kept = ~self.missing[:, columns].all(axis=1)
        labels = self.labels[kept][:, columns]
        return replace(self.take(kept), labels=labels, annotators=tuple(names))

    def one_label_per_image(self, seed: int = 0) -> MultiAnnotatorSet:
        """Keep one annotator's label map per image, drawn at random among those it has.

        Which one depends on the seed and the image's id alone.
        """
        labels = np.full_like(self.labels, MISSING)
        for row, image_id in enumerate(self.ids):
            generator = np.random.default_rng([seed, zlib.crc32(image_id.encode())])
            column = generator.choice(np.flatnonzero(~self.missing[row]))
            labels[row, column] = self.labels[row, column]
        return replace(self, labels=labels)

    def structure(self, name: str) -> np.ndarray:
        """Return one structure as masks.

        Parameters
        ----------
        name : str
            Of :attr:`structures`.

        Returns
        -------
        numpy.ndarray of int8, shape (n, annotators, height, width)
            1 inside, 0 outside, -1 where the label is missing.

        Raises
        ------
        LabelError
            If there is no such structure.
        """
        self._require("structure", name, self.structures)
        masks = np.isin(self.labels, self.structures[name]).astype(np.int8)
        masks[self.labels == MISSING] = MISSING
        return masks

    def mean_map(self, structure: str | None = None) -> np.ndarray:
        """Return the share of each image's annotators who marked each pixel.

        Parameters
        ----------
        structure : str, optional
            The first of :attr:`structures` by default.

        Returns
        -------
        numpy.ndarray of float, shape (n, height, width)
        """
        masks = self.structure(structure or next(iter(self.structures)))
        return (masks == 1).sum(axis=1) / (~self.missing).sum(axis=1)[:, None, None]


def _check_shapes(dataset: MultiAnnotatorSet) -> None:
    """Check shapes, names, and the number of classes."""
    images, labels, truth, n_classes = (
        getattr(dataset, name) for name in ("images", "labels", "truth", "n_classes")
    )

    def require(fits, problem: str, hint: str) -> None:
        if not fits:
            raise LabelError(dataset.name, problem, hint)

    hint = "give images (n, height, width, channels), labels (n, annotators, height, width)"
    arrays = images.ndim == labels.ndim == 4 and images.size and labels.size
    require(arrays, f"shapes {images.shape} and {labels.shape}", hint)
    finite = images.dtype.kind != "f" or np.isfinite(images).all()
    require(finite, "images hold NaN or infinite values", "replace them")
    n, *size = images.shape[:3]
    expected = (n, len(dataset.annotators), *size)
    require(labels.shape == expected, f"labels of shape {labels.shape}, not {expected}", hint)
    if truth is not None:
        hint += ", truth without annotators"
        require(truth.shape == (n, *size), f"truth of shape {truth.shape}", hint)
    for name in ("ids", "clusters", "subsets", "diagnosis"):
        if (values := getattr(dataset, name)) is not None:
            problem = f"{len(values)} {name} for {n} images"
            require(len(values) == n, problem, "give one per image")
    for what, names in (("annotator", dataset.annotators), ("image", dataset.ids)):
        twice = pd.Index(names)[pd.Index(names).duplicated()]
        problem = f"two of the name {next(iter(twice), '')!r} ({what})"
        require(twice.empty, problem, "name each differently")
    hint = f"declare from 2 (background and one more) to {MAX_CLASSES}"
    require(2 <= n_classes <= MAX_CLASSES, f"{n_classes} classes", hint)
    for structure, classes in dataset.structures.items():
        problem = f"structure {structure!r} has a class beyond {n_classes}"
        require(max(classes) < n_classes, problem, "name classes below that")


def _check_classes(dataset: MultiAnnotatorSet) -> None:
    name, n_classes = dataset.name, dataset.n_classes
    for what, values, lowest in (("truth", dataset.truth, 0), ("labels", dataset.labels, MISSING)):
        if values is None:
            continue
        if values.dtype.kind not in "iu":
            raise LabelError(name, f"{what} of type {values.dtype}", "give whole numbers")
        if values.max() < n_classes and values.min() >= lowest:
            continue
        wrong = (values >= n_classes) | (values < lowest)
        first = tuple(np.argwhere(wrong)[0])
        whose = f", annotator {dataset.annotators[first[1]]!r}" if what == "labels" else ""
        declared = f"{n_classes} are declared, 0 to {n_classes - 1}"
        pixels = f"{int(wrong.sum()):,} pixels in all"
        problem = f"{what} hold class {values[first]}, but {declared} ({pixels})"
        hint = "declare as many classes as there are, background included, or map the values"
        raise LabelError(f"{name}, image {dataset.ids[first[0]]!r}{whose}", problem, hint)


def _check_missing(dataset: MultiAnnotatorSet) -> None:
    unlabelled = (dataset.labels == MISSING).sum(axis=(2, 3))
    size = dataset.labels[0, 0].size
    partly = np.argwhere((unlabelled > 0) & (unlabelled < size))
    if partly.size:
        row, column = partly[0]
        where = f"image {dataset.ids[row]!r}, annotator {dataset.annotators[column]!r}"
        problem = f"{unlabelled[row, column]:,} of {size:,} pixels have no label"
        hint = "label the whole image, or none of it (-1 throughout)"
        raise LabelError(f"{dataset.name}, {where}", problem, hint)
    empty = np.flatnonzero((unlabelled == size).all(axis=1))
    if len(empty):
        where = f"{dataset.name}, image {', '.join(map(repr, dataset.ids[empty[:3]]))}"
        problem = f"no annotator labelled it ({len(empty)} such images)"
        raise LabelError(where, problem, "leave out images without a mask")
