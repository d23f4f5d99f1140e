"""What an experiment of diagnosis may set beside the fields of a recipe; nothing needs PyTorch.

Where the published code and the paper's text differ, or what was published is not what one would
do, each is a value of a setting here.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from iavlib.errors import suggest
from iavlib.experiments.errors import ExperimentError
from iavlib.experiments.spec import Experiment
from iavlib.experiments.tasks.settings import FINETUNE, PROBE

DIAGNOSIS, MULTITASK = "diagnosis", "multitask"
PUBLISHED = ("paper", "paper_finetune")
#: Times that the training part is gone through in an epoch of the published fine-tuning.
PASSES = {"isic2018": 1, "isic2019": 1, "ph2": 25, "derm7pt": 3}
#: Class weights as the published code has them. Those of IMA++ were counted on its test part, those
#: of derm7pt on 1,923 cases of a dataset of 1,011.
PUBLISHED_WEIGHTS = {
    "imapp": (0.6340, 2.3663),
    "isic2018": (0.5625, 4.4991),
    "isic2019": (0.6087, 2.8009),
    "ph2": (0.6250, 2.5000),
    "derm7pt": (0.6120, 2.7315),
}
#: Mean and standard deviation of the channels, as the published code has them.
NORMALISATIONS = {
    "imapp": ((0.7079, 0.5688, 0.5130), (0.1304, 0.1248, 0.1429)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}
_VALUES: dict[str, tuple[Any, ...]] = {
    "tta": (1, 2, 4, 8),
    "normalise": ("weights", "train", "published", *NORMALISATIONS),
    "class_loss": ("focal", "focal_textbook", "cross_entropy"),
    "weights_from": ("train", "published", "none"),
    "combine": ("alpha", "uncertainty"),
    "control": ("none", "shuffled_iaa", "iaa_input"),
    "indeterminate": ("out", "benign"),
    "images": ("measured", "all"),
    "head_start": ("zero", "fit"),
    "mimic_moving_statistics": (False, True),
}


@dataclass(frozen=True)
class DiagnosisSettings:
    """The settings of one experiment.

    Attributes
    ----------
    tta : {1, 2, 4, 8}
        Views (turned and mirrored) over which predictions are averaged. Published: 1.
    normalise : str
        By which mean and deviation images are normalised: those of the ``weights`` (of the network
        that it starts from), of the ``train`` part, the published constants of IMA++ (``imapp``)
        or of ``imagenet``; ``published`` takes those of IMA++ on IMA++ and phantom and those of
        ImageNet on all others, also where training on IMA++ went before.
    class_loss : {"focal", "focal_textbook", "cross_entropy"}
        ``focal`` has the class weight inside the exponent, as published.
    weights_from : {"train", "published", "none"}
        Class weights N / (2 N_c) of the training part, or the published constants.
    combine : {"alpha", "uncertainty"}
        Two losses are summed as the paper does, with ``alpha`` of the experiment, or weighted by
        learned uncertainties (ours).
    control : {"none", "shuffled_iaa", "iaa_input"}
        ``shuffled_iaa``: the agreement of training images is exchanged between them, by the seed:
        what a multi-task model still gains then, it does not gain from agreement.
        ``iaa_input``: the true agreement is given with the features. It is an upper bound that
        cannot be deployed, as it takes several annotators' masks of each new image.
    indeterminate : {"out", "benign"}
        What becomes of images that are neither benign nor malignant. The published evaluation of
        the regression counts them as benign, the published diagnosis leaves them out.
    images : {"measured", "all"}
        Only images whose agreement is known, in a cohort that has any such (so that models with
        and without it learn from the same images), or all that have a label.
    trainable : {"all", "last"} or int
        Stages of the backbone that are trained, see
        :func:`iavlib.training.stages.train_last_stages`.
    head_start : {"zero", "fit"}
        Heads begin as drawn, or where a fit to frozen features ends (linear heads only).
    mimic_moving_statistics : bool
        Whether BatchNorm statistics of the frozen regression head move in fine-tuning, as
        published, though its parameters do not.
    """

    tta: int
    normalise: str
    class_loss: str
    weights_from: str
    combine: str
    control: str
    indeterminate: str
    images: str
    trainable: str | int
    head_start: str
    mimic_moving_statistics: bool

    @property
    def rest(self) -> str:
        """The same as ``indeterminate``, in the words of :func:`iavlib.data.target`."""
        return "negative" if self.indeterminate == "benign" else "out"

    def to_json(self) -> dict[str, Any]:
        """Give all, for the record."""
        return asdict(self)


_NAMES = tuple(item.name for item in fields(DiagnosisSettings))


def read_settings(experiment: Experiment) -> tuple[DiagnosisSettings, dict[str, Any]]:
    """Tell apart what ``overrides`` set here and what they set of the recipe.

    Returns
    -------
    DiagnosisSettings
    dict
        Fields of the recipe that differ from it: selection by balanced accuracy, the published
        number of passes, and what ``overrides`` say.

    Raises
    ------
    ExperimentError
        If a value is not possible, or does not go with the rest of the experiment.
    """
    published = experiment.recipe in PUBLISHED
    given = dict(experiment.overrides)
    linear = given.get("head", "linear" if experiment.recipe == FINETUNE else "") == "linear"
    start = "fit" if linear and not experiment.start else "zero"
    chosen = {
        "tta": 1 if published else 4,
        "normalise": "published" if published else "weights",
        "class_loss": "focal" if published else "cross_entropy",
        "weights_from": "train",
        "combine": "alpha",
        "control": "none",
        "indeterminate": "out",
        "images": "measured",
        "trainable": "all",
        "head_start": start,
        "mimic_moving_statistics": False,
    }
    chosen |= {name: given.pop(name) for name in _NAMES if name in given}
    for name, known in _VALUES.items():
        if chosen[name] not in known:
            mend = suggest(str(chosen[name]), map(str, known))
            raise ExperimentError(f"overrides.{name} = {chosen[name]!r}", "is not possible", mend)
    settings = DiagnosisSettings(**chosen)
    _check(experiment, settings)
    recipe_fields = given if experiment.recipe == PROBE else _recipe_fields(experiment, given)
    if settings.trainable != "all":
        recipe_fields = {"freeze_batchnorm": True} | recipe_fields
        _refuse(
            not recipe_fields["freeze_batchnorm"],
            "overrides.freeze_batchnorm = False",
            "lets statistics of stages move that are not trained",
            "leave it out, or train all stages",
        )
    return settings, recipe_fields


def _recipe_fields(experiment: Experiment, given: dict[str, Any]) -> dict[str, Any]:
    own: dict[str, Any] = {"select": ["balanced_accuracy", "max"]}
    if experiment.recipe == "paper_finetune" and experiment.cohort in PASSES:
        own["num_aug"] = PASSES[experiment.cohort]
    return own | given


def _check(experiment: Experiment, settings: DiagnosisSettings) -> None:
    """Refuse what contradicts itself, before anything is read."""
    both, alpha = experiment.task == MULTITASK, experiment.alpha
    learned = settings.combine == "uncertainty"
    fits_alpha = alpha is None if not both or learned else alpha is not None and 0 <= alpha <= 1
    wanted = "from 0 to 1 for two losses summed" if both and not learned else "left out here"
    _refuse(not fits_alpha, f"alpha = {alpha!r}", f"must be {wanted}", "correct alpha")
    _refuse(
        settings.control == "shuffled_iaa" and not both,
        "overrides.control = 'shuffled_iaa'",
        "exchanges what the diagnosis alone does not use",
        "use it with the task multitask",
    )
    _refuse(
        settings.control == "iaa_input" and (both or bool(experiment.start)),
        "overrides.control = 'iaa_input'",
        "is for a diagnosis that starts from no other experiment",
        "use the task diagnosis, without start",
    )
    _refuse(
        both and experiment.recipe == PROBE,
        "task multitask with a probe",
        "has nothing to share: the features are frozen",
        "use the task diagnosis for a probe",
    )
    constants = settings.weights_from == "published" and experiment.cohort not in PUBLISHED_WEIGHTS
    known = ", ".join(PUBLISHED_WEIGHTS)
    _refuse(
        constants and experiment.cohort != "auto",
        "overrides.weights_from = 'published'",
        f"there are published weights for {known}, not for {experiment.cohort}",
        "use 'train'",
    )
    trainable = settings.trainable
    whole = isinstance(trainable, int) and not isinstance(trainable, bool) and trainable >= 0
    _refuse(
        not whole and trainable not in ("all", "last"),
        f"overrides.trainable = {trainable!r}",
        "is not possible",
        "give 'all', 'last' or a number of stages",
    )


def _refuse(wrong: bool, where: str, problem: str, mend: str) -> None:
    if wrong:
        raise ExperimentError(where, problem, mend)
