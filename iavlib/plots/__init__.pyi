from .annotators import (
    agreement_reliability as agreement_reliability,
    annotator_pictures as annotator_pictures,
    confusion_architecture as confusion_architecture,
    confusion_pictures as confusion_pictures,
    curves as curves,
    dice_matrices as dice_matrices,
    rates_learnt_against_true as rates_learnt_against_true,
)
from .association import (
    by_malignancy as by_malignancy,
    dominance_curves as dominance_curves,
    factor_heatmaps as factor_heatmaps,
    forest as forest,
)
from .dataset import (
    annotator_overlap as annotator_overlap,
    completeness as completeness,
    examples_by_agreement as examples_by_agreement,
    long_tails as long_tails,
    masks_per_image as masks_per_image,
    metric_distributions as metric_distributions,
    outlines as outlines,
)
from .diagnosis import (
    alpha_ablation as alpha_ablation,
    expertness_pictures as expertness_pictures,
    gain_forest as gain_forest,
    intervals as intervals,
    methods_compared as methods_compared,
    paired_runs as paired_runs,
    reliability as reliability,
    roc as roc,
    subgroup_forest as subgroup_forest,
    training_size_curves as training_size_curves,
)
from .explanations import (
    agreement_matrix as agreement_matrix,
    attribution_forest as attribution_forest,
    cascade_lines as cascade_lines,
    gain_bars as gain_bars,
    overlays as overlays,
)
from .prediction import (
    coverage_and_width as coverage_and_width,
    learning_curve as learning_curve,
    model_forest as model_forest,
    predicted_against_true as predicted_against_true,
    prediction_densities as prediction_densities,
    residuals as residuals,
    triage_curves as triage_curves,
)
from .style import (
    format_table as format_table,
    use_style as use_style,
)
