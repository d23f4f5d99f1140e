r"""The phantom: simulated lesions, images and annotators with known truth.

It replaces real data where these are absent, and it is the ground truth of tests: how each
annotator draws, and why two outlines differ, is known. Its marginals resemble IMA++ (masks per
image, mean and spread of Dice, a small effect of malignancy). It is never presented as real.

A lesion is star-shaped around its centre. In polar coordinates its true border is

.. math:: \log r(\theta) = \log r_0 + \sum_k a_k \cos(k\theta + \varphi_k),

with larger radius, larger waves and a more ambiguous border if it is malignant. *Ambiguity* is the
width of the border in units of log radius: the picture shows a transition of that width, and
annotators place their outlines within it. Some lesions have a *halo*, a faint outer zone that one
annotator takes in and another leaves out.

Lengths are in units of the shorter side of the image, so that a lesion is the same at any size.

An annotator draws the true border moved by an offset in log radius,

.. math::
    g(\theta) = b + t + s\,w\,\Bigl(z_0 + \sum_k c_k z_k \cos(k\theta + \psi_k)\Bigr) + h,

with the annotator's own *bias* b (a positive one draws too large), the tool's bias t, the lesion's
ambiguity w, the annotator's *spread* s, random z, and h the halo if it is taken in. Two outlines
of one lesion by one annotator share most of their z and the decision on the halo, so an annotator's
own outlines agree better than those of different annotators. Occasionally an annotator outlines a
spot beside the lesion, or a fragment of it.

The tools differ: T1 is a polygon with few corners, T2 a smooth automatic outline with little
freedom, T3 a ragged one that follows the pixels.

The image shows skin with a slow gradient and fine texture; a lesion whose colour fades in over the
width of its ambiguity, so that the disagreement can be predicted from the image; a halo in
half-tone; pigment network in benign lesions and blotches in malignant ones; hairs and a darkened
rim in some.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw
from scipy import ndimage

from iavlib.core.project import cache_home
from iavlib.data.catalogue import register_own
from iavlib.data.cohort import Cohort
from iavlib.data.schemas import pair_columns
from iavlib.masks.metrics import image_pairs, registry_version, surface_distances

N_ANGLES = 720
ANGLES = np.linspace(-np.pi, np.pi, N_ANGLES, endpoint=False)
IMAGES_PER_PATIENT = 4


@dataclass(frozen=True)
class Lesion:
    """One simulated lesion.

    Attributes
    ----------
    malignancy : str
        benign, malignant or indeterminate.
    centre : tuple of float
        x and y from the middle of the image.
    log_radius : ndarray, shape (N_ANGLES,)
        Log of the true border's distance from the centre at each of :data:`ANGLES`.
    ambiguity : float
        Width of the border in log radius.
    halo : float
        Log radius by which the faint outer zone exceeds the border; 0 without one.
    satellite : tuple of float
        x, y (from the middle of the image) and radius of a small spot beside the lesion.
    """

    malignancy: str
    centre: tuple[float, float]
    log_radius: np.ndarray
    ambiguity: float
    halo: float
    satellite: tuple[float, float, float]


def draw_lesion(generator: np.random.Generator, patient_effect: float, aspect: float) -> Lesion:
    """Draw a lesion.

    Parameters
    ----------
    generator : numpy.random.Generator
    patient_effect : float
        Log factor on the ambiguity, shared by the lesions of a patient.
    aspect : float
        Longer over shorter side of the image.
    """
    malignancy = generator.choice(["benign", "malignant", "indeterminate"], p=[0.785, 0.211, 0.004])
    malignant = malignancy == "malignant"
    radius = 0.21 * np.exp(0.28 * generator.standard_normal() + (0.12 if malignant else 0))
    radius = min(radius, 0.36)
    waves = np.arange(1, 7)
    amplitude = (0.11 if malignant else 0.07) * generator.standard_normal(6) / waves**0.7
    phase = generator.uniform(-np.pi, np.pi, 6)
    log_radius = np.log(radius) + amplitude @ np.cos(np.outer(waves, ANGLES) + phase[:, None])
    spread = 0.55 * generator.standard_normal() + patient_effect
    ambiguity = 0.07 * np.exp(spread + (0.42 if malignant else 0))
    has_halo = generator.random() < (0.34 if malignant else 0.22)
    halo = generator.uniform(0.35, 1.0) if has_halo else 0.0
    centre = generator.uniform(-0.06, 0.06, 2)
    angle = generator.uniform(-np.pi, np.pi)
    reach = min(radius * np.exp(0.7) + 0.05, 0.43)
    satellite = (float(reach * aspect * np.cos(angle)), float(reach * np.sin(angle)), 0.035)
    ambiguity = float(np.clip(ambiguity, 0.02, 0.6))
    return Lesion(str(malignancy), tuple(centre.tolist()), log_radius, ambiguity, halo, satellite)


@dataclass(frozen=True)
class Plane:
    """Coordinates of the pixels of an image, relative to a lesion's centre.

    Attributes
    ----------
    x, y : ndarray, shape (height, width)
        Position of each pixel's middle from the middle of the image.
    log_distance, angle : ndarray, shape (height, width)
        Polar coordinates around the lesion's centre.
    """

    x: np.ndarray
    y: np.ndarray
    log_distance: np.ndarray
    angle: np.ndarray

    @classmethod
    def around(cls, centre: tuple[float, float], width: int, height: int) -> Plane:
        """Return the plane of an image of this size around a centre."""
        unit = min(width, height)
        x = (np.arange(width) + 0.5 - width / 2) / unit
        y = (np.arange(height) + 0.5 - height / 2) / unit
        x, y = np.meshgrid(x, y)
        right, down = x - centre[0], y - centre[1]
        return cls(x, y, np.log(np.hypot(right, down) + 1e-9), np.arctan2(down, right))

    def level(self, log_radius: np.ndarray) -> np.ndarray:
        """Log distance beyond a border: negative inside, 0 on it, positive outside."""
        return self.log_distance - np.interp(self.angle, ANGLES, log_radius, period=2 * np.pi)

    def disc(self, x: float, y: float, radius: float) -> np.ndarray:
        """Return a disc as a mask; at least the pixel nearest to its centre belongs to it."""
        distance = np.hypot(self.x - x, self.y - y)
        return distance <= max(radius, distance.min())


TOOLS = ("T1", "T2", "T3")
TOOL_BIAS = {"T1": 0.045, "T2": -0.06, "T3": 0.0}
TOOL_SPREAD = {"T1": 1.0, "T2": 0.55, "T3": 0.9}
TOOL_TAKES_HALO = {"T1": 0.75, "T2": 0.25, "T3": 0.45}
MASKS_PROBABILITY = {2: 0.8897, 3: 0.0873, 4: 0.0213, 5: 0.0017}
ONE_ANNOTATOR = 0.06
OWN_VIEW = 0.85
SLIP, FRAGMENT = 0.006, 0.015
N_ANNOTATORS = 15


def draw_annotators(generator: np.random.Generator) -> pd.DataFrame:
    """Draw the annotators of a cohort.

    Returns
    -------
    pandas.DataFrame
        Index ``annotator``. ``bias`` (log radius), ``spread`` (factor), ``skill`` (S1 expert, S2
        novice), ``takes_halo`` (shift of the log-odds), ``workload`` (share of the masks, before
        repeated drawing of an image is excluded), and ``T1`` to ``T3`` (how often each tool is
        used).
    """
    index = pd.Index([f"A{number:02d}" for number in range(N_ANNOTATORS)], name="annotator")
    novice = np.arange(N_ANNOTATORS) % 3 == 2
    workload = np.exp(-0.45 * np.arange(N_ANNOTATORS))
    habits = np.array([generator.dirichlet(np.roll([4.0, 0.4, 0.9], n)) for n in range(15)])
    return pd.DataFrame(
        {
            "bias": 0.05 * generator.standard_normal(N_ANNOTATORS),
            "spread": np.where(novice, 1.25, 0.95) * generator.uniform(0.85, 1.15, N_ANNOTATORS),
            "skill": np.where(novice, "S2", "S1"),
            "takes_halo": 0.8 * generator.standard_normal(N_ANNOTATORS),
            "workload": workload / workload.sum(),
            **dict(zip(TOOLS, habits.T, strict=True)),
        },
        index=index,
    )


def draw_outlines(
    generator: np.random.Generator, lesion: Lesion, annotators: pd.DataFrame
) -> list[tuple[dict[str, str], np.ndarray]]:
    """Draw the annotators, tools and outlines of a lesion.

    Returns
    -------
    list of tuple
        ``annotator``, ``tool``, ``skill`` and ``event`` (what was outlined: lesion, satellite or
        fragment) of each mask, and its border as the log radius at each of :data:`ANGLES`.
    """
    n_masks = generator.choice(list(MASKS_PROBABILITY), p=list(MASKS_PROBABILITY.values()))
    alone = generator.random() < ONE_ANNOTATOR
    chosen = generator.choice(
        len(annotators), 1 if alone else n_masks, replace=False, p=annotators["workload"]
    )
    views = {who: _view(generator) for who in chosen}
    order = np.resize(chosen, n_masks)
    return [_outline(generator, lesion, annotators.iloc[who], *views[who]) for who in order]


def rasterise(event: str, log_radius: np.ndarray, lesion: Lesion, plane: Plane) -> np.ndarray:
    """Turn an outline into a mask, shape (height, width)."""
    if event == "satellite":
        return plane.disc(*lesion.satellite)
    mask = plane.level(log_radius) < 0
    return mask if mask.any() else plane.disc(*lesion.centre, 0)


def _view(generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray, float]:
    """An annotator's view of one lesion: waves of the offset, their phases, and of the halo."""
    waves, phases = generator.standard_normal(5), generator.uniform(-np.pi, np.pi, 5)
    return waves, phases, generator.random()


def _outline(generator, lesion: Lesion, annotator: pd.Series, waves, phases, view_of_halo):
    tool = str(generator.choice(TOOLS, p=annotator[list(TOOLS)].to_numpy(float)))
    waves = np.sqrt(OWN_VIEW) * waves + np.sqrt(1 - OWN_VIEW) * generator.standard_normal(5)
    shape = np.array([1, 0.45, 0.4, 0.35, 0.3]) * waves
    turns = np.cos(np.outer(np.arange(5), ANGLES) + np.r_[0, phases[1:]][:, None])
    offset = annotator["spread"] * TOOL_SPREAD[tool] * lesion.ambiguity * (shape @ turns)
    odds = np.log(TOOL_TAKES_HALO[tool] / (1 - TOOL_TAKES_HALO[tool])) + annotator["takes_halo"]
    halo = lesion.halo if view_of_halo < 1 / (1 + np.exp(-odds)) else 0.0
    log_radius = lesion.log_radius + annotator["bias"] + TOOL_BIAS[tool] + offset + halo
    draw = generator.random()
    event = "satellite" if draw < SLIP else "fragment" if draw < SLIP + FRAGMENT else "lesion"
    if event == "fragment":
        log_radius = log_radius - generator.uniform(0.8, 1.6)
    who = {"annotator": annotator.name, "tool": tool, "skill": annotator["skill"], "event": event}
    return who, _tool_mark(generator, tool, log_radius)


def _tool_mark(generator: np.random.Generator, tool: str, log_radius: np.ndarray) -> np.ndarray:
    if tool == "T1":
        corners = np.sort(generator.choice(len(ANGLES), generator.integers(16, 28), replace=False))
        return _polygon(corners, log_radius)
    if tool == "T3":
        k = np.arange(12, 40)
        phases = generator.uniform(-np.pi, np.pi, len(k))
        size = 0.012 * generator.standard_normal(len(k))
        return log_radius + size @ np.cos(np.outer(k, ANGLES) + phases[:, None])
    return log_radius


def _polygon(corners: np.ndarray, log_radius: np.ndarray) -> np.ndarray:
    """Straighten the border between corners: along a chord, 1/r is a sum of sines of the angle."""
    n, inverse = len(ANGLES), np.exp(-log_radius)
    turn = 2 * np.pi / n
    side = np.searchsorted(corners, np.arange(n), side="right") - 1
    first, second = corners[side], np.roll(corners, -1)[side]
    length, along = (second - first) % n, (np.arange(n) - first) % n
    left, right = np.sin((length - along) * turn), np.sin(along * turn)
    chord = (left * inverse[first] + right * inverse[second]) / np.sin(length * turn)
    # A chord over a wide angle would cut through the lesion.
    return -np.log(np.where(length > n // 3, inverse, chord))


SKIN = np.array([[238, 205, 190], [224, 182, 160], [205, 158, 130], [176, 128, 100]], float)
BROWN = np.array([[120, 72, 48], [95, 55, 40], [140, 90, 60], [75, 45, 38]], float)
BLOTCHES = np.array([[70, 70, 95], [45, 30, 30], [150, 70, 70]], float)


def render(generator: np.random.Generator, lesion: Lesion, plane: Plane) -> np.ndarray:
    """Render the image of a lesion.

    Returns
    -------
    numpy.ndarray of uint8, shape (height, width, 3)
    """
    shape = plane.x.shape
    image = _skin(generator, plane)
    level = plane.level(lesion.log_radius)
    width = max(0.6 * lesion.ambiguity, 0.02)
    colour = _lesion_colour(generator, lesion, level, shape)
    if lesion.halo:
        faint = 0.3 * _fade(level - lesion.halo, width)[..., None]
        image = image * (1 - faint) + BROWN[2] * faint
    opacity = generator.uniform(0.75, 0.95) * _fade(level, width)[..., None]
    image = image * (1 - opacity) + colour * opacity
    x, y, radius = lesion.satellite
    spot = _fade(np.log(np.hypot(plane.x - x + 1e-9, plane.y - y) / radius), 0.15)
    image = image * (1 - 0.55 * spot[..., None]) + BROWN[1] * 0.55 * spot[..., None]
    if generator.random() < 0.35:
        image = _with_hairs(generator, image)
    if generator.random() < 0.3:
        rim = np.clip(np.hypot(plane.x, plane.y) - 0.55, 0, None)
        image = image * np.exp(-4 * rim)[..., None]
    return np.clip(np.round(image), 0, 255).astype(np.uint8)


def _fade(level: np.ndarray, width: float) -> np.ndarray:
    """1 inside, 0 outside, crossing one half at level 0 over the given width."""
    return 1 / (1 + np.exp(np.clip(level / (width / 2), -40, 40)))


def _noise(generator: np.random.Generator, shape, scale: float) -> np.ndarray:
    """Smooth noise of unit spread; `scale` is its grain as a share of the shorter side."""
    sigma = scale * min(shape)
    field = ndimage.gaussian_filter(generator.standard_normal(shape), sigma, mode="wrap")
    return field / max(field.std(), 1e-12)


def _skin(generator: np.random.Generator, plane: Plane) -> np.ndarray:
    mix = generator.dirichlet(np.ones(len(SKIN)))
    slope = generator.uniform(-0.12, 0.12, 2)
    light = 1 + slope[0] * plane.x + slope[1] * plane.y
    fine, coarse = (_noise(generator, plane.x.shape, scale) for scale in (0.012, 0.15))
    return (mix @ SKIN) * light[..., None] + (3 * fine + 4 * coarse)[..., None]


def _lesion_colour(generator, lesion: Lesion, level: np.ndarray, shape) -> np.ndarray:
    base = generator.dirichlet(np.ones(len(BROWN))) @ BROWN
    depth = np.clip(-level, 0, 1.5)[..., None]
    colour = base * (1.15 - 0.25 * depth)
    if lesion.malignancy == "malignant":
        for tint in BLOTCHES:
            strength = 0.6 * generator.random()
            patch = _fade(-_noise(generator, shape, 0.06) + 0.8, 0.6)[..., None] * strength
            colour = colour * (1 - patch) + tint * patch
    else:
        network = _noise(generator, shape, 0.012) * generator.uniform(2, 9)
        colour = colour + network[..., None]
    return colour + 6 * _noise(generator, shape, 0.04)[..., None]


def _with_hairs(generator: np.random.Generator, image: np.ndarray) -> np.ndarray:
    height, width = image.shape[:2]
    layer = Image.new("L", (width, height))
    pen = ImageDraw.Draw(layer)
    thickness = max(1, min(height, width) // 128)
    t = np.linspace(0, 1, 24)
    for _ in range(generator.integers(2, 9)):
        points = generator.uniform(-0.1, 1.1, (3, 2)) * (width, height)
        curve = np.stack([(1 - t) ** 2, 2 * t * (1 - t), t**2], axis=1) @ points
        pen.line([tuple(point) for point in curve.round().astype(int)], 200, thickness)
    shade = np.asarray(layer, float)[..., None] / 255
    return image * (1 - shade) + np.array([45, 32, 28]) * shade


# Raise when anything drawn changes; files of another version are never read.
VERSION = 1
SMALLEST = 32
TABLES = ("images", "masks", "pairs", "truth", "annotators")
_PATIENTS, _ANNOTATORS = 1, 2
SITES = ("posterior torso", "anterior torso", "lower extremity", "upper extremity", "head/neck")


def load(
    n_images: int = 300,
    size: tuple[int, int] = (256, 192),
    seed: int = 0,
    cache: Path | str | None = None,
) -> Cohort:
    """Load simulated lesions with known truth and annotators, generating them if needed.

    Image number i of a seed is the same whatever `n_images`, and masks and tables are the same on
    every machine.

    Parameters
    ----------
    n_images : int
        At least 1.
    size : pair of int
        Width and height in pixels, each at least 32.
    seed : int
        Not negative.
    cache : path, optional
        Folder for the files; the cache home unless given.

    Returns
    -------
    Cohort
        Synthetic. ``extras["truth"]`` (index ``image_id``) holds the path of the true mask and
        the parameters of the lesion, ``extras["annotators"]`` (index ``annotator``) those of the
        annotators.

    Raises
    ------
    ValueError
        If a parameter has no valid value.
    """
    _check(n_images, size, seed)
    width, height = map(int, size)
    root = Path(cache or cache_home()) / "phantom"
    facts = {"version": VERSION, "n_images": n_images, "size": [width, height], "seed": seed}
    facts["metrics"] = registry_version()
    folder = root / hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
    if not folder.is_dir():
        root.mkdir(parents=True, exist_ok=True)
        _build(folder, n_images, width, height, seed)
    return _read(folder)


def _check(n_images, size, seed) -> None:
    if int(n_images) != n_images or n_images < 1:
        raise ValueError(f"phantom: n_images must be a positive whole number, not {n_images!r}")
    if len(size) != 2 or min(size) < SMALLEST:
        raise ValueError(f"phantom: size must be (width, height) of at least 32, not {size!r}")
    if int(seed) != seed or seed < 0:
        raise ValueError(f"phantom: seed must be a whole number from 0, not {seed!r}")


def _build(folder: Path, n_images: int, width: int, height: int, seed: int) -> None:
    """Write everything beside the final folder and move it there: it is complete or absent."""
    work = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        for name in ("images", "masks", "truth"):
            (work / name).mkdir()
        annotators = draw_annotators(np.random.default_rng([VERSION, seed, _ANNOTATORS]))
        rows = [_image(work, number, width, height, seed, annotators) for number in range(n_images)]
        _write_tables(work, rows, annotators)
        try:
            os.rename(work, folder)
        except OSError:
            if not folder.is_dir():
                raise
            # Another process was first; its files are the same.
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _image(work: Path, number: int, width, height, seed, annotators) -> dict[str, list]:
    """Draw one image with its masks, write the files, and return the rows of each table."""
    image_id = f"PHANTOM_{number:07d}"
    block = number // IMAGES_PER_PATIENT
    generator = np.random.default_rng([VERSION, seed, 0, number])
    patient = np.random.default_rng([VERSION, seed, _PATIENTS, block])
    aspect = max(width, height) / min(width, height)
    lesion = draw_lesion(generator, 0.3 * patient.standard_normal(), aspect)
    outlines = draw_outlines(generator, lesion, annotators)
    facts = _facts(generator, image_id, lesion, block)
    plane = Plane.around(lesion.centre, width, height)
    truth = plane.level(lesion.log_radius) < 0
    masks, rows = {}, []
    for position, (who, log_radius) in enumerate(outlines):
        name = f"{image_id}_{who['annotator']}_{who['tool']}_{who['skill']}_{position}.png"
        masks[name] = rasterise(who["event"], log_radius, lesion, plane)
        rows.append({"mask_id": name, "image_id": image_id, "path": f"masks/{name}", **who})
    drawn = {f"masks/{name}": mask for name, mask in masks.items()}
    for path, mask in (drawn | {f"truth/{image_id}.png": truth}).items():
        Image.fromarray(mask.astype(np.uint8) * 255).save(work / path, compress_level=1)
    path = f"images/{image_id}.png"
    Image.fromarray(render(generator, lesion, plane)).save(work / path, compress_level=1)
    own = {"image_id": image_id}
    known = {"ambiguity": lesion.ambiguity, "halo": lesion.halo, "area": float(truth.mean())}
    return {
        "images": [own | {"path": path, "width": width, "height": height} | facts],
        "masks": rows,
        "pairs": [own | pair for pair in _measured(masks)],
        "truth": [own | {"path": f"truth/{image_id}.png"} | known],
    }


def _measured(masks: dict[str, np.ndarray]) -> list[dict]:
    """Measure every pair; the order in which ASSD is summed keeps its last bit, and so the ids."""
    pairs = image_pairs(masks)
    for pair in pairs:
        first, second = masks[pair["mask_1"]], masks[pair["mask_2"]]
        pair["assd"] = float(np.concatenate(surface_distances(first, second)).mean())
        pair["assd_normalized"] = pair["assd"] / float(np.hypot(*first.shape))
    return pairs


def _facts(generator: np.random.Generator, image_id: str, lesion, block: int) -> dict:
    """Draw the metadata of a lesion, with the gaps that registries have."""
    malignant = lesion.malignancy == "malignant"
    has_patient, has_lesion, has_site, has_sex = generator.random(4) < (0.33, 0.33, 0.35, 0.9)
    age = float(np.clip(generator.normal(60 if malignant else 46, 15), 5, 85).round(-1))
    diagnosis = {"benign": "Nevus", "malignant": "Melanoma", "indeterminate": "Atypical"}
    return {
        "malignancy": lesion.malignancy,
        "diagnosis": diagnosis[lesion.malignancy],
        "patient_id": f"PP_{block:06d}" if has_patient else None,
        "lesion_id": image_id.replace("PHANTOM", "PL") if has_lesion else None,
        "geometry": "original",
        "licence": "MIT",
        "sex": str(generator.choice(["female", "male"])) if has_sex else None,
        "age": age if generator.random() < 0.93 else None,
        "site": str(generator.choice(SITES)) if has_site else None,
    }


def _write_tables(work: Path, rows: list[dict], annotators: pd.DataFrame) -> None:
    tables = {name: pd.DataFrame([r for row in rows for r in row[name]]) for name in TABLES[:4]}
    masks = tables["masks"].set_index("mask_id")
    pairs = tables["pairs"]
    for side in (1, 2):
        for factor in ("annotator", "tool", "skill"):
            pairs[f"{factor}_{side}"] = pairs[f"mask_{side}"].map(masks[factor])
    tables["pairs"] = pairs[list(pair_columns())]
    tables["annotators"] = annotators.reset_index()
    for name, table in tables.items():
        table.to_csv(work / f"{name}.csv", index=False)


def _read(folder: Path) -> Cohort:
    tables = {name: pd.read_csv(folder / f"{name}.csv") for name in TABLES}
    for name in ("images", "masks", "truth"):
        tables[name]["path"] = str(folder) + os.sep + tables[name]["path"]
    keys = {"masks": "mask_id", "annotators": "annotator"}
    keys |= dict.fromkeys(("images", "truth"), "image_id")
    tables |= {name: tables[name].set_index(key) for name, key in keys.items()}
    text = dict.fromkeys(("patient_id", "lesion_id", "sex", "site"), "str")
    return Cohort(
        "phantom",
        tables["images"].astype(text),
        tables["masks"],
        tables["pairs"],
        synthetic=True,
        citation="simulated by iavlib.data.datasets.phantom",
        licence="MIT",
        source=str(folder),
        extras={name: tables[name] for name in ("truth", "annotators")},
    )


DATASET = register_own("phantom", load, options=("n_images", "size", "seed"))
