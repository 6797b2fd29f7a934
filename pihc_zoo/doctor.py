"""What `pihc doctor` finds: what is installed, what runs, what is wrong with it (torch only if installed)."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .zoo import registry
from .zoo.folder import check_files, read_config

_REQUIRED = ("torch", "numpy", "scipy", "safetensors", "huggingface_hub")
_OPTIONAL = ("onnx", "onnxscript", "onnxruntime", "onnxruntime-gpu", "matplotlib", "h5py", "xarray", "Jinja2")


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        state: "ok", "note" (worth knowing) or "wrong" (something will not work).
        topic, text: what, and what to do if it is wrong.
    """

    state: Literal["ok", "note", "wrong"]
    topic: str
    text: str


def examine() -> list[Finding]:
    """All findings; a check that fails itself becomes one."""
    findings = []
    for check in _CHECKS:
        try:
            findings += check()
        except Exception as error:  # a broken installation must still be reported
            reason = next(iter(str(error).splitlines()), "")
            findings.append(Finding("wrong", check.__name__.strip("_"), f"{type(error).__name__}: {reason}"))
    return findings


def version(package: str) -> str | None:
    """Installed version of a distribution, or None."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _packages() -> Iterator[Finding]:
    yield Finding("ok", "python", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    own = version("pihc_zoo")
    where = Path(__file__).parent
    yield Finding("ok" if own else "note", "pihc_zoo", f"{own or 'not installed, run from its source'} in {where}")
    wanted = _wanted()
    for package in _REQUIRED:
        found, limits = version(package), wanted.get(package.lower(), "")
        if found is None:
            yield Finding("wrong", package, f"not installed; pip install '{package}{limits}'")
        elif not _satisfies(found, limits):
            yield Finding("wrong", package, f"{found}, but {limits} is needed; pip install '{package}{limits}'")
        else:
            yield Finding("ok", package, found)
    present = [f"{package} {version(package)}" for package in _OPTIONAL if version(package)]
    absent = [package for package in _OPTIONAL if not version(package) and package != "onnxruntime"]
    if version("onnxruntime") and "onnxruntime-gpu" in absent:
        absent.remove("onnxruntime-gpu")
    yield Finding("ok", "optional", ", ".join(present) or "none installed")
    if absent:
        yield Finding("note", "optional", f"not installed: {', '.join(absent)} (extras onnx, plot, hdf5)")


def _wanted() -> dict[str, str]:
    """Version limits by distribution, of our own metadata."""
    from packaging.requirements import Requirement

    try:
        lines = importlib.metadata.requires("pihc_zoo") or []
    except importlib.metadata.PackageNotFoundError:
        return {}
    parsed = [Requirement(line) for line in lines]
    return {r.name.lower(): str(r.specifier) for r in parsed if r.marker is None}


def _satisfies(found: str, limits: str) -> bool:
    from packaging.specifiers import SpecifierSet

    return SpecifierSet(limits).contains(found, prereleases=True)


def _torch() -> Iterator[Finding]:
    if importlib.util.find_spec("torch") is None:
        return
    import torch

    driver = shutil.which("nvidia-smi") is not None
    built = torch.version.cuda
    if built and torch.cuda.is_available():
        names = ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
        try:
            torch.ones(2, device="cuda").sum().item()
            yield Finding("ok", "torch device", f"CUDA {built}: {names}")
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            yield Finding("wrong", "torch device", f"{names} is there but does not compute ({reason}); update torch")
    elif built and driver:
        yield Finding("wrong", "torch device", f"built for CUDA {built}, which the driver does not run; update either")
    elif built:
        yield Finding("ok", "torch device", f"CPU (built for CUDA {built}, no GPU here)")
    elif driver:
        yield Finding("note", "torch device", "CPU only, though nvidia-smi is here; install torch with CUDA to use it")
    else:
        yield Finding("ok", "torch device", f"CPU, {torch.get_num_threads()} threads")


def _onnxruntime() -> Iterator[Finding]:
    both = version("onnxruntime") and version("onnxruntime-gpu")
    if both:
        yield Finding(
            "wrong",
            "onnxruntime",
            "onnxruntime and onnxruntime-gpu overwrite each other; pip uninstall both, then install onnxruntime-gpu",
        )
    if importlib.util.find_spec("onnxruntime") is None:
        yield Finding("note", "onnxruntime", "not installed; backend='onnx' needs: pip install 'pihc_zoo[onnx]'")
        return
    import onnxruntime

    installed = version("onnxruntime-gpu") or version("onnxruntime")
    if installed and not both and onnxruntime.__version__ != installed:
        yield Finding(
            "wrong", "onnxruntime", f"{installed} is installed but {onnxruntime.__version__} is imported; reinstall it"
        )
    offered = onnxruntime.get_available_providers()
    active = active_providers()
    text = f"{onnxruntime.__version__}, active: {', '.join(active)}"
    idle = [name for name in offered if name not in active and "CUDA" in name]
    if idle and shutil.which("nvidia-smi"):
        yield Finding("wrong", "onnxruntime", f"{text}; {idle[0]} does not start: its CUDA or cuDNN version differs")
    elif idle:
        yield Finding("ok", "onnxruntime", f"{text} ({idle[0]} is built in, no GPU here)")
    else:
        yield Finding("ok", "onnxruntime", text)


def active_providers() -> list[str]:
    """The providers that a session really gets, which are fewer than those built in."""
    import onnxruntime

    onnxruntime.set_default_logger_severity(4)  # it prints a page where CUDA is missing; we say it in a line
    offered = [name for name in onnxruntime.get_available_providers() if "Tensorrt" not in name]
    try:
        return list(onnxruntime.InferenceSession(_identity_model(), providers=offered).get_providers())
    finally:
        onnxruntime.set_default_logger_severity(2)


def _identity_model() -> bytes:
    """ONNX protobuf of y = Identity(x), x float64 of shape (1,), written by hand."""

    def message(number: int, payload: bytes) -> bytes:
        return bytes([number << 3 | 2, len(payload)]) + payload

    def integer(number: int, value: int) -> bytes:
        return bytes([number << 3, value])

    def value_info(name: bytes) -> bytes:
        shape = message(2, message(1, integer(1, 1)))
        return message(1, name) + message(2, message(1, integer(1, 11) + shape))

    node = message(1, b"x") + message(2, b"y") + message(4, b"Identity")
    graph = message(1, node) + message(2, b"g") + message(11, value_info(b"x")) + message(12, value_info(b"y"))
    return integer(1, 8) + message(7, graph) + message(8, integer(2, 13))


def _hub() -> Iterator[Finding]:
    from huggingface_hub import constants, get_token

    from_environment = " (HF_ENDPOINT)" if os.environ.get("HF_ENDPOINT") else ""
    yield Finding("ok", "Hub endpoint", f"{constants.ENDPOINT}{from_environment}")
    offline = constants.HF_HUB_OFFLINE
    text = "on: only shipped, local and cached models load" if offline else "off"
    yield Finding("note" if offline else "ok", "offline mode", text)
    has_token = get_token() is not None
    yield Finding("ok", "Hub token", "present" if has_token else "none (needed to push and for private models)")
    cache = Path(constants.HF_HUB_CACHE)
    if not cache.is_dir():
        yield Finding("ok", "Hub cache", f"empty, {cache}")
    else:
        files = [p for p in cache.rglob("*") if p.is_file() and not p.is_symlink()]
        size = sum(path.stat().st_size for path in files)
        yield Finding("ok", "Hub cache", f"{size / 1e6:.1f} MB, {cache}")
        if not os.access(cache, os.W_OK):
            yield Finding("wrong", "Hub cache", f"{cache} is not writable; set HF_HOME to a folder that is")


def _shipped() -> Iterator[Finding]:
    names = registry.list_models()
    if not names:
        yield Finding("wrong", "shipped models", "none found; reinstall pihc_zoo")
    for name in names:
        folder = registry.shipped_folder(name)
        try:
            files = check_files(folder, read_config(folder))
        except ValueError as error:
            yield Finding("wrong", name, f"{error}; reinstall pihc_zoo")
        else:
            size = sum(path.stat().st_size for path in files)
            yield Finding("ok", name, f"files verified, {size / 1e6:.1f} MB")


_CHECKS: tuple[Callable[[], Iterator[Finding]], ...] = (_packages, _torch, _onnxruntime, _hub, _shipped)
