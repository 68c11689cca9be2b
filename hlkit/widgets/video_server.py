"""A server on this machine's own address that brings recordings to the browser in parts, so that a player can jump.

Single byte ranges as RFC 9110 (section 14) describes them. Each recording has an address of its own with a secret in
it, and the server looks that up in a list: no part of a request ever becomes the name of a file.
"""

from __future__ import annotations

import hmac
import re
import secrets
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import Any

KINDS = {
    ".mp4": "video/mp4",
    ".m4v": "video/mp4",
    ".mov": "video/mp4",
    ".webm": "video/webm",
    ".mkv": "video/x-matroska",
    ".ts": "video/mp2t",
}
BLOCK_BYTES = 1 << 18
# How long a browser that has stopped reading keeps a thread.
PATIENCE_SECONDS = 60


class VideoServer:
    """Serves recordings until it is closed; also a context manager.

    Example: `VideoServer().address(Path("saturday.mp4"))` is `http://127.0.0.1:40213/<secret>.mp4`.
    """

    def __init__(self) -> None:
        self._files: dict[str, Path] = {}
        handler = type("Handler", (_Handler,), {"files": self._files})
        self._server = _Server(("127.0.0.1", 0), handler)
        arguments = {"poll_interval": 0.1}
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs=arguments, daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """Where it listens, on the loopback interface."""
        return self._server.server_port

    def address(self, file: Path) -> str:
        """The address of a recording as the browser reaches it: through the runtime's proxy in Colab."""
        name = next((name for name, served in self._files.items() if served == Path(file)), None)
        if name is None:
            name = secrets.token_urlsafe(24) + Path(file).suffix.lower()
            self._files[name] = Path(file)
        return f"{_origin(self.port)}/{name}"

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> VideoServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _origin(port: int) -> str:
    if find_spec("google") and find_spec("google.colab") and find_spec("google.colab.output"):
        from google.colab.output import eval_js  # pyright: ignore[reportMissingImports]

        return str(eval_js(f"google.colab.kernel.proxyPort({port})")).rstrip("/")
    return f"http://127.0.0.1:{port}"


def byte_range(header: str | None, size: int) -> range | None:
    """The bytes that a `Range` header asks for, of `size`; None for all of them.

    An empty range is one that can't be had (status 416). A header with several ranges, or one that is not understood,
    means all bytes, as the standard allows.

    Example: `byte_range("bytes=-3", 10) == range(7, 10)`.
    """
    match = re.fullmatch(r"bytes=(\d{0,18})-(\d{0,18})", (header or "").replace(" ", ""))
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if not first:
        return range(max(0, size - int(last)), size)
    if last and int(last) < int(first):
        return None
    return range(int(first), min(int(last) + 1 if last else size, size))


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a player hangs up whenever it jumps


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = PATIENCE_SECONDS
    server_version, sys_version = "hlkit", ""
    files: dict[str, Path]

    def log_message(self, format: str, *args: Any) -> None:
        pass  # the address holds a secret

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, *, with_body: bool) -> None:
        file = self._file()
        try:
            if file is None:
                raise FileNotFoundError
            with file.open("rb") as source:
                size = file.stat().st_size
                wanted = byte_range(self.headers.get("Range"), size)
                if wanted is not None and not wanted:
                    self._head(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, 0, {"Content-Range": f"bytes */{size}"})
                    return
                part = range(size) if wanted is None else wanted
                headers = {"Content-Type": KINDS.get(file.suffix.lower(), "application/octet-stream")}
                if wanted is not None:
                    headers["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{size}"
                status = HTTPStatus.OK if wanted is None else HTTPStatus.PARTIAL_CONTENT
                self._head(status, len(part), headers | {"Accept-Ranges": "bytes"})
                source.seek(part.start)
                left = len(part) if with_body else 0
                while left and (block := source.read(min(BLOCK_BYTES, left))):
                    self.wfile.write(block)
                    left -= len(block)
                # A file that became shorter meanwhile: only hanging up tells the browser.
                self.close_connection = self.close_connection or left > 0
        except OSError as error:
            if isinstance(error, ConnectionError | TimeoutError):
                self.close_connection = True
            else:
                self._head(HTTPStatus.NOT_FOUND, 0, {})

    def _file(self) -> Path | None:
        asked = self.path.partition("?")[0].lstrip("/").encode()
        return next((file for name, file in self.files.items() if hmac.compare_digest(name.encode(), asked)), None)

    def _head(self, status: HTTPStatus, length: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        # The addresses are for a player: no page may read what they hold or guess what it is.
        standard = {"Content-Length": str(length), "X-Content-Type-Options": "nosniff", "Cache-Control": "private"}
        for name, value in (standard | headers).items():
            self.send_header(name, value)
        self.end_headers()
