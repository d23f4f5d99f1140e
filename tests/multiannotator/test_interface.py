"""A method is one class: the documented template, methods from outside, names without PyTorch."""

import re
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from iavlib.core.errors import MethodError
from iavlib.data import load
from iavlib.multiannotator import METHODS, fit, from_cohort, make_method, method, methods

TEMPLATE = """
from torch import nn

from iavlib.multiannotator import Method, Outputs, register
from iavlib.multiannotator.losses import soft_cross_entropy


@register("outside", "From outside", smooth=0.1)
class Outside(Method):
    defaults = {"smooth": 0.0}

    def build(self, problem):
        return nn.Conv2d(problem.channels, problem.n_classes, 3, padding=1)

    def targets(self, data, stage, network):
        mean = data.mean_map()
        return {"target": (1 - self.settings["smooth"]) * np.stack([1 - mean, mean], 1)}

    def loss(self, network, batch, epoch, stage):
        assert batch["images"].shape[0] == batch["target"].shape[0] == len(batch["index"])
        return soft_cross_entropy(network(batch["images"]), batch["target"]).mean()

    def outputs(self, network, images, generator, n_samples):
        return Outputs(network(images).softmax(1))
"""


@pytest.fixture(autouse=True)
def forgotten(monkeypatch):
    """Forget what a test registers."""
    monkeypatch.setattr(METHODS, "_entries", dict(METHODS._entries))


@pytest.fixture(scope="module")
def lesions():
    return from_cohort(load("phantom", n_images=20, size=(48, 48)), 16)


def test_the_documented_template_runs_as_it_stands(lesions, recipe):
    (block,) = re.findall(r"with one class::\n(.*?)\n``batch``", method.__doc__, re.DOTALL)
    exec(textwrap.dedent(block), {"__name__": "template"})
    fitted = fit(make_method("mine", widths=[4, 8], weight=2.0), lesions, recipe)
    assert np.isfinite(fitted.history["train_loss"]).all()
    assert fitted.predict(lesions).consensus.shape == (len(lesions), 2, 16, 16)


def test_a_method_from_outside_is_trained_on_the_phantom(lesions, recipe):
    exec(TEMPLATE, {"__name__": "outside", "np": np})
    assert "outside" in METHODS and METHODS["outside"].title == "From outside"
    made = make_method("outside")
    assert made.settings == {"smooth": 0.1}
    fitted = fit(made, lesions, recipe.model_copy(update={"epochs": 1}))
    assert len(fitted.history) == 1


def test_an_entry_point_names_a_method(lesions, recipe, monkeypatch):
    class Point:
        name = "outside"
        loaded = False

        def load(self):
            Point.loaded = True
            exec(TEMPLATE, {"__name__": "outside", "np": np})

    monkeypatch.setattr(methods, "outside", {"iavlib.methods": {"outside": Point()}}.get)
    assert "outside" in list(METHODS) and not Point.loaded
    assert make_method("outside").title == "From outside" and Point.loaded


def test_a_name_is_taken_once():
    with pytest.raises(MethodError, match="two methods are called 'cm'"):
        exec(TEMPLATE.replace('"outside"', '"cm"'), {"__name__": "outside", "np": np})


def test_methods_are_listed_without_pytorch():
    code = (
        "import sys; from iavlib.multiannotator import METHODS; print(*METHODS);"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    names = done.stdout.split()
    assert names == sorted(names) and {"cm", "avap", "diff", "staple", "mh-unet"} <= set(names)
