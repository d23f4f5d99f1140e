"""Messages are whole sentences, whatever their parts are."""

import pytest

from iavlib.core.errors import (
    DataError,
    DatasetUnavailable,
    InputError,
    WeightsUnavailable,
    suggest,
)

NAMES = ["resnet18", "vit"]
HINTS = {
    "name another file": ". To fix it: name another file.",
    "see https://example.org.": ". To fix it: see https://example.org.",
    "is it one of another person?": "; is it one of another person?",
    suggest("rsnet18", NAMES): "; did you mean 'resnet18'?",
    suggest("other", NAMES): "; known: resnet18, vit.",
    suggest("other", []): "; there are none.",
    f"name a run; {suggest('other', NAMES)}": ". To fix it: name a run; known: resnet18, vit.",
    f"correct it; {suggest('vits', NAMES)}": "; correct it; did you mean 'vit'?",
}


@pytest.mark.parametrize(("hint", "sentence"), HINTS.items())
@pytest.mark.parametrize("kind", [InputError, DataError])
def test_a_hint_is_a_sentence(kind, hint, sentence):
    assert str(kind("a.csv", "is wrong", hint)) == f"a.csv: is wrong{sentence}"


def test_a_problem_that_ends_by_itself_gets_no_second_stop():
    problem = f"no cohort 'imap'; {suggest('imap', ['imapp'])}"
    error = InputError("cohort", problem, "name one of these")
    said = "cohort: no cohort 'imap'; did you mean 'imapp'? To fix it: name one of these."
    assert str(error) == said
    assert (error.problem, error.hint) == (problem, "name one of these")


def test_what_cannot_be_had_follows_the_same_rule():
    error = DatasetUnavailable("tiny", "no path was given", suggest("x", []))
    assert str(error) == "cohort 'tiny' is not available here: no path was given; there are none."
    error = WeightsUnavailable("vit", "timm", "no network.", "connect it")
    said = "weights 'timm' of backbone 'vit' cannot be had: no network. To get them: connect it."
    assert str(error) == said
