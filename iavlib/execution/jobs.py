"""What to run: notebooks with their parameters fixed, and whether a run still holds.

What runs of ``01_data_analysis`` leave in ``book/executed/``:

- ``01_data_analysis.ipynb`` and ``.json``: executed notebook and manifest of the
  last run that ended well;
- ``01_data_analysis.log``: what the last run printed;
- ``01_data_analysis.failed.ipynb`` and ``.failed.json``: how far the last run
  came if it failed, and why. A later success removes them; they never replace a
  good result.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from iavlib.errors import suggest
from iavlib.execution.errors import ManifestError, ParameterError
from iavlib.execution.experiments import NoExperiments, NotebookExperiments, find_experiments
from iavlib.execution.fingerprint import (
    PATH_PARAMETER,
    DataFingerprint,
    cohort_fingerprint,
    condense,
    fingerprint,
    run_inputs,
)
from iavlib.execution.manifest import read_manifest
from iavlib.execution.parameters import parameter_defaults, resolve
from iavlib.execution.profiles import load_profile
from iavlib.execution.project import Project


@dataclass(frozen=True)
class Job:
    """One notebook at one scale, with everything fixed.

    Parameters
    ----------
    notebook : Path
        Source notebook.
    profile : str
        Name of the profile.
    overrides : mapping
        Parameters the user set beyond the profile, as resolved.
    parameters : dict
        Every parameter with its value.
    changed : dict
        Those whose value is not the notebook's default.
    fingerprint : str
        Fingerprint of all inputs.
    inputs : dict
        The inputs, condensed: by them it can be told what changed.
    experiments : NotebookExperiments, optional
        The experiments it reads.
    """

    notebook: Path
    profile: str
    overrides: Mapping[str, Any]
    parameters: dict[str, Any]
    changed: dict[str, Any]
    fingerprint: str
    inputs: dict[str, Any]
    experiments: NotebookExperiments = NoExperiments

    @property
    def stem(self) -> str:
        """Name of the notebook without ending."""
        return self.notebook.stem


@dataclass(frozen=True)
class Traces:
    """The files that runs of one notebook leave.

    Parameters
    ----------
    executed : Path
        Folder of all runs.
    stem : str
        Name of the notebook without ending.
    """

    executed: Path
    stem: str

    @property
    def notebook(self) -> Path:
        """Executed notebook of the last good run."""
        return self.executed / f"{self.stem}.ipynb"

    @property
    def manifest(self) -> Path:
        """Manifest of the last good run."""
        return self.executed / f"{self.stem}.json"

    @property
    def log(self) -> Path:
        """What the last run printed."""
        return self.executed / f"{self.stem}.log"

    @property
    def failed_notebook(self) -> Path:
        """Partly executed notebook of the last run, if it failed."""
        return self.executed / f"{self.stem}.failed.ipynb"

    @property
    def failed_json(self) -> Path:
        """Why the last run failed."""
        return self.executed / f"{self.stem}.failed.json"

    @property
    def lock(self) -> Path:
        """Held while a run is going on."""
        return self.executed / f".{self.stem}.lock"

    @property
    def work(self) -> Path:
        """Folder in which runs work, each in its own; what one leaves is moved out at its end."""
        return self.executed / f".{self.stem}.run"

    def good_manifest(self) -> dict[str, Any] | None:
        """Read the manifest of the last good run; None if there is none to rely on."""
        if not self.notebook.is_file():
            return None
        try:
            return read_manifest(self.manifest)
        except ManifestError:
            return None

    def clear_failure(self) -> None:
        """Remove what an earlier failure left."""
        for trace in (self.failed_notebook, self.failed_json):
            if trace.exists():  # a read-only disk refuses to remove even what is not there
                trace.unlink()


def prepare_jobs(
    project: Project,
    notebooks: Sequence[Path],
    profile: str,
    overrides: Mapping[str, Any] | None = None,
    data_fingerprint: DataFingerprint = cohort_fingerprint,
) -> list[Job]:
    """Fix the parameters and fingerprints of the notebooks to run.

    Parameters
    ----------
    project : Project
        The project.
    notebooks : sequence of Path
        Source notebooks.
    profile : str
        Name of the profile.
    overrides : mapping, optional
        Values for parameters that every one of the notebooks must have.
    data_fingerprint : callable, optional
        Cohort name to the fingerprint of its files.

    Returns
    -------
    list of Job
        In the order of `notebooks`. Nothing has been run.

    Raises
    ------
    ParameterError
        If the profile or an override is wrong.
    """
    values = load_profile(project, profile)
    given = dict(overrides or {})
    _check_overrides(notebooks, given)
    of_data = functools.cache(data_fingerprint)
    jobs = []
    for notebook in notebooks:
        defaults = parameter_defaults(notebook)
        parameters = resolve(notebook, values.get(notebook.stem), given)
        if parameters.get(PATH_PARAMETER):  # the kernel's working folder is another
            parameters[PATH_PARAMETER] = str(
                Path(parameters[PATH_PARAMETER]).expanduser().resolve()
            )
        inputs = run_inputs(notebook, parameters, of_data)
        read = find_experiments(project, profile, notebook.stem, parameters)
        if read.store is not None:  # a notebook without any keeps its fingerprint
            inputs["experiments"] = {"ids": read.ids, "other results": read.others}
        jobs.append(
            Job(
                notebook=notebook,
                profile=profile,
                overrides={name: parameters[name] for name in given},
                parameters=parameters,
                changed={n: v for n, v in parameters.items() if v != defaults[n]},
                fingerprint=fingerprint(inputs),
                inputs=condense(inputs),
                experiments=read,
            )
        )
    return jobs


def _check_overrides(notebooks: Sequence[Path], overrides: Mapping[str, Any]) -> None:
    """Refuse an override that one of several notebooks lacks, naming those that do."""
    if len(notebooks) < 2:
        return  # resolve() says it with the near names
    for name in overrides:
        lacking = [path.stem for path in notebooks if name not in parameter_defaults(path)]
        if lacking:
            everywhere = set.intersection(*(set(parameter_defaults(path)) for path in notebooks))
            raise ParameterError(
                f"-p {name}: no such parameter in {', '.join(lacking)}; name the notebooks that "
                f"have it, or correct it ({suggest(name, everywhere)})"
            )


def is_current(project: Project, job: Job) -> bool:
    """Tell whether the last good run of a notebook is what `job` would give.

    Parameters
    ----------
    project : Project
        The project.
    job : Job
        What would be run.

    Returns
    -------
    bool
        True if its executed notebook and valid manifest are there and nothing
        it depends on changed since.
    """
    manifest = Traces(project.executed, job.stem).good_manifest()
    if manifest is None or manifest["fingerprint"] != job.fingerprint:
        return False
    return job.experiments.reason_to_run(manifest["finished"]) is None
