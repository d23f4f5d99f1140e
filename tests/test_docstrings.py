"""The examples in docstrings run and give what they show."""

import doctest
import importlib
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

ROOT = Path(__file__).parent.parent
EXAMPLES = [p for p in sorted((ROOT / "iavlib").rglob("*.py")) if ">>> " in p.read_text("utf-8")]


def module_of(path):
    names = path.relative_to(ROOT).with_suffix("").parts
    return importlib.import_module(".".join(names).removesuffix(".__init__"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: str(path.relative_to(ROOT)))
def test_examples_run(path, monkeypatch, tmp_path):
    monkeypatch.setenv("IAV_DATA_HOME", str(tmp_path))  # the same output with and without data
    monkeypatch.setenv("IAV_RUNS", str(tmp_path / "runs"))
    monkeypatch.chdir(ROOT)
    flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    result = doctest.testmod(module_of(path), optionflags=flags)
    plt.close("all")
    assert not result.failed
