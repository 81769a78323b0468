"""Options of ActionFormer, and how long its input is padded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lofi_tal.errors import LofiError

_NAME = "ActionFormer"


def pad_length(steps: int, windows: Sequence[int], max_length: int | None) -> tuple[int, int]:
    """Return the steps that a sequence is padded to, and those that the published code pads it to.

    The published code pads to ``max_length``, and longer sequences to a multiple of what its attention is computed in.
    What lies more than one step of the coarsest level behind a video's end changes nothing, so we pad no further. One
    such step must be there if the published code has it, for there a norm turns zeros into its bias, which the next
    convolution sees.

    Args:
        steps: T of the longest video in the batch.
        windows: Of each level; -1 for the whole sequence.
        max_length: As published; None pads to whole strides of the coarsest level.
    """
    coarsest = 2 ** (len(windows) - 1)
    whole = -(-steps // coarsest) * coarsest
    if max_length is None:
        return whole, whole
    strides = [2**level * (window // 2 * 2 if window > 1 else 1) for level, window in enumerate(windows)]
    published = max_length if steps <= max_length else -(-steps // max(strides)) * max(strides)
    return min(max(whole, published), whole + coarsest), max(whole, published)


def check_options(options: Mapping[str, Any]) -> None:
    """Refuse options that cannot be built.

    Raises:
        LofiError: If one is out of its range; the message says what is allowed.
    """
    for key in ("in_channels", "num_classes", "width", "heads", "levels", "max_length", "max_proposals", "bins"):
        value = options[key]
        if not (_is_whole(value, 1) or (value is None and key in ("num_classes", "max_length", "bins"))):
            raise LofiError(f"{key}={value!r} of {_NAME} must be a positive whole number.")
    if not _is_whole(options["stem_blocks"], 0):
        raise LofiError(f"stem_blocks={options['stem_blocks']!r} of {_NAME} must be a whole number, 0 or more.")
    for key, low, high in (("drop_path", 0, 1), ("label_smoothing", 0, 1), ("min_score", 0, 1)):
        if not low <= options[key] < high:
            raise LofiError(f"{key}={options[key]!r} of {_NAME} must be at least {low} and below {high}.")
    for key in ("regression_weight", "normaliser", "iou_power"):
        if not options[key] > 0:
            raise LofiError(f"{key}={options[key]!r} of {_NAME} must be above 0.")
    if options["bins"] is None and options["iou_power"] != 1:
        raise LofiError(f"iou_power={options['iou_power']!r} of {_NAME} is part of trident regression: set bins, too.")
    if options["width"] % options["heads"]:
        raise LofiError(f"width={options['width']} of {_NAME} must be a multiple of heads={options['heads']}.")
    if options["positions"] and options["max_length"] is None:
        raise LofiError(f"positions=true of {_NAME} needs max_length, the number of positions (192 on ActivityNet).")
    _check_windows(options["windows"], options["levels"])


def _check_windows(windows: int | Sequence[int], levels: int) -> None:
    each = [windows] if isinstance(windows, int) else list(windows)
    if not isinstance(windows, int) and len(each) != levels:
        raise LofiError(f"windows={windows!r} of {_NAME}: give one number, or one for each of the {levels} levels.")
    wrong = [one for one in each if not (one == -1 or (_is_whole(one, 3) and one % 2 == 1))]
    if wrong:
        raise LofiError(
            f"windows={windows!r} of {_NAME}: {wrong[0]!r} must be odd and at least 3, or -1 for the whole sequence."
        )


def _is_whole(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
