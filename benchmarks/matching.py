"""How surely the stretches of a stream that a highlight video shows are found, and in what time.

    python benchmarks/matching.py STREAM OTHER
    python benchmarks/matching.py STREAM OTHER --seeds 0 --hours 6 --fill MORE.mp4 MORE.mp4

Highlight videos are made of STREAM with ffmpeg as a streamer's editor might: spans of 3 to 15 s in another order,
between them clips of OTHER, made smaller and encoded again at another frame rate, titles over the picture, music 6 dB
below the stream's sound, and with some reels cross-fades. One more reel is made of OTHER alone, in which nothing of
STREAM may be found. Spans begin anywhere except on a still picture, which could be from anywhere.

With `--hours` STREAM is laid into the middle of a stream so long, around it the recordings of `--fill` again and again,
and looked for in it is a reel of ten minutes with as many clips of OTHER as of STREAM.
"""

from __future__ import annotations

import argparse
import platform
import random
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from hlkit.matching import match_reel
from hlkit.video import probe, run_ffmpeg

SPANS, FOREIGN = 20, 6
SHORTEST, LONGEST = 3.0, 15.0
# A still picture changes by less than this many grey levels from one third of a second to the next.
STILL_LEVELS, STILL_SHARE = 0.7, 0.2
FADE_SECONDS = 0.5
WIDTH, HEIGHT, RATE = 854, 480, 30
MUSIC_DB = -6.0
NEAR_SECONDS = 0.5
LONG_SPANS = 33


@dataclass(frozen=True)
class Clip:
    """A stretch of a recording, in seconds, and whether it is of the stream that is looked for."""

    video: Path
    start: float
    end: float
    own: bool


def choose(video: Path, count: int, seed: int, *, own: bool) -> list[Clip]:
    """`count` disjoint clips of a recording, at random, none of them mostly still."""
    from hlkit.fingerprints import decode_pictures

    pictures = decode_pictures(video, rate=3, progress=False).astype(np.int16)
    still = np.append(np.abs(np.diff(pictures, axis=0)).mean(axis=(1, 2)) < STILL_LEVELS, True)
    draw, chosen = random.Random(seed), []
    while len(chosen) < count:
        length = round(draw.uniform(SHORTEST, LONGEST) * RATE) / RATE
        start = draw.uniform(0, len(pictures) / 3 - length - 1)
        apart = all(start > clip.end + 1 or start + length < clip.start - 1 for clip in chosen)
        if apart and still[round(start * 3) : round((start + length) * 3)].mean() < STILL_SHARE:
            chosen.append(Clip(video, start, start + length, own))
    return chosen


def make_reel(clips: list[Clip], target: Path, *, fades: bool, seed: int) -> None:
    """One reel out of the clips, in their order, as the module's first lines tell."""
    import ffmpeg

    draw = random.Random(seed)
    folder = target.parent
    pictures, sounds, lengths = [], [], []
    for number, clip in enumerate(clips):
        # Exactly as long as said: what is missing or too much would add up, and later fades would begin too soon.
        length = clip.end - clip.start
        source = ffmpeg.input(str(clip.video), ss=f"{clip.start:.6f}", t=f"{length + 1:.6f}")
        shown = source.video.filter("scale", WIDTH, HEIGHT).filter("setsar", 1).filter("fps", RATE, start_time=0)
        shown = shown.filter("trim", end_frame=round(length * RATE))
        title = ffmpeg.input(str(_title(folder / f"{target.stem}-{number}.png", f"Moment {number + 1}: oh no!!")))
        shown = shown.overlay(title, x=draw.choice((20, 250)), y=draw.choice((20, 200, 380)), shortest=0)
        pictures.append(shown.filter("settb", "AVTB").filter("format", "yuv420p"))
        heard = source.audio.filter("aresample", 44_100).filter("aformat", channel_layouts="stereo")
        sounds.append(heard.filter("atrim", end=f"{length:.6f}"))
        lengths.append(length)
    shown, heard, done = pictures[0], sounds[0], lengths[0]
    for number in range(1, len(clips)):
        if fades and draw.random() < 0.5:
            options = {"transition": "fade", "duration": FADE_SECONDS, "offset": done - FADE_SECONDS}
            shown = ffmpeg.filter([shown, pictures[number]], "xfade", **options)
            heard = ffmpeg.filter([heard, sounds[number]], "acrossfade", d=FADE_SECONDS)
            done += lengths[number] - FADE_SECONDS
        else:
            joined = ffmpeg.concat(shown, heard, pictures[number], sounds[number], v=1, a=1).node
            shown, heard = joined[0].filter("fps", RATE).filter("settb", "AVTB"), joined[1]
            done += lengths[number]
    level = _level(next((clip.video for clip in clips if clip.own), clips[0].video))
    music = ffmpeg.input(str(_music(folder / f"{target.stem}.wav", done, seed, level)))
    heard = ffmpeg.filter([heard, music.audio], "amix", duration="first", normalize=0)
    options: dict[str, Any] = {"vcodec": "libx264", "preset": "veryfast", "crf": 27, "acodec": "aac", "ab": "128k"}
    unfinished = target.with_name(f"unfinished-{target.name}")
    run_ffmpeg(ffmpeg.output(shown, heard, str(unfinished), **options), seconds=done, desc=target.stem)
    unfinished.rename(target)


def _title(path: Path, text: str) -> Path:
    from PIL import Image, ImageDraw, ImageFont

    image = Image.new("RGBA", (560, 80), (20, 20, 60, 200))
    ImageDraw.Draw(image).text((20, 12), text, font=ImageFont.load_default(44), fill=(255, 230, 80, 255))
    image.save(path)
    return path


def _level(video: Path) -> float:
    """The RMS of a recording's sound, 1 being full scale."""
    from hlkit.sound import SAMPLE_RATE, read_sound

    blocks = read_sound(video, round(probe(video).duration * SAMPLE_RATE), desc="level", progress=False)
    return float(np.sqrt(np.mean([np.mean(block**2) for block in blocks])))


def _music(path: Path, seconds: float, seed: int, level: float) -> Path:
    """Chords, a bass and a beat, 6 dB below a level, as a wave file."""
    import wave

    rate, draw = 44_100, random.Random(seed)
    times = np.arange(int(seconds * rate)) / rate
    beat = 60 / draw.uniform(90, 140)
    notes = [draw.choice((0, 3, 5, 7, 10)) for _ in range(int(seconds / beat) + 1)]
    note = np.array(notes)[(times / beat).astype(int)]
    tone = sum(np.sin(2 * np.pi * 110 * 2 ** ((note + step) / 12) * times) for step in (0, 7, 12, 16)) / 4
    drum = np.random.default_rng(seed).normal(size=len(times)) * np.exp(-(times % beat) * 25)
    sound = tone + drum
    sound *= level * 10 ** (MUSIC_DB / 20) / np.sqrt(np.mean(sound**2))
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", ""))
        file.writeframes((np.clip(sound, -1, 1) * 32767).astype("<i2").tobytes())
    return path


def judge(found: pl.DataFrame, clips: list[Clip]) -> tuple[int, int, list[float]]:
    """How many of the stream's clips were found to half a second at each end, how many finds are none, the errors."""
    truth = [(clip.start, clip.end) for clip in clips if clip.own]
    errors, right = [], 0
    for start, end in truth:
        pairs = [max(abs(row["start"] - start), abs(row["end"] - end)) for row in found.iter_rows(named=True)]
        errors.append(min(pairs, default=np.inf))
        right += errors[-1] <= NEAR_SECONDS
    lies = 0
    for row in found.iter_rows(named=True):
        covered = max((min(row["end"], end) - max(row["start"], start) for start, end in truth), default=0.0)
        lies += covered < (row["end"] - row["start"]) / 2
    return right, lies, errors


def main() -> None:
    """Make the reels, look for them, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stream", type=Path)
    parser.add_argument("other", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="A folder for the reels, kept for the next run.")
    parser.add_argument("--hours", type=float, help="Look in a stream of this length, in which STREAM is a part.")
    parser.add_argument("--fill", type=Path, nargs="+", default=[], help="What the rest of it is made of.")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        print(f"{platform.machine()}; {probe(args.stream)}; music at {MUSIC_DB:g} dB")
        print("| reel | clips | found to 0.5 s | false | worst error, s | median error, s | took, s |")
        print("|---|---|---|---|---|---|---|")
        for seed in range(args.first_seed, args.first_seed + args.seeds):
            for fades in (False, True):
                own = choose(args.stream, SPANS, seed, own=True)
                clips = own + choose(args.other, FOREIGN, seed, own=False)
                random.Random(seed).shuffle(clips)
                _row(args.stream, clips, folder / f"reel-{seed}{'-fades' if fades else ''}.mp4", fades, seed)
            others = choose(args.other, SPANS, seed + 100, own=False)
            _row(args.stream, others, folder / f"other-{seed}.mp4", True, seed)
        if args.hours:
            own = choose(args.stream, LONG_SPANS, 0, own=True)
            clips = own + choose(args.other, LONG_SPANS, 0, own=False)
            random.Random(0).shuffle(clips)
            hours, begin = lay_into(args.stream, args.fill, args.hours * 3600, folder / f"{args.hours:g}-hours.mp4")
            _row(hours, clips, folder / "ten-minutes.mp4", True, 0, shift=begin)


def lay_into(stream: Path, fill: list[Path], seconds: float, target: Path) -> tuple[Path, float]:
    """A recording of at least this length with a stream in its middle, and where that begins in it, s.

    `fill`, recordings of the stream's encoder, size and rate, are repeated before and after it; nothing is encoded.
    """
    if not fill:
        raise SystemExit("--hours needs --fill: further recordings of STREAM's encoder, size and rate.")
    lengths, before, after = [probe(each).duration for each in fill], [], []
    half = (seconds - probe(stream).duration) / 2
    for part in (before, after):
        while sum(lengths[fill.index(each)] for each in part) < half:
            part.append(fill[len(part) % len(fill)])
    if not target.exists():
        listed = target.with_suffix(".txt")
        listed.write_text("".join(f"file '{each.resolve()}'\n" for each in [*before, stream, *after]))
        run_ffmpeg(["-f", "concat", "-safe", "0", "-i", listed, "-c", "copy", target], seconds=seconds, desc="stream")
    return target, sum(lengths[fill.index(each)] for each in before)


def _row(stream: Path, clips: list[Clip], reel: Path, fades: bool, seed: int, *, shift: float = 0.0) -> None:
    if not reel.exists():
        make_reel(clips, reel, fades=fades, seed=seed)
    began = time.monotonic()
    found = match_reel(stream, reel, progress=False)
    took = time.monotonic() - began
    found = found.with_columns(pl.col("start", "end") - shift)
    right, lies, errors = judge(found, clips)
    true = sum(clip.own for clip in clips)
    near = [error for error in errors if error <= NEAR_SECONDS]
    worst, middle = (f"{max(near):.2f}", f"{statistics.median(near):.2f}") if near else ("", "")
    print(f"| {reel.stem} | {true} | {right} | {lies} | {worst} | {middle} | {took:.1f} |", flush=True)
    for clip, error in zip([clip for clip in clips if clip.own], errors, strict=True):
        if error > NEAR_SECONDS:
            print(f"  missed {clip.start:.2f} to {clip.end:.2f}: {error:.2f}")


if __name__ == "__main__":
    main()
