import functools

import pytest

from iavlib.book import fingerprint as fingerprint_module
from iavlib.book.fingerprint import import_closure
from iavlib.book.graph import Traces, describe_changes, prepare_jobs, reason_to_run
from iavlib.core.files import write_json

BEFORE = {
    "cells": [["markdown", "a"], ["code", "b"], ["code", "c"]],
    "parameters": {"n": 1, "seed": 0},
    "library": {"pack": "a", "pack.used": "b", "pack.far": "c", "pack.near": "d"},
    "packages": {"numpy": "2.4.5"},
    "data": "x",
}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"cells": [["markdown", "z"], ["code", "b"], ["code", "z"]]},
            "source changed (markdown cell 1, code cell 2)",
        ),
        ({"cells": BEFORE["cells"][:2]}, "source changed (cells added, removed or moved)"),
        ({"parameters": {"n": 2, "seed": 0}}, "parameters changed (n: 1 → 2)"),
        ({"parameters": {"n": 1}}, "parameters changed (seed: 0 → none)"),
        ({"library": {**BEFORE["library"], "pack.used": "z"}}, "library changed (pack.used)"),
        (
            {"library": {"pack.new": "z"}},
            "library changed (pack, pack.far, pack.near and 2 more)",
        ),
        ({"packages": {"numpy": "2.4.6"}}, "packages changed (numpy: 2.4.5 → 2.4.6)"),
        ({"data": "y"}, "data changed"),
        ({"experiments": ["new"]}, "experiments changed"),
        (
            {"data": "y", "parameters": {"n": 3, "seed": 0}},
            "parameters changed (n: 1 → 3); data changed",
        ),
    ],
)
def test_what_changed_is_named(changes, said):
    assert describe_changes(BEFORE, {**BEFORE, **changes}) == said


@pytest.fixture
def prepare(workshop, tmp_path, monkeypatch):
    """Prepare the job of a notebook that imports a library of one module."""
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "__init__.py").write_text("x = 1\n")
    follow = functools.partial(import_closure, root=tmp_path, package="pack")
    monkeypatch.setattr(fingerprint_module, "import_closure", follow)
    path = workshop.notebook("01_first", "import pack", parameters="n = 1\ncohort = 'toy'")

    def prepare(data="d1", **overrides):
        return prepare_jobs(workshop.project, [path], "quick", overrides, lambda _: data)[0]

    return prepare


@pytest.fixture
def traces(workshop, prepare):
    """What a good run would have left."""
    job = prepare()
    found = Traces(workshop.project.executed, job.stem)
    workshop.write(found.notebook, "{}")
    manifest = {
        **{"schema_version": 1, "run_id": "r", "notebook": job.stem, "profile": "quick"},
        **{"overrides": {}, "parameters": job.parameters, "fingerprint": job.fingerprint},
        **{"inputs": job.inputs, "cohorts": [], "claims": [], "versions": {}, "hardware": {}},
        **{"seconds": 1, "finished": "2026-01-01T00:00:00+00:00"},
    }
    write_json(found.manifest, manifest)
    return found


def test_what_is_up_to_date_has_no_reason(workshop, prepare, traces):
    assert reason_to_run(workshop.project, prepare()) is None
    assert reason_to_run(workshop.project, prepare(), force=True) == "forced"


def test_changes_are_found_in_the_manifest(workshop, prepare, traces, tmp_path):
    def reason(**changes):
        return reason_to_run(workshop.project, prepare(**changes))

    assert reason(n="2") == "parameters changed (n: 1 → 2)"
    assert reason(data="d2") == "data changed"
    workshop.write(traces.failed_json, "{}")
    assert reason(data="d2") == "data changed; its last run failed"
    (tmp_path / "pack" / "__init__.py").write_text("x = 2\n")
    assert reason().startswith("library changed (pack)")


def test_what_is_missing_or_damaged_is_said(workshop, prepare, traces):
    traces.notebook.unlink()
    assert reason_to_run(workshop.project, prepare()) == "its executed notebook is missing"
    traces.manifest.write_text("{")
    assert reason_to_run(workshop.project, prepare()) == "its manifest is damaged"
    traces.manifest.unlink()
    assert reason_to_run(workshop.project, prepare()) == "no manifest: never run"
    workshop.write(traces.failed_json, "{}")
    assert "its last run failed" in reason_to_run(workshop.project, prepare())


def test_a_manifest_without_inputs_says_that_it_does_not_know(workshop, prepare, traces):
    assert "does not tell" in describe_changes(None, prepare().inputs)
