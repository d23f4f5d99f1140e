"""Files of Hugging Face: from the cache without asking, from the network only if they must be."""

import errno
import os
import socket
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path

from iavlib.models.backbones import Backbone
from iavlib.models.errors import WeightsUnavailable

FILE = "model.safetensors"


def cached_weights(backbone: Backbone) -> Path | None:
    """Return timm's weights of a backbone where a cache of this machine has them.

    Parameters
    ----------
    backbone : Backbone

    Returns
    -------
    Path or None
        A safetensors file of Hugging Face's cache, or the file that timm names by address in
        PyTorch's (``torch.hub``).
    """
    import huggingface_hub
    import timm

    settings = timm.get_pretrained_cfg(backbone.timm_name)
    if settings is None:
        return None
    if settings.hf_hub_id:
        name = settings.hf_hub_filename or FILE
        found = huggingface_hub.try_to_load_from_cache(settings.hf_hub_id, name)
        if isinstance(found, str):
            return Path(found)
    return _torch_cached(settings.url)


def _torch_cached(url: str | None) -> Path | None:
    if not url or not url.endswith((".pth", ".pt")):
        return None
    import torch

    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(urllib.parse.urlparse(url).path).name
    return path if path.is_file() else None


def fetch_weights(backbone: Backbone, mend: str) -> Path:
    """Return timm's weights of a backbone, from a cache or else from Hugging Face.

    Parameters
    ----------
    backbone : Backbone
    mend : str
        What else a user can do without a network, for the message.

    Raises
    ------
    WeightsUnavailable
        If timm has none, or they are in no cache and cannot be downloaded.
    """
    found = cached_weights(backbone)
    if found is not None:
        return found
    import huggingface_hub
    import timm

    settings = timm.get_pretrained_cfg(backbone.timm_name)
    if settings is None or not settings.hf_hub_id:
        reason = f"timm has none on Hugging Face for {backbone.timm_name!r}"
        raise WeightsUnavailable(backbone.name, "hub", reason, mend)
    repository, name = settings.hf_hub_id, settings.hf_hub_filename or FILE
    path = download(
        lambda: huggingface_hub.hf_hub_download(repository, name),
        (backbone.name, "hub"),
        repository,
        mend,
    )
    return Path(path)


def download(action: Callable[[], str], what: tuple[str, str], repository: str, mend: str) -> str:
    """Call what downloads, and say clearly why it did not.

    Parameters
    ----------
    action : callable
        Downloads and returns a path.
    what : tuple of str
        Backbone and source, for the message.
    repository : str
        On Hugging Face.
    mend : str
        What else a user can do.

    Raises
    ------
    WeightsUnavailable
        If the network is off or does not answer, or the repository has no such file.
    OSError
        If the disk is full or not writable.
    """
    away = _why_unreachable()
    place = f"{repository} is not in the cache of Hugging Face"
    if away:
        raise WeightsUnavailable(*what, f"{place} and {away}", _online(mend))
    try:
        return action()
    except Exception as error:  # its HTTP client has a family of errors of its own
        if isinstance(error, OSError) and error.errno in (
            errno.ENOSPC,
            errno.EDQUOT,
            errno.EACCES,
            errno.EROFS,
        ):
            raise
        said = f"{type(error).__name__}: {str(error).strip().splitlines()[0][:200]}"
        raise WeightsUnavailable(
            *what, f"{place} and no download: {said}", _online(mend)
        ) from error


def _online(mend: str) -> str:
    return f"run once with a network, or copy a cache here and set HF_HOME to it; or {mend}"


def _why_unreachable() -> str:
    """Return why there is no use in trying, empty where there is.

    The client of Hugging Face tries for half a minute before it says that a host is unknown.
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
