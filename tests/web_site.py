"""A web site on loopback: the files of a folder, with byte ranges, faults on demand, and a count of what was sent."""

import re
import threading
from collections import Counter
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

KINDS = {
    ".m3u8": "application/vnd.apple.mpegurl",
    ".mp4": "video/mp4",
    ".mkv": "video/x-matroska",
    ".ts": "video/mp2t",
    ".rss": "application/rss+xml",
}


class WebSite:
    """`sent`: the bytes of bodies by path. `faults`: what a path's next requests do: a status, "short", or an Event."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self.url = folder, url
        self.sent: Counter[str] = Counter()
        self.headers: list[dict[str, str]] = []
        self.asked: list[tuple[str, str | None]] = []  # path and Range
        self.faults: dict[str, list] = {}
        self.busy = threading.Event()  # set when a request waits for an Event
        self.lock = threading.Lock()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    site: WebSite

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path = self.path.partition("?")[0]
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        with self.site.lock:
            faults = self.site.faults.get(path, [])
            fault = faults.pop(0) if faults and self.command == "GET" else None
            self.site.headers.append(dict(self.headers))
            self.site.asked.append((path, self.headers.get("Range")))
        if isinstance(fault, threading.Event):
            self.site.busy.set()
            fault.wait(60)
        file = self.site.folder / path.lstrip("/")
        if isinstance(fault, int) or not file.is_file():
            self.send_response(fault if isinstance(fault, int) else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body = file.read_bytes()
        size, first = len(body), int(wanted[1]) if wanted else 0
        if first and first >= size:
            self.send_response(416)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        last = min(int(wanted[2]) if wanted and wanted[2] else size - 1, size - 1)
        body = body[first : last + 1]
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Type", KINDS.get(file.suffix, "text/html"))
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(body)))
        if wanted:
            self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
        self.end_headers()
        if self.command == "HEAD":
            return
        if fault == "short":
            body, self.close_connection = body[: len(body) // 2], True
        with self.site.lock:
            self.site.sent[path] += len(body)
        self.wfile.write(body)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        pass  # a client that was killed hangs up in the middle


@contextmanager
def web_site(folder: Path):
    """Serve `folder` for the time of the block; yields the site."""
    server = _Server(("127.0.0.1", 0), _Handler)
    site = WebSite(folder, f"http://127.0.0.1:{server.server_port}")
    server.RequestHandlerClass = type("Handler", (_Handler,), {"site": site})
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
