"""Explaining the images of an experiment, one row an image, target and method."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit

from iavlib import explain
from iavlib.data.cohort import Cohort
from iavlib.experiments.store import MODEL, PREDICTIONS, read_prediction_file
from iavlib.experiments.tasks.explain import ExplainSettings
from iavlib.experiments.tasks.task import Log
from iavlib.explain.attribution import Explained, Explainer
from iavlib.explain.localisation import Regions
from iavlib.models.model_files import load_network
from iavlib.models.network import Network, build_network
from iavlib.training.batches import ImageBatches
from iavlib.training.image_cache import cache_images

_BATCH = 16
_KEY = ["target", "method"]


def explain_images(
    settings: ExplainSettings,
    seed: int,
    cohort: Cohort,
    table: pd.DataFrame,
    source: Path,
    log: Log,
) -> tuple[pd.DataFrame, dict[str, Any], dict[str, Any]]:
    """Explain the network of a run.

    Parameters
    ----------
    settings : ExplainSettings
    seed : int
        Of random orders and weights.
    cohort : Cohort
    table : pandas.DataFrame
        The images, as of :func:`iavlib.experiments.tasks.explain.targets`.
    source : Path
        Directory with ``model.safetensors``.
    log : callable

    Returns
    -------
    pandas.DataFrame
        Rows as :func:`iavlib.experiments.tasks.explain.run` describes.
    dict
        ``metrics``, ``agreement`` (method to method to mean rank correlation), ``cascade``
        (rows), ``layer``, ``size``.
    dict
        The record of the network's weights.
    """
    network = _network(settings, seed, source)
    methods = _methods(settings)
    explainer = Explainer(network, None, methods, settings.stride, settings.steps)
    cache = cache_images(table["path"], network.weights.input_size)
    nothing = pd.DataFrame(index=table.index)
    weights = network.weights
    batches = ImageBatches.from_cache(cache, nothing, weights.mean, weights.std)
    rows = _Rows(explainer, settings, np.random.default_rng(seed))
    for batch in explainer.over(batches, _BATCH):
        for place, image_id in enumerate(batch.ids):
            regions = explain.read_regions(cohort, image_id, cache.size, settings.band)
            rows.add(batch, place, image_id, regions)
        rows.compare_methods(batch)
        log(f"{rows.n_images:,} of {len(table):,} images")
    found = _complete(rows.table(), table)
    told = {"agreement": rows.agreement(), "cascade": _cascade(explainer, batches, settings, seed)}
    told |= {"layer": explainer.layer.name, "side": explainer.layer.side, "size": cache.size}
    record = asdict(weights) | {"is_random": weights.is_random}
    return found, told | {"metrics": _metrics(found)}, record


_AGREEMENT = (explain.LOWERS, explain.RAISES)


def _network(settings: ExplainSettings, seed: int, source: Path) -> Network:
    trained = load_network(source)
    if settings.control == "none":
        return trained
    size, padding = trained.weights.input_size, trained.weights.padding
    name, specs = trained.backbone_name, trained.specs
    untrained = build_network(name, specs, "none", seed, size, padding)
    # it looks at images as the trained one does
    known = trained.weights
    untrained.weights = untrained.weights.with_normalisation(known.mean, known.std)
    return untrained.eval()


def _methods(settings: ExplainSettings) -> tuple[str, ...]:
    sets = {"all": explain.METHODS, "cam": explain.CAM_METHODS}
    return sets.get(settings.methods, (settings.methods,))


def _complete(rows: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """Add what is known of each image; what is true depends on what is explained."""
    known = table.rename(columns={"target": "dice"}).drop(columns="path")
    found = rows.join(known, on="image_id").reset_index(drop=True)
    found["true"] = np.where(found["target"].isin(_AGREEMENT), found["dice"], found["label"])
    first = ["image_id", "subset", "true", "predicted", *_KEY]
    return found[[*first, *found.columns.difference([*first, "dice", "label"], sort=False)]]


class _Rows:
    """Collects measures of one image after the other; of the maps only their sum stays."""

    def __init__(self, explainer: Explainer, settings: ExplainSettings, generator):
        self.explainer, self.settings, self.generator = explainer, settings, generator
        self.rows: list[dict[str, Any]] = []
        self.others: dict[tuple[str, str], explain.OtherMaps] = {}
        self.regions: dict[str, dict[str, np.ndarray]] = {}
        self.alike: list[tuple[int, pd.DataFrame]] = []

    @property
    def n_images(self) -> int:
        return len(self.regions)

    def add(self, batch: Explained, place: int, image_id: str, regions: Regions) -> None:
        """Measure all maps of one image."""
        named = regions.named()
        # one bit a pixel: they are needed once more when all images are known
        self.regions[image_id] = {name: np.packbits(one) for name, one in named.items()}
        random = self._random_areas(batch, place)
        for (target, method), maps in batch.maps.items():
            heat, signed = maps[place], batch.signed[target, method][place]
            self.others.setdefault((target, method), explain.OtherMaps()).add(heat)
            row = {"image_id": image_id, "subset": "test", "target": target, "method": method}
            row["predicted"] = _shown(target, float(batch.levels[target][place]))
            absolute = float(np.abs(signed).sum())
            row["kept"] = float(np.maximum(signed, 0).sum()) / absolute if absolute else np.nan
            row["total"] = float(signed.mean())
            row["opposite"] = self._opposite(batch, place, target, method)
            row |= explain.measure(heat, named)
            self.rows.append(row | self._curve_areas(batch, place, target, heat, random))

    def _opposite(self, batch: Explained, place: int, target: str, method: str) -> float:
        """Correlate a map with that of the same head's other direction: -1 where it knows both."""
        names = [one.name for one in self.explainer.targets]
        own = names.index(target)
        other = names[own + 1 - 2 * (own % 2)]  # directions stand in pairs
        pair = [batch.signed[name, method][place] for name in (target, other)]
        return explain.rank_correlation(*pair)

    def _random_areas(self, batch: Explained, place: int) -> dict[str, tuple[float, float]]:
        if not self.settings.curve_steps:
            return {}
        # as smooth as a class activation map: scattered cells would be another kind of damage
        side = self.explainer.layer.side
        noise = explain.enlarge(self.generator.random((1, side, side)), batch.images.shape[-1])[0]
        order = explain.cell_order(noise)
        return {
            target.name: self._areas(batch.images[place], target, order)
            for target in self._first_directions()
        }

    def _first_directions(self):
        return self.explainer.targets[::2]

    def _areas(self, image, target, order) -> tuple[float, float]:
        steps = self.settings.curve_steps
        curves = explain.deletion_insertion(self.explainer.network, image, target, order, steps)
        return curves.deletion_area, curves.insertion_area

    def _curve_areas(self, batch, place, target, heat, random) -> dict[str, float]:
        if target not in random:
            return {}
        one = next(item for item in self.explainer.targets if item.name == target)
        found = self._areas(batch.images[place], one, explain.cell_order(heat))
        both = (*found, *random[target])
        names = ("deletion", "insertion", "random_deletion", "random_insertion")
        return dict(zip(names, both, strict=True))

    def compare_methods(self, batch: Explained) -> None:
        """Compare the methods on the images of a batch, for the first target."""
        first = self.explainer.targets[0].name
        maps = {method: batch.signed[first, method] for method in self.explainer.methods}
        self.alike.append((len(batch.ids), explain.method_agreement(maps)))

    def agreement(self) -> dict[str, dict[str, float]]:
        """Give mean rank correlations between methods."""
        known = sum(n * table.notna() for n, table in self.alike)
        mean = sum(n * table.fillna(0) for n, table in self.alike) / known.where(known > 0)
        return {one: {k: round(float(v), 4) for k, v in mean[one].items()} for one in mean}

    def table(self) -> pd.DataFrame:
        """Give all rows, with the shares of the other images' mean map."""
        for row in self.rows:
            others = self.others[row["target"], row["method"]]
            for name, bits in self.regions[row["image_id"]].items():
                side = others.total.shape if np.ndim(others.total) else None
                if side is not None:
                    region = np.unpackbits(bits, count=side[0] * side[1]).reshape(side) > 0
                    row[f"others_{name}"] = others.share(region, row[f"share_{name}"])
        return pd.DataFrame(self.rows)


def _shown(target: str, level: float) -> float:
    """Give the predicted agreement as it is, and a difference of logits as a probability."""
    return level if target in _AGREEMENT else float(expit(level))


def _cascade(explainer, batches, settings: ExplainSettings, seed: int) -> list[dict[str, Any]]:
    if not settings.cascade:
        return []
    order = np.arange(min(settings.cascade, len(batches)))
    images, target = batches.batch(order)["images"], explainer.targets[0].name
    chosen = [one for one in explainer.methods if one in explain.CAM_METHODS]

    def maps(network: Network) -> dict[str, np.ndarray]:
        explainer = Explainer(network, [target], chosen, settings.stride).centre_on([images])
        found = explainer.explain(images).signed
        return {method: found[target, method] for method in chosen}

    return explain.cascade(explainer.network, maps, seed).round(4).to_dict("records")


def _metrics(rows: pd.DataFrame) -> dict[str, float]:
    """Summarise the first target and method: shares beside the area of each region."""
    one = rows[(rows[_KEY] == rows[_KEY].iloc[0]).all(axis=1)]
    found = {"images": float(len(one)), "kept": float(one["kept"].mean())}
    for region in explain.REGIONS:
        if f"share_{region}" in one:
            both = one[[f"share_{region}", f"area_{region}"]].dropna()
            if len(both):
                share, area = both.mean()
                found[f"{region}_ratio"] = share / area
    return found


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
    """Explain some images of a run again, to look at them.

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
    source = Path(run["folder"]).parents[1] / str(run["init_from"])
    if not (source / MODEL).is_file():
        return []
    rows = read_prediction_file(Path(run["folder"]) / PREDICTIONS)
    rows = rows.drop_duplicates("image_id").sort_values("predicted")
    positions = np.linspace(0, len(rows) - 1, min(n, len(rows))).round().astype(int)
    every, chosen = rows["image_id"].tolist(), rows["image_id"].iloc[positions].tolist()
    network = load_network(source)
    targets = list(dict.fromkeys(target for target, _ in shown.values()))
    methods = list(dict.fromkeys(method for _, method in shown.values()))
    explainer = Explainer(network, targets, methods)
    cache = cache_images(cohort.images.loc[every, "path"], network.weights.input_size)
    mean, std = network.weights.mean, network.weights.std
    batches = ImageBatches.from_cache(cache, pd.DataFrame(index=pd.Index(every)), mean, std)
    plan = np.array_split(np.arange(len(batches)), -(-len(batches) // _BATCH))
    explainer.centre_on(batch["images"] for batch in batches.stream(plan))
    examples = []
    for batch in explainer.over(batches.select(chosen), _BATCH):
        for place, image_id in enumerate(batch.ids):
            regions = explain.read_regions(cohort, image_id, cache.size)
            maps = {
                title: explain.displayed(batch.maps[key][place : place + 1])[0]
                for title, key in shown.items()
            }
            picture = np.asarray(cache.pixels[cache.rows([image_id])[0]])
            level = _shown(targets[0], float(batch.levels[targets[0]][place]))
            own = (regions.masks, regions.lesion, regions.disagreement)
            examples.append(Example(image_id, picture, maps, *own, level))
    return examples
