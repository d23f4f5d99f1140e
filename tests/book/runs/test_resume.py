"""A batch that is killed at five random moments and resumed: the benchmark, with six notebooks."""

import importlib.util
import random
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[3] / "benchmarks" / "resume.py"


@pytest.fixture
def resume():
    spec = importlib.util.spec_from_file_location("resume_benchmark", BENCHMARK)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.thorough
def test_nothing_finished_is_repeated_and_nothing_is_lost(resume, tmp_path, monkeypatch):
    monkeypatch.delenv("IAV_PROJECT", raising=False)
    seed = random.randrange(1000)
    print("seed", seed)
    resume.make_project(tmp_path / "project", 6, resume.QUICK)
    seconds = resume.resume(tmp_path / "project", 6, random.Random(seed), n_kills=5)
    assert seconds["nothing to do"] < 10
