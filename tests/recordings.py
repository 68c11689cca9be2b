"""Small recordings whose pictures carry their own number, so that a test can tell which picture it was given.

The number stands in a 4 x 4 grid of black and white cells, 16 bits, and survives squashing, JPEG and H.264.
"""

from __future__ import annotations

import random
from fractions import Fraction
from io import BytesIO
from pathlib import Path

import av
import numpy as np
from PIL import Image

CELLS = 4
SOUND_RATE = 48_000


def draw_number(number: int, width: int, height: int) -> np.ndarray:
    """A grey picture, uint8 (height, width), that shows `number` (0 to 65535)."""
    bits = (number >> np.arange(CELLS * CELLS)) & 1
    rows = np.arange(height) * CELLS // height
    columns = np.arange(width) * CELLS // width
    return np.where(bits.reshape(CELLS, CELLS)[rows][:, columns] == 1, 235, 16).astype(np.uint8)


def read_number(picture: np.ndarray | bytes) -> int:
    """The number in a picture: an array (height, width[, 3]) of any size from 16 x 16, or a JPEG."""
    if isinstance(picture, bytes):
        picture = np.asarray(Image.open(BytesIO(picture)))
    grey = picture.mean(axis=2) if picture.ndim == 3 else picture
    height, width = grey.shape
    number = 0
    for cell in range(CELLS * CELLS):
        row, column = divmod(cell, CELLS)
        top, bottom = (round((row + edge) / CELLS * height) for edge in (0.3, 0.7))
        left, right = (round((column + edge) / CELLS * width) for edge in (0.3, 0.7))
        number |= int(grey[top:bottom, left:right].mean() > 126) << cell
    return number


def number_at(times: list[Fraction], time: float | Fraction) -> int:
    """The number on screen at `time`, from the times that `make_numbered` returned; the first one before its start."""
    return max((number for number, begin in enumerate(times) if begin <= time), default=0)


def make_numbered(
    path: Path,
    *,
    seconds: float,
    fps: str | float | Fraction = 30,
    width: int = 64,
    height: int = 64,
    sound: bool | np.ndarray = False,
    vfr: bool = False,
    start: float = 0.0,
    gop: int = 30,
    bframes: int = 2,
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    first: int = 0,
) -> list[Fraction]:
    """Write a recording (H.264, and AAC when there is sound) whose picture `i` shows `first + i`.

    Args:
        path: the suffix chooses the container.
        seconds: its length.
        fps: pictures a second; with `vfr` the average, pictures lasting from half to three times as long.
        width: in pixels.
        height: in pixels.
        sound: True for a 440 Hz tone; or mono float samples, -1 to 1, at 48 kHz.
        vfr: variable frame rate, the same on every call.
        start: the pictures begin this many seconds after the sound does (or after the container's clock starts).
        gop: pictures from keyframe to keyframe.
        bframes: consecutive B-frames.
        options: further options of x264.
        container_options: options of the container's writer.
        first: the number of the first picture.

    Returns:
        When each picture comes on screen, in seconds from the start of the recording.
    """
    rate = Fraction(str(fps))
    ticks = _ticks(seconds, rate, vfr)
    clock = Fraction(1, 90_000) if vfr else 1 / rate
    late = round(Fraction(str(start)) / clock)
    with av.open(str(path), "w", options=container_options or {}) as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.time_base = clock
        stream.codec_context.gop_size = gop
        stream.options = {"preset": "veryfast", "bf": str(bframes), "sc_threshold": "0", **(options or {})}
        tone = container.add_stream("aac", rate=SOUND_RATE, layout="mono") if sound is not False else None
        packets = []
        for number, tick in enumerate(ticks[:-1]):
            planes = np.full((height * 3 // 2, width), 128, np.uint8)  # brightness above, both colour planes below
            planes[:height] = draw_number(first + number, width, height)
            frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
            frame.pts, frame.time_base, frame.duration = tick + late, clock, ticks[number + 1] - tick
            packets += stream.encode(frame)
        packets += stream.encode(None)
        if tone is not None:
            samples = sound if isinstance(sound, np.ndarray) else None
            # AAC begins with 1024 empty samples; where a container can't hide them, they would come before time 0.
            packets += _sound(tone, samples, seconds + start, delay=1024 if path.suffix in (".ts", ".flv") else 0)
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            container.mux(packet)
    return [(tick + late) * clock for tick in ticks[:-1]]


def _ticks(seconds: float, fps: Fraction, vfr: bool) -> list[int]:
    """When pictures begin, and the end of the last, in ticks: of 1 / fps, or of 1 / 90000 s when the rate varies."""
    if not vfr:
        return list(range(round(seconds * fps) + 1))
    dice = random.Random(0)
    ticks = [0]
    while ticks[-1] < seconds * 90_000:
        ticks.append(ticks[-1] + round(90_000 / fps * Fraction(dice.choice([0.5, 0.5, 0.75, 1.0, 1.0, 3.0]))))
    return ticks


def _sound(stream, samples: np.ndarray | None, seconds: float, *, delay: int) -> list:
    if samples is None:
        samples = 0.5 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * SOUND_RATE)) / SOUND_RATE)
    packets = []
    for begin in range(0, len(samples), 1024):
        block = samples[begin : begin + 1024].astype(np.float32)
        frame = av.AudioFrame.from_ndarray(block[None], format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = SOUND_RATE, begin + delay, Fraction(1, SOUND_RATE)
        packets += stream.encode(frame)
    return packets + stream.encode(None)
