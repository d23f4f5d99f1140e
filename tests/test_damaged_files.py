"""Whatever is wrong with a file, its reader ends in an error of ours that names it, or reads it."""

import gzip
import io
import json
import tarfile
import zipfile
from pathlib import Path
from types import SimpleNamespace as Namespace

import numpy as np
import pytest
import safetensors.numpy
import torch
from PIL import Image

from iavlib.agreement.tables import ImageStore
from iavlib.book.coverage import load_coverage
from iavlib.book.manifest import read_manifest
from iavlib.book.notebook_source import read_cells
from iavlib.book.parameters import load_profile, parameter_defaults
from iavlib.book.recording import load_claims
from iavlib.book.site import toc_entries
from iavlib.book.stored import read_stored
from iavlib.core.errors import IavError
from iavlib.core.project import Project
from iavlib.data.datasets.folder import read_listing
from iavlib.data.download import open_archive
from iavlib.data.exports import labelmap, read_document, unpack
from iavlib.data.images import image_size, orientation, read_image, read_mask, read_photograph
from iavlib.data.schemas import read_csv
from iavlib.experiments.config import read_yaml
from iavlib.experiments.store import Result, RunStore, read_facts, read_prediction_file
from iavlib.experiments.stored import stored_runs
from iavlib.models.backbones import PAPER_BACKBONES
from iavlib.models.loading import padding_of_file, read_tensors
from iavlib.models.model_files import read_model, write_model
from iavlib.predict.ood import load_ood_reference
from iavlib.training.loop import load_checkpoint

ROOT = Path(__file__).parent.parent
PIXELS = np.zeros((40, 48, 3), np.uint8)
PIXELS[10:30, 10:30] = 255


def picture(kind, **options):
    stream = io.BytesIO()
    Image.fromarray(PIXELS).save(stream, kind, **options)
    return stream.getvalue()


def zipped(**members):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(f"folder/{name}.txt", content)
    return stream.getvalue()


def tarred(name="a.txt", mode="w:gz"):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as file:
        info = tarfile.TarInfo(name)
        info.size = 500
        file.addfile(info, io.BytesIO(bytes(500)))
    return stream.getvalue()


def saved(content):
    stream = io.BytesIO()
    torch.save(content, stream)
    return stream.getvalue()


def tensors(**metadata):
    return safetensors.numpy.save({"a": np.zeros((2, 3), np.float32)}, metadata)


def unpacked(path):
    with open_archive(path) as members:
        return [b"".join(member.chunks()) for member in members]


def stored(path):
    with ImageStore(path) as store:
        return len(store)


def notebook(*sources):
    cells = [
        {"cell_type": "code", "source": s, "metadata": {"tags": ["parameters"]}} for s in sources
    ]
    return json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": cells}).encode()


def network(sidecar):
    if sidecar["width"] != 3:
        raise ValueError("another width")
    return torch.nn.Linear(3, 2)


def project(path, level):
    return Project(path.parents[level])


COCO = {
    "images": [{"id": 1, "file_name": "a.jpg", "width": 48, "height": 40}],
    "categories": [{"id": 1, "name": "lesion"}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 1, "segmentation": [[1, 1, 9, 1, 9, 9]]}
    ],
}
CVAT = b"""<annotations><image id="0" name="a.jpg" width="48" height="40">
<polygon label="lesion" points="1,1;9,1;9,9"/></image></annotations>"""
CLAIM = b"- id: a\n  source: x\n  statement: y\n  reported: 1\n  unit: count\n"
WEIGHTS = {"mean": "0.5", "std": "0.5", "input_size": "224", "timm": "resnet18"}
RUN = "iaa/0123456789ab"
RESULTS = "book/results/runs/iaa.jsonl"

#: Path below a folder to its content and the functions that read it.
READERS = {
    "image.png": (picture("PNG"), [read_image, read_mask, read_photograph, image_size]),
    "image.jpg": (picture("JPEG"), [read_image, read_mask, read_photograph, orientation]),
    "image.tif": (picture("TIFF", compression="tiff_lzw"), [read_photograph, read_mask]),
    "image.webp": (picture("WEBP"), [read_photograph]),
    "image.gif": (picture("GIF"), [read_photograph, read_mask]),
    "image.bmp": (picture("BMP"), [read_image, image_size]),
    "mask.npy": (None, [read_mask, image_size]),
    "masks.csv": (b"image_id,mask,annotator\na,a.png,x\nb,b.png,y\n", [read_listing]),
    "other.csv": (b"a,b\n1,2\n\xc3\xa4,3\n", [lambda path: read_csv(path, "get it again")]),
    "coco.json": (json.dumps(COCO).encode(), [read_document, read_listing]),
    "cvat.xml": (CVAT, [read_document, read_listing]),
    "labelmap.txt": (b"lesion:255,0,0::\n", [labelmap]),
    "some.zip": (
        zipped(a="x" * 99, b="y" * 99),
        [unpacked, lambda path: path.is_file() and unpack(path)],
    ),
    "some.tar.gz": (tarred(), [unpacked]),
    "claims.yml": (CLAIM, [load_claims]),
    "coverage.yml": (b"a:\n- {item: b, what: c, state: not built, because: d}\n", [load_coverage]),
    "list.yaml": (b"task: iaa\nseed: [1, 2]\n", [read_yaml]),
    "_toc.yml": (b"format: jb-book\nroot: a\n", [lambda path: toc_entries(project(path, 0))]),
    "notebooks/profiles/own.yaml": (
        b"a: {n: 3}\n",
        [lambda path: load_profile(project(path, 2), "own")],
    ),
    "notebooks/a.ipynb": (notebook("n = 3", "m = 4"), [read_cells, parameter_defaults]),
    "a.json": (b'{"schema_version": 1, "notebook": "a"}', [read_manifest]),
    "book/results/notebooks.json": (
        b'{"a.paper": {"notebook": "a"}}',
        [lambda path: read_stored(project(path, 2))],
    ),
    RESULTS: (
        b'{"id": "0123456789ab", "spec": {}, "facts": {}}\n' * 2,
        [lambda path: stored_runs(project(path, 3))],
    ),
    RESULTS.replace("jsonl", "tar.xz"): (
        tarred("a.csv", "w:xz"),
        [lambda path: read_prediction_file(path.parent / "iaa.jsonl" / "a" / "predictions.csv")],
    ),
    f"{RUN}/spec.json": (
        b'{"task": "iaa", "cohort": "phantom"}',
        [lambda path: RunStore(path.parents[2]).read_spec(path.parent)],
    ),
    f"{RUN}/metrics.json": (b'{"metrics": {}}', [lambda path: read_facts(path.parent)]),
    f"{RUN}/predictions.csv": (
        b"image_id,subset,true,predicted\na,test,1,0.5\n",
        [read_prediction_file],
    ),
    f"{RUN}/history.csv": (
        b"epoch,loss\n0,1\n",
        [lambda path: Result(None, path.parent, {}).history],
    ),
    f"{RUN}/checkpoint.pt": (saved({"a": torch.zeros(3), "b": [1]}), [load_checkpoint]),
    "tensors.pt": (saved({"a": torch.zeros(3)}), [read_tensors]),
    "tensors.safetensors": (tensors(), [read_tensors]),
    "weights/resnet18.imagenet.safetensors": (
        tensors(**WEIGHTS),
        [lambda path: padding_of_file(PAPER_BACKBONES["resnet18"])],
    ),
    "model.json": (None, [lambda path: read_model(path.parent, network)]),
    "model.safetensors": (None, [lambda path: read_model(path.parent, network)]),
    "ood.safetensors": (
        tensors(centre="{}"),
        [lambda path: load_ood_reference(Namespace(name="a", run=Namespace(folder=path.parent)))],
    ),
    "pairs.jsonl": (b'{"key": "a", "record": {"problems": []}}\n' * 3, [stored]),
}


def damaged(content, rng, nests):
    """List damaged versions of a file's content; None is a folder in its place."""
    yield b"[" * 200_000 if nests else b"["
    yield from (None, b"", b"\0" * 100, b"\xef\xbb\xbf" + content, bytes(range(256)) * 4)
    yield from (b"null", b"3", b'"a"', b"[[1], {}]", b'{"a": {"b": [NaN]}}', b"a;b\n")
    yield b"9" * 5000
    yield gzip.compress(content)
    yield content.decode("latin-1").encode("utf-16")
    yield content.replace(b"a", b"\xe4")
    for _ in range(4):
        yield content[: rng.integers(len(content))]
    for _ in range(12):
        bits = np.frombuffer(content, np.uint8).copy()
        places = rng.integers(len(bits), size=rng.integers(1, 4))
        bits[places] = rng.integers(256, size=len(places))
        yield bits.tobytes()


@pytest.mark.parametrize("name", list(READERS))
@pytest.mark.filterwarnings("ignore")
def test_damaged_files(tmp_path, monkeypatch, name):
    content, readers = READERS[name]
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    monkeypatch.setenv("IAV_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("IAV_CACHE_HOME", str(tmp_path / "cache"))
    if name.endswith("a.ipynb") or "profiles" in name or name.endswith("notebooks.json"):
        (tmp_path / "notebooks").mkdir(exist_ok=True)
        (tmp_path / "notebooks" / "a.ipynb").write_bytes(notebook("n = 3"))
    if name.endswith("runs/iaa.tar.xz"):
        (path.parent / "iaa.jsonl").write_bytes(READERS[RESULTS][0])
    if name.startswith(("model", "ood")):
        write_model(torch.nn.Linear(3, 2), tmp_path, {"width": 3})
    if name.endswith(".npy"):
        np.save(path, PIXELS[..., 0])
    content = path.read_bytes() if content is None else content
    for number, version in enumerate(damaged(content, np.random.default_rng(1), "json" in name)):
        if path.is_dir():
            path.rmdir()
        path.unlink(missing_ok=True)
        path.mkdir() if version is None else path.write_bytes(version)
        for read in readers:
            try:
                read(path)
            except IavError as error:
                assert str(error)
            except Exception as error:
                pytest.fail(f"version {number} of {name}: {type(error).__name__}: {error}")
