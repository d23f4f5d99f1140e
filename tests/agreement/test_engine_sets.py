"""Agreement of sets of masks, by hand and by its definition."""

from itertools import product

import numpy as np
import pytest
from engine_shapes import draw
from hypothesis import given, settings, strategies as st

from iavlib.masks import generalised_energy_distance, jaccard


def strip(start: int, stop: int) -> np.ndarray:
    mask = np.zeros((1, 12), bool)
    mask[0, start:stop] = True
    return mask


A, B, C, EMPTY = strip(0, 4), strip(0, 2), strip(6, 10), strip(0, 0)


@pytest.mark.parametrize(
    ("samples", "references", "expected"),
    [
        ([A], [A], 0),
        ([A], [C], 2),
        ([A], [B], 2 * 0.5),
        ([A, A], [A], 0),
        # E[d(S,Y)] = (0 + 1) / 2, E[d(Y,Y')] = (0 + 1 + 1 + 0) / 4: self-pairs count
        ([A], [A, C], 2 * 0.5 - 0 - 0.5),
        # d: A-A 0, A-B .5, C-A 1, C-B 1; within {A, C}: .5; within {A, B}: .25
        ([A, C], [A, B], 2 * 2.5 / 4 - 0.5 - 0.25),
        ([EMPTY], [EMPTY], 0),
        ([EMPTY], [A], 2),
        ([EMPTY, A], [EMPTY, A], 0),
    ],
)
def test_energy_distance_by_hand(samples, references, expected):
    assert generalised_energy_distance(samples, references) == pytest.approx(expected)
    assert generalised_energy_distance(references, samples) == pytest.approx(expected)


def random_sets(seed, n, m):
    rng = np.random.default_rng(seed)
    return [draw((9, 11), rng) for _ in range(n)], [draw((9, 11), rng) for _ in range(m)]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 4), st.integers(1, 4))
def test_energy_distance_by_definition(seed, n, m):
    samples, references = random_sets(seed, n, m)

    def mean(first, second):
        return np.mean([1 - jaccard(a, b) for a, b in product(first, second)])

    expected = 2 * mean(samples, references) - mean(samples, samples) - mean(references, references)
    found = generalised_energy_distance(np.array(samples), np.array(references))
    assert found == pytest.approx(max(expected, 0), abs=1e-12)
    assert 0 <= found <= 2
    assert generalised_energy_distance(samples, samples[::-1]) == pytest.approx(0, abs=1e-12)


def test_sets_that_are_none_are_refused():
    with pytest.raises(ValueError, match="at least one mask"):
        generalised_energy_distance([], [A])
    with pytest.raises(ValueError, match="one shape"):
        generalised_energy_distance([A], [np.ones((2, 2))])
