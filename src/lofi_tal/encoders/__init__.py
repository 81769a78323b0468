"""Video encoders under one contract: clips in, a feature vector for each clip out."""

from lofi_tal.encoders.contract import BATCHNORM_MODES, BatchNorm, Encoder, batchnorms, set_batchnorm_mode
from lofi_tal.encoders.create import create_encoder, encoder_options, outline_encoder, weights_file
from lofi_tal.encoders.foundation import FOUNDATION
from lofi_tal.encoders.identify import IdentifiedEncoder, identify_encoder
from lofi_tal.encoders.joined import JoinedEncoder
from lofi_tal.encoders.public import LICENCES, PUBLIC_WEIGHTS, public_weights
from lofi_tal.encoders.registry import ENCODERS, build_encoder, list_encoders
from lofi_tal.encoders.tsm import TSMResNet, temporal_shift
from lofi_tal.encoders.weights import LoadReport, load_encoder, load_weights, save_encoder
from lofi_tal.tensor_files import read_state_dict

__all__ = [
    "BATCHNORM_MODES",
    "ENCODERS",
    "FOUNDATION",
    "LICENCES",
    "PUBLIC_WEIGHTS",
    "BatchNorm",
    "Encoder",
    "IdentifiedEncoder",
    "JoinedEncoder",
    "LoadReport",
    "TSMResNet",
    "batchnorms",
    "build_encoder",
    "create_encoder",
    "encoder_options",
    "identify_encoder",
    "list_encoders",
    "load_encoder",
    "load_weights",
    "outline_encoder",
    "public_weights",
    "read_state_dict",
    "save_encoder",
    "set_batchnorm_mode",
    "temporal_shift",
    "weights_file",
]
