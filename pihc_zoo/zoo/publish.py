"""Exporting a complete model folder and pushing it to the Hub (`pihc export`, `pihc push`).

A push is one commit, so a push that breaks off leaves every older revision as it was and can be
repeated; what has not changed is not sent again. A tag is set only after what the Hub serves has
been downloaded and compared, and is never moved.
"""

from __future__ import annotations

import argparse
import fnmatch
import hashlib
import importlib
import importlib.metadata
import importlib.util
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..prediction import atomic_path
from .card import PLOT_FILE, card_text, check_card, is_generated, write_card
from .folder import (
    CARD_FILE,
    CONFIG_FILE,
    EXAMPLE_FILE,
    INDEX_FILE,
    METRICS_FILE,
    ONNX_FILE,
    SHARD_PATTERN,
    WEIGHTS_FILE,
    check_weights,
    read_config,
    self_test,
    sha256,
)
from .hub import HubError, find_folder, from_pretrained, hub_errors

if TYPE_CHECKING:
    from ..surrogate import Surrogate

LICENSE_FILE = "LICENSE"
_MODEL_FILES = [CONFIG_FILE, WEIGHTS_FILE, INDEX_FILE, SHARD_PATTERN, METRICS_FILE, EXAMPLE_FILE, PLOT_FILE]
_MODEL_FILES += [ONNX_FILE, f"{ONNX_FILE}.data", f"{ONNX_FILE}_data"]


@dataclass(frozen=True)
class Push:
    """What a push did.

    Attributes:
        repo_id, commit, tag: where the model is now.
        url: page of the commit or of the pull request.
        is_new: False if the Hub already held exactly these files.
    """

    repo_id: str
    commit: str
    tag: str | None
    url: str
    is_new: bool


# ---------------------------------------------------------------------- export


def save_pretrained(model: Surrogate, folder: str | os.PathLike, max_shard_size: int | None = None) -> Path:
    """Writes configuration, weights and a card; a card that somebody wrote by hand stays.

    Raises:
        ValueError: the folder cannot be written.
    """
    from .storage import MAX_SHARD_SIZE, save_folder

    folder = Path(folder)
    before = _digest(folder)
    save_folder(model, folder, MAX_SHARD_SIZE if max_shard_size is None else max_shard_size)
    if before is not None and before != model.config["weights_sha256"]:
        for name in (METRICS_FILE, EXAMPLE_FILE, PLOT_FILE, ONNX_FILE):  # they describe the model before
            (folder / name).unlink(missing_ok=True)
    write_card(folder, folder.resolve().name)
    return folder


def export(
    model: Surrogate | str | os.PathLike,
    to: str | os.PathLike,
    *,
    onnx: bool = False,
    load_name: str | None = None,
    max_shard_size: int | None = None,
) -> Path:
    """Writes the complete folder: weights, card, metrics, example, plot, licence, ONNX if asked for.

    Args:
        model: a surrogate, or what `from_pretrained` takes.
        to: the folder; files of the same model in it are kept where they are still right.
        onnx: also write model.onnx.
        load_name: what the card's example loads; the model's name by default.
        max_shard_size: bytes of one weights file.

    Raises:
        ValueError: the model cannot be loaded or the folder not written.
    """
    to = Path(to)
    source = None
    if isinstance(model, str | os.PathLike):
        source, name = find_folder(model)
        model = from_pretrained(model)
    else:
        source, name = getattr(model, "folder", None), model.name or to.resolve().name
    save_pretrained(model, to, max_shard_size)
    if source is not None and _digest(source) != model.config["weights_sha256"]:
        source = None  # fine-tuned since: figures and example are not its own
    if source is not None and source.resolve() != to.resolve():
        for file in (METRICS_FILE, ONNX_FILE):
            if (source / file).is_file():
                _copy(source / file, to / file)
    _example(model, to, source)
    if onnx:
        _export_onnx(model, to / ONNX_FILE)
    _write(to / LICENSE_FILE, _license())
    write_card(to, name, load_name)
    return to


def _digest(folder: Path) -> Any:
    try:
        return read_config(Path(folder)).get("weights_sha256")
    except (ValueError, OSError):
        return None


def _copy(source: Path, target: Path) -> None:
    with atomic_path(target) as temporary:
        shutil.copyfile(source, temporary)


def _write(path: Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _license() -> str:
    try:
        text = importlib.metadata.distribution("pihc_zoo").read_text("licenses/LICENSE")
    except importlib.metadata.PackageNotFoundError:
        text = None
    if text is None:
        path = Path(__file__).parents[2] / "LICENSE"
        text = path.read_text(encoding="utf-8") if path.is_file() else "MIT\n"
    return text


def _example(model: Surrogate, to: Path, source: Path | None) -> None:
    """Keeps or copies an example that the model reproduces; makes one otherwise."""
    for folder in (to, source):
        if folder is None or not (folder / EXAMPLE_FILE).is_file():
            continue
        try:
            self_test(model, folder)
        except ValueError:
            continue
        if folder != to:
            _copy(folder / EXAMPLE_FILE, to / EXAMPLE_FILE)
            if (folder / PLOT_FILE).is_file():
                _copy(folder / PLOT_FILE, to / PLOT_FILE)
        break
    else:
        (to / PLOT_FILE).unlink(missing_ok=True)
        write_example(model, to / EXAMPLE_FILE)
    can_plot = all(importlib.util.find_spec(name) for name in ("matplotlib", "pihc_zoo.plotting"))
    if can_plot and not (to / PLOT_FILE).is_file():
        import numpy as np

        with np.load(to / EXAMPLE_FILE, allow_pickle=False) as file:
            u0 = file["u0"]
        model.predict(u0).plot(len(u0) - 1, to / PLOT_FILE)


def write_example(model: Surrogate, path: Path, u0: Any = None) -> Path:
    """Writes initial conditions and the model's solution at a few points; `self_test` repeats it.

    Args:
        u0: (batch, *space); a constant and a smooth field in the trained range by default.

    Raises:
        ValueError: no solve of the example converges.
    """
    import numpy as np

    from ..prediction import save_npz, to_numpy

    problem = model.problem
    axes = list(problem.output_space.values())
    if u0 is None:
        low, high = model.config["trust"].get("state_range", problem.state_range)
        grids = np.meshgrid(*(np.linspace(0, 1, len(axis.nodes)) for axis in axes), indexing="ij")
        wave = np.prod([np.sin(2 * np.pi * grid + 0.5) for grid in grids], axis=0)
        u0 = np.stack([np.full(wave.shape, low + 0.5 * (high - low)), low + (high - low) * (0.5 + 0.3 * wave)])
    times = np.linspace(0.0, problem.duration, 11)
    points = {"x": axes[0].nodes[:: max(1, len(axes[0].nodes) // 64)]} if len(axes) == 1 else {}
    out = model.predict(u0, times=times, **points)
    good = to_numpy(out.converged).reshape(len(u0), -1).all(axis=1)
    if not good.any():
        raise ValueError("no solve of the example converges; train the model first, or raise max_steps")
    arrays = {"u0": to_numpy(out.u0)[good], "x": to_numpy(out.x), "t": to_numpy(out.t), "u": to_numpy(out.u)[good]}
    arrays |= {f"parameter_{key}": to_numpy(value)[good] for key, value in out.parameters.items()}
    return save_npz(path, arrays)


def _export_onnx(model: Surrogate, path: Path) -> None:
    if importlib.util.find_spec("pihc_zoo.zoo.onnx_export") is None:
        raise ValueError("this installation has no ONNX export; install it with: pip install 'pihc_zoo[onnx]'")
    try:
        module = importlib.import_module("pihc_zoo.zoo.onnx_export")
        with atomic_path(path) as temporary:
            module.export_onnx(model, temporary)
    except ImportError as error:
        raise ValueError(f"ONNX export needs {error.name}; install it with: pip install 'pihc_zoo[onnx]'") from None


# ---------------------------------------------------------------------- push


def push(
    folder: str | os.PathLike,
    repo_id: str,
    *,
    private: bool | None = None,
    branch: str | None = None,
    create_pr: bool = False,
    tag: str | None = None,
    commit_message: str | None = None,
    token: str | None = None,
) -> Push:
    """Uploads a model folder in one commit, compares what the Hub then serves, and tags it.

    Args:
        folder: a complete model folder; other files in it are not sent.
        repo_id: ``"org/name"``; created if it does not exist.
        private: visibility of a new repository.
        branch: branch to commit to, created if it does not exist; the default branch otherwise.
        create_pr: open a pull request instead.
        tag: name of the revision, such as "v1.0".
        commit_message: first line of the commit.
        token: Hub token; the stored one by default.

    Raises:
        HubError: no token, no permission, no network, a tag that holds other files, or a broken transfer;
            the older revisions are then untouched.
        ValueError: the folder is not a complete, undamaged model.
    """
    folder = Path(folder)
    if create_pr and (tag or branch):
        raise ValueError("a pull request has neither tag nor branch of its own; merge it, then tag it")
    check_weights(folder, read_config(folder))
    files = _publishable(folder)
    if CARD_FILE in files:
        check_card((folder / CARD_FILE).read_text(encoding="utf-8"))
    from huggingface_hub import HfApi, get_token

    if not (token or get_token()):
        raise HubError(f"pushing to {repo_id!r} needs a token; log in with: hf auth login, or set HF_TOKEN")
    api = HfApi(token=token)
    message = commit_message or f"{folder.resolve().name}{' ' + tag if tag else ''}"
    with hub_errors(repo_id, branch):
        api.create_repo(repo_id, private=private, exist_ok=True)
        if branch:
            api.create_branch(repo_id, branch=branch, exist_ok=True)
        keep = _handwritten_card(api, repo_id, branch, folder)
        files = [name for name in files if name != CARD_FILE or not keep]
        tagged = _tagged(api, repo_id, tag)
        if tagged is not None:
            changed, _ = _differences(api, repo_id, tagged, folder, files)
            if changed:
                raise HubError(
                    f"{repo_id!r} already has the tag {tag!r} with another {changed[0]}; tags are not moved: "
                    "choose a new one"
                )
            _compare(repo_id, tagged, folder, files, token)
            return Push(repo_id, tagged, tag, f"{api.endpoint}/{repo_id}/tree/{tag}", False)
        changed, stale = _differences(api, repo_id, branch, folder, files)
        if changed or stale:
            info = api.upload_folder(
                repo_id=repo_id,
                folder_path=folder,
                allow_patterns=files,
                delete_patterns=stale or None,
                commit_message=message,
                revision=branch,
                create_pr=create_pr,
            )
            commit, url = info.oid, info.pr_url or str(info.commit_url)
        else:
            commit = str(api.model_info(repo_id, revision=branch).sha)
            url = f"{api.endpoint}/{repo_id}/commit/{commit}"
        _compare(repo_id, commit, folder, files, token)
        if tag:
            api.create_tag(repo_id, tag=tag, revision=commit, exist_ok=True)
            if _tagged(api, repo_id, tag) != commit:
                raise HubError(f"somebody else just set the tag {tag!r} on {repo_id!r}; choose a new one")
    return Push(repo_id, commit, tag, url, bool(changed or stale))


def push_to_hub(model: Surrogate, repo_id: str, **options: Any) -> str:
    """Exports ``model`` to a temporary folder and pushes it; see `push` for the options.

    Returns:
        The address of the commit or pull request.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = export(model, Path(temporary) / repo_id.rpartition("/")[2], load_name=repo_id)
        return push(folder, repo_id, **options).url


def _publishable(folder: Path) -> list[str]:
    patterns = [*_MODEL_FILES, CARD_FILE, LICENSE_FILE]
    return sorted(p.name for p in folder.iterdir() if any(fnmatch.fnmatch(p.name, pattern) for pattern in patterns))


def _tagged(api: Any, repo_id: str, tag: str | None) -> str | None:
    """The commit a tag points to; None without one."""
    return next((ref.target_commit for ref in api.list_repo_refs(repo_id).tags if ref.name == tag), None)


def _handwritten_card(api: Any, repo_id: str, branch: str | None, folder: Path) -> bool:
    """Whether the repository has a card that is not ours to overwrite."""
    if not api.file_exists(repo_id, CARD_FILE, revision=branch):
        return False
    with tempfile.TemporaryDirectory() as temporary:
        path = api.hf_hub_download(repo_id, CARD_FILE, revision=branch, cache_dir=temporary)
        return not is_generated(Path(path).read_text(encoding="utf-8"))


def _differences(
    api: Any, repo_id: str, revision: str | None, folder: Path, files: list[str]
) -> tuple[list[str], list[str]]:
    """Files that the repository lacks or has otherwise, and model files it should no longer have."""
    entries = api.list_repo_tree(repo_id, recursive=True, revision=revision)
    remote = {entry.path: entry for entry in entries if hasattr(entry, "blob_id")}
    changed = [name for name in files if name not in remote or not _is_same(remote[name], folder / name)]
    stale = [
        path
        for path in remote
        if path not in files and path != CARD_FILE and any(fnmatch.fnmatch(path, pattern) for pattern in _MODEL_FILES)
    ]
    return changed, stale


def _is_same(entry: Any, path: Path) -> bool:
    if entry.lfs is not None:
        return entry.lfs.sha256 == sha256(path)
    data = path.read_bytes()
    return entry.blob_id == hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def _compare(repo_id: str, commit: str, folder: Path, files: list[str], token: str | None) -> None:
    """Downloads a commit into an empty cache and compares it byte for byte."""
    from huggingface_hub import snapshot_download

    with tempfile.TemporaryDirectory() as temporary:
        served = Path(
            snapshot_download(repo_id, revision=commit, cache_dir=temporary, allow_patterns=files, token=token)
        )
        for name in files:
            if not (served / name).is_file() or sha256(served / name) != sha256(folder / name):
                raise HubError(f"{repo_id!r} serves another {name} than was sent (commit {commit[:8]}); push again")


# ---------------------------------------------------------------------- command line


def add_export_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``pihc export``."""
    parser.add_argument("model", help="shipped model, local folder or Hub id")
    parser.add_argument("--to", type=Path, required=True, metavar="DIR", help="folder to write")
    parser.add_argument("--onnx", action="store_true", help="also write model.onnx, the whole pipeline")
    parser.add_argument("--push", metavar="ORG/NAME", help="push the folder to the Hub")
    _add_hub_arguments(parser)


def run_export(options: argparse.Namespace) -> int:
    """``pihc export``: writes the folder, pushes it if asked to."""
    folder = export(options.model, options.to, onnx=options.onnx, load_name=options.push)
    print(f"{folder}: {', '.join(_publishable(folder))}")
    return _push_folder(folder, options.push, options) if options.push else 0


def add_push_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``pihc push``."""
    parser.add_argument("model", help="an exported folder, or a shipped model")
    parser.add_argument("repo_id", metavar="ORG/NAME", help="repository on the Hub; created if it does not exist")
    _add_hub_arguments(parser)


def run_push(options: argparse.Namespace) -> int:
    """``pihc push``: a complete folder as it is; anything else is exported first."""
    if (Path(options.model) / CARD_FILE).is_file():
        return _push_folder(Path(options.model), options.repo_id, options)
    with tempfile.TemporaryDirectory() as temporary:
        folder = export(options.model, Path(temporary) / Path(options.model).name, load_name=options.repo_id)
        return _push_folder(folder, options.repo_id, options)


def _add_hub_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--revision", metavar="TAG", help="tag of the pushed commit, e.g. v1.0")
    parser.add_argument("--branch", help="branch to commit to")
    parser.add_argument("--private", action="store_true", default=None, help="make a new repository private")
    parser.add_argument("--create-pr", action="store_true", help="open a pull request")
    parser.add_argument("--message", help="first line of the commit")


def _push_folder(folder: Path, repo_id: str, options: argparse.Namespace) -> int:
    result = push(
        folder,
        repo_id,
        private=options.private,
        branch=options.branch,
        create_pr=options.create_pr,
        tag=options.revision,
        commit_message=options.message,
    )
    done = "pushed and verified" if result.is_new else "already there, verified"
    print(f"{result.url}: {done}" + (f", tagged {result.tag}" if result.tag else ""))
    return 0


__all__ = [
    "Push",
    "add_export_arguments",
    "add_push_arguments",
    "card_text",
    "export",
    "push",
    "push_to_hub",
    "run_export",
    "run_push",
    "save_pretrained",
    "write_example",
]
