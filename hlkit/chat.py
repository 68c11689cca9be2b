"""A VOD's chat as a table beside the video: who wrote what and when, without names.

Names are replaced by a keyed hash (BLAKE2b) whose key is drawn anew for each table and thrown away: one can count who
wrote, and nobody can find out by trying names. The texts stay as they are, with the names that they mention.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
from tqdm.auto import tqdm

from hlkit.project import HlkitError, atomic_path
from hlkit.sources import Source
from hlkit.twitchdl import TwitchDlError, address_of, patiently, run_twitch_dl

SCHEMA = {"time": pl.Float64, "author": pl.String, "text": pl.String, "emotes": pl.Int32}


def read_comments(comments: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    """The comments of `twitch-dl chat json` (3.3) as a table, sorted by time.

    Returns:
        `time` f64, seconds from the start of the video, whole ones as Twitch gives them; `author` str, 16 hex digits,
        the same for all messages of one account in this table only, null for a deleted account; `text` str; `emotes`
        i32, how many of Twitch's emotes are in the text.
    """
    key = secrets.token_bytes(16)
    rows = []
    for comment in comments:
        account = (comment.get("commenter") or {}).get("id")
        fragments = (comment.get("message") or {}).get("fragments") or ()
        digest = hashlib.blake2b(str(account).encode(), key=key, digest_size=8).hexdigest()
        text = "".join(fragment.get("text") or "" for fragment in fragments)
        emotes = sum(fragment.get("emote") is not None for fragment in fragments)
        rows.append((float(comment["contentOffsetSeconds"]), None if account is None else digest, text, emotes))
    return pl.DataFrame(rows, schema=SCHEMA, orient="row").sort("time", maintain_order=True)


def fetch_chat(source: Source, target: Path, *, progress: bool = True) -> pl.DataFrame:
    """Write the chat of a Twitch VOD to `target` (.parquet), as `read_comments` gives it, and return it.

    Raises:
        HlkitError: when it can't be had.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    # The raw chat holds names; it never comes to lie beside the table.
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "chat.json"
        _fetch_json(source, raw, progress=progress)
        try:
            chat = read_comments(json.loads(raw.read_text(encoding="utf-8"))["comments"])
        except (ValueError, KeyError, TypeError) as error:
            raise HlkitError(f"The chat of {source.link} has a form that hlkit does not know ({error!r}).") from error
    with atomic_path(target) as temporary:
        chat.write_parquet(temporary)
    return chat


def _fetch_json(source: Source, target: Path, *, progress: bool = True) -> None:
    """Write a VOD's chat to `target` as `twitch-dl chat json` gives it."""

    def ask() -> None:
        with tqdm(total=100, desc="chat", unit="%", mininterval=0.5, disable=not progress) as bar:

            def show(line: str) -> None:
                if found := re.match(r"Loading Comments .*\((\d+)%\)", line):
                    bar.update(min(int(found[1]), 100) - bar.n)

            words = ["chat", "json", address_of(source), "--output", target.name, "--overwrite"]
            try:
                said = run_twitch_dl(words, cwd=target.parent, on_line=show)
            except TwitchDlError as error:
                if "IndexError" in str(error):  # version 3.3 falls over an empty page
                    raise HlkitError(f"Twitch has no chat of {source.link}: nobody wrote, or it is gone.") from error
                raise
        if not target.is_file():
            raise TwitchDlError(f"twitch-dl ended without a chat: {said}")

    patiently(ask, f"the chat of {source.link}")


def read_chat(path: Path) -> pl.DataFrame:
    """The chat table of a video, with the columns of `read_comments`.

    Raises:
        HlkitError: when the file is missing, damaged or another table.
    """
    if not path.is_file():
        raise HlkitError(f"There is no chat {path}. It comes with the download of a Twitch VOD.")
    try:
        chat = pl.read_parquet(path)
    except pl.exceptions.PolarsError as error:
        raise HlkitError(f"{path} is damaged ({error}). Delete it and download the video's chat again.") from error
    if dict(chat.schema) != SCHEMA:
        raise HlkitError(f"{path} is not a chat table: it needs the columns {', '.join(SCHEMA)}. Delete it.")
    return chat
