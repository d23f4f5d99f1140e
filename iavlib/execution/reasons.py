"""Saying why a notebook would be run: what changed since its last good run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from iavlib.execution.errors import ManifestError
from iavlib.execution.jobs import Job, Traces, is_current
from iavlib.execution.manifest import read_manifest
from iavlib.execution.project import Project

_LISTED = 3


def reason_to_run(project: Project, job: Job, force: bool = False) -> str | None:
    """Say why a notebook would be run.

    Parameters
    ----------
    project : Project
        The project.
    job : Job
        The notebook with its parameters.
    force : bool, optional
        Whether it is to be run in any case.

    Returns
    -------
    str or None
        Half a sentence; None if its last good run still holds.
    """
    if force:
        return "forced"
    if is_current(project, job):
        return None
    traces = Traces(project.executed, job.stem)
    try:
        manifest = read_manifest(traces.manifest)
    except ManifestError:
        if traces.failed_json.is_file():
            return "its last run failed, and none was good before"
        return "its manifest is damaged" if traces.manifest.exists() else "no manifest: never run"
    if not traces.notebook.is_file():
        return "its executed notebook is missing"
    changes = describe_changes(manifest.get("inputs"), job.inputs)
    if manifest["fingerprint"] == job.fingerprint:
        changes = job.experiments.reason_to_run(manifest["finished"]) or changes
    return changes + ("; its last run failed" if traces.failed_json.is_file() else "")


def describe_changes(before: Mapping[str, Any] | None, now: Mapping[str, Any]) -> str:
    """Say what differs between the inputs of two runs.

    Parameters
    ----------
    before, now : mapping
        What :func:`iavlib.execution.fingerprint.condense` gave; None if it was
        not kept.

    Returns
    -------
    str
        The changed kinds of input with their names, by semicolons.
    """
    if not before:
        return "changed since, but its manifest does not tell what it was made from"
    told = [
        f"{label} changed{_in_brackets(_details(key, before.get(key), now.get(key)))}"
        for key, label in _labels(before, now).items()
        if before.get(key) != now.get(key)
    ]
    return "; ".join(told)


def _labels(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, str]:
    known = {"cells": "source"}
    return {key: known.get(key, key) for key in (*now, *(set(before) - set(now)))}


def _details(key: str, before: Any, now: Any) -> list[str]:
    if key == "cells" and before is not None:
        return _changed_cells(before, now)
    if not isinstance(before, dict) or not isinstance(now, dict):
        return []
    changed = [n for n in sorted({*before, *now}) if before.get(n) != now.get(n)]
    if key == "library":
        return changed
    return [f"{n}: {before.get(n, 'none')} → {now.get(n, 'none')}" for n in changed]


def _changed_cells(before: Sequence[Sequence[str]], now: Sequence[Sequence[str]]) -> list[str]:
    """Name the cells that differ, code cells by the number that failures have too."""
    if [kind for kind, _ in before] != [kind for kind, _ in now]:
        return ["cells added, removed or moved"]
    counts: dict[str, int] = {}
    changed = []
    for (kind, old), (_, new) in zip(before, now, strict=True):
        counts[kind] = counts.get(kind, 0) + 1
        if old != new:
            changed.append(f"{kind} cell {counts[kind]}")
    return changed


def _in_brackets(names: Iterable[str]) -> str:
    listed = list(names)
    if not listed:
        return ""
    more = f" and {len(listed) - _LISTED} more" if len(listed) > _LISTED else ""
    return f" ({', '.join(listed[:_LISTED])}{more})"
