"""Notebooks executed in this process, on data made to contradict what a page might assume."""

import sys
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import nbformat
import pytest
from made_masks import make_masks
from matplotlib.figure import Figure

from iavlib.book import recording

ROOT = Path(__file__).parents[2]


@dataclass
class Page:
    """What a notebook showed: every text a reader sees, in order, and the names it defined."""

    texts: list[str] = field(default_factory=list)
    names: dict = field(default_factory=dict)

    @property
    def text(self):
        return "\n".join(self.texts)


def _show(page, data):
    for kind in ("text/markdown", "text/html", "text/plain"):
        if kind in data:
            page.texts.append(data[kind])
            return


def execute(stem, **parameters):
    """Run the code cells of a notebook as JupyterLab would; an error in a cell is raised."""
    from IPython.core.interactiveshell import InteractiveShell

    [path] = (ROOT / "notebooks").glob(f"{stem}*.ipynb")
    main = sys.modules["__main__"]  # the shell takes its place, and processes could not be started
    try:
        shell, page = InteractiveShell.instance(), Page()
        shell.reset(new_session=False)
        _run_cells(shell, path, page, parameters)
    finally:
        sys.modules["__main__"] = main
    page.names = dict(shell.user_ns)
    return page


def _run_cells(shell, path, page, parameters):
    from IPython.utils.capture import capture_output

    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "markdown":
            page.texts.append(cell.source)
            continue
        code = cell.source
        if "parameters" in cell.metadata.get("tags", []):
            code += "".join(f"\n{name} = {value!r}" for name, value in parameters.items())
        with capture_output() as shown:
            result = shell.run_cell(code)
        if not result.success:
            raise AssertionError(f"{path.name}: a cell failed:\n{code}") from (
                result.error_in_exec or result.error_before_exec
            )
        page.texts += [shown.stdout] if shown.stdout else []
        for output in shown.outputs:
            _show(page, output.data)


_claims_once = cache(recording.load_claims)


def _lay_out(figure, target, **_):
    """Stand for ``savefig``: what cannot be drawn fails here too, but no picture is painted."""
    figure.draw_without_rendering()
    target.write(b"<svg/>")


@pytest.fixture
def notebook(tmp_path, monkeypatch):
    """Execute a notebook with an empty run store and data home.

    Pictures, which tests of the book look at, are not painted, and the claims are read once.
    """
    monkeypatch.setattr(Figure, "savefig", _lay_out)
    monkeypatch.setattr(recording, "load_claims", _claims_once)
    monkeypatch.setenv("IAV_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("IAV_DATA_HOME", str(tmp_path / "nothing"))
    monkeypatch.setenv("IAV_PROJECT", str(ROOT))
    monkeypatch.chdir(ROOT / "notebooks")
    return execute


#: Data on which the sentences of a page must stay true: arguments of :func:`make_masks`.
CASES = {
    "less agreement on malignant": {"effect": 0.25, "n_patients": 12},
    "more agreement on malignant": {"effect": -0.08, "n_patients": 12},
    "no effect": {"effect": 0.0, "n_patients": 12, "tools": True},
    "one class": {"labels": "benign"},
    "no malignancy": {"labels": "none"},
    "one patient": {"n_patients": 1},
    "one image": {"n_images": 1},
    "two masks": {"n_masks": 2},
    "perfect agreement": {"perfect": True},
    "nine images": {"n_images": 9, "n_patients": 3},
}


#: Cases that the quick tests run: of each page at least one that trains or tests something.
QUICK = ("no effect", "no malignancy", "one image")
_PARAMETERS = [
    pytest.param(name, marks=[] if name in QUICK else pytest.mark.thorough) for name in CASES
]


@pytest.fixture(scope="session", params=_PARAMETERS)
def case(request, tmp_path_factory):
    """Name of one of the made data sets, and the path of its masks.csv."""
    folder = tmp_path_factory.mktemp("case")
    return request.param, str(make_masks(folder, **CASES[request.param]))


@pytest.fixture
def masks(tmp_path):
    """Make one's own masks as :func:`make_masks` does; return the path of the table."""
    return lambda **options: str(make_masks(tmp_path / "own", **options))
