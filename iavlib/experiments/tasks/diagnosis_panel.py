"""The networks and masks of one run of task ``diagnosis-first``, step by step."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd

from iavlib.experiments.tasks.diagnosed_sets import DiagnosedData, diagnoses
from iavlib.experiments.tasks.diagnosis_first import (
    FEWEST,
    PLAIN,
    SETTINGS,
    about,
    area,
    predictions,
    recipe_of,
    two_subsets,
    weights_record,
)
from iavlib.experiments.tasks.task import Log, Outcome
from iavlib.masks.overlap import soft_dice
from iavlib.models.assisted import build_assisted
from iavlib.models.take_give import BaselineSegmentation
from iavlib.multiannotator.assisted_training import diagnose, segment, train
from iavlib.multiannotator.expertness import high_frequency_energy, optimise_expertness
from iavlib.multiannotator.fusion import expectation_maximisation, fuse

_FUSIONS = {"majority": "mode", "mean": "mean", "staple": "staple"}
_CHECKPOINTS = "networks"


class Panel:
    """Everything of a run; each method does one step and adds to ``metrics``."""

    def __init__(self, experiment, source: DiagnosedData, folder: Path, log: Log):
        self.experiment, self.source, self.folder, self.log = experiment, source, folder, log
        self.recipe, self.chosen = recipe_of(experiment, SETTINGS)
        self.subsets = two_subsets(source, experiment, log)
        which, seed = self.chosen["diagnosis"], experiment.seed
        self.diagnosis = diagnoses(source, self.subsets, which, seed)
        self.test, self.training = self.subsets["test"], self.subsets["train"]
        n_images = sum(len(subset) for subset in self.subsets.values())
        self.metrics: dict[str, float] = {"n_images": float(n_images)}
        self.scores: dict[str, dict[str, np.ndarray]] = {}
        self.histories: list[pd.DataFrame] = []
        self.others = [one for one in self.chosen["nets"] if one != self.chosen["source"]]

    def fuse_plainly(self) -> None:
        """Fuse the raters' masks of both parts without any diagnosis."""
        self.plain = {
            name: {how: fuse(subset, told)[:, 1] for how, told in _FUSIONS.items()}
            | {"em": expectation_maximisation(subset)[:, 1]}
            for name, subset in self.subsets.items()
        }

    def train_nets(self) -> None:
        """Train the nets with the majority's masks of the training part."""
        masks = self.plain["train"]["majority"]
        self.nets = {net: self._trained(net, masks) for net in self.chosen["nets"]}

    def judge_plain_masks(self) -> None:
        """Let the nets diagnose with masks that know no diagnosis."""
        for how in PLAIN:
            self._judge(how, self.plain["test"][how])

    def judge_raters(self) -> None:
        """Let nets diagnose with each rater's masks, and train some with these only."""
        for place, name in enumerate(self.test.annotators):
            there = {subset: ~one.missing[:, place] for subset, one in self.subsets.items()}
            both = [np.bincount(self.diagnosis[p][t], minlength=2) for p, t in there.items()]
            if min(counts.min() for counts in both) < FEWEST:
                self.log(f"rater {name} marked too few images of a class to be judged")
                continue
            masks = {subset: one.labels[:, place].clip(0) for subset, one in self.subsets.items()}
            shown = self.test.take(there["test"])
            given = (
                shown.images,
                masks["test"][there["test"]],
                self.diagnosis["test"][there["test"]],
            )
            found = [self._area(net, *given) for net in self.nets.values()]
            self.metrics[f"given_{name}"] = float(np.mean(found))
            own = []
            for net in self.chosen["by_rater"]:
                made = self._trained(net, masks["train"], f"{net}-{place}", there["train"])
                own.append(self._area(made, *given))
            if own:
                self.metrics[f"own_{name}"] = float(np.mean(own))

    def judge_expertness(self) -> None:
        """Optimise the fused masks of the test part with its diagnoses, and judge them."""
        for generator in self.chosen["generators"]:
            found = self._optimise(generator, "test")
            self._judge(generator, found.fused)
            energy = high_frequency_energy(found.weights)
            self.metrics[f"high_{generator}"] = float(energy[~self.test.missing].mean())
            self.metrics["loss_before"] = float(found.before.mean())
            self.metrics[f"loss_{generator}"] = float(found.after.mean())
            self.log(f"{generator}: loss {found.before.mean():.3f} to {found.after.mean():.3f}")

    def judge_the_clinic(self) -> None:
        """Judge masks that networks draw from the image alone, by what they learnt to draw."""
        generator = self.chosen["clinic"]
        if not generator:
            return
        learnt = {
            "majority": self.plain["train"]["majority"],
            generator: self._optimise(generator, "train").fused,
        }
        for how, masks in learnt.items():
            made = self._baseline(how, masks)
            drawn = segment(made, self.test.images)[0]
            self._judge(how, drawn, "clinic")
            told = zip(drawn, self.plain["test"]["mean"], strict=True)
            self.metrics[f"dice_{how}"] = float(np.mean([soft_dice(*pair) for pair in told]))

    def clear(self) -> None:
        """Remove the checkpoints: the run is done."""
        shutil.rmtree(self.folder / _CHECKPOINTS, ignore_errors=True)

    def outcome(self) -> Outcome:
        """Put the run together."""
        scores = {
            f"{kind}_{how}": values
            for kind, found in self.scores.items()
            for how, values in found.items()
        }
        name = self.chosen["clinic"]
        predicted = scores[f"clinic_{name}" if name else "others_majority"]
        return Outcome(
            predictions(self.test.ids, self.diagnosis["test"], predicted, **scores),
            {"test": self.metrics},
            pd.concat(self.histories, ignore_index=True),
            {},
            weights_record(next(iter(self.nets.values())).backbone),
            self.recipe.to_dict()
            | {name: _plain(value) for name, value in self.chosen.items()}
            | about(self.source, self.experiment, self.subsets),
        )

    def _trained(self, net: str, masks: np.ndarray, name: str = "", there=None):
        one = self.experiment
        made = build_assisted(net, one.backbone, one.weights, one.seed, self._size)
        return self._learn(made, masks, name or net, there)

    def _baseline(self, how: str, masks: np.ndarray):
        one = self.experiment
        made = BaselineSegmentation(one.backbone, one.weights, one.seed, self._size)
        return self._learn(made, masks, f"draws-{how}", None)

    def _learn(self, made, masks: np.ndarray, name: str, there):
        """Train a network, going on from its own checkpoint where there is one."""
        training, diagnosis = self.training, self.diagnosis["train"]
        if there is not None:
            training, masks, diagnosis = training.take(there), masks[there], diagnosis[there]
        place = self.folder / _CHECKPOINTS / name
        history = train(made, training, masks, diagnosis, self.recipe, self.experiment.seed, place)
        self.histories.append(history.assign(network=name))
        self.log(f"{name}: loss {history['train_loss'].iloc[-1]:.3f}")
        return made

    @property
    def _size(self) -> int:
        return self.test.images.shape[1]

    def _optimise(self, generator: str, subset: str):
        one = self.subsets[subset]
        return optimise_expertness(
            self.nets[self.chosen["source"]],
            one.images,
            one.labels,
            self.diagnosis[subset],
            generator,
            self.chosen["steps"],
            self.experiment.seed,
        )

    def _judge(self, how: str, masks: np.ndarray, kind: str = "auroc") -> None:
        """Let every net diagnose the test part with these masks."""
        true = self.diagnosis["test"]
        found = {net: diagnose(made, self.test.images, masks) for net, made in self.nets.items()}
        areas = {net: area(true, score) for net, score in found.items()}
        if kind == "auroc":
            self.metrics |= {f"auroc_{net}_{how}": value for net, value in areas.items()}
            self.metrics[f"source_{how}"] = areas[self.chosen["source"]]
        told = "others" if kind == "auroc" else kind
        self.metrics[f"{told}_{how}"] = float(np.mean([areas[net] for net in self.others]))
        mean = np.mean([found[net] for net in self.others], axis=0)
        self.scores.setdefault(told, {})[how] = mean

    def _area(self, net, images, masks, diagnosis) -> float:
        return area(diagnosis, diagnose(net, images, masks))


def _plain(value):
    return list(value) if isinstance(value, tuple) else value
