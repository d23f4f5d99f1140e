import json

import pytest

from iavlib.book.fingerprint import cohort_fingerprint, fingerprint, import_closure, run_inputs
from iavlib.book.parameters import parameter_defaults
from iavlib.core.errors import ParameterError

FILES = {
    "__init__.py": "",
    "metrics/__init__.py": "from .overlap import dice",
    "metrics/overlap.py": '"""Overlap."""\nimport numpy as np\n\ndef dice(a):\n    return a',
    "metrics/unused.py": "x = 1",
    "stats.py": "def late():\n    from pack.metrics import overlap\n    import scipy.stats",
    "loader.py": (
        "import importlib\nNAMES = ['phantom']\n"
        "def load(name):\n    return importlib.import_module(f'pack.{name}')"
    ),
    "phantom.py": "y = 2",
    "style.mplstyle": "lines.linewidth: 2",
}


@pytest.fixture
def package(tmp_path):
    for name, text in FILES.items():
        path = tmp_path / "pack" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "pack"


def closure(package, *sources):
    return import_closure(sources, root=package.parent, package="pack")


@pytest.mark.parametrize(
    ("source", "parts"),
    [
        ("import pack", {"pack"}),
        ("import pack.metrics", {"pack", "pack.metrics", "pack.metrics.overlap"}),
        ("from pack import metrics as m", {"pack", "pack.metrics", "pack.metrics.overlap"}),
        ("from pack.metrics import unused", {"pack", "pack.metrics", "pack.metrics.overlap"}),
        ("def f():\n    import pack.phantom", {"pack", "pack.phantom"}),
        ("from pack import loader", {"pack", "pack.loader", "pack.phantom"}),
        ("%matplotlib inline\nimport pack.phantom", {"pack", "pack.phantom"}),
        ("import numpy", set()),
        ("this is no Python", set()),
    ],
)
def test_imports_are_followed(package, source, parts):
    extra = {"pack.metrics.unused"} if "unused" in source else set()
    assert set(closure(package, source).parts) == parts | extra


def test_imports_inside_functions_and_other_packages_are_seen(package):
    found = closure(package, "import pack.stats")
    assert "pack.metrics.overlap" in found.parts
    assert found.external == {"numpy", "scipy"}


def test_a_part_changes_with_its_code_only(package):
    before = closure(package, "import pack.metrics").parts
    overlap = package / "metrics" / "overlap.py"
    overlap.write_text('"""Other words."""\nimport numpy as np\n\n\n# why\ndef dice(a): return a')
    assert closure(package, "import pack.metrics").parts == before
    overlap.write_text(FILES["metrics/overlap.py"].replace("return a", "return 2 * a"))
    after = closure(package, "import pack.metrics").parts
    assert {name for name in before if before[name] != after[name]} == {"pack.metrics.overlap"}


def test_a_data_file_belongs_to_its_package(package):
    before = closure(package, "import pack").parts
    (package / "style.mplstyle").write_text("lines.linewidth: 3")
    assert closure(package, "import pack").parts != before


def test_the_claims_ledger_is_no_part_of_a_notebook():
    parts = import_closure(
        ["from iavlib import book as claims\nfrom iavlib.book import manifest"]
    ).parts
    assert "iavlib.book.recording" in parts
    assert not any(name.endswith((".ledger", ".verdicts", ".site", ".jobs")) for name in parts)


@pytest.fixture
def notebook(workshop):
    return workshop.notebook(
        "01_first", "import numpy as np\nx = 1", parameters="n = 1\ncohort='c'"
    )


def of(notebook, data="d1", **parameters):
    values = parameter_defaults(notebook) | parameters
    return fingerprint(run_inputs(notebook, values, lambda name: f"{name}-{data}"))


def test_outputs_and_editors_metadata_do_not_count(notebook):
    before = of(notebook)
    content = json.loads(notebook.read_text())
    cell = content["cells"][-1]
    cell["outputs"] = [{"output_type": "stream", "name": "stdout", "text": "1"}]
    cell["execution_count"] = 7
    cell["metadata"]["scrolled"] = True
    cell["source"] = "".join(cell["source"])  # one string or a list of lines: the same text
    content["metadata"]["language_info"] = {"name": "python", "version": "3.99"}
    notebook.write_text(json.dumps(content))
    assert of(notebook) == before


@pytest.mark.parametrize(
    "change",
    [
        lambda cell: cell["source"].append("\ny = 2"),
        lambda cell: cell["metadata"].update(tags=["hide-input"]),
        lambda cell: cell["metadata"].update(mystnb={"figure": {"caption": "A curve."}}),
    ],
    ids=["source", "tags", "caption"],
)
def test_source_tags_and_captions_count(notebook, change):
    before = of(notebook)
    content = json.loads(notebook.read_text())
    change(content["cells"][-1])
    notebook.write_text(json.dumps(content))
    assert of(notebook) != before


def test_parameters_and_data_count(notebook):
    assert of(notebook) == of(notebook)
    assert len({of(notebook), of(notebook, n=2), of(notebook, data="d2")}) == 3


def test_packages_that_are_imported_count(notebook):
    packages = run_inputs(notebook, {})["packages"]
    assert set(packages) == {"python", "numpy"}


def test_an_unknown_cohort_is_a_wrong_parameter():
    with pytest.raises(ParameterError, match="parameter 'cohort': no cohort 'phantm'"):
        cohort_fingerprint("phantm")
