"""Where pre-trained weights come from, and how images must be normalised for them.

Nothing here imports torch until weights are read.
"""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from iavlib.data.home import data_home
from iavlib.models import hub
from iavlib.models.backbones import Backbone, find_backbone

SOURCES = ("hub", "file", "released", "none")


@dataclass(frozen=True)
class Weights:
    """Which weights a network started from; it goes into every result.

    Attributes
    ----------
    source : {"hub", "file", "released", "none"}
        timm's weights from Hugging Face, a safetensors file, the checkpoints that the authors of
        the paper released, or random.
    detail : str
        Path or repository and twelve digits of the file's SHA-256, or the seed.
    mean, std : tuple of float
        Normalisation of the red, green and blue channel, of pixels scaled to [0, 1].
    input_size : int
        Side of the square input in pixels.
    padding : {"", "same"}
        How strided convolutions are padded: as timm does, alike on both sides, or as TensorFlow
        does, right and bottom first. Weights from TensorFlow see a shifted image otherwise.
    """

    source: str
    detail: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    input_size: int
    padding: str = ""

    @property
    def is_random(self) -> bool:
        """True where nothing was learnt before; such a result supports no claim."""
        return self.source == "none"

    def with_normalisation(self, mean, std) -> "Weights":
        """Return the same weights with another mean and std, such as the training part's."""
        return replace(self, mean=tuple(map(float, mean)), std=tuple(map(float, std)))


class Normalisation(NamedTuple):
    """How pixels in [0, 1] become a network's input: ``(pixel - mean) / std`` at ``size``.

    ``known`` is False where no weights say so: mean 0 and std 1 then stand for pixels as they
    are, and whoever trains computes both from the training part.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    size: int
    known: bool


def normalisation(weights: Weights) -> Normalisation:
    """Return mean, std and input size that go with some weights."""
    known = not weights.is_random or weights.mean != (0.0, 0.0, 0.0)
    return Normalisation(weights.mean, weights.std, weights.input_size, known)


def random_weights(
    backbone: Backbone, seed: int, size: int | None = None, padding: str = ""
) -> Weights:
    """Return the record of a network that starts at random."""
    nothing, one = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    return Weights("none", f"random, seed {seed}", nothing, one, size or backbone.size, padding)


def weights_file(backbone: Backbone) -> Path:
    """Return where the weights file of a backbone lies, or would have to lie.

    ``<timm name>.imagenet.safetensors`` in ``weights`` of the data home, looked for with the tag
    of the weights first, then without.
    """
    folder = data_home() / "weights"
    names = (backbone.timm_name, backbone.architecture)
    paths = [folder / f"{name}.imagenet.safetensors" for name in names]
    return next((path for path in paths if path.is_file()), paths[-1])


def find_weights(backbone: str | Backbone) -> str:
    """Return the best source of weights that is on this machine, without any network.

    Parameters
    ----------
    backbone : str or Backbone

    Returns
    -------
    {"file", "hub", "none"}
        A file in the data home; else timm's weights where Hugging Face's or PyTorch's cache has
        them; else none.
    """
    if isinstance(backbone, str):
        backbone = find_backbone(backbone)
    if weights_file(backbone).is_file():
        return "file"
    return "none" if hub.cached_weights(backbone) is None else "hub"


def describe_file(path: Path) -> str:
    """Return the path, from the data home where it lies there, and digits of its SHA-256."""
    path = path.resolve()
    shown = path.relative_to(data_home()) if path.is_relative_to(data_home()) else path
    return f"{shown}, sha256 {short_hash(path)}"


def short_hash(path: Path) -> str:
    """Return twelve hexadecimal digits of a file's SHA-256."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]
