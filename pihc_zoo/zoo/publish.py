"""Pushing a model folder to the Hub.

A push is one commit, so a push that breaks off leaves every older revision as it was and can be
repeated; what has not changed is not sent again. A tag is set only after what the Hub serves has
been downloaded and compared, and is never moved.
"""

from __future__ import annotations

import fnmatch
import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..files import sha256
from .card import PLOT_FILE, TUNING_PLOT, check_card, is_generated
from .exporting import LICENSE_FILE, export
from .folder import (
    CARD_FILE,
    CONFIG_FILE,
    INDEX_FILE,
    RECORDED,
    SHARD_PATTERN,
    WEIGHTS_FILE,
    check_files,
    read_config,
)
from .hub import HubError, hub_errors, is_hub_id

if TYPE_CHECKING:
    from ..surrogate import Surrogate

_MODEL_FILES = [CONFIG_FILE, WEIGHTS_FILE, INDEX_FILE, SHARD_PATTERN, PLOT_FILE, TUNING_PLOT, *RECORDED]


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
    if not is_hub_id(repo_id):
        raise HubError(f"expected a repository 'org/name', got {repo_id!r}; put your user name before it")
    check_files(folder, read_config(folder))
    files = publishable(folder)
    if CARD_FILE in files:
        check_card((folder / CARD_FILE).read_text(encoding="utf-8"))
    from huggingface_hub import HfApi, get_token

    if not (token or get_token()):
        raise HubError(f"pushing to {repo_id!r} needs a token; log in with: hf auth login, or set HF_TOKEN")
    api = HfApi(token=token, library_name="pihc_zoo", library_version=__version__)
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


def publishable(folder: Path) -> list[str]:
    """Names of the files of a model folder that a push sends."""
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
