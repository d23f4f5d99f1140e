"""Majority vote, STAPLE and their like, on arrays and on files."""

import itertools
import tracemalloc

import numpy as np
import pandas as pd
import pytest
import SimpleITK
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays

from iavlib.agreement import write_consensus
from iavlib.core.errors import DataError
from iavlib.data.images import read_mask
from iavlib.masks import majority_vote, mean_map, random_annotator, staple

A, B, C = (np.zeros((60, 80), bool) for _ in range(3))
A[10:30, 10:30] = B[15:35, 15:35] = C[40:50, 50:60] = True
INNER, NONE, ALL = np.zeros_like(A), np.zeros_like(A), np.ones_like(A)
INNER[12:28, 12:28] = True


def stacks(least: int = 2):
    shapes = st.tuples(st.integers(least, 5), st.integers(1, 6), st.integers(1, 6))
    return shapes.flatmap(lambda shape: arrays(bool, shape))


def expectation_maximisation(stack: np.ndarray) -> np.ndarray:
    """STAPLE over the patterns of decisions instead of the pixels: its own road to the answer."""
    n = len(stack)
    code = (stack * (1 << np.arange(n))[:, None, None]).sum(axis=0)
    patterns, place, count = np.unique(code, return_inverse=True, return_counts=True)
    marked = (patterns >> np.arange(n)[:, None]) & 1
    weight = marked.mean(axis=0)
    prior = (weight * count).sum() / count.sum()
    for _ in range(3000):
        p = (marked * weight * count).sum(axis=1) / (weight * count).sum()
        q = ((1 - marked) * (1 - weight) * count).sum(axis=1) / ((1 - weight) * count).sum()
        rates = p[:, None], q[:, None]
        inside = prior * np.where(marked, rates[0], 1 - rates[0]).prod(axis=0)
        outside = (1 - prior) * np.where(marked, 1 - rates[1], rates[1]).prod(axis=0)
        weight = inside / (inside + outside)
    return weight[place].reshape(code.shape), p, q


def noisy(rng, rates=((0.9, 0.98), (0.8, 0.95), (0.95, 0.9), (0.7, 0.99))):
    truth = np.zeros((40, 50), bool)
    truth[10:30, 10:40] = True
    return truth, [
        np.where(truth, rng.random(truth.shape) < p, rng.random(truth.shape) > q) for p, q in rates
    ]


# --- votes ---------------------------------------------------------------------------------------


def test_majority_of_three():
    expected = (A & B) | (A & INNER) | (B & INNER)
    assert np.array_equal(majority_vote([A, B, INNER]), expected)
    assert np.array_equal(majority_vote([A, B, INNER], ties="background"), expected)


def test_ties_of_two_are_the_union_or_the_intersection():
    assert np.array_equal(majority_vote([A, B]), A | B)
    assert np.array_equal(majority_vote([A, B], ties="background"), A & B)


def test_mean_map_counts_votes():
    share = mean_map([A, B, INNER])
    assert share[20, 20] == 1
    assert share[11, 11] == pytest.approx(1 / 3)
    assert share[0, 0] == 0
    assert np.array_equal(mean_map([A]), A)


def test_random_annotator_is_seeded_and_fair():
    draws = [random_annotator([A, B, C], seed)[1] for seed in range(600)]
    assert np.bincount(draws) / 600 == pytest.approx([1 / 3] * 3, abs=0.06)
    assert draws == [random_annotator([A, B, C], seed)[1] for seed in range(600)]
    mask, index = random_annotator([A, B, C], np.random.default_rng(3))
    assert np.array_equal(mask, [A, B, C][index])


# --- STAPLE --------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("n", [3, 4])
def test_staple_is_the_em_of_the_paper(seed, n):
    _, masks = noisy(np.random.default_rng(seed))
    result = staple(masks[:n])
    probability, sensitivity, specificity = expectation_maximisation(np.stack(masks[:n]))
    assert np.abs(result.probability - probability).max() < 1e-5
    assert result.sensitivity == pytest.approx(sensitivity, abs=1e-6)
    assert result.specificity == pytest.approx(specificity, abs=1e-6)
    assert result.prior == pytest.approx(np.mean(masks[:n]))
    assert np.array_equal(result.mask, result.probability > 0.5)
    assert result.warnings == ()


@pytest.mark.parametrize("n", [2, 3, 5, 14])
@pytest.mark.parametrize("limit", [1, 7, 400])
def test_staple_is_simpleitks(n, limit):
    for seed in range(4):
        rng = np.random.default_rng(seed)
        _, masks = noisy(rng, rng.uniform(0.6, 0.99, (n, 2)))
        images = [SimpleITK.GetImageFromArray(mask.astype(np.uint8)) for mask in masks]
        other = SimpleITK.STAPLEImageFilter()
        other.SetForegroundValue(1)
        other.SetMaximumIterations(limit)
        probability = SimpleITK.GetArrayFromImage(other.Execute(images))
        result = staple(masks, max_iterations=limit)
        assert np.abs(result.probability - probability).max() < 1e-9
        assert result.sensitivity == pytest.approx(other.GetSensitivity(), abs=1e-9)
        assert result.specificity == pytest.approx(other.GetSpecificity(), abs=1e-9)
        assert result.iterations == other.GetElapsedIterations()


def test_staple_finds_the_rates_that_made_the_masks():
    rates = ((0.9, 0.98), (0.8, 0.95), (0.95, 0.9), (0.7, 0.99), (0.85, 0.97))
    truth, masks = noisy(np.random.default_rng(0), rates)
    result = staple(masks)
    assert result.sensitivity == pytest.approx([p for p, _ in rates], abs=0.06)
    assert result.specificity == pytest.approx([q for _, q in rates], abs=0.02)
    assert (result.mask != truth).mean() < (majority_vote(masks) != truth).mean()


@given(stacks(least=3), st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_staple_does_not_mind_the_order(stack, random):
    order = list(range(len(stack)))
    random.shuffle(order)
    one, other = staple(stack, max_iterations=50), staple(stack[order], max_iterations=50)
    assert other.probability == pytest.approx(one.probability, abs=1e-6)
    assert other.sensitivity == pytest.approx(one.sensitivity[order], abs=1e-6, nan_ok=True)


# Areas of the two masks of an image, their intersection, the image, and the Jaccard index of the
# published STAPLE mask with each of them. From IMAplusplus_multiannotator_subset_IAA_metrics.csv
# (areas follow from one mask's file and the published Jaccard indices with the union); for
# STAPLE only the number of pixels of each kind matters, not where they are.
PUBLISHED = {
    "ISIC_0000004": (229562, 270416, 226871, (767, 1022), 0.988278, 0.838970),
    "ISIC_0000024": (308866, 565139, 308554, (1129, 1504), 0.998990, 0.545979),
    "ISIC_0000049": (794845, 1113674, 791295, (1129, 1504), 0.711446, 0.996822),
    # nested: rounding took the smaller mask once and the larger once
    "ISIC_0000037": (573004, 729776, 573004, (1129, 1504), 1.0, 0.785178),
    "ISIC_0000047": (366857, 419095, 366857, (1129, 1504), 0.875355, 1.0),
}


def two_masks(area_1: int, area_2: int, common: int, shape) -> np.ndarray:
    """Masks with these areas, laid out pixel by pixel."""
    flat = np.zeros((2, shape[0] * shape[1]), bool)
    flat[0, :area_1] = True
    flat[1, area_1 - common : area_1 - common + area_2] = True
    return flat.reshape(2, *shape)


def jaccard(a, b) -> float:
    return np.count_nonzero(a & b) / np.count_nonzero(a | b)


@pytest.mark.parametrize("image_id", PUBLISHED)
def test_staple_masks_as_published(image_id):
    *areas, shape, first, second = PUBLISHED[image_id]
    masks = two_masks(*areas, shape)
    result = staple(masks)
    assert jaccard(result.mask, masks[0]) == pytest.approx(first, abs=1e-6)
    assert jaccard(result.mask, masks[1]) == pytest.approx(second, abs=1e-6)
    nested = areas[2] == min(areas[:2])
    assert any("nested" in told for told in result.warnings) == nested


def test_the_empty_staple_mask_of_the_release():
    """ISIC_0013567, one pixel for 50: two masks that hardly overlap leave nothing."""
    result = staple(two_masks(976, 10109, 21, (403, 606)))
    assert not result.mask.any()
    assert "the consensus is empty though not all masks are" in result.warnings


def test_majority_vote_of_two_in_the_published_table(images_with_two):
    """The union: J(MV, A) + J(MV, B) = 1 + J(A, B), in all 2,130 images with two masks."""
    assert len(images_with_two) == 2130
    table = images_with_two
    residual = table["MV_1"] + table["MV_2"] - 1 - table["jaccard"]
    assert residual.abs().max() < 1e-12


def test_staple_of_two_in_the_published_table(images_with_two):
    """What the warnings say: of nested or disjoint masks STAPLE returns one, as it is."""
    table = images_with_two
    one_of_them = (table["ST_1"] == 1) | (table["ST_2"] == 1)
    nested = (table["MV_1"] == 1) | (table["MV_2"] == 1)
    assert nested.sum() == 463
    assert one_of_them[nested].all()
    larger = table["ST_1"].eq(1) == table["MV_1"].eq(1)
    assert larger[nested].sum() == 187
    disjoint = table["jaccard"] == 0
    assert disjoint.sum() == 23
    assert (table["ST_1"].eq(1) == (table["MV_1"] > table["MV_2"]))[disjoint].all()


def test_staple_masks_of_small_images_as_published(images_with_two):
    here = images_with_two[["path_1", "path_2"]].notna().any(axis=1)
    small = images_with_two["width"] * images_with_two["height"] < 1.7e6
    table = images_with_two[here & small].head(6)
    assert len(table)
    for row in table.itertuples():
        path, share = (
            (row.path_1, row.MV_1) if isinstance(row.path_1, str) else (row.path_2, row.MV_2)
        )
        union = np.count_nonzero(read_mask(path)) / share
        counts = [round(union * share) for share in (row.MV_1, row.MV_2, row.jaccard)]
        pair = two_masks(*counts, (row.height, row.width))
        result = staple(pair).mask
        assert jaccard(result, pair[0]) == pytest.approx(row.ST_1, abs=1e-9), row.image_id
        assert jaccard(result, pair[1]) == pytest.approx(row.ST_2, abs=1e-9), row.image_id


@pytest.fixture(scope="module")
def images_with_two(imapp_home):
    """One row an image with two masks: their Jaccard index, and that of MV and ST with each."""
    from iavlib.data.datasets import imapp

    cohort = imapp.load(imapp_home / "imapp")
    consensus = cohort.extras["consensus_pairs"]
    pairs = cohort.pairs[~cohort.pairs["image_id"].duplicated(keep=False)]
    for kind, side in itertools.product(("MV", "ST"), (1, 2)):
        # of each pair with this consensus mask: the annotator's mask
        first = consensus[consensus["annotator_1"].eq(kind)].set_index("mask_2")["jaccard"]
        second = consensus[consensus["annotator_2"].eq(kind)].set_index("mask_1")["jaccard"]
        value = pd.concat([first, second])
        value = value[value.index.isin(cohort.masks.index)]
        pairs = pairs.assign(**{f"{kind}_{side}": pairs[f"mask_{side}"].map(value)})
    for side in (1, 2):
        pairs = pairs.assign(**{f"path_{side}": pairs[f"mask_{side}"].map(cohort.masks["path"])})
    return pairs.join(cohort.images[["width", "height"]], on="image_id")


# --- what STAPLE cannot do -----------------------------------------------------------------------


def told(masks, **options) -> str:
    return "; ".join(staple(masks, **options).warnings)


def test_two_masks_are_always_doubtful():
    assert "two masks cannot identify four rates" in told([A, B])
    assert "nested" not in told([A, B])


def test_nested_masks_stay_at_one_half():
    result = staple([A, INNER])
    assert result.probability[A & ~INNER] == pytest.approx(0.5, abs=1e-12)
    assert "nested" in told([A, INNER])
    assert f"{np.count_nonzero(A & ~INNER)} pixels have probability 1/2" in told([A, INNER])


def test_of_disjoint_masks_the_larger_is_kept():
    result = staple([A, C])
    assert np.array_equal(result.mask, A)
    assert "the masks are disjoint" in result.warnings
    assert "taken as wrong wherever the truth is: mask 2" in result.warnings
    assert "rater b" in told([A, C], names=["rater a", "rater b"])


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("gap", [0, 3])
def test_of_disjoint_masks_of_one_size_none_is_kept(axis, gap):
    """As the page on errata states."""
    first = np.zeros((20, 20), bool)
    first[4:7, 4:7] = True
    result = staple([first, np.roll(first, 3 + gap, axis)])
    assert not result.mask.any()
    assert "the masks are disjoint" in result.warnings


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        ([A, NONE], "mask 2 is empty"),
        ([ALL, A], "mask 1 covers the whole image"),
        ([A, NONE, NONE], "the consensus is empty though not all masks are"),
    ],
)
def test_empty_and_full_masks_are_told(masks, message):
    assert message in staple(masks).warnings


@pytest.mark.parametrize("mask", [A, NONE, ALL], ids=["equal", "empty", "full"])
@pytest.mark.parametrize("n", [2, 3])
def test_unanimous_masks_come_back_as_they_are(mask, n):
    result = staple([mask] * n)
    assert np.array_equal(result.mask, mask)
    assert np.array_equal(result.probability, mask.astype(float))
    assert len(result.warnings) == 1
    assert "nothing to estimate" in result.warnings[0]
    assert np.isnan(result.sensitivity).all() == (not mask.any())
    assert np.isnan(result.specificity).all() == mask.all()


def test_stopping_early_is_told():
    assert "stopped after 5 iterations, not converged" in told([A, C], max_iterations=5)


# --- bad input -----------------------------------------------------------------------------------

HOLEY = A.astype(float)
HOLEY[3, 4] = np.nan
BAD = {
    "no mask": ([], "at least 2 are needed"),
    "one mask": ([A], "at least 2 are needed"),
    "sizes": ([A, B[:, :-1]], "mask 2: 79x60 pixels, but mask 1 of the same image has 80x60"),
    "NaN": ([A, HOLEY], "mask 2: 1 pixels are NaN"),
    "grey": ([A, np.where(B, 255, 0) + INNER], "mask 2: not binary"),
    "probability": ([A * 0.3 + B * 0.2, A], "mask 1: not binary"),
    "negative": ([A, -1 * B], "mask 2: negative values"),
    "colour": ([A, np.dstack([B] * 3)], r"mask 2: an array of shape \(60, 80, 3\)"),
    "no pixels": ([A[:0], B[:0]], r"shape \(0, 80\)"),
    "text": ([A, A.astype(str)], "mask 2: values of type"),
}


@pytest.mark.parametrize("function", [majority_vote, staple])
@pytest.mark.parametrize("case", BAD)
def test_bad_masks_are_named(function, case):
    masks, message = BAD[case]
    with pytest.raises(DataError, match=message):
        function(masks)


@pytest.mark.parametrize("function", [mean_map, lambda m: random_annotator(m, 0)])
def test_even_one_mask_can_be_averaged_but_not_none(function):
    with pytest.raises(DataError, match="at least 1 are needed"):
        function([])


@pytest.mark.parametrize("inside", [1, 255, 1.0, 65535])
def test_any_one_value_may_mean_inside(inside):
    assert np.array_equal(majority_vote([A * inside, B]), A | B)


def test_settings_that_make_no_sense():
    with pytest.raises(ValueError, match="ties"):
        majority_vote([A, B], ties="union")
    with pytest.raises(ValueError, match="max_iterations"):
        staple([A, B], max_iterations=0)
    with pytest.raises(ValueError, match="1 names for 2 masks"):
        staple([A, B], names=["only one"])


# --- files ---------------------------------------------------------------------------------------


def test_consensus_files_have_the_names_of_the_images(make_cohort, tmp_path):
    cohort = make_cohort(
        {"I1": {"x": A, "y": B, "z": INNER}, "I2": {"x": A}, "I3": {"x": A, "y": C}}
    )
    table = write_consensus(cohort, tmp_path / "out")
    methods = ("majority", "staple", "mean")
    names = [f"{i}_{m}.png" for i in ("I1", "I3") for m in methods]
    assert table.index.tolist() == names
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == sorted(names)
    assert np.array_equal(read_mask(table["path"].iloc[0]), majority_vote([A, B, INNER]))
    assert np.array_equal(read_mask(table["path"].iloc[1]), staple([A, B, INNER]).mask)
    assert table["problem"].isna().all()
    assert table["n_masks"].tolist() == [3, 3, 3, 2, 2, 2]
    assert table["method"].tolist() == [*methods] * 2
    row = table.loc["I3_staple.png"]
    assert "the masks are disjoint" in row["warnings"]
    assert row["masks"] == ("I3_x_T1_S1_0.png", "I3_y_T1_S1_1.png")
    assert row["sensitivity"] == pytest.approx(staple([A, C]).sensitivity, abs=1e-6)


def test_pixels_are_0_and_255(make_cohort, tmp_path):
    from PIL import Image

    table = write_consensus(make_cohort({"I1": {"x": A, "y": B}}), tmp_path / "out", ("majority",))
    with Image.open(table["path"].iloc[0]) as image:
        assert image.mode == "L"
        assert set(image.get_flattened_data()) == {0, 255}


def test_one_bad_image_does_not_stop_the_rest(make_cohort, tmp_path):
    cohort = make_cohort(
        {
            "gone": {"x": A, "y": None},
            "broken": {"x": A, "y": b"\x89PNG\r\n\x1a\n cut off"},
            "sizes": {"x": A, "y": B[:-1]},
            "a/b": {"x": A, "y": B},
            "fine": {"x": A, "y": B},
        }
    )
    table = write_consensus(cohort, tmp_path / "out", ("majority",)).set_index("image_id")
    assert "there is no file" in table["problem"]["gone"]
    assert "no readable" in table["problem"]["broken"]
    assert "80x59 pixels" in table["problem"]["sizes"]
    assert table["hint"][:3].str.len().min() > 5
    assert table["path"].notna().tolist() == [False] * 3 + [True] * 2
    written = sorted(p.relative_to(tmp_path / "out") for p in (tmp_path / "out").rglob("*.png"))
    assert [p.as_posix() for p in written] == ["a/b_majority.png", "fine_majority.png"]


def test_a_failed_write_leaves_the_old_file(make_cohort, tmp_path, monkeypatch):
    out = tmp_path / "out"
    first = write_consensus(make_cohort({"I1": {"x": A, "y": B}}), out, ("majority",))
    before = (out / first.index[0]).read_bytes()

    def full(*_):
        raise OSError(28, "no space left on device")

    monkeypatch.setattr("os.replace", full)
    table = write_consensus(make_cohort({"I1": {"x": A, "y": C}}), out, ("majority",))
    assert "no space left" in table["problem"].iloc[0]
    assert (out / first.index[0]).read_bytes() == before
    assert len(list(out.iterdir())) == 1


def test_several_processes_write_the_same(make_cohort, tmp_path):
    cohort = make_cohort({f"I{k}": {"x": np.roll(A, k), "y": B, "z": C} for k in range(6)})
    methods = ("majority", "staple", "spatial", "mean", "random")
    one = write_consensus(cohort, tmp_path / "one", methods, seed=4, processes=1)
    two = write_consensus(cohort, tmp_path / "two", methods, seed=4, processes=2)
    assert one.drop(columns="path").equals(two.drop(columns="path"))
    for name in one.index:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_the_random_annotator_of_an_image_depends_on_seed_and_image_only(make_cohort, tmp_path):
    drawn = {f"I{k}": {"x": A, "y": B, "z": C} for k in range(8)}
    out = tmp_path / "out"
    whole = write_consensus(make_cohort(drawn), out, ("random",), seed=1)["masks"]
    subset = write_consensus(make_cohort({"I5": drawn["I5"]}), out, ("random",), seed=1)["masks"]
    other = write_consensus(make_cohort(drawn), out, ("random",), seed=2)["masks"]
    assert subset.iloc[0] == whole[subset.index[0]]
    assert len({name[0][3] for name in whole}) > 1
    assert not whole.equals(other)


def test_write_consensus_settings(make_cohort, tmp_path):
    cohort = make_cohort({"I1": {"x": A, "y": B}})
    with pytest.raises(ValueError, match="methods must be some of majority, staple"):
        write_consensus(cohort, tmp_path, ("majority", "XX"))
    with pytest.raises(ValueError, match="ties"):
        write_consensus(cohort, tmp_path, ties="none")
    assert write_consensus(make_cohort({"I1": {"x": A}}), tmp_path).empty


@pytest.mark.parametrize("n", [3, 8, 9, 13])
def test_many_masks_take_little_memory(n):
    """With up to twelve masks patterns are counted in a table, beyond that sorted."""
    rng = np.random.default_rng(n)
    rows, columns = np.mgrid[:300, :300]
    centres = rng.normal(150, 6, (n, 2))
    stack = np.stack([np.hypot(rows - r, columns - c) < 60 for r, c in centres])
    tracemalloc.start()
    result = staple(stack)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    if n <= 12:  # bytes per pixel beside the masks; the probabilities alone would take eight
        assert peak < 8 * result.mask.size + (1 << 20)
    majority = majority_vote(stack)
    assert np.count_nonzero(result.mask != majority) < 0.02 * majority.size
    levels = dict(zip(result.patterns.ravel(), result.probability.ravel(), strict=True))
    for pattern, level in levels.items():
        assert (result.probability[result.patterns == pattern] == level).all()
    assert np.array_equal(result.mask, result.probability > 0.5)
