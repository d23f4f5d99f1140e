"""A new figure is one function: in one more file of the package, or outside of it."""

import shutil
import subprocess
import sys
from pathlib import Path

import matplotlib as mpl
from matplotlib import pyplot as plt

import iavlib
from iavlib import plots

FIGURE = '''"""Figures of disagreement."""

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from iavlib.plots.style import COLOURS


def disagreement_bars(table) -> Figure:
    """Draw one bar per annotator."""
    figure, ax = plt.subplots()
    ax.bar(table.index, table["disagreement"], color=COLOURS["highlight"])
    return figure
'''

USE = """
import pandas as pd
from iavlib import plots
table = pd.DataFrame({"disagreement": [0.1, 0.3]}, index=["A1", "A2"])
(ax,) = plots.disagreement_bars(table).axes
print("disagreement_bars" in dir(plots), len(ax.patches))
"""


def test_one_file_and_its_line_in_the_stub_add_a_figure(tmp_path):
    package = tmp_path / "iavlib"
    shutil.copytree(Path(iavlib.__file__).parent, package, ignore=shutil.ignore_patterns("__pyc*"))
    (package / "plots" / "disagreement.py").write_text(FIGURE)
    with (package / "plots" / "__init__.pyi").open("a") as stub:
        stub.write("from .disagreement import disagreement_bars as disagreement_bars\n")
    command = [sys.executable, "-c", USE]
    environment = {"PYTHONPATH": str(tmp_path), "MPLBACKEND": "agg"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.stdout.split() == ["True", "2"], done.stderr


def test_a_figure_outside_the_package_has_the_style():
    with mpl.rc_context({"axes.grid": False}):
        plots.use_style()
        _, ax = plt.subplots()
        (line,) = ax.plot([0, 1])
        assert line.get_color() == "#0072B2"
        assert not ax.spines["top"].get_visible() and mpl.rcParams["axes.grid"]
