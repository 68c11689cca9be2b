"""The reel: the one video file that is made of a recording's cuts.

Each cut is sought and encoded by itself, so the work grows with the reel and not with the recording. Its pictures go to
a file of their own; its sound goes, uncompressed and exactly as long as the pictures, to its place in one sound file,
which is encoded once for the whole reel. So nothing adds up over many cuts.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass
from fractions import Fraction
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, Literal

import polars as pl
from tqdm.auto import tqdm

from hlkit.cuts import Cut, plan_cuts, reel_rate, write_cut_list
from hlkit.overlay import MARGIN, ScoreTexts, frame_rate_of, score_texts, write_pictures
from hlkit.packets import check_whole, find_start, has_sound
from hlkit.project import HlkitError, fingerprint, format_time, write_text
from hlkit.sound import GAP_SECONDS
from hlkit.video import VideoInfo, find_ffmpeg, open_container, open_ffmpeg, probe, run_ffmpeg

__all__ = ["Cut", "Piece", "plan_cuts", "reel_rate", "write_cut_list", "write_pieces", "write_reel"]

SOUND_RATE = 48_000
SOUND_FRAME_BYTES = 4  # two channels of 16 bits


def write_reel(
    video: Path,
    cuts: Sequence[Cut],
    target: Path,
    *,
    overlay: Literal["none", "score"] = "none",
    scores: pl.DataFrame | None = None,
    crf: int = 20,
    progress: bool = True,
) -> None:
    """Cut `cuts` out of `video` and write them, one after another, to one MP4 (H.264 4:2:0, AAC, ready to stream).

    The reel has the recording's picture size and its rate, made constant; each cut has exactly the pictures that its
    length holds, and its sound exactly as long. A recording without sound gives a reel without sound. `target` appears
    when the reel is finished and checked; a run that was killed is taken up at the cut where it stopped.

    Args:
        video: the recording.
        cuts: in the order in which they shall be shown; from `plan_cuts`.
        target: where the reel goes; ends with `.mp4`.
        overlay: `"score"` draws the score in the corner, and needs `scores`.
        scores: the recording's score table.
        crf: quality, 0 (lossless) to 51; 20 shows no loss in motion.
        progress: show a progress bar in pictures.

    Raises:
        HlkitError: when there are no cuts, one lies outside the recording, the recording ends early, or `target` can't
            be written.
    """
    pieces = [Piece(probe(Path(video).resolve()))] * len(cuts) if cuts else []
    write_pieces(pieces, cuts, target, overlay=overlay, scores=scores, crf=crf, progress=progress)


@dataclass(frozen=True)
class Piece:
    """A file with a stretch of a recording: its own time 0 is the recording's time `offset`, in seconds."""

    info: VideoInfo
    offset: float = 0.0


def write_pieces(
    pieces: Sequence[Piece],
    cuts: Sequence[Cut],
    target: Path,
    *,
    overlay: Literal["none", "score"] = "none",
    scores: pl.DataFrame | None = None,
    crf: int = 20,
    progress: bool = True,
) -> None:
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
    if overlay == "score" and scores is None:
        raise HlkitError("The score overlay needs the score table. Run `hlkit infer` first, or choose overlay 'none'.")
    if len(sizes := {(piece.info.width, piece.info.height) for piece in pieces}) > 1:
        shown = ", ".join(f"{width}x{height}" for width, height in sorted(sizes))
        raise HlkitError(f"The picture size changes within the recording ({shown}). Make one reel for each size.")
    texts = score_texts(scores) if overlay == "score" and scores is not None else None
    job = _Job(tuple(pieces), tuple(cuts), crf, texts)
    try:
        _make(job, target, progress)
    except OSError as error:
        raise HlkitError(
            f"The reel {target} can't be written: {error.strerror or error}. Choose another folder."
        ) from error


@dataclass(frozen=True)
class _Job:
    """Everything that the reel's content depends on."""

    pieces: tuple[Piece, ...]
    cuts: tuple[Cut, ...]
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
        counts = [round((Fraction(cut.end) - Fraction(cut.start)) * self.rate) for cut in self.cuts]
        for cut, count, piece in zip(self.cuts, counts, self.pieces, strict=True):
            if count < 1 or cut.end - piece.offset > piece.info.duration + 1 / self.rate:
                length = format_time(piece.info.duration, decimals=3)
                raise HlkitError(f"The cut {cut} does not lie in the recording, which is {length} long. Plan it anew.")
        return counts

    def borders(self) -> list[int]:
        """The sound sample with which each cut begins, and the end of the last."""
        return [round(pictures / self.rate * SOUND_RATE) for pictures in accumulate(self.counts(), initial=0)]

    def key(self) -> str:
        """16 hex digits: the same job gives the same reel."""
        cuts = [[cut.start, cut.end] for cut in self.cuts]
        files = {piece.info.path: fingerprint(piece.info.path) for piece in set(self.pieces)}
        pieces = [[files[piece.info.path], piece.offset] for piece in self.pieces]
        parts = [pieces, cuts, self.crf, self.texts and astuple(self.texts), find_ffmpeg()]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def _make(job: _Job, target: Path, progress: bool) -> None:
    counts = job.counts()
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
        with tqdm(total=sum(counts), desc="reel", unit="frame", mininterval=0.5, disable=not progress) as bar:
            for number, count in enumerate(counts):
                _make_cut(job, number, count, work, attempt, bar)
        reel = attempt / "reel.mp4"
        _join(job, counts, work, reel)
        if (found := _picture_count(reel)) != sum(counts):
            raise HlkitError(f"The reel has {found} pictures in place of {sum(counts)}. Run it again.")
        with reel.open("rb+") as file:
            os.fsync(file.fileno())
        reel.replace(target)
    except Exception:
        # What a failed run has made may be what is wrong, or what fills the disk.
        shutil.rmtree(work, ignore_errors=True)
        raise
    shutil.rmtree(work, ignore_errors=True)


def _make_cut(job: _Job, number: int, count: int, work: Path, attempt: Path, bar: tqdm[Any]) -> None:
    """Encode one cut to `work/<number>.mp4`, unless it is there, and put its sound into `work/sound.pcm`."""
    cut, finished = job.cuts[number], work / f"{number:05d}.mp4"
    if finished.is_file():
        bar.update(count)
        return
    begin, end = job.borders()[number : number + 2]
    pictures, sound = attempt / "cut.mp4", attempt / "cut.pcm"
    sound.unlink(missing_ok=True)
    before = bar.n
    _run(_cut_command(job, number, count, end - begin, attempt), lambda done: bar.update(before + done - bar.n))
    if (found := _picture_count(pictures)) != count:
        reason = f"{job.pieces[number].info.path.name} gave {found} of the {count} pictures of the cut {cut}"
        raise HlkitError(f"{reason}: it is cut off or damaged there. Copy or download it again.")
    if job.has_audio:
        _place(sound, work / "sound.pcm", begin * SOUND_FRAME_BYTES, end * SOUND_FRAME_BYTES)
    pictures.replace(finished)
    bar.update(before + count - bar.n)


def _run(output: Any, on_frames: Callable[[int], object]) -> None:
    with open_ffmpeg(output, "-progress", "pipe:1", "-nostats") as process:
        for line in process.stdout or ():
            if line.startswith(b"frame="):
                on_frames(int(line[6:]))


def _cut_command(job: _Job, number: int, count: int, samples: int, folder: Path) -> Any:
    """The ffmpeg-python node that writes a cut's pictures to `cut.mp4` and its sound to `cut.pcm`."""
    import ffmpeg

    cut, piece = job.cuts[number], job.pieces[number]
    path = piece.info.path
    # The file's first picture may lie a rounding before its time 0.
    seek, begin = find_start(path, max(0.0, cut.start - piece.offset), float(1 / job.rate))
    # Timestamps stay the container's own: versions of ffmpeg differ in what they take for its time 0.
    options: dict[str, Any] = {"copyts": None}
    # Accurate seeking would throw away the picture that began before the cut and is still on screen there.
    options |= {} if seek is None else {"noaccurate_seek": None, "ss": f"{seek:.6f}"}
    source = ffmpeg.input(f"file:{path}", **options)
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
    video = {"c:v": "libx264", "preset": "veryfast", "crf": job.crf, "frames:v": count, "an": None}
    outputs = [pictures.output(f"file:{folder / 'cut.mp4'}", **video)]
    # ffmpeg takes a sound track without sound for an error.
    if piece.info.has_audio and has_sound(path, seek, begin, begin + samples / SOUND_RATE):
        sound = source["a:0"].filter("asetpts", f"round(PTS-{begin:.9f}/TB)")
        sound = sound.filter("aresample", SOUND_RATE, **{"async": 1, "min_hard_comp": GAP_SECONDS, "first_pts": 0})
        sound = sound.filter("aformat", sample_fmts="s16", channel_layouts="stereo").filter("atrim", end_sample=samples)
        outputs.append(sound.output(f"file:{folder / 'cut.pcm'}", format="s16le", acodec="pcm_s16le"))
    return ffmpeg.merge_outputs(*outputs)


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


def _place(sound: Path, whole: Path, begin: int, end: int) -> None:
    """Copy `sound` to the bytes `[begin, end)` of `whole`; where it is too short, silence follows."""
    whole.touch()
    sound.touch()
    os.truncate(sound, end - begin)
    with sound.open("rb") as source, whole.open("rb+") as file:
        file.seek(begin)
        shutil.copyfileobj(source, file, 1 << 20)


def _join(job: _Job, counts: list[int], work: Path, reel: Path) -> None:
    """Put the cuts behind one another, pictures copied and sound encoded, into `reel`."""
    import ffmpeg

    # The list states times in microseconds. Differences of rounded sums keep each start within half of one, and the
    # copied pictures' clock ticks are far longer, so that each is put back on its exact tick.
    borders = [round(pictures / job.rate * 1_000_000) for pictures in accumulate(counts, initial=0)]
    lengths = [end - begin for begin, end in pairwise(borders)]
    lines = [f"file {number:05d}.mp4\nduration {length / 1_000_000:.6f}\n" for number, length in enumerate(lengths)]
    write_text(work / "cuts.txt", "".join(["ffconcat version 1.0\n", *lines]))
    streams = [ffmpeg.input("cuts.txt", format="concat")["v:0"]]
    options: dict[str, Any] = {"c:v": "copy", "movflags": "+faststart"}
    if job.has_audio:
        streams.append(ffmpeg.input("sound.pcm", format="s16le", ar=SOUND_RATE, ac=2)["a:0"])
        options |= {"c:a": "aac", "b:a": "160k"}
    run_ffmpeg(ffmpeg.output(*streams, f"file:{reel}", **options), progress=False, cwd=work)


def _picture_count(video: Path) -> int:
    """How many pictures the file has; 0 also when ffmpeg got none and left a file without a picture track."""
    try:
        with open_container(video) as (container, stream):
            return sum(packet.pts is not None for packet in container.demux(stream))
    except HlkitError:
        return 0
