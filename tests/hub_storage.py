"""A server on this machine that stores and gives repositories as the Hugging Face hub does for its client."""

import base64
import hashlib
import http.server
import json
import re
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

REPOSITORY = r"(?P<kind>datasets/|models/|)(?P<name>[\w.-]+/[\w.-]+?)"


class Storage(http.server.ThreadingHTTPServer):
    """Files of each repository after its last commit, large contents by their digest, and what was sent."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.large: dict[str, bytes] = {}
        self.commits: list[str] = []
        self.puts = 0
        self.tokens: set[str | None] = set()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Answers(http.server.BaseHTTPRequestHandler):
    """The calls of `create_repo`, `create_commit` and `snapshot_download`."""

    server: Storage
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def do_POST(self) -> None:
        path, body = urllib.parse.urlsplit(self.path).path, self.body()
        self.server.tokens.add(self.headers.get("Authorization"))
        if self.headers.get("Authorization") is None:
            return self.answer(401, {"error": "Invalid username or password."})
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}" if asked.get("organization") else f"me/{asked['name']}"
            key = f"{asked.get('type') or 'model'}s/{name}"
            self.server.repositories.setdefault(key, {})
            return self.answer(200, {"url": f"{self.server.address}/{name}", "id": name, "name": name})
        if path == "/api/validate-yaml":
            return self.answer(200, {"errors": [], "warnings": []})
        if match := re.fullmatch(rf"/api/{REPOSITORY}/preupload/main", path):
            files = json.loads(body)["files"]
            modes = [
                {"path": file["path"], "uploadMode": mode_of(file["path"]), "shouldIgnore": False} for file in files
            ]
            return self.answer(200, {"files": modes})
        if path.endswith(".git/info/lfs/objects/batch"):
            return self.answer(
                200, {"transfer": "basic", "objects": [self.place(o) for o in json.loads(body)["objects"]]}
            )
        if match := re.fullmatch(rf"/api/{REPOSITORY}/commit/main", path):
            return self.commit(match["kind"] + match["name"], body)
        return self.answer(404, {"error": f"not here: {path}"})

    def place(self, wanted: dict[str, Any]) -> dict[str, Any]:
        """Return where a large file is sent; nowhere if it is stored already."""
        if wanted["oid"] in self.server.large:
            return wanted
        return {**wanted, "actions": {"upload": {"href": f"{self.server.address}/large/{wanted['oid']}"}}}

    def do_PUT(self) -> None:
        self.server.puts += 1
        content = self.body()
        assert self.path == f"/large/{hashlib.sha256(content).hexdigest()}"
        self.server.large[self.path.removeprefix("/large/")] = content
        self.answer(200, {})

    def commit(self, key: str, body: bytes) -> None:
        files = dict(self.server.repositories[key])
        for line in map(json.loads, body.decode().splitlines()):
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.server.large[value["oid"]]
        self.server.repositories[key] = files
        self.server.commits.append(key)
        url = f"{self.server.address}/{key}/commit/{commit_of(files)}"
        self.answer(200, {"commitUrl": url, "commitOid": commit_of(files), "success": True})

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
        if match := re.fullmatch(rf"/api/{REPOSITORY}(/revision/\w+)?", path):
            key = match["kind"] + match["name"]
            files = self.server.repositories.get(key)
            if files is None:
                return self.answer(404, {"error": "not here"}, {"X-Error-Code": "RepoNotFound"})
            siblings = [{"rfilename": name} for name in files]
            return self.answer(200, {"id": match["name"], "sha": commit_of(files), "siblings": siblings, "tags": []})
        if match := re.fullmatch(rf"/api/{REPOSITORY}/tree/\w+", path):
            files = self.server.repositories[match["kind"] + match["name"]]
            return self.answer(200, [
                {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                for name, content in files.items()
            ])  # fmt: skip
        if match := re.fullmatch(rf"/{REPOSITORY}/resolve/\w+/(?P<file>.+)", path):
            files = self.server.repositories["models/" + match["name"]]
            content = files[match["file"]]
            headers = {"X-Repo-Commit": commit_of(files), "ETag": f'"{hashlib.sha256(content).hexdigest()}"'}
            return self.send(200, content, headers)
        return self.answer(404, {"error": f"not here: {path}"})

    def answer(self, code: int, value: Any, more: dict[str, str] | None = None) -> None:
        self.send(code, json.dumps(value).encode(), {"Content-Type": "application/json", **(more or {})})

    def send(self, code: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def mode_of(name: str) -> str:
    return "lfs" if name.endswith(".safetensors") else "regular"


def commit_of(files: dict[str, bytes]) -> str:
    return hashlib.sha1(b"".join(name.encode() + content for name, content in sorted(files.items()))).hexdigest()


@contextmanager
def hub_storage() -> Iterator[Storage]:
    """Serve an empty hub while the block runs; HF_ENDPOINT is its `address`."""
    server = Storage()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
