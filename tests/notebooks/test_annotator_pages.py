"""Pages on methods for several annotators: sentences follow the numbers, also on own masks."""

import re

import pytest

TINY = {"n_train": 16, "epochs": 2, "n_images": 12}
#: Each costs about five seconds; together they have every kind of split that a folder can lead to.
SOME = ("no malignancy", "one image", "one patient", "perfect agreement")
NEVER = ("nan", "None", "{glue", "{cite", "her own", "IMA++")


@pytest.fixture
def some_case(case):
    if case[0] not in SOME:
        pytest.skip("one of the cases that are enough for pages that train")
    return case


def words(page):
    """The text of a page without the styles of its tables and its pictures."""
    return re.sub(r"<style.*?</style>|base64,[^\"]*", "", page.text, flags=re.DOTALL)


@pytest.mark.thorough
def test_cm_states_what_this_run_found(notebook):
    page = notebook("06", **TINY, methods=["cm", "mode-labels"])
    live, text = page.names["live"]["dice"], words(page)
    gap = 100 * (live["cm"] - live["mode-labels"])
    assert (
        f"{abs(gap):.1f} points of Dice {'above' if gap > 0 else 'below'} the same network" in text
    )
    assert "stored 2026" in text and "this page" in text
    stored = page.names["gap_stored"]
    verdict = "excludes zero" if abs(stored.mean()) > 2.776 * stored.sem() else "inconclusive"
    assert len(stored) == 5 and verdict in page.names["in_short"].text
    assert not any(word in text for word in NEVER[:4])


@pytest.mark.thorough
@pytest.mark.parametrize("method", ["staple", "mode-labels"])
def test_parameters_of_cm_change_what_is_shown_live(notebook, method):
    page = notebook("06", **TINY, methods=[method], seed=1, noise=0.0)
    text = words(page)
    assert list(page.names["live"].index) == [method] and "seed 1" in text
    assert page.names["vote"] == 100 and "nan" not in text, "nobody errs"
    learns_none = "None of the methods trained here learns confusion matrices" in text
    assert learns_none == (method == "mode-labels")


def check_own(page, kind, stored):
    """What a page on one's own masks must and must not say."""
    text = words(page)
    assert not any(word in text for word in NEVER)
    assert stored not in text and "isic" not in text
    if kind in ("one image", "one patient"):
        assert "no method was trained" in text
    else:
        assert "no method was trained" not in text and page.names["own"]


def test_cm_on_own_masks(notebook, some_case):
    kind, path = some_case
    page = notebook("06", **TINY, cohort="folder", path=path)
    check_own(page, kind, "stored 2026")
    if page.names["own"]:
        dices = page.names["here"]["Dice, own mask"]
        assert f"`{dices.idxmax()}` predicts an annotator's own mask best" in words(page)
        assert f"{dices.max():.3f}" in page.names["in_short"].text


@pytest.mark.thorough
def test_avap_states_what_this_run_found(notebook):
    page = notebook("07", **TINY, methods=["avap", "mode-labels"])
    text, row = words(page), page.names["live"].loc["avap"]
    assert f"`avap`: {round(5 * row['own_best'])} of 5 annotators" in text
    assert f"{round(5 * row['own_code_best'])} by columns" in text
    assert "`mode-labels` predicts the same for everybody" in text
    below = [key for key, gap in page.names["gaps"].items() if gap.mean() < -4.303 * gap.sem()]
    named = re.search(r"Below zero: (.*?)\.\n", text)[1]
    wanted = [f"{page.names['QUESTIONS'][name][0]} on {label}" for name, label in below]
    assert sorted(named.split("; ")) == sorted(wanted)
    assert "stored 2026" in text and not any(word in text for word in NEVER[:4])


def test_coverage_of_avap_counts_the_images_of_riga():
    from iavlib.experiments import claims

    assert claims.coverage("riga", 95) == (95, 750) and claims.coverage("riga", 750) is None
    assert claims.coverage("isic_two_annotators", 57) is None, "none of the paper's images"


@pytest.mark.thorough
def test_avap_without_a_model_of_annotators(notebook):
    page = notebook("07", **TINY, methods=["every-label"], seed=1)
    assert "add `avap` to `methods`" in words(page) and "nan" not in words(page)
    assert page.names["errors"] and not any("this page" in name for name in page.names["errors"])
    assert "seed 1" in words(page)


def test_avap_on_own_masks(notebook, some_case):
    kind, path = some_case
    page = notebook("07", **TINY, cohort="folder", path=path)
    check_own(page, kind, "stored 2026")
    if page.names["own"]:
        dices = page.names["here"]["average"]
        assert f"`{dices.idxmax()}` predicts the annotators best" in words(page)
