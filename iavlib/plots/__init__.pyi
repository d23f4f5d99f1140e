from .distributions import (
    annotator_overlap as annotator_overlap,
    completeness as completeness,
    count_bars as count_bars,
    histograms as histograms,
    predicted_against_true as predicted_against_true,
    residuals as residuals,
)
from .forests import (
    forest as forest,
    methods_compared as methods_compared,
    specification_curve as specification_curve,
)
from .images import (
    annotator_maps as annotator_maps,
    confusion_architecture as confusion_architecture,
    outlines as outlines,
    overlays as overlays,
)
from .lines import (
    agreement_reliability as agreement_reliability,
    cascade_lines as cascade_lines,
    curves as curves,
    dominance_curves as dominance_curves,
    roc as roc,
    triage_curves as triage_curves,
)
from .matrices import (
    agreement_matrix as agreement_matrix,
    confusion_maps as confusion_maps,
    dice_matrices as dice_matrices,
    factor_heatmaps as factor_heatmaps,
)
from .style import (
    format_table as format_table,
    use_style as use_style,
)
