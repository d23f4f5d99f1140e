"""One run of a notebook, everything fixed: what it depends on, whether its last result holds.

A result holds when its manifest and executed notebook are there, whole, and made from the same
inputs: the notebook's cells, its parameters, this library, the versions of the packages that
results depend on, its data, and the experiments and stored results that it reads. The inputs are
compared by content (one fingerprint), never by the times of files.

Runs of ``01_data_analysis`` leave in ``book/executed/``:

- ``01_data_analysis.ipynb`` and ``.json``: executed notebook and manifest of the last successful
  run;
- ``01_data_analysis.log``: what the last run printed;
- ``01_data_analysis.failed.ipynb`` and ``.failed.json``: partly executed notebook and reason, if
  the last run failed. A later success removes them; they never replace a good result.
"""

import functools
import hashlib
import json
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import iavlib
from iavlib.book.manifest import read_manifest
from iavlib.book.notebook_source import read_cells
from iavlib.book.parameters import load_profile, parameter_defaults, resolve
from iavlib.core.errors import DataError, DatasetUnavailable, ManifestError, ParameterError, suggest
from iavlib.core.files import digest
from iavlib.core.project import Project
from iavlib.core.versions import PACKAGES, package_versions

#: Cohort name, and the ``path`` of a user's own files where one is given, to a string that changes
#: with the files.
DataFingerprint = Callable[..., str]
#: A notebook with a parameter of this name works on the data it names.
COHORT_PARAMETER = "cohort"
#: A notebook with a parameter of this name takes a user's own files.
PATH_PARAMETER = "path"
_MAX_LISTED = 3


@dataclass(frozen=True)
class NotebookExperiments:
    """The experiments of one notebook at one scale, and their state.

    Parameters
    ----------
    listed : tuple of Experiment
        In the order of the list; empty for a notebook that reads none.
    store : RunStore or None
        Where their runs are.
    others : str
        Digest of what else the notebook may show: stored results, and runs of other scales that
        are finished here.
    unavailable : tuple of tuple of Experiment and str
        Those that cannot be run here, not resolved, and which of their data are missing.
    """

    listed: tuple[Any, ...] = ()
    store: Any = None
    others: str = ""
    unavailable: tuple[tuple[Any, str], ...] = ()

    def with_parents(self) -> list[Any]:
        """List the experiments, each unfinished one after those it starts from, none twice."""
        ordered: dict[Any, None] = {}
        for experiment in self.listed:
            line = [experiment]
            while line[0].parent is not None and self.store.status(line[0]) != "finished":
                line.insert(0, line[0].parent)
            ordered |= dict.fromkeys(line)
        return list(ordered)

    def reason_to_rerun(self, since: str, train: bool = True) -> str | None:
        """Return why a notebook whose last run ended at `since` (UTC, ISO 8601) must run again.

        Without training, experiments that are not finished are no reason.
        """
        if not self.listed:
            return None
        from iavlib.experiments.store import arrived

        n = len(self.listed)
        folders = map(self.store.folder, self.listed)
        states = [self.store.status(experiment) for experiment in self.listed]
        done = [path for path, state in zip(folders, states, strict=True) if state == "finished"]
        if train and (n_failed := states.count("failed")):
            return f"{n_failed} of its {n} experiments failed"
        if train and (n_open := n - len(done)):
            return f"{n_open} of its {n} experiments are not finished"
        n_later = sum(arrived(folder) > since for folder in done)
        return f"{n_later} of its {n} experiments finished since" if n_later else None


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
    inputs : dict
        Everything the result depends on, ready for JSON; text stands as its hash.
    experiments : NotebookExperiments
        The experiments it reads.
    """

    notebook: Path
    profile: str
    overrides: Mapping[str, Any]
    parameters: dict[str, Any]
    changed: dict[str, Any]
    inputs: dict[str, Any]
    experiments: NotebookExperiments = NotebookExperiments()

    @property
    def stem(self) -> str:
        """Name of the notebook without its ending."""
        return self.notebook.stem

    @functools.cached_property
    def fingerprint(self) -> str:
        """Hash of the inputs, sixteen hexadecimal digits."""
        return _hash(json.dumps(self.inputs, sort_keys=True, allow_nan=False))


class NotebookFiles:
    """The files that runs of one notebook leave.

    Parameters
    ----------
    executed : Path
        Folder of all runs.
    stem : str
        Name of the notebook without its ending.
    """

    def __init__(self, executed: Path, stem: str):
        self.executed, self.stem = executed, stem
        #: Executed notebook, manifest and log of the last successful run (log: of the last run).
        self.notebook = executed / f"{stem}.ipynb"
        self.manifest = executed / f"{stem}.json"
        self.log = executed / f"{stem}.log"
        #: Partly executed notebook and reason of the last run, if it failed.
        self.failed_notebook = executed / f"{stem}.failed.ipynb"
        self.failed_json = executed / f"{stem}.failed.json"
        #: Held while a run is in progress.
        self.lock = executed / f".{stem}.lock"
        #: Each run works in a folder of its own in here; what it leaves is moved out at its end.
        self.work = executed / f".{stem}.run"

    def good_manifest(self) -> dict[str, Any] | None:
        """Read the manifest of the last successful run; None if there is none to rely on."""
        try:
            manifest = read_manifest(self.manifest)
        except ManifestError:
            return None
        return manifest if self.notebook.is_file() and not self.is_foreign(manifest) else None

    def is_foreign(self, manifest: Mapping[str, Any]) -> bool:
        """Return whether the executed notebook is another than that of the manifest's run.

        Somebody may have let papermill write there. Manifests of earlier versions cannot tell.
        """
        return manifest.get("output") not in (None, digest(self.notebook))

    def keep_foreign(self, new: str) -> None:
        """Put aside an executed notebook that no run recorded, unless its hash is that of `new`.

        Somebody made it; it is kept as ``01_data_analysis.<hash>.ipynb``.
        """
        if not self.notebook.is_file() or self.good_manifest() is not None:
            return
        if (found := digest(self.notebook)) != new:
            os.replace(self.notebook, self.executed / f"{self.stem}.{found[:16]}.ipynb")

    def clear_failure(self) -> None:
        """Remove what an earlier failure left."""
        for path in (self.failed_notebook, self.failed_json):
            if path.exists():  # a read-only disk refuses to remove even what is not there
                path.unlink()


def cohort_fingerprint(name: str, path: str = "") -> str:
    """Return the fingerprint of a cohort's files; the data layer is slow to import."""
    from iavlib.data.catalogue import fingerprint

    try:
        return fingerprint(name, path=path)
    except KeyError as error:
        raise ParameterError(f"parameter {COHORT_PARAMETER!r}: {error.args[0]}") from error
    except (DataError, DatasetUnavailable) as error:
        raise ParameterError(f"parameter {PATH_PARAMETER!r}: {error}") from error


def prepare_jobs(
    project: Project,
    notebooks: Sequence[Path],
    profile: str,
    overrides: Mapping[str, Any] | None = None,
    data_fingerprint: DataFingerprint | None = None,
) -> list[Job]:
    """Fix the parameters and inputs of the notebooks to run; nothing is run.

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
        Replaces :func:`cohort_fingerprint`.

    Returns
    -------
    list of Job
        In the order of `notebooks`.

    Raises
    ------
    ParameterError
        If the profile or an override is wrong.
    """
    values, given = load_profile(project, profile), dict(overrides or {})
    if len(notebooks) > 1:  # of a single one, resolve() names similar parameters
        _check_overrides(notebooks, given)
    of_data = functools.cache(data_fingerprint or cohort_fingerprint)
    python = ".".join(platform.python_version_tuple()[:2])
    installed = {"python": python, **package_versions(PACKAGES)}
    common = {"library": library_hash(), "packages": installed} if notebooks else {}
    jobs = []
    for notebook in notebooks:
        defaults = parameter_defaults(notebook)
        parameters = resolve(notebook, values.get(notebook.stem), given)
        if parameters.get(PATH_PARAMETER):  # the kernel's working folder is another
            path = Path(parameters[PATH_PARAMETER]).expanduser().resolve()
            parameters[PATH_PARAMETER] = str(path)
        cells = [[c.kind, c.source, list(c.tags), c.figure] for c in read_cells(notebook)]
        inputs = {"source": _hash(json.dumps(cells)), "parameters": parameters, **common}
        cohort, own = parameters.get(COHORT_PARAMETER), parameters.get(PATH_PARAMETER)
        if isinstance(cohort, str):
            inputs["data"] = of_data(cohort, **({PATH_PARAMETER: own} if own else {}))
            if tables := _stored_tables(project, notebook.stem, cohort, own):
                inputs["stored tables"] = tables
        experiments = find_experiments(project, profile, notebook.stem, parameters)
        if experiments.store is not None:
            ids = sorted(experiment.name for experiment in experiments.listed)
            inputs["experiments"] = {"ids": ids, "other results": experiments.others}
        chosen = {name: parameters[name] for name in given}
        changed = {n: v for n, v in parameters.items() if v != defaults[n]}
        jobs.append(Job(notebook, profile, chosen, parameters, changed, inputs, experiments))
    return jobs


def _stored_tables(project: Project, stem: str, cohort: str, path: str | None) -> str:
    """Digest the stored tables that a page shows in place of data that are not on this machine."""
    if path or cohort != "auto":
        return ""
    from iavlib.book.stored import tables_digest
    from iavlib.data.catalogue import choose

    return tables_digest(project, stem) if choose(cohort)[0] == "phantom" else ""


def _check_overrides(notebooks: Sequence[Path], overrides: Mapping[str, Any]) -> None:
    """Refuse an override that one of several notebooks lacks."""
    names = {path.stem: set(parameter_defaults(path)) for path in notebooks}
    shared = set.intersection(*names.values())
    for name in overrides:
        lacking = [stem for stem, defaults in names.items() if name not in defaults]
        if lacking:
            raise ParameterError(
                f"-p {name}: no such parameter in {', '.join(lacking)}; name the notebooks that "
                f"have it, or correct it{f' ({suggest(name, shared)})' if shared else ''}"
            )


def library_hash(root: Path | None = None) -> str:
    """Hash every file of this library: code, stubs and data such as the plot style."""
    root = root or Path(iavlib.__file__).parent
    total = hashlib.sha256()
    for file in sorted(root.rglob("*")):
        if file.is_file() and file.suffix != ".pyc" and file.name[0] != ".":
            total.update(file.relative_to(root).as_posix().encode() + b"\0" + file.read_bytes())
    return total.hexdigest()[:16]


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


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
        Name of the notebook without its ending.
    parameters : mapping
        Its parameters; ``cohort``, ``path`` and the like define the data.

    Returns
    -------
    NotebookExperiments
        Nothing slow is imported where no list names the notebook.

    Raises
    ------
    ParameterError
        If a list of experiments is wrong, or the data are.
    """
    folder = project.profiles / "experiments"
    if not any(stem in path.read_text(encoding="utf-8") for path in folder.glob("*.yaml")):
        return NotebookExperiments()
    from iavlib.experiments.lookup import notebook_experiments, shown_results, without_data
    from iavlib.experiments.store import RunStore, read_facts

    store = RunStore.of(project)
    try:
        listed = notebook_experiments(project, profile, stem, parameters)
        unavailable = without_data(profile, stem, project)
    except (DataError, DatasetUnavailable) as error:
        raise ParameterError(f"{stem}: its experiments: {error}") from error
    others = {*shown_results(project, stem, store)} - {store.folder(item) for item in listed}
    digest = _hash("".join(path.name + json.dumps(read_facts(path)) for path in sorted(others)))
    return NotebookExperiments(tuple(listed), store, digest, tuple(unavailable))


def reason_to_run(project: Project, job: Job, train: bool = True) -> str | None:
    """Return why a notebook must be run: half a sentence, None if its last result holds.

    What was made without training holds only where none is allowed (`train`); what was made with
    it holds in any case.
    """
    files = NotebookFiles(project.executed, job.stem)
    failed = files.failed_json.is_file()
    try:
        manifest = read_manifest(files.manifest)
    except ManifestError:
        if failed:
            return "its last run failed, and none succeeded before"
        return "its manifest is damaged" if files.manifest.exists() else "never run"
    if not files.notebook.is_file():
        return "its executed notebook is missing"
    if files.is_foreign(manifest):
        return "its executed notebook was changed or replaced since"
    if manifest["fingerprint"] != job.fingerprint:
        reason = describe_changes(manifest.get("inputs") or {}, job.inputs)
    else:
        reason = job.experiments.reason_to_rerun(manifest["finished"], train)
        if train and reason is None and (left := manifest.get("not_trained")):
            reason = f"training was switched off in its last run ({len(left)} left out)"
    return f"{reason}; its last run failed" if reason and failed else reason


def describe_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Name the kinds of input that differ between two runs, with the entries that changed."""
    changes = []
    for key in dict.fromkeys((*now, *before)):
        old, new = before.get(key), now.get(key)
        if old == new:
            continue
        names = []
        if isinstance(old, dict) and isinstance(new, dict):
            names = [name for name in sorted({*old, *new}) if old.get(name) != new.get(name)]
        entries = [f"{n}: {old.get(n, 'none')} → {new.get(n, 'none')}" for n in names[:_MAX_LISTED]]
        more = f" and {len(names) - _MAX_LISTED} more" if len(names) > _MAX_LISTED else ""
        changes.append(f"{key} changed" + (f" ({', '.join(entries)}{more})" if entries else ""))
    return "; ".join(changes) or "its inputs changed"
