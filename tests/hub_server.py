"""A server on this machine that answers as the Hugging Face hub does for one data set, as far as its client asks."""

import hashlib
import http.server
import json
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CONVERTED = "refs/convert/parquet"


class Hub(http.server.ThreadingHTTPServer):
    """Serves `revisions`: name -> folder of files; `asked` has what was asked for."""

    daemon_threads = True

    def __init__(self, revisions: dict[str, Path]) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.revisions = revisions
        self.asked: list[str] = []
        self.ranges: list[int] = []

    def folder(self, revision: str) -> tuple[str, Path] | None:
        """Return commit and folder of a revision: its name, or its commit."""
        for name, folder in self.revisions.items():
            commit = hashlib.sha1(name.encode()).hexdigest()
            if revision in (name, commit):
                return commit, folder
        return None


class Answers(http.server.BaseHTTPRequestHandler):
    """Answers of the API: a data set's files, their sizes, and ranges of their bytes."""

    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
        self.server.asked.append(path)
        api, files = "/api/datasets/owner/photos", "/datasets/owner/photos/resolve/"
        if path.startswith(files):
            found = next((one for one in self._revisions() if path.startswith(f"{files}{one}/")), "")
            return self._send_file(found, path.removeprefix(f"{files}{found}/"))
        if path in (api, f"{api}/revision/main"):
            return self._send_info("main")
        if path.startswith(f"{api}/revision/"):
            return self._send_info(path.removeprefix(f"{api}/revision/"))
        if path.startswith(f"{api}/tree/"):
            return self._send_tree(path.removeprefix(f"{api}/tree/"))
        return self._send(404, {"error": "not here"}, {"X-Error-Code": "RepoNotFound"})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
        self.server.asked.append(path)
        found = self.server.folder(path.removeprefix("/api/datasets/owner/photos/paths-info/"))
        form = [value for key, value in urllib.parse.parse_qsl(body) if key == "paths"]
        wanted = json.loads(body)["paths"] if body.startswith("{") else form
        if found is None:
            return self._send(404, {"error": "no such revision"}, {"X-Error-Code": "RevisionNotFound"})
        return self._send(200, [_entry(found[1], found[1] / one) for one in wanted])

    def _revisions(self) -> Iterator[str]:
        for name in self.server.revisions:
            yield name
            yield hashlib.sha1(name.encode()).hexdigest()

    def _send_info(self, revision: str) -> None:
        found = self.server.folder(revision)
        if found is None:
            return self._send(404, {"error": "no such revision"}, {"X-Error-Code": "RevisionNotFound"})
        commit, folder = found
        files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
        siblings = [{"rfilename": str(file.relative_to(folder)), "size": file.stat().st_size} for file in files]
        info = {"id": "owner/photos", "sha": commit, "siblings": siblings, "tags": [], "private": False}
        return self._send(200, info)

    def _send_tree(self, path: str) -> None:
        revision = next(one for one in self._revisions() if path == one or path.startswith(f"{one}/"))
        found = self.server.folder(revision)
        assert found is not None
        inside = found[1] / path.removeprefix(revision).lstrip("/")
        return self._send(200, [_entry(found[1], file) for file in sorted(inside.iterdir())])

    def _send_file(self, revision: str, name: str) -> None:
        found = self.server.folder(revision)
        assert found is not None
        content = (found[1] / name).read_bytes()
        first, last = self.headers["Range"].removeprefix("bytes=").split("-")
        part = content[int(first) : int(last) + 1]
        self.server.ranges.append(len(part))
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {first}-{int(first) + len(part) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        self.wfile.write(part)

    def _send(self, code: int, value: Any, more: dict[str, str] | None = None) -> None:
        content = json.dumps(value).encode()
        self.send_response(code)
        for name, header in {"Content-Type": "application/json", **(more or {})}.items():
            self.send_header(name, header)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def _entry(root: Path, file: Path) -> dict[str, Any]:
    kind = "file" if file.is_file() else "directory"
    return {"type": kind, "path": str(file.relative_to(root)), "oid": "0" * 40, "size": file.stat().st_size}


@contextmanager
def hub_server(revisions: dict[str, Path]) -> Iterator[Hub]:
    """Serve data set owner/photos while the block runs; HF_ENDPOINT is its `server_address`."""
    hub = Hub(revisions)
    thread = threading.Thread(target=hub.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
        thread.join()
