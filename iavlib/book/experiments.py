"""What the runs of notebooks must know of the experiments that these read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from iavlib.book.parameters import SCALES
from iavlib.core.errors import ExecutionError, ParameterError
from iavlib.core.project import Project

#: Option of ``iav run``.
NO_TRAIN_OPTION = "--no-train"
_FULL = SCALES[-1]


@dataclass(frozen=True)
class NotebookExperiments:
    """The experiments of one notebook at one scale, and how far they are.

    Parameters
    ----------
    listed : tuple of Experiment
        In the order of the list; empty for a notebook that reads none.
    store : RunStore or None
        Where their runs are.
    others : str
        Digest of what else the notebook may show: stored results, and runs of other scales that
        are finished here.
    waiting : tuple of tuple of Experiment and str
        Those that cannot be run here, not resolved, and what is missing of their data.
    """

    listed: tuple[Any, ...] = ()
    store: Any = None
    others: str = ""
    waiting: tuple[tuple[Any, str], ...] = ()

    @cached_property
    def ids(self) -> list[str]:
        """Task and id of each."""
        return sorted(experiment.name for experiment in self.listed)

    def reason_to_train(self, experiment: Any) -> str | None:
        """Say why an experiment would be run; None if it is finished."""
        status = self.store.status(experiment)
        reasons = {
            "finished": None,
            "failed": "its last run failed",
            "unfinished": "not finished",
            "running": "another process runs it",
        }
        return reasons.get(status, "never run")

    def starts_of(self, experiment: Any) -> list[Any]:
        """List what must be done before an experiment, the first first: what it starts from."""
        parent = experiment.parent
        return [] if parent is None else [*self.starts_of(parent), parent]

    def reason_to_run(self, since: str) -> str | None:
        """Say why a notebook that was run would be run again for its experiments.

        Parameters
        ----------
        since : str
            When its last run ended (UTC, ISO 8601).

        Returns
        -------
        str or None
            Half a sentence; None if it has read all of them.
        """
        n = len(self.listed)
        states = [self.store.status(experiment) for experiment in self.listed]
        failed = states.count("failed")
        if failed:
            return f"{failed} of its {n} experiments failed"
        missing = n - states.count("finished")
        if missing:
            return f"{missing} of its {n} experiments are not finished"
        later = sum(self._finished(experiment) > since for experiment in self.listed)
        return f"{later} of its {n} experiments finished since" if later else None

    def _finished(self, experiment: Any) -> str:
        from iavlib.experiments.result import read_facts

        return read_facts(self.store.folder(experiment))["finished"]


NoExperiments = NotebookExperiments()


def find_experiments(
    project: Project, profile: str, stem: str, parameters: Mapping[str, Any]
) -> NotebookExperiments:
    """Find the experiments that a notebook reads at a scale.

    Parameters
    ----------
    project : Project
        The project.
    profile : str
        Name of the profile.
    stem : str
        Name of the notebook without ending.
    parameters : mapping
        Its parameters; ``cohort``, ``path`` and the like say on which data.

    Returns
    -------
    NotebookExperiments
        Nothing slow is loaded where no list names the notebook.

    Raises
    ------
    ParameterError
        If a list of experiments is wrong, or the data are.
    """
    folder = project.profiles / "experiments"
    if not any(stem in path.read_text(encoding="utf-8") for path in folder.glob("*.yaml")):
        return NoExperiments
    from iavlib.core.errors import DataError, DatasetUnavailable
    from iavlib.experiments.lookup import notebook_experiments, shown_results, without_data
    from iavlib.experiments.store import RunStore

    store = RunStore.of(project)
    try:
        listed = notebook_experiments(project, profile, stem, parameters)
        waiting = without_data(profile, stem, project)
    except ExecutionError:
        raise
    except (DataError, DatasetUnavailable) as error:
        raise ParameterError(f"{stem}: its experiments: {error}") from error
    own = {store.folder(experiment) for experiment in listed}
    shown = [path for path in shown_results(project, stem, store) if path not in own]
    return NotebookExperiments(tuple(listed), store, _digest(shown), tuple(waiting))


def _digest(folders: list[Path]) -> str:
    """Hash what finished runs found."""
    from iavlib.experiments.result import read_facts

    total = hashlib.sha256()
    for folder in sorted(folders):
        total.update(folder.name.encode() + json.dumps(read_facts(folder)).encode())
    return total.hexdigest()[:16]


def exportable_runs(
    project: Project, runs: Path | None, every_run: bool
) -> list[tuple[Path, str | None]]:
    """List the experiments of a run store, each with why it is not kept, if so.

    Parameters
    ----------
    project : Project
        The project.
    runs : Path or None
        The run store; None for the default one.
    every_run : bool
        Keep whatever is finished.

    Returns
    -------
    list of tuple of Path and str or None
        Run directory, and the reason to leave it out. A run on synthetic data is kept where the
        list of the full scale names these data itself: it is a known answer that a page shows as
        such, not what stands in for images that were not at hand.
    """
    from iavlib.experiments.config import AUTO
    from iavlib.experiments.grid import all_listed, listed
    from iavlib.experiments.store import RunStore

    store = RunStore.of(project) if runs is None else RunStore(runs)
    folders = store.folders()
    asked = {experiment.query_key() for experiment in all_listed(project)} if folders else set()
    full = [item for items in listed(project, _FULL).values() for item in items] if folders else []
    named = [item for item in full if item.cohort != AUTO]
    return [(folder, _unfit(store, folder, asked, named, every_run)) for folder in folders]


def _unfit(
    store: Any, folder: Path, asked: set[str], named: list[Any], every_run: bool
) -> str | None:
    from iavlib.experiments.result import read_facts

    if store.status(folder) != "finished":
        return "not finished"
    try:
        experiment, facts = store.read_spec(folder), read_facts(folder)
    except ExecutionError as error:
        return str(error)
    if every_run:
        return None
    if experiment.query_key() not in asked:
        return "in no list of experiments"
    if facts["synthetic"] and not any(experiment.matches(item) for item in named):
        return "run on synthetic data"
    return None
