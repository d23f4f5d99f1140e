"""What a set of several annotators' labels must be, checked where it is made."""

import numpy as np

from iavlib.annotators.errors import LabelError

LARGEST_CLASS = np.iinfo(np.int8).max


def check_set(labelled) -> None:
    """Check a :class:`iavlib.annotators.MultiAnnotatorSet`.

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
    mend = "give images (n, height, width, channels), labels (n, annotators, height, width)"
    if images.ndim != 4 or labels.ndim != 4 or not images.size or not labels.size:
        raise LabelError(labelled.name, f"shapes {images.shape} and {labels.shape}", mend)
    if images.dtype.kind == "f" and not np.isfinite(images).all():
        raise LabelError(labelled.name, "images hold NaN or infinite values", "replace them")
    expected = (len(images), len(labelled.annotators), *images.shape[1:3])
    if labels.shape != expected:
        raise LabelError(labelled.name, f"labels of shape {labels.shape}, not {expected}", mend)
    if truth is not None and truth.shape != (len(images), *images.shape[1:3]):
        raise LabelError(labelled.name, f"truth of shape {truth.shape}", f"{mend}, truth without")
    for what in ("ids", "clusters", "parts"):
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
