"""What a notebook's result depends on, and what is reported when it no longer holds."""

import json

import pytest

from iavlib.book import jobs
from iavlib.book.jobs import NotebookFiles, cohort_fingerprint, library_hash, prepare_jobs
from iavlib.core.errors import ParameterError
from iavlib.core.files import write_json


@pytest.fixture
def notebook(workshop):
    return workshop.notebook("01_first", "x = 1", parameters="n = 1\ncohort = 'toy'")


@pytest.fixture
def prepare(workshop, notebook):
    def prepare(data="d1", **overrides):
        files = prepare_jobs(workshop.project, [notebook], "quick", overrides, lambda _: data)
        return files[0]

    return prepare


@pytest.fixture
def reason(workshop, prepare):
    def reason(**changes):
        return jobs.reason_to_run(workshop.project, prepare(**changes))

    return reason


@pytest.fixture
def files(workshop, prepare):
    """What a good run would have left."""
    job = prepare()
    left = NotebookFiles(workshop.project.executed, job.stem)
    workshop.write(left.notebook, "{}")
    manifest = {
        **{"schema_version": 1, "run_id": "r", "notebook": job.stem, "profile": "quick"},
        **{"overrides": {}, "parameters": job.parameters, "fingerprint": job.fingerprint},
        **{"inputs": job.inputs, "cohorts": [], "claims": [], "versions": {}, "hardware": {}},
        **{"seconds": 1, "finished": "2026-01-01T00:00:00+00:00"},
    }
    write_json(left.manifest, manifest)
    return left


def test_other_notebooks_claims_and_pages_do_not_matter(workshop, reason, files):
    assert reason() is None
    workshop.claims([])
    workshop.page("index", "# Another\n")
    workshop.notebook("02_second", "y = 1")
    assert reason() is None


def test_parameters_data_packages_and_library_matter(reason, files, monkeypatch):
    assert reason(n="2") == "parameters changed (n: 1 → 2)"
    assert reason(data="d2") == "data changed"
    with monkeypatch.context() as patch:
        patch.setattr(jobs, "package_versions", lambda _: {"numpy": "0.1"})
        assert reason().startswith("packages changed (grad-cam: ")
    monkeypatch.setattr(jobs, "library_hash", lambda: "another")
    assert reason() == "library changed"
    assert reason(n="2").startswith("parameters changed (n: 1 → 2); library changed")


def test_every_file_of_the_library_counts(tmp_path):
    (tmp_path / "pack").mkdir()
    for name in ("code.py", "pack/style.mplstyle", "pack/code.pyc"):
        (tmp_path / name).write_text("x = 1")
    before = library_hash(tmp_path)
    (tmp_path / "pack" / "code.pyc").write_text("compiled")
    assert library_hash(tmp_path) == before
    (tmp_path / "pack" / "style.mplstyle").write_text("x = 2")
    assert library_hash(tmp_path) != before


def test_outputs_and_editors_metadata_do_not_count(notebook, reason, files):
    content = json.loads(notebook.read_text())
    cell = content["cells"][-1]
    cell["outputs"] = [{"output_type": "stream", "name": "stdout", "text": "1"}]
    cell["execution_count"] = 7
    cell["metadata"]["scrolled"] = True
    cell["source"] = "".join(cell["source"])  # one string or a list of lines: the same text
    content["metadata"]["language_info"] = {"name": "python", "version": "3.99"}
    notebook.write_text(json.dumps(content))
    assert reason() is None


@pytest.mark.parametrize(
    "change",
    [
        lambda cell: cell["source"].append("\ny = 2"),
        lambda cell: cell["metadata"].update(tags=["hide-input"]),
        lambda cell: cell["metadata"].update(mystnb={"figure": {"caption": "A curve."}}),
    ],
    ids=["source", "tags", "caption"],
)
def test_source_tags_and_captions_count(notebook, reason, files, change):
    content = json.loads(notebook.read_text())
    change(content["cells"][-1])
    notebook.write_text(json.dumps(content))
    assert reason() == "source changed"


def test_what_is_missing_damaged_or_failed_is_named(workshop, reason, files):
    workshop.write(files.failed_json, "{}")
    assert reason(data="d2") == "data changed; its last run failed"
    files.notebook.unlink()
    assert reason() == "its executed notebook is missing"
    files.manifest.write_text(files.manifest.read_text()[:-20])
    files.failed_json.unlink()
    assert reason() == "its manifest is damaged"
    files.manifest.unlink()
    assert reason() == "never run"
    workshop.write(files.failed_json, "{}")
    assert reason() == "its last run failed, and none succeeded before"


def test_a_manifest_of_an_earlier_version_is_outdated(reason, files):
    manifest = json.loads(files.manifest.read_text())
    del manifest["inputs"]
    write_json(files.manifest, manifest | {"fingerprint": "another"})
    assert reason().startswith("source changed")


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
    made = prepare_jobs(workshop.project, both, "quick", {"cohort": "c"}, str)
    assert [job.parameters["cohort"] for job in made] == ["c", "c"]


def test_an_unknown_cohort_is_a_wrong_parameter():
    with pytest.raises(ParameterError, match="parameter 'cohort': no cohort 'phantm'"):
        cohort_fingerprint("phantm")
