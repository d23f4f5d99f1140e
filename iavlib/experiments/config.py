"""Experiments: everything that decides a result, the id made from that, and lists of them.

An experiment consists of parts, each a typed model that refuses unknown fields::

    Experiment(
        task="iaa",
        cohort="imapp",
        backbone="mobilenetv2_100",
        recipe={"name": "finetune", "epochs": 4},
        split={"kind": "kfold", "fold": 1},
        settings={"tta": 2},
        seed=1,
    )

Every task declares the model of its ``settings`` (a subclass of :class:`TaskSettings`). Ids are
made from the form in which version 1 of the library wrote experiments, so that stored results keep
theirs: :func:`to_version_1` and :func:`from_version_1` are the only code that knows that form.

``notebooks/profiles/experiments/<profile>.yaml`` maps a notebook's stem to entries such as::

    03_iaa_regression:
      - label: probe
        backbone: [resnet18, mobilenetv2]
        recipe: {name: probe, head: [ridge, svr]}
        split: {kind: kfold, fold: [0, 1, 2, 3, 4]}
        seed: [0, 1, 2]

Lists are crossed: this entry stands for 2 x 2 x 5 x 3 experiments. What is a list by its type
(``fractions`` of a split, ``select`` of a recipe) is one value; where no type is declared
(``cohort_options``, settings of methods) a list as a value is written as a list of one.
``method: all`` is the list of every method that the task knows, where it knows several.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
import math
import os
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    field_serializer,
    model_serializer,
    model_validator,
)

from iavlib.core.errors import ExperimentError, TrainingError, suggest
from iavlib.core.plugins import load_plugins
from iavlib.core.project import Project
from iavlib.core.settings import Settings, describe, read_yaml as read_any_yaml
from iavlib.data.official_splits import LEAKS
from iavlib.data.splits import STRATIFY
from iavlib.experiments.tasks import TaskSettings, find_task
from iavlib.training.recipe import Recipe, get_recipe

#: Stands for what :func:`iavlib.experiments.resolve` chooses by what is on this machine.
AUTO = "auto"
PROBE = "probe"
FINETUNE = "finetune"
#: Fields that an experiment shares with the one it starts from, unless that names its own.
_SHARED = ("backbone", "weights", "size", "seed", "plugins")
#: Where data lie and what a run is called do not change its result.
_NOT_HASHED = ("cohort_options", "label", "plugins")
#: Fields whose hexadecimal digits can look like a number with an exponent.
_TEXT_FIELDS = ("data", "files", "code", "label", "init_from", "start")
# YAML takes 1e-4 for text; nobody means text
_EXPONENT = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)[eE][+-]?\d+")


class Choice(BaseModel):
    """A recipe or method: its name, and the settings that differ from its own."""

    model_config = ConfigDict(extra="allow", frozen=True)
    name: str

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that are given beside the name."""
        return dict(self.model_extra or {})

    @model_serializer
    def _write(self) -> str | dict[str, Any]:
        return {"name": self.name, **self.settings} if self.model_extra else self.name

    def __str__(self) -> str:
        return self.name


class ProbeRecipe(Settings):
    """Recipe ``probe``: a head on frozen features (of a diagnosis always logistic)."""

    head: Literal["ridge", "svr", "network"] = "ridge"


class HoldoutSplit(Settings):
    """One split into training, validation and test subset by ``fractions``.

    ``group`` is what is never split (``patient``, or ``linked``: lesions too; None: nothing),
    ``stratify`` names the columns whose distribution is alike in all subsets.
    """

    kind: Literal["holdout"] = "holdout"
    fractions: tuple[float, ...] = (0.7, 0.1, 0.2)
    seed: int = 0
    group: str | None = "patient"
    stratify: tuple[str, ...] | None = tuple(STRATIFY)


class KFoldSplit(Settings):
    """Fold number ``fold`` of ``folds`` is tested; ``val`` is the share of the others kept."""

    kind: Literal["kfold"]
    folds: Annotated[int, Field(ge=2)] = 5
    fold: Annotated[int, Field(ge=0)] = 0
    val: Annotated[float, Field(gt=0, lt=1)] = 0.125
    seed: int = 0
    group: str | None = "patient"
    stratify: tuple[str, ...] | None = tuple(STRATIFY)

    @model_validator(mode="after")
    def _check_fold(self):
        if self.fold >= self.folds:
            raise ValueError(f"fold is {self.fold}, it should be 0 to folds - 1")
        return self


class OfficialSplit(Settings):
    """The published split, see :func:`iavlib.data.official_split`."""

    kind: Literal["official"]
    fractions: tuple[float, ...] = (0.7, 0.1, 0.2)
    leaks: Literal[LEAKS] = "leave out"
    seed: int = 0


Split = HoldoutSplit | KFoldSplit | OfficialSplit
SPLITS = {"holdout": HoldoutSplit, "kfold": KFoldSplit, "official": OfficialSplit}


class Experiment(Settings):
    """A specification; two that are equal give the same result.

    Parameters
    ----------
    task : str
        A name of :data:`iavlib.experiments.TASKS`.
    cohort : str
        Name for :func:`iavlib.data.load`; ``"auto"`` until resolved.
    cohort_options : mapping
        Keywords for it (``path``, ``n_images``, ``seed``, ``size``). They count by the data they
        lead to, so that a folder may be moved.
    data, files : str
        Fingerprint of the cohort's tables, and of the content of its image files (empty for
        synthetic ones); filled in by :func:`iavlib.experiments.resolve`.
    plugins : sequence of str
        Python files and modules that define methods, tasks, datasets or backbones of one's own, see
        :mod:`iavlib.core.plugins`. They count by their code, not by where they are.
    code : str
        Digest of the source of what is used of them; filled in by
        :func:`iavlib.experiments.resolve`.
    split : mapping
        ``kind`` (``holdout``, ``kfold`` or ``official``) and the fields of
        :class:`HoldoutSplit`, :class:`KFoldSplit` or :class:`OfficialSplit`.
    backbone, weights : str
        As for :func:`iavlib.models.build_network`; weights ``"auto"`` until resolved.
    size : int, optional
        Side of the square images in pixels; the backbone's own by default.
    recipe : str or mapping
        ``name`` (``"probe"``: a head on frozen features; or a training recipe) and the fields of
        :class:`iavlib.training.recipe.Recipe` that differ from it.
    method : str or mapping
        ``name`` and settings of the method, in tasks that have several.
    settings : mapping
        Settings of the task.
    init_from : mapping, Experiment or str, optional
        Experiment whose trained network this one starts from (fine-tuning), or which it
        explains. Its ``backbone``, ``weights``, ``size`` and ``seed`` are as here unless given. A
        text is ``task/id`` of its run until resolved.
    seed : int
        Of the network, the order of batches, augmentation, and the choice by `train_share`.
    train_share : float
        Share of the training patients that is used, in (0, 1].
    version : int
        Of the task; it changes when the same settings come to mean something else.
    label : str
        Name in tables; it does not change the id.

    Raises
    ------
    ExperimentError
        If a field is unknown (near names are suggested) or a value does not fit.
    """

    task: str = "iaa"
    cohort: str = AUTO
    cohort_options: dict[str, Any] = Field(default_factory=dict)
    data: str = ""
    files: str = ""
    plugins: tuple[str, ...] = ()
    code: str = ""
    split: Split = HoldoutSplit()
    backbone: str = "resnet18"
    weights: str = AUTO
    size: Annotated[int, Field(gt=0)] | None = None
    recipe: Choice = Choice(name="paper")
    method: Choice = Choice(name="")
    settings: TaskSettings = TaskSettings()
    init_from: Experiment | str | None = None
    seed: Annotated[int, Field(ge=0)] = 0
    train_share: Annotated[float, Field(gt=0, le=1)] = 1.0
    version: int = 1
    label: str = ""

    def __init__(self, **values: Any):
        if _VERSION_1_KEYS & set(values):
            warnings.warn(
                "experiments are written with recipe, method, settings and init_from in place of "
                "overrides, alpha and start; the old form is read for one more version",
                DeprecationWarning,
                stacklevel=2,
            )
            values = from_version_1(values)
        try:
            super().__init__(**_prepare(values))
        except (ValidationError, TrainingError) as error:
            problem = describe(error) if isinstance(error, ValidationError) else str(error)
            raise ExperimentError("experiment", problem.rstrip("."), "correct it") from None

    @field_serializer("settings")
    def _write_settings(self, settings: TaskSettings) -> dict[str, Any]:
        return settings.given()

    @field_serializer("init_from")
    def _write_parent(self, parent: Experiment | str | None) -> dict[str, Any] | str | None:
        if not isinstance(parent, Experiment):
            return parent
        return {name: value for name, value in parent.to_dict().items() if name != "label"}

    def __repr_args__(self):
        """Show what differs from the defaults, in the spelling in which it can be written."""
        return list(self._compact(_DEFAULTS).items())

    def _compact(self, defaults: Mapping[str, Any]) -> dict[str, Any]:
        values = self.to_dict()
        shown = {k: v for k, v in values.items() if k == "task" or v != defaults.get(k)}
        if "split" in shown:
            given = self.split.model_dump(mode="json", exclude_defaults=True)
            shown["split"] = {"kind": self.split.kind} | given
        if self.parent is not None:
            shared = {name: values[name] for name in _SHARED}
            shown["init_from"] = self.parent._compact(_DEFAULTS | shared)
        return shown

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Experiment):
            return NotImplemented
        return self.to_dict() | {"label": ""} == other.to_dict() | {"label": ""}

    def __hash__(self) -> int:
        return hash(self.canonical)

    def replace(self, **changes: Any) -> Experiment:
        """Return the experiment with some fields replaced; mappings are replaced as a whole.

        Another task or method has its own version.
        """
        same = not {"task", "method"} & changes.keys()
        kept = {name: getattr(self, name) for name in FIELDS if same or name != "version"}
        return Experiment(**kept | changes)

    def training_recipe(self, **defaults: Any) -> Recipe:
        """Return the recipe with the fields that differ; `defaults` are those of a task."""
        return get_recipe(self.recipe.name, **defaults | self.recipe.settings)

    @functools.cached_property
    def canonical(self) -> str:
        """What decides the result as JSON, the same for every order and spelling.

        The form is that of version 1. Fields that have their default are left out, so that a field
        added later changes no id.
        """
        values = {
            name: value
            for name, value in to_version_1(self).items()
            if name not in _NOT_HASHED and (name == "task" or value != _DEFAULTS_1.get(name))
        }
        if self.parent is not None:
            resolved = self.parent.is_resolved
            values["start"] = self.parent.name if resolved else self.parent.canonical
        return json.dumps(map_leaves(values, _as_integer), sort_keys=True, separators=(",", ":"))

    @property
    def parent(self) -> Experiment | None:
        """The experiment that this one starts from, if any; None while only its id is given."""
        return self.init_from if isinstance(self.init_from, Experiment) else None

    @property
    def is_resolved(self) -> bool:
        """Whether data, weights and the experiment that it starts from are fixed."""
        if isinstance(self.init_from, str) or (self.parent and not self.parent.is_resolved):
            return False
        return bool(self.data) and AUTO not in (self.cohort, self.weights)

    @property
    def id(self) -> str:
        """Twelve hexadecimal digits, the name of its run directory.

        Raises
        ------
        ExperimentError
            If it is not resolved: on other data the same settings are another experiment.
        """
        if not self.is_resolved:
            problem = "its data and weights are open"
            raise ExperimentError("experiment", problem, "give resolve(experiment)")
        return hashlib.sha256(self.canonical.encode()).hexdigest()[:12]

    @property
    def name(self) -> str:
        """Task and id."""
        return f"{self.task}/{self.id}"

    @functools.cached_property
    def query_key(self) -> str:
        """The experiment without its data and weights, in the form of :attr:`canonical`."""
        return self._open().canonical

    def _open(self) -> Experiment:
        values = {"data": "", "files": "", "code": "", "cohort": AUTO, "weights": AUTO}
        if self.parent is not None:
            values["init_from"] = self.parent._open()
        return self.replace(**values)

    def matches(self, query: Experiment) -> bool:
        """Return whether this experiment answers `query`, on any data.

        Where `query` leaves cohort or weights open, any will do.
        """
        same = {name: getattr(query, name) for name in ("data", "files", "code")}
        same |= {name: AUTO for name in ("cohort", "weights") if getattr(query, name) == AUTO}
        if self.parent is not None and query.parent is not None:
            if not self.parent.matches(query.parent):
                return False
            same["init_from"] = query.init_from
        return self.replace(**same).canonical == query.canonical


FIELDS = tuple(Experiment.model_fields)


def from_mapping(values: Any, where: Any = "experiment") -> Experiment:
    """Make an experiment of what a file holds, in this form or in that of version 1.

    Parameters
    ----------
    values : mapping
        Fields of :class:`Experiment`; those that are not given have their defaults.
    where : str or Path
        How to name the place in an error.

    Raises
    ------
    ExperimentError
        If a field is unknown (near names are suggested) or a value does not fit.
    """
    try:
        return Experiment(**from_version_1(values))
    except ExperimentError as error:
        place = where if error.where == "experiment" else f"{where}: {error.where}"
        raise ExperimentError(place, error.problem, error.hint) from error


def experiment_schema() -> dict[str, Any]:
    """Return the JSON schema of an experiment, for editors.

    Settings are those of the task that is named; fields of the recipe are checked too.
    """
    from iavlib.experiments.tasks import TASKS

    document = Experiment.model_json_schema()
    schema = document["$defs"]["Experiment"]
    recipe = Recipe.model_json_schema()
    recipe["properties"]["name"] = {"type": "string"}
    schema["properties"]["recipe"] = {"anyOf": [{"type": "string"}, recipe]}
    schema["properties"]["method"] = {"type": ["string", "object"]}
    schema["properties"]["settings"] = {"type": "object"}
    schema["allOf"] = [
        {
            "if": {"properties": {"task": {"const": name}}, "required": ["task"]},
            "then": {"properties": {"settings": find_task(name).settings.model_json_schema()}},
        }
        for name in TASKS
    ]
    return document


def _prepare(values: Mapping[str, Any]) -> dict[str, Any]:
    """Convert the fields of an experiment from what people write to what the models accept."""
    values = {name: map_leaves(value, _plain, name) for name, value in values.items()}
    unknown = [name for name in values if name not in Experiment.model_fields]
    if unknown:
        problem = f"no field {unknown[0]!r}"
        raise ExperimentError("experiment", problem, suggest(unknown[0], FIELDS))
    plugins = values["plugins"] = _plugin_paths(values.get("plugins"))
    task = find_task(values.get("task", Experiment.model_fields["task"].default), plugins)
    for name in ("recipe", "method"):
        if isinstance(values.get(name), str):
            values[name] = {"name": values[name]}
    method = dict(values.get("method") or {}).get("name", "")
    values.setdefault("version", task.version_of(method))
    if isinstance(values.get("split"), Mapping):
        kind = values["split"].get("kind", "holdout")
        if kind not in SPLITS:
            raise ExperimentError("split", f"no kind {kind!r}", suggest(str(kind), SPLITS))
        values["split"] = _read_part(SPLITS[kind], {"kind": kind} | values["split"], "split")
    settings = values.get("settings", {})
    given = settings.given() if isinstance(settings, TaskSettings) else settings
    values["settings"] = _read_part(task.settings, given, "settings")
    if "recipe" in values:
        recipe = values["recipe"] = _read_part(Choice, values["recipe"], "recipe")
        if recipe.name == PROBE:
            _read_part(ProbeRecipe, recipe.settings, "recipe")
        else:
            get_recipe(recipe.name, **recipe.settings)
    parent = values.get("init_from")
    if isinstance(parent, Mapping) and parent:
        shared = {name: values[name] for name in _SHARED if name in values}
        values["init_from"] = from_mapping(shared | parent, "init_from")
    elif not parent:
        values["init_from"] = None
    return values


def _read_part(kind: type[BaseModel], values: Any, where: str) -> Any:
    if isinstance(values, kind):
        return values
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise ExperimentError(where, describe(error), f"correct {where}") from None


def map_leaves(value: Any, change: Callable[[Any, str], Any], place: str = "") -> Any:
    """Change every value of nested mappings and lists, given the value and its dotted name."""
    if isinstance(value, Mapping):
        return {str(k): map_leaves(v, change, f"{place}.{k}") for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [map_leaves(item, change, place) for item in value]
    return change(value, place)


def _plain(value: Any, place: str) -> Any:
    """Convert a value to one that JSON can hold, or refuse it."""
    if hasattr(value, "item") and not isinstance(value, str):
        value = value.item()  # of NumPy
    is_text = place.rpartition(".")[2] in _TEXT_FIELDS
    if isinstance(value, str) and not is_text and _EXPONENT.fullmatch(value):
        value = float(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise ExperimentError(f"{place} = {value}", "is not finite", "give a number or nothing")
    if value is None or isinstance(value, bool | int | float | str | BaseModel):
        return value
    raise ExperimentError(
        f"{place} = {value!r}", "is no text, number, list or mapping", "use one of these"
    )


def _as_integer(value: Any, place: str) -> Any:
    """Write 1.0 as 1, so that both spellings are one experiment."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


# ------------------------------------------------------------------------------- version 1
#: Fields that only specifications of version 1 have.
_VERSION_1_KEYS = {"overrides", "start", "alpha"}


def to_version_1(experiment: Experiment) -> dict[str, Any]:
    """Write an experiment as version 1 did: its hash is the id.

    Returns
    -------
    dict
        ``recipe`` and ``method`` are names, ``overrides`` holds their settings and those of the
        task, ``alpha`` and ``start`` stand beside them; defaults that depend on the recipe are not
        filled in.
    """
    values = experiment.to_dict()
    overrides = {}
    for name, value in values.pop("settings").items():
        old, old_values = experiment.settings.VERSION_1.get(name, (name, {}))
        overrides[old] = _translate(value, old_values)
    alpha = overrides.pop("alpha", None)
    for part in ("recipe", "method"):
        choice = getattr(experiment, part)
        values[part] = choice.name
        overrides |= choice.settings
    parent = values.pop("init_from") or {}
    if experiment.parent is not None:
        parent = to_version_1(experiment.parent)
        del parent["label"]
    values = {k: v for k, v in values.items() if v or k not in ("code", "plugins")}  # later fields
    return values | {"overrides": overrides, "alpha": alpha, "start": parent}


def from_version_1(values: Any, where: Any = "experiment") -> dict[str, Any]:
    """Convert a specification of version 1, or an entry of a list of such, to the present form.

    Parameters
    ----------
    values : mapping
        Fields of an experiment, any of them a list of values. What is in the present form already
        is returned as it is.
    where : str or Path
        How to name the place in an error.

    Raises
    ------
    ExperimentError
        If it is no mapping, or ``overrides`` names no setting of the task, the recipe or the
        method.
    """
    if not isinstance(values, Mapping):
        raise ExperimentError(where, "is not a mapping", "write field: value, one per line")
    present = {name: value for name, value in values.items() if name not in _VERSION_1_KEYS}
    parent = values.get("start") or values.get("init_from")
    if parent:
        present["init_from"] = from_version_1(parent) if isinstance(parent, Mapping) else parent
    if not _VERSION_1_KEYS & set(values):
        return present
    overrides = values.get("overrides") or {}
    if not isinstance(overrides, Mapping):
        raise ExperimentError(f"overrides = {overrides!r}", "must be a mapping", "correct it")
    task = values.get("task", "iaa")
    settings = find_task(task[0] if isinstance(task, list) else task).settings
    renamed = {
        old: (new, {before: now for now, before in changed.items()})
        for new, (old, changed) in settings.VERSION_1.items()
    }
    parts: dict[str, dict[str, Any]] = {"recipe": {}, "method": {}, "settings": {}}
    for name, value in overrides.items():
        new, new_values = renamed.get(name, (name, {}))
        if new in settings.model_fields:
            parts["settings"][new] = _translate(value, new_values)
        elif name in Recipe.model_fields:
            parts["recipe"][name] = value
        elif values.get("method"):
            parts["method"][name] = value
        else:
            known = [*settings.model_fields, *Recipe.model_fields]
            raise ExperimentError(f"overrides.{name}", "is no setting", suggest(name, known))
    if values.get("alpha") is not None:
        parts["settings"]["alpha"] = values["alpha"]
    if settings_given := parts.pop("settings"):
        present["settings"] = settings_given
    for part, given in parts.items():
        if given:
            default = Experiment.model_fields[part].default.name
            present[part] = {"name": values.get(part, default), **given}
    return present


def _translate(value: Any, names: Mapping[Any, Any]) -> Any:
    """Replace a value, or each of a list, by what it is called in the other version."""
    if not names:
        return value
    if isinstance(value, list):
        return [names.get(item, item) for item in value]
    return names.get(value, value)


_DEFAULTS = Experiment.model_construct().to_dict()
_DEFAULTS_1 = to_version_1(Experiment.model_construct())


# ---------------------------------------------------------------------------------- lists
#: Experiments that the lists of one entry may cross to.
_MOST_CROSSED = 10_000
FOLDER = "experiments"
#: Lists in the order in which they are to be run, beside the former.
BY_PRIORITY = "sweeps"
#: Stands for every method of a task.
ALL = "all"


def expand(entry: Any, where: Any = "experiment") -> list[Experiment]:
    """Cross the lists of an entry.

    Parameters
    ----------
    entry : mapping
        Fields of an experiment, any of them, also within its parts, a list of values.
    where : str or Path
        How to name the place in an error.

    Returns
    -------
    list of Experiment
        In the order of the lists, the last varying fastest; not resolved.

    Raises
    ------
    ExperimentError
        If a field is unknown or a value does not fit.
    """
    present = from_version_1(entry, where)
    if present != entry:
        message = f"{where}: write recipe, method, settings and init_from (book/experiments.md)"
        warnings.warn(message, DeprecationWarning, stacklevel=2)
    own = {"plugins": _plugin_paths(present.get("plugins"), where)}
    load_plugins(own["plugins"])
    present = {name: value for name, value in present.items() if name != "plugins"}
    combined = list(itertools.islice(_cross(present, where), _MOST_CROSSED + 1))
    if len(combined) > _MOST_CROSSED:
        problem = f"its lists cross to more than {_MOST_CROSSED:,} experiments"
        raise ExperimentError(where, problem, "shorten them")
    return [from_mapping(fields | own, where) for fields in combined]


def _plugin_paths(given: Any, where: Any = None) -> list[Any]:
    """Make files of plugins absolute: beside the specification, else in the working folder."""
    names = list(given) if isinstance(given, list | tuple) else [given] if given else []
    beside = where.parent if isinstance(where, Path) else Path()
    for n, name in enumerate(names):
        if str(name).endswith(".py"):
            names[n] = os.path.abspath(beside / name if (beside / name).is_file() else name)
    return names


def _cross(
    entry: Mapping[str, Any], where: Any, task: str = "iaa", part: str = ""
) -> Iterator[dict[str, Any]]:
    """Generate the combinations of the lists of an entry, or of a mapping in it."""
    task = str(entry.get("task", "iaa")) if part in ("", "init_from") else task
    choices = []
    for name, value in entry.items():
        place = f"{part}.{name}" if part else name
        if name == "plugins":
            value = [value]  # a list by nature
        elif isinstance(value, Mapping):
            value = list(_cross(value, where, task, name))
        elif value == ALL and place in ("method", "method.name"):
            methods = find_task(task).methods
            if methods is None:
                hint = "leave 'method' out"
                raise ExperimentError(where, "its task knows no methods by name", hint)
            value = list(methods())
        elif not isinstance(value, list) or _is_one_value(part, name, value, task):
            value = [value]
        if not value:
            raise ExperimentError(where, f"{place} is an empty list", "give a value")
        choices.append(value)
    for values in itertools.product(*choices):
        yield dict(zip(entry, values, strict=True))


def _is_one_value(part: str, name: str, value: list[Any], task: str) -> bool:
    """Return whether a list is one value by the type of its field."""
    parts = {"recipe": [Recipe], "split": [HoldoutSplit, KFoldSplit]}
    for model in [find_task(task).settings] if part == "settings" else parts.get(part, []):
        if name in model.model_fields:
            try:
                TypeAdapter(model.model_fields[name].annotation).validate_python(value)
                return True
            except ValidationError:
                return False
    return False


def listed(project: Project, profile: str) -> dict[str, list[Experiment]]:
    """Read which experiments the notebooks read at a scale.

    Parameters
    ----------
    project : Project
    profile : str

    Returns
    -------
    dict of str to list of Experiment
        Notebook stem to experiments, each once; not resolved. Empty without a file.

    Raises
    ------
    ExperimentError
        If the file is damaged, names no notebook here, or an entry is wrong.
    """
    path = project.profiles / FOLDER / f"{profile}.yaml"
    if not path.is_file():
        return {}
    facts = path.stat()
    state = (facts.st_size, facts.st_mtime_ns)
    lists = _read_lists(path, tuple(project.notebook_files()), state)
    return {stem: list(experiments) for stem, experiments in lists.items()}


@functools.lru_cache(maxsize=8)  # by the file and its state
def _read_lists(path: Path, files: tuple[str, ...], _state: Any) -> dict[str, list[Experiment]]:
    content = read_yaml(path)
    if unknown := [stem for stem in content if stem not in files]:
        raise ExperimentError(path, f"no notebook {unknown[0]!r}", suggest(str(unknown[0]), files))
    return {stem: _read_entries(path, stem, entries) for stem, entries in content.items()}


def _read_entries(path: Path, name: str, entries: Any) -> list[Experiment]:
    """Return the experiments of a list, each once."""
    if not isinstance(entries, list):
        raise ExperimentError(path, f"{name} is no list", "begin each entry with '- '")
    numbered = enumerate(entries, start=1)
    crossed = [expand(entry, f"{path}: {name}, entry {n}") for n, entry in numbered]
    return list(dict.fromkeys(itertools.chain.from_iterable(crossed)))


def all_listed(project: Project) -> Iterator[Experiment]:
    """Go through the experiments of every committed list, of all notebooks and scales."""
    for path in sorted((project.profiles / FOLDER).glob("*.yaml")):
        for experiments in listed(project, path.stem).values():
            yield from experiments
    for path in sorted((project.profiles / BY_PRIORITY).glob("*.yaml")):
        yield from by_priority(project, path)


def by_priority(project: Project, name: str | Path) -> list[Experiment]:
    """Read experiments in the order in which they are to be run.

    Parameters
    ----------
    project : Project
    name : str or Path
        A YAML file of headings, each with a list of entries, or the name of one in
        ``notebooks/profiles/sweeps`` or ``notebooks/profiles/experiments``, without its ending.

    Raises
    ------
    ExperimentError
        If there is no such list, or an entry is wrong.
    """
    folders = [project.profiles / BY_PRIORITY, project.profiles / FOLDER]
    places = [Path(name), *(folder / f"{name}.yaml" for folder in folders)]
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        known = [path.stem for folder in folders for path in sorted(folder.glob("*.yaml"))]
        problem = "is no file and no list of experiments"
        raise ExperimentError(name, problem, suggest(str(name), known))
    lists = (_read_entries(path, *each) for each in read_yaml(path).items())
    return list(dict.fromkeys(itertools.chain.from_iterable(lists)))


def read_yaml(path: Path) -> dict[Any, Any]:
    """Read a YAML or JSON file that holds a mapping; empty if it holds nothing."""
    try:
        content = read_any_yaml(path)
    except ValueError as error:
        raise ExperimentError(path, str(error), "correct it") from error
    if not isinstance(content, dict | None):
        raise ExperimentError(path, "holds no mapping", "write name: value, one per line")
    return content or {}
