"""What can be asked for, and which quality is meant: nothing here touches the network."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hlkit.project import HlkitError, safe_id
from hlkit.sources import (
    Rendition,
    Source,
    Wanted,
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
    "nothing.mp4|-h|--output=/etc/x|https://|https:///x|https://a b/c|ftp://a.org/b.mp4|file:///etc/x|12\0|.".split(
        "|"
    ),
)
def test_anything_else_is_refused_with_what_is_allowed(text):
    with pytest.raises(HlkitError, match=r"neither a file .* nor a link to a video\. Give a video file"):
        parse_source(text)


def test_a_field_left_empty_is_told_as_that():
    for nothing in ("", " "):
        with pytest.raises(HlkitError, match=r"No recording is named: a field or a cell was left empty\. Give a video"):
            parse_source(nothing)


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
    assert read_many(tmp_path) == [Wanted(str(tmp_path / "a.MKV")), Wanted(str(tmp_path / "b.mp4"))]
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
    expected = [Wanted("1234567"), Wanted("https://youtu.be/dQw4w9WgXcQ?a,b"), Wanted(str(tmp_path / "here.mp4"))]
    assert read_many(tmp_path / "list.txt") == expected


@pytest.mark.parametrize("head", ["Link,id", "when,URL,video"])
def test_a_list_as_csv(tmp_path, head):
    before = "x," if head.startswith("when") else ""
    (tmp_path / "list.csv").write_text(f"\ufeff{head}\n{before}1234567,saturday\n{before}7654321,\n{before}7654322\n")
    assert read_many(tmp_path / "list.csv") == [
        Wanted("1234567", "saturday"),
        Wanted("7654321"),
        Wanted("7654322"),
    ]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b"# nothing\n", "is empty"),
        (b"link\n", "is empty"),
        (b"1234567\nnothing.mp4\n", "list.csv, line 2: 'nothing.mp4' is neither"),
        (b"link,id\n1234567,a\n7654321,a\n", "'7654321' and '1234567' would both get the id 'a'"),
        (b"\xff\xfe1\x00", "is not a text file"),
        (b"link,label,end\n1234567,a,3\n1234567,b,3\n", "'1234567_000000_000003' is a and b in the list"),
        (b"link,start\n1234567,0:00:12\n", "line 2: the stretch begins at 0:00:12 and has no end"),
        (
            b"link,start,end\n1234567,3,2\n1234567,1:2,3\n",
            "line 2: .* 3 to 2 s can't be; .* end\\. And 1 more lines have",
        ),
        (b"link,start,end\n1234567,1:30,2\n", "line 2: '1:30' is not a time.*write '0:1:30'"),
        (b"label,youtube_id,time_start,time_end,split\ndancing,,1,2,train\n", "line 2: No recording is named"),
        (b"label,time_start,time_end\ndancing,1,2\n", "columns label, time_start, time_end, of which none says what"),
        (b"Label;Start;End\ndancing;1;2\n", "columns label, start, end, .*Name one of them link, url, path or youtube"),
        (b"link,label\n1234567,one, two\n", "line 2: it has 3 cells, and the first row 2; put a cell with a ','"),
        (b'link,label\n1234567,"one\n', "line 2: unexpected end of data"),
        (b"link,label\n1234567," + b"a" * 200_000, "line 2: field larger"),
        (b"link,label\n1234567,a\x07b\n", r"line 2: the label 'a\\x07b' holds signs that are no text"),
    ],
)
def test_lists_that_can_not_be_read(tmp_path, content, says):
    (tmp_path / "list.csv").write_bytes(content)
    with pytest.raises(HlkitError, match=says):
        read_many(tmp_path / "list.csv")


@pytest.mark.parametrize("before", ["", "\ufeff", "sep=;\n"])
@pytest.mark.parametrize("separator", ";\t")
def test_a_list_as_spreadsheets_write_it(tmp_path, separator, before):
    before = before.replace(";", separator)
    rows = ["Label;YouTube_ID;Time_Start;Time_End;Split", '"golf; putting";dQw4w9WgXcQ;1,5;12;train;;']
    if separator == "\t":
        rows = [row.replace("golf; ", "golf ").replace(";", "\t") for row in rows]
    (tmp_path / "list.csv").write_text(before + "\r\n".join(rows), newline="")
    label = "golf; putting" if separator == ";" else "golf putting"
    assert read_many(tmp_path / "list.csv") == [
        Wanted("https://www.youtube.com/watch?v=dQw4w9WgXcQ", None, 1.5, 12.0, label)
    ]


def test_a_list_that_is_too_large(tmp_path):
    with (tmp_path / "list.csv").open("wb") as file:
        file.truncate(64_000_001)
    with pytest.raises(HlkitError, match="too large for a list"):
        read_many(tmp_path / "list.csv")


def test_a_list_of_stretches_as_kinetics_has_it(tmp_path):
    rows = ["dancing  ballet,-sAbCdEfGhI,12,22,train", '"golf, putting",dQw4w9WgXcQ,0,2.5,train']
    # The same row twice is the same stretch.
    text = "\n".join(["label,youtube_id,time_start,time_end,split", *rows, rows[0]])
    (tmp_path / "list.csv").write_text(text)
    watch = "https://www.youtube.com/watch?v="
    wanted = read_many(tmp_path / "list.csv")
    assert wanted == [
        Wanted(f"{watch}-sAbCdEfGhI", None, 12.0, 22.0, "dancing ballet"),
        Wanted(f"{watch}dQw4w9WgXcQ", None, 0.0, 2.5, "golf, putting"),
    ]
    assert [each.id for each in wanted] == ["sAbCdEfGhI_000012_000022", "dQw4w9WgXcQ_000000_000002.500"]


def test_stretches_and_labels_of_any_list(tmp_path):
    (tmp_path / "a.mp4").touch()
    (tmp_path / "list.csv").write_text(
        "path,start,end,label,id\na.mp4,,0:00:03,jump,\na.mp4,,,walk,\na.mp4,1,2,,mine\n"
    )
    file = str(tmp_path / "a.mp4")
    wanted = read_many(tmp_path / "list.csv")
    assert wanted == [
        Wanted(file, None, 0.0, 3.0, "jump"),
        Wanted(file, None, None, None, "walk"),
        Wanted(file, "mine", 1.0, 2.0, None),
    ]
    assert [each.id for each in wanted] == ["a_000000_000003", "a", "mine"]


@given(st.from_regex(r"[A-Za-z0-9_-]{1,90}", fullmatch=True), st.floats(0, 1e5), st.floats(0.001, 1e4))
def test_the_id_of_a_stretch_is_safe(name, start, length):
    each = Wanted(f"https://youtu.be/{name}", None, start, start + length)
    assert each.id == safe_id(each.id)


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
