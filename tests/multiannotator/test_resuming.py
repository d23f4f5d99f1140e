"""A training that is killed and goes on ends with the same weights; models are read back."""

import numpy as np
import pytest
import torch

from iavlib.core.errors import DataError
from iavlib.multiannotator import fit, load_method, make_method, save_method
from iavlib.multiannotator.fitting import clear_checkpoints

SMALL = {"widths": [4, 8]}


class Killed(Exception):
    pass


def kill_after(n):
    seen = []

    def watch(row):
        seen.append(row)
        if len(seen) == n:
            raise Killed

    return watch


@pytest.mark.parametrize(("name", "moment"), [("cm", 1), ("prob-unet", 1), ("cm-two-stage", 3)])
def test_a_killed_training_ends_the_same(discs, recipe, tmp_path, name, moment):
    data = discs()
    whole = fit(make_method(name, **SMALL), data, recipe, folder=tmp_path / "whole")
    with pytest.raises(Killed):
        method, folder = make_method(name, **SMALL), tmp_path / "killed"
        fit(method, data, recipe, folder=folder, progress=kill_after(moment))
    again = fit(make_method(name, **SMALL), data, recipe, folder=tmp_path / "killed")
    for key, values in whole.network.state_dict().items():
        assert torch.equal(values, again.network.state_dict()[key]), key
    clear_checkpoints(again.method, tmp_path / "killed")
    assert not list((tmp_path / "killed").rglob("*"))


def test_a_model_is_read_back_bit_by_bit(discs, recipe, tmp_path):
    data = discs()
    fitted = fit(make_method("cm-two-stage", **SMALL), data, recipe)
    save_method(fitted, tmp_path)
    found = load_method(tmp_path)
    assert found.method.settings == fitted.method.settings and found.problem == fitted.problem
    np.testing.assert_array_equal(found.predict(data).maps, fitted.predict(data).maps)
    (tmp_path / "model.safetensors").write_bytes(b"0")
    with pytest.raises(DataError, match=r"is not the file that model\.json"):
        load_method(tmp_path)
    (tmp_path / "model.json").write_text("{}")
    with pytest.raises(DataError, match="does not describe a model"):
        load_method(tmp_path)


def test_validation_is_measured_and_can_choose(discs, recipe):
    data = discs()
    subsets = np.array(["train"] * 6 + ["val"] * 2)
    from dataclasses import replace

    split = replace(data, subsets=subsets)
    chosen = recipe.model_copy(update={"select": ("nll", "min")})
    history = fit(make_method("cm", **SMALL), split, chosen).history
    assert {"nll", "dice"} <= set(history) and history["best"].sum() == 1
