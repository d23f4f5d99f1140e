"""Does a method mimic each annotator, and is it calibrated to their vote? (Guo et al. 2022)

Soft Dice is the mean, over thresholds of .1, .3, .5, .7 and .9, of the Dice of what lies strictly
above; hard Dice is that at .5. Neither counts the background.
"""

from typing import Any

import numpy as np
import pandas as pd

from iavlib.agreement.overlap import SOFT_THRESHOLDS
from iavlib.annotators import MultiAnnotatorSet, dice_matrix, reliability
from iavlib.multiannotator.prediction import Prediction

CONSENSUS, VOTE = "consensus", "mean_vote"
KINDS = {"soft": SOFT_THRESHOLDS, "hard": (0.5,)}
MAPS = ("expectation", "argmax")


class PreferenceScorer:
    """Compares predictions that come in lots with each annotator and with their vote.

    Parameters
    ----------
    labelled : MultiAnnotatorSet
        All pictures, in the order in which they come.
    """

    def __init__(self, labelled: MultiAnnotatorSet):
        self.labelled, self._seen = labelled, 0
        self._sums: dict[tuple[str, str], pd.DataFrame] = {}
        self._counts: dict[tuple[str, str], pd.Series] = {}
        self._shares: dict[tuple[str, str], list[np.ndarray]] = {}

    def add(self, part: Prediction) -> None:
        """Score the next pictures."""
        some = self.labelled.take(np.arange(self._seen, self._seen + len(part)))
        self._seen += len(part)
        counts = pd.Series([*(~some.missing).sum(axis=0), len(some)], [*some.annotators, VOTE])
        for place, (name, classes) in enumerate(some.structures.items()):
            predicted, models = _of_models(part, classes)
            for kind, levels in KINDS.items():
                found = dice_matrix(predicted, some, name, models, levels)
                key = (name, kind)
                weighted = (found * counts).fillna(0.0)
                self._sums[key] = weighted + self._sums.get(key, 0.0)
                self._counts[key] = counts + self._counts.get(key, 0)
            for how, values in _shares_of(part, classes, place).items():
                self._shares.setdefault((name, how), []).append(values.astype(np.float32))

    def matrices(self) -> dict[str, dict[str, pd.DataFrame]]:
        """Return, by structure and kind of Dice, whose prediction agrees how much with whom.

        Rows are the annotators who are predicted (``consensus`` of a method that does not tell
        them apart), columns those who labelled, and their mean vote.
        """
        found: dict[str, dict[str, pd.DataFrame]] = {}
        for (name, kind), sums in self._sums.items():
            counts = self._counts[name, kind]
            found.setdefault(name, {})[kind] = sums / counts.where(counts > 0)
        return found

    def reliability(self) -> dict[str, dict[str, dict[str, list[float]]]]:
        """Return, by structure and map, the table behind its reliability, ready for JSON."""
        found: dict[str, dict[str, dict[str, list[float]]]] = {}
        for (name, how), lots in self._shares.items():
            predicted, observed = np.concatenate(lots), self.labelled.mean_map(name)
            if not ((predicted >= 0.01) | (observed > 0)).any():
                continue
            found_here = reliability(predicted.clip(0, 1), observed)
            table = found_here.table.round(6).to_dict("list")
            found.setdefault(name, {})[how] = table | {"error": found_here.error}
        return found

    def result(self) -> tuple[dict[str, float], dict[str, Any]]:
        """Return the scores of all pictures, and the facts behind them, ready for JSON.

        Scores: for each structure, and the mean over structures under the bare name,

        - ``average``: soft Dice with each annotator of what is predicted of her, the mean over
          annotators; ``average_hard``;
        - ``mean_voting``: soft Dice of the consensus with the share of annotators;
          ``mean_voting_argmax`` where a method gives the most probable agreement class;
        - ``calibration_error`` and ``calibration_error_argmax``, expected, over disputed pixels;
        - of methods that tell annotators apart: ``own_best``, the share of annotators with whom
          their own prediction agrees better than with anybody else; ``own_code_best``, the share
          of whom their own prediction comes nearest; ``swap_gain``, by how much the soft Dice with
          an annotator rises, on average over pairs, when another's code is swapped for hers.
        """
        matrices, tables = self.matrices(), self.reliability()
        rows = {}
        for name, kinds in matrices.items():
            row = _row(kinds["soft"], kinds["hard"], self.labelled.annotators)
            for how, table in tables.get(name, {}).items():
                row[f"calibration_error{_suffix(how)}"] = table["error"]
            rows[name] = row | self._votes(name)
        scores = {name: float(value) for name, value in pd.DataFrame(rows).mean(axis=1).items()}
        if len(rows) > 1:
            scores |= {f"{key}_{name}": v for name, row in rows.items() for key, v in row.items()}
        facts = {
            name: {kind: table.round(6).to_numpy().tolist() for kind, table in kinds.items()}
            for name, kinds in matrices.items()
        }
        return scores, {"dice_matrices": facts, "reliability": tables}

    def _votes(self, name: str) -> dict[str, float]:
        found = {}
        for how in MAPS:
            if lots := self._shares.get((name, how)):
                maps = np.concatenate(lots)[None].astype(float)
                table = dice_matrix(maps, self.labelled, name, [CONSENSUS], SOFT_THRESHOLDS)
                found[f"mean_voting{_suffix(how)}"] = table.loc[CONSENSUS, VOTE]
        return found


def _suffix(how: str) -> str:
    return "" if how == MAPS[0] else f"_{how}"


def _of_models(part: Prediction, classes: tuple[int, ...]) -> tuple[np.ndarray, list[str]]:
    """Take a structure's probabilities out of those of classes: (models, n, height, width)."""
    if part.maps is None:
        return part.consensus[:, list(classes)].sum(axis=1)[None], [CONSENSUS]
    maps = part.maps[:, :, list(classes)].sum(axis=2)
    return np.moveaxis(maps, 1, 0), list(part.annotators)


def _shares_of(part: Prediction, classes, place: int) -> dict[str, np.ndarray]:
    """Take the predicted share of annotators: by consensus, and by the most probable class."""
    found = {MAPS[0]: part.consensus[:, list(classes)].sum(axis=1)}
    if part.levels is not None:
        largest = part.levels.shape[2] - 1
        steps = np.arange(largest + 1)[:, None, None]
        found[MAPS[0]] = (part.levels[:, place] * steps).sum(axis=1) / largest
        found[MAPS[1]] = part.levels[:, place].argmax(axis=1) / largest
    return found


def _row(soft: pd.DataFrame, hard: pd.DataFrame, annotators: tuple[str, ...]) -> dict[str, float]:
    """Sum up one structure's matrices."""
    found = {}
    for name, table in (("average", soft), ("average_hard", hard)):
        own = [table.iloc[k if len(table) > 1 else 0][one] for k, one in enumerate(annotators)]
        found[name] = float(np.nanmean(own))
    square = soft[list(annotators)].dropna(axis=1)
    known = [one for one in square if one in square.index]
    if len(known) < 2:
        return found
    square = square.loc[known, known].to_numpy()
    diagonal = square.diagonal()
    others = np.where(np.eye(len(known), dtype=bool), -np.inf, square)
    found["own_best"] = float((diagonal > others.max(axis=1)).mean())
    found["own_code_best"] = float((diagonal > others.max(axis=0)).mean())
    apart = ~np.eye(len(known), dtype=bool)
    found["swap_gain"] = float((diagonal[None, :] - square)[apart].mean())
    return found
