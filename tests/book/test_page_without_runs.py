"""A page whose experiments nobody has run says so, and is built all the same."""

import json

import nbformat
import pytest


@pytest.mark.thorough
def test_notebook_09_goes_on_where_nothing_was_run(iav, project_copy):
    done = iav(project_copy, "run", "09", "--profile", "smoke", "--no-train")
    assert done.returncode == 0, done.stdout + done.stderr
    notebook = nbformat.read(project_copy / "book" / "executed" / "09_interpretability.ipynb", 4)
    text = json.dumps(notebook)
    assert "Not run: none of the runs that this page reads" in text
    assert "was not measured" in text
