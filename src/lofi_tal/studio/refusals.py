"""Why a request is not done, where it is more than a wrong value: each has a status of its own."""

from lofi_tal.errors import LofiError


class ConflictError(LofiError):
    """A change of something that is no longer as the page knows it."""


class MissingError(LofiError):
    """Something that is not there."""


class TooLargeError(LofiError):
    """A body beyond the limit."""
