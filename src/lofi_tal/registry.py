"""Components by name: those of this package, and those that other installed packages declare as entry points.

A package declares a component in its ``pyproject.toml``; nothing in this package has to change for it:

    [project.entry-points."lofi_tal.encoders"]
    own_encoder = "own_package:OwnEncoder"

Listing names loads nothing. An entry point is imported when its component is asked for.
"""

from __future__ import annotations

import contextlib
import inspect
import re
from collections.abc import Callable, Iterator
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar, cast

from lofi_tal.errors import LofiError, nearest

T = TypeVar("T")
C = TypeVar("C")

OWN_PACKAGE = "lofi-tal"
"""What :meth:`Registry.package` says of built-in components."""


class Registry(Generic[T]):
    """Components of one kind by name.

    Entry points are read once, at the first question: a package that is installed later is seen by the next process.

    Args:
        kind: What messages call a component, such as ``encoder``.
        group: Group of the entry points, such as ``lofi_tal.encoders``.
    """

    def __init__(self, kind: str, group: str) -> None:
        self.kind = kind
        self.group = group
        self._registered: dict[str, Any] = {}
        self._loaded: dict[str, Any] = {}

    def register(self, name: str) -> Callable[[C], C]:
        """Return a decorator that makes a class or function known under ``name`` in this process.

        The same class or function, defined again (in a notebook, say), replaces the one before.

        Raises:
            LofiError: By the decorator, if the name is taken.
        """

        def add(component: C) -> C:
            before = self._registered.get(name)
            if before is not None and _identity(before) != _identity(component):
                raise LofiError(
                    f"{self.kind} {name!r} is registered already, by {'.'.join(_identity(before))}: use another name."
                )
            self._registered[name] = component
            return component

        return add

    def names(self) -> tuple[str, ...]:
        """Return all names: the built-in ones in the order in which they were registered, then the others, sorted."""
        own = [name for name, component in self._registered.items() if _top_module(component) == "lofi_tal"]
        return (*own, *sorted((self._registered.keys() | self._entries.keys()) - set(own)))

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __contains__(self, name: object) -> bool:
        return name in self._registered or name in self._entries

    def package(self, name: str) -> str:
        """Return the package that a component comes from, ``lofi-tal`` for built-in ones; several if they clash.

        Of a path to code, ``package.module:factory``, it is the first part.

        Raises:
            LofiError: If the name is unknown.
        """
        if ":" in name:
            return name.partition(":")[0].partition(".")[0]
        return ", ".join(self._packages(self.checked(name)))

    def checked(self, name: str) -> str:
        """Return ``name``, for settings that name a component.

        Raises:
            LofiError: If it is unknown.
        """
        if name not in self:
            raise self._unknown(name)
        return name

    def outside(self) -> dict[str, str]:
        """Return name and package of each component that is not built in."""
        packages = {name: self.package(name) for name in self.names()}
        return {name: package for name, package in packages.items() if package != OWN_PACKAGE}

    def get(self, name: str, *, dotted: bool = False) -> T:
        """Return a component; an entry point is imported now.

        Args:
            name: One of :meth:`names`.
            dotted: Accept ``package.module:factory`` too, which runs the code of that module. Never for a name that
                stands in a file from somebody else.

        Raises:
            LofiError: If the name is unknown, several packages declare it, or its code cannot be imported.
        """
        if ":" in name:
            if not dotted:
                raise LofiError(
                    f"{self.kind} {name!r} is a path to code, and this place takes registered components only. Declare "
                    f"it in its package as an entry point of the group {self.group!r}, and use the name it has there."
                )
            return self._import(EntryPoint(name, name, self.group), f"{self.kind} {name!r} cannot be loaded")
        packages = self._packages(self.checked(name))
        if len(packages) > 1:
            raise LofiError(
                f"{self.kind} {name!r} is declared by several packages: {', '.join(packages)}. Uninstall all but one "
                f"of them, or rename the entry point of the group {self.group!r}."
            )
        if name in self._registered:
            return cast(T, self._registered[name])
        if name not in self._loaded:
            entry = self._entries[name][0]
            self._loaded[name] = self._import(
                entry, f"{self.kind} {name!r} of the package {packages[0]!r} cannot be loaded"
            )
        return cast(T, self._loaded[name])

    @cached_property
    def _entries(self) -> dict[str, list[EntryPoint]]:
        entries: dict[str, list[EntryPoint]] = {}
        for entry in entry_points(group=self.group):
            entries.setdefault(entry.name, []).append(entry)
        return entries

    def _packages(self, name: str) -> list[str]:
        """Return the packages that declare a name."""
        entries = self._entries.get(name, [])
        packages = [entry.dist.name if entry.dist else "an unknown package" for entry in entries]
        if name in self._registered:
            top = _top_module(self._registered[name])
            if all(entry.module.partition(".")[0] != top for entry in entries):  # not one package that does both
                packages.insert(0, OWN_PACKAGE if top == "lofi_tal" else top)
        return packages

    def _import(self, entry: EntryPoint, problem: str) -> T:
        try:
            component = entry.load()
        except Exception as error:
            raise LofiError(f"{problem}: {entry.value!r} raised {type(error).__name__}: {error}.") from error
        if not callable(component):
            raise LofiError(f"{problem}: {entry.value!r} is a {type(component).__name__}, not a class or function.")
        return cast(T, component)

    def _unknown(self, name: str) -> LofiError:
        names = self.names()
        return LofiError(f"{self.kind} {name!r} is unknown; known: {', '.join(names)}.{nearest(name, names)}")


def wrong_options(what: str, factory: Callable[..., Any], error: TypeError) -> LofiError:
    """Return the error of a component that cannot be built with some options: the one that it lacks, and what it has.

    Args:
        what: The component, as a message names it.
        factory: Its class or function.
        error: What it raised.
    """
    if (found := re.search(r"unexpected keyword argument '(.+)'", str(error))) is None:
        return LofiError(f"{what}: {error}.")
    known = []
    with contextlib.suppress(ValueError, TypeError):  # of a function without a signature
        parameters = inspect.signature(factory).parameters.values()
        known = [one.name for one in parameters if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)]
    allowed = f"; allowed: {', '.join(known)}" if known else ""
    return LofiError(f"{what} has no option {found[1]!r}{allowed}.{nearest(found[1], known)}")


def _identity(component: object) -> tuple[str, str]:
    """Return module and qualified name."""
    return str(getattr(component, "__module__", "")), str(getattr(component, "__qualname__", repr(component)))


def _top_module(component: object) -> str:
    return _identity(component)[0].partition(".")[0]
