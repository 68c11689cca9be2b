"""Analyse low, cut high: a reel out of a site's best rendition, of which only the cuts' own stretches are fetched.

The recording here is a small rendition. The large one is a list of segments of a few seconds (HLS, RFC 8216) or a file
with an index: what a cut needs of it is fetched into a *piece*. The clocks of the two renditions can differ, so each
piece is laid over the recording by its pictures: the first ones of the cut are looked for in the piece, to the frame.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import polars as pl
from tqdm.auto import tqdm

from hlkit.alignment import SEARCH_SECONDS, align
from hlkit.cuts import Cut, Piece
from hlkit.gops import CutMode
from hlkit.layout import PLAIN, Look
from hlkit.locks import exclusive
from hlkit.project import HlkitError, atomic_path
from hlkit.reel import write_pieces
from hlkit.segments import FetchError, fetch_segments, get, join_segments, plan_runs, read_playlist
from hlkit.sources import parse_source, rank_renditions
from hlkit.twitch import read_renditions, twitch_facts
from hlkit.video import probe
from hlkit.web import Stream, find_stream

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream


def find_source(source: str) -> Stream:
    """Where a video's best rendition lies now.

    Args:
        source: what the recording was downloaded from (`source` in its JSON).

    Raises:
        HlkitError: when it was no site, or the video is gone.
    """
    known = parse_source(source)
    if known.kind == "vod":
        best = rank_renditions(read_renditions(twitch_facts(known)), "source")[0]
        return Stream(best.url, None, is_hls=True, headers={})
    if known.kind != "web":
        reason = "a file on this computer" if known.kind == "file" else "a clip, which comes whole"
        raise HlkitError(f"The recording was {reason}: there is no larger source. Cut from the local recording.")
    return find_stream(known.name)


def write_remote_reel(
    video: Path,
    source: Stream,
    cuts: Sequence[Cut],
    target: Path,
    *,
    cut: CutMode | None = None,
    overlay: Literal["none", "score"] = "none",
    scores: pl.DataFrame | None = None,
    look: Look = PLAIN,
    crf: int = 20,
    progress: bool = True,
) -> tuple[Cut, ...]:
    """Write the reel of `write_reel` in a larger rendition's pictures; only the cuts' segments of it are fetched.

    What has been fetched is kept beside `target` until the reel is finished.

    Args:
        video: the local, small rendition; the times of `cuts` are its times.
        source: where the large one lies, from `find_source`.
        cuts: as for `write_reel`; their pictures are those of the source that show what the local ones show.
        target: where the reel goes; ends with `.mp4`.
        cut: as for `write_reel`.
        overlay: as for `write_reel`.
        scores: as for `write_reel`.
        look: as for `write_reel`.
        crf: as for `write_reel`.
        progress: show progress bars.

    Returns:
        The cuts that the reel shows, as `write_reel` does.

    Raises:
        HlkitError: when a segment can't be had, or the source does not show what the local recording shows.
    """
    work = target.parent / f".source-{target.stem}"
    with exclusive(work, what=f"The reel {target.name} is"):
        fetch = _fetch_pieces if source.is_hls and source.sound_url is None else _copy_stretches
        try:
            pieces = align(video, fetch(source, cuts, work, progress), cuts)
            shown = write_pieces(
                pieces, cuts, target, cut=cut, overlay=overlay, scores=scores, look=look, crf=crf, progress=progress
            )
        except FetchError:
            raise
        except HlkitError:
            # What came may be what is wrong.
            shutil.rmtree(work)
            raise
        shutil.rmtree(work)
    return shown


def _fetch_pieces(source: Stream, cuts: Sequence[Cut], work: Path, progress: bool) -> list[Piece]:
    """The pieces of a playlist: each cut's segments, one after another."""
    segments = read_playlist(get(source.url, source.headers).decode("utf-8", "replace"), source.url)
    runs = plan_runs(cuts, segments, margin=SEARCH_SECONDS)
    fetch_segments({number for run in runs for number in run}, segments, source.headers, work, progress)
    files = {run: join_segments(run, segments, work) for run in set(runs)}
    return [Piece(probe(files[run]), segments[run[0]].start) for run in runs]


def _copy_stretches(source: Stream, cuts: Sequence[Cut], work: Path, progress: bool) -> list[Piece]:
    """The pieces of a file on the web: what lies around each cut, copied by byte ranges as its index says."""
    pieces = []
    for cut in tqdm(cuts, desc="source", unit="cut", mininterval=0.5, disable=not progress):
        piece = work / f"{cut.start:.3f}-{cut.end:.3f}.mkv"
        if not piece.is_file():
            _copy_stretch(source, max(0.0, cut.start - SEARCH_SECONDS), cut.end + SEARCH_SECONDS, piece)
        info = probe(piece)
        pieces.append(Piece(info, info.start_time))
    return pieces


def _copy_stretch(source: Stream, start: float, end: float, target: Path) -> None:
    """Copy the packets between two times, and those before that they need, with the timestamps that they have."""
    import av
    from av.error import FFmpegError as LibavError

    lines = "".join(f"{name}: {value}\r\n" for name, value in source.headers.items())
    options = {"headers": lines, "reconnect": "1", "reconnect_on_network_error": "1", "rw_timeout": "30000000"}
    try:
        with ExitStack() as stack:
            inputs = [stack.enter_context(av.open(source.url, options=options))]
            if source.sound_url is not None:
                inputs.append(stack.enter_context(av.open(source.sound_url, options=options)))
            sound = inputs[-1].streams.audio[:1]
            with atomic_path(target) as temporary, av.open(str(temporary), "w") as output:
                streams = [(inputs[0], inputs[0].streams.video[0]), *((inputs[-1], stream) for stream in sound)]
                # All of them before the first packet, which writes the file's head.
                copies = [output.add_stream_from_template(stream) for _, stream in streams]
                for (container, stream), copy in zip(streams, copies, strict=True):
                    for packet in _packets_between(container, stream, start, end):
                        packet.stream = copy
                        output.mux(packet)
    except (LibavError, IndexError) as error:
        where = source.url.split("?", maxsplit=1)[0]
        reason = getattr(error, "strerror", None) or error
        raise FetchError(
            f"{where} can't be cut ({reason}). Run this again, or cut from the local recording."
        ) from error


def _packets_between(
    container: InputContainer, stream: VideoStream | AudioStream, start: float, end: float
) -> Iterator[Packet]:
    container.seek(round(start * 1_000_000))
    for packet in container.demux(stream):
        if packet.dts is None or packet.time_base is None:
            continue
        if packet.dts * packet.time_base > end:
            return
        yield packet
