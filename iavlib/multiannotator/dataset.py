"""Pictures with the labels of several annotators, as arrays to learn from.

What a set of several annotators' labels must be, checked where it is made.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import pandas as pd

from iavlib.core.errors import LabelError

LARGEST_CLASS = np.iinfo(np.int8).max


def check_set(labelled) -> None:
    """Check a :class:`iavlib.multiannotator.MultiAnnotatorSet`.

    Raises
    ------
    LabelError
        Naming the picture or the annotator, what is wrong and the mend.
    """
    _check_shapes(labelled)
    _check_names(labelled)
    _check_classes(labelled)
    _check_missing(labelled)


def _check_shapes(labelled) -> None:
    images, labels, truth = labelled.images, labelled.labels, labelled.truth
    hint = "give images (n, height, width, channels), labels (n, annotators, height, width)"
    if images.ndim != 4 or labels.ndim != 4 or not images.size or not labels.size:
        raise LabelError(labelled.name, f"shapes {images.shape} and {labels.shape}", hint)
    if images.dtype.kind == "f" and not np.isfinite(images).all():
        raise LabelError(labelled.name, "images hold NaN or infinite values", "replace them")
    expected = (len(images), len(labelled.annotators), *images.shape[1:3])
    if labels.shape != expected:
        raise LabelError(labelled.name, f"labels of shape {labels.shape}, not {expected}", hint)
    if truth is not None and truth.shape != (len(images), *images.shape[1:3]):
        raise LabelError(labelled.name, f"truth of shape {truth.shape}", f"{hint}, truth without")
    for what in ("ids", "clusters", "subsets"):
        values = getattr(labelled, what)
        if values is not None and len(values) != len(images):
            told = f"{len(values)} {what} for {len(images)} pictures"
            raise LabelError(labelled.name, told, "give one a picture")


def _check_names(labelled) -> None:
    for what, names in (("annotator", labelled.annotators), ("picture", labelled.ids)):
        seen = set()
        twice = [name for name in names if name in seen or seen.add(name)]
        if twice:
            raise LabelError(
                labelled.name, f"two of the name {twice[0]!r} ({what})", "name each differently"
            )


def _check_classes(labelled) -> None:
    n_classes = labelled.n_classes
    if not 2 <= n_classes <= LARGEST_CLASS:
        raise LabelError(
            labelled.name,
            f"{n_classes} classes",
            f"declare from 2 (background and one more) to {LARGEST_CLASS}",
        )
    outside = [name for name, own in labelled.structures.items() if max(own) >= n_classes]
    if outside:
        raise LabelError(
            labelled.name,
            f"structure {outside[0]!r} has a class beyond {n_classes}",
            "name classes below that",
        )
    for what, values, lowest in (("truth", labelled.truth, 0), ("labels", labelled.labels, -1)):
        if values is None:
            continue
        if values.dtype.kind not in "iu":
            raise LabelError(labelled.name, f"{what} of type {values.dtype}", "give whole numbers")
        if values.max() >= n_classes or values.min() < lowest:
            _tell_class(labelled, what, values, lowest)


def _tell_class(labelled, what: str, values: np.ndarray, lowest: int) -> None:
    wrong = (values >= labelled.n_classes) | (values < lowest)
    place = np.argwhere(wrong)[0]
    whose = f", annotator {labelled.annotators[place[1]]!r}" if what == "labels" else ""
    raise LabelError(
        f"{labelled.name}, picture {labelled.ids[place[0]]!r}{whose}",
        f"{what} hold class {values[tuple(place)]}, but {labelled.n_classes} are declared "
        f"(0 to {labelled.n_classes - 1}; {int(wrong.sum()):,} pixels in all)",
        "declare as many classes as there are, background included, or map the values",
    )


def _check_missing(labelled) -> None:
    unlabelled = (labelled.labels == -1).sum(axis=(2, 3))
    size = labelled.labels.shape[2] * labelled.labels.shape[3]
    partly = np.argwhere((unlabelled > 0) & (unlabelled < size))
    if len(partly):
        image, annotator = partly[0]
        raise LabelError(
            f"{labelled.name}, picture {labelled.ids[image]!r}, annotator "
            f"{labelled.annotators[annotator]!r}",
            f"{unlabelled[image, annotator]:,} of {size:,} pixels have no label",
            "label the whole picture, or none of it (-1 throughout)",
        )
    nothing = np.flatnonzero((unlabelled == size).all(axis=1))
    if len(nothing):
        raise LabelError(
            f"{labelled.name}, picture {', '.join(map(repr, labelled.ids[nothing[:3]]))}",
            f"no annotator labelled it ({len(nothing)} such pictures)",
            "leave out pictures without a mask",
        )


#: The label of every pixel of a picture that an annotator did not label.
MISSING = -1


@dataclass(frozen=True, eq=False)
class MultiAnnotatorSet:
    """Pictures of one size with one label map an annotator, some of them missing.

    Attributes
    ----------
    name : str
    images : numpy.ndarray of uint8 or float, shape (n, height, width, channels)
    labels : numpy.ndarray of int8, shape (n, annotators, height, width)
        Classes from 0 (background); -1 throughout where the annotator did not label the picture.
    annotators : tuple of str
        Also those who labelled none of these pictures (after a selection, or by mistake):
        positions mean the same annotator in every part. See :attr:`unseen`.
    n_classes : int
        With the background.
    ids : pandas.Index of str
    truth : numpy.ndarray of int8, shape (n, height, width), or None
        What is true, or taken as true: ``truth_is`` says which.
    truth_is : str
        Empty without a truth; "known" where a program drew it, otherwise whose labels they are.
    clusters : numpy.ndarray of str, shape (n,)
        What must not be torn apart (the patient); each picture by itself unless given.
    subsets : numpy.ndarray of str, shape (n,), or None
        Part of the split that each picture belongs to.
    structures : mapping of str to tuple of int
        Classes that make up each structure, such as a cup within a disc; one structure a
        foreground class unless given.
    simulated_annotators : bool
        True where a program drew the labels, whatever the pictures are.
    synthetic : bool
        True where the pictures themselves were invented.
    notes : tuple of str
        What was left out in making the set, with counts.

    Raises
    ------
    LabelError
        If shapes do not fit each other, a class is beyond those declared, an annotator labelled
        part of a picture, a picture has no label at all, or names are not unique.

    Notes
    -----
    A picture that one annotator labelled is as good as any. An annotator who never draws
    anything is kept too: a blank one is a case to learn; :attr:`empty_annotators` names them. An
    annotator who labelled no picture cannot be learnt from: methods call :meth:`require_seen`.
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
    simulated_annotators: bool = False
    synthetic: bool = False
    notes: tuple[str, ...] = ()

    def __post_init__(self):

        ids = pd.Index([str(one) for one in self.ids], name="image_id", dtype=object)
        clusters = ids if self.clusters is None else self.clusters
        structures = self.structures or _one_each(self.n_classes)
        own = {
            "ids": ids,
            "annotators": tuple(self.annotators),
            "clusters": np.asarray(clusters, dtype=object),
            "subsets": None if self.subsets is None else np.asarray(self.subsets, dtype=object),
            "structures": {name: tuple(classes) for name, classes in structures.items()},
        }
        for key, value in own.items():
            object.__setattr__(self, key, value)
        check_set(self)

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        height, width = self.images.shape[1:3]
        kind = "synthetic, " if self.synthetic else ""
        kind += "simulated annotators, " if self.simulated_annotators else ""
        return (
            f"MultiAnnotatorSet({self.name!r}, {kind}{len(self):,} pictures of {width}x{height}, "
            f"{len(self.annotators)} annotators, {int((~self.missing).sum()):,} label maps, "
            f"{self.n_classes} classes)"
        )

    @cached_property
    def missing(self) -> np.ndarray:
        """Whether each annotator did not label each picture: bool, shape (n, annotators)."""
        return self.labels[:, :, 0, 0] == MISSING

    @property
    def counts(self) -> pd.Series:
        """Number of pictures that each annotator labelled."""
        counts = (~self.missing).sum(axis=0)
        return pd.Series(counts, pd.Index(self.annotators, name="annotator"), name="n_images")

    @property
    def unseen(self) -> tuple[str, ...]:
        """Annotators who labelled no picture of the set."""
        return tuple(self.counts.index[self.counts == 0])

    @cached_property
    def empty_annotators(self) -> tuple[str, ...]:
        """Annotators who labelled pictures, and drew nothing on any of them."""
        drew = (self.labels > 0).any(axis=(0, 2, 3))
        seen = ~self.missing.all(axis=0)
        return tuple(n for n, d, s in zip(self.annotators, drew, seen, strict=True) if s and not d)

    @cached_property
    def fingerprint(self) -> str:
        """Twelve hexadecimal digits that change with any pixel, label or name."""
        digest = hashlib.sha256(repr((self.name, self.annotators, self.n_classes)).encode())
        digest.update(repr(sorted(self.structures.items())).encode())
        for texts in (self.ids, self.clusters, () if self.subsets is None else self.subsets):
            digest.update("\n".join(map(str, texts)).encode() + b"\0")
        for array in (self.images, self.labels, self.truth):
            if array is not None:
                digest.update(f"{array.dtype}{array.shape}".encode())
                digest.update(np.ascontiguousarray(array))
        return digest.hexdigest()[:12]

    def annotator_index(self, name: str) -> int:
        """Return an annotator's position.

        Raises
        ------
        LabelError
            If there is no such annotator.
        """
        if name not in self.annotators:
            raise LabelError(
                f"{self.name}, annotator {name!r}",
                "nobody of that name labels this set",
                f"choose among {', '.join(self.annotators)}",
            )
        return self.annotators.index(name)

    def require_seen(self) -> None:
        """Raise where an annotator labelled no picture, so that nothing is known of her.

        Raises
        ------
        LabelError
            Naming them.
        """
        if self.unseen:
            raise LabelError(
                f"{self.name}, annotator {', '.join(map(repr, self.unseen[:5]))}",
                f"labelled none of the {len(self)} pictures ({len(self.unseen)} such annotators)",
                "leave them out with of_annotators(), or split so that each part has some",
            )

    def take(self, positions) -> MultiAnnotatorSet:
        """Return the pictures at these positions (whole numbers, or one bool a picture)."""
        places = np.arange(len(self))[np.asarray(positions)]
        return replace(
            self,
            images=self.images[places],
            labels=self.labels[places],
            ids=self.ids[places],
            truth=None if self.truth is None else self.truth[places],
            clusters=self.clusters[places],
            subsets=None if self.subsets is None else self.subsets[places],
        )

    def select(self, image_ids: Iterable[str]) -> MultiAnnotatorSet:
        """Return these pictures only, in their order here.

        Raises
        ------
        KeyError
            If a picture is not in the set.
        """
        wanted = set(map(str, image_ids))
        if unknown := sorted(wanted - set(self.ids)):
            raise KeyError(f"{self.name}: no picture {', '.join(unknown[:5])}")
        return self.take(self.ids.isin(list(wanted)))

    def subset(self, name: str) -> MultiAnnotatorSet:
        """Return one part of the split.

        Raises
        ------
        KeyError
            If the set is not split, or has no such part.
        """
        there = () if self.subsets is None else tuple(dict.fromkeys(self.subsets))
        if name not in there:
            raise KeyError(f"{self.name}: no part {name!r}; there are {', '.join(there) or 'none'}")
        return self.take(self.subsets == name)

    def of_annotators(self, names: Sequence[str]) -> MultiAnnotatorSet:
        """Return the labels of these annotators only, in this order, on the pictures they have.

        Raises
        ------
        LabelError
            If there is no such annotator, or none of them labelled anything.
        """
        columns = [self.annotator_index(name) for name in names]
        kept = ~self.missing[:, columns].all(axis=1)
        return replace(
            self.take(kept), labels=self.labels[kept][:, columns], annotators=tuple(names)
        )

    def one_label_per_image(self, seed: int = 0) -> MultiAnnotatorSet:
        """Keep one annotator's label of each picture, drawn at random among those it has.

        Which one depends on the seed and the picture's id alone.
        """
        labels = np.full_like(self.labels, MISSING)
        for number, image_id in enumerate(self.ids):
            generator = np.random.default_rng([seed, zlib.crc32(image_id.encode())])
            place = generator.choice(np.flatnonzero(~self.missing[number]))
            labels[number, place] = self.labels[number, place]
        return replace(self, labels=labels)

    def structure(self, name: str, of: str = "labels") -> np.ndarray:
        """Return one structure as masks.

        Parameters
        ----------
        name : str
            Of :attr:`structures`.
        of : {"labels", "truth"}

        Returns
        -------
        numpy.ndarray of int8
            1 inside, 0 outside, -1 where the label is missing; of the shape of what it is of.

        Raises
        ------
        LabelError
            If there is no such structure, or no truth.
        """
        values = {"labels": self.labels, "truth": self.truth}[of]
        if name not in self.structures or values is None:
            raise LabelError(
                f"{self.name}, structure {name!r}",
                "the set has no truth" if values is None else "there is none of that name",
                f"choose among {', '.join(self.structures)} of labels",
            )
        masks = np.isin(values, self.structures[name]).astype(np.int8)
        masks[values == MISSING] = MISSING
        return masks

    def mean_map(self, structure: str | None = None) -> np.ndarray:
        """Return the share of each picture's annotators who marked each pixel.

        Parameters
        ----------
        structure : str, optional
            The first of :attr:`structures` unless given.

        Returns
        -------
        numpy.ndarray of float, shape (n, height, width)
        """
        masks = self.structure(structure or next(iter(self.structures)))
        return (masks == 1).sum(axis=1) / (~self.missing).sum(axis=1)[:, None, None]


def _one_each(n_classes: int) -> dict[str, tuple[int, ...]]:
    if n_classes == 2:
        return {"foreground": (1,)}
    return {f"class {number}": (number,) for number in range(1, n_classes)}
