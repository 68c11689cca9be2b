"""What is shown of each video: which part of its picture counts, such as a face cam, and what its stored frames are.

A part that somebody gave is kept in `labels/<id>.box.json`, or for all videos in the project's setting `box`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from hlkit.project import HlkitError, Project, write_text
from hlkit.records import read_record
from hlkit.sampling import (
    OWN,
    OWN_AND_WHOLE,
    WHOLE_PICTURE,
    Box,
    Own,
    PicturePart,
    as_learned,
    box_of,
    check_box,
    check_part,
)
from hlkit.stages.common import Say

BY_HAND = "hand"


class KeptBox(NamedTuple):
    """The part of a video's picture that counts, and who said so: `hand`, or `import:` and a file's name."""

    box: Box
    origin: str


def own_box(project: Project, video: str) -> KeptBox | None:
    """What was said of this very video; None where nothing was.

    Raises:
        HlkitError: when the file is damaged.
    """
    file = project.box(video)
    if not file.is_file():
        return None
    remedy = f"Delete it, and say again where the box is: `hlkit box X0,Y0,X1,Y1 --video {video}`."
    kept = read_record(file, {"box": list, "origin": str}, remedy=remedy)
    try:
        return KeptBox(check_box(kept["box"]), kept["origin"])
    except (HlkitError, TypeError, ValueError) as error:
        raise HlkitError(f"{file} is damaged ({error}). {remedy}") from error


def kept_box(project: Project, video: str) -> Box | None:
    """The part that counts in a video: its own, or the one of all; None where nobody said anything."""
    own = own_box(project, video)
    if own is not None:
        return own.box
    for_all = project.settings().get("box")
    return None if for_all is None else check_box(for_all)


def keep_box(project: Project, video: str, box: Box | None, *, origin: str) -> Box | None:
    """Note the part that counts in one video, or with None forget it; returns what was noted before."""
    before = own_box(project, video)
    if box is None:
        project.box(video).unlink(missing_ok=True)
    else:
        kept = {"box": list(check_box(box)), "origin": origin}
        write_text(project.box(video), json.dumps(kept) + "\n")
    return None if before is None else before.box


def keep_boxes(project: Project, box: Box, *, videos: Sequence[str] | None, say: Say = print) -> None:
    """Note a part that somebody gave for the named videos, or as the one of all that have none of their own.

    Raises:
        HlkitError: when a named video is not in the project, or the box is none.
    """
    box = check_box(box)
    for video in videos or ():
        project.video(video)
    for video in videos or ():
        keep_box(project, video, box, origin=BY_HAND)
    if not videos:
        project.save_settings(box=list(box))
        own = [video for video in project.video_ids() if (kept := own_box(project, video)) and kept.box != box]
        if own:
            say(f"{', '.join(own)}: another box is kept there, which stays. To change it, name the video (--video).")


def shown_box(box: PicturePart | Own) -> str:
    """A box as a person reads and types it, `+whole` where the whole picture goes with it."""
    if isinstance(box, str):
        return box
    if len(box) == 8:
        return f"{shown_box(box_of(box))}+whole"
    return "whole" if box == WHOLE_PICTURE else ",".join(f"{edge:g}" for edge in box)


class FrameSettings(NamedTuple):
    """What a video's frames are: frames per second (an exact fraction as text), pixels, and part of the picture.

    `box` is "own" or "own+whole" where several videos are meant and each has its own.
    """

    fps: str
    size: int
    box: PicturePart | Own | None = None

    @property
    def part(self) -> PicturePart | None:
        """The box, of one video's frames."""
        return None if isinstance(self.box, str) else self.box

    def __str__(self) -> str:
        inside = "" if self.box is None else f", box {shown_box(self.box)}"
        return f"{self.size} px, {self.fps} a second{inside}"


def frame_settings(project: Project, video: str) -> FrameSettings | None:
    """What the stored frames of a video are; None without any."""
    if not project.index(video).is_file():
        return None
    made = read_extraction(project, video)
    return FrameSettings(made["fps"], made["size"], read_box_value(made))


def shown_shape(project: Project, video: str) -> float | None:
    """Width by height of what a video's stored frames show; None where it is not known.

    Frames are stored as squares. Of a recording that is gone, and of two pictures in one, the shape is not known.
    """
    settings = frame_settings(project, video)
    if settings is None or video not in project.video_ids() or len(settings.part or ()) > 4:
        return None
    from hlkit.video import probe

    info = probe(project.video(video))
    x0, y0, x1, y1 = box_of(settings.part or WHOLE_PICTURE)
    return info.width / info.height * (x1 - x0) / (y1 - y0)


def read_box_value(made: Mapping[str, Any]) -> PicturePart | Own | None:
    """The `box` of a record or of a model's settings."""
    box = made.get("box")
    if box in (None, OWN, OWN_AND_WHOLE):
        return box
    return check_part(box)


def read_extraction(project: Project, video: str) -> dict[str, Any]:
    """What the stored frames of a video were made from: `frames`, `fps`, `size` and others."""
    keys = {"frames": int, "fps": str, "size": int}
    remedy = "Make the frames again: `hlkit frames --redo`."
    return read_record(project.frames / video / "extraction.json", keys, remedy=remedy)


def same_frame_settings(project: Project, videos: Sequence[str]) -> FrameSettings:
    """What the frames of all these videos are; each may show a part of the picture of its own.

    Raises:
        HlkitError: when frames are missing or differ, some show a part and others the whole without anybody having
            said so, or only some show the whole beside the part.
    """
    settings: dict[str, FrameSettings] = {}
    for video in videos:
        made = frame_settings(project, video)
        if made is None:
            raise HlkitError(f"'{video}' has no frames yet. Make them first (notebook 02, or `hlkit frames`).")
        if made.box is None and kept_box(project, video) == WHOLE_PICTURE:
            made = made._replace(box=WHOLE_PICTURE)
        settings[video] = made
    boxes = {made.box for made in settings.values()}
    forms = {made._replace(box=made.part and as_learned(WHOLE_PICTURE, made.part)) for made in settings.values()}
    if len(forms) > 1:
        shown = "; ".join(f"{video}: {made}" for video, made in settings.items())
        whole = next((video for video, made in settings.items() if made.box is None), None)
        meant = f" (or, where all of a picture is meant, `hlkit box whole --video {whole}`)"
        hint = meant if whole and any(boxes) else ""
        raise HlkitError(f"The frames differ ({shown}). Make them alike with `hlkit frames --redo`{hint}.")
    first = settings[videos[0]]
    several = OWN_AND_WHOLE if first.part is not None and len(first.part) == 8 else OWN
    return first._replace(box=boxes.pop() if len(boxes) == 1 else several)


def check_boxes(project: Project, videos: Sequence[str]) -> None:
    """An `HlkitError` when the frames of a video show another part of the picture than was said since."""
    for video in videos:
        kept, made = kept_box(project, video), frame_settings(project, video)
        if kept is not None and made is not None and box_of(made.part or WHOLE_PICTURE) != kept:
            raise HlkitError(
                f"The box of '{video}' is {shown_box(kept)}, but its frames are {made}. Make them anew: `hlkit frames`."
            )


def box_for(project: Project, video: str, box: PicturePart | Own | None) -> PicturePart | None:
    """The part of a video's picture for a model with this `box`; None for a model of whole pictures.

    It is what was said of the video, or what its frames show, or what the model learned from. A model that learned from
    whole pictures gets whole pictures.

    Raises:
        HlkitError: when the model learned from a part that each video has elsewhere, and this one's is not known.
    """
    if box is None:
        return None
    made = frame_settings(project, video)
    part = kept_box(project, video) or (made.part if made else None) or box
    if isinstance(part, str):
        raise HlkitError(
            f"The model learned from a part of the picture, and where that is in '{video}' is not known. Say it: "
            f"`hlkit box X0,Y0,X1,Y1 --video {video}`, or draw it (`stages.box_picker`)."
        )
    return as_learned(box_of(part), box)


def frames_fit(made: FrameSettings | None, wanted: FrameSettings) -> bool:
    """Whether stored frames are those that a model reads; a box of the whole picture is none."""
    return made is not None and made._replace(box=made.box or WHOLE_PICTURE) == wanted._replace(
        box=wanted.box or WHOLE_PICTURE
    )
