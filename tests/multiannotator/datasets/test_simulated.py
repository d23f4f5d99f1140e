"""Simulated annotators: strengths as published, levels, seeds, several classes."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from iavlib.core.errors import LabelError
from iavlib.masks import class_dice
from iavlib.multiannotator import SimulatedAnnotator, random_annotators, simulate
from iavlib.multiannotator.simulation import (
    KINDS,
    between,
    border_distance,
    fractured,
    grown,
    shrunk,
)

maps = arrays(
    np.int8, st.tuples(st.integers(3, 14), st.integers(3, 14)), elements=st.integers(0, 2)
)
kinds = st.sampled_from(sorted(KINDS))


@pytest.fixture(scope="module")
def drawn(mnist):
    truth = (mnist > 0).astype(np.int8)
    names = ("good", "over", "under", "wrong", "blank")
    labels = simulate(truth, names, 2, seed=3, core=mnist > 127)
    masks = labels.transpose(1, 0, 2, 3).astype(bool)
    return truth.astype(bool), dict(zip(names, masks, strict=True))


def strengths(truth, mask):
    area = truth.sum(axis=(1, 2))
    common = (truth & mask).sum(axis=(1, 2))
    dice = 2 * common / (area + mask.sum(axis=(1, 2)))
    return (mask.sum(axis=(1, 2)) / area).mean(), dice.mean(), (common / area).mean()


@pytest.mark.data
@pytest.mark.parametrize(
    ("kind", "area", "dice", "recall"),
    [
        # Measured on the 100 examples that the confusion-matrix papers ship. The digits here are
        # others, and strengths depend on how thick the pen was: hence the margin.
        ("over", (2.05, 2.09), (0.65, 0.66), (1.0, 1.0)),
        ("under", (0.21, 0.21), (0.32, 0.34), (0.21, 0.21)),
        ("wrong", (1.36, 1.39), (0.66, 0.67), (0.78, 0.80)),
    ],
)
def test_strengths_on_real_digits_are_the_published_ones(drawn, kind, area, dice, recall):
    truth, masks = drawn
    measured = strengths(truth, masks[kind])
    for value, (low, high), margin in zip(
        measured, (area, dice, recall), (0.05, 0.05, 0.04), strict=True
    ):
        assert low - margin <= value <= high + margin, (kind, measured)


@pytest.mark.data
def test_wrong_lies_within_over_and_is_broken(drawn):
    truth, masks = drawn
    assert not (masks["wrong"] & ~masks["over"]).any()
    pieces = [ndimage.label(mask, np.ones((3, 3)))[1] for mask in masks["wrong"]]
    whole = [ndimage.label(mask, np.ones((3, 3)))[1] for mask in truth]
    assert 1.3 < np.mean(pieces) < 2.3 > np.mean(whole)
    assert np.mean(pieces) > np.mean(whole) + 0.3
    assert np.array_equal(masks["good"], truth)
    assert not masks["blank"].any()


@pytest.mark.data
def test_growing_and_shrinking_are_dilation_and_erosion_by_a_cross(mnist):
    for image in mnist[::40]:
        truth = image > 0
        assert np.array_equal(grown(truth, 2), ndimage.binary_dilation(truth, iterations=2))
        core = image > 127
        assert np.array_equal(shrunk(core, 1), ndimage.binary_erosion(core, border_value=1))


@settings(max_examples=60, deadline=None)
@given(maps, kinds, st.floats(0, 1), st.integers(0, 99))
def test_a_level_is_the_share_of_errors(truth, kind, level, seed):
    full = KINDS[kind](truth, 3, 0.7, np.random.default_rng(seed), truth)
    halfway = between(truth, full, level, np.random.default_rng(seed))
    assert (halfway != truth).sum() == round(level * (full != truth).sum())
    assert np.isin(halfway[halfway != truth], full[halfway != truth]).all()
    changed = (full != truth) & (halfway == truth)
    if changed.any() and (halfway != truth).any():
        depth = border_distance(truth)
        assert depth[halfway != truth].max() <= depth[changed].min()


@settings(max_examples=40, deadline=None)
@given(maps, kinds, st.integers(0, 99), st.floats(0.2, 0.9))
def test_levels_are_nested(truth, kind, seed, level):
    made = [
        simulate(truth[None], [SimulatedAnnotator("one", kind, share)], 3, seed=seed)[0, 0]
        for share in (level / 2, level, 1.0)
    ]
    errors = [one != truth for one in made]
    assert not (errors[0] & ~errors[1]).any()
    assert not (errors[1] & ~errors[2]).any()


@settings(max_examples=40, deadline=None)
@given(maps, st.floats(0.5, 4))
def test_directions(truth, radius):
    larger, smaller = grown(truth, radius), shrunk(truth, radius)
    assert np.array_equal(larger[truth > 0], truth[truth > 0])
    assert np.isin(np.unique(larger), np.unique(truth)).all()
    assert ((smaller == truth) | (smaller == 0)).all()
    broken = fractured(truth, 2, radius, np.random.default_rng(0))
    assert ((broken == truth) | (broken == 0)).all()
    # A gap takes at least the pixel it goes through.
    if truth.any() and not (truth > 0).all():
        assert (broken != truth).any()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.integers(2, 12))
def test_what_is_drawn_depends_on_seed_name_and_picture_alone(seed, n):
    truth = np.zeros((n, 20, 20), np.int8)
    truth[:, 5:15, 8:13] = 1
    ids = [f"p{k}" for k in range(n)]
    some = [SimulatedAnnotator("w", "wrong"), SimulatedAnnotator("o", "over", 0.4)]
    labels = simulate(truth, some, 2, ids, seed)
    again = simulate(truth[::-1], [some[1], some[0]], 2, ids[::-1], seed)[::-1, ::-1]
    assert np.array_equal(labels, again)
    other = simulate(truth, some, 2, ids, seed + 1)
    assert n < 8 or not np.array_equal(labels[:, 0], other[:, 0])


def test_strength_grows_with_the_picture():
    truth = np.zeros((1, 112, 112), np.int8)
    truth[0, 50:62, 50:62] = 1
    large = simulate(truth, ["over"], 2)[0, 0]
    assert np.flatnonzero(large.any(axis=0)).tolist() == list(range(42, 70))
    assert np.array_equal(simulate(truth, ["over"], 2, unit=1)[0, 0], grown(truth[0], 2))


def test_several_classes():
    truth = np.zeros((12, 12), np.int8)
    truth[3:9, 2:5], truth[3:9, 5:8], truth[3:6, 9:11] = 1, 2, 3
    over, under, swap = simulate(truth[None], ["over", "under", "swap"], 4, unit=1)[0]
    assert np.array_equal(over[truth > 0], truth[truth > 0])
    assert over[4, 1] == 1
    assert over[8, 8] == 2
    assert under[5, 4] == 0, "the border between two classes is shrunk on both sides"
    assert under[5, 3] == 1
    assert [swap[4, 3], swap[4, 6], swap[4, 9], swap[0, 0]] == [2, 3, 1, 0]


@pytest.mark.data
def test_the_vote_errs_as_in_the_paper_at_the_published_strength(mnist):
    some = mnist[::10]
    truth = (some > 0).astype(np.int8)
    kinds = ("good", "over", "under", "wrong", "blank")
    vote = {}
    for strength in ("examples", "published"):
        labels = simulate(truth, kinds, 2, core=some > 127, strength=strength)
        vote[strength] = class_dice(((labels == 1).sum(1) >= 3).astype(int), truth, 2).mean()
    assert vote["examples"] > 0.9
    # Table 1: 58.5 of the vote, 62.9 of a network that learns it
    assert 0.555 < vote["published"] < 0.66


def test_what_the_published_strength_changes():
    truth, core = np.zeros((1, 9, 9), np.int8), np.zeros((1, 9, 9), bool)
    truth[0, 1:8, 1:8], core[0, 2:7, 2:7] = 1, True
    drawn = simulate(truth, ["good", "over", "under"], 2, unit=1, core=core, strength="published")
    assert (drawn[0, 0] == core[0]).all()
    assert drawn[0, 1].sum() == 81 and drawn[0, 2].sum() == 9
    assert (simulate(truth, ["good"], 2, unit=1, core=core)[0, 0] == truth[0]).all()
    # without a core, the truth itself
    assert (simulate(truth, ["good"], 2, strength="published")[0, 0] == truth[0]).all()


def test_pictures_that_are_empty_or_full():
    for truth in (np.zeros((1, 9, 9), np.int8), np.ones((1, 9, 9), np.int8)):
        labels = simulate(truth, ["good", "over", "under", "wrong", "blank"], 2, level=0.5)
        assert labels.shape == (1, 5, 9, 9)
        assert np.array_equal(labels[:, 0], truth)
    assert not simulate(np.ones((1, 9, 9), np.int8), ["blank"], 2).any()
    assert (simulate(np.ones((1, 9, 9), np.int8), ["blank"], 2, level=0.5) == 1).sum() in (40, 41)


def test_a_random_annotators():
    many = random_annotators(15, seed=1)
    assert len({one.name for one in many}) == 15
    assert {one.kind for one in many} == {"good", "over", "under", "wrong"}
    assert random_annotators(15, seed=1) == many != random_annotators(15, seed=2)


@pytest.mark.parametrize(
    ("what", "told"),
    [
        (lambda: SimulatedAnnotator("x", "sloppy"), "no kind 'sloppy'"),
        (lambda: SimulatedAnnotator("x", "over", 1.5), "not within"),
        (lambda: simulate(np.zeros((1, 4, 4), int), ["over", "over"], 2), "name of its own"),
        (lambda: simulate(np.zeros((1, 4, 4), int), [], 2), "at least one"),
        (lambda: simulate(np.full((1, 4, 4), 2), ["over"], 2), "2 are declared"),
        (lambda: simulate(np.zeros((1, 4, 4), int), ["swap"], 2), "at least three classes"),
        (
            lambda: simulate(np.zeros((1, 4, 4), int), ["over"], 2, strength="weak"),
            "strength 'weak'",
        ),
    ],
)
def test_what_makes_no_sense_is_told(what, told):
    with pytest.raises(LabelError, match=told):
        what()
