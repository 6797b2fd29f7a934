"""Loading by name: shipped models, local folders and the Hugging Face Hub (no torch at import).

The Hub is reached with huggingface_hub alone, so HF_ENDPOINT, HF_HUB_OFFLINE, HF_HOME and HF_TOKEN
mean what they mean everywhere.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from .. import __version__
from ..text import nearest
from .folder import (
    CARD_FILE,
    CONFIG_FILE,
    EXAMPLE_FILE,
    INDEX_FILE,
    METRICS_FILE,
    ONNX_DATA_FILES,
    ONNX_FILE,
    PICKLES,
    SHARD_PATTERN,
    WEIGHTS_FILE,
    read_config,
    self_test,
)
from .registry import list_models, shipped_folder

if TYPE_CHECKING:
    import torch

    from ..surrogate import Surrogate

_Model = TypeVar("_Model", bound="Surrogate")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_SMALL = [METRICS_FILE, EXAMPLE_FILE]
_FILES = {
    "torch": [WEIGHTS_FILE, INDEX_FILE, SHARD_PATTERN, *_SMALL],
    "info": _SMALL,
    "onnx": [ONNX_FILE, *ONNX_DATA_FILES, *_SMALL],
}


class HubError(ValueError):
    """A model that cannot be found, reached or read: what, why, what to do."""


def load(
    model_class: type[_Model],
    name_or_path: str | os.PathLike,
    *,
    device: str | torch.device = "cpu",
    dtype: str | torch.dtype | None = None,
    verify: bool = False,
    **where: Any,
) -> _Model:
    """A model of a class with ``from_config``; see `zoo.loading.from_pretrained`."""
    from .storage import load_folder

    folder, name = find_folder(name_or_path, **where)
    return named(load_folder(folder, model_class, device, torch_dtype(dtype)), folder, name, verify)


def named(model: Any, folder: Path, name: str, verify: bool) -> Any:
    """The model, told its name and folder: export copies the figures there that belong to its weights."""
    model.name, model.folder = name, folder
    if verify:
        self_test(model, folder)
    return model


def torch_dtype(dtype: Any) -> torch.dtype | None:
    """The dtype of a name; others as they are.

    Raises:
        ValueError: no name of a dtype that networks have.
    """
    if not isinstance(dtype, str):
        return dtype
    import torch

    names = {"float32": torch.float32, "float64": torch.float64}
    if dtype not in names:
        raise ValueError(f"dtype must be 'float32' or 'float64', not {dtype!r}")
    return names[dtype]


def find_folder(
    name_or_path: str | os.PathLike,
    *,
    backend: str = "torch",
    revision: str | None = None,
    subfolder: str | None = None,
    **download: Any,
) -> tuple[Path, str]:
    """The folder that holds a model, downloaded if need be, and the model's name.

    Raises:
        ValueError: see `from_pretrained`.
    """
    text = os.fspath(name_or_path)
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"expected a model name, a folder or 'org/repo', got {name_or_path!r}; see pihc list")
    if subfolder is not None:
        _check_inside("subfolder", subfolder)
    shipped = text in list_models()
    path = Path(os.path.expanduser(text))
    if shipped or os.path.isdir(path):
        if revision is not None:
            kind = "shipped with the package" if shipped else "a local folder"
            raise ValueError(f"{text!r} is {kind} and has no revisions; leave revision out")
        folder = shipped_folder(text) if shipped else path
        if subfolder:
            folder = folder / subfolder
            if not folder.is_dir():
                raise ValueError(f"{text!r} has no subfolder {subfolder!r}")
        return folder, text if shipped else folder.resolve().name
    if os.path.isfile(path):
        why = "is a pickle, which could run code and is not opened" if path.suffix in PICKLES else "is a file"
        raise HubError(f"{text!r} {why}; give a model folder (config.json and model.safetensors)")
    if is_hub_id(text):
        if revision is not None:
            _check_inside("revision", revision)
        return _download(text, backend, revision, subfolder, **download), text
    if "/" in text or "\\" in text or text.startswith((".", "~")):
        raise HubError(f"no folder {text!r}, and it is not a Hub id 'org/repo' either; check the path")
    raise HubError(
        f"no shipped model {text!r}; {nearest(text, list_models())} A folder or a Hub id 'org/repo' works too"
    )


def is_hub_id(text: str) -> bool:
    """Whether ``text`` looks like "org/repo"."""
    return _HUB_ID.fullmatch(text) is not None and ".." not in text


def _check_inside(what: str, value: str) -> None:
    parts = PurePosixPath(str(value).replace("\\", "/"))
    if not str(value).strip() or parts.is_absolute() or ".." in parts.parts:
        raise HubError(f"{what} {value!r} climbs out of the repository; give a name inside it")


def _download(
    repo_id: str,
    backend: str,
    revision: str | None,
    subfolder: str | None,
    **options: Any,
) -> Path:
    """config.json first, so that a foreign repository is refused before its weights are fetched."""
    from huggingface_hub import hf_hub_download, snapshot_download

    options |= {"library_name": "pihc_zoo", "library_version": __version__}
    prefix = f"{subfolder.strip('/')}/" if subfolder else ""
    name = prefix + CONFIG_FILE
    with hub_errors(repo_id, revision):
        if options.get("force_download"):  # raises without a network, where a snapshot would come from the cache
            root = Path(hf_hub_download(repo_id, name, revision=revision, **options)).parents[prefix.count("/")]
        else:  # fails at once without a network, where a file would be tried again for half a minute
            patterns = [name, CARD_FILE, ".gitattributes"]
            root = Path(snapshot_download(repo_id, revision=revision, allow_patterns=patterns, **options))
    if not (root / name).is_file():
        raise HubError(_no_config(repo_id, revision))
    read_config((root / name).parent)
    patterns = [prefix + name for name in (CONFIG_FILE, *_FILES[backend])]
    with hub_errors(repo_id, revision):
        snapshot_download(repo_id, revision=root.name, allow_patterns=patterns, **options)
    return root / prefix


def _no_config(repo_id: str, revision: str | None) -> str:
    at = f" at revision {revision!r}" if revision else ""
    return f"{repo_id!r}{at} has no config.json; it is not a pihc_zoo model, or lies in a subfolder: give subfolder=…"


@contextlib.contextmanager
def hub_errors(repo_id: str, revision: str | None = None) -> Iterator[None]:
    """Turns the Hub client's exceptions into one line each: what, why, what to do."""
    from huggingface_hub import constants, errors

    at = f" at revision {revision!r}" if revision else ""
    try:
        yield
    except errors.GatedRepoError:
        _fail(f"{repo_id!r} is gated: accept its terms on the Hub, then log in with: hf auth login")
    except errors.RevisionNotFoundError:
        _fail(f"{repo_id!r} has no revision {revision!r}; choose a branch, tag or commit that its page lists")
    except errors.RepositoryNotFoundError as error:
        if _status(error) == 401 and not _has_token():
            _fail(f"{repo_id!r} does not exist or is private; check the name, or log in with: hf auth login")
        _fail(f"{repo_id!r} does not exist or your token may not see it; check the name and the token's permissions")
    except errors.LocalEntryNotFoundError as error:
        _fail(_not_cached(repo_id, at, error))
    except errors.EntryNotFoundError:
        _fail(_no_config(repo_id, revision))
    except errors.LocalTokenNotFoundError:
        _fail(f"{repo_id!r} was asked for with token=True and no token is stored; log in with: hf auth login")
    except errors.OfflineModeIsEnabled:
        _fail(f"{repo_id!r} needs the network and HF_HUB_OFFLINE is set; unset it")
    except errors.HFValidationError as error:
        _fail(f"{repo_id!r} is not a valid Hub id: {_first_line(error)}")
    except errors.HfHubHTTPError as error:
        _fail(_http_message(repo_id, error))
    except (OSError, _transport_errors(), RuntimeError) as error:
        cause = _cause(error, OSError) or error
        if isinstance(error, RuntimeError) and isinstance(cause, errors.HfHubHTTPError):
            _fail(_http_message(repo_id, cause))
        number = getattr(cause, "errno", None)
        if number in (errno.ENOSPC, errno.EDQUOT):
            _fail(f"the disk is full while transferring {repo_id!r}; free some space or choose another cache_dir")
        if number in (errno.EACCES, errno.EROFS, errno.EPERM):
            _fail(f"cannot write the cache ({cause}); choose a writable cache_dir or set HF_HOME")
        if type(error).__name__ in ("ConnectError", "ConnectTimeout"):
            _fail(f"{constants.ENDPOINT} cannot be reached for {repo_id!r}; check the network and HF_ENDPOINT")
        _fail(f"the transfer of {repo_id!r} broke off ({_first_line(error)}); run it again, it resumes")
    except ValueError as error:
        if isinstance(error, HubError) or "orce" not in str(error):
            raise
        cause = error.__cause__
        if isinstance(cause, errors.HfHubHTTPError):
            _fail(_http_message(repo_id, cause))
        if cause is None or isinstance(cause, errors.OfflineModeIsEnabled):
            _fail("force_download needs the network; leave it out, or unset HF_HUB_OFFLINE and local_files_only")
        _fail(f"the Hub cannot be reached for {repo_id!r}; check the network or leave force_download out")


def _transport_errors() -> type[BaseException]:
    """The base of the HTTP client's errors, whichever client huggingface_hub uses."""
    from huggingface_hub import errors

    return next(kind for kind in errors.HfHubHTTPError.__bases__ if kind is not OSError)


def _fail(message: str) -> NoReturn:
    raise HubError(message) from None


def _not_cached(repo_id: str, at: str, error: BaseException) -> str:
    from huggingface_hub import constants, errors

    http = _cause(error, errors.HfHubHTTPError)
    if http is not None:
        return _http_message(repo_id, http)
    where = constants.ENDPOINT
    if isinstance(_cause(error, errors.OfflineModeIsEnabled), errors.OfflineModeIsEnabled) or constants.HF_HUB_OFFLINE:
        return f"{repo_id!r}{at} is not in the cache and HF_HUB_OFFLINE is set; unset it once to download"
    if _cause(error, (_transport_errors(), errors.FileMetadataError)) is not None:
        return f"{repo_id!r}{at} is not in the cache and {where} cannot be reached; check the network and HF_ENDPOINT"
    return f"{repo_id!r}{at} is not in the cache and local_files_only is set; leave it out once to download"


def _http_message(repo_id: str, error: BaseException) -> str:
    status = _status(error)
    if status == 401:
        return f"the Hub refused the token for {repo_id!r} (HTTP 401): wrong or expired; log in with: hf auth login"
    if status == 403:
        return f"no permission for {repo_id!r} (HTTP 403): use a token with access, or a repository of your own"
    if status == 409:
        return f"{repo_id!r} was changed meanwhile (HTTP 409); run it again"
    if status == 429:
        return f"the Hub asks to slow down for {repo_id!r} (HTTP 429); wait a few minutes and run it again"
    if status is not None and status >= 500:
        return f"the Hub failed for {repo_id!r} (HTTP {status}); run it again later, nothing was changed"
    return f"the Hub refused the request for {repo_id!r}: {_first_line(error)}"


def _status(error: BaseException) -> int | None:
    return getattr(getattr(error, "response", None), "status_code", None)


def _cause(error: BaseException, kind: Any) -> BaseException | None:
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        if isinstance(current, kind):
            return current
        seen.add(id(current))
        current = current.__cause__ or current.__context__
    return None


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _has_token() -> bool:
    from huggingface_hub import get_token

    return get_token() is not None
