"""A hub on loopback that speaks the APIs of Hugging Face and ModelScope, and can misbehave.

It serves files with ranges, ETags and the headers of the real one. A test takes over single
answers with `on_file`; `asked` has what was asked for. Nothing is remembered between connections.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from random import Random
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.models.support.gguf_builder import TensorSpec, tiny_model

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REPOSITORY = "owner/repo"


def model_bytes(size: int = 300_000, seed: int = 1) -> bytes:
    """A GGUF file that passes the pre-check, about that large, and the same for the same seed."""
    model = tiny_model()
    rows = max(1, size // (32 * 4))
    random, length = Random(seed), rows * 32 * 4
    data = b"".join(random.randbytes(min(1 << 20, length - at)) for at in range(0, length, 1 << 20))
    model.tensors["blk.0.ffn_up.weight"] = TensorSpec((32, rows), type=0, data=data)
    return model.build()


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@dataclass
class Request:
    """One request for the bytes of a file. start: of the range, 0 without one."""

    handler: BaseHTTPRequestHandler
    data: bytes
    start: int
    has_range: bool
    number: int

    @property
    def etag(self) -> str:
        return f'"{digest(self.data)[:32]}"'

    def serve(self, upto: int | None = None, headers: Mapping[str, str] | None = None) -> None:
        """As it should be; upto: the connection ends there. headers: beside or instead of those."""
        if_range = self.handler.headers.get("If-Range", self.etag)
        if self.has_range and self.start < len(self.data) and if_range == self.etag:
            total = len(self.data)
            told = {"Content-Range": f"bytes {self.start}-{total - 1}/{total}", **(headers or {})}
            rest = self.data[self.start :]
            self.reply(206, rest, None if upto is None else upto - self.start, told)
        elif self.has_range and self.start >= len(self.data):
            self.reply(416, b"", None, headers)
        else:
            self.reply(200, self.data, upto, headers)

    def reply(
        self,
        status: int,
        body: bytes = b"",
        upto: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """headers: an empty value leaves one out."""
        told = {"Content-Length": str(len(body)), "ETag": self.etag, **(headers or {})}
        self.handler.send_response(status)
        for name, value in told.items():
            if value:
                self.handler.send_header(name, value)
        self.handler.end_headers()
        if self.handler.command != "HEAD":
            self.handler.wfile.write(body if upto is None else body[: max(0, upto)])
        self.handler.close_connection = True


@dataclass
class StubHub:
    """files: path in REPOSITORY -> bytes. asked: (method, path, range) of every request.

    oids: what is announced instead of the right SHA-256. served: bytes of bodies of files.
    """

    files: dict[str, bytes]
    port: int = 0
    on_file: Callable[[Request], None] = lambda request: request.serve()
    on_head: Callable[[Request], None] | None = None
    oids: dict[str, str] = field(default_factory=dict)
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def environ(self) -> dict[str, str]:
        return {"HF_ENDPOINT": self.url, "MODELSCOPE_DOMAIN": self.url}

    def ranges(self) -> list[str]:
        """The ranges of the requests for bytes, in order; empty for one without."""
        return [
            spread for method, path, spread in self.asked if method == "GET" and "/cdn/" in path
        ]

    def oid(self, path: str) -> str:
        return self.oids.get(path, digest(self.files[path]))


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        hub = self.server.hub
        path = unquote(urlsplit(self.path).path)
        spread = self.headers.get("Range", "")
        hub.asked.append((self.command, path, spread))
        hub.headers.append(dict(self.headers))
        if path == f"/api/v1/models/{REPOSITORY}/repo/files":
            assert parse_qs(urlsplit(self.path).query)["Recursive"] == ["true"]
            self._json({"Data": {"Files": [self._scope_entry(name) for name in hub.files]}})
        elif path.startswith(f"/api/models/{REPOSITORY}/tree/"):
            self._json([self._tree_entry(name) for name in hub.files])
        else:
            self._file(path, spread)

    def _file(self, path: str, spread: str) -> None:
        hub = self.server.hub
        found = re.fullmatch(rf"/(?:models/)?{REPOSITORY}/resolve/[^/]+/(.+)", path)
        cdn = path.removeprefix("/cdn/") if path.startswith("/cdn/") else ""
        name = found[1] if found else cdn
        if name not in hub.files:
            self._plain(404)
            return
        start = int(spread.removeprefix("bytes=").rstrip("-") or 0) if spread else 0
        number = len(hub.ranges()) - 1
        request = Request(self, hub.files[name], start, bool(spread), number)
        if cdn:
            hub.on_file(request)
        elif self.command == "HEAD" and hub.on_head is not None:
            hub.on_head(request)
        else:
            # As the hub does: what it knows of the file, and where its bytes are.
            request.reply(
                302,
                headers={
                    "X-Linked-Etag": f'"{hub.oid(name)}"',
                    "X-Linked-Size": str(len(hub.files[name])),
                    "X-Repo-Commit": COMMIT,
                    "Location": f"http://localhost:{hub.port}/cdn/{name}",
                },
            )

    def _tree_entry(self, name: str) -> dict[str, Any]:
        hub = self.server.hub
        size = len(hub.files[name])
        lfs = {"oid": hub.oid(name), "size": size, "pointerSize": 135}
        return {"type": "file", "path": name, "size": size, "oid": "f" * 40, "lfs": lfs}

    def _scope_entry(self, name: str) -> dict[str, Any]:
        hub = self.server.hub
        return {"Path": name, "Size": len(hub.files[name]), "Sha256": hub.oid(name)}

    def _json(self, value: Any) -> None:
        self._plain(200, json.dumps(value).encode())

    def _plain(self, status: int, body: bytes = b"") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    hub: StubHub

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away in the middle is what is tested."""


@contextmanager
def stub_hub(**files: bytes) -> Iterator[StubHub]:
    """Files by name without `.gguf`; more can be put into `files`."""
    hub = StubHub({f"{name}.gguf": data for name, data in files.items()})
    with _Server(("127.0.0.1", 0), _Handler) as server:
        server.hub = hub
        hub.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()
