"""What networks look at, and whether that explains anything.

>>> from iavlib import explain, models
>>> network = models.load_network("runs/iaa/318e44f83673")  # doctest: +SKIP
>>> explainer = explain.Explainer(network, [explain.LOWERS], ["Grad-CAM"])  # doctest: +SKIP
>>> maps = explainer.explain(images).maps[explain.LOWERS, "Grad-CAM"]  # doctest: +SKIP

Attribution is made for a *target*: what lowers or what raises predicted agreement, what makes a
lesion malignant or benign. Maps are not scaled until they are shown.
"""

from iavlib.explain.cam import CAM_METHODS, CENTRED, cam_maps, capture, displayed, enlarge
from iavlib.explain.errors import ExplainError
from iavlib.explain.explainer import METHODS, WITHOUT_TARGET, Explained, Explainer
from iavlib.explain.faithfulness import CELLS, Curves, cell_order, deletion_insertion
from iavlib.explain.layers import FeatureLayer, find_layer
from iavlib.explain.localisation import (
    OtherMaps,
    attribution_ratios,
    grouped_table,
    half_area,
    measure,
)
from iavlib.explain.perturbation import INTEGRATED, OCCLUSION, integrated_gradients, occlusion
from iavlib.explain.regions import (
    BAND,
    REGIONS,
    Regions,
    make_regions,
    read_regions,
    usable_images,
)
from iavlib.explain.sanity import ALIKE, cascade, method_agreement, rank_correlation, structural
from iavlib.explain.targets import (
    BENIGN,
    LOWERS,
    MALIGNANT,
    RAISES,
    Target,
    find_targets,
)

__all__ = [
    "ALIKE",
    "BAND",
    "BENIGN",
    "CAM_METHODS",
    "CELLS",
    "CENTRED",
    "INTEGRATED",
    "LOWERS",
    "MALIGNANT",
    "METHODS",
    "OCCLUSION",
    "RAISES",
    "REGIONS",
    "WITHOUT_TARGET",
    "Curves",
    "ExplainError",
    "Explained",
    "Explainer",
    "FeatureLayer",
    "OtherMaps",
    "Regions",
    "Target",
    "attribution_ratios",
    "cam_maps",
    "capture",
    "cascade",
    "cell_order",
    "deletion_insertion",
    "displayed",
    "enlarge",
    "find_layer",
    "find_targets",
    "grouped_table",
    "half_area",
    "integrated_gradients",
    "make_regions",
    "measure",
    "method_agreement",
    "occlusion",
    "rank_correlation",
    "read_regions",
    "structural",
    "usable_images",
]
