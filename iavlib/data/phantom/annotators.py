"""The invented annotators: who they are, and the outline each of them draws.

An annotator draws the true border moved by an offset in log radius,

.. math::
    g(\\theta) = b + t + s\\,w\\,\\Bigl(z_0 + \\sum_k c_k z_k \\cos(k\\theta + \\psi_k)\\Bigr) + h,

with the annotator's own *bias* b (a positive one draws too large), the tool's bias t, the lesion's
ambiguity w, the annotator's *spread* s, random z, and h the halo if it is taken in. Two outlines
of one lesion by one annotator share most of their z and the decision on the halo, so an annotator
agrees better with herself than with others. Now and then something else happens: the outline of
a spot beside the lesion, or of a fragment of it.

Tools leave their mark: T1 is a polygon with few corners, T2 a smooth automatic outline with little
freedom, T3 a ragged one that follows the pixels.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from iavlib.data.phantom.lesions import ANGLES, Lesion, Plane

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
        novice), ``takes_halo`` (shift of the log-odds), ``workload`` (share of the masks before
        nobody draws the same image twice), and ``T1`` to ``T3`` (how often each tool is used).
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


@dataclass(frozen=True)
class Outline:
    """Who draws a mask, and where its border runs.

    Attributes
    ----------
    annotator, tool, skill : str
    log_radius : ndarray, shape (N_ANGLES,)
        Border in polar coordinates around the lesion's centre.
    event : {"lesion", "satellite", "fragment"}
        What was outlined.
    """

    annotator: str
    tool: str
    skill: str
    log_radius: np.ndarray
    event: str


def draw_outlines(
    generator: np.random.Generator, lesion: Lesion, annotators: pd.DataFrame
) -> list[Outline]:
    """Draw who outlines a lesion, with which tool and how."""
    n_masks = generator.choice(list(MASKS_PROBABILITY), p=_shares(MASKS_PROBABILITY))
    alone = generator.random() < ONE_ANNOTATOR
    chosen = generator.choice(
        len(annotators), 1 if alone else n_masks, replace=False, p=annotators["workload"]
    )
    views = {who: _view(generator) for who in chosen}
    order = np.resize(chosen, n_masks)
    return [_outline(generator, lesion, annotators.iloc[who], views[who]) for who in order]


def rasterise(outline: Outline, lesion: Lesion, plane: Plane) -> np.ndarray:
    """Turn an outline into a mask, shape (height, width)."""
    if outline.event == "satellite":
        return plane.disc(*lesion.satellite)
    mask = plane.level(outline.log_radius) < 0
    return mask if mask.any() else plane.disc(*lesion.centre, 0)


@dataclass(frozen=True)
class _View:
    """How an annotator sees one lesion: waves of the offset, and a uniform number for the halo."""

    waves: np.ndarray
    phases: np.ndarray
    halo: float


def _view(generator: np.random.Generator) -> _View:
    return _View(
        generator.standard_normal(5), generator.uniform(-np.pi, np.pi, 5), generator.random()
    )


def _outline(generator, lesion: Lesion, annotator: pd.Series, view: _View) -> Outline:
    tool = str(generator.choice(TOOLS, p=_shares(annotator[list(TOOLS)])))
    own = np.sqrt(OWN_VIEW) * view.waves
    waves = own + np.sqrt(1 - OWN_VIEW) * generator.standard_normal(5)
    shape = np.array([1, 0.45, 0.4, 0.35, 0.3]) * waves
    turns = np.cos(np.outer(np.arange(5), ANGLES) + np.r_[0, view.phases[1:]][:, None])
    offset = annotator["spread"] * TOOL_SPREAD[tool] * lesion.ambiguity * (shape @ turns)
    odds = np.log(TOOL_TAKES_HALO[tool] / (1 - TOOL_TAKES_HALO[tool])) + annotator["takes_halo"]
    halo = lesion.halo if view.halo < 1 / (1 + np.exp(-odds)) else 0.0
    log_radius = lesion.log_radius + annotator["bias"] + TOOL_BIAS[tool] + offset + halo
    draw = generator.random()
    event = "satellite" if draw < SLIP else "fragment" if draw < SLIP + FRAGMENT else "lesion"
    if event == "fragment":
        log_radius = log_radius - generator.uniform(0.8, 1.6)
    marked = _tool_mark(generator, tool, log_radius)
    return Outline(str(annotator.name), tool, str(annotator["skill"]), marked, event)


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
    following = np.roll(corners, -1)
    step = np.where(following > corners, following, following + len(ANGLES)) - corners
    wide = step > len(ANGLES) // 3
    inverse = np.exp(-log_radius)
    straight = inverse.copy()
    for first, second, length, too_wide in zip(corners, following, step, wide, strict=True):
        if too_wide:  # a chord over so wide an angle would cut through the lesion
            continue
        along = np.arange(length)
        place = (first + along) % len(ANGLES)
        turn = 2 * np.pi / len(ANGLES)
        left, right = np.sin((length - along) * turn), np.sin(along * turn)
        chord = left * inverse[first] + right * inverse[second]
        straight[place] = chord / np.sin(length * turn)
    return -np.log(straight)


def _shares(weights) -> np.ndarray:
    values = np.asarray(list(weights.values()) if isinstance(weights, dict) else weights, float)
    return values / values.sum()
