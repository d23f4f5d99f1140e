"""Notebooks executed in this process, on data made to contradict what a page might assume."""

from dataclasses import dataclass, field
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
import skimage.io
from skimage.draw import ellipse

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
    from IPython.utils.capture import capture_output

    [path] = (ROOT / "notebooks").glob(f"{stem}*.ipynb")
    shell, page = InteractiveShell.instance(), Page()
    shell.reset(new_session=False)
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
    page.names = dict(shell.user_ns)
    return page


@pytest.fixture
def notebook(tmp_path, monkeypatch):
    """Execute a notebook with an empty run store and data home."""
    monkeypatch.setenv("IAV_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("IAV_DATA_HOME", str(tmp_path / "nothing"))
    monkeypatch.setenv("IAV_PROJECT", str(ROOT))
    monkeypatch.chdir(ROOT / "notebooks")
    return execute


def make_masks(
    folder,
    *,
    n_images=24,
    n_masks=3,
    effect=0.0,
    labels="both",
    n_patients=None,
    tools=False,
    perfect=False,
    size=(64, 48),
    seed=0,
):
    """Write photographs, masks and masks.csv; return the path of the table.

    Parameters
    ----------
    folder : Path
        Where to; made.
    n_images, n_masks : int
        Images, and annotators, each of whom outlines every image.
    effect : float
        Added to how much borders differ on malignant lesions: positive for less agreement on them.
    labels : str
        ``"both"``, ``"benign"``, ``"malignant"`` (one class only) or ``"none"`` (no column).
    n_patients : int, optional
        How many patients the images come from; by default no patient is recorded.
    tools : bool
        Record a tool and a skill level, which differ between annotators.
    perfect : bool
        All annotators draw the same outline.
    size : tuple of int
        Width and height.
    seed : int
        Of the drawing.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    generator, rows = np.random.default_rng(seed), []
    width, height = size
    for number in range(n_images):
        malignant = number % 2 == 1 if labels == "both" else labels == "malignant"
        centre = np.array([height / 2, width / 2]) + generator.normal(0, 2, 2)
        radii = np.array([height, width]) * generator.uniform(0.18, 0.32, 2)
        image = np.full((height, width, 3), 205, np.uint8) - generator.integers(
            0, 12, (height, width, 3), dtype=np.uint8
        )
        inside = ellipse(*centre, *radii, shape=(height, width))
        image[inside] = (125 - 45 * malignant, 85, 65)
        skimage.io.imsave(folder / f"img{number:03d}.png", image, check_contrast=False)
        spread = 0 if perfect else max(0.02, 0.10 + effect * malignant)
        for annotator in range(n_masks):
            drawn = radii * np.exp(generator.normal(0, spread, 2))
            mask = np.zeros((height, width), np.uint8)
            mask[ellipse(*centre, *drawn, shape=mask.shape)] = 255
            name = f"img{number:03d}_{annotator}.png"
            skimage.io.imsave(folder / name, mask, check_contrast=False)
            row = {"image": f"img{number:03d}.png", "mask": name, "annotator": f"ann{annotator}"}
            if labels != "none":
                row["malignancy"] = "malignant" if malignant else "benign"
            if n_patients is not None:
                row["patient"] = f"P{number % n_patients:02d}"
            if tools:
                row["tool"] = f"T{annotator % 2}"
                row["skill"] = ("expert", "novice")[annotator % 2]
            rows.append(row)
    path = folder / "masks.csv"
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


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


@pytest.fixture(scope="session", params=list(CASES))
def case(request, tmp_path_factory):
    """Name of one of the made data sets, and the path of its masks.csv."""
    folder = tmp_path_factory.mktemp("case")
    return request.param, str(make_masks(folder, **CASES[request.param]))


@pytest.fixture
def masks(tmp_path):
    """Make one's own masks as :func:`make_masks` does; return the path of the table."""
    return lambda **options: str(make_masks(tmp_path / "own", **options))
