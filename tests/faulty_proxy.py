"""A proxy on loopback before an S3 server that waits, fails and lies as it is told, and counts what passes.

Like a real server, and unlike moto's, it refuses a body that does not match the SHA-256 that was signed for it.
"""

import contextlib
import hashlib
import random
import re
import socket
import socketserver
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from urllib.parse import unquote
from xml.sax.saxutils import escape

from stored import SECRET

FAULTS = ("reset", "reset after", "500", "503", "truncated", "wrong")
END = b"\r\n\r\n"
ERRORS = {
    "403": ("403", "AccessDenied"),
    "501": ("501", "NotImplemented"),
    "500": ("500", "InternalError"),
    "503": ("503", "SlowDown"),
}


@dataclass
class Request:
    number: int
    method: str
    target: str
    headers: dict[str, str]
    outcome: str = ""

    @property
    def path(self) -> str:
        return unquote(self.target.partition("?")[0])


def one_fault(fault: str, rate: float, seed: int) -> Callable[[Request], str | None]:
    """A plan under which each request fails with this probability."""
    return lambda request: fault if random.Random(f"{seed}/{request.number}").random() < rate else None


def any_fault(rate: float, seed: int) -> Callable[[Request], str | None]:
    dice = random.Random(seed)
    order = [dice.choice(FAULTS) for _ in range(10_000)]
    return lambda request: one_fault(order[request.number], rate, seed)(request)


@dataclass
class FaultyProxy:
    """`plan` names the fault of a request, or None. `watch` is told of each moment of a request:

    "asked" (nothing was passed on yet), "half" (half of what is sent or fetched was), "done" (the server has answered).
    """

    server: tuple[str, int]
    plan: Callable[[Request], str | None] = lambda request: None
    watch: Callable[[Request, str], object] = lambda request, moment: None
    latency: float = 0.0
    dropped: tuple[str, ...] = ()  # headers that the server never hears of
    log: list[Request] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._busy, self._idle = 0, threading.Condition()

    @contextlib.contextmanager
    def watched(self, watch: Callable[[Request, str], object]) -> Iterator[None]:
        """Have `watch` told of what happens in the block."""
        before, self.watch = self.watch, watch
        yield
        self.watch = before

    def wait_until_idle(self) -> None:
        """Until the server has answered what was passed on to it."""
        with self._idle:
            assert self._idle.wait_for(lambda: self._busy == 0, timeout=60)

    @contextlib.contextmanager
    def busy(self) -> Iterator[None]:
        """Count a connection while it lasts."""
        with self._idle:
            self._busy += 1
        try:
            yield
        finally:
            with self._idle:
                self._busy -= 1
                self._idle.notify_all()

    def handle(self, client: socket.socket) -> None:
        """Pass one request on, and its answer back, or do what the plan says."""
        request, body = self._read(client)
        if request is None:
            return
        self.watch(request, "asked")
        time.sleep(self.latency)
        request.outcome = fault = self.plan(request) or ""
        answer = b"" if fault == "reset" else self._answer(request, body, fault)
        if fault in ("reset", "reset after"):
            # With this option the close that follows sends a reset.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return
        half = len(answer) - len(answer.partition(END)[2]) // 2
        client.sendall(answer[:half])
        if fault == "truncated":
            return
        if request.method != "PUT":
            self.watch(request, "half")
        client.sendall(answer[half:])

    def _answer(self, request: Request, body: bytes, fault: str) -> bytes:
        if fault in ERRORS:
            return _error(*ERRORS[fault])
        if fault == "echo":
            return _error("400", "SignatureDoesNotMatch", f"{SECRET} {request.headers}")
        if fault == "wrong" and request.method == "PUT":
            body = _damaged(body)
        signed = request.headers.get("x-amz-content-sha256", "")
        if re.fullmatch("[0-9a-f]{64}", signed) and hashlib.sha256(body).hexdigest() != signed:
            return _error("400", "XAmzContentSHA256Mismatch")
        head, _, content = self._ask(request, body).partition(END)
        self.watch(request, "done")
        request.outcome = fault or head.split(b" ")[1].decode()
        if fault == "wrong" and request.method == "GET":
            content = _damaged(content)
        if fault == "truncated" and not content:
            head = head[:9]
        return head + END + content

    def _read(self, client: socket.socket) -> tuple[Request | None, bytes]:
        stream = client.makefile("rb")
        first = stream.readline().decode().split()
        if not first:
            return None, b""
        headers = {}
        while line := stream.readline().decode().strip():
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        with self._lock:
            request = Request(len(self.log), first[0], first[1], headers)
            self.log.append(request)
        if headers.pop("expect", None):
            client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        length = int(headers.get("content-length", 0))
        body = stream.read(length // 2)
        if request.method == "PUT":
            self.watch(request, "half")
        return request, body + stream.read(length - len(body))

    def _ask(self, request: Request, body: bytes) -> bytes:
        headers = {name: value for name, value in request.headers.items() if name not in self.dropped}
        headers["connection"] = "close"
        lines = [
            f"{request.method} {request.target} HTTP/1.1",
            *(f"{name}: {v}" for name, v in headers.items()),
            "",
            "",
        ]
        with socket.create_connection(self.server) as upstream:
            upstream.sendall("\r\n".join(lines).encode() + body)
            return b"".join(iter(lambda: upstream.recv(1 << 20), b""))


def _damaged(body: bytes) -> bytes:
    middle = len(body) // 2
    return body and body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :]


def _error(status: str, code: str, message: str = "injected") -> bytes:
    body = f"<Error><Code>{code}</Code><Message>{escape(message)}</Message></Error>"
    return f"HTTP/1.1 {status} -\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode()


class _Handler(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        proxy: FaultyProxy = self.server.proxy  # type: ignore[attr-defined]
        # The client is gone: some tests kill it.
        with proxy.busy(), contextlib.suppress(OSError):
            proxy.handle(self.request)


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 64

    def shutdown_request(self, request: socket.socket) -> None:  # type: ignore[override]
        # An orderly shutdown before the close would turn a reset into an end of file.
        request.close()


@contextlib.contextmanager
def faulty_proxy(endpoint: str, **options) -> Iterator[tuple[FaultyProxy, str]]:
    """Run a proxy before the server at `endpoint` (http://host:port); yields it and its own address."""
    host, port = endpoint.removeprefix("http://").split(":")
    with _Server(("127.0.0.1", 0), _Handler) as server:
        server.proxy = FaultyProxy((host, int(port)), **options)  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server.proxy, f"http://127.0.0.1:{server.server_address[1]}"  # type: ignore[attr-defined]
        finally:
            server.shutdown()
            thread.join()
