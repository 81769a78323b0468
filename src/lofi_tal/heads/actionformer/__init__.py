"""ActionFormer, exact to its published definition."""

from lofi_tal.heads.actionformer.head import ActionFormer, ActionFormerOutputs

__all__ = ["ActionFormer", "ActionFormerOutputs"]
