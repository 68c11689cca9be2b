"""The reel: the one video file that is made of a recording's cuts.

Each cut is sought by itself, so the work grows with the reel, not with the recording. Its pictures are copied as they
are coded where that is safe, else encoded, and go to a file of their own; its sound goes to its place in one sound
file, which is encoded once for the whole reel. So nothing adds up over many cuts.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, replace
from fractions import Fraction
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal

import polars as pl
from tqdm.auto import tqdm

from hlkit.coded import Sources, UnsafeError
from hlkit.cuts import Cut, Piece, picture_count, plan_cuts, reel_rate, write_cut_list
from hlkit.gops import CutMode
from hlkit.mp4 import count_pictures, join_cuts
from hlkit.overlay import MARGIN, ScoreTexts, frame_rate_of, score_texts, write_pictures
from hlkit.packets import check_whole, find_start
from hlkit.project import HlkitError, HlkitWarning, fingerprint, format_time
from hlkit.soundtrack import place_sound, sound_samples
from hlkit.splice import SplicePlan, plan_splices, write_splice
from hlkit.video import find_ffmpeg, open_ffmpeg, probe

__all__ = ["Cut", "CutMode", "Piece", "plan_cuts", "reel_rate", "write_cut_list", "write_pieces", "write_reel"]


def write_reel(
    video: Path,
    cuts: Sequence[Cut],
    target: Path,
    *,
    cut: CutMode | None = None,
    overlay: Literal["none", "score"] = "none",
    scores: pl.DataFrame | None = None,
    crf: int = 20,
    progress: bool = True,
) -> tuple[Cut, ...]:
    """Cut `cuts` out of `video` and write them, one after another, to one MP4 (H.264 4:2:0, AAC, ready to stream).

    The reel has the recording's picture size and its rate, made constant; each cut has exactly the pictures that its
    length holds, and its sound exactly as long. A recording without sound gives a reel without sound. `target` appears
    when the reel is finished and checked; a run that was killed is taken up at the cut where it stopped.

    Args:
        video: the recording.
        cuts: in the order in which they shall be shown; from `plan_cuts`.
        target: where the reel goes; ends with `.mp4`.
        cut: `"smart"` copies whole GOPs as they are coded and encodes the pictures around them, exact to the picture;
            `"keyframe"` lets cuts begin and end with GOPs, so that they come out longer, and encodes no picture;
            `"encode"` encodes all. None is `"smart"`, and with an overlay `"encode"`.
        overlay: `"score"` draws the score in the corner, and needs `scores`.
        scores: the recording's score table.
        crf: quality of what is encoded, 0 (lossless) to 51; 20 shows no loss in motion.
        progress: show a progress bar in pictures.

    Returns:
        The cuts that the reel shows: `cuts`, or with `"keyframe"` longer ones; those that then overlap are one.

    Raises:
        HlkitError: when there are no cuts, one lies outside the recording, the recording ends early, or `target` can't
            be written.

    Warns (HlkitWarning) when cuts are encoded though they should be copied, once for each reason: only H.264 (8 bits,
    4:2:0, progressive, limited range, not rotated) in closed GOPs at a steady rate and with constant parameters is.
    """
    pieces = [Piece(probe(Path(video).resolve()))] * len(cuts) if cuts else []
    return write_pieces(pieces, cuts, target, cut=cut, overlay=overlay, scores=scores, crf=crf, progress=progress)


def write_pieces(
    pieces: Sequence[Piece],
    cuts: Sequence[Cut],
    target: Path,
    *,
    cut: CutMode | None = None,
    overlay: Literal["none", "score"] = "none",
    scores: pl.DataFrame | None = None,
    crf: int = 20,
    progress: bool = True,
) -> tuple[Cut, ...]:
    """Write a reel as `write_reel` does, each cut out of the piece of the recording that has its place.

    The pieces have one picture size. Times of `cuts` and `scores` are the recording's.
    """
    target = Path(target).resolve()
    if not cuts:
        raise HlkitError(
            "There is nothing to cut: no highlight was picked. Lower the threshold, or ask for more minutes."
        )
    if target.suffix.lower() != ".mp4" or any(target == piece.info.path for piece in pieces):
        raise HlkitError(f"The reel can't be {target.name}. Give a new name that ends with .mp4.")
    if not 0 <= crf <= 51:
        raise HlkitError(f"The quality (crf) is {crf}. Give 0 (lossless) to 51 (worst); 20 is usual.")
    if overlay not in ("none", "score"):
        raise HlkitError(f"The overlay is '{overlay}'; none and score are allowed.")
    if cut not in (None, "smart", "keyframe", "encode"):
        raise HlkitError(f"The way of cutting is '{cut}'; smart, keyframe and encode are allowed.")
    if overlay != "none" and cut not in (None, "encode"):
        raise HlkitError(
            f"Copied pictures can't have an overlay. Choose cut 'encode' in place of '{cut}', or no overlay."
        )
    if overlay == "score" and scores is None:
        raise HlkitError("The score overlay needs the score table. Run `hlkit infer` first, or choose overlay 'none'.")
    if len(sizes := {(piece.info.width, piece.info.height) for piece in pieces}) > 1:
        shown = ", ".join(f"{width}x{height}" for width, height in sorted(sizes))
        raise HlkitError(f"The picture size changes within the recording ({shown}). Make one reel for each size.")
    texts = score_texts(scores) if overlay == "score" and scores is not None else None
    mode = cut or ("smart" if overlay == "none" else "encode")
    job = _Job(tuple(pieces), tuple(cuts), mode, crf, texts)
    try:
        return _make(job, target, progress)
    except OSError as error:
        raise HlkitError(
            f"The reel {target} can't be written: {error.strerror or error}. Choose another folder."
        ) from error


@dataclass(frozen=True)
class _Job:
    """Everything that the reel's content depends on."""

    pieces: tuple[Piece, ...]
    cuts: tuple[Cut, ...]
    mode: CutMode
    crf: int
    texts: ScoreTexts | None

    @property
    def rate(self) -> Fraction:
        return reel_rate(self.pieces[0].info)

    @property
    def height(self) -> int:
        return self.pieces[0].info.height

    @property
    def has_audio(self) -> bool:
        return any(piece.info.has_audio for piece in self.pieces)

    def counts(self) -> list[int]:
        """How many pictures each cut has.

        Raises:
            HlkitError: when a cut lies outside the recording or is shorter than a picture.
        """
        counts = [picture_count(cut, self.rate) for cut in self.cuts]
        for cut, count, piece in zip(self.cuts, counts, self.pieces, strict=True):
            if count < 1 or cut.end - piece.offset > piece.info.duration + 1 / self.rate:
                length = format_time(piece.info.duration, decimals=3)
                raise HlkitError(f"The cut {cut} does not lie in the recording, which is {length} long. Plan it anew.")
        return counts

    def key(self) -> str:
        """16 hex digits: the same job gives the same reel."""
        cuts = [[cut.start, cut.end] for cut in self.cuts]
        files = {piece.info.path: fingerprint(piece.info.path) for piece in set(self.pieces)}
        pieces = [[files[piece.info.path], piece.offset] for piece in self.pieces]
        parts = [pieces, cuts, self.mode, self.crf, self.texts and astuple(self.texts), find_ffmpeg()]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def _make(job: _Job, target: Path, progress: bool) -> tuple[Cut, ...]:
    job.counts()
    for piece in set(job.pieces):
        ends = [cut.end for cut, its in zip(job.cuts, job.pieces, strict=True) if its == piece]
        check_whole(piece.info, max(ends) - piece.offset)
    work = target.parent / f".part-{target.stem}-{job.key()}"
    work.mkdir(parents=True, exist_ok=True)
    for other in target.parent.glob(".part-*"):
        if re.fullmatch(rf"\.part-{re.escape(target.stem)}-[0-9a-f]{{16}}", other.name) and other != work:
            shutil.rmtree(other, ignore_errors=True)
    # A killed run's ffmpeg may still be writing, so no name is used by two attempts.
    attempt = Path(tempfile.mkdtemp(dir=work))
    try:
        with Sources() as sources:
            plan = plan_splices(sources, job.pieces, job.cuts, job.rate, job.mode)
            job = replace(job, pieces=plan.pieces, cuts=plan.cuts)
            counts = [picture_count(cut, job.rate) for cut in job.cuts]
            for reason, cuts in plan.reasons.items():
                _warn(job, cuts, reason)
            with tqdm(total=sum(counts), desc="reel", unit="frame", mininterval=0.5, disable=not progress) as bar:
                _make_cuts(job, plan, counts, sources, work, attempt, bar)
        reel = attempt / "reel.mp4"
        files = [work / f"{number:05d}.mp4" for number in range(len(counts))]
        join_cuts(files, counts, job.rate, work / "sound.pcm" if job.has_audio else None, reel)
        if (found := count_pictures(reel)) != sum(counts):
            raise HlkitError(f"The reel has {found} pictures in place of {sum(counts)}. Run it again.")
        with reel.open("rb+") as file:
            os.fsync(file.fileno())
        reel.replace(target)
    except Exception:
        # What a failed run has made may be what is wrong, or what fills the disk.
        shutil.rmtree(work, ignore_errors=True)
        raise
    shutil.rmtree(work, ignore_errors=True)
    return job.cuts


def _warn(job: _Job, cuts: int, reason: str) -> None:
    name, which = job.pieces[0].info.path.name, f"{cuts} of {len(job.cuts)} cuts are"
    message = f"{name}: {which} encoded in place of copied: {reason}."
    warnings.warn(message, HlkitWarning, stacklevel=6)


def _make_cuts(
    job: _Job, plan: SplicePlan, counts: list[int], sources: Sources, work: Path, attempt: Path, bar: tqdm[Any]
) -> None:
    """Make each cut's `work/<number>.mp4`, unless it is there, and put its sound into `work/sound.pcm`."""
    borders = [sound_samples(pictures, job.rate) for pictures in accumulate(counts, initial=0)]
    failed: Counter[str] = Counter()
    for number, (count, splice, piece) in enumerate(zip(counts, plan.splices, job.pieces, strict=True)):
        finished, before = work / f"{number:05d}.mp4", bar.n
        if not finished.is_file():
            pictures, begin = attempt / "cut.mp4", None

            def show(done: int, before: int = before) -> None:
                bar.update(before + done - bar.n)

            if splice is not None and plan.style is not None:
                try:
                    write_splice(splice, sources.open(piece.info.path), plan.style, number, job.crf, pictures, show)
                    begin = float(splice.found.begin)
                except UnsafeError as reason:
                    failed[str(reason)] += 1
            if begin is None:
                begin = _encode_cut(job, plan, number, count, attempt, show)
            if job.has_audio:
                container = sources.open(piece.info.path).container
                place_sound(container, begin, work / "sound.pcm", *borders[number : number + 2])
            pictures.replace(finished)
        bar.update(before + count - bar.n)
    for reason, cuts in failed.items():
        _warn(job, cuts, reason)


def _encode_cut(
    job: _Job, plan: SplicePlan, number: int, count: int, attempt: Path, on_frames: Callable[[int], object]
) -> float:
    """Encode one cut to `attempt/cut.mp4`; returns the container's time with which it begins."""
    cut, piece = job.cuts[number], job.pieces[number]
    # The file's first picture may lie a rounding before its time 0.
    seek, begin = find_start(piece.info.path, max(0.0, cut.start - piece.offset), float(1 / job.rate))
    sets = None if plan.style is None else plan.style.number(number, "whole")
    _run(_cut_command(job, number, count, (seek, begin), sets, attempt), on_frames)
    if (found := count_pictures(attempt / "cut.mp4")) != count:
        reason = f"{piece.info.path.name} gave {found} of the {count} pictures of the cut {cut}"
        raise HlkitError(f"{reason}: it is cut off or damaged there. Copy or download it again.")
    return begin


def _run(output: Any, on_frames: Callable[[int], object]) -> None:
    with open_ffmpeg(output, "-progress", "pipe:1", "-nostats") as process:
        for line in process.stdout or ():
            if line.startswith(b"frame="):
                on_frames(int(line[6:]))


def _cut_command(
    job: _Job, number: int, count: int, start: tuple[float | None, float], sets: int | None, folder: Path
) -> Any:
    """The ffmpeg-python node that writes a cut's pictures to `cut.mp4`.

    `start` is from `find_start`; `sets` the number of the parameter sets, where other pictures have theirs.
    """
    import ffmpeg

    cut, (seek, begin) = job.cuts[number], start
    # Timestamps stay the container's own: versions of ffmpeg differ in what they take for its time 0.
    options: dict[str, Any] = {"copyts": None}
    # Accurate seeking would throw away the picture that began before the cut and is still on screen there.
    options |= {} if seek is None else {"noaccurate_seek": None, "ss": f"{seek:.6f}"}
    source = ffmpeg.input(f"file:{job.pieces[number].info.path}", **options)
    # round=near: each picture is the one on screen in the middle of its time, so that rounded timestamps do no harm.
    pictures = source["V:0"].filter("setpts", f"round(PTS-{begin:.9f}/TB)")
    pictures = pictures.filter("fps", fps=str(job.rate), round="near", start_time=0)
    # The last picture of some recordings has no length of its own.
    pictures = pictures.filter("tpad", stop_mode="clone", stop=2)
    pictures = pictures.filter("crop", "trunc(iw/2)*2", "trunc(ih/2)*2", 0, 0).filter("scale", out_range="tv")
    pictures = pictures.filter("format", "yuv420p")
    if job.texts is not None:
        pictures = _with_scores(pictures, job, cut, job.texts, folder)
    # "veryfast" encodes several times as fast as the default, at the same crf with slightly larger files.
    video: dict[str, Any] = {"c:v": "libx264", "preset": "veryfast", "crf": job.crf, "frames:v": count, "an": None}
    if sets is not None:
        video["x264-params"] = f"sps-id={sets}:stitchable=1"
    return pictures.output(f"file:{folder / 'cut.mp4'}", **video)


def _with_scores(pictures: Any, job: _Job, cut: Cut, texts: ScoreTexts, folder: Path) -> Any:
    import ffmpeg

    begin, shown = texts.grid(cut.start, cut.end)
    width, height = write_pictures(folder / "score.rgba", shown, job.height)
    size = {"pix_fmt": "rgba", "s": f"{width}x{height}", "framerate": str(frame_rate_of(texts))}
    # The file's own clock ticks once a text, too coarse for the time of its first.
    score = ffmpeg.input(f"file:{folder / 'score.rgba'}", format="rawvideo", **size).filter("settb", "AVTB")
    score = score.filter("setpts", f"round(PTS+({begin:.6f})/TB)")
    margin = round(job.height * MARGIN) // 2 * 2
    return pictures.overlay(score, x=margin, y=margin)
