import functools
import json

import pytest

from iavlib.book import fingerprint as fingerprint_module
from iavlib.book.fingerprint import import_closure
from iavlib.book.graph import Traces, is_current, prepare_jobs
from iavlib.core.errors import ParameterError


@pytest.fixture
def pack(tmp_path, monkeypatch):
    """A library of two modules in place of this one."""
    (tmp_path / "pack").mkdir()
    for name in ("__init__", "used", "unused"):
        (tmp_path / "pack" / f"{name}.py").write_text("x = 1\n")
    follow = functools.partial(import_closure, root=tmp_path, package="pack")
    monkeypatch.setattr(fingerprint_module, "import_closure", follow)
    return tmp_path / "pack"


@pytest.fixture
def notebook(workshop, pack):
    return workshop.notebook("01_first", "import pack.used", parameters="n = 1\ncohort = 'toy'")


@pytest.fixture
def prepare(workshop, notebook):
    def prepare(data="d1", **overrides):
        return prepare_jobs(workshop.project, [notebook], "quick", overrides, lambda _: data)[0]

    return prepare


@pytest.fixture
def traces(workshop, prepare):
    """What a good run would have left."""
    job = prepare()
    found = Traces(workshop.project.executed, job.stem)
    workshop.write(found.notebook, "{}")
    manifest = {
        "schema_version": 1,
        "run_id": "r",
        "notebook": job.stem,
        "profile": "quick",
        "overrides": {},
        "parameters": job.parameters,
        "fingerprint": job.fingerprint,
        "cohorts": [],
        "claims": [],
        "versions": {},
        "hardware": {},
        "seconds": 1,
        "finished": "2026-01-01T00:00:00+00:00",
    }
    workshop.write(found.manifest, json.dumps(manifest))
    return found


def test_nothing_changed(workshop, prepare, traces):
    assert is_current(workshop.project, prepare())


def test_an_unrelated_module_or_claim_does_not_matter(workshop, prepare, traces, pack):
    (pack / "unused.py").write_text("x = 2\n")
    workshop.claims([])
    workshop.notebook("02_second", "y = 1")
    assert is_current(workshop.project, prepare())


def test_source_parameter_library_and_data_matter(workshop, prepare, traces, pack):
    assert not is_current(workshop.project, prepare(n="2"))
    assert not is_current(workshop.project, prepare(data="d2"))
    (pack / "used.py").write_text("x = 2\n")
    assert not is_current(workshop.project, prepare())
    (pack / "used.py").write_text("x = 1  # as before\n")
    assert is_current(workshop.project, prepare())
    workshop.notebook("01_first", "import pack.used\nz", parameters="n = 1\ncohort = 'toy'")
    assert not is_current(workshop.project, prepare())


@pytest.mark.parametrize("lost", ["notebook", "manifest"])
def test_a_lost_or_damaged_result_is_made_again(workshop, prepare, traces, lost):
    path = getattr(traces, lost)
    if lost == "manifest":
        path.write_text(path.read_text()[:-20])
    else:
        path.unlink()
    assert not is_current(workshop.project, prepare())


def test_only_changed_parameters_are_injected(workshop, prepare):
    workshop.profile("quick", {"01_first": {"n": 1}})
    assert prepare().changed == {}
    assert prepare(cohort="other").changed == {"cohort": "other"}
    assert prepare(cohort="other").overrides == {"cohort": "other"}


def test_an_override_must_exist_in_every_chosen_notebook(workshop, notebook):
    other = workshop.notebook("02_second", "y = 1", parameters="cohort = 'toy'")
    both = [notebook, other]
    with pytest.raises(ParameterError, match="-p n: no such parameter in 02_second;"):
        prepare_jobs(workshop.project, both, "quick", {"n": "2"}, str)
    with pytest.raises(ParameterError, match=r"-p cohrt.*in 01_first, 02_second.*'cohort'"):
        prepare_jobs(workshop.project, both, "quick", {"cohrt": "2"}, str)
    jobs = prepare_jobs(workshop.project, both, "quick", {"cohort": "c"}, str)
    assert [job.parameters["cohort"] for job in jobs] == ["c", "c"]
