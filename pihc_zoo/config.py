"""The versioned configuration of a surrogate: config.json (standard library only).

Every part is ``{"name": …, …settings}``; unknown keys raise, newer major versions are refused, older
ones are migrated step by step.
"""

from __future__ import annotations

import copy
import dataclasses
import inspect
import json
from collections.abc import Callable, Mapping
from typing import Any

from .text import nearest

FORMAT = "pihc_zoo"
CONFIG_VERSION = (1, 1)


def _without_digests(config: dict[str, Any]) -> dict[str, Any]:
    """1.1 records the digests of further files; folders of 1.0 have none, and load."""
    return {**config, "config_version": "1.1"}


# (major, minor) of a config → function that brings it to the next version
MIGRATIONS: dict[tuple[int, int], Callable[[dict], dict]] = {(1, 0): _without_digests}

PARTS = ("problem", "grid", "network", "ansatz", "residual_map", "decomposition", "solver", "trust")
KEYS = ("format", "config_version", *PARTS, "weights_sha256", "problem_sha256", "digests")


class ConfigError(ValueError):
    """A configuration that cannot be used, with what to do."""


def migrate(config: dict[str, Any]) -> dict[str, Any]:
    """Brings ``config`` to the current version.

    Raises:
        ConfigError: not ours, no version, or a newer major version.
    """
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise ConfigError(
            f'this is not a pihc_zoo configuration: expected "format": {FORMAT!r}, '
            f"got {config.get('format') if isinstance(config, dict) else type(config).__name__!r}"
        )
    try:
        version = tuple(int(part) for part in str(config["config_version"]).split("."))
        major, minor = version
    except (KeyError, ValueError):
        raise ConfigError(
            f"config_version must be 'major.minor', got {config.get('config_version')!r}; is the file complete?"
        ) from None
    if major > CONFIG_VERSION[0]:
        raise ConfigError(
            f"config_version {major}.{minor} is newer than this package reads ({CONFIG_VERSION[0]}.x); "
            "upgrade with: pip install -U pihc_zoo"
        )
    while (major, minor) in MIGRATIONS and (major, minor) != CONFIG_VERSION:
        config = MIGRATIONS[major, minor](dict(config))
        major, minor = (int(part) for part in config["config_version"].split("."))
    return config


def check_keys(config: dict[str, Any]) -> dict[str, Any]:
    """``config`` if it has exactly the known top-level keys; optional ones may be left out."""
    for key in config:
        if key not in KEYS:
            raise ConfigError(f"config has the unknown key {key!r}; {nearest(key, KEYS)}")
    missing = [key for key in PARTS if key not in config]
    if missing:
        raise ConfigError(f"config lacks {', '.join(map(repr, missing))}; is the file complete?")
    if not isinstance(config.get("digests", {}), dict):
        raise ConfigError(f"config: digests must be file → sha256, got {config['digests']!r}; export the model again")
    return config


def read(text: str) -> dict[str, Any]:
    """Parses, migrates and checks the text of a config.json."""
    try:
        config = json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigError(f"config.json is not valid JSON ({error}); is the file truncated?") from None
    return check_keys(migrate(config))


def overridden(config: dict[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of ``config`` with some settings changed.

    Args:
        config: nested dicts; a part, and an axis, is one with its ``name``.
        overrides: keys are dotted paths, ``"solver.max_steps"`` or ``"grid.space.x.num_nodes"``, or names of parts
            with dicts, ``{"solver": {"max_steps": 4}}``. A dict changes the settings that it names; one with a
            ``name`` replaces the whole part or axis. Other settings that are dicts, such as a decomposition's
            counts, are replaced whole.

    Raises:
        ConfigError: a path that leads through something that holds no settings.
    """
    config = copy.deepcopy(config)
    for key, value in overrides.items():
        *parents, last = key.split(".")
        target = config
        for parent in parents:
            target = target.setdefault(parent, {})
            if not isinstance(target, dict):
                raise ConfigError(f"cannot set {key!r}: {parent!r} is not a table of settings")
        target[last] = _changed(target.get(last), copy.deepcopy(value), is_part=not parents)
    return config


def _changed(old: Any, new: Any, is_part: bool = False) -> Any:
    if not isinstance(old, dict) or not isinstance(new, dict) or "name" in new:
        return new
    if not is_part and "name" not in old and not any(isinstance(value, dict) for value in old.values()):
        return new  # a setting
    return old | {key: _changed(old.get(key), value) for key, value in new.items()}


def lookup(part: str, spec: dict[str, Any], table: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The class that ``spec["name"]`` registers and the remaining settings."""
    settings = dict(spec)
    name = settings.pop("name", None)
    if name not in table:
        raise ConfigError(
            f"{part}: no {part} named {name!r} is registered (one of your own: import the package that registers it "
            f"first); {nearest(name, table)}"
        )
    return table[name], settings


def build(part: str, factory: Callable, settings: dict[str, Any], **injected: Any) -> Any:
    """factory(**injected, **settings), with unknown settings named."""
    accepted = [name for name in inspect.signature(factory).parameters if name not in ("self", *injected)]
    for key in settings:
        if key not in accepted:
            raise ConfigError(f"{part}: unknown setting {key!r}; {nearest(key, accepted)}")
    try:
        return factory(**injected, **settings)
    except TypeError as error:
        raise ConfigError(f"{part}: {error}") from None


def describe(instance: Any, table: dict[str, type]) -> dict[str, Any]:
    """The spec of a dataclass instance that ``table`` registers.

    Raises:
        ConfigError: its class is not registered, so that nobody could load it.
    """
    for name, cls in table.items():
        if type(instance) is cls:
            return {"name": name, **dataclasses.asdict(instance)}
    raise ConfigError(
        f"{type(instance).__name__} is not registered and cannot be saved; add it to its table ({', '.join(table)})"
    )
