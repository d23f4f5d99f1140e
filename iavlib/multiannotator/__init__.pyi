from .cohort_sets import from_cohort as from_cohort, simulated_on as simulated_on
from .confusion import (
    Ranking as Ranking,
    TrueConfusion as TrueConfusion,
    confusion_counts as confusion_counts,
    confusion_error as confusion_error,
    error_rates as error_rates,
    incompetence as incompetence,
    rank_by_competence as rank_by_competence,
    rate_correlations as rate_correlations,
    true_confusion as true_confusion,
)
from .dataset import MISSING as MISSING, MultiAnnotatorSet as MultiAnnotatorSet
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
    parameter_counts as parameter_counts,
    save_method as save_method,
)
from .fusion import (
    expectation_maximisation as expectation_maximisation,
    fuse as fuse,
    majority_labels as majority_labels,
)
from .method import Method as Method, Outputs as Outputs, Problem as Problem
from .methods import METHODS as METHODS, make_method as make_method, register as register
from .prediction import Prediction as Prediction
from .scores import (
    Reliability as Reliability,
    dice_matrix as dice_matrix,
    fusion_scores as fusion_scores,
    image_scores as image_scores,
    reliability as reliability,
)
from .simulation import (
    MULTI_CLASS_ANNOTATORS as MULTI_CLASS_ANNOTATORS,
    PAPER_ANNOTATORS as PAPER_ANNOTATORS,
    SimulatedAnnotator as SimulatedAnnotator,
    random_annotators as random_annotators,
    simulate as simulate,
    simulated_mnist as simulated_mnist,
)
