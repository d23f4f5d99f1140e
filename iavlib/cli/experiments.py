"""``iav train``, ``iav sweep`` and ``iav runs``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Argument, Option

from iavlib.cli import FAILED, AsJson, Commands, DryRun, parse_pairs, print_json

if TYPE_CHECKING:
    from iavlib.experiments.config import Experiment
    from iavlib.experiments.store import RunStore

_SHOWN = (
    *("id", "task", "label", "status", "cohort", "method", "backbone", "weights", "recipe"),
    *("seed", "score", "seconds"),
)
RunId = Annotated[str, Argument(metavar="ID")]


def train(
    spec: str | None = Argument(None, help="YAML or JSON file of experiments, or the id of a run."),
    settings: list[str] | None = Option(None, "--set", help="FIELD=VALUE, as recipe.lr=0.01."),
    keep_going: bool = Option(False, "--keep-going", help="End with status 0 in any case."),
    force: bool = Option(False, "--force", help="Remove an earlier result and train again."),
    dry_run: DryRun = False,
    schema: bool = Option(False, "--schema", help="Print the JSON schema, for editors."),
) -> None:
    """Run the experiments of a file; finished ones are read, interrupted ones are resumed.

    Lists in the file are combined: a list of three seeds stands for three experiments. Methods and
    tasks of your own are files named under plugins. Training uses the first GPU that PyTorch finds
    (CUDA_VISIBLE_DEVICES=1 chooses another, an empty one the CPU), else the CPU;
    --set recipe.precision=bf16 chooses the number format.
    """
    from iavlib.core.errors import ExperimentFailed
    from iavlib.experiments.config import experiment_schema
    from iavlib.experiments.runner import describe, resolve, run, summary
    from iavlib.experiments.store import RunStore

    if schema:
        print_json(experiment_schema())
        return
    store, n_failed = RunStore(), 0
    chosen = _experiments(store, spec, settings or ())
    for item in [resolve(experiment, store=store) for experiment in chosen]:
        if dry_run:
            typer.echo(f"{describe(item)}: {store.status(item)}")
            continue
        try:
            result = run(item, store, log=typer.echo, force=force)
        except ExperimentFailed as error:
            n_failed += 1
            typer.secho(f"error: {error}", fg="red", err=True)
        else:
            random = ", from random weights" if result.facts["weights_random"] else ""
            outcome = f"{result.facts['seconds']:.0f} s{random}; {summary(result.metrics)}"
            typer.echo(f"{describe(item)}: {outcome}\n  {result.folder}")
    if n_failed and not keep_going:
        raise typer.Exit(FAILED)


def sweep(
    name: str = Argument(..., metavar="LIST", help="A list in notebooks/profiles, or a YAML file."),
    budget: float | None = Option(None, min=0.001, metavar="MINUTES", help="Stop after these."),
    export: bool = Option(True, help="Store finished results in book/results/."),
    dry_run: DryRun = False,
) -> None:
    """Work down a list of experiments, the most important first, until the time is over.

    The same command goes on where it stopped, was interrupted or killed.
    """
    from iavlib.book.stored import export_runs
    from iavlib.core.errors import IavError
    from iavlib.core.project import find_project
    from iavlib.experiments.config import by_priority
    from iavlib.experiments.runner import describe, log_left_out, resolve_all, work_through
    from iavlib.experiments.store import FAILED as FAILED_RUN, FINISHED, RunStore

    project = find_project()
    experiments, store = by_priority(project, name), RunStore.of(project)
    if dry_run:
        reasons = []
        for number, item in enumerate(experiments, start=1):
            try:
                [(item, _)] = resolve_all([item], store=store)  # as when it is run
                state = store.status(item)
            except IavError as error:
                reasons.append(str(error))
                state = "cannot be run here"
            typer.echo(f"{number:>{len(str(len(experiments)))}}  {describe(item)}: {state}")
        log_left_out(reasons, typer.echo)
        return
    table = work_through(experiments, store, typer.echo, None if budget is None else budget * 60)
    finished = table[table["status"] == FINISHED]
    if export:
        done = export_runs(project, map(Path, finished["folder"]))
        typer.echo(f"{len(done.written)} stored, {len(done.unchanged)} unchanged")
    counts = table["status"].value_counts()
    typer.echo(", ".join(f"{n} {status}" for status, n in counts.items()))
    if (table["status"] == FAILED_RUN).any():
        raise typer.Exit(FAILED)


def _experiments(store: RunStore, spec: str | None, settings: Sequence[str]) -> list[Experiment]:
    """Read the experiments: of a file, or of a run that was started, with some fields set."""
    from iavlib.core.errors import ExperimentError
    from iavlib.experiments.config import expand, from_mapping, from_version_1, read_yaml
    from iavlib.experiments.store import SPEC, read_json

    if spec is None and not settings:
        raise ExperimentError("iav train", "nothing to train", "name a file, a run, or --set")
    path = None if spec is None else Path(spec)
    if path is not None and not path.is_file():
        path = store.find(spec) / SPEC
    if path is None or path.name != SPEC:
        values = read_yaml(path) if path else {}
        _apply(values, settings)
        return expand(values, path or "--set")
    if not settings and path.resolve().parent in store.folders():
        return [store.read_spec(path.resolve().parent)]
    # another one is on the present data, with the present code
    fixed = ("data", "files", "code", "version") if settings else ()
    values = {k: v for k, v in from_version_1(read_json(path)).items() if k not in fixed}
    _apply(values, settings)
    return [from_mapping(values, path)]


def _apply(values: dict[str, Any], settings: Sequence[str]) -> None:
    """Set fields of a specification, each ``field=value`` or ``field.key=value``."""
    from iavlib.core.errors import ExperimentError
    from iavlib.core.settings import read_yaml

    for name, value in parse_pairs("--set", settings).items():
        mapping = values
        *outer, last = name.split(".")
        for key in outer:
            if key in ("recipe", "method") and isinstance(mapping.get(key), str):
                mapping[key] = {"name": mapping[key]}
            if not isinstance(mapping.setdefault(key, {}), dict):
                raise ExperimentError(f"--set {name}", f"{key} is not a mapping", "set all of it")
            mapping = mapping[key]
        try:
            mapping[last] = read_yaml(value)
        except ValueError as error:
            where = f"--set {name}={value}"
            raise ExperimentError(where, "is not valid YAML", "correct or quote it") from error


app = typer.Typer(cls=Commands, help="List, compare, show and clean up the experiments run here.")


@app.callback(invoke_without_command=True)
def runs(
    context: typer.Context,
    task: str | None = Option(None, help="Only this task."),
    conditions: list[str] | None = Option(None, "--filter", help="Only rows of COLUMN=VALUE."),
    compared: tuple[str, str] | None = Option(None, "--compare", help="Compare two runs by id."),
    as_json: AsJson = False,
) -> None:
    """List runs, finished or not, or compare two."""
    if context.invoked_subcommand:
        return
    from iavlib.experiments.store import RunStore
    from iavlib.experiments.table import filter_rows, run_table, table_json

    store = RunStore()
    if compared:
        _show_comparison(store, compared, as_json)
        return
    table, selected = run_table(store, task), parse_pairs("--filter", conditions)
    table = filter_rows(table, selected) if len(table) else table
    if as_json:
        print_json(table_json(table))
    elif table.empty:
        typer.echo(f"no runs in {store.root}")
    else:
        _show_table(table)


def _show_table(table) -> None:
    shown = table[[name for name in _SHOWN if name in table]].map(_cell)
    if "weights_random" in table:
        random = table["weights_random"].eq(True)
        shown["weights"] = shown["weights"].where(~random, shown["weights"] + " (random)")
    typer.echo(shown.loc[:, shown.ne("").any()].to_string(index=False))
    for row in table[table["reason"] != ""].to_dict("records"):
        typer.secho(f"{row['id']}: {row['reason']}", fg="red")
    counts = table["status"].value_counts()
    typer.echo(", ".join(f"{n} {status}" for status, n in counts.items()))


def _cell(value: Any) -> str:
    if value is None or value != value:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _show_comparison(store: RunStore, names: Sequence[str], as_json: bool) -> None:
    from iavlib.experiments.runner import read_run
    from iavlib.experiments.table import compare

    both = compare(*(read_run(store, store.find(name)) for name in names))
    if as_json:
        tables = {"settings": both.settings, "metrics": both.metrics}
        content = {name: json.loads(t.to_json(orient="index")) for name, t in tables.items()}
        found = [getattr(both.difference, key, None) for key in ("value", "low", "high")]
        names = ("difference", "difference_low", "difference_high")
        content |= {"n_common": both.n_common, "measure": both.measure}
        print_json(content | {k: v if v == v else None for k, v in zip(names, found, strict=True)})
        return
    typer.echo(both.settings.to_string() if len(both.settings) else "the same settings")
    typer.echo("\n" + both.metrics.to_string(float_format="{:.4g}".format))
    if both.difference is not None:
        found = both.difference
        interval = f" (95 % interval {found.low:+.4g} to {found.high:+.4g})"
        typer.echo(
            f"\n{both.measure} on the {both.n_common} test images of both: first minus second "
            f"{found.value:+.4g}{interval if found.low == found.low else ''}"
        )


@app.command()
def show(run_id: RunId, as_json: AsJson = False) -> None:
    """Show one run: settings, numbers, and where its files are."""
    from iavlib.experiments.store import FINISHED, RunStore, read_facts
    from iavlib.experiments.table import as_table, row_of, table_json

    store = RunStore()
    folder = store.find(run_id)
    row = row_of(store, folder)
    if as_json:
        facts = read_facts(folder) if row["status"] == FINISHED else {}
        print_json(table_json(as_table([row]))[0] | {"facts": facts})
        return
    width = max(map(len, row))
    for name, text in zip(row, map(_cell, row.values()), strict=True):
        if text:
            typer.echo(f"{name:<{width}}  {text}")
    for path in sorted(folder.iterdir()):
        typer.echo(f"{path.stat().st_size:>12,}  {path.name}")


@app.command()
def ood(run_id: RunId) -> None:
    """Save beside a network what `iav predict` compares new images with.

    It needs the images on which the run was trained; later predictions do not.
    """
    from iavlib.predict.model import load_predictor
    from iavlib.predict.ood import make_ood_reference

    path = make_ood_reference(load_predictor(run_id))
    typer.echo(f"{path}, {path.stat().st_size / 1e6:.1f} MB")


@app.command()
def gc(
    names: list[str] | None = Argument(None, metavar="[ID]...", help="Only these runs."),
    failed: bool = Option(False, "--failed", help="Remove failed runs that hold no checkpoint."),
    unfinished: bool = Option(False, "--unfinished", help="Remove runs that were never finished."),
    finished: bool = Option(False, "--finished", help="Remove finished runs; name them."),
    checkpoints: bool = Option(False, "--checkpoints", help="Failed runs with a checkpoint too."),
    yes: bool = Option(False, "--yes", "-y", help="Do not ask."),
    dry_run: DryRun = False,
) -> None:
    """Remove unneeded runs and leftovers of interruptions; finished runs only by name.

    What would be removed is listed first, and removed once that is confirmed.
    """
    from iavlib.experiments import store as stored

    chosen = {stored.FAILED: failed, stored.UNFINISHED: unfinished, stored.FINISHED: finished}
    store, statuses = stored.RunStore(), [status for status, on in chosen.items() if on]
    leftovers = stored.find_leftovers(store, statuses, names or (), checkpoints)
    for item in leftovers:
        typer.echo(f"{item.what}: {item.path.relative_to(store.root)}, {item.bytes:,} bytes")
    if leftovers and not dry_run:
        if not yes:
            typer.confirm(f"Remove {len(leftovers)} from {store.root}?", abort=True)
        for item in leftovers:
            stored.remove(store, item)
    verb = "would be removed" if dry_run else "removed"
    typer.echo(f"{len(leftovers)} {verb}, {sum(item.bytes for item in leftovers):,} bytes")
