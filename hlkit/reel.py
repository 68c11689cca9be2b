"""The reel: the one video file that is made of a recording's cuts.

Each cut is sought by itself, so the work grows with the reel, not with the recording. Its pictures are copied as they
are coded where that is safe, else encoded, and go to a file of their own (with a title or fades, to a file for each
part of it); their sound goes into one file, which is encoded once, beside the pictures. So nothing adds up over many
cuts.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, Literal

import polars as pl
from tqdm.auto import tqdm

from hlkit.coded import Sources, UnsafeError
from hlkit.cuts import Cut, Piece, mean_score, plan_cuts, reel_rate, write_cut_list
from hlkit.gops import CutMode
from hlkit.job import Job
from hlkit.layout import PLAIN, Look, check_copying
from hlkit.locks import exclusive
from hlkit.mp4 import count_pictures, encoded_sound, join_cuts
from hlkit.overlay import score_texts
from hlkit.packets import check_whole, find_start
from hlkit.parts import ReelPart
from hlkit.project import HlkitError, HlkitWarning
from hlkit.rendering import Stretch, render
from hlkit.sampling import check_pixels
from hlkit.soundtrack import mix_sound, write_sound
from hlkit.splice import Splice, SplicePlan, plan_splices, write_splice
from hlkit.video import FFmpegError, open_ffmpeg, probe

# What ffmpeg, or the system that ends it, says of a disk or a file that can't grow.
FULL_DISK = ("No space left on device", "File size limit exceeded", "File too large")

__all__ = ["Cut", "plan_cuts", "reel_rate", "write_cut_list", "write_pieces", "write_reel"]


def write_reel(
    video: Path,
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
    """Cut `cuts` out of `video` and write them, one after another, to one MP4 (H.264 4:2:0, AAC, ready to stream).

    The reel has the recording's picture size (unless its look has another shape) and its rate, made constant; each cut
    has exactly the pictures that its length holds, and its sound exactly as long. With fades, neighbours share some. A
    recording without sound gives a reel without sound. `target` appears when the reel is finished and checked; a run
    that was killed is taken up where it stopped.

    Args:
        video: the recording.
        cuts: in the order in which they shall be shown; from `plan_cuts`.
        target: where the reel goes; ends with `.mp4`.
        cut: `"smart"` copies whole GOPs as they are coded and encodes the pictures around them, exact to the picture;
            `"keyframe"` lets cuts begin and end with GOPs, so that they come out longer, and encodes no picture;
            `"encode"` encodes all. None is `"smart"`, and with an overlay or another shape `"encode"`.
        overlay: `"score"` draws the score in the corner, and needs `scores`.
        scores: the recording's score table; also for titles with a `{score}`.
        look: titles, fades and shape. With `"smart"` only the pictures with a title and those that fade are encoded
            besides the edges. `{name}` in a title is the name of `target`.
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
    return write_pieces(
        pieces, cuts, target, cut=cut, overlay=overlay, scores=scores, look=look, crf=crf, progress=progress
    )


def write_pieces(
    pieces: Sequence[Piece],
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
    if target.is_dir():
        raise HlkitError(f"The reel {target} can't be written: a folder has that name. Choose another folder or name.")
    if not 0 <= crf <= 51:
        raise HlkitError(f"The quality (crf) is {crf}. Give 0 (lossless) to 51 (worst); 20 is usual.")
    if overlay not in ("none", "score"):
        raise HlkitError(f"The overlay is '{overlay}'; none and score are allowed.")
    if cut not in (None, "smart", "keyframe", "encode"):
        raise HlkitError(f"The way of cutting is '{cut}'; smart, keyframe and encode are allowed.")
    check_copying(cut, overlay, look)
    if overlay == "score" and scores is None:
        raise HlkitError("The score overlay needs the score table. Run `hlkit infer` first, or choose overlay 'none'.")
    if len(sizes := {(piece.info.width, piece.info.height) for piece in pieces}) > 1:
        shown = ", ".join(f"{width}x{height}" for width, height in sorted(sizes))
        raise HlkitError(f"The picture size changes within the recording ({shown}). Make one reel for each size.")
    if look.face is not None:
        for piece in set(pieces):
            check_pixels(look.face, piece.info)
    texts = score_texts(scores) if overlay == "score" and scores is not None else None
    mode = cut or ("smart" if overlay == "none" and look.shape == "source" else "encode")
    titles = look.titles([_scored(cut, scores) for cut in cuts], target.stem)
    job = Job(tuple(pieces), tuple(cuts), mode, crf, texts, look, tuple(titles))
    try:
        return _make(job, target, progress)
    except (OSError, FFmpegError) as error:
        if isinstance(error, FFmpegError) and not any(words in str(error) for words in FULL_DISK):
            raise
        reason = getattr(error, "strerror", None) or error
        raise HlkitError(f"The reel {target} can't be written: {reason}. Choose another folder.") from error


def _scored(cut: Cut, scores: pl.DataFrame | None) -> Cut:
    if cut.score is not None or scores is None or not {"time", "score"} <= set(scores.columns):
        return cut
    return replace(cut, score=mean_score(scores, cut.start, cut.end))


def _make(job: Job, target: Path, progress: bool) -> tuple[Cut, ...]:
    job.counts()
    work, busy = target.parent / f".part-{target.stem}-{job.key()}", f"The reel {target.name} is"
    with exclusive(work, what=busy):
        for other in target.parent.glob(".part-*"):
            if re.fullmatch(rf"\.part-{re.escape(target.stem)}-[0-9a-f]{{16}}", other.name) and other != work:
                with exclusive(other, what=busy):
                    shutil.rmtree(other, ignore_errors=True)
        return _make_in(work, job, target, progress)


def _make_in(work: Path, job: Job, target: Path, progress: bool) -> tuple[Cut, ...]:
    # A killed run's ffmpeg may still be writing, so no name is used by two attempts.
    attempt = Path(tempfile.mkdtemp(dir=work))
    try:
        with Sources() as sources:
            for piece in set(job.pieces):
                ends = [cut.end for cut, its in zip(job.cuts, job.pieces, strict=True) if its == piece]
                check_whole(sources.open(piece.info.path).container, piece.info.path, max(ends) - piece.offset)
            plain = [part for part in job.parts() if part.kind == "plain"]
            stretches = [job.stretch(part) for part in plain]
            mode = job.mode if plain else "encode"
            plan = plan_splices(sources, [job.pieces[part.cut] for part in plain], stretches, job.rate, mode)
            if mode == "keyframe":
                job = replace(job, pieces=plan.pieces, cuts=plan.cuts)
            for reason, cuts in plan.reasons.items():
                _warn(job, cuts, reason)
            parts = job.parts()
            total = sum(part.count for part in parts)
            with (
                tqdm(total=total, desc="reel", unit="frame", mininterval=0.5, disable=not progress) as bar,
                _sound(job, attempt) as samples,
            ):
                _make_parts(job, plan, parts, sources, work, attempt, samples, bar)
        reel, files = attempt / "reel.mp4", [work / f"{number:05d}.mp4" for number in range(len(parts))]
        join_cuts(
            files, [part.count for part in parts], job.rate, attempt / "sound.mp4" if job.has_audio else None, reel
        )
        if (found := count_pictures(reel)) != total:
            raise HlkitError(f"The reel has {found} pictures in place of {total}. Run it again.")
        with reel.open("rb+") as file:
            os.fsync(file.fileno())
        reel.replace(target)
    except Exception:
        # What a failed run has made may be what is wrong, or what fills the disk.
        shutil.rmtree(work, ignore_errors=True)
        raise
    shutil.rmtree(work, ignore_errors=True)
    return job.cuts


def _warn(job: Job, cuts: int, reason: str) -> None:
    name, which = job.pieces[0].info.path.name, f"{cuts} of {len(job.cuts)} cuts are"
    message = f"{name}: {which} encoded in place of copied: {reason}."
    warnings.warn(message, HlkitWarning, stacklevel=7)


@contextmanager
def _sound(job: Job, attempt: Path) -> Iterator[IO[bytes] | None]:
    """What takes the cuts' samples, one cut after another; the block's end makes `attempt/sound.mp4` of them.

    None when there is no sound.
    """
    if not job.has_audio:
        yield None
        return
    if not job.fade:
        with encoded_sound(attempt / "sound.mp4") as samples:
            yield samples
        return
    with (attempt / "sound.pcm").open("wb") as apart:
        yield apart
    with encoded_sound(attempt / "sound.mp4") as samples:
        mix_sound(attempt / "sound.pcm", *job.sound(), samples)


def _make_parts(
    job: Job,
    plan: SplicePlan,
    parts: Sequence[ReelPart],
    sources: Sources,
    work: Path,
    attempt: Path,
    samples: IO[bytes] | None,
    bar: tqdm[Any],
) -> None:
    """Make each part's `work/<number>.mp4`, unless it is there, and write all cuts' sound to `samples`."""
    splices, lengths = iter(plan.splices), dict(enumerate(job.sound()[0]))
    failed: Counter[str] = Counter()
    for number, part in enumerate(parts):
        finished, before = work / f"{number:05d}.mp4", bar.n
        splice = next(splices) if part.kind == "plain" else None
        source = sources.open(job.pieces[part.cut].info.path)
        if samples is not None and part.kind != "fade" and part.cut in lengths:
            write_sound(source.container, _begin(job, part, splice), lengths.pop(part.cut), samples)
        if not finished.is_file():
            is_copied = False

            def show(done: int, before: int = before) -> None:
                bar.update(before + done - bar.n)

            if splice is not None and plan.style is not None:
                try:
                    write_splice(splice, source, plan.style, number, job.crf, attempt / "cut.mp4", show)
                    is_copied = True
                except UnsafeError as reason:
                    failed[str(reason)] += 1
            if not is_copied:
                _encode(job, plan, number, part, attempt, show)
            (attempt / "cut.mp4").replace(finished)
        bar.update(before + part.count - bar.n)
    for reason, cuts in failed.items():
        _warn(job, cuts, reason)


def _begin(job: Job, part: ReelPart, splice: Splice | None) -> float:
    """The container's time with which a part's cut begins, in seconds."""
    if splice is None:
        return _find(job, part.cut, 0).begin
    return float(splice.found.begin - part.first / job.rate)


def _encode(
    job: Job, plan: SplicePlan, number: int, part: ReelPart, attempt: Path, on_frames: Callable[[int], object]
) -> None:
    """Encode one part to `attempt/cut.mp4`."""
    ends = [(part.cut, part.first), *([(part.cut + 1, 0)] if part.kind == "fade" else [])]
    stretches = [_find(job, cut, first) for cut, first in ends]
    sets = None if plan.style is None else plan.style.number(number, "whole")
    _run(render(stretches, part.count, job.drawing, sets, attempt), on_frames)
    if (found := count_pictures(attempt / "cut.mp4")) != part.count:
        name, cut = job.pieces[part.cut].info.path.name, job.stretch(part)
        reason = f"{name} gave {found} of the {part.count} pictures of the cut {cut}"
        raise HlkitError(f"{reason}: it is cut off or damaged there. Copy or download it again.")


def _find(job: Job, number: int, first: int) -> Stretch:
    """Where a cut's pictures from `first` on lie in the recording."""
    cut, piece, length = job.cuts[number], job.pieces[number], float(1 / job.rate)
    # The file's first picture may lie a rounding before its time 0.
    start = max(0.0, cut.start - piece.offset)
    seek, begin = find_start(piece.info.path, start, length)
    if first:
        # Counted from the cut's beginning, as its sound is; which may lie a picture before what was asked for.
        seek, _ = find_start(piece.info.path, max(0.0, start + (first - 1) * length), length)
    title = job.titles[number] if job.titles else ""
    return Stretch(piece.info.path, cut, title, first, seek, begin + first * length)


def _run(output: Any, on_frames: Callable[[int], object]) -> None:
    with open_ffmpeg(output, "-progress", "pipe:1", "-nostats") as process:
        for line in process.stdout or ():
            if line.startswith(b"frame="):
                on_frames(int(line[6:]))
