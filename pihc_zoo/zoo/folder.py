"""A model folder and what may be in it (no torch): names, digests, refusals.

A folder holds config.json, model.safetensors (or shards and their index), README.md, metrics.json,
example.npz and optionally model.onnx. Weights are safetensors only; pickles are refused unopened.
config.json holds the sha256 of the weights and, from version 1.1 on, of each further file that was
recorded when it was written; a file is compared with it before it is read.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from .. import config as configuration
from ..files import sha256, write_text

CONFIG_FILE, WEIGHTS_FILE, INDEX_FILE = "config.json", "model.safetensors", "model.safetensors.index.json"
ONNX_FILE, METRICS_FILE, EXAMPLE_FILE, CARD_FILE = "model.onnx", "metrics.json", "example.npz", "README.md"
SHARD_PATTERN = "model-*-of-*.safetensors"
ONNX_DATA_FILES = (f"{ONNX_FILE}.data", f"{ONNX_FILE}_data")
RECORDED = (ONNX_FILE, *ONNX_DATA_FILES, METRICS_FILE, EXAMPLE_FILE)  # beside the weights
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")


def read_config(folder: Path) -> dict[str, Any]:
    """The checked configuration of a folder.

    Raises:
        ConfigError: config.json is missing, unreadable, foreign, newer or has unknown keys, or its problem's text is
            not the one that the model was saved with.
    """
    path = folder / CONFIG_FILE
    if not path.is_file():
        raise configuration.ConfigError(f"{str(folder)!r} has no config.json; expected a pihc_zoo model folder")
    try:
        config = configuration.read(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        raise configuration.ConfigError(f"{str(path)!r} is not text; is the file damaged?") from None
    except OSError as error:
        raise configuration.ConfigError(f"cannot read {str(path)!r}: {error.strerror}; check its permissions") from None
    if is_text(config["problem"]) and config.get("problem_sha256") != problem_digest(config["problem"]):
        raise configuration.ConfigError(
            f"the problem in {str(path)!r} is not the one that its weights were saved with: its text was changed; "
            "download or export the model again"
        )
    return config


def is_text(problem: Any) -> bool:
    """Whether a configuration's problem is spelled out in it."""
    return isinstance(problem, dict) and "equations" in problem


def problem_digest(problem: dict[str, Any]) -> str:
    """sha256 of a problem's table, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(problem, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a folder: one, or the shards that the index names.

    Raises:
        ValueError: there are none (a pickle is refused, never opened), or the index is unusable.
    """
    if (folder / WEIGHTS_FILE).is_file():
        return [folder / WEIGHTS_FILE]
    if (folder / INDEX_FILE).is_file():
        names = sorted(set(read_index(folder / INDEX_FILE).values()))
        missing = [name for name in names if not (folder / name).is_file()]
        if missing:
            raise ValueError(f"{str(folder)!r} lacks the shard {missing[0]!r} of its index; download it again")
        return [folder / name for name in names]
    pickles = sorted(path.name for path in folder.iterdir() if path.suffix in PICKLES)
    if pickles:
        raise ValueError(
            f"{str(folder)!r} holds the pickle {pickles[0]!r}, which could run code and is not opened; "
            "convert it to model.safetensors where you trust it"
        )
    raise ValueError(
        f"{str(folder)!r} has no model.safetensors; only safetensors weights are loaded: download or export it again"
    )


def read_index(path: Path) -> dict[str, str]:
    """Tensor name → shard, of a model.safetensors.index.json.

    Raises:
        ValueError: not such an index, or a shard outside the folder.
    """
    try:
        mapping = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
        names = set(mapping.values())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{str(path)!r} is not a safetensors index ({error}); download it again") from None
    for name in names:
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9][\w.-]*\.safetensors", name):
            raise ValueError(f"{str(path)!r} names the shard {name!r}, which is not a safetensors file of its folder")
    return mapping


def digests(files: list[Path]) -> str | dict[str, str]:
    """What config.json stores as weights_sha256: one digest, or shard → digest."""
    if len(files) == 1 and files[0].name == WEIGHTS_FILE:
        return sha256(files[0])
    return {path.name: sha256(path) for path in files}


def tensor_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Shapes of the tensors of a safetensors file by name, from its header alone.

    Raises:
        ValueError: not a complete safetensors file.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            return {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{str(path)!r} is not a complete safetensors file ({error})") from None


def check_weights(folder: Path, config: dict[str, Any]) -> list[Path]:
    """The weight files of a folder, their digests compared with ``config``.

    Raises:
        ValueError: missing, damaged or changed.
    """
    files = weight_files(folder)
    try:
        expected, found = config.get("weights_sha256"), digests(files)
    except OSError as error:
        raise ValueError(f"cannot read the weights in {str(folder)!r}: {error.strerror}; check permissions") from None
    if expected is None:
        raise ValueError(f"{str(folder / CONFIG_FILE)!r} has no weights_sha256; export the model again")
    if expected != found:
        name, got, want = files[0].name, found, expected
        if isinstance(found, dict) and isinstance(expected, dict):
            name = next((n for n in found if found[n] != expected.get(n)), next(iter(expected)))
            got, want = found.get(name, "no file"), expected.get(name, "no such shard")
        raise ValueError(_damaged(folder / name, got, want))
    return files


def _damaged(path: Path, got: Any, want: Any) -> str:
    return (
        f"{str(path)!r} is damaged or was changed: sha256 {str(got)[:12]}…, expected {str(want)[:12]}…; "
        "download it again (force_download=True) or export it again"
    )


def write_config(folder: Path, config: dict[str, Any]) -> None:
    """Writes config.json, whole or not at all."""
    write_text(folder / CONFIG_FILE, json.dumps(config, indent=2, ensure_ascii=False) + "\n")


def record(folder: Path, *names: str) -> None:
    """Stores the digests of files that were just written in the folder's config.json, where it has one."""
    names = tuple(name for name in names if name in RECORDED)
    if not names or not (folder / CONFIG_FILE).is_file():
        return
    config = read_config(folder)
    recorded = {name: digest for name, digest in config.get("digests", {}).items() if name not in names}
    recorded |= {name: sha256(folder / name) for name in names if (folder / name).is_file()}
    write_config(folder, {**config, "digests": dict(sorted(recorded.items()))})


def check_file(folder: Path, name: str, config: dict[str, Any] | None = None) -> Path:
    """The path of one of the `RECORDED` files, its digest compared where config.json holds one.

    Raises:
        ValueError: damaged or changed.
    """
    path = folder / name
    expected = (read_config(folder) if config is None else config).get("digests", {}).get(name)
    if expected is not None and path.is_file():
        try:
            found = sha256(path)
        except OSError as error:
            raise ValueError(f"cannot read {str(path)!r}: {error.strerror}; check its permissions") from None
        if found != expected:
            raise ValueError(f"{_damaged(path, found, expected)}, or delete it")
    return path


def check_files(folder: Path, config: dict[str, Any]) -> list[Path]:
    """`check_weights`, and every other recorded file that is there.

    Raises:
        ValueError: missing weights, or a file that is damaged or was changed.
    """
    for name in RECORDED:
        check_file(folder, name, config)
    return check_weights(folder, config)


def read_metrics(folder: Path) -> dict[str, Any] | None:
    """metrics.json, or None where there is none.

    Raises:
        ValueError: it is damaged, was changed, or is not a JSON object.
    """
    path = folder / METRICS_FILE
    if not path.is_file():
        return None
    check_file(folder, METRICS_FILE)
    try:
        metrics = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{str(path)!r} is not valid JSON ({error}); evaluate the model again") from None
    if not isinstance(metrics, dict):
        raise ValueError(f"{str(path)!r} must be a JSON object, got {type(metrics).__name__}")
    return metrics


def self_test(model: Any, folder: Path, tolerance: float = 1e-4) -> float:
    """Relative L2 difference between the model's prediction and the folder's example.npz.

    Args:
        model: anything with ``predict``.
        tolerance: largest difference that passes.

    Raises:
        ValueError: no example, a damaged one, or the model does not reproduce it.
    """
    import numpy as np

    path = check_file(folder, EXAMPLE_FILE)
    if not path.is_file():
        raise ValueError(f"{str(folder)!r} has no example.npz to verify against; load it with verify=False")
    try:
        with np.load(path, allow_pickle=False) as file:
            example = {key: file[key] for key in file.files}
        u0, t, u = (example[key] for key in ("u0", "t", "u"))
        x = {name: example[name] for name in read_config(folder)["grid"]["space"]}
    except (OSError, KeyError, ValueError) as error:
        raise ValueError(f"{str(path)!r} is not a usable example ({error}); export the model again") from None
    parameters = {key.removeprefix("parameter_"): value for key, value in example.items() if key[:10] == "parameter_"}
    inputs = read_config(folder)["problem"].get("inputs", ())
    given = {key: value for key, value in parameters.items() if key in inputs or value.ndim > 1}  # fields, too
    out = model.predict(u0, x=x, times=t, parameters=given)
    difference = float(np.linalg.norm(np.asarray(out.u) - u) / np.linalg.norm(u))
    if not difference <= tolerance:
        raise ValueError(
            f"{str(folder)!r} does not reproduce its example.npz: relative difference {difference:.1e}, "
            f"at most {tolerance:.0e} expected; download it again or report it with the output of: pihc doctor"
        )
    return difference
