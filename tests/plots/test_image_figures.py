"""Pictures: outlines, overlays, maps of annotators, and a network's diagram."""

from types import SimpleNamespace

import numpy as np

from iavlib import plots

MASK = np.zeros((16, 16), bool)
MASK[4:12, 4:12] = True
WIDER = np.roll(MASK, 2, axis=1)


def test_outlines_are_stretched_to_the_published_size():
    picture = {
        "image": np.zeros((16, 16, 3), np.uint8),
        "masks": {"A1": MASK, "A2": WIDER, "empty": ~MASK & MASK},
        "title": "ISIC_1",
        "size": (32, 16),
    }
    first, second, *_ = plots.outlines([picture, picture | {"masks": {}}]).axes
    assert first.get_title() == "ISIC_1" and len(first.collections) == 2
    outline = first.collections[0].get_paths()[0].vertices
    assert outline[:, 0].min() > 6 and outline[:, 0].max() < 26  # columns 4 to 11 of 16, twice
    assert [text.get_text() for text in first.get_legend().get_texts()] == ["A1", "A2", "empty"]
    assert second.get_legend() is None and not second.collections
    assert "No image files" in plots.outlines([]).texts[0].get_text()


def test_overlays_show_outlines_and_mark_empty_maps():
    example = SimpleNamespace(
        image_id="ISIC_1",
        picture=np.zeros((16, 16, 3), np.uint8),
        maps={"lowers": np.zeros((16, 16)), "raises": np.linspace(0, 1, 256).reshape(16, 16)},
        masks=(MASK, WIDER),
        lesion=MASK | WIDER,
        disagreement=MASK ^ WIDER,
        predicted=0.8,
    )
    axes = plots.overlays([example, example]).axes
    assert len(axes) == 6
    assert "ISIC_1, predicted 0.80" in axes[0].get_title()
    assert axes[1].get_title() == "lowers" and axes[1].texts[0].get_text() == "empty"
    assert not axes[2].texts
    assert "No network" in plots.overlays([]).texts[0].get_text()


def test_annotators_maps_show_scores_and_missing_labels():
    given = np.stack([MASK.astype(float), np.full((16, 16), np.nan), MASK / 2])[None]
    predicted = np.repeat(MASK.astype(float)[None, None], 3, axis=1)
    scores = [lambda predicted, given: (predicted * given).sum() / MASK.sum()]
    figure = plots.annotator_maps(
        np.zeros((1, 16, 16, 1)), predicted, given, ["a", "b", "all"], scores
    )
    assert [ax.get_title() for ax in figure.axes] == ["picture", "a", "b", "all"]
    texts = [text.get_text() for ax in figure.axes for text in ax.texts]
    assert texts == ["1.00", "no label", "0.50"]


def test_the_network_is_drawn():
    texts = [text.get_text() for text in plots.confusion_architecture().axes[0].texts]
    assert "picture" in texts and any("A_r(x) p(x)" in text for text in texts)
