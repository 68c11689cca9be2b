"""A stand-in for Twitch on loopback: GraphQL, the master playlist, media playlists, segments, clips, comments.

It is an HTTPS server behind its own CONNECT proxy: programs reach it under Twitch's names by their own proxy and
certificate settings (`environment`). The answers have the shape that twitch-dl 3.3 and yt-dlp read.
"""

import datetime
import json
import re
import ssl
import subprocess
import threading
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from hlkit.video import find_ffmpeg

HOSTS = ("gql.twitch.tv", "usher.ttvnw.net", "cdn.ttvnw.net", "www.twitch.tv", "clips.twitch.tv", "localhost")
SPECIAL = "abc_streamer_1"


def make_certificate(folder: Path) -> Path:
    """A certificate of its own for all of `HOSTS`, with its key, in one PEM file."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "stand-in")])
    now = datetime.datetime.now(datetime.UTC)
    names = x509.SubjectAlternativeName([x509.DNSName(host) for host in HOSTS])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - datetime.timedelta(days=1))
    builder = builder.not_valid_after(now + datetime.timedelta(days=2)).add_extension(names, critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    certificate = builder.add_extension(identifier, critical=False).sign(key, hashes.SHA256())
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "site.pem").write_bytes(certificate.public_bytes(pem) + secret)
    return folder / "site.pem"


def segment(recording: Path, folder: Path, *, seconds: float = 2, fmp4: bool = False) -> None:
    """Cut a recording into HLS: `index-dvr.m3u8` and its segments, as TS or as fragmented MP4."""
    folder.mkdir(parents=True)
    command = [find_ffmpeg(), "-y", "-loglevel", "error", "-i", recording, "-c", "copy", "-f", "hls"]
    command += ["-hls_time", str(seconds), "-hls_playlist_type", "vod", "-hls_list_size", "0"]
    command += ["-hls_segment_type", "fmp4", "-hls_fmp4_init_filename", "init.mp4"] if fmp4 else []
    command += ["-hls_segment_filename", f"%d.{'mp4' if fmp4 else 'ts'}", "index-dvr.m3u8"]
    subprocess.run(list(map(str, command)), check=True, cwd=folder)


@dataclass
class Request:
    """What was asked for, and the bytes of the body that answered it."""

    host: str
    path: str
    status: int = 0
    sent: int = 0
    headers: dict[str, str] = field(default_factory=dict)


class TwitchSite:
    """What the stand-in has and does. Change it between requests; `requests` has all that it was asked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder  # <group>/index-dvr.m3u8 and segments; clip.mp4, or clips/<slug>.mp4
        self.groups = {
            "chunked": ("1080p60", "1920x1080"),
            "720p60": ("720p60", "1280x720"),
            "360p30": ("360p", "640x360"),
        }
        self.videos = {"1234567": self.video("1234567")}
        self.clips = [self.clip("NiceClip-x_1", "2026-01-02T12:00:13Z")]
        self.comments: list[dict] = []
        self.page = 2  # comments a page
        self.faults: dict[str, list] = {}  # what a path's next requests shall do: a status, "short", or an Event
        self.on_requests: dict[str, Callable[[], object]] = {}  # called after a path was answered
        self.subscribers_only = False
        self.token: str | None = None  # the auth token that is asked of whoever wants what is for subscribers
        self.requests: list[Request] = []
        self.busy = threading.Event()  # set when a request waits for an Event
        self.lock = threading.Lock()

    @staticmethod
    def video(video: str, **changes) -> dict:
        owner = {"id": "1", "login": "streamer", "displayName": "Streamer"}
        facts = {
            "id": video,
            "title": 'Friday "ranked" ☕',
            "description": None,
            "createdAt": "2026-01-02T12:00:00Z",
            "recordedAt": "2026-01-02T12:00:00Z",
            "publishedAt": "2026-01-02T12:00:00Z",
            "updatedAt": "2026-01-02T12:00:00Z",
            "broadcastType": "ARCHIVE",
            "lengthSeconds": 12,
            "status": "RECORDED",
            "viewCount": 1,
            "seekPreviewsURL": f"https://cdn.ttvnw.net/{SPECIAL}/storyboards/{video}-info.json",
            "game": {"id": "1", "name": "Chess"},
            "owner": owner,
            "creator": owner,
        }
        return facts | changes

    @staticmethod
    def clip(slug: str, created: str, **changes) -> dict:
        qualities = [
            {"frameRate": 60, "quality": quality, "sourceURL": f"https://cdn.ttvnw.net/clips/{slug}-{quality}.mp4"}
            for quality in ("1080", "360")
        ]
        facts = {
            "id": "77",
            "slug": slug,
            "title": "Nice",
            "createdAt": created,
            "viewCount": 5,
            "durationSeconds": 2,
            "url": f"https://clips.twitch.tv/{slug}",
            "videoQualities": qualities,
            "game": None,
            "broadcaster": {"displayName": "Streamer", "login": "streamer"},
        }
        return facts | changes

    def paths(self, pattern: str) -> list[str]:
        """The paths of answered requests that match `pattern` as a whole, in order."""
        return [each.path for each in list(self.requests) if re.fullmatch(pattern, each.path) and each.status == 200]

    # What the GraphQL endpoint knows.

    def answer(self, body, authorization: str | None):
        """The JSON for one GraphQL request; (401, JSON) where a token is wrong."""
        if isinstance(body, list):
            return [self.answer(each, authorization) for each in body]
        if authorization is not None and authorization != f"OAuth {self.token}":
            return 401, {"error": "Unauthorized"}
        if "query" in body:
            return {"data": self._query(body["query"], authorization)}
        variables = body["variables"]
        match body["operationName"]:
            case "VideoPlayer_ChapterSelectButtonVideo":
                found = variables["videoID"] in self.videos
                return {"data": {"video": {"moments": {"edges": self._chapters()}} if found else None}}
            case "VideoMetadata":
                return {"data": {"video": self.videos.get(variables["videoID"])}}
            case "VideoPlayer_VODSeekbarPreviewVideo":
                return {"data": {"video": None}}
            case "ShareClipRenderStatus":
                token = {"signature": "clip-signature", "value": "clip-token"}
                return {"data": {"clip": {"playbackAccessToken": token}}}
            case "VideoComments":
                return {"data": {"video": {"id": variables["videoID"]}, "badges": []}}
            case "VideoCommentsByOffsetOrCursor":
                return {"data": {"video": {"comments": self._comments(variables)}}}
        raise AssertionError(body)

    def _query(self, query: str, authorization: str | None) -> dict:
        if found := re.search(r'\bvideo\(id: "(\d+)"', query):
            return {"video": self.videos.get(found[1])}
        if re.search(r"PlaybackAccessToken\(", query):
            name = "clipPlaybackAccessToken" if "clipPlayback" in query else "videoPlaybackAccessToken"
            return {name: {"signature": "the-signature", "value": "subscriber" if authorization else "anyone"}}
        if found := re.search(r'\bclip\(slug: "([^"]+)"', query):
            return {"clip": next((clip for clip in self.clips if clip["slug"] == found[1]), None)}
        if found := re.search(r'user\(login: "(\w+)"', query):
            if found[1] != "streamer":
                return {"user": None}
            kind, nodes = ("clips", self.clips) if "clips(" in query else ("videos", list(self.videos.values()))
            count = int(re.search(r"first: (\d+)", query)[1])
            edges = [{"cursor": str(place), "node": node} for place, node in enumerate(nodes[:count])]
            page = {"hasNextPage": False, "hasPreviousPage": False}
            return {"user": {kind: {"totalCount": len(nodes), "pageInfo": page, "edges": edges}}}
        raise AssertionError(query)

    @staticmethod
    def _chapters() -> list[dict]:
        details = {"game": {"id": "1", "name": "Chess"}}
        shared = {"moments": {}, "details": details, "type": "GAME_CHANGE", "id": "c"}
        times = [("Apex", 0, 7500), ("Chess", 7500, 4500)]
        return [
            {"node": {"description": title, "positionMilliseconds": start, "durationMilliseconds": length, **shared}}
            for title, start, length in times
        ]

    def _comments(self, variables: dict) -> dict:
        first = int(variables.get("cursor") or 0)
        nodes = self.comments[first : first + self.page]
        edges = [{"cursor": str(first + len(nodes)), "node": node} for node in nodes]
        return {"edges": edges, "pageInfo": {"hasNextPage": first + len(nodes) < len(self.comments)}}

    def master(self) -> str:
        """The master playlist, with Twitch's tags."""
        lines = ["#EXTM3U"]
        for place, (group, (name, size)) in enumerate(self.groups.items()):
            lines.append(f'#EXT-X-MEDIA:TYPE=VIDEO,GROUP-ID="{group}",NAME="{name}",AUTOSELECT=YES,DEFAULT=YES')
            bandwidth = 8_000_000 >> place
            codecs = f'BANDWIDTH={bandwidth},CODECS="avc1.64002A,mp4a.40.2",RESOLUTION={size},VIDEO="{group}"'
            lines.append(f"#EXT-X-STREAM-INF:{codecs}")
            lines.append(f"https://cdn.ttvnw.net/{SPECIAL}/{group}/index-dvr.m3u8")
        return "\n".join(lines) + "\n"

    def get(self, host: str, path: str, query: dict) -> tuple[int, bytes]:
        """Status and body of a GET."""
        if host == "usher.ttvnw.net":
            given = (query.get("nauth") or query.get("token") or [""])[0]
            if self.subscribers_only and given != "subscriber":
                return 403, b'[{"error_code": "vod_manifest_restricted"}]'
            return 200, self.master().encode()
        if path.startswith("/clips/"):
            own = self.folder / "clips" / f"{Path(path).stem.rpartition('-')[0]}.mp4"
            return 200, (own if own.is_file() else self.folder / "clip.mp4").read_bytes()
        group, _, name = path.removeprefix(f"/{SPECIAL}/").partition("/")
        file = self.folder / group / name
        # Without an account only what the master playlist gives away is served.
        hidden = self.subscribers_only and not any(
            each.path.startswith("/vod/") and each.status == 200 for each in self.requests
        )
        if hidden or not re.fullmatch(r"[\w.-]+", name) or not file.is_file():
            return 403 if hidden else 404, b""
        return 200, file.read_bytes()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    site: TwitchSite
    context: ssl.SSLContext
    host = ""

    def log_message(self, *_):
        pass

    def do_CONNECT(self):
        self.host = self.path.partition(":")[0]
        self.send_response_only(200)
        self.end_headers()
        self.connection = self.context.wrap_socket(self.connection, server_side=True)
        self.rfile, self.wfile = self.connection.makefile("rb"), self.connection.makefile("wb", buffering=0)
        self.close_connection = False

    def finish(self):
        super().finish()
        self.connection.close()

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answered = self.site.answer(body, self.headers.get("Authorization"))
        status, answer = answered if isinstance(answered, tuple) else (200, answered)
        self._send(status, json.dumps(answer).encode(), "application/json")

    def do_GET(self):
        where = urlsplit(self.path)
        status, body = self.site.get(self.host, where.path, parse_qs(where.query))
        kind = "application/vnd.apple.mpegurl" if where.path.endswith("m3u8") else "application/octet-stream"
        self._send(status, body, "application/json" if status == 403 else kind)

    def _send(self, status: int, body: bytes, kind: str):
        path = urlsplit(self.path).path
        asked = Request(self.host, path, headers=dict(self.headers))
        with self.site.lock:
            self.site.requests.append(asked)
            fault = self.site.faults.get(path, [])
            fault = fault.pop(0) if fault else None
        if isinstance(fault, int):
            status, body = fault, b""
        elif isinstance(fault, threading.Event):
            self.site.busy.set()
            fault.wait(60)
        asked.status = status
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if fault == "short":
            body, self.close_connection = body[: len(body) // 2], True
        asked.sent = len(body)
        self.wfile.write(body)
        if after := self.site.on_requests.get(path):
            after()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        pass  # a client that was killed hangs up in the middle


@contextmanager
def twitch_site(folder: Path):
    """Serve `folder`'s renditions as Twitch for the time of the block; yields the site and its `environment`."""
    site = TwitchSite(folder)
    certificate = make_certificate(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"site": site, "context": context}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    proxy = f"http://127.0.0.1:{server.server_port}"
    site.environment = dict.fromkeys(("HTTPS_PROXY", "https_proxy"), proxy)
    site.environment |= {"SSL_CERT_FILE": str(certificate), "NO_PROXY": "", "no_proxy": ""}
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
