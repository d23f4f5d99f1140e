"""The files that say what is installed agree with each other."""

import re
import tomllib
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

import iavlib

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def pinned() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    exact = {canonicalize_name(p.name): re.fullmatch(r"==([^,*]+)", str(p.specifier)) for p in pins}
    assert all(exact.values()), [name for name, match in exact.items() if not match]
    assert len(exact) == len(pins), "a package is pinned twice"
    return {name: match[1] for name, match in exact.items()}


def requirements() -> list[Requirement]:
    groups = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    found = [Requirement(text) for group in groups for text in group]
    return [r for r in found if r.name != "iavlib"]


@pytest.mark.parametrize("requirement", requirements(), ids=str)
def test_every_dependency_is_pinned_within_its_range(requirement):
    pins = pinned()
    assert canonicalize_name(requirement.name) in pins
    assert Version(pins[canonicalize_name(requirement.name)]) in requirement.specifier


def test_conda_users_get_the_same_stack():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    plain = [d for d in environment["dependencies"] if isinstance(d, str)]
    (python,) = [d for d in plain if d.startswith("python=")]
    assert Version(python.removeprefix("python=")) in SpecifierSet(PROJECT["requires-python"])
    (pip,) = [d["pip"] for d in environment["dependencies"] if isinstance(d, dict)]
    assert pip == ["-c constraints.txt", "-e .[dev]"]
    assert "-c constraints.txt -e '.[dev]'" in (ROOT / "Makefile").read_text()


def test_pre_commit_uses_the_pinned_tools():
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    revisions = {hook["id"]: repo["rev"] for repo in config["repos"] for hook in repo["hooks"]}
    assert revisions["ruff"].lstrip("v") == pinned()["ruff"]
    assert revisions["nbstripout"] == pinned()["nbstripout"]
    assert revisions["import-linter"].lstrip("v") == pinned()["import-linter"]


def test_one_version_everywhere():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert PROJECT["version"] == iavlib.__version__ == str(citation["version"])


def licence(name: str) -> str:
    try:
        facts = metadata(name)
    except PackageNotFoundError:
        return ""
    named = [facts.get("License-Expression"), *(facts.get_all("Classifier") or [])]
    return " ".join(filter(None, [*named, (facts.get("License") or "")[:40]]))


def test_packages_under_the_gpl_are_named_to_users():
    copyleft = {
        name
        for name in {requirement.name for requirement in requirements()}
        if re.search(r"(?<!L)GPL|GNU General Public", licence(name))
    }
    assert copyleft >= {"pingouin"}
    for page in (ROOT / "README.md", ROOT / "book" / "provenance.md"):
        text = page.read_text(encoding="utf-8")
        assert all(name.lower() in text for name in copyleft), page
    code = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "iavlib").rglob("*.py"))
    assert not any(re.search(rf"import {name}\b|from {name}\b", code) for name in copyleft)
