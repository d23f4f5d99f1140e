"""A project folder with notebooks of a few lines."""

import shutil
from pathlib import Path

import nbformat
import pytest
import yaml

from iavlib.core.project import Project

REPOSITORY = Path(__file__).parents[3]
#: Stands for a Cohort in notebooks that must start quickly.
COHORT = """
from types import SimpleNamespace
cohort = SimpleNamespace(
    name="toy", synthetic={synthetic}, fingerprint="abc", images=[1, 2], masks=[1, 2, 3],
    citation="Toy et al. (2020)",
)
"""
MANIFEST = "from iavlib.book import manifest\n\nmanifest.finish(cohorts=[cohort])"

CLAIM = {
    "id": "toy-mean",
    "source": "paper2020",
    "place": "Table 1",
    "statement": "The mean is a half.",
    "reported": 0.5,
    "unit": "Dice",
    "compare": {"kind": "equal", "tolerance": 0.01},
    "protocol": "published",
    "cohorts": ["toy"],
    "notebook": "01_first",
    "needs": "nothing",
}


class Workshop:
    """Writes a project's files."""

    def __init__(self, root: Path):
        self.project = Project(root)
        shutil.copytree(REPOSITORY / "workflow", self.project.workflow)
        self.toc(["book/index"])
        self.page("index", "# Book\n\nHello.\n")
        self.claims([CLAIM])
        for name in ("smoke", "quick", "paper"):
            self.profile(name, {})

    def write(self, path: Path, text: str) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def toc(self, entries: list[str]) -> None:
        content = {"format": "jb-book", "root": entries[0]}
        if len(entries) > 1:
            content["chapters"] = [{"file": entry} for entry in entries[1:]]
        self.write(self.project.toc, yaml.safe_dump(content))

    def page(self, name: str, text: str) -> None:
        self.write(self.project.book / f"{name}.md", text)

    def claims(self, claims: list[dict]) -> None:
        self.write(self.project.claims, yaml.safe_dump(claims))

    def profile(self, name: str, values: dict) -> Path:
        return self.write(self.project.profiles / f"{name}.yaml", yaml.safe_dump(values))

    def notebook(self, stem: str, *cells: str, parameters: str = "", title: str = "") -> Path:
        """Write a notebook: a title, the parameters cell, then code (or "# ..." headings)."""
        v4 = nbformat.v4
        made = [v4.new_markdown_cell(f"# {title or stem}\n\nText.")]
        if parameters:
            made.append(v4.new_code_cell(parameters, metadata={"tags": ["parameters"]}))
        made += [v4.new_code_cell(cell.strip()) for cell in cells]
        kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
        path = self.project.notebooks / f"{stem}.ipynb"
        path.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(v4.new_notebook(cells=made, metadata={"kernelspec": kernel}), path)
        return path

    def good_notebook(self, stem: str, *cells: str, synthetic: bool = False, parameters: str = ""):
        """Write a notebook that runs to its end and leaves a manifest."""
        start = COHORT.format(synthetic=synthetic)
        return self.notebook(stem, start, *cells, MANIFEST, parameters=parameters)


@pytest.fixture
def workshop(tmp_path, monkeypatch) -> Workshop:
    root = tmp_path / "clone"
    root.mkdir()
    made = Workshop(root.resolve())
    monkeypatch.delenv("IAV_PROJECT", raising=False)
    monkeypatch.chdir(root)
    return made


@pytest.fixture(scope="module")
def lasting_workshop(tmp_path_factory) -> Workshop:
    """One project for all tests of a module: starting kernels takes seconds."""
    return Workshop(tmp_path_factory.mktemp("clone").resolve())
