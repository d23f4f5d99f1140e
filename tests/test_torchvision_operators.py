"""torchvision beside a PyTorch without CUDA, each time in a new interpreter."""

import subprocess
import sys

import pytest


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


def test_iavlib_alone_loads_neither_torch_nor_torchvision():
    done = run(
        "import iavlib, sys; sys.exit('torch' in sys.modules or 'torchvision' in sys.modules)"
    )
    assert done.returncode == 0, done.stderr


def test_torchvision_and_timm_can_be_imported():
    done = run(
        "import iavlib, torchvision, timm\n"
        "from torchvision.transforms.v2 import functional\n"
        "import importlib.util; print(importlib.util.find_spec('torchvision').origin)"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("__init__.py")


@pytest.mark.parametrize("message", ["another fault", "operator torchvision::nms does not exist"])
def test_other_faults_and_a_second_failure_are_not_hidden(tmp_path, message):
    package = tmp_path / "torchvision"
    package.mkdir()
    (package / "__init__.py").write_text(f"raise RuntimeError({message!r})")
    done = run(
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\nimport iavlib\nimport torchvision"
    )
    assert done.returncode == 1
    assert message in done.stderr.splitlines()[-1]


def test_installing_twice_watches_once():
    done = run(
        "import sys, iavlib\nbefore = len(sys.meta_path)\n"
        "iavlib.core.versions.install_torchvision_operators()\n"
        "sys.exit(len(sys.meta_path) - before)"
    )
    assert done.returncode == 0


def test_nothing_is_installed_beside_a_matching_torchvision():
    done = run(
        "import importlib.metadata as metadata, sys\n"
        "metadata.version = lambda name: '2.0+cu128'\n"
        "before = len(sys.meta_path)\nimport iavlib\nsys.exit(len(sys.meta_path) - before)"
    )
    assert done.returncode == 0, done.stderr
