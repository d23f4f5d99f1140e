"""Task ``explain``: which image regions a trained network uses, measured on images it has not seen.

``init_from`` is the experiment whose network is explained (``iaa``, ``diagnosis`` or
``multitask``); ``cohort`` names the images, with masks, and may be another than the one it was
trained on. Images that were in its training or validation subset, or whose patient was, are left
out. Nothing is trained.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
import pandas as pd
from pydantic import Field
from scipy.special import expit

from iavlib import explain
from iavlib.core.errors import DataError, ExperimentError
from iavlib.data.cohort import Cohort, target as label_of
from iavlib.experiments.config import PROBE, Experiment, TaskSettings
from iavlib.experiments.store import MODEL, PREDICTIONS, read_prediction_file
from iavlib.experiments.tasks import Log, Outcome, Task
from iavlib.experiments.tasks.image import DIAGNOSIS, IAA, MULTITASK, image_table

if TYPE_CHECKING:
    from iavlib.explain import Explained, Explainer
    from iavlib.models import Network
    from iavlib.training.batches import ImageBatches

NAME = "explain"
_PARENTS = (IAA, DIAGNOSIS, MULTITASK)
_BATCH = 16
_KEY = ["target", "method"]


class ExplainSettings(TaskSettings):
    """Settings of task ``explain``.

    Attributes
    ----------
    methods : str
        ``all`` of :data:`iavlib.explain.METHODS`, ``cam`` for class activation maps alone, or one
        by its name.
    stride : int, optional
        See :func:`iavlib.explain.find_layer`.
    band : float
        Half width of the border band, as a share of the image's side.
    steps : int
        Of integrated gradients.
    curve_steps : int
        Points of insertion and deletion curves; 0 for none.
    cascade : int
        Images on which weights are randomised stage by stage; 0 for none.
    max_images : int
        Explain the first images by id only; 0 for all.
    control : {"none", "random_weights"}
        ``random_weights`` explains an untrained network of the same kind.
    """

    VERSION_1: ClassVar = {"max_images": ("most", {})}

    methods: str = "all"
    stride: Annotated[int, Field(ge=1)] | None = None
    band: Annotated[float, Field(ge=0)] = 0.05
    steps: Annotated[int, Field(ge=1)] = 16
    curve_steps: Annotated[int, Field(ge=0)] = 8
    cascade: Annotated[int, Field(ge=0)] = 8
    max_images: Annotated[int, Field(ge=0)] = 0
    control: Literal["none", "random_weights"] = "none"


def resolve(experiment: Experiment) -> Experiment:
    """Refuse what cannot be run."""
    parent, problem = experiment.parent, ""
    if parent is None:
        problem = "names no experiment whose network is to be explained"
    elif parent.task not in _PARENTS or parent.recipe.name == PROBE:
        problem = f"({parent.task}, {parent.recipe.name}) leaves no network"
    elif parent.settings.control == "iaa_input":
        problem = "is a control whose network takes more than an image"
    if problem:
        hint = f"start from a trained experiment of {', '.join(_PARENTS)}"
        raise ExperimentError("init_from", problem, hint)
    return experiment


def targets(cohort: Cohort) -> pd.DataFrame:
    """List the images over which a mask lies.

    Returns
    -------
    pandas.DataFrame
        Index ``image_id``: ``target`` (mean pairwise Dice; missing for images with one mask),
        ``label`` (1 malignant, 0 benign, or missing), ``path``, ``malignancy``, ``n_masks``,
        ``cluster``.

    Raises
    ------
    DataError
        If there is none.
    """
    ids = explain.usable_images(cohort)
    if not len(ids):
        problem = "no image has both a file and a mask that lies over it"
        hint = "get masks and images ('iav data status' describes how), or use the cohort phantom"
        raise DataError(f"cohort {cohort.name!r}", problem, hint)
    table = image_table(cohort).loc[ids].rename(columns={"iaa": "target"})
    table.insert(1, "label", label_of(cohort).reindex(ids))
    with_file = cohort.masks[cohort.masks["path"].notna()]
    counts = with_file["image_id"].value_counts()
    return table.assign(n_masks=counts.reindex(ids, fill_value=0))


def run(experiment: Experiment, cohort: Cohort, folder: Path, log: Log) -> Outcome:
    """Explain the images that the network has not seen.

    ``predictions`` has a row per image, target and method: ``true`` and ``predicted`` (mean Dice,
    or class and probability), the measures of :func:`iavlib.explain.measure`, ``others_<region>``
    (share of the other images' mean map), ``kept`` (share of absolute attribution that points in
    the target's direction), ``total`` (mean with its sign), ``opposite`` (rank correlation with
    the map of the opposite direction) and, where requested, ``deletion`` and ``insertion``
    (areas under the curves) with ``random_deletion`` and ``random_insertion``. Settings hold
    ``agreement`` of methods (mean rank correlations) and the ``cascade``.
    """
    from iavlib.training.image_cache import cache_images

    settings, parent = experiment.settings, experiment.parent
    source, every = folder.parents[1] / parent.task / parent.id, targets(cohort)
    predicted = read_prediction_file(source / PREDICTIONS)
    seen = predicted[predicted["subset"] != "test"]
    is_seen = every.index.isin(seen["image_id"]) | every["cluster"].isin(seen["cluster"])
    table = every[~is_seen]
    if table.empty:
        problem = f"its network has seen all {len(every):,} images, or their patients"
        hint = "give other images, or a larger test subset"
        raise ExperimentError(f"init_from = {source}", problem, hint)
    if settings.max_images:
        table = table.sort_index().head(settings.max_images)
    log(f"{len(table):,} of {len(every):,} images with masks were not seen by {parent.name}")
    network = _network(settings, experiment.seed, source)
    named = {"all": explain.METHODS, "cam": explain.CAM_METHODS}
    methods = named.get(settings.methods, (settings.methods,))
    explainer = explain.Explainer(network, None, methods, settings.stride, settings.steps)
    cache = cache_images(table["path"], network.weights.input_size)
    batches = _batches(network, cache, table.index)
    measures = _Measures(explainer, settings, np.random.default_rng(experiment.seed))
    for batch in explainer.over(batches, _BATCH):
        for n, image_id in enumerate(batch.ids):
            regions = explain.read_regions(cohort, image_id, cache.size, settings.band)
            measures.add(batch, n, image_id, regions.named())
        measures.compare_methods(batch)
        log(f"{len(measures.regions):,} of {len(table):,} images")
    predictions = measures.table(table)
    used = settings.to_dict() | {"explained": parent.name, "agreement": measures.agreement()}
    used |= {"cascade": _cascade(explainer, batches, settings, experiment.seed)}
    used |= {"layer": explainer.layer.name, "side": explainer.layer.side, "size": cache.size}
    weights = asdict(network.weights) | {"is_random": network.weights.is_random}
    metrics = {"test": _metrics(predictions)}
    return Outcome(predictions, metrics, weights=weights, settings=used)


def _network(settings: ExplainSettings, seed: int, source: Path) -> Network:
    from iavlib.models import build_network, load_network

    trained = load_network(source)
    if settings.control == "none":
        return trained
    of = trained.weights
    given = (trained.backbone_name, trained.specs, "none", seed, of.input_size, of.padding)
    network = build_network(*given)
    network.weights = network.weights.with_normalisation(of.mean, of.std)
    return network.eval()


def _batches(network: Network, cache, ids) -> ImageBatches:
    from iavlib.training.batches import ImageBatches

    mean, std = network.weights.mean, network.weights.std
    return ImageBatches.from_cache(cache, pd.DataFrame(index=pd.Index(ids)), mean, std)


class _Measures:
    """Collects measures of one image after the other; of the maps only their sum stays."""

    def __init__(self, explainer: Explainer, settings: ExplainSettings, generator):
        self.explainer, self.settings, self.generator = explainer, settings, generator
        self.rows: list[dict[str, Any]] = []
        self.others: dict[tuple[str, str], explain.OtherMaps] = {}
        self.regions: dict[str, dict[str, np.ndarray]] = {}
        self.correlations: list[tuple[int, pd.DataFrame]] = []

    def add(self, batch: Explained, n: int, image_id: str, regions: Mapping[str, Any]) -> None:
        """Measure all maps of the image at position `n` of a batch."""
        # one bit per pixel: they are needed once more when all images are known
        self.regions[image_id] = {name: np.packbits(region) for name, region in regions.items()}
        names = [target.name for target in self.explainer.targets]
        # the two directions of a head are neighbours; curves are those of the first
        random = {}
        if self.settings.curve_steps:
            # as smooth as a class activation map: scattered cells would be another kind of damage
            side = self.explainer.layer.side
            noise = self.generator.random((1, side, side))
            noise = explain.enlarge(noise, batch.images.shape[-1])[0]
            for own in range(0, len(names), 2):
                random[own] = self._curve_areas(batch.images[n], own, noise, "random_")
        for (target, method), maps in batch.maps.items():
            heat, signed = maps[n], batch.signed[target, method][n]
            self.others.setdefault((target, method), explain.OtherMaps()).add(heat)
            own = names.index(target)
            opposite = batch.signed[names[own ^ 1], method][n]
            absolute = float(np.abs(signed).sum())
            row = {"image_id": image_id, "subset": "test", "target": target, "method": method}
            row["predicted"] = _probability(target, float(batch.levels[target][n]))
            row["kept"] = float(np.maximum(signed, 0).sum()) / absolute if absolute else np.nan
            row["total"] = float(signed.mean())
            row["opposite"] = explain.rank_correlation(signed, opposite)
            row |= explain.measure(heat, regions)
            if own in random:
                row |= self._curve_areas(batch.images[n], own, heat) | random[own]
            self.rows.append(row)

    def _curve_areas(self, image, own: int, heat: np.ndarray, prefix: str = "") -> dict[str, float]:
        """Return the areas under the curves of a target, in the order of a map."""
        network, target = self.explainer.network, self.explainer.targets[own]
        order, steps = explain.cell_order(heat), self.settings.curve_steps
        curves = explain.deletion_insertion(network, image, target, order, steps)
        areas = {"deletion": curves.deletion_area, "insertion": curves.insertion_area}
        return {prefix + name: area for name, area in areas.items()}

    def compare_methods(self, batch: Explained) -> None:
        """Correlate the methods' maps of the first target on the images of a batch."""
        first = self.explainer.targets[0].name
        maps = {method: batch.signed[first, method] for method in self.explainer.methods}
        self.correlations.append((len(batch.ids), explain.method_agreement(maps)))

    def agreement(self) -> dict[str, dict[str, float]]:
        """Return mean rank correlations between methods."""
        known = sum(n * table.notna() for n, table in self.correlations)
        total = sum(n * table.fillna(0) for n, table in self.correlations)
        return (total / known.where(known > 0)).astype(float).round(4).to_dict()

    def table(self, images: pd.DataFrame) -> pd.DataFrame:
        """Return all rows, with the shares of the other images' mean map and what is known.

        What is true depends on what is explained: the agreement, or the class.
        """
        for row in self.rows:
            others = self.others[row["target"], row["method"]]
            shape = np.shape(others.total)
            for name, bits in self.regions[row["image_id"]].items() if shape else ():
                region = np.unpackbits(bits, count=shape[0] * shape[1]).reshape(shape) > 0
                row[f"others_{name}"] = others.share(region, row[f"share_{name}"])
        images = images.rename(columns={"target": "dice"}).drop(columns="path")
        rows = pd.DataFrame(self.rows).join(images, on="image_id").reset_index(drop=True)
        of_agreement = rows["target"].isin((explain.LOWERS, explain.RAISES))
        rows["true"] = rows["dice"].where(of_agreement, rows["label"])
        rows = rows.drop(columns=["dice", "label"])
        first = ["image_id", "subset", "true", "predicted", *_KEY]
        return rows[[*first, *rows.columns.difference(first, sort=False)]]


def _probability(target: str, level: float) -> float:
    """Return predicted agreement as it is, and a difference of logits as a probability."""
    return level if target in (explain.LOWERS, explain.RAISES) else float(expit(level))


def _cascade(explainer, batches, settings: ExplainSettings, seed: int) -> list[dict[str, Any]]:
    if not settings.cascade:
        return []
    order = np.arange(min(settings.cascade, len(batches)))
    images, target = batches.batch(order)["images"], explainer.targets[0].name
    chosen = [method for method in explainer.methods if method in explain.CAM_METHODS]

    def maps(network: Network) -> dict[str, np.ndarray]:
        explainer = explain.Explainer(network, [target], chosen, settings.stride)
        signed = explainer.centre_on([images]).explain(images).signed
        return {method: signed[target, method] for method in chosen}

    return explain.cascade(explainer.network, maps, seed).round(4).to_dict("records")


def _metrics(rows: pd.DataFrame) -> dict[str, float]:
    """Summarise the first target and method: shares divided by the area of each region."""
    rows = rows[(rows[_KEY] == rows[_KEY].iloc[0]).all(axis=1)]
    metrics = {"images": float(len(rows)), "kept": float(rows["kept"].mean())}
    for region in explain.REGIONS:
        both = rows.reindex(columns=[f"share_{region}", f"area_{region}"]).dropna()
        if len(both):
            share, area = both.mean()
            metrics[f"{region}_ratio"] = share / area
    return metrics


@dataclass(frozen=True, eq=False)
class Example:
    """An image with its maps, as the network saw it.

    Attributes
    ----------
    image_id : str
    picture : numpy.ndarray of uint8, shape (S, S, 3)
    maps : dict of str to numpy.ndarray, shape (S, S)
        By method or target, scaled from 0 to 1.
    masks : tuple of numpy.ndarray of bool, shape (S, S)
    lesion, disagreement : numpy.ndarray of bool, or None
        As of :class:`iavlib.explain.Regions`.
    predicted : float
    """

    image_id: str
    picture: np.ndarray
    maps: dict[str, np.ndarray]
    masks: tuple[np.ndarray, ...]
    lesion: np.ndarray
    disagreement: np.ndarray | None
    predicted: float


def example_maps(
    run: pd.Series, cohort: Cohort, shown: dict[str, tuple[str, str]], n: int = 3
) -> list[Example]:
    """Compute the maps of some images of a run again, to show them.

    Parameters
    ----------
    run : pandas.Series
        A finished row of :func:`iavlib.experiments.sweep`.
    cohort : Cohort
        Its images.
    shown : dict of str to (str, str)
        Title to target and method.
    n : int
        How many, evenly spaced from the lowest to the highest prediction.

    Returns
    -------
    list of Example
        Empty where the network is not on this machine, as with stored results. All images of the
        run are the reference of the centred method.
    """
    from iavlib.models import load_network
    from iavlib.training.image_cache import cache_images

    source = Path(run["folder"]).parents[1] / str(run["init_from"])
    if not (source / MODEL).is_file():
        return []
    rows = read_prediction_file(Path(run["folder"]) / PREDICTIONS)
    rows = rows.drop_duplicates("image_id").sort_values("predicted")
    positions = np.linspace(0, len(rows) - 1, min(n, len(rows))).round().astype(int)
    every, chosen = rows["image_id"].tolist(), rows["image_id"].iloc[positions].tolist()
    network = load_network(source)
    explained, methods = (list(dict.fromkeys(names)) for names in zip(*shown.values(), strict=True))
    explainer = explain.Explainer(network, explained, methods)
    cache = cache_images(cohort.images.loc[every, "path"], network.weights.input_size)
    batches = _batches(network, cache, every)
    explainer.centre_on(batch["images"] for batch in batches.in_order(_BATCH))
    examples = []
    for batch in explainer.over(batches.select(chosen), _BATCH):
        for n, image_id in enumerate(batch.ids):
            regions = explain.read_regions(cohort, image_id, cache.size)
            maps = {
                title: explain.displayed(batch.maps[key][n : n + 1])[0]
                for title, key in shown.items()
            }
            picture = np.asarray(cache.pixels[cache.rows([image_id])[0]])
            level = _probability(explained[0], float(batch.levels[explained[0]][n]))
            own = (regions.masks, regions.lesion, regions.disagreement)
            examples.append(Example(image_id, picture, maps, *own, level))
    return examples


TASK = Task(NAME, targets, run, resolve, ExplainSettings)
