"""twitch-dl (3.3, https://twitch-dl.bezdomni.net) as a program: what it is started with, and what it says.

It is GPL software and runs as a program of its own. Left to itself it asks when something is open; so it gets no input.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, TypeVar

from hlkit import tries
from hlkit.project import HlkitError
from hlkit.sources import Source
from hlkit.video import find_ffmpeg

# The environment variable (or notebook secret) with the `auth_token` cookie of a Twitch account.
TOKEN = "TWITCH_AUTH_TOKEN"

# Seconds before each further attempt: a server that is busy gets more time each time.
WAITS = (2.0, 10.0, 30.0)

# Reading blocks: where signals go to any thread, Ctrl-C would wait for the program's next line.
STOP_SECONDS = 0.2

# Starts what follows so that Linux ends it when this process is killed (PR_SET_PDEATHSIG, prctl(2)): or it would go on
# writing beside the run that comes next. `preexec_fn` would do the same, but may hang where there are threads.
_STARTER = "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 9); os.execv(sys.argv[1], sys.argv[1:])"
_DIE_WITH_PARENT = (sys.executable, "-I", "-c", _STARTER) if sys.platform == "linux" else ()

Result = TypeVar("Result")

_log = logging.getLogger(__name__)


class TwitchDlError(HlkitError):
    """twitch-dl did not bring what Twitch has; another program might."""


def patiently(work: Callable[[], Result], what: str) -> Result:
    """Do `work` again after each of `WAITS` while twitch-dl fails for a reason that may pass."""
    return tries.patiently(work, waits=WAITS, passing=TwitchDlError, what=what)


def address_of(source: Source) -> str:
    """What twitch-dl calls a VOD or a clip by."""
    return source.name if source.kind == "vod" else source.link


def run_for_json(args: list[str]) -> Any:
    """What twitch-dl, run with `args`, prints as JSON.

    Raises:
        HlkitError: as `run_twitch_dl` does.
        TwitchDlError: also when it prints something else.
    """
    with tempfile.TemporaryDirectory() as work:
        text = run_twitch_dl(args, cwd=Path(work))
    try:
        return json.loads(text)
    except ValueError as error:
        raise TwitchDlError(f"twitch-dl's answer can't be read: {text[:200]!r}") from error


def run_twitch_dl(args: list[str], *, cwd: Path, on_line: Callable[[str], object] | None = None) -> str:
    """Run twitch-dl without input to its end; no process of it outlives an exception.

    Args:
        args: what follows the program's name. Secrets do not belong here: other users can list command lines.
        cwd: its working folder, where it may also keep a cache.
        on_line: takes its lines as they come, on other threads.

    Returns:
        Its output; with `on_line` its last words on the error stream.

    Raises:
        HlkitError: when it says that there is no such video or channel, or that it may be for subscribers only.
        TwitchDlError: when it fails for another reason, with its last words.
    """
    process = subprocess.Popen(
        [*_DIE_WITH_PARENT, _twitch_dl(), *args],
        cwd=cwd,
        env=_environment(cwd),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,  # it starts ffmpeg, which must end with it
    )
    assert process.stdout is not None and process.stderr is not None
    words: deque[str] = deque(maxlen=3)
    output: list[str] = []

    def listen(stream: IO[bytes], keep: Callable[[str], object]) -> None:
        for line in _plain_lines(_blocks(stream)):
            keep(line)

    def take(line: str) -> None:
        if on_line is not None:
            on_line(line)

    def take_words(line: str) -> None:
        words.append(line)
        take(line)

    jobs = ((process.stdout, output.append if on_line is None else take), (process.stderr, take_words))
    listeners = [threading.Thread(target=listen, args=job, daemon=True) for job in jobs]
    try:
        for listener in listeners:
            listener.start()
        for listener in listeners:
            while listener.is_alive():
                listener.join(STOP_SECONDS)
        status = process.wait()
    finally:
        _end(process)
        for listener in listeners:
            listener.join()
        process.stdout.close()
        process.stderr.close()
    last = _reason(" ".join(words))
    if re.search(r"(Video|Clip|Channel) \S+ not found", last):
        raise HlkitError(f"Twitch has nothing there: {last}. Check the link; VODs are deleted after some weeks.")
    if status and re.search("sub-only|auth token", last):
        advice = (
            f"put the auth_token cookie of an account that may see it into {TOKEN} (environment or notebook secret)"
        )
        raise HlkitError(f"This video may be for subscribers only: {last} Then {advice}.")
    if status:
        raise TwitchDlError(f"twitch-dl failed with status {status}: {last}")
    return "\n".join(output) if on_line is None else last


def _reason(words: str) -> str:
    """The reason in twitch-dl's last words, without Python's traceback and without secrets.

    In the queries of links stand Twitch's signatures for this account.
    """
    if found := re.search(r"[\w.]*(?:Error|Exception): .*", words):
        words = found[0].split(" For more information check")[0]
    if token := os.environ.get(TOKEN):
        words = words.replace(token, "***")
    return re.sub(r"(https?://[^\s?'\"]+)\?[^\s'\"]+", r"\1", words)[-500:] or "it gave no reason"


def _twitch_dl() -> str:
    beside = Path(sys.executable).with_name("twitch-dl")  # a virtual environment that is used without being activated
    if found := shutil.which("twitch-dl") or shutil.which(str(beside)):
        return found
    raise HlkitError("The program twitch-dl is not here. Run `pip install twitch-dl`.")


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        process.wait()


def _environment(work: Path) -> dict[str, str]:
    """This process's environment, in which twitch-dl finds an ffmpeg, a folder for its cache, and the token.

    twitch-dl reads every option from a variable too. A user's own would change what is settled here; the token's is the
    one way to hand it over that is not a command line.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TWITCH_DL_")}
    if token := os.environ.get(TOKEN):
        environment |= {"TWITCH_DL_INFO_AUTH_TOKEN": token, "TWITCH_DL_DOWNLOAD_AUTH_TOKEN": token}
    environment["XDG_CACHE_HOME"] = str(work.resolve())
    if not shutil.which("ffmpeg"):
        link = work / "bin" / "ffmpeg"
        link.parent.mkdir(exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(find_ffmpeg())
        environment["PATH"] = f"{link.parent.resolve()}{os.pathsep}{os.environ.get('PATH', '')}"
    return environment


def _blocks(stream: IO[bytes]) -> Iterator[bytes]:
    while block := os.read(stream.fileno(), 4096):
        yield block


def _plain_lines(blocks: Iterator[bytes] | Sequence[bytes]) -> Iterator[str]:
    """The lines in a terminal's output as they come, without colours; a carriage return ends a line too."""
    rest = ""
    for block in blocks:
        *lines, rest = re.split(r"[\r\n]+", rest + block.decode("utf-8", "replace"))
        yield from filter(None, map(_plain, lines))
    if _plain(rest):
        yield _plain(rest)


def _plain(line: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", line).strip()
