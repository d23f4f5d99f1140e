"""Every name of the library that a notebook uses exists: found without running the notebook."""

import ast
import importlib
from pathlib import Path

import nbformat
import papermill
import pytest

from iavlib.book.parameters import parameter_defaults

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))


def _code(path):
    cells = nbformat.read(path, as_version=4).cells
    return ast.parse("\n".join(c.source for c in cells if c.cell_type == "code"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_names_exist(path):
    tree, modules = _code(path), {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "iavlib":
            module = importlib.import_module(node.module)
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                try:
                    modules[alias.asname or alias.name] = importlib.import_module(name)
                except ImportError:
                    assert hasattr(module, alias.name), name
    used = [
        (modules[node.value.id], node.attr)
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id in modules
    ]
    missing = [f"{m.__name__}.{name}" for m, name in used if not hasattr(m, name)]
    assert used and not missing


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_papermill_finds_every_parameter(path):
    """Papermill reads parameters line by line, and a line with a second = sign it cannot parse."""
    assert set(papermill.inspect_notebook(path)) == set(parameter_defaults(path))
