"""What the sections of a recipe have in common."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import AfterValidator, BaseModel, ConfigDict, model_serializer

from lofi_tal.registry import Registry


def known(registry: Registry[Any]) -> Any:
    """Return a check of a setting that names a component; a path to code is looked at when it is used."""
    return AfterValidator(lambda name: name if ":" in name else registry.checked(name))


class Section(BaseModel):
    """Settings with their types; unknown keys are refused, and a line of text below each says what it is."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class LaterSection(Section):
    """A section with settings that came later: unset, they are left out, and no fingerprint knows of them."""

    later: ClassVar[frozenset[str]] = frozenset()

    @model_serializer(mode="wrap")
    def _without_unset(self, handler: Any) -> dict[str, Any]:
        content: dict[str, Any] = handler(self)
        return {key: value for key, value in content.items() if key not in self.later or value not in (None, {})}
