from .cohort_sets import (
    from_cohort as from_cohort,
    majority_labels as majority_labels,
    simulated_on as simulated_on,
)
from .confusion import (
    TrueConfusion as TrueConfusion,
    confusion_counts as confusion_counts,
    error_rates as error_rates,
    pixel_confusion as pixel_confusion,
    true_confusion as true_confusion,
)
from .dataset import (
    MISSING as MISSING,
    MultiAnnotatorSet as MultiAnnotatorSet,
)
from .expertness import (
    GENERATORS as GENERATORS,
    fuse_by_expertness as fuse_by_expertness,
    high_frequency_energy as high_frequency_energy,
    optimise_expertness as optimise_expertness,
)
from .fitting import (
    FittedMethod as FittedMethod,
    fit as fit,
    load_method as load_method,
    save_method as save_method,
)
from .fusion import (
    expectation_maximisation as expectation_maximisation,
    fuse as fuse,
)
from .method import (
    METHODS as METHODS,
    Method as Method,
    Outputs as Outputs,
    Problem as Problem,
    make_method as make_method,
    register as register,
)
from .metrics import (
    Ranking as Ranking,
    Reliability as Reliability,
    class_dice as class_dice,
    confusion_error as confusion_error,
    confusion_error_released as confusion_error_released,
    dice_matrix as dice_matrix,
    incompetence as incompetence,
    mean_dice as mean_dice,
    rank_annotators as rank_annotators,
    rate_correlations as rate_correlations,
    reliability as reliability,
)
from .prediction import (
    Prediction as Prediction,
)
from .scores import (
    fusion_scores as fusion_scores,
    image_scores as image_scores,
    overall_scores as overall_scores,
)
from .simulation import (
    MULTI_CLASS_ANNOTATORS as MULTI_CLASS_ANNOTATORS,
    PAPER_ANNOTATORS as PAPER_ANNOTATORS,
    SimulatedAnnotator as SimulatedAnnotator,
    crowd as crowd,
    digits as digits,
    simulate as simulate,
)
