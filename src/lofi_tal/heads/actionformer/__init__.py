"""ActionFormer, exact to its published definition."""

from lofi_tal.heads.actionformer.decode import ActionFormerOutputs
from lofi_tal.heads.actionformer.head import ActionFormer

__all__ = ["ActionFormer", "ActionFormerOutputs"]
