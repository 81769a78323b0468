"""Video encoders under one contract: clips in, a feature vector for each clip out."""

from lofi_tal.encoders.adapters import ADAPTERS, TemporalAdapter, add_adapter, check_adapter
from lofi_tal.encoders.bases import base_of, hash_weights, hub_name, weights_file
from lofi_tal.encoders.contract import BATCHNORM_MODES, BatchNorm, Encoder, batchnorms, set_batchnorm_mode
from lofi_tal.encoders.create import create_encoder, encoder_options, outline_encoder
from lofi_tal.encoders.foundation import FOUNDATION
from lofi_tal.encoders.hub import cached_weights, hub_address, hub_cache
from lofi_tal.encoders.identify import IdentifiedEncoder, identify_encoder
from lofi_tal.encoders.joined import JoinedEncoder
from lofi_tal.encoders.parts import adapt_encoder, check_part, layer_groups, layer_rates, trainable
from lofi_tal.encoders.public import LICENCES, PUBLIC_WEIGHTS, public_source, public_weights
from lofi_tal.encoders.registry import ENCODERS, build_encoder, list_encoders
from lofi_tal.encoders.tsm import TSMResNet, temporal_shift
from lofi_tal.encoders.weights import (
    ENCODER_FILES,
    LoadReport,
    load_encoder,
    load_weights,
    save_encoder,
)
from lofi_tal.tensor_files import read_state_dict

__all__ = [
    "ADAPTERS",
    "BATCHNORM_MODES",
    "ENCODERS",
    "ENCODER_FILES",
    "FOUNDATION",
    "LICENCES",
    "PUBLIC_WEIGHTS",
    "BatchNorm",
    "Encoder",
    "IdentifiedEncoder",
    "JoinedEncoder",
    "LoadReport",
    "TSMResNet",
    "TemporalAdapter",
    "adapt_encoder",
    "add_adapter",
    "base_of",
    "batchnorms",
    "build_encoder",
    "cached_weights",
    "check_adapter",
    "check_part",
    "create_encoder",
    "encoder_options",
    "hash_weights",
    "hub_address",
    "hub_cache",
    "hub_name",
    "identify_encoder",
    "layer_groups",
    "layer_rates",
    "list_encoders",
    "load_encoder",
    "load_weights",
    "outline_encoder",
    "public_source",
    "public_weights",
    "read_state_dict",
    "save_encoder",
    "set_batchnorm_mode",
    "temporal_shift",
    "trainable",
    "weights_file",
]
