"""Record the two demo streams with sound and labels: a scripted player in ViZDoom, with Freedoom's pictures and sounds.

`python data/make_demo.py` writes `demo_a.mp4`, `demo_b.mp4` and their labels (`.csv`) into `data/demo/`. The game and
the player are seeded, so the same versions of ViZDoom, OpenAL and ffmpeg give the same recordings again. With `--faces`
the games are only played again, and `demo_faces.txt` says when the face in the status bar showed that it was hit.

A tic is the game's own step, 1/35 s. It makes one picture of the recording, and exactly 1260 samples of its sound.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import math
import random
import subprocess
import tempfile
import wave
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ffmpeg
import numpy as np
from tqdm.auto import tqdm

from hlkit.project import atomic_path, write_text
from hlkit.video import find_ffmpeg, run_ffmpeg

try:
    import vizdoom
except ImportError as error:
    raise SystemExit("make_demo.py needs the game: pip install 'vizdoom>=1.2' (the demo itself does not).") from error

FOLDER = Path(__file__).parent / "demo"

TICS_PER_SECOND = 35
SAMPLING_RATE = 44_100
SAMPLES_PER_TIC = SAMPLING_RATE // TICS_PER_SECOND

# The game draws at twice the recording's size: the mean of four pixels has no jagged edges, which would cost bits.
GAME_WIDTH, GAME_HEIGHT = 640, 360
WIDTH, HEIGHT = GAME_WIDTH // 2, GAME_HEIGHT // 2

# Both recordings together stay below 15.5 MB, so that a clone and a wheel stay small.
VIDEO_BITRATE = 142_000
SOUND_BITRATE = 48_000

# The rule by which a stretch of the game is a highlight.
MAX_SECONDS_BETWEEN_KILLS = 4.0
SECONDS_BEFORE_FIRST_KILL = 3.0
SECONDS_AFTER_LAST_KILL = 2.0

# The player's face in the status bar, `x0, y0, x1, y1` from 0 to 1; it shows for a second that it was hit.
FACE_BOX = (0.465, 0.84, 0.535, 1.0)
SECONDS_AFTER_HIT = 1.0

BUTTONS = (
    "MOVE_FORWARD",
    "MOVE_LEFT",
    "MOVE_RIGHT",
    "TURN_LEFT_RIGHT_DELTA",
    "ATTACK",
    "USE",
    "SELECT_NEXT_WEAPON",
    "SPEED",
)
VARIABLES = ("KILLCOUNT", "POSITION_X", "POSITION_Y", "SELECTED_WEAPON_AMMO", "DAMAGE_TAKEN")


@dataclass(frozen=True)
class Recording:
    """What one demo stream shows.

    `maps` are played in turn: a ViZDoom scenario, or `wad:map` of a Freedoom game. `wait_seconds` are the shortest and
    the longest waiting screen between two games.
    """

    name: str
    seed: int
    seconds: float
    maps: tuple[str, ...]
    wait_seconds: tuple[float, float]


# The seeds and waits were tried out: each recording is a highlight for about a fifth to a quarter of its time.
RECORDINGS = (
    Recording("demo_a", 1, 360, ("deathmatch", "freedoom2:map01", "freedoom1:e1m1"), wait_seconds=(3, 9)),
    Recording("demo_b", 5, 255, ("freedoom2:map01", "freedoom1:e1m1", "freedoom2:map02", "deathmatch"), (10, 16)),
)


@dataclass(frozen=True)
class Tic:
    """One step of a stream: picture (HEIGHT, WIDTH, 3) uint8, sound (SAMPLES_PER_TIC, 2) int16, and what happened.

    `kills` were made by the player, who `is_hit` when it lost health.
    """

    picture: np.ndarray
    sound: np.ndarray
    kills: int = 0
    is_hit: bool = False


SILENCE = np.zeros((SAMPLES_PER_TIC, 2), np.int16)
# The game's mixer leaves a sample value of 1 where nothing sounds.
AUDIBLE = 100


@contextmanager
def open_game(map_name: str, seed: int) -> Iterator[vizdoom.DoomGame]:
    """Start one game on `map_name` (see `Recording`), with its sound and the list of what is on the screen."""
    game = vizdoom.DoomGame()
    choose_map(game, map_name)
    game.set_seed(seed)
    game.set_doom_skill(3)
    game.set_mode(vizdoom.Mode.PLAYER)
    game.set_window_visible(False)
    game.set_screen_resolution(getattr(vizdoom.ScreenResolution, f"RES_{GAME_WIDTH}X{GAME_HEIGHT}"))
    game.set_screen_format(vizdoom.ScreenFormat.RGB24)
    game.set_render_hud(True)
    game.set_render_screen_flashes(True)
    game.set_labels_buffer_enabled(True)
    game.set_sound_enabled(True)
    game.set_audio_buffer_enabled(True)
    game.set_audio_buffer_size(1)
    game.set_audio_sampling_rate(vizdoom.SamplingRate.SR_44100)
    game.set_available_buttons([getattr(vizdoom.Button, name) for name in BUTTONS])
    game.set_available_game_variables([getattr(vizdoom.GameVariable, name) for name in VARIABLES])
    game.set_episode_timeout(TICS_PER_SECOND * 600)
    # As in ViZDoom's own audio example: with these effects on, some versions of OpenAL stay silent.
    game.add_game_args("+snd_efx 0")
    game.init()
    try:
        yield game
    finally:
        game.close()


def choose_map(game: vizdoom.DoomGame, map_name: str) -> None:
    """Point `game` at a scenario or a map that comes with the ViZDoom package."""
    root = Path(vizdoom.__file__).parent
    wad, _, level = map_name.partition(":")
    if level:
        game.set_doom_game_path(str(root / f"{wad}.wad"))
        game.set_doom_map(level)
    else:
        game.load_config(str(root / "scenarios" / f"{wad}.cfg"))


class Player:
    """Aims at the nearest enemy on the screen and fires; otherwise roams; now and then rests, as a streamer does."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.rest_tics = 0
        self.turn_tics = 0
        self.turn = 0.0
        self.strafe = 0
        self.place = (math.inf, math.inf)

    def act(self, state: Any) -> list[float]:
        """The value of each button of `BUTTONS` for the next tic."""
        buttons: dict[str, float] = dict.fromkeys(BUTTONS, 0.0)
        _, x, y, ammo, _ = state.game_variables
        if ammo <= 0 and state.number % 20 == 0:
            buttons["SELECT_NEXT_WEAPON"] = 1
        self.maybe_rest()
        enemy = nearest_enemy(state)
        if enemy is not None and (self.rest_tics == 0 or enemy.height > GAME_HEIGHT / 4):
            self.fight(enemy, buttons)
        elif self.rest_tics == 0:
            self.roam((x, y), state.number, buttons)
        return list(buttons.values())

    def maybe_rest(self) -> None:
        """Start a rest of 3 to 10 s about every 20 s, or go on with the one that has begun."""
        if self.rest_tics:
            self.rest_tics -= 1
        elif self.rng.random() < 1 / (20 * TICS_PER_SECOND):
            self.rest_tics = round(self.rng.uniform(3, 10) * TICS_PER_SECOND)

    def fight(self, enemy: Any, buttons: dict[str, float]) -> None:
        """Turn towards `enemy`, fire when it is in the sights, come nearer while it is far."""
        off_centre = enemy.x + enemy.width / 2 - GAME_WIDTH / 2
        if self.rng.random() < 0.05:
            self.strafe = self.rng.choice((-1, 0, 1))
        buttons["TURN_LEFT_RIGHT_DELTA"] = max(-6.0, min(6.0, off_centre / GAME_WIDTH * 60))
        buttons["ATTACK"] = abs(off_centre) < max(10, enemy.width * 0.8)
        buttons["MOVE_LEFT"] = self.strafe < 0
        buttons["MOVE_RIGHT"] = self.strafe > 0
        buttons["MOVE_FORWARD"] = enemy.height < GAME_HEIGHT * 0.4

    def roam(self, place: tuple[float, float], number: int, buttons: dict[str, float]) -> None:
        """Run on, turn now and then, open what can be opened, and turn away from a wall."""
        if self.turn_tics:
            self.turn_tics -= 1
            buttons["TURN_LEFT_RIGHT_DELTA"] = self.turn
        elif self.rng.random() < 0.03:
            self.turn_tics, self.turn = self.rng.randint(5, 25), self.rng.uniform(-6, 6)
        if number % 12 == 0:
            if math.dist(place, self.place) < 12:
                self.turn_tics, self.turn = self.rng.randint(10, 30), self.rng.choice((-8, 8))
                buttons["USE"] = 1
            self.place = place
        buttons["MOVE_FORWARD"] = buttons["SPEED"] = 1


def nearest_enemy(state: Any) -> Any | None:
    """The enemy that stands tallest on the screen, or None when none can be seen."""
    enemies = [label for label in state.labels if label.object_category == "Monster" and label.height > 4]
    return max(enemies, key=lambda label: label.height, default=None)


def play_game(game: vizdoom.DoomGame, rng: random.Random) -> Iterator[Tic]:
    """Play until the player dies or the game ends."""
    player, kills, taken = Player(rng), 0, 0
    while not game.is_episode_finished():
        state: Any = game.get_state()
        now, hurt = (int(state.game_variables[place]) for place in (0, -1))
        sound = SILENCE if state.audio_buffer is None else state.audio_buffer
        yield Tic(halve(state.screen_buffer), sound, max(0, now - kills), hurt > taken)
        kills, taken = now, hurt
        game.make_action(player.act(state))


def halve(picture: np.ndarray) -> np.ndarray:
    """The mean of every 2 x 2 pixels: (2H, 2W, 3) uint8 -> (H, W, 3) uint8."""
    height, width, _ = picture.shape
    blocks = picture.reshape(height // 2, 2, width // 2, 2, 3)  # (H, 2, W, 2, 3)
    return ((blocks.sum(axis=(1, 3), dtype=np.uint16) + 2) // 4).astype(np.uint8)


def stream(recording: Recording) -> Iterator[Tic]:
    """Games of 25 to 70 s, without end; after each a waiting screen: its last picture darkened, and silence."""
    rng = random.Random(recording.seed)
    for number in itertools.count():
        map_name = recording.maps[number % len(recording.maps)]
        game_tics = round(rng.uniform(25, 70) * TICS_PER_SECOND)
        wait_tics = round(rng.uniform(*recording.wait_seconds) * TICS_PER_SECOND)
        picture, heard = np.zeros((HEIGHT, WIDTH, 3), np.uint8), False
        with open_game(map_name, recording.seed * 1000 + number) as game:
            for tic in itertools.islice(play_game(game, rng), game_tics):
                picture = tic.picture
                heard = heard or tic.sound.max() > AUDIBLE
                yield tic
        if not heard:
            raise SystemExit("The game made no sound. ViZDoom needs OpenAL for it: apt install libopenal1.")
        for _ in range(wait_tics):
            yield Tic(picture // 3, SILENCE)


def highlights(kill_times: Sequence[float], seconds: float) -> list[tuple[float, float]]:
    """The highlights `[start, end)` of a stream that lasts `seconds`, from the times of its kills in ascending order.

    A highlight is a run of at least two kills no more than 4 s apart, from 3 s before the first to 2 s after the last;
    where two overlap or touch they are one. `highlights([10, 12, 30], 60) == [(7, 14)]`.
    """
    spans: list[tuple[float, float]] = []
    for run in runs(kill_times):
        start = max(0.0, run[0] - SECONDS_BEFORE_FIRST_KILL)
        end = min(seconds, run[-1] + SECONDS_AFTER_LAST_KILL)
        if len(run) < 2:
            continue
        if spans and start <= spans[-1][1]:
            start, _ = spans.pop()
        spans.append((start, end))
    return spans


def runs(kill_times: Sequence[float]) -> list[list[float]]:
    """The kills, parted wherever the next is more than `MAX_SECONDS_BETWEEN_KILLS` later."""
    parts: list[list[float]] = []
    for time in kill_times:
        if parts and time - parts[-1][-1] <= MAX_SECONDS_BETWEEN_KILLS:
            parts[-1].append(time)
        else:
            parts.append([time])
    return parts


def store(tics: Iterable[Tic], pictures: Path, sound: Path) -> list[float]:
    """Write the pictures without loss and the sound as WAV; return the times of the kills in seconds."""
    raw = ffmpeg.input(
        "pipe:", format="rawvideo", pix_fmt="rgb24", video_size=(WIDTH, HEIGHT), framerate=TICS_PER_SECOND
    )
    lossless = raw.output(
        str(pictures), vcodec="libx264", qp=0, preset="ultrafast", pix_fmt="yuv420p", loglevel="error"
    )
    command = ffmpeg.compile(lossless, cmd=find_ffmpeg())
    kill_times: list[float] = []
    with wave.open(str(sound), "wb") as wav, subprocess.Popen(command, stdin=subprocess.PIPE) as encoder:
        assert encoder.stdin is not None
        wav.setparams((2, 2, SAMPLING_RATE, 0, "NONE", "not compressed"))
        for number, tic in enumerate(tics):
            encoder.stdin.write(tic.picture.tobytes())
            wav.writeframes(tic.sound.astype("<i2").tobytes())
            kill_times += [number / TICS_PER_SECOND] * tic.kills
    if encoder.returncode:
        raise SystemExit(f"ffmpeg could not store the pictures (exit status {encoder.returncode}).")
    return kill_times


def encode(pictures: Path, sound: Path, target: Path, *, seconds: float) -> None:
    """Encode in two passes: the file gets the size that was set, and fights get the bits that still pictures save."""
    picture = ffmpeg.input(str(pictures)).video
    options = {
        **{"c:v": "libx264", "preset": "slower", "pix_fmt": "yuv420p", "b:v": VIDEO_BITRATE, "g": 2 * TICS_PER_SECOND},
        **{"c:a": "aac", "b:a": SOUND_BITRATE, "ac": 1, "ar": 48_000, "map_metadata": -1, "movflags": "+faststart"},
        "passlogfile": str(pictures.with_name("passes")),
        # With more threads, how x264 shares out the bits depends on which thread is first.
        "threads": 1,
    }
    run_ffmpeg(ffmpeg.output(picture, "-", format="null", **options, **{"pass": 1}), seconds=seconds, desc="pass 1")
    with atomic_path(target) as temporary:
        both = (picture, ffmpeg.input(str(sound)).audio)
        run_ffmpeg(ffmpeg.output(*both, str(temporary), **options, **{"pass": 2}), seconds=seconds, desc="pass 2")


def write_spans(spans: Sequence[tuple[float, float]], video: str, target: Path) -> None:
    """Write hlkit's label CSV: `video,start,end,label`, times in seconds with two decimals."""
    with atomic_path(target) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("video", "start", "end", "label"))
        writer.writerows((video, f"{start:.2f}", f"{end:.2f}", "highlight") for start, end in spans)


def make(recording: Recording, folder: Path) -> None:
    """Play, encode and label one recording, and say what it holds."""
    total = round(recording.seconds * TICS_PER_SECOND)
    tics = itertools.islice(stream(recording), total)
    target = folder / f"{recording.name}.mp4"
    with tempfile.TemporaryDirectory() as temporary:
        pictures, sound = Path(temporary) / "pictures.mkv", Path(temporary) / "sound.wav"
        kill_times = store(tqdm(tics, desc=recording.name, total=total, unit="tic", mininterval=0.5), pictures, sound)
        encode(pictures, sound, target, seconds=recording.seconds)
    spans = highlights(kill_times, recording.seconds)
    write_spans(spans, recording.name, target.with_suffix(".csv"))
    share = sum(end - start for start, end in spans) / recording.seconds
    size = target.stat().st_size / 1e6
    print(f"{target}: {recording.seconds:g} s, {len(spans)} highlights, {share:.1%} of the time, {size:.2f} MB")


def hits(hit_times: Sequence[float], seconds: float) -> list[tuple[float, float]]:
    """A second from each hit; where two overlap or touch they are one: `hits([3, 3.5], 60) == [(3, 4.5)]`."""
    spans: list[tuple[float, float]] = []
    for time in hit_times:
        start, end = time, min(seconds, time + SECONDS_AFTER_HIT)
        if spans and start <= spans[-1][1]:
            start, _ = spans.pop()
        spans.append((start, end))
    return spans


def face_line(recording: Recording, folder: Path) -> str:
    """Play one recording's games again, and write when the player was hit as a boxed line.

    Raises:
        SystemExit: when they went otherwise than in the recording, by its labels.
    """
    total, kill_times, hit_times = round(recording.seconds * TICS_PER_SECOND), [], []
    tics = itertools.islice(stream(recording), total)
    for number, tic in enumerate(tqdm(tics, desc=recording.name, total=total, unit="tic", mininterval=0.5)):
        kill_times += [number / TICS_PER_SECOND] * tic.kills
        hit_times += [number / TICS_PER_SECOND] * tic.is_hit
    with tempfile.TemporaryDirectory() as temporary:
        again = Path(temporary) / "again.csv"
        write_spans(highlights(kill_times, recording.seconds), recording.name, again)
        if again.read_bytes() != (folder / f"{recording.name}.csv").read_bytes():
            raise SystemExit(f"{recording.name} went another way than recorded: another version of ViZDoom or OpenAL.")
    spans = " ".join(f'"({start:.2f}, {end:.2f})"' for start, end in hits(hit_times, recording.seconds))
    return f'{recording.name}.mp4 "{list(FACE_BOX)}" {spans}\n'


def main() -> None:
    """Make the recordings that the command line asks for; both when it names none."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", help="demo_a, demo_b (default: both)")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where to write (default: data/demo)")
    parser.add_argument("--faces", action="store_true", help="only write demo_faces.txt, for both")
    arguments = parser.parse_args()
    if arguments.faces:
        lines = [face_line(recording, arguments.folder) for recording in RECORDINGS]
        write_text(arguments.folder / "demo_faces.txt", "".join(lines))
        return
    known = {recording.name: recording for recording in RECORDINGS}
    if unknown := set(arguments.names) - set(known):
        parser.error(f"no recording is called {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    for name in arguments.names or known:
        make(known[name], arguments.folder)


if __name__ == "__main__":
    main()
