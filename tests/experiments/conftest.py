"""A task of no cost on twenty invented images."""

import constant_task
import pytest

from iavlib.experiments import TASKS, Experiment, RunStore

SMALL = {"n_images": 20, "size": [64, 64]}


@pytest.fixture(autouse=True)
def constant():
    """Register the task for one test."""
    TASKS["constant"] = constant_task.TASK
    yield
    TASKS.pop("constant", None)


@pytest.fixture
def store(tmp_path) -> RunStore:
    return RunStore(tmp_path / "runs")


@pytest.fixture
def make():
    """Specify an experiment of the task of no cost; what is given is changed."""

    def made(**fields) -> Experiment:
        fields = {"task": "constant", "cohort": "phantom", "cohort_options": SMALL} | fields
        return Experiment(**fields)

    return made
