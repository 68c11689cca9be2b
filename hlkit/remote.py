"""Stretches of recordings elsewhere: only what a cut shows is fetched, not the recording.

*A stretch by itself*: a part of a video that shall be here in place of all of it.

*Analyse low, cut high*: a reel out of a site's best rendition. The recording here is a small one. The large one is a
list of segments of a few seconds (HLS, RFC 8216) or a file with an index: what a cut needs of it is fetched into a
*piece*. The clocks of the two renditions can differ, so each piece is laid over the recording by its pictures: the
first ones of the cut are looked for in the piece, to the frame.
"""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import polars as pl
from tqdm.auto import tqdm

from hlkit.alignment import SEARCH_SECONDS, align
from hlkit.cuts import Cut, Piece
from hlkit.download import check_target
from hlkit.gops import CutMode
from hlkit.layout import PLAIN, Look
from hlkit.locks import exclusive
from hlkit.project import HlkitError, HlkitWarning, atomic_path, format_time, write_text
from hlkit.reel import write_pieces
from hlkit.segments import FetchError, fetch_segments, get, join_segments, plan_runs, read_playlist
from hlkit.sources import Stream, parse_source, rank_renditions
from hlkit.twitch import read_facts, read_renditions, twitch_facts
from hlkit.video import origin_of, probe, stated_duration
from hlkit.web import find_stream

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

# A stated length is rounded; what lacks more than this at its end has broken off.
MISSING_SECONDS = 1.5


def find_source(source: str, quality: str = "source") -> Stream:
    """Where a rendition of a video lies now, the best one unless another is named.

    Args:
        source: what the recording was downloaded from (`source` in its JSON).
        quality: `analysis` (nearest to 360p), `source` (the best) or a name such as `720p60`.

    Raises:
        HlkitError: when it was no site, the video is gone, or the quality is not offered.
    """
    known = parse_source(source)
    if known.kind == "vod":
        facts = twitch_facts(known)
        best = rank_renditions(read_renditions(facts), quality)[0]
        about, length = read_facts(facts)
        return Stream(best.url, None, True, {}, about | {"quality": best.names[-1], "length": length})
    if known.kind != "web":
        reason = "a file on this computer" if known.kind == "file" else "a clip, which comes whole"
        raise HlkitError(f"The recording was {reason}: there is no larger source. Cut from the local recording.")
    return find_stream(known.name, quality)


def download_stretch(
    source: str | Path,
    folder: Path,
    *,
    start: float,
    end: float,
    video_id: str,
    quality: str = "analysis",
    progress: bool = True,
) -> Path:
    """Bring a stretch of a recording into `folder` as `<id>.mp4`, exact to the picture, with `<id>.json`.

    Of a video on the web the stretch alone is fetched. The JSON has `stretch_of` (the source), `start` and `end` of the
    stretch and its `length` (s), and what is known of the whole.

    Args:
        source: a file, the link or number of a Twitch VOD, or the link of a video on another site.
        folder: the project's `videos`.
        start, end: seconds from the start of the recording; what lies behind its end is left out.
        video_id: the id.
        quality: of what a site offers, see `find_source`.
        progress: show progress bars.

    Raises:
        HlkitError: when the recording can't be had, or ends before the stretch begins.
    """
    known, cut, target = parse_source(source), Cut(start, end), Path(folder) / f"{video_id}.mp4"
    check_target(target, video_id)
    target.parent.mkdir(parents=True, exist_ok=True)
    if known.kind == "file":
        about: Mapping[str, Any] = {"title": Path(known.name).stem}
        _write_stretch(Piece(probe(Path(known.name))), cut, target)
    else:
        stream = find_source(str(source), quality)

        def write(pieces: list[Piece]) -> tuple[Cut, ...]:
            return _write_stretch(pieces[0], cut, target)

        _with_pieces(stream, [cut], target, progress, write, exact=True)
        about = stream.about
    about = {"stretch_of": str(source), "start": start, "end": end} | dict(about) | {"chapters": []}
    about["length"] = probe(target).duration
    write_text(target.with_suffix(".json"), json.dumps(about, indent=1, ensure_ascii=False) + "\n")
    return target


def _write_stretch(piece: Piece, cut: Cut, target: Path) -> tuple[Cut, ...]:
    stop = piece.offset + piece.info.duration
    if cut.start >= stop:
        raise HlkitError(f"The stretch {cut} lies behind the recording's end, {format_time(stop)}. Correct its times.")
    with warnings.catch_warnings():
        # That a few seconds are encoded and not copied is no news.
        warnings.simplefilter("ignore", HlkitWarning)
        return write_pieces([piece], [Cut(cut.start, min(cut.end, stop))], target, progress=False)


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

    def write(pieces: list[Piece]) -> tuple[Cut, ...]:
        pieces = align(video, pieces, cuts)
        return write_pieces(
            pieces, cuts, target, cut=cut, overlay=overlay, scores=scores, look=look, crf=crf, progress=progress
        )

    return _with_pieces(source, cuts, target, progress, write)


def _with_pieces(
    source: Stream,
    cuts: Sequence[Cut],
    target: Path,
    progress: bool,
    write: Callable[[list[Piece]], tuple[Cut, ...]],
    *,
    exact: bool = False,
) -> tuple[Cut, ...]:
    """Fetch a piece for each cut, and let `write` make `target` of them. They go when it is made."""
    work = target.parent / f".source-{target.stem}"
    with exclusive(work, what=f"The video {target.name} is"):
        try:
            if source.is_hls and source.sound_url is None:
                pieces = _fetch_pieces(source, cuts, work, progress, exact)
            else:
                pieces = _copy_stretches(source, cuts, work, progress)
            made = write(pieces)
        except FetchError:
            raise
        except HlkitError:
            # What came may be what is wrong.
            shutil.rmtree(work)
            raise
        shutil.rmtree(work)
    return made


def _fetch_pieces(source: Stream, cuts: Sequence[Cut], work: Path, progress: bool, exact: bool) -> list[Piece]:
    """The pieces of a playlist: each cut's segments, one after another.

    With `exact` the recording's first segment is fetched too: its clock says to the picture where the others lie, while
    a playlist says it to a few pictures.
    """
    segments = read_playlist(get(source.url, source.headers).decode("utf-8", "replace"), source.url)
    runs = plan_runs(cuts, segments, margin=SEARCH_SECONDS)
    wanted = {*runs, *([range(1)] if exact else [])}
    fetch_segments({number for run in wanted for number in run}, segments, source.headers, work, progress)
    infos = {run: probe(join_segments(run, segments, work)) for run in wanted}
    begins = {run: segments[run[0]].start for run in runs}
    if exact:
        clock = {run: infos[run].start_time - infos[range(1)].start_time for run in runs}
        # Far from what the playlist says, the clock has begun anew on the way.
        begins |= {run: begin for run, begin in clock.items() if abs(begin - begins[run]) < SEARCH_SECONDS}
    return [Piece(infos[run], begins[run]) for run in runs]


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
    """Copy the packets between two times, and those before that they need, with their times in the recording."""
    import av
    from av.error import FFmpegError as LibavError

    lines = "".join(f"{name}: {value}\r\n" for name, value in source.headers.items())
    options = {"headers": lines, "reconnect": "1", "reconnect_on_network_error": "1", "rw_timeout": "30000000"}
    try:
        with ExitStack() as stack:
            inputs = [stack.enter_context(av.open(source.url, options=options))]
            if source.sound_url is not None:
                inputs.append(stack.enter_context(av.open(source.sound_url, options=options)))
            sound, origin = inputs[-1].streams.audio[:1], origin_of(inputs[0])
            length = stated_duration(inputs[0], inputs[0].streams.video[0], origin)
            with atomic_path(target) as temporary, av.open(str(temporary), "w") as output:
                streams = [(inputs[0], inputs[0].streams.video[0]), *((inputs[-1], stream) for stream in sound)]
                # All of them before the first packet, which writes the file's head.
                copies = [output.add_stream_from_template(stream) for _, stream in streams]
                came = 0.0
                for (container, stream), copy in zip(streams, copies, strict=True):
                    for packet in _packets_between(container, stream, origin + start, origin + end):
                        back = round(origin / packet.time_base)
                        packet.pts, packet.dts = (
                            time if time is None else time - back for time in (packet.pts, packet.dts)
                        )
                        if stream.type == "video":
                            came = float((packet.dts or 0) * packet.time_base)
                        packet.stream = copy
                        output.mux(packet)
                if length is not None and came < min(end, length) - MISSING_SECONDS:
                    raise FetchError(f"{_plain(source)} broke off at {format_time(came)}. Run this again.")
    except (LibavError, IndexError) as error:
        reason = getattr(error, "strerror", None) or error
        raise FetchError(
            f"{_plain(source)} can't be cut ({reason}). Run this again, or cut from the local recording."
        ) from error


def _plain(source: Stream) -> str:
    """Its link without the query, where signatures stand."""
    return source.url.split("?", maxsplit=1)[0]


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
