from .cam import (
    BENIGN as BENIGN,
    CAM_METHODS as CAM_METHODS,
    CENTRED as CENTRED,
    LOWERS as LOWERS,
    MALIGNANT as MALIGNANT,
    RAISES as RAISES,
    FeatureLayer as FeatureLayer,
    Target as Target,
    cam_maps as cam_maps,
    capture as capture,
    displayed as displayed,
    enlarge as enlarge,
    find_layer as find_layer,
    find_targets as find_targets,
)
from .explainer import (
    METHODS as METHODS,
    WITHOUT_TARGET as WITHOUT_TARGET,
    Explained as Explained,
    Explainer as Explainer,
)
from .localisation import (
    BAND as BAND,
    REGIONS as REGIONS,
    OtherMaps as OtherMaps,
    Regions as Regions,
    attribution_ratios as attribution_ratios,
    grouped_table as grouped_table,
    half_area as half_area,
    make_regions as make_regions,
    measure as measure,
    read_regions as read_regions,
    usable_images as usable_images,
)
from .perturbation import (
    CELLS as CELLS,
    INTEGRATED as INTEGRATED,
    OCCLUSION as OCCLUSION,
    Curves as Curves,
    cell_order as cell_order,
    deletion_insertion as deletion_insertion,
    integrated_gradients as integrated_gradients,
    occlusion as occlusion,
)
from .sanity import (
    ALIKE as ALIKE,
    cascade as cascade,
    method_agreement as method_agreement,
    rank_correlation as rank_correlation,
    structural as structural,
)
