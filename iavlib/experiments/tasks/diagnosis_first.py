"""Task ``diagnosis-first``: masks of raters fused for the diagnosis, and whom that helps.

One run trains diagnosis nets with the majority's masks, optimises the fused mask (DF-GT) of every
test image *with its diagnosis* on one of them, ``optimised_net``, and lets all nets diagnose with
every mask. As masks that could be had in clinical use, a network that learnt DF-GT of the training
subset predicts masks from the image alone."""

import shutil
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import pandas as pd
from pydantic import Field

from iavlib.core.errors import ExperimentError, suggest
from iavlib.experiments.config import Experiment
from iavlib.experiments.tasks import Log, Outcome, Task, annotator_sets as sets
from iavlib.experiments.tasks.annotators import weights_record, with_weights
from iavlib.masks import soft_dice
from iavlib.multiannotator.dataset import MultiAnnotatorSet

NAME = "diagnosis-first"
#: Fusions that use the raters' masks and nothing else.
PLAIN = {"majority": "mode", "mean": "mean", "staple": "staple"}
#: Test images of each class that a rater must have marked to be scored.
MIN_PER_CLASS = 2
_NETWORKS = "networks"


class DiagnosisFirstSettings(sets.DiagnosedData):
    """Settings of the task.

    Attributes
    ----------
    nets : tuple of str
        Diagnosis nets that judge masks; of ``ssl``, masks given at the test have no effect, so that
        it judges raters' masks that it was trained with, and no fused ones.
    optimised_net : str
        The one that masks are optimised on.
    by_rater : tuple of str
        Nets that are also trained with each rater's masks, and without: with the whole image.
    generators : tuple of str
        Ways to parametrise expertness maps.
    steps : int
        Of their optimisation.
    image_only : str
        The generator whose masks of the training subset a network learns to predict; none if empty.
    """

    VERSION_1: ClassVar = {
        **sets.DiagnosedData.VERSION_1,
        "optimised_net": ("source", {}),
        "image_only": ("clinic", {}),
    }

    nets: Annotated[tuple[str, ...], Field(min_length=2)] = ("cat", "roi", "att", "ssl", "seat")
    optimised_net: str = "cat"
    by_rater: tuple[str, ...] = ()
    generators: tuple[str, ...] = ("pixel", "robust", "fourier", "expg", "expg-released")
    steps: Annotated[int, Field(ge=1)] = 20
    image_only: str = "expg"


def complete(experiment: Experiment) -> Experiment:
    """Fix the weights, and refuse what cannot be run.

    Raises
    ------
    ExperimentError
        If there is no such net or generator.
    """
    from iavlib.models.assisted import NETS
    from iavlib.multiannotator.expertness import GENERATORS

    chosen = experiment.settings
    generators = (*chosen.generators, *filter(None, [chosen.image_only]))
    choices = {"nets": (chosen.nets, NETS), "by_rater": (chosen.by_rater, NETS)}
    choices |= {"generators": (generators, GENERATORS)}
    choices |= {"optimised_net": ([chosen.optimised_net], chosen.nets)}
    for field, (names, known) in choices.items():
        for name in (name for name in names if name not in known):
            problem = f"there is no {name!r}"
            raise ExperimentError(f"settings.{field}", problem, suggest(name, known))
    return with_weights(experiment)


def run(experiment: Experiment, dataset: MultiAnnotatorSet, folder: Path, log: Log) -> Outcome:
    """Run the experiment of the module's description.

    Metrics of the test subset: ``auroc_<net>_<mask>`` of each net and mask; ``heldout_nets_<mask>``
    (mean over the nets that masks were not optimised on, without ``ssl``) and
    ``optimised_net_<mask>``; ``with_mask_<rater>`` (mean over nets given that rater's masks) and
    ``trained_<rater>`` (nets trained with them too; of each net ``rater_<net>_<rater>``), where the
    rater ``NoMask`` marks the whole of every image; where disc and cup of the optic nerve are
    marked, ``auroc_vcdr_<mask>`` and ``auroc_vcdr_<rater>`` of :func:`cup_to_disc_ratio
    <iavlib.multiannotator.fusion.cup_to_disc_ratio>`, while nets are given the disc;
    ``high_<generator>`` (share of fine waves in its weights);
    ``loss_before`` and ``loss_<generator>`` (of the net optimised on); ``image_only_majority`` and
    ``image_only_<generator>`` (mean over the held-out nets, with masks predicted from the image
    alone), ``dice_...`` of these (soft Dice to the mean vote); ``n_images`` of all subsets.
    """
    panel = _Panel(experiment, dataset, folder, log)
    panel.score_plain_masks()
    panel.score_raters()
    panel.score_expertness()
    panel.score_predicted_masks()
    shutil.rmtree(folder / _NETWORKS, ignore_errors=True)
    return panel.outcome(dataset)


class _Panel:
    """The networks and masks of a run; each method is one step and adds to ``metrics``."""

    def __init__(self, experiment: Experiment, dataset: MultiAnnotatorSet, folder: Path, log: Log):
        from iavlib.multiannotator.fusion import expectation_maximisation, fuse

        self.experiment, self.folder, self.log = experiment, folder, log
        self.chosen: Any = experiment.settings
        # No epoch is selected: there is no subset for that.
        self.recipe = experiment.training_recipe(select=None, patience=None)
        self.subsets = sets.diagnosed_subsets(dataset, experiment, log)
        self.train, self.test = self.subsets["train"], self.subsets["test"]
        self.metrics = {"n_images": float(len(self.train) + len(self.test))}
        self.scores: dict[str, np.ndarray] = {}
        self.histories: list[pd.DataFrame] = []
        fused = {
            name: {mask: fuse(subset, how) for mask, how in PLAIN.items()}
            | {"em": expectation_maximisation(subset)}
            for name, subset in self.subsets.items()
        }
        self.fused = fused["test"]
        self.plain = {
            name: {mask: np.clip(1 - maps[:, 0], 0, 1) for mask, maps in by_mask.items()}
            for name, by_mask in fused.items()
        }
        masks = self.plain["train"]["majority"]
        self.nets = {net: self._train_net(net, self.train, masks) for net in self.chosen.nets}
        self.heldout = [net for net in self.nets if net not in (self.chosen.optimised_net, "ssl")]

    def score_plain_masks(self) -> None:
        """Let the nets diagnose with masks that do not depend on a diagnosis."""
        from iavlib.multiannotator.fusion import cup_to_disc_ratio
        from iavlib.multiannotator.scores import diagnosis_auroc

        for name, masks in self.plain["test"].items():
            self._score(name, masks)
        if {"disc", "cup"} <= set(self.test.structures):
            one_hot = self.test.labels[..., None] == np.arange(self.test.n_classes)
            raters = zip(self.test.annotators, np.moveaxis(one_hot, (1, -1), (0, 2)), strict=True)
            for name, maps in (*self.fused.items(), *raters):
                parts = (maps[:, list(self.test.structures[x])].sum(1) for x in ("disc", "cup"))
                ratio = cup_to_disc_ratio(*(part >= 0.5 for part in parts))
                known = np.isfinite(ratio)
                area = diagnosis_auroc(self.test.diagnosis[known], ratio[known])
                self.metrics[f"auroc_vcdr_{name}"] = area

    def score_raters(self) -> None:
        """Let nets diagnose with each rater's masks, and train some with these only."""
        n, both = len(self.test.annotators), (self.train, self.test)
        for column, name in enumerate((*self.test.annotators, sets.NO_MASK)):
            whole = name == sets.NO_MASK
            pairs = [(one, whole | ~one.missing[:, column % n]) for one in both]
            counts = [np.bincount(one.diagnosis[there], minlength=2).min() for one, there in pairs]
            if min(counts) < MIN_PER_CLASS:
                self.log(f"rater {name} marked too few images of a class to be scored")
                continue
            train, test = (one.take(there) for one, there in pairs)
            marks = [whole | (one.labels[:, column % n] > 0) for one in (train, test)]
            learnt, masks = (one.astype(int) for one in marks)
            areas = [self._area(net, test, masks)[0] for net in self.nets.values()]
            self.metrics[f"with_mask_{name}"] = float(np.mean(areas))
            areas = []
            for net in self.chosen.by_rater:
                trained = self._train_net(net, train, learnt, f"{net}-{column}")
                areas.append(self._area(trained, test, masks)[0])
                self.metrics[f"rater_{net}_{name}"] = areas[-1]
            if areas:
                self.metrics[f"trained_{name}"] = float(np.mean(areas))

    def score_expertness(self) -> None:
        """Optimise the fused masks of the test subset with its diagnoses, and score them."""
        from iavlib.multiannotator.expertness import high_frequency_energy

        for generator in self.chosen.generators:
            result = self._optimise(generator, self.test)
            self._score(generator, result.fused)
            energy = high_frequency_energy(result.weights)
            before, after = float(result.before.mean()), float(result.after.mean())
            self.metrics[f"high_{generator}"] = float(energy[~self.test.missing].mean())
            self.metrics |= {"loss_before": before, f"loss_{generator}": after}
            self.log(f"{generator}: loss {before:.3f} to {after:.3f}")

    def score_predicted_masks(self) -> None:
        """Score masks that networks predict from the image alone, by the masks they learnt."""
        from iavlib.models.assisted import BaselineSegmentation
        from iavlib.multiannotator.assisted_training import segment

        generator, one = self.chosen.image_only, self.experiment
        if not generator:
            return
        fused = self._optimise(generator, self.train).fused
        learnt = {"majority": self.plain["train"]["majority"], generator: fused}
        for name, masks in learnt.items():
            given = (one.backbone, one.weights, one.seed, self.test.images.shape[1])
            network = self._learn(BaselineSegmentation(*given), self.train, masks, f"draws-{name}")
            predicted = segment(network, self.test.images)
            self._score(name, predicted, predicted=True)
            dice = soft_dice(predicted, self.plain["test"]["mean"])
            self.metrics[f"dice_{name}"] = float(dice.mean())

    def outcome(self, dataset: MultiAnnotatorSet) -> Outcome:
        """Collect the results of the run."""
        name = self.chosen.image_only
        predicted = self.scores[f"image_only_{name}" if name else "heldout_nets_majority"]
        columns = {"image_id": list(self.test.ids), "subset": "test", "true": self.test.diagnosis}
        settings = self.recipe.to_dict() | self.chosen.to_dict()
        net: Any = next(iter(self.nets.values()))
        return Outcome(
            pd.DataFrame(columns | {"predicted": predicted} | self.scores),
            {"test": self.metrics},
            pd.concat(self.histories, ignore_index=True),
            {},
            weights_record(net.backbone.weights, self.experiment),
            settings | sets.about(dataset, self.experiment, self.subsets),
        )

    def _train_net(self, net: str, dataset: MultiAnnotatorSet, masks: np.ndarray, name: str = ""):
        from iavlib.models.assisted import build_assisted

        one, size = self.experiment, self.test.images.shape[1]
        network = build_assisted(net, one.backbone, one.weights, one.seed, size)
        return self._learn(network, dataset, masks, name or net)

    def _learn(self, network, dataset: MultiAnnotatorSet, masks: np.ndarray, name: str):
        """Train a network, resuming from its own checkpoint where there is one."""
        from iavlib.multiannotator.assisted_training import train

        given = (self.recipe, self.experiment.seed, self.folder / _NETWORKS / name)
        history = train(network, dataset, masks, *given)
        self.histories.append(history.assign(network=name))
        self.log(f"{name}: loss {history['train_loss'].iloc[-1]:.3f}")
        return network

    def _optimise(self, generator: str, dataset: MultiAnnotatorSet):
        from iavlib.multiannotator.expertness import optimise_expertness

        source, steps = self.nets[self.chosen.optimised_net], self.chosen.steps
        return optimise_expertness(source, dataset, generator, steps, self.experiment.seed)

    def _score(self, name: str, masks: np.ndarray, predicted: bool = False) -> None:
        """Let every net diagnose the test subset with these masks."""
        found = {net: self._area(network, self.test, masks) for net, network in self.nets.items()}
        areas = {net: area for net, (area, _) in found.items()}
        if not predicted:
            self.metrics |= {f"auroc_{net}_{name}": area for net, area in areas.items()}
            self.metrics[f"optimised_net_{name}"] = areas[self.chosen.optimised_net]
        key = f"{'image_only' if predicted else 'heldout_nets'}_{name}"
        self.metrics[key] = float(np.mean([areas[net] for net in self.heldout]))
        self.scores[key] = np.mean([found[net][1] for net in self.heldout], axis=0)

    @staticmethod
    def _area(network, dataset: MultiAnnotatorSet, masks: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the AUROC and the predicted diagnoses of a net that is given masks."""
        from iavlib.multiannotator.assisted_training import diagnose
        from iavlib.multiannotator.scores import diagnosis_auroc

        scores = diagnose(network, dataset.images, masks)
        return diagnosis_auroc(dataset.diagnosis, scores), scores


TASK = Task(
    NAME,
    sets.targets,
    run,
    complete,
    DiagnosisFirstSettings,
    version=2,  # version 1: ExpG with the released activations, q(f) + E, four nets, no NoMask
    resolve_dataset=sets.choose,
    load=sets.load,
)
