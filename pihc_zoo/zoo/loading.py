"""`from_pretrained`: a model by name, folder or Hub id, with torch or without it (no torch at import)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Unpack, overload

from .folder import ONNX_FILE, read_config, read_metrics
from .hub import HubError, find_folder, load, named

if TYPE_CHECKING:
    import torch

    from ..surrogate import Surrogate
    from .onnx_backend import OnnxSurrogate


class Options(TypedDict, total=False):
    """Keywords of `from_pretrained`, all but the backend."""

    revision: str | None
    cache_dir: str | os.PathLike | None
    token: str | bool | None
    local_files_only: bool
    force_download: bool
    subfolder: str | None
    device: str | torch.device
    dtype: str | torch.dtype | None
    verify: bool


@overload
def from_pretrained(
    name_or_path: str | os.PathLike, *, backend: Literal["torch"] = "torch", **options: Unpack[Options]
) -> Surrogate: ...
@overload
def from_pretrained(
    name_or_path: str | os.PathLike, *, backend: Literal["onnx"], **options: Unpack[Options]
) -> OnnxSurrogate: ...
@overload
def from_pretrained(
    name_or_path: str | os.PathLike, *, backend: str, **options: Unpack[Options]
) -> Surrogate | OnnxSurrogate: ...
def from_pretrained(
    name_or_path: str | os.PathLike,
    *,
    revision: str | None = None,
    cache_dir: str | os.PathLike | None = None,
    token: str | bool | None = None,
    local_files_only: bool = False,
    force_download: bool = False,
    subfolder: str | None = None,
    device: str | torch.device = "cpu",
    dtype: str | torch.dtype | None = None,
    backend: str = "torch",
    verify: bool = False,
) -> Surrogate | OnnxSurrogate:
    """Loads a surrogate.

    Args:
        name_or_path: a short name of `list_models` (works offline), a local folder, or a Hub id
            ``"org/repo"``.
        revision: branch, tag or commit of a Hub repository.
        cache_dir: where downloads are kept; huggingface_hub's cache by default.
        token: Hub token; True or None use the stored one, False none.
        local_files_only: use the cache and no network.
        force_download: download again even if cached.
        subfolder: folder of the model inside the repository or local folder.
        device: of the torch backend.
        dtype: torch.float32 or torch.float64 (or their names) of the network; solves are in float64 always.
        backend: "torch", or "onnx" for onnxruntime without torch.
        verify: predict the folder's example and compare.

    Raises:
        ConfigError: not a pihc_zoo model, or a newer one.
        ValueError: not found, no access, no network, damaged, or another model's weights; one line that
            says what to do.
    """
    if backend not in ("torch", "onnx"):
        raise ValueError(f"backend must be 'torch' or 'onnx', got {backend!r}")
    where = {
        "revision": revision,
        "cache_dir": cache_dir,
        "token": token,
        "local_files_only": local_files_only,
        "force_download": force_download,
        "subfolder": subfolder,
    }
    if backend == "torch":
        from ..surrogate import Surrogate

        return load(Surrogate, name_or_path, device=device, dtype=dtype, verify=verify, **where)
    folder, name = find_folder(name_or_path, backend=backend, **where)
    read_config(folder)
    if not (folder / ONNX_FILE).is_file():
        raise HubError(f"{name!r} has no model.onnx; make one with: pihc export {name} --to DIR --onnx")
    from .onnx_backend import OnnxSurrogate

    return named(OnnxSurrogate(folder), folder, name, verify)


def check_surrogate(model: Any) -> None:
    """Raises ValueError for what is no surrogate of the torch backend, such as a name or an ONNX model."""
    from ..surrogate import Surrogate

    if not isinstance(model, Surrogate):
        raise ValueError(
            f"expected a surrogate of pz.from_pretrained with the torch backend, got {type(model).__name__}"
        )


def model_info(name: str, **options: Any) -> dict[str, Any]:
    """Configuration and measured metrics of a model, without loading its weights.

    Args:
        name: a short name, a local folder or a Hub id.
        options: revision, cache_dir, token, local_files_only, force_download, subfolder of
            `from_pretrained`.

    Returns:
        "name", "config" and, where the model has them, "metrics".

    Raises:
        ValueError: not found or not a pihc_zoo model.
    """
    folder, found = find_folder(name, backend="info", **options)
    info: dict[str, Any] = {"name": found, "config": read_config(folder)}
    metrics = read_metrics(folder)
    if metrics is not None:
        info["metrics"] = metrics
    return info
