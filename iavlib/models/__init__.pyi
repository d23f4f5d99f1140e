from .assisted import (
    NETS as NETS,
    TakeGive as TakeGive,
    block_names as block_names,
    build_assisted as build_assisted,
    build_encoder as build_encoder,
)
from .backbones import (
    PAPER_BACKBONES as PAPER_BACKBONES,
    Backbone as Backbone,
    find_backbone as find_backbone,
)
from .heads import (
    HEAD_KINDS as HEAD_KINDS,
    HeadSpec as HeadSpec,
    build_head as build_head,
    has_folded_batchnorm as has_folded_batchnorm,
    predicted_mean as predicted_mean,
    predicted_quantiles as predicted_quantiles,
    quantile_levels as quantile_levels,
    restore_batchnorm as restore_batchnorm,
)
from .loading import read_released as read_released
from .model_files import (
    load_network as load_network,
    read_model as read_model,
    save_network as save_network,
    write_model as write_model,
)
from .network import Network as Network, build_network as build_network
from .weights import Weights as Weights, find_weights as find_weights
