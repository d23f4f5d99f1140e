"""A run that was stopped goes on where it was, and only what changed is done again."""

import functools
import json
import os
import warnings

import numpy as np
import pandas as pd
import pytest
from engine_shapes import SHAPE, save

from iavlib.agreement import pair_table
from iavlib.data.images import read_mask
from iavlib.masks import PairOptions


def reading(counter, path):
    """Read a mask and note that it was read."""
    with open(counter, "a") as file:
        file.write(f"{os.path.basename(path)}\n")
    return read_mask(path)


def sometimes(flag, path):
    """Read a mask unless a file is there, as a disk that is away for a while."""
    if os.path.exists(flag):
        raise OSError("the disk is away")
    return read_mask(path)


def test_a_stopped_run_goes_on(mask_files, tmp_path):
    count = tmp_path / "count.txt"
    read = functools.partial(reading, str(count))
    whole = pair_table(mask_files)

    def stop(done, total):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pair_table(mask_files, read, out=tmp_path / "out", progress=stop)
    assert len(count.read_text().split()) == 5
    store = tmp_path / "out" / "pairs.jsonl"
    half = store.read_bytes()
    store.write_bytes(half + half.splitlines(keepends=True)[0][:-30])  # stopped while writing
    table = pair_table(mask_files, read, out=tmp_path / "out")
    assert table.n_reused == 2
    assert count.read_text().split()[5:] == ["g.png", "h.png"]
    pd.testing.assert_frame_equal(table.pairs, whole.pairs)
    assert [json.loads(line)["record"]["image_id"] for line in store.open()] == ["i0", "i1", "i3"]
    again = pair_table(mask_files, read, out=tmp_path / "out")
    assert again.n_reused == 3
    assert len(count.read_text().split()) == 7
    pd.testing.assert_frame_equal(again.pairs, whole.pairs)


def test_every_length_of_a_half_written_line(mask_files, tmp_path):
    whole = pair_table(mask_files, out=tmp_path)
    store = tmp_path / "pairs.jsonl"
    content = store.read_bytes()
    last = content.rindex(b"\n", 0, -1) + 1
    for length in range(last, len(content), 37):
        store.write_bytes(content[:length])
        table = pair_table(mask_files, out=tmp_path)
        assert table.n_reused == 2
        pd.testing.assert_frame_equal(table.pairs, whole.pairs)
        assert store.read_bytes() == content


def test_a_line_that_was_altered_is_done_again_with_a_warning(mask_files, tmp_path):
    whole = pair_table(mask_files, out=tmp_path)
    store = tmp_path / "pairs.jsonl"
    lines = store.read_text().splitlines(keepends=True)
    store.write_text(lines[0][:50] + "\n" + "".join(lines[1:]))
    with pytest.warns(UserWarning, match=r"pairs\.jsonl, line 1: damaged"):
        table = pair_table(mask_files, out=tmp_path)
    assert table.n_reused == 2
    pd.testing.assert_frame_equal(table.pairs, whole.pairs)


def test_what_a_result_depends_on_makes_it_new(mask_files, tmp_path):
    def reused(**changed):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return pair_table(**{"masks": mask_files, "out": tmp_path / "out"} | changed).n_reused

    assert reused() == 0
    assert reused() == 3
    assert reused(options=PairOptions(extra=True)) == 0
    assert reused(options=PairOptions(extra=True)) == 3
    assert reused() == 3, "results with other options are kept beside each other"
    assert reused(read=functools.partial(read_mask, max_pixels=10**6)) == 0
    assert reused(read=functools.partial(read_mask, max_pixels=10**6)) == 3
    assert reused(masks=mask_files.drop(index="b")) == 2
    assert reused(masks=mask_files.assign(annotator="other")) == 3
    os.utime(tmp_path / "masks" / "d.png", ns=(0, 0))
    assert reused() == 2
    save(np.eye(*SHAPE, dtype=bool), tmp_path / "masks" / "g.png")
    assert reused() == 2


def test_annotators_come_from_the_table_of_now(mask_files, tmp_path):
    pair_table(mask_files, out=tmp_path)
    table = pair_table(mask_files.assign(annotator="other"), out=tmp_path)
    assert table.n_reused == 3
    assert set(table.pairs["annotator_1"]) == {"other"}


def test_images_with_a_mask_left_out_are_tried_again(mask_files, tmp_path):
    good = mask_files.loc["d", "path"]
    mask_files.loc["d", "path"] = str(tmp_path / "later.png")
    table = pair_table(mask_files, out=tmp_path)
    assert table.problems["mask_id"].tolist() == ["d"]
    os.link(good, tmp_path / "later.png")
    table = pair_table(mask_files, out=tmp_path)
    assert table.n_reused == 2
    assert len(table.problems) == 0
    assert len(table.pairs) == 5


def test_what_failed_for_a_while_is_tried_again(mask_files, tmp_path):
    flag = tmp_path / "away"
    read = functools.partial(sometimes, str(flag))
    flag.touch()
    table = pair_table(mask_files, read, out=tmp_path / "out")
    assert set(table.problems["problem"]) == {"OSError: the disk is away"}
    flag.unlink()
    table = pair_table(mask_files, read, out=tmp_path / "out")
    assert (table.n_reused, len(table.pairs), len(table.problems)) == (0, 5, 0)
