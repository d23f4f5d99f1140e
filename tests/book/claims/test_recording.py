import math
from types import SimpleNamespace

import numpy as np
import pytest

from iavlib.book import record
from iavlib.book.recording import take_pending
from iavlib.core.errors import ClaimError, ProjectError

REAL = SimpleNamespace(name="real", synthetic=False)


@pytest.fixture(autouse=True)
def forget():
    yield
    take_pending()


def test_what_is_recorded_is_plain_and_taken_once(lab):
    record("mean", np.float64(0.25), cohort=REAL, n=np.int64(7), interval=np.array([0.1, 0.4]))
    ((entry, of_runs),) = take_pending()
    assert entry == {
        "id": "mean",
        "value": 0.25,
        "interval": [0.1, 0.4],
        "n": 7,
        "cohort": "real",
        "synthetic": False,
        "note": None,
        "coverage": None,
        "baseline": None,
        "reduction_interval": None,
        "simulated": False,
        "seeds": None,
        "patients": None,
        "protocol": None,
    }
    assert not of_runs
    assert [type(entry[key]) for key in ("value", "n")] == [float, int]
    assert take_pending() == []


def test_a_whole_number_stays_whole(lab):
    record("mean", np.int64(14967), cohort=REAL, n=1)
    assert repr(take_pending()[0][0]["value"]) == "14967"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"claim": "maen"}, "no claim 'maen' .* did you mean 'mean'"),
        ({"value": math.nan}, "value.* is nan"),
        ({"value": np.inf}, "value.* is inf"),
        ({"value": "0.5"}, "value.* is '0.5', it should be a valid number"),
        ({"value": True}, "value.* is True, it should be a valid number"),
        ({"value": np.array([0.5])}, r"value.* is \[0.5\], it should be a valid number"),
        ({"n": 0}, "n is 0, it should be greater than or equal to 1"),
        ({"n": 2.0}, "n is 2.0, it should be a valid integer"),
        ({"interval": (0.4, 0.1)}, "interval is .* two numbers, the smaller first"),
        ({"interval": (0.4,)}, "interval is .* two numbers, the smaller first"),
        ({"interval": (math.nan, 1)}, "interval.* is nan"),
        ({"coverage": (2394, 1053)}, "coverage is .* two numbers, the smaller first"),
        ({"coverage": (0, 10)}, "coverage.0 is 0, it should be greater than or equal to 1"),
        ({"coverage": (1053,)}, "coverage is .* two numbers, the smaller first"),
        ({"baseline": 0}, "baseline is 0, it should be greater than 0"),
        ({"baseline": math.nan}, "baseline is nan"),
        ({"reduction_interval": (0.1, 0.2)}, "needs baseline="),
        ({"baseline": 1, "reduction_interval": (0.2, 0.1)}, "reduction_interval is .* the smaller"),
        ({"seeds": 0}, "seeds is 0, it should be greater than or equal to 1"),
        ({"patients": 1.5}, "patients is 1.5, it should be a valid integer"),
        ({"protocol": "mine"}, "protocol is 'mine', it should be 'published' or 'other'"),
    ],
)
def test_what_cannot_be_a_measurement_is_refused(lab, arguments, message):
    good = {"claim": "mean", "value": 0.5, "cohort": REAL, "n": 10}
    with pytest.raises(ClaimError, match=message):
        record(**(good | arguments))
    assert take_pending() == []


def test_how_much_was_at_hand_and_against_what_is_plain(lab):
    record(
        *("mean", 0.5),
        cohort=REAL,
        n=10,
        coverage=(np.int64(1053), 2394),
        baseline=np.float32(0.5),
        reduction_interval=np.array([-0.1, 0.1]),
        simulated=np.True_,
        seeds=np.int64(5),
        patients=700,
        protocol="published",
    )
    ((entry, _),) = take_pending()
    assert entry["coverage"] == [1053, 2394] and type(entry["coverage"][0]) is int
    assert entry["baseline"] == 0.5 and type(entry["baseline"]) is float
    assert entry["reduction_interval"] == [-0.1, 0.1]
    assert entry["simulated"] is True
    assert (entry["seeds"], entry["patients"], entry["protocol"]) == (5, 700, "published")


def test_a_claim_about_the_reduction_of_an_error_needs_that_of_a_constant(lab, claim):
    lab.claims(claim | {"compare": {"kind": "reduction", "smallest": 0.1, "because": "x"}})
    with pytest.raises(ClaimError, match="needs baseline=, the constant median's error on the"):
        record("mean", 0.5, cohort=REAL, n=10)
    record("mean", 0.5, cohort=REAL, n=10, baseline=0.6)
    assert take_pending()[0][0]["baseline"] == 0.6


def test_a_user_may_record_on_own_data(lab):
    record("mean", 0.5, cohort=SimpleNamespace(name="mine", synthetic=False), n=10)
    assert take_pending()[0][0]["cohort"] == "mine"


def test_recording_twice_is_an_error_in_a_run_only(lab, monkeypatch):
    record("mean", 0.4, cohort=REAL, n=10)
    record("mean", 0.5, cohort=REAL, n=10)
    assert [entry["value"] for entry, _ in take_pending()] == [0.5]
    monkeypatch.setenv("IAV_RUN", "run.json")
    record("mean", 0.4, cohort=REAL, n=10)
    record("mean", 0.4, cohort=SimpleNamespace(name="other", synthetic=False), n=10)
    with pytest.raises(ClaimError, match="already recorded on real"):
        record("mean", 0.5, cohort=REAL, n=10)


def test_outside_a_project_there_is_nothing_to_record_for(tmp_path_factory, monkeypatch):
    monkeypatch.delenv("IAV_PROJECT", raising=False)
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    monkeypatch.chdir(elsewhere)
    monkeypatch.setattr("iavlib.core.project._CLONE", elsewhere)
    with pytest.raises(ProjectError, match="is in no project"):
        record("mean", 0.5, cohort=REAL, n=10)
