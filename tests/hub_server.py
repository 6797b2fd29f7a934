"""A Hub on loopback: enough of the Hugging Face Hub's HTTP protocol for the real client.

The whole workflow by hand, with this in one terminal:

    python -m tests.hub_server

and, after the `export` line that it prints, this in another:

    python -m training diffusion-sorption.general --output runs/brief --set training.steps=3 --references 0
    python -m export runs/brief/model --to runs/brief/folder --push me/brief --revision v1.0
    pihc predict me/brief --constant 0.1 --output runs/brief/out.npz

Repositories live in memory: every commit is a map path → content. Large (LFS) files go through the
LFS batch protocol, as with the real Hub when Xet is off. Faults can be switched on: see `Faults`.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import hashlib
import json
import re
import socket
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar
from urllib.parse import parse_qs, unquote, urlsplit

LARGE = (".safetensors", ".onnx", ".npz", ".png")


@dataclass
class Faults:
    """What goes wrong; plain attributes that a test sets.

    Attributes:
        cut_commit: close the connection in the middle of that many commits, before they take effect.
        cut_upload: that many LFS uploads are cut after half their bytes.
        corrupt: name of a file whose first byte arrives flipped.
        cut_download: name of a file of which only half arrives.
    """

    cut_commit: int = 0
    cut_upload: int = 0
    corrupt: str = ""
    cut_download: str = ""


@dataclass
class Repository:
    """Commits (path → content) and the names that point to them."""

    private: bool = False
    gated: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    pull_requests: int = 0

    def commit(self, branch: str, files: dict[str, bytes], message: str) -> str:
        listing = "".join(f"{path} {hashlib.sha256(data).hexdigest()}\n" for path, data in sorted(files.items()))
        sha = hashlib.sha1(f"{len(self.commits)} {listing}".encode()).hexdigest()
        self.commits[sha] = files
        self.branches[branch] = sha
        self.messages.append(message)
        return sha

    def resolve(self, revision: str) -> str | None:
        named = self.branches.get(revision) or self.tags.get(revision)
        return named or (revision if revision in self.commits else None)


class HubServer:
    """Context: serves on 127.0.0.1; `endpoint` is what HF_ENDPOINT should hold.

    Args:
        token: the only token with write access.
        large: suffixes that are uploaded as LFS objects; () makes every upload regular.
    """

    def __init__(self, token: str = "hf_dummy", port: int = 0, large: tuple[str, ...] = LARGE):
        self.token, self.large = token, large
        self.repositories: dict[str, Repository] = {}
        self.objects: dict[str, bytes] = {}
        self.faults = Faults()
        self.requests: list[str] = []
        self.lock = threading.RLock()
        handler = type("Handler", (_Handler,), {"hub": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", port), handler)
        self.server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self.server.server_address[1]}"

    def __enter__(self) -> HubServer:
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *exception) -> None:
        self.server.shutdown()
        self.server.server_close()

    def add(self, repo_id: str, files: dict[str, bytes], **options) -> str:
        """Puts a repository in place directly; returns its commit."""
        with self.lock:
            repository = self.repositories.setdefault(repo_id, Repository(**options))
            return repository.commit("main", dict(files), "added")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: ClassVar[HubServer]

    def log_message(self, *arguments) -> None:
        pass

    def _serve(self) -> None:
        hub = self.hub
        parts = urlsplit(self.path)
        path, self.query = parts.path, parse_qs(parts.query)
        hub.requests.append(f"{self.command} {unquote(path)}")
        for method, pattern, action in _ROUTES:
            match = re.fullmatch(pattern, path)
            if match and self.command in method.split():
                if action != "upload":  # an upload reads its own body, so that it can be cut
                    self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                arguments = [unquote(group or "") for group in match.groups()]
                with hub.lock:
                    getattr(self, f"_{action}")(*arguments)
                return
        self._error(404, "NotFound", f"no route for {self.command} {path}")

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _serve  # noqa: N815

    # ------------------------------------------------------------------ answers

    def _send(self, status: int, data: bytes, kind: str = "application/json", **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _json(self, value, status: int = 200, **headers: str) -> None:
        self._send(status, json.dumps(value).encode(), **headers)

    def _error(self, status: int, code: str, message: str) -> None:
        self._json({"error": message}, status, X_Error_Code=code, X_Error_Message=message)

    def _cut(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    # ------------------------------------------------------------------ permissions and look-up

    @property
    def _given(self) -> str:
        return (self.headers.get("Authorization") or "").removeprefix("Bearer ")

    def _may_write(self, repo_id: str = "") -> bool:
        if self._given == self.hub.token and not repo_id.startswith("forbidden/"):
            return True
        if self._given and self._given != self.hub.token:
            self._json(
                {"error": "Invalid credentials in Authorization header"},
                401,
                X_Error_Message="Invalid credentials in Authorization header",
            )
        elif self._given:
            self._error(403, "", "Forbidden: you have no write access")
        else:
            self._error(401, "", "Unauthorized")
        return False

    def _repository(self, repo_id: str) -> Repository | None:
        if self._given and self._given != self.hub.token:
            self._json(
                {"error": "Invalid credentials in Authorization header"},
                401,
                X_Error_Message="Invalid credentials in Authorization header",
            )
            return None
        repository = self.hub.repositories.get(repo_id)
        if repository is None or (repository.private and self._given != self.hub.token):
            self._error(404 if self._given else 401, "RepoNotFound", "Repository not found")
            return None
        return repository

    def _find(self, repo_id: str, revision: str) -> tuple[Repository, str] | None:
        repository = self._repository(repo_id)
        if repository is None:
            return None
        sha = repository.resolve(revision)
        if sha is None:
            self._error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            return None
        return repository, sha

    # ------------------------------------------------------------------ writing

    def _create(self) -> None:
        value = json.loads(self.body)
        repo_id = f"{value.get('organization') or 'me'}/{value['name']}"
        if not self._may_write(repo_id):
            return
        if repo_id in self.hub.repositories:
            self._json({"error": "You already created this model repo", "url": f"{self.hub.endpoint}/{repo_id}"}, 409)
            return
        repository = Repository(private=value.get("visibility") == "private" or bool(value.get("private")))
        repository.commit("main", {".gitattributes": b""}, "initial commit")
        self.hub.repositories[repo_id] = repository
        self._json({"url": f"{self.hub.endpoint}/{repo_id}", "name": repo_id, "id": repo_id})

    def _validate(self) -> None:
        import yaml

        content = json.loads(self.body)["content"]
        match = re.match(r"---\n(.*?)\n---\n", content, re.S)
        try:
            data = yaml.safe_load(match.group(1)) if match else {}
            errors = [] if isinstance(data, dict) else [{"message": "metadata must be a mapping"}]
        except yaml.YAMLError as error:
            errors = [{"message": str(error)}]
        self._json({"errors": errors, "warnings": []}, 400 if errors else 200)

    def _preupload(self, repo_id: str, revision: str) -> None:
        if not self._may_write(repo_id) or (found := self._find(repo_id, revision)) is None:
            return
        files = found[0].commits[found[1]]
        answer = []
        for item in json.loads(self.body)["files"]:
            is_large = item["path"].endswith(self.hub.large) if self.hub.large else False
            known = files.get(item["path"])
            oid = None if known is None else _oid(known, is_large)
            mode = "lfs" if is_large else "regular"
            answer.append({"path": item["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        self._json({"files": answer})

    def _batch(self, repo_id: str) -> None:
        if not self._may_write(repo_id):
            return
        answer = []
        for item in json.loads(self.body)["objects"]:
            entry = {"oid": item["oid"], "size": item["size"]}
            if item["oid"] not in self.hub.objects:
                href = f"{self.hub.endpoint}/_lfs/{item['oid']}"
                entry["actions"] = {"upload": {"href": href}, "verify": {"href": href + "/verify"}}
            answer.append(entry)
        self._json({"transfer": "basic", "objects": answer})

    def _upload(self, oid: str) -> None:
        size = int(self.headers.get("Content-Length") or 0)
        if self.hub.faults.cut_upload:
            self.hub.faults.cut_upload -= 1
            self.rfile.read(size // 2)
            self._cut()
            return
        data = self.rfile.read(size)
        if hashlib.sha256(data).hexdigest() != oid:
            self._error(400, "", "content does not match its sha256")
            return
        self.hub.objects[oid] = data
        self._json({})

    def _verify(self, oid: str) -> None:
        self._json({}, 200 if oid in self.hub.objects else 404)

    def _commit(self, repo_id: str, revision: str) -> None:
        if not self._may_write(repo_id) or (found := self._find(repo_id, revision)) is None:
            return
        if self.hub.faults.cut_commit:
            self.hub.faults.cut_commit -= 1
            self._cut()
            return
        repository, parent = found
        files, message = dict(repository.commits[parent]), ""
        for line in self.body.splitlines():
            item = json.loads(line)
            key, value = item["key"], item["value"]
            if key == "header":
                message = value["summary"]
                if value.get("parentCommit") not in (None, parent):
                    self._error(409, "", "the branch has moved on")
                    return
            elif key == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif key == "lfsFile":
                if value["oid"] not in self.hub.objects:
                    self._error(400, "", f"LFS object {value['oid']} was not uploaded")
                    return
                files[value["path"]] = self.hub.objects[value["oid"]]
            elif key == "deletedFile":
                files.pop(value["path"], None)
        extra = {}
        if "create_pr" in self.query:
            repository.pull_requests += 1
            revision = f"refs/pr/{repository.pull_requests}"
            extra["pullRequestUrl"] = f"{self.hub.endpoint}/{repo_id}/discussions/{repository.pull_requests}"
        sha = repository.commit(revision, files, message)
        self._json({"commitOid": sha, "commitUrl": f"{self.hub.endpoint}/{repo_id}/commit/{sha}", **extra})

    def _tag(self, repo_id: str, revision: str) -> None:
        if not self._may_write(repo_id) or (found := self._find(repo_id, revision)) is None:
            return
        tag = json.loads(self.body)["tag"]
        if tag in found[0].tags:
            self._error(409, "", f"Tag reference exists already: {tag}")
            return
        found[0].tags[tag] = found[1]
        self._json({})

    def _branch(self, repo_id: str, branch: str) -> None:
        if not self._may_write(repo_id):
            return
        start = json.loads(self.body or b"{}").get("startingPoint") or "main"
        if (found := self._find(repo_id, start)) is None:
            return
        if branch in found[0].branches:
            self._error(409, "", f"Reference already exists: {branch}")
            return
        found[0].branches[branch] = found[1]
        self._json({})

    # ------------------------------------------------------------------ reading

    def _info(self, repo_id: str, revision: str = "") -> None:
        if (found := self._find(repo_id, revision or "main")) is None:
            return
        repository, sha = found
        siblings = [{"rfilename": path} for path in sorted(repository.commits[sha])]
        self._json({"id": repo_id, "modelId": repo_id, "sha": sha, "private": repository.private, "siblings": siblings})

    def _refs(self, repo_id: str) -> None:
        if (repository := self._repository(repo_id)) is None:
            return
        kinds = {"branches": ("heads", repository.branches), "tags": ("tags", repository.tags)}
        answer = {
            key: [{"name": n, "ref": f"refs/{kind}/{n}", "targetCommit": sha} for n, sha in names.items()]
            for key, (kind, names) in kinds.items()
        }
        self._json({**answer, "converts": [], "pullRequests": []})

    def _tree(self, repo_id: str, revision: str) -> None:
        if (found := self._find(repo_id, revision)) is None:
            return
        entries = []
        for path, data in sorted(found[0].commits[found[1]].items()):
            entry = {"type": "file", "path": path, "size": len(data), "oid": _oid(data, False)}
            if self.hub.large and path.endswith(self.hub.large):
                entry["lfs"] = {"oid": _oid(data, True), "size": len(data), "pointerSize": 130}
            entries.append(entry)
        self._json(entries)

    def _models(self) -> None:
        author = self.query.get("author", [""])[0]
        names = [name for name, repository in self.hub.repositories.items() if not repository.private]
        self._json([{"id": name, "modelId": name} for name in names if not author or name.startswith(author + "/")])

    def _whoami(self) -> None:
        if self._may_write():
            self._json({"name": "me", "type": "user", "orgs": []})

    def _file(self, repo_id: str, revision: str, path: str) -> None:
        if (found := self._find(repo_id, revision)) is None:
            return
        repository, sha = found
        if repository.gated:
            self._error(403, "GatedRepo", "Access to this model is restricted")
            return
        data = repository.commits[sha].get(path)
        if data is None:
            self._error(404, "EntryNotFound", "Entry not found")
            return
        is_large = bool(self.hub.large) and path.endswith(self.hub.large)
        headers = {"X_Repo_Commit": sha, "ETag": f'"{_oid(data, is_large)}"', "Accept_Ranges": "bytes"}
        faults = self.hub.faults
        if self.command == "GET" and faults.corrupt and path.endswith(faults.corrupt):
            data = bytes([data[0] ^ 0xFF]) + data[1:]
        start = re.match(r"bytes=(\d+)-", self.headers.get("Range") or "")
        status, body = (206, data[int(start.group(1)) :]) if start else (200, data)
        if start:
            headers["Content_Range"] = f"bytes {start.group(1)}-{len(data) - 1}/{len(data)}"
        if self.command == "GET" and faults.cut_download and path.endswith(faults.cut_download):
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: len(body) // 2])
            self._cut()
            return
        self._send(status, body, "application/octet-stream", **headers)


def _oid(data: bytes, is_large: bool) -> str:
    """The Hub's object id: sha256 of an LFS file, git's blob hash of a regular one."""
    if is_large:
        return hashlib.sha256(data).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


_ID = r"([\w.-]+/[\w.-]+)"
_ROUTES = (
    ("POST", "/api/repos/create", "create"),
    ("POST", "/api/validate-yaml", "validate"),
    ("GET", "/api/whoami-v2", "whoami"),
    ("GET", "/api/models", "models"),
    ("POST", f"/api/models/{_ID}/preupload/([^/]+)", "preupload"),
    ("POST", f"/api/models/{_ID}/commit/([^/]+)", "commit"),
    ("POST", f"/api/models/{_ID}/tag/([^/]+)", "tag"),
    ("POST", f"/api/models/{_ID}/branch/([^/]+)", "branch"),
    ("GET", f"/api/models/{_ID}/refs", "refs"),
    ("GET", f"/api/models/{_ID}/tree/([^/]+)", "tree"),
    ("GET", f"/api/models/{_ID}/revision/([^/]+)", "info"),
    ("GET", f"/api/models/{_ID}", "info"),
    ("POST", f"/{_ID}.git/info/lfs/objects/batch", "batch"),
    ("PUT", "/_lfs/([0-9a-f]{64})", "upload"),
    ("POST", "/_lfs/([0-9a-f]{64})/verify", "verify"),
    ("GET HEAD", f"/{_ID}/resolve/([^/]+)/(.+)", "file"),
)


def main(arguments: list[str] | None = None) -> None:
    """Serves until interrupted."""
    parser = argparse.ArgumentParser(prog="python -m tests.hub_server", description="Serve a Hub on loopback.")
    parser.add_argument("--port", type=int, default=8080, help="0 picks a free one")
    options = parser.parse_args(arguments)
    with HubServer(port=options.port) as hub:
        print("In another terminal:")
        print(f"  export HF_ENDPOINT={hub.endpoint} HF_TOKEN={hub.token} HF_HUB_DISABLE_XET=1 HF_HOME=$(mktemp -d)")
        print("  python -m export diffusion-sorption.general --to runs/folder --push me/model --revision v1.0")
        print("  pihc info me/model")
        print("Ctrl-C stops it; what was pushed is gone then.", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()


if __name__ == "__main__":
    main()
