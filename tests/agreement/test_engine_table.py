"""Pairwise tables of a whole cohort: what they hold, what fails, what several processes do."""

import os
import pickle

import numpy as np
import pandas as pd
import pytest
from engine_shapes import SHAPE, save
from PIL import Image

from iavlib.agreement import image_level, pair_table, tables
from iavlib.core import processes as parallel
from iavlib.core.errors import DataError
from iavlib.data.images import read_mask
from iavlib.data.schemas import check_table, pair_columns, pairs_schema
from iavlib.masks import PairOptions, image_pairs, metric_names, pair_metrics


def dying(path):
    """End the whole process at one mask, as for lack of memory."""
    if path.endswith("d.png"):
        os._exit(9)
    return read_mask(path)


def failing(path):
    raise ZeroDivisionError("in the reader")


def test_every_pair_of_every_image(mask_files):
    table = pair_table(mask_files)
    pairs = table.pairs
    assert pairs.columns.tolist() == list(pair_columns())
    found = pairs[["image_id", "mask_1", "mask_2"]].agg("-".join, axis=1).tolist()
    assert found == ["i0-a-b", "i0-a-c", "i0-b-c", "i1-d-e", "i3-g-h"]
    assert (table.n_images, table.n_reused, len(table.problems)) == (3, 0, 0)
    assert pairs["annotator_2"].tolist() == ["Ab", "Ac", "Ac", "Ae", "Ah"]
    assert pairs["skill_1"].isna().tolist() == [True, True, False, False, False]
    for _, pair in pairs.iterrows():
        paths = mask_files.loc[[pair["mask_1"], pair["mask_2"]], "path"]
        expected = pair_metrics(*map(read_mask, paths))
        assert {metric: pair[metric] for metric in metric_names()} == expected
    check_table(pairs_schema(), pairs, "pairs", "")
    assert image_level(pairs)["n_pairs"].tolist() == [3, 1, 1]


def test_options_reach_the_table(mask_files):
    options = PairOptions(extra=True, tolerance=1, spacing=(2, 1), reduction="directed")
    pairs = pair_table(mask_files, options=options).pairs
    assert pairs.columns.tolist() == [*pair_columns(), "kappa", "nsd", "boundary_f1"]
    last = pairs.iloc[-1]
    expected = pair_metrics(*map(read_mask, mask_files.loc[["g", "h"], "path"]), options)
    assert {metric: last[metric] for metric in expected} == expected


def test_columns_that_are_not_known_are_missing_values(mask_files):
    pairs = pair_table(mask_files[["image_id", "path"]]).pairs
    assert pairs[["annotator_1", "tool_2", "skill_2"]].isna().all(axis=None)
    check_table(pairs_schema(), pairs, "pairs", "")
    none = pair_table(mask_files[mask_files["image_id"] == "i2"])
    assert len(none.pairs) == 0
    check_table(pairs_schema(), none.pairs, "pairs", "")


def test_what_fails_is_told_and_the_rest_is_done(mask_files, tmp_path):
    folder = tmp_path / "masks"
    (folder / "a.png").write_bytes((folder / "a.png").read_bytes()[:40])  # cut short
    save(np.ones((7, 7), bool), folder / "e.png")  # of another size
    mask_files.loc["g", "path"] = None
    mask_files.loc["h", "path"] = str(folder / "nowhere.png")
    rows = {"image_id": "i4", "path": [str(folder / f"{n}.png") for n in "bcdp"], "tool": "T"}
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (*SHAPE, 3), np.uint8)).save(
        folder / "p.png"
    )
    mask_files = pd.concat([mask_files, pd.DataFrame(rows, index=list("wxyz"))])
    save(np.zeros(SHAPE, bool), folder / "c.png")
    save(np.ones(SHAPE, bool), folder / "b.png")
    table = pair_table(mask_files)
    problems = table.problems.set_index("mask_id")
    assert table.problems.columns.tolist() == list(tables.PROBLEM_COLUMNS)
    told = {
        "a": "no readable image",
        "c": "empty",
        "b": "covers the whole image",
        "d": "30 x 20 pixels, unlike",
        "e": "7 x 7 pixels, unlike",
        "g": "no path",
        "h": "the file is missing",
        "z": "a picture, not a mask",
        "w": "covers the whole image",
        "x": "empty",
    }
    assert set(problems.index) == set(told)
    for mask_id, words in told.items():
        assert words in problems.loc[mask_id, "problem"], mask_id
    assert problems["hint"].str.len().gt(10).all()
    assert set(problems.index[~problems["left_out"]]) == {"b", "c", "w", "x"}
    found = table.pairs[["mask_1", "mask_2"]].agg("".join, axis=1).tolist()
    assert found == ["bc", "wx", "wy", "xy"]
    one_empty = table.pairs.iloc[0]
    assert one_empty["dice"] == 0
    assert np.isnan(one_empty["hd"])
    assert one_empty["hd_normalized"] == 1
    check_table(pairs_schema(), table.pairs, "pairs", "")


def test_a_mask_of_another_size_than_most_is_left_out(mask_files, tmp_path):
    save(np.ones((7, 7), bool), tmp_path / "masks" / "c.png")
    table = pair_table(mask_files)
    assert table.problems["mask_id"].tolist() == ["c"]
    assert table.pairs["mask_1"].tolist() == ["a", "d", "g"]


def test_whatever_a_reader_raises_is_told(mask_files):
    table = pair_table(mask_files, read=failing)
    assert len(table.pairs) == 0
    assert set(table.problems["problem"]) == {"ZeroDivisionError: in the reader"}
    assert len(table.problems) == 7


def test_a_table_that_is_none_is_refused(mask_files):
    with pytest.raises(DataError, match="column 'path' is missing"):
        pair_table(mask_files.drop(columns="path"))
    with pytest.raises(DataError, match="mask_id 'a' is there twice"):
        pair_table(mask_files.rename(index={"b": "a"}))
    with pytest.raises(DataError, match="mask 'b' has no image_id"):
        pair_table(
            mask_files.assign(image_id=mask_files["image_id"].where(mask_files.index != "b"))
        )
    with pytest.raises(ValueError, match="processes"):
        pair_table(mask_files, processes=0)


def test_an_image_too_large_for_memory_is_told(mask_files, monkeypatch):
    def short(prepared, *options):
        if "d" in prepared:
            raise MemoryError
        return image_pairs(prepared, *options)

    monkeypatch.setattr(tables, "image_pairs", short)
    table = pair_table(mask_files)
    assert table.pairs["image_id"].unique().tolist() == ["i0", "i3"]
    assert set(table.problems["problem"]) == {"not enough memory to compare its masks"}
    assert table.problems["mask_id"].tolist() == ["d", "e"]


def test_several_processes_give_the_same_in_the_same_order(mask_files, tmp_path):
    expected = pair_table(mask_files)
    told = []
    table = pair_table(
        mask_files,
        processes=2,
        out=tmp_path,
        progress=lambda done, total: told.append((done, total)),
    )
    pd.testing.assert_frame_equal(table.pairs, expected.pairs)
    assert told == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert pair_table(mask_files, out=tmp_path).n_reused == 3


def test_a_process_that_dies_costs_one_image(mask_files):
    table = pair_table(mask_files, read=dying, processes=2)
    assert table.pairs["image_id"].unique().tolist() == ["i0", "i3"]
    assert table.problems["mask_id"].tolist() == ["d", "e"]
    assert table.problems["image_id"].eq("i1").all()
    assert table.problems["problem"].str.contains("died").all()
    assert table.problems["left_out"].all()


def test_a_reader_that_cannot_be_sent_is_told(mask_files):
    with pytest.raises(RuntimeError, match="cannot be sent to another process"):
        pair_table(mask_files, read=lambda path: read_mask(path), processes=2)
    assert len(pair_table(mask_files, read=lambda path: read_mask(path), processes=1).pairs) == 5


class OnlyHere:
    """Can be pickled but not taken out again elsewhere, like a function of a notebook."""

    def __reduce__(self):
        return (_not_there, ())


def _not_there():
    raise ImportError("only where the test runs")


def test_a_process_that_cannot_start_is_told():
    assert pickle.dumps(OnlyHere())
    with pytest.raises(RuntimeError, match="__main__"):
        list(parallel.run_all(len, [OnlyHere(), OnlyHere()], processes=2))


def test_progress_as_lines(mask_files, capsys):
    pair_table(mask_files, progress=True)
    assert "3 of 3 images compared" in capsys.readouterr().err


def test_processes_for_few_images(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(4)), raising=False)
    found = [parallel.default_processes(n) for n in (0, 3, 70, 10_000)]
    assert found == [1, 1, 2, 4]
