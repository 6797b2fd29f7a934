"""Problems, networks and other parts of one's own, under names that configurations use (standard library only)."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import os
import re
import sys
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

_NAME = re.compile(r"[a-z][a-z0-9_-]*")
_Class = TypeVar("_Class", bound=type)


def register(kind: str, table: dict[str, Any], name: Any, cls: Any, base: type, needs: Iterable[str] = ()) -> None:
    """Enters a class into a table, from which configurations take it by its name.

    Args:
        kind: what is registered, for messages.
        table: name → class.
        name: lower-case letters, digits, ``-`` and ``_``.
        cls: the class; entering it again, reloaded or from a notebook's cell that is run again, replaces it.
        base: what it must be a subclass of; where that is a dataclass, it must be one itself.
        needs: arguments that its constructor must take.

    Raises:
        ValueError: an unusable name or class, or a name that another class has.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(f"a {kind} is registered under a name of lower-case letters, digits, - and _, got {name!r}")
    if not isinstance(cls, type) or not issubclass(cls, base):
        raise ValueError(f"a {kind} must be a subclass of {base.__module__}.{base.__qualname__}, got {cls!r}")
    if dataclasses.is_dataclass(base) and "__dataclass_fields__" not in vars(cls):
        raise ValueError(f"the {kind} {cls.__qualname__} must be a dataclass: decorate it with @dataclass(frozen=True)")
    accepted = inspect.signature(cls).parameters
    missing = [key for key in needs if key not in accepted]
    if missing and not any(parameter.kind is parameter.VAR_KEYWORD for parameter in accepted.values()):
        raise ValueError(
            f"the {kind} {cls.__qualname__} must take the arguments {', '.join(needs)}; it lacks {missing[0]}"
        )
    held = table.get(name)
    if held is not None and _place(held) != _place(cls):
        raise ValueError(
            f"the name {name!r} belongs to the {kind} {'.'.join(_place(held))}; "
            f"register {cls.__qualname__} under another one"
        )
    table[name] = cls


def _place(cls: type) -> tuple[str, str]:
    """Where a class is defined."""
    return cls.__module__, cls.__qualname__


def registrar(
    kind: str, table: dict[str, Any], name: str, base: type, needs: Iterable[str] = ()
) -> Callable[[_Class], _Class]:
    """A class decorator that calls `register`; the name is looked at when it is made.

    Raises:
        ValueError: the name is none, as where the decorator was given its class at once.
    """
    if not isinstance(name, str):
        raise ValueError(f'a {kind} is registered under a name, as in @register("my-{kind.split()[-1]}"), got {name!r}')

    def decorate(cls: _Class) -> _Class:
        register(kind, table, name, cls, base, needs)
        return cls

    return decorate


def import_packages(names: Iterable[str]) -> None:
    """Imports modules that register parts of their own; the working folder is looked into as well.

    Raises:
        ValueError: there is no such module.
    """
    for name in names:
        if os.getcwd() not in sys.path:
            sys.path.insert(0, os.getcwd())
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            raise ValueError(
                f"cannot import {name!r}: there is no module {error.name!r} in the working folder or installed"
            ) from None
