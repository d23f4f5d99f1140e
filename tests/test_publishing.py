"""The workflows that publish the book do what the documents say."""

import re
from pathlib import Path

import pytest
import yaml

WORKFLOWS = Path(__file__).parent.parent / ".github" / "workflows"


def workflow(name: str) -> dict:
    content = yaml.safe_load((WORKFLOWS / name).read_text())
    # YAML 1.1 reads the key "on" as a truth value.
    return content | {"on": content.get("on", content.get(True))}


def commands(job: dict) -> str:
    return "\n".join(step.get("run", "") for step in job["steps"])


@pytest.mark.parametrize("path", sorted(WORKFLOWS.glob("*.yml")), ids=lambda p: p.name)
def test_jobs_are_bounded_and_actions_pinned_to_a_commit(path):
    for name, job in workflow(path.name)["jobs"].items():
        assert "timeout-minutes" in job or name == "deploy"
        for step in job["steps"]:
            assert "uses" not in step or re.search("@[0-9a-f]{40}$", step["uses"])


def test_the_book_is_built_on_every_push_to_main_with_the_tables():
    book = workflow("book.yml")
    assert book["on"]["push"]["branches"] == ["main"]
    text = commands(book["jobs"]["build"])
    assert text.index("iav data fetch imapp") < text.index("make book")
    assert "--optional" not in text


def test_it_is_published_on_a_tag_only():
    book = workflow("book.yml")
    assert book["on"]["push"]["tags"] == ["v*"]
    deploy = book["jobs"]["deploy"]
    assert deploy["if"] == "startsWith(github.ref, 'refs/tags/v')"
    assert deploy["needs"] == "build"
    (artifact,) = [s for s in book["jobs"]["build"]["steps"] if "artifact" in s.get("uses", "")]
    assert artifact["with"]["path"] == "_build/html"


def test_links_and_pinned_versions_are_checked_weekly():
    weekly = workflow("weekly.yml")
    _, _, day, month, weekday = weekly["on"]["schedule"][0]["cron"].split()
    assert (day, month) == ("*", "*") and weekday.isdigit()
    assert "constraints.txt" in commands(weekly["jobs"]["audit"])


def test_the_test_workflow_runs_the_documented_commands():
    assert {"make test", "make lint"} <= set(
        commands(workflow("tests.yml")["jobs"]["test"]).split("\n")
    )
