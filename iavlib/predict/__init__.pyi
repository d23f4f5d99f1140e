from . import triage as triage
from .model import (
    Ensemble as Ensemble,
    Predictor as Predictor,
    calibrate as calibrate,
    load_predictor as load_predictor,
    make_ensemble as make_ensemble,
)
from .ood import (
    OodReference as OodReference,
    load_ood_reference as load_ood_reference,
    make_ood_reference as make_ood_reference,
)
from .run import PredictOptions as PredictOptions, predict_images as predict_images
