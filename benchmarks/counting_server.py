"""A fast stand-in for an S3 server that counts: objects in memory, and a latency before each answer.

moto's server works for longer on one request (about 10 ms) than a real one, which would be measured instead of the
client. This one parses what boto3 sends for single and multipart uploads, reads and lists, and checks no signature.
`GET /-/counts` answers the number of requests of each bucket since the last time.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import multiprocessing
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

BLOCK_BYTES = 1 << 20


class Bucket(dict[str, bytes]):
    """Objects by key, and the parts of uploads under way."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: dict[str, dict[int, bytes]] = {}


class CountingServer:
    """Answers requests from memory after `latency` seconds."""

    def __init__(self, latency: float) -> None:
        self.latency, self.counts = latency, Counter[str]()
        self.buckets: dict[str, Bucket] = {}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection's requests."""
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                method, target, _ = head[0].split(" ")
                headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
                if headers.get("expect"):
                    writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                if not target.startswith("/-/"):
                    await asyncio.sleep(self.latency)
                status, extra, answer = self.answer(method, target, body)
                length = [] if "Content-Length" in extra else [f"Content-Length: {len(answer)}"]
                lines = [f"HTTP/1.1 {status} -", *length, *(f"{k}: {v}" for k, v in extra.items()), "", ""]
                writer.write("\r\n".join(lines).encode() + (b"" if method == "HEAD" else answer))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def answer(self, method: str, target: str, body: bytes) -> tuple[int, dict[str, Any], bytes]:
        """Status, headers and body."""
        parts = urlsplit(target)
        name, _, key = unquote(parts.path).strip("/").partition("/")
        if name == "-":
            counts, self.counts = self.counts, Counter[str]()
            return 200, {}, json.dumps(counts).encode()
        self.counts[name] += 1
        query = {key: value[0] for key, value in parse_qs(parts.query, keep_blank_values=True).items()}
        bucket = self.buckets.setdefault(name, Bucket())
        if method == "DELETE":
            self.buckets.pop(name)
            return 204, {}, b""
        if "list-type" in query:
            found = (f"<Contents><Key>{escape(k)}</Key><Size>{len(v)}</Size></Contents>" for k, v in bucket.items())
            return 200, {}, f"<ListBucketResult>{''.join(found)}</ListBucketResult>".encode()
        if "uploads" in query:
            identity = str(len(bucket.parts))
            bucket.parts[identity] = {}
            return 200, {}, f"<R><UploadId>{identity}</UploadId></R>".encode()
        if "partNumber" in query:
            bucket.parts[query["uploadId"]][int(query["partNumber"])] = body
        elif "uploadId" in query:
            bucket[key] = b"".join(part for _, part in sorted(bucket.parts.pop(query["uploadId"]).items()))
            return 200, {}, b"<R><ETag>whole</ETag></R>"
        elif method == "PUT":
            bucket[key] = body
        elif key not in bucket:
            return 404, {}, b"<Error><Code>NoSuchKey</Code><Message>none</Message></Error>"
        else:
            return 200, {"ETag": _etag(bucket[key])}, bucket[key]
        return 200, {"ETag": _etag(body)}, b""


def _etag(body: bytes) -> str:
    # The MD5 of megabytes would take the processor from the client, which does not look at it.
    return f'"{hashlib.md5(body[:64], usedforsecurity=False).hexdigest()}"'


def _run(latency: float, port: Any) -> None:
    async def main() -> None:
        server = await asyncio.start_server(CountingServer(latency).serve, "127.0.0.1", 0, limit=BLOCK_BYTES)
        port.send(server.sockets[0].getsockname()[1])
        async with server:
            await server.serve_forever()

    asyncio.run(main())


@contextmanager
def counting_server(latency: float) -> Iterator[str]:
    """Run the server in a process of its own; yields its address."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_run, args=(latency, there), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{here.recv()}"
    finally:
        process.terminate()
        process.join()
