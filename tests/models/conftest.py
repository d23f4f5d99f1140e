"""A data home without a network, and one thread of torch."""

import pytest
import torch

import iavlib  # noqa: F401 - lets torchvision import beside a torch for CPUs


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A data home of its own, caches of its own, and no network."""
    import huggingface_hub.constants

    monkeypatch.setenv("IAV_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "torch"))
    (tmp_path / "data" / "weights").mkdir(parents=True)
    return tmp_path
