import json
import shutil

import pytest
from recordings import make_numbered

from hlkit import download as module
from hlkit import project
from hlkit.download import download
from hlkit.project import HlkitError
from hlkit.video import probe


def test_a_file_is_linked_or_copied(tmp_path, monkeypatch):
    source = tmp_path / "My stream (1).MKV"
    make_numbered(tmp_path / "a.mkv", seconds=1)
    (tmp_path / "a.mkv").rename(source)
    linked = download(source, tmp_path / "videos")
    assert linked == tmp_path / "videos" / "My_stream_1.mkv"
    assert linked.samefile(source)
    monkeypatch.setattr(module.os, "link", _no_links)
    copied = download(str(source), tmp_path / "videos", video_id="copy", progress=False)
    assert not copied.samefile(source)
    assert copied.read_bytes() == source.read_bytes()
    about = json.loads((tmp_path / "videos" / "copy.json").read_text())
    assert about == {"source": str(source), "title": "My stream (1)", "chapters": [], "length": 1.0}


def test_a_copy_that_would_fill_the_disk_is_not_begun(tmp_path, monkeypatch):
    make_numbered(tmp_path / "a.mp4", seconds=1)
    monkeypatch.setattr(module.os, "link", _no_links)
    monkeypatch.setattr(project, "free_disk", lambda path: project.SPARE_BYTES)
    with pytest.raises(HlkitError, match=r"A copy of .*a\.mp4 needs about 0\.0 GB, and .* missing"):
        download(tmp_path / "a.mp4", tmp_path / "videos", progress=False)
    assert list((tmp_path / "videos").iterdir()) == []


def _no_links(*_):
    raise OSError("no links on this disk")


def test_the_projects_own_file_stays_where_it_is(tmp_path):
    make_numbered(tmp_path / "a.mp4", seconds=1)
    before = (tmp_path / "a.mp4").read_bytes()
    assert download(tmp_path / "a.mp4", tmp_path) == tmp_path / "a.mp4"
    assert (tmp_path / "a.mp4").read_bytes() == before


def test_a_new_file_replaces_the_old_one_of_that_name(tmp_path):
    make_numbered(tmp_path / "new.mp4", seconds=2)
    (tmp_path / "videos").mkdir()
    make_numbered(tmp_path / "videos" / "a.mp4", seconds=1)
    download(tmp_path / "new.mp4", tmp_path / "videos", video_id="a")
    assert probe(tmp_path / "videos" / "a.mp4").duration == 2.0


@pytest.mark.parametrize(
    ("name", "video_id", "says"),
    [
        ("a.mp4", "../a", r"'\.\./a' can't be a video's id"),
        ("a.mp4", "", None),
        ("a.mpg", None, r"'\.mpg' is not the suffix of a video"),
        ("a.mp4", "taken", "already has a video 'taken'"),
        ("broken.mp4", None, "can't be read as a video"),
    ],
)
def test_a_file_that_can_not_be_taken(tmp_path, name, video_id, says):
    make_numbered(tmp_path / "a.mp4", seconds=1)
    shutil.copy(tmp_path / "a.mp4", tmp_path / "a.mpg")
    (tmp_path / "broken.mp4").write_bytes((tmp_path / "a.mp4").read_bytes()[:500])
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "taken.mkv").touch()
    if says is None:
        assert download(tmp_path / name, tmp_path / "videos", video_id=video_id).name == "a.mp4"
        return
    with pytest.raises(HlkitError, match=says):
        download(tmp_path / name, tmp_path / "videos", video_id=video_id)
    assert [file.name for file in (tmp_path / "videos").iterdir()] == ["taken.mkv"]


def test_pictures_that_nothing_here_decodes_are_refused(tmp_path):
    make_numbered(tmp_path / "a.mp4", seconds=1)
    module._check_pictures(tmp_path / "a.mp4")
    content = (tmp_path / "a.mp4").read_bytes()
    (tmp_path / "b.mp4").write_bytes(content.replace(b"avc1", b"zzz1").replace(b"avcC", b"zzzC"))
    with pytest.raises(HlkitError, match="can't be decoded"):
        module._check_pictures(tmp_path / "b.mp4")
