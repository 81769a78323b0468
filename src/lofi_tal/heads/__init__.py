"""Localisation heads: snippet features in, scored segments out."""

from lofi_tal.heads.actionformer import ActionFormer, ActionFormerOutputs
from lofi_tal.heads.anchor_free import AnchorFree
from lofi_tal.heads.bmn import BMN
from lofi_tal.heads.boundary_matching import BoundaryMatchingOutputs
from lofi_tal.heads.contract import PRESETS, Head, Proposals
from lofi_tal.heads.gtad import GTAD
from lofi_tal.heads.registry import HEADS, build_head, create_head, list_heads, takes_classes, with_classes
from lofi_tal.heads.transfer import check_transfer, transfer_head
from lofi_tal.heads.weights import HEAD_FILES, load_head, save_head

__all__ = [
    "BMN",
    "GTAD",
    "HEADS",
    "HEAD_FILES",
    "PRESETS",
    "ActionFormer",
    "ActionFormerOutputs",
    "AnchorFree",
    "BoundaryMatchingOutputs",
    "Head",
    "Proposals",
    "build_head",
    "check_transfer",
    "create_head",
    "list_heads",
    "load_head",
    "save_head",
    "takes_classes",
    "transfer_head",
    "with_classes",
]
