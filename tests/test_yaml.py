"""Files that people write in YAML: whatever is wrong with them is a line that names the file."""

import time

import pytest
from typer.testing import CliRunner

from iavlib.book.parameters import load_profile
from iavlib.book.recording import load_claims
from iavlib.cli.main import app
from iavlib.core.errors import ClaimError, ExperimentError, ParameterError
from iavlib.core.project import Project
from iavlib.core.settings import read_yaml
from iavlib.experiments.config import expand, read_yaml as read_experiment

LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join(['*' + before] * 10)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
MERGES = "a: &a {x: 1}\n" + "".join(
    f"{name}: &{name} {{<<: [{', '.join(['*' + before] * 10)}]}}\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
WRONG = {
    "latin-1": b'task: iaa\nlabel: "L\xe4sion"\n',
    "utf-16": "task: iaa\n".encode("utf-16"),
    "binary": bytes(range(256)),
    "tabs": b"a:\n\t- b: [",
    "aliases": LAUGHS.encode(),
    "merged aliases": MERGES.encode(),
    "an anchor within itself": b"a: &a [*a]",
    "deep": b"[" * 1200,
    "nested": ("{init_from: " * 120 + "{}" + "}" * 120).encode(),
    "object": b"!!python/object/apply:os.system ['true']",
    "long number": b"a: " + b"9" * 5000,
}


@pytest.mark.parametrize("kind", list(WRONG))
def test_every_reader_names_the_file_and_takes_no_time(tmp_path, kind):
    path = tmp_path / "notebooks" / "profiles" / "own.yaml"
    path.parent.mkdir(parents=True)
    path.write_bytes(WRONG[kind])
    start = time.process_time()
    for read, error in (
        (lambda: load_claims(path), ClaimError),
        (lambda: load_profile(Project(tmp_path), "own"), ParameterError),
        (lambda: read_experiment(path), ExperimentError),
    ):
        with pytest.raises(error, match=r"own\.yaml"):
            read()
    done = CliRunner().invoke(app, ["train", str(path)])
    assert done.exit_code == 2 and "own.yaml" in done.output and "Traceback" not in done.output
    assert time.process_time() - start < 20


def test_lists_that_cross_to_too_many_experiments_are_refused():
    with pytest.raises(ExperimentError, match="cross to more than"):
        expand({"seed": list(range(1000)), "size": list(range(1, 1001))})


def test_what_people_write_is_read(tmp_path):
    path = tmp_path / "list.yaml"
    path.write_text("\ufeffa: &x {seeds: [1, 2]}\nb: *x\nc: {<<: *x, d: ä}\n", encoding="utf-8")
    content = read_yaml(path)
    assert content["b"] == {"seeds": [1, 2]} and content["c"] == {"seeds": [1, 2], "d": "ä"}
    assert read_yaml("") is None
