"""The server that brings recordings to the page: parts of a file, for those who know its address."""

import http.client
import socket
import sys
from importlib.util import find_spec
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hlkit.widgets.video_server import VideoServer, byte_range

CONTENT = bytes(range(256)) * 3000  # more than one block


@pytest.fixture
def server(tmp_path):
    with VideoServer() as server:
        yield server


@pytest.fixture
def recording(tmp_path):
    file = tmp_path / "vod.mp4"
    file.write_bytes(CONTENT)
    return file


def ask(server, path, *, method="GET", **headers):
    """Status, headers and body; the path is sent as it stands."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    connection.putrequest(method, path, skip_accept_encoding=True)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders()
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, dict(answer.getheaders()), body


def test_the_whole_recording_and_parts_of_it(server, recording):
    address = urlsplit(server.address(recording))
    assert (address.hostname, address.port) == ("127.0.0.1", server.port)
    status, headers, body = ask(server, address.path)
    assert (status, body) == (200, CONTENT)
    assert headers["Accept-Ranges"] == "bytes" and headers["Content-Type"] == "video/mp4"
    size = len(CONTENT)
    for asked, part in {
        "bytes=0-": range(size),
        "bytes=5-9": range(5, 10),
        "bytes=700000-": range(700_000, size),
        "bytes=-4": range(size - 4, size),
        "bytes=9-99999999": range(9, size),
    }.items():
        status, headers, body = ask(server, address.path, Range=asked)
        assert (status, body) == (206, CONTENT[part.start : part.stop])
        assert headers["Content-Range"] == f"bytes {part.start}-{part.stop - 1}/{size}"
        assert headers["Content-Length"] == str(len(part))


def test_a_part_behind_the_end_is_refused_and_head_has_no_body(server, recording):
    path = urlsplit(server.address(recording)).path
    status, headers, body = ask(server, path, Range=f"bytes={len(CONTENT)}-")
    assert (status, headers["Content-Range"], body) == (416, f"bytes */{len(CONTENT)}", b"")
    status, headers, body = ask(server, path, method="HEAD", Range="bytes=0-9")
    assert (status, headers["Content-Length"], body) == (206, "10", b"")


def test_what_is_not_on_the_list_does_not_exist(server, recording, tmp_path):
    (tmp_path / "secret.txt").write_text("secret")
    path = urlsplit(server.address(recording)).path
    for other in (
        "/",
        "/vod.mp4",
        f"{path}x",
        path[:-1],
        f"{path}/../secret.txt",
        "/../secret.txt",
        "/%2e%2e/secret.txt",
        str(tmp_path / "secret.txt"),
        f"/{tmp_path}/vod.mp4",
        "/%e4",
    ):
        assert ask(server, other)[0] == 404, other
    for method in ("POST", "PUT", "DELETE"):
        assert ask(server, path, method=method)[0] == 501


def test_each_recording_has_a_secret_of_its_own_that_stays(server, recording, tmp_path):
    other = tmp_path / "other.webm"
    other.write_bytes(b"other")
    first, second = server.address(recording), server.address(other)
    assert server.address(recording) == first
    names = [urlsplit(address).path.strip("/").partition(".")[0] for address in (first, second)]
    assert len(set(names)) == 2 and all(len(name) >= 32 for name in names)
    assert ask(server, urlsplit(second).path)[2] == b"other"
    with VideoServer() as another:
        assert urlsplit(another.address(recording)).path != urlsplit(first).path
        assert ask(another, urlsplit(first).path)[0] == 404


def test_a_recording_that_was_taken_away_is_not_found_and_the_server_goes_on(server, recording):
    path = urlsplit(server.address(recording)).path
    recording.unlink()
    assert ask(server, path)[0] == 404
    recording.write_bytes(b"again")
    assert ask(server, path)[2] == b"again"


def test_a_player_that_hangs_up_in_the_middle_leaves_the_server_well(server, recording):
    path = urlsplit(server.address(recording)).path
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        connection.recv(100)
    assert ask(server, path, Range="bytes=0-3")[2] == CONTENT[:4]


def test_it_listens_on_this_machine_alone_and_not_after_it_is_closed(recording):
    server = VideoServer()
    assert server._server.server_address[0] == "127.0.0.1"
    server.close()
    with pytest.raises(ConnectionRefusedError):
        ask(server, "/")


@pytest.fixture
def colab(tmp_path, monkeypatch):
    """A stand-in for Colab's package, which is forgotten afterwards: other libraries look for it too."""
    package = tmp_path / "stubs" / "google" / "colab" / "output"
    package.mkdir(parents=True)
    (package.parent / "__init__.py").touch()
    (package / "__init__.py").write_text("def eval_js(program): return f'https://colab.example/{program}/'")
    before = set(sys.modules)
    monkeypatch.syspath_prepend(tmp_path / "stubs")
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "google" and name not in before]:
        del sys.modules[name]


@pytest.fixture
def nothing_of_google_is_left():
    """Asked for before `colab`, so it looks after that is over."""
    yield
    assert not find_spec("google") or not find_spec("google.colab")


def test_in_colab_the_address_is_the_runtimes_proxy(nothing_of_google_is_left, server, recording, colab):
    address = server.address(recording)
    assert address.startswith(f"https://colab.example/google.colab.kernel.proxyPort({server.port})/")
    assert address.endswith(".mp4")


@pytest.mark.parametrize(
    "header",
    [None, "", "bytes", "bytes=", "bytes=-", "bytes=a-b", "chars=0-1", "bytes=0-1,3-4", "bytes=9-3", "bytes=1"],
)
def test_a_header_that_is_not_one_range_means_all(header):
    assert byte_range(header, 10) is None


@given(st.integers(0, 30), st.integers(0, 30), st.integers(0, 20))
def test_ranges_hold_the_bytes_that_the_standard_says(first, last, size):
    content = list(range(size))
    if first <= last:
        assert list(byte_range(f"bytes={first}-{last}", size)) == content[first : last + 1]
    assert list(byte_range(f"bytes={first}-", size)) == content[first:]
    assert list(byte_range(f"bytes=-{last}", size)) == (content[-last:] if last else [])
