"""Chat: the real twitch-dl against the stand-in for Twitch, and what becomes of names."""

import polars as pl
import pytest
from twitch_site import twitch_site

from hlkit import stages, twitchdl
from hlkit.chat import SCHEMA, fetch_chat, read_chat, read_comments
from hlkit.project import HlkitError, HlkitWarning, Project
from hlkit.sources import Source

VOD = Source("vod", "1234567")


def comment(seconds, name, *parts):
    """A comment as Twitch gives it; a part in colons is an emote."""
    fragments = [
        {"emote": {"id": "1", "emoteID": "25", "from": 0} if part[0] == ":" else None, "text": part} for part in parts
    ]
    user = None if name is None else {"id": str(sum(map(ord, name))), "login": name, "displayName": name.title()}
    message = {"fragments": fragments, "userBadges": [], "userColor": None}
    return {
        "id": f"{seconds}-{name}",
        "commenter": user,
        "contentOffsetSeconds": seconds,
        "createdAt": "2026-01-02T12:00:00Z",
        "message": message,
    }


COMMENTS = [
    comment(3, "annabel", "hello"),
    comment(5, "bertram", "wow ", ":Kappa:", ":Kappa:"),
    comment(4, "annabel", ":Kappa:"),
    comment(7200, None, "drei \U0001f600 ' OR 1"),
    comment(0, "annabel"),
]


def test_comments_become_a_table():
    table = read_comments(COMMENTS)
    assert dict(table.schema) == SCHEMA
    assert table["time"].to_list() == [0.0, 3.0, 4.0, 5.0, 7200.0]
    assert table["text"].to_list() == ["", "hello", ":Kappa:", "wow :Kappa::Kappa:", "drei \U0001f600 ' OR 1"]
    assert table["emotes"].to_list() == [0, 0, 1, 2, 0]
    authors = table["author"].to_list()
    assert authors[0] == authors[1] == authors[2] != authors[3]
    assert authors[4] is None
    assert all(len(author) == 16 and int(author, 16) >= 0 for author in authors[:4])


def test_an_author_is_another_one_in_another_table():
    assert read_comments(COMMENTS)["author"][0] != read_comments(COMMENTS)["author"][0]


def test_no_comments():
    table = read_comments([])
    assert (dict(table.schema), len(table)) == (SCHEMA, 0)


@pytest.fixture
def site(tmp_path, monkeypatch):
    (tmp_path / "site").mkdir()
    with twitch_site(tmp_path / "site") as running:
        for name, value in running.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(twitchdl, "WAITS", (0.0,))
        running.comments = COMMENTS
        yield running


def test_the_real_program_brings_all_pages_and_no_name_is_kept(site, tmp_path, capfd):
    target = tmp_path / "videos" / "a.chat.parquet"
    table = fetch_chat(VOD, target)
    assert read_chat(target).equals(table)
    assert table.drop("author").equals(read_comments(COMMENTS).drop("author"))
    assert [path.name for path in target.parent.iterdir()] == [target.name]
    content = target.read_bytes().lower()
    assert [name for name in (b"annabel", b"bertram") if name in content] == []
    assert capfd.readouterr().out == ""


def test_a_refused_page_is_asked_for_again(site, tmp_path):
    site.faults = {"/gql": [None, None, 503]}
    assert len(fetch_chat(VOD, tmp_path / "a.chat.parquet", progress=False)) == len(COMMENTS)


def test_a_chat_that_does_not_come_does_not_stop_the_video(site, tmp_path, sources):
    """Nobody wrote: twitch-dl 3.3 falls over an empty page."""
    site.comments = []
    project, said = Project(tmp_path / "project"), []
    video = project.videos / "1234567.mp4"
    video.parent.mkdir(parents=True)
    video.write_bytes((sources / "learn.mp4").read_bytes())
    project.mark_done("download", "1234567", {"source": "1234567", "quality": "analysis"}, [video])
    with pytest.warns(HlkitWarning, match=r"1234567: its chat did not come, the video did\. Twitch has no chat of"):
        assert stages.download(project, "1234567", progress=False, say=said.append) == ["1234567"]
    assert not project.chat("1234567").exists()
    site.comments = COMMENTS
    stages.download(project, "1234567", progress=False, say=said.append)
    stages.download(project, "1234567", progress=False, say=said.append)
    done = "1234567: download already done."
    chat = "1234567: chat of 5 messages by 2 people."
    assert said == [done, done, chat, done, "1234567: chat already done."]
    assert len(read_chat(project.chat("1234567"))) == 5


def test_what_is_no_chat_table(tmp_path):
    with pytest.raises(HlkitError, match="There is no chat"):
        read_chat(tmp_path / "a.chat.parquet")
    (tmp_path / "b.chat.parquet").write_bytes(b"PAR1")
    with pytest.raises(HlkitError, match="is damaged"):
        read_chat(tmp_path / "b.chat.parquet")
    pl.DataFrame({"time": [1]}).write_parquet(tmp_path / "c.chat.parquet")
    with pytest.raises(HlkitError, match="needs the columns time, author, text, emotes"):
        read_chat(tmp_path / "c.chat.parquet")
