"""Pairwise tables of a whole cohort: what fails, what is resumed, what several processes do."""

import functools
import json
import os
import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
from engine_shapes import draw
from PIL import Image

from iavlib.agreement import PairOptions, image_level, pair_metrics, pair_table, tables, workers
from iavlib.data import DataError
from iavlib.data.images import read_mask
from iavlib.data.schemas import METRICS, PAIR_COLUMNS, PAIRS, check_table

SHAPE = (20, 30)


def save(mask, path):
    Image.fromarray(mask.astype(np.uint8) * 255).save(path)


@pytest.fixture
def masks(tmp_path) -> pd.DataFrame:
    """Images i0 (3 masks), i1 (2), i2 (1), i3 (2); the masks of i0 not in order of their names."""
    rng = np.random.default_rng(0)
    (tmp_path / "masks").mkdir()
    rows = []
    for image, names in {"i0": "cab", "i1": "de", "i2": "f", "i3": "gh"}.items():
        for name in names:
            path = tmp_path / "masks" / f"{name}.png"
            save(draw(SHAPE, rng, 2), path)
            rows.append((name, image, str(path), f"A{name}", "T1", None if name == "a" else "S1"))
    columns = ["mask_id", "image_id", "path", "annotator", "tool", "skill"]
    return pd.DataFrame(rows, columns=columns).set_index("mask_id")


def reading(counter, path):
    """Read a mask and note that it was read."""
    with open(counter, "a") as file:
        file.write(f"{os.path.basename(path)}\n")
    return read_mask(path)


def dying(path):
    """End the whole process at one mask, as for lack of memory."""
    if path.endswith("d.png"):
        os._exit(9)
    return read_mask(path)


def failing(path):
    raise ZeroDivisionError("in the reader")


def test_every_pair_of_every_image(masks):
    table = pair_table(masks)
    pairs = table.pairs
    assert pairs.columns.tolist() == list(PAIR_COLUMNS)
    found = pairs[["image_id", "mask_1", "mask_2"]].agg("-".join, axis=1).tolist()
    assert found == ["i0-a-b", "i0-a-c", "i0-b-c", "i1-d-e", "i3-g-h"]
    assert (table.n_images, table.n_reused, len(table.problems)) == (3, 0, 0)
    assert pairs["annotator_2"].tolist() == ["Ab", "Ac", "Ac", "Ae", "Ah"]
    assert pairs["skill_1"].isna().tolist() == [True, True, False, False, False]
    for _, pair in pairs.iterrows():
        paths = masks.loc[[pair["mask_1"], pair["mask_2"]], "path"]
        expected = pair_metrics(*map(read_mask, paths))
        assert {metric: pair[metric] for metric in METRICS} == expected
    check_table(PAIRS, pairs, "pairs", "")
    assert image_level(pairs)["n_pairs"].tolist() == [3, 1, 1]


def test_options_reach_the_table(masks):
    options = PairOptions(extra=True, tolerance=1, spacing=(2, 1), form="directed")
    pairs = pair_table(masks, options=options).pairs
    assert pairs.columns.tolist() == [*PAIR_COLUMNS, "kappa", "nsd", "boundary_f1"]
    last = pairs.iloc[-1]
    expected = pair_metrics(*map(read_mask, masks.loc[["g", "h"], "path"]), options)
    assert {metric: last[metric] for metric in options.metrics} == expected


def test_columns_that_are_not_known_are_missing_values(masks):
    pairs = pair_table(masks[["image_id", "path"]]).pairs
    assert pairs[["annotator_1", "tool_2", "skill_2"]].isna().all(axis=None)
    check_table(PAIRS, pairs, "pairs", "")
    none = pair_table(masks[masks["image_id"] == "i2"])
    assert len(none.pairs) == 0
    check_table(PAIRS, none.pairs, "pairs", "")


def test_what_fails_is_told_and_the_rest_is_done(masks, tmp_path):
    folder = tmp_path / "masks"
    (folder / "a.png").write_bytes((folder / "a.png").read_bytes()[:40])  # cut short
    save(np.ones((7, 7), bool), folder / "e.png")  # of another size
    masks.loc["g", "path"] = None
    masks.loc["h", "path"] = str(folder / "nowhere.png")
    rows = {"image_id": "i4", "path": [str(folder / f"{n}.png") for n in "bcdp"], "tool": "T"}
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (*SHAPE, 3), np.uint8)).save(
        folder / "p.png"
    )
    masks = pd.concat([masks, pd.DataFrame(rows, index=list("wxyz"))])
    save(np.zeros(SHAPE, bool), folder / "c.png")
    save(np.ones(SHAPE, bool), folder / "b.png")
    table = pair_table(masks)
    problems = table.problems.set_index("mask_id")
    assert table.problems.columns.tolist() == list(tables.PROBLEM_COLUMNS)
    told = {
        "a": "no readable image",
        "c": "empty",
        "b": "covers the whole image",
        "d": "30 x 20 pixels, not as",
        "e": "7 x 7 pixels, not as",
        "g": "no path",
        "h": "the file is missing",
        "z": "a picture, not a mask",
        "w": "covers the whole image",
        "x": "empty",
    }
    assert set(problems.index) == set(told)
    for mask_id, words in told.items():
        assert words in problems.loc[mask_id, "problem"], mask_id
    assert problems["mend"].str.len().gt(10).all()
    assert set(problems.index[~problems["left_out"]]) == {"b", "c", "w", "x"}
    found = table.pairs[["mask_1", "mask_2"]].agg("".join, axis=1).tolist()
    assert found == ["bc", "wx", "wy", "xy"]
    one_empty = table.pairs.iloc[0]
    assert one_empty["dice"] == 0
    assert np.isnan(one_empty["hd"])
    assert one_empty["hd_normalized"] == 1
    check_table(PAIRS, table.pairs, "pairs", "")


def test_a_mask_of_another_size_than_most_is_left_out(masks, tmp_path):
    save(np.ones((7, 7), bool), tmp_path / "masks" / "c.png")
    table = pair_table(masks)
    assert table.problems["mask_id"].tolist() == ["c"]
    assert table.pairs["mask_1"].tolist() == ["a", "d", "g"]


def test_whatever_a_reader_raises_is_told(masks):
    table = pair_table(masks, read=failing)
    assert len(table.pairs) == 0
    assert set(table.problems["problem"]) == {"ZeroDivisionError: in the reader"}
    assert len(table.problems) == 7


def test_paths_within_a_folder(masks, tmp_path):
    expected = pair_table(masks).pairs
    masks["path"] = [os.path.relpath(path, tmp_path) for path in masks["path"]]
    pd.testing.assert_frame_equal(pair_table(masks, folder=tmp_path).pairs, expected)
    table = pair_table(masks, folder=tmp_path / "masks")
    assert table.problems["problem"].str.contains("missing").all()
    masks["path"] = "../" + masks["path"]
    table = pair_table(masks, folder=tmp_path)
    assert table.problems["problem"].str.startswith("outside of").all()
    assert table.problems["left_out"].all()


def test_a_table_that_is_none_is_refused(masks):
    with pytest.raises(DataError, match="column 'path' is missing"):
        pair_table(masks.drop(columns="path"))
    with pytest.raises(DataError, match="mask_id 'a' is there twice"):
        pair_table(masks.rename(index={"b": "a"}))
    with pytest.raises(DataError, match="mask 'b' has no image_id"):
        pair_table(masks.assign(image_id=masks["image_id"].where(masks.index != "b")))
    with pytest.raises(ValueError, match="processes"):
        pair_table(masks, processes=0)


def test_a_stopped_run_goes_on(masks, tmp_path):
    count = tmp_path / "count.txt"
    read = functools.partial(reading, str(count))
    whole = pair_table(masks)

    def stop(done, total):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pair_table(masks, read, out=tmp_path / "out", progress=stop)
    assert len(count.read_text().split()) == 5
    store = tmp_path / "out" / "pairs.jsonl"
    half = store.read_bytes()
    store.write_bytes(half + half.splitlines(keepends=True)[0][:-30])  # stopped while writing
    table = pair_table(masks, read, out=tmp_path / "out")
    assert table.n_reused == 2
    assert count.read_text().split()[5:] == ["g.png", "h.png"]
    pd.testing.assert_frame_equal(table.pairs, whole.pairs)
    assert [json.loads(line)["record"]["image_id"] for line in store.open()] == ["i0", "i1", "i3"]
    again = pair_table(masks, read, out=tmp_path / "out")
    assert again.n_reused == 3
    assert len(count.read_text().split()) == 7
    pd.testing.assert_frame_equal(again.pairs, whole.pairs)


def test_every_length_of_a_half_written_line(masks, tmp_path):
    whole = pair_table(masks, out=tmp_path)
    store = tmp_path / "pairs.jsonl"
    content = store.read_bytes()
    last = content.rindex(b"\n", 0, -1) + 1
    for length in range(last, len(content), 37):
        store.write_bytes(content[:length])
        table = pair_table(masks, out=tmp_path)
        assert table.n_reused == 2
        pd.testing.assert_frame_equal(table.pairs, whole.pairs)
        assert store.read_bytes() == content


def test_a_line_that_was_altered_is_done_again_with_a_warning(masks, tmp_path):
    whole = pair_table(masks, out=tmp_path)
    store = tmp_path / "pairs.jsonl"
    lines = store.read_text().splitlines(keepends=True)
    store.write_text(lines[0][:50] + "\n" + "".join(lines[1:]))
    with pytest.warns(UserWarning, match=r"pairs\.jsonl, line 1: not as written"):
        table = pair_table(masks, out=tmp_path)
    assert table.n_reused == 2
    pd.testing.assert_frame_equal(table.pairs, whole.pairs)


def test_what_a_result_depends_on_makes_it_new(masks, tmp_path):
    def reused(**changed):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return pair_table(**{"masks": masks, "out": tmp_path / "out"} | changed).n_reused

    assert reused() == 0
    assert reused() == 3
    assert reused(options=PairOptions(extra=True)) == 0
    assert reused(options=PairOptions(extra=True)) == 3
    assert reused() == 3, "results with other options are kept beside each other"
    assert reused(read=functools.partial(read_mask, max_pixels=10**6)) == 0
    assert reused(read=functools.partial(read_mask, max_pixels=10**6)) == 3
    assert reused(masks=masks.drop(index="b")) == 2
    assert reused(masks=masks.assign(annotator="other")) == 3
    os.utime(tmp_path / "masks" / "d.png", ns=(0, 0))
    assert reused() == 2
    save(np.eye(*SHAPE, dtype=bool), tmp_path / "masks" / "g.png")
    assert reused() == 2


def test_annotators_come_from_the_table_of_now(masks, tmp_path):
    pair_table(masks, out=tmp_path)
    table = pair_table(masks.assign(annotator="other"), out=tmp_path)
    assert table.n_reused == 3
    assert set(table.pairs["annotator_1"]) == {"other"}


def test_images_with_a_mask_left_out_are_tried_again(masks, tmp_path):
    good = masks.loc["d", "path"]
    masks.loc["d", "path"] = str(tmp_path / "later.png")
    table = pair_table(masks, out=tmp_path)
    assert table.problems["mask_id"].tolist() == ["d"]
    os.link(good, tmp_path / "later.png")
    table = pair_table(masks, out=tmp_path)
    assert table.n_reused == 2
    assert len(table.problems) == 0
    assert len(table.pairs) == 5


def test_several_processes_give_the_same_in_the_same_order(masks, tmp_path):
    expected = pair_table(masks)
    told = []
    table = pair_table(
        masks, processes=2, out=tmp_path, progress=lambda done, total: told.append((done, total))
    )
    pd.testing.assert_frame_equal(table.pairs, expected.pairs)
    assert told == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert pair_table(masks, out=tmp_path).n_reused == 3


def test_a_process_that_dies_costs_one_image(masks):
    table = pair_table(masks, read=dying, processes=2)
    assert table.pairs["image_id"].unique().tolist() == ["i0", "i3"]
    (row,) = table.problems.to_dict("records")
    assert row["image_id"] == "i1"
    assert "died" in row["problem"]
    assert row["left_out"]


def test_a_reader_that_cannot_be_sent_is_told(masks):
    with pytest.raises(RuntimeError, match="cannot be sent to another process"):
        pair_table(masks, read=lambda path: read_mask(path), processes=2)
    assert len(pair_table(masks, read=lambda path: read_mask(path), processes=1).pairs) == 5


class OnlyHere:
    """Can be pickled but not taken out again elsewhere, like a function of a notebook."""

    def __reduce__(self):
        return (_not_there, ())


def _not_there():
    raise ImportError("only where the test runs")


def test_a_process_that_cannot_start_is_told():
    assert pickle.dumps(OnlyHere())
    with pytest.raises(RuntimeError, match="__main__"):
        list(workers.run_all(len, [OnlyHere(), OnlyHere()], processes=2))


def test_progress_as_lines(masks, capsys):
    pair_table(masks, progress=True)
    assert "3 of 3 images compared" in capsys.readouterr().err


def test_processes_for_few_images(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(4)), raising=False)
    found = [workers.default_processes(n) for n in (0, 3, 70, 10_000)]
    assert found == [1, 1, 2, 4]
