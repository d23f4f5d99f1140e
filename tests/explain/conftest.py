"""A tiny network with two heads, and images whose answer is known."""

import pytest
import torch

from iavlib.models import HeadSpec, build_network

HEADS = {"iaa": HeadSpec("linear"), "diagnosis": HeadSpec("linear", 2)}


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def network():
    made = build_network("test_resnet", HEADS, size=64, seed=1).eval()
    with torch.no_grad():  # fresh heads are nearly zero
        for head in made.heads.values():
            torch.nn.init.normal_(head[1].weight, generator=torch.Generator().manual_seed(0))
    return made


@pytest.fixture
def images():
    return torch.randn((3, 3, 64, 64), generator=torch.Generator().manual_seed(2))
