"""What can be asked for, and which quality is meant: nothing here touches the network."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hlkit.project import HlkitError, safe_id
from hlkit.sources import (
    Rendition,
    Source,
    default_id,
    is_many,
    parse_source,
    rank_renditions,
    read_many,
)


@pytest.mark.parametrize(
    ("text", "kind", "name"),
    [
        ("1234567890", "vod", "1234567890"),
        ("https://www.twitch.tv/videos/1234567890", "vod", "1234567890"),
        ("twitch.tv/videos/1234567890?t=1h2m", "vod", "1234567890"),
        (" https://m.twitch.tv/someone/video/1234567890/ ", "vod", "1234567890"),
        ("https://www.twitch.tv/someone/v/1234567890", "vod", "1234567890"),
        ("https://clips.twitch.tv/NiceClip-x_1", "clip", "NiceClip-x_1"),
        ("https://www.twitch.tv/someone/clip/NiceClip-x_1?filter=a", "clip", "NiceClip-x_1"),
        ("https://www.twitch.tv/some_one", "channel", "some_one"),
        ("twitch.tv/someone/videos?filter=archives", "channel", "someone"),
    ],
)
def test_what_is_on_twitch(text, kind, name):
    assert parse_source(text) == Source(kind, name)
    assert default_id(text) == name


@pytest.mark.parametrize(
    ("text", "video"),
    [
        ("https://www.youtube.com/watch?v=dQw4w9WgXcQ&t=3", "dQw4w9WgXcQ"),
        ("https://youtu.be/dQw4w9WgXcQ?si=x", "dQw4w9WgXcQ"),
        ("https://www.youtube.com/shorts/dQw4w9WgXcQ", "dQw4w9WgXcQ"),
        ("https://example.org/some/index.m3u8?x=1", "index-a1bff3"),
        ("https://example.org/other/index.m3u8", "index-c439f5"),
        ("https://example.org", "video-50d7a9"),
    ],
)
def test_what_is_elsewhere_on_the_web(text, video):
    assert parse_source(text) == Source("web", text)
    assert default_id(text) == video


@pytest.mark.parametrize(
    "text",
    "|nothing.mp4|-h|--output=/etc/x|https://|https:///x|https://a b/c|ftp://a.org/b.mp4|file:///etc/x|12\0|.".split(
        "|"
    ),
)
def test_anything_else_is_refused_with_what_is_allowed(text):
    with pytest.raises(HlkitError, match=r"neither a file .* nor a link to a video\. Give a video file"):
        parse_source(text)


def test_a_link_with_a_password_is_refused_and_not_repeated():
    with pytest.raises(HlkitError, match="holds a name or password") as caught:
        parse_source("https://me:secret@example.org/a.mp4")
    assert "secret" not in str(caught.value)


@given(st.text())
def test_an_id_is_always_safe(text):
    try:
        video = default_id(text)
    except HlkitError:
        return
    assert video == safe_id(video)


def test_a_file_goes_before_a_number(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "1234567").touch()
    assert parse_source("1234567") == Source("file", "1234567")


def test_a_folder_is_its_videos(tmp_path):
    for name in ("b.mp4", "a.MKV", ".hidden.mp4", "notes.txt", "c.json"):
        (tmp_path / name).touch()
    assert is_many(tmp_path)
    assert read_many(tmp_path) == [(str(tmp_path / "a.MKV"), None), (str(tmp_path / "b.mp4"), None)]
    (tmp_path / "a.mp4").touch()
    with pytest.raises(HlkitError, match="would both get the id 'a'"):
        read_many(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(HlkitError, match="has no videos"):
        read_many(tmp_path / "empty")


def test_a_list_as_text(tmp_path):
    (tmp_path / "here.mp4").touch()
    (tmp_path / "list.txt").write_text("# my streams\n1234567\n\nhttps://youtu.be/dQw4w9WgXcQ?a,b\nhere.mp4\n")
    assert is_many(tmp_path / "list.txt")
    expected = [("1234567", None), ("https://youtu.be/dQw4w9WgXcQ?a,b", None), (str(tmp_path / "here.mp4"), None)]
    assert read_many(tmp_path / "list.txt") == expected


@pytest.mark.parametrize("head", ["Link,id", "when,URL,video"])
def test_a_list_as_csv(tmp_path, head):
    before = "x," if head.startswith("when") else ""
    (tmp_path / "list.csv").write_text(f"\ufeff{head}\n{before}1234567,saturday\n{before}7654321,\n{before}7654322\n")
    assert read_many(tmp_path / "list.csv") == [("1234567", "saturday"), ("7654321", None), ("7654322", None)]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b"# nothing\n", "is empty"),
        (b"link\n", "is empty"),
        (b"1234567\nnothing.mp4\n", "list.csv, line 2: 'nothing.mp4' is neither"),
        (b"link,id\n1234567,a\n7654321,a\n", "'7654321' and '1234567' would both get the id 'a'"),
        (b"\xff\xfe1\x00", "is not a text file"),
        (b"1" * 1_000_001, "too large"),
    ],
)
def test_lists_that_can_not_be_read(tmp_path, content, says):
    (tmp_path / "list.csv").write_bytes(content)
    with pytest.raises(HlkitError, match=says):
        read_many(tmp_path / "list.csv")


def test_one_link_or_file_is_not_many(tmp_path):
    (tmp_path / "a.mp4").touch()
    assert not any(map(is_many, ("https://a.org/list.csv", "1234567", tmp_path / "a.mp4", "x" * 5000, "12\0")))


def offered(*names):
    return [Rendition((name,), int(name.split("p")[0]), place == 0) for place, name in enumerate(names)]


@pytest.mark.parametrize(
    ("quality", "names"),
    [
        ("analysis", "360p30 360p60 480p 160p 1080p60"),
        ("source", "1080p60 480p 360p60 360p30 160p"),
        ("480p", "480p"),
    ],
)
def test_what_is_tried_first(quality, names):
    ranked = rank_renditions(offered("1080p60", "480p", "360p60", "360p30", "160p"), quality)
    assert [each.names[0] for each in ranked] == names.split()


def test_a_quality_that_is_not_offered_lists_those_that_are():
    with pytest.raises(HlkitError, match=r"Quality '900p' is not offered\. This video has: 1080p60, 480p;"):
        rank_renditions(offered("1080p60", "480p"), "900p")
    for quality in ("analysis", "source", "480p"):
        with pytest.raises(HlkitError, match="This video has: nothing"):
            rank_renditions([], quality)
