"""Personal settings and a home that cannot be written neither change nor empty a page."""

import json
import os

import pytest
from iav_process import iav

from iavlib.core import project as locations

FIGURE = """
import matplotlib.pyplot as plt
import iavlib.plots
from iavlib import book
drawing, ax = plt.subplots()
ax.set_title("a_b")
book.figure(drawing, "Nothing.", "An empty frame.")
"""


@pytest.mark.thorough
def test_figures_do_not_depend_on_personal_settings(workshop, tmp_path):
    workshop.good_notebook("01_first", FIGURE, "print('Größe')")
    settings = tmp_path / "matplotlibrc"
    settings.write_text("text.usetex: True\nfigure.dpi: 10\naxes.facecolor: red\n")
    shown = []
    plain = {k: v for k, v in os.environ.items() if k != "IAV_CACHE_HOME"}
    personal = {"MPLBACKEND": "Agg", "MATPLOTLIBRC": str(settings), "HOME": "/dev/null/home"}
    for more in ({}, personal | {"LC_ALL": "C", "XDG_CACHE_HOME": "/dev/null/cache"}):
        code, output, errors = iav(workshop.project, "run", "--force", env=plain | more)
        assert code == 0, output + errors
        page = json.loads((workshop.project.executed / "01_first.ipynb").read_text())
        figures = [
            o["data"]["text/html"]
            for c in page["cells"]
            for o in c.get("outputs", [])
            if "text/html" in o.get("data", {})
        ]
        assert len(figures) == 1 and "<figure" in "".join(figures[0])
        shown.append(figures)
    assert shown[0] == shown[1]


@pytest.mark.parametrize("home", ["/dev/null/x", "/proc/none"])
def test_a_cache_that_cannot_be_written_is_replaced_with_a_warning(monkeypatch, home):
    monkeypatch.delenv("IAV_CACHE_HOME", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", home)
    with pytest.warns(UserWarning, match="IAV_CACHE_HOME"):
        folder = locations.cache_home()
    assert os.access(folder, os.W_OK)
    assert locations.cache_home() == folder


def test_a_named_cache_is_taken_as_it_is(monkeypatch, tmp_path):
    monkeypatch.setenv("IAV_CACHE_HOME", str(tmp_path / "new"))
    assert locations.cache_home() == tmp_path / "new"
