"""Encoder and head of a run, built once before anything is trained."""

from __future__ import annotations

from lofi_tal.encoders import adapt_encoder, create_encoder
from lofi_tal.recipes.encoder import arguments_of, outline_of
from lofi_tal.run.context import Context


def check_parts(context: Context) -> None:
    """Build encoder and head once, so that what is wrong with them is said before any training.

    Raises:
        LofiError: If an option is not one of theirs, or the head's checkpoint or the weights of the origin do not fit.
    """
    encoder, head = context.recipe.encoder, context.recipe.head
    if context.origin is not None:
        context.origin.check(context.recipe, context.saved_encoder, context.head_for)
    if context.recipe.features is not None:
        return
    _ = context.full  # which refuses snippets that the encoder does not take
    if context.origin is not None:
        return
    if encoder.weights is not None and (encoder.weights / "encoder.json").is_file():
        if encoder.adapting():
            adapt_encoder(context.saved_encoder(encoder.weights), **encoder.adapting())
        return
    made = create_encoder(**arguments_of(encoder)) if encoder.adapting() else outline_of(encoder)
    adapt_encoder(made, **encoder.adapting())
    built = context.head_for(made.channels * (1 if context.recipe.second is None else 2), classes=1)
    if head.weights is not None:
        built.load_official(head.weights)
