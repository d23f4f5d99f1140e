"""Does CM find how often each annotator of invented lesions errs, in both directions?"""

import numpy as np
import pytest

from iavlib.data import load
from iavlib.multiannotator import (
    fit,
    make_method,
    random_annotators,
    rate_correlations,
    simulated_on,
    true_confusion,
)
from iavlib.multiannotator.scores import Scorer
from iavlib.training.recipe import get_recipe

ENOUGH = 0.8


@pytest.mark.thorough
def test_learnt_error_rates_go_with_the_true_ones():
    lesions = load("phantom", n_images=100)
    labelled = simulated_on(lesions, 32, random_annotators(8, 0), truth="first")
    recipe = get_recipe("annotators", epochs=24, augmentation="flips", batch_size=8)
    # few pictures make few steps: the first phase has to last until matrices have settled
    method = make_method("cm", trace_warmup=16, widths=(8, 16, 32))
    fitted = fit(method, labelled.subset("train"), recipe, 0)
    test = labelled.subset("test")
    scorer = Scorer(test)
    for batch in fitted.predict_batches(test):
        scorer.add(batch)
    _, scores, learnt = scorer.result()
    true = true_confusion(test).overall
    found = rate_correlations(learnt, true, labelled.annotators)
    assert min(found.values()) >= ENOUGH
    assert scores["dice"] > 0.85, "else rates would be those of something else than the lesion"
    nothing_learnt = np.broadcast_to(np.eye(2), true.shape)
    of_identity = rate_correlations(nothing_learnt, true, labelled.annotators)
    assert not any(value >= ENOUGH for value in of_identity.values())
