"""Sections of typed settings: unknown keys are refused, and values are taken as people write them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Self, get_args, get_origin

from pydantic import AfterValidator, BaseModel, ConfigDict, model_serializer, model_validator

from lofi_tal.bounds import LARGEST, MOST, plain_value
from lofi_tal.files import with_home
from lofi_tal.registry import Registry

_SNIPPET_PIXELS = 2**26
_SNIPPETS_A_SECOND = 1000
_SCALARS = (Path, str, float, int)


class Section(BaseModel):
    """A section of settings: frozen; ``~/`` is expanded in paths, and one value will do where a list is meant."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _as_people_write(cls, content: Any) -> Any:
        if not isinstance(content, dict):
            return content
        fields = cls.model_fields
        return {
            key: _as_meant(fields[key].annotation, value) if key in fields else value for key, value in content.items()
        }

    @model_validator(mode="after")
    def _within_bounds(self) -> Self:
        """Refuse what no run can mean: a recipe may come from anybody."""
        for key in type(self).model_fields:
            value = getattr(self, key)
            try:
                plain_value(value, largest=LARGEST.get(key, MOST))
            except ValueError as error:
                raise ValueError(f"{key}: {error}") from error
        return self


class SnippetBounds(Section):
    """A section with ``count``, ``frames``, ``size`` and ``window`` of snippets: together they say how much is read."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        count, frames, size, window = (getattr(self, key) for key in ("count", "frames", "size", "window"))
        if frames * size**2 > _SNIPPET_PIXELS:
            raise ValueError(
                f"a snippet of {frames} frames at {size} × {size} has more than {_SNIPPET_PIXELS:,} pixels"
            )
        if window is not None and count > _SNIPPETS_A_SECOND * window:
            raise ValueError(f"{count} snippets in {window} s are more than {_SNIPPETS_A_SECOND} a second")
        return self


class LaterSection(Section):
    """A section with settings that came later: unset, they are left out, and no fingerprint knows of them."""

    later: ClassVar[frozenset[str]] = frozenset()

    @model_serializer(mode="wrap")
    def _without_unset(self, handler: Any) -> dict[str, Any]:
        content: dict[str, Any] = handler(self)
        return {key: value for key, value in content.items() if key not in self.later or not _is_unset(value)}


def known(registry: Registry[Any]) -> Any:
    """Return a check of a setting that names a component; a path to code is looked at when it is used."""
    return AfterValidator(lambda name: name if ":" in name else registry.checked(name))


def leaves(annotation: Any) -> tuple[Any, ...]:
    """Return the types that a type is made of."""
    inner = get_args(annotation)
    return tuple(leaf for one in inner for leaf in leaves(one)) if inner else (annotation,)


def _is_unset(value: Any) -> bool:
    """Say whether a setting was left alone: 0 is a value."""
    return value is None or value is False or value == {}


def _as_meant(annotation: Any, value: Any) -> Any:
    is_list = get_origin(annotation) is tuple and get_args(annotation)[0] in _SCALARS
    if is_list and isinstance(value, str | float | int) and not isinstance(value, bool):
        value = [value]
    if Path not in leaves(annotation):
        return value
    if isinstance(value, list | tuple):
        return [with_home(one) if isinstance(one, str) else one for one in value]
    return with_home(value) if isinstance(value, str) else value
