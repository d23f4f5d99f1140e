"""Datasets of several annotators' labels by name, for the tasks that learn from them.

``digits`` and ``digits-classes`` (also ``simulated_mnist`` and ``simulated_mnist-classes``) are
MNIST digits with simulated annotators of one and of two foreground classes. Every cohort of
:func:`iavlib.data.load` is a set by its own name, with the annotators it has, and with
``-simulated`` appended one with simulated annotators on the first mask of each image. A split of
kind ``official`` is the cohort's published one (of ``riga``). ``auto`` is a folder where a path is
given, else the lesions with two annotators where available, else the phantom.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import pandas as pd
from pydantic import Field, field_validator

from iavlib import data
from iavlib.core.errors import DataError, ExperimentError, suggest
from iavlib.data.catalogue import load_shared
from iavlib.data.cohort import target
from iavlib.data.splits import share_of_clusters
from iavlib.experiments.config import AUTO, Experiment, TaskSettings
from iavlib.experiments.tasks import Log
from iavlib.multiannotator.cohort_sets import from_cohort, simulated_on
from iavlib.multiannotator.dataset import MultiAnnotatorSet
from iavlib.multiannotator.simulation import (
    MULTI_CLASS_ANNOTATORS,
    PAPER_ANNOTATORS,
    random_annotators,
    simulated_mnist,
)

SIMULATED = "-simulated"
#: Stands for a rater where nets are given the whole image in place of a mask.
NO_MASK = "NoMask"
TRUE, PERMUTED = "true", "permuted"
_DIGITS = {"n": [400, 100, 200], "seed": 0, "source": "auto", "background_noise": 0.0}
_CLASSES = {"groups": ((0, 1, 2, 3, 4), (5, 6, 7, 8, 9)), "tiles": 2}
#: Set of digits to its kinds of annotators, and options that are fixed.
DIGITS = {"digits": (PAPER_ANNOTATORS, {}), "digits-classes": (MULTI_CLASS_ANNOTATORS, _CLASSES)}
_ALIASES = {"simulated_mnist": "digits", "simulated_mnist-classes": "digits-classes"}
_PIXELS = 64


class AnnotatorData(TaskSettings):
    """Settings of the data of several annotators.

    Attributes
    ----------
    labels : {"dense", "single"}
        All labels, or one annotator's label of each training image.
    strength : {"examples", "published"}
        How strongly simulated annotators err, see :mod:`iavlib.multiannotator.simulation`.
    noise : float
        Annotation noise of simulated annotators, in [0, 1].
    annotators : int or tuple of str
        How many simulated annotators (2 or more), their kinds, or whose labels; 0 for all.
    truth : str
        As for :func:`iavlib.multiannotator.from_cohort`; its default if empty.
    min_masks : int
        Annotators an image must have.
    """

    VERSION_1: ClassVar = {"noise": ("level", {}), "min_masks": ("at_least", {})}

    labels: Literal["dense", "single"] = "dense"
    strength: Literal["examples", "published"] = "examples"
    noise: Annotated[float, Field(ge=0, le=1)] = 1.0
    annotators: Annotated[int, Field(ge=0)] | tuple[str, ...] = 0
    truth: str = ""
    min_masks: Annotated[int, Field(ge=0)] = 1

    @field_validator("annotators")
    @classmethod
    def _two_or_more(cls, value):
        if value == 1:
            raise ValueError("it should be 2 or more simulated annotators, or a list of names")
        return value


class DiagnosedData(AnnotatorData):
    """Settings of the data of tasks that use the diagnosis of each image too.

    Attributes
    ----------
    images : int
        Images that are used, both classes alike as far as possible, drawn by the seed of the split;
        all if 0.
    diagnosis : {"true", "permuted"}
        Whether diagnoses are exchanged at random within each subset of the split, so that what
        still predicts them has seen them.
    """

    images: Annotated[int, Field(ge=0)] = 0
    diagnosis: Literal["true", "permuted"] = TRUE


def choose(experiment: Experiment) -> tuple[str, dict[str, Any]]:
    """Return the name of an experiment's set, and those of its options that have an effect.

    Raises
    ------
    ExperimentError
        If there is no such set or option.
    """
    name, options = experiment.cohort, dict(experiment.cohort_options)
    name = _ALIASES.get(name, name)
    if name in DIGITS and isinstance(experiment.settings, DiagnosedData):
        raise ExperimentError(f"set {name!r}", "has no diagnoses", "name a cohort of lesions")
    if name in DIGITS:
        if wrong := [key for key in options if key not in _DIGITS]:
            raise ExperimentError(f"set {name!r}", f"no {wrong[0]!r}", suggest(wrong[0], _DIGITS))
        return name, options
    if name == AUTO:
        name = "folder" if options.get("path") else "isic_two_annotators"
        name = name if name == "folder" or name in data.available() else "phantom"
    base = name.removesuffix(SIMULATED)
    if base not in data.dataset_names():
        names = data.dataset_names()
        known = [*DIGITS, *names, *(known + SIMULATED for known in names)]
        raise ExperimentError("cohort", f"no set {name!r}", suggest(name, known))
    try:
        _, own = data.choose(base, **options)
    except (KeyError, TypeError) as error:
        raise ExperimentError("cohort", str(error.args[0]), "name one of these") from error
    return name, own


def load(experiment: Experiment) -> MultiAnnotatorSet:
    """Load the set of an experiment, split into subsets; the last few are kept.

    Raises
    ------
    ExperimentError
        If a name, an option or a setting is wrong, or diagnoses are needed and fewer than two
        images of a class are available.
    DataError, DatasetUnavailable
        If files are wrong or absent.
    """
    (name, options), split = choose(experiment), experiment.split
    if split.kind not in ("holdout", "official"):
        raise ExperimentError("split", "sets are split once", "give kind: holdout")
    if split.kind == "official" and name in DIGITS:
        raise ExperimentError("split", f"set {name!r} has no official one", "give kind: holdout")
    content = "" if name in DIGITS else data.fingerprint(name.removesuffix(SIMULATED), **options)
    settings = data_settings(experiment)
    return _load(name, json.dumps(options, default=str), split, settings, experiment.size, content)


def data_settings(experiment: Experiment) -> AnnotatorData:
    """Return those settings of an experiment that the data depend on."""
    settings = experiment.settings
    kind = DiagnosedData if isinstance(settings, DiagnosedData) else AnnotatorData
    return kind.model_construct(**{name: getattr(settings, name) for name in kind.model_fields})


@lru_cache(maxsize=8)  # lists go through a few sets in turn
def _load(
    name: str, options: str, split, settings: AnnotatorData, size: int | None, _content: str
) -> MultiAnnotatorSet:
    options, many, seed = json.loads(options), settings.annotators, split.seed
    diagnosed = isinstance(settings, DiagnosedData)

    def simulated(kinds, seed: int):
        if isinstance(many, tuple):
            return many
        return random_annotators(many, seed) if many else kinds

    if name in DIGITS:
        kinds, fixed = DIGITS[name]
        chosen = {**_DIGITS, **options, **fixed}
        seed, n = chosen["seed"], tuple(chosen.pop("n"))
        kinds, side = simulated(kinds, seed), size or 28 * chosen.get("tiles", 1)
        options = chosen | {"strength": settings.strength}
        dataset = simulated_mnist(n, kinds, settings.noise, size=side, **options)
        dataset = replace(dataset, citation="MNIST (LeCun et al. 1998)")
        return _with_single_labels(dataset, settings, seed)
    cohort = load_shared(name.removesuffix(SIMULATED), **options)
    if diagnosed:
        kept = _balanced(cohort, settings.images, seed, name)
        cohort = cohort.select(kept.index)
    fractions = "published" if split.kind == "official" else tuple(split.fractions)
    size, common = size or _PIXELS, {"fractions": fractions, "seed": seed}
    try:
        if name.endswith(SIMULATED):
            kinds, truth = simulated(PAPER_ANNOTATORS, seed), settings.truth or "first"
            common["strength"] = settings.strength
            dataset = simulated_on(cohort, size, kinds, settings.noise, truth, **common)
        else:
            given = (many or None, settings.truth or None, settings.min_masks)
            dataset = from_cohort(cohort, size, *given, **common)
    except DataError as error:
        raise ExperimentError(f"set {name!r}", error.problem, error.hint) from error
    if diagnosed:
        dataset = replace(dataset, diagnosis=kept.loc[dataset.ids].to_numpy())
    return _with_single_labels(dataset, settings, seed)


def _with_single_labels(dataset: MultiAnnotatorSet, settings, seed: int) -> MultiAnnotatorSet:
    """Keep one label of each training image, where that is asked; other subsets keep all."""
    if settings.labels == "dense":
        return dataset
    single = dataset.one_label_per_image(seed).labels
    training = (dataset.subsets == "train")[:, None, None, None]
    return replace(dataset, labels=single * training + dataset.labels * ~training)


def _balanced(cohort, n: int, seed: int, name: str) -> pd.Series:
    """Choose images with a file, a mask and a diagnosis; return the diagnoses."""
    marked = cohort.masks.loc[cohort.masks["path"].notna(), "image_id"].unique()
    shown = cohort.images.index[cohort.images["path"].notna()]
    diagnosed = target(cohort)
    diagnosed = diagnosed[diagnosed.index.isin(marked) & diagnosed.index.isin(shown)]
    counts = diagnosed.value_counts()
    if len(counts) < 2 or counts.min() < 2:
        problem = f"has {counts.to_dict()} images with file, mask and diagnosis"
        raise ExperimentError(f"set {name!r}", problem, "put more files beside its tables")
    if not n or n >= len(diagnosed):
        return diagnosed
    drawn = diagnosed.sample(frac=1, random_state=np.random.default_rng(seed))
    fewer = min(n // 2, counts.min())
    sizes = {counts.idxmin(): fewer, counts.idxmax(): n - fewer}
    kept = pd.concat([drawn[drawn == value].head(size) for value, size in sizes.items()])
    return diagnosed[diagnosed.index.isin(kept.index)]


def targets(dataset: MultiAnnotatorSet) -> pd.DataFrame:
    """List the images: index ``image_id``, ``target`` (the diagnosis, or the share marked)."""
    values = dataset.diagnosis
    if values is None:
        values = (dataset.labels > 0).any(axis=1).mean(axis=(1, 2))
    return pd.DataFrame({"target": values}, index=dataset.ids)


def subsets_of(
    dataset: MultiAnnotatorSet, experiment: Experiment, log: Log
) -> dict[str, MultiAnnotatorSet]:
    """Split a set, leave out annotators without training images, and take the share asked for.

    Raises
    ------
    ExperimentError
        If there is no subset for training or testing.
    """
    for note in dataset.notes:
        log(note)
    if "train" in dataset.subsets and (unseen := dataset.subset("train").unseen):
        kept = dataset.of_annotators([name for name in dataset.annotators if name not in unseen])
        n, dataset = len(dataset) - len(kept), kept
        text = f"left out: {', '.join(unseen)}, who labelled no training image"
        log(f"{text} ({n} images have no other label)")
    names = [name for name in ("train", "val", "test") if name in dataset.subsets]
    if "train" not in names or "test" not in names:
        problem = f"has {len(dataset)} images and no subset for training or testing"
        hint = "give it more images, or other fractions"
        raise ExperimentError(f"set {dataset.name!r}", problem, hint)
    subsets = {name: dataset.subset(name) for name in names}
    if experiment.train_share < 1:
        train = subsets["train"]
        clusters = pd.Series(train.clusters, index=train.ids)
        chosen = share_of_clusters(clusters, experiment.train_share, experiment.seed)
        subsets["train"] = train.select(chosen)
    return subsets


def diagnosed_subsets(
    dataset: MultiAnnotatorSet, experiment: Experiment, log: Log
) -> dict[str, MultiAnnotatorSet]:
    """Return the subsets ``train``, with what would be for validation, and ``test``.

    Diagnoses are permuted within each where :class:`DiagnosedData` asks for that.

    Raises
    ------
    ExperimentError
        If a subset has one class only.
    """
    subsets = subsets_of(dataset, experiment, log)
    if "val" in subsets:
        ids = [*subsets["train"].ids, *subsets["val"].ids]
        whole = dataset.of_annotators(subsets["train"].annotators)
        subsets = {"train": whole.select(ids), "test": subsets["test"]}
    permuted = experiment.settings.diagnosis == PERMUTED
    return with_diagnoses(subsets, permuted, experiment.seed)


def with_diagnoses(
    subsets: Mapping[str, MultiAnnotatorSet], permuted: bool, seed: int
) -> dict[str, MultiAnnotatorSet]:
    """Check the diagnoses of each subset, or exchange them at random within it."""
    generator, result = np.random.default_rng(seed), {}
    for name, dataset in subsets.items():
        values = dataset.diagnosis
        if len(set(values.tolist())) < 2:
            where = f"subset {name!r} of set {dataset.name!r}"
            hint = "give it more images, or another split"
            raise ExperimentError(where, "has one class only", hint)
        values = generator.permutation(values) if permuted else values
        result[name] = replace(dataset, diagnosis=values)
    return result


def about(
    dataset: MultiAnnotatorSet, experiment: Experiment, subsets: Mapping[str, MultiAnnotatorSet]
) -> dict[str, Any]:
    """Describe the data of a run, ready for JSON."""
    return {
        "data": data_settings(experiment).to_dict(),
        "classes": dataset.n_classes,
        "height": dataset.images.shape[1],
        "width": dataset.images.shape[2],
        "truth": dataset.truth_is,
        "annotators": list(subsets["train"].annotators),
        "simulated_annotators": dataset.simulated_annotators,
        "n_images": {name: len(subset) for name, subset in subsets.items()},
    }
