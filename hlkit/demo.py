"""The demo: two short recordings that come with hlkit, and every stage run on them.

A model learns from `demo_a` and is judged on `demo_b`, which it has not seen. `data/README.md` says how they were made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

from hlkit import stages
from hlkit.project import HlkitError, Project

TRAIN_VIDEO = "demo_a"
HELD_OUT_VIDEO = "demo_b"

# The demo's highlights last seconds, not minutes: a 30 s window would blur each into its neighbours.
WINDOW_SECONDS = 5.0

Step = Literal["download", "frames", "label", "train", "infer", "timeline", "reel"]


def demo_folder() -> Path:
    """Where the demo recordings lie: in the installed package, or in `data/demo` of a checkout.

    Raises:
        HlkitError: when this installation came without them.
    """
    package = Path(__file__).parent
    for folder in (package / "demo_data", package.parent / "data" / "demo"):
        if (folder / f"{HELD_OUT_VIDEO}.mp4").is_file():
            return folder
    raise HlkitError(f"The demo recordings are missing from {package}. Install hlkit again or clone its repository.")


def is_demo(project: Project) -> bool:
    """Whether the project holds the demo recordings, or nothing yet."""
    return set(project.video_ids()) <= {TRAIN_VIDEO, HELD_OUT_VIDEO}


def run(project: Project, *, until: Step = "reel", progress: bool = True, say: stages.Say = print) -> None:
    """Do the stages on the demo recordings in order, up to and with `until`; what is done already is not done again.

    Raises:
        HlkitError: when the project has recordings of its own, which the demo would mix with.
    """
    if not is_demo(project):
        raise HlkitError(f"{project.root} has videos of its own; give the demo another folder with --project.")
    steps: Mapping[Step, Callable[[], object]] = {
        "download": lambda: _place_recordings(project, progress, say),
        "frames": lambda: stages.frames(project, progress=progress, say=say),
        "label": lambda: _place_labels(project, say),
        "train": lambda: stages.train(project, progress=progress, say=say),
        "infer": lambda: stages.infer(project, progress=progress, say=say),
        "timeline": lambda: stages.timeline(project, say=say),
        "reel": lambda: stages.reel(project, progress=progress, say=say),
    }
    for step, work in steps.items():
        work()
        if step == until:
            return


def _place_recordings(project: Project, progress: bool, say: stages.Say) -> None:
    for video in (TRAIN_VIDEO, HELD_OUT_VIDEO):
        stages.download(project, str(demo_folder() / f"{video}.mp4"), video=video, progress=progress, say=say)
    if "train_videos" not in project.settings():
        project.save_settings(train_videos=[TRAIN_VIDEO], window_seconds=WINDOW_SECONDS)


def _place_labels(project: Project, say: stages.Say) -> None:
    for video in (TRAIN_VIDEO, HELD_OUT_VIDEO):
        # What a person has marked since stays.
        if project.labels(video).is_file():
            say(f"{video}: label already done.")
        else:
            stages.label(project, demo_folder() / f"{video}.csv", say=say)
