"""Cut lists for video editors: OpenTimelineIO, Final Cut's XML, CMX 3600 EDL, Resolve's markers, LosslessCut's CSV.

Conventions and sources:

- **Time** is counted in whole pictures from the recording's first, at its constant rate. A recording whose rate varies
  is counted at its mean rate, as editors do when they bring it in.
- **OpenTimelineIO** (`.otio`, its own library): one video track and, where there is sound, one audio track; a marker
  with the score at each clip. DaVinci Resolve opens it (File > Import Timeline).
- **FCPXML 1.8** through `otio-fcpx-xml-adapter`. What that writes is mended: at NTSC rates it leaves `frameDuration`
  empty, it computes times in floating point, leaves out size and sound, lists the recording once for each clip, and
  looks names up in XPath without escaping quotes. Apple's DTD asks for times as fractions of a second on the borders of
  `frameDuration`; here each is `pictures * denominator / numerator` unreduced. Final Cut takes the rates in
  `FINAL_CUT_RATES` and no others.
- **EDL, CMX 3600** through `otio-cmx3600-adapter`. An EDL has no rate, only a time base, and counts pictures within a
  second. For 59.94 the adapter would write drop-frame time code, for 23.976 non-drop (there is no drop-frame for it).
  Here every EDL is non-drop, with the `FCM` line that says so: then time code is the number of the picture and nothing
  else, exact at every rate, and files without a time code track count from 00:00:00:00 in editors. The time of day that
  it seems to show runs slow by 1/1000 at NTSC rates. The adapter's "premiere" style is used, because Premiere can't
  relink clips with the others' comments.
- **Resolve's markers**: Resolve exports markers also as CSV ("Edit Index"), but reads them only from an EDL of its own
  form (manual of DaVinci Resolve 18.6, "Exporting Timeline Markers to EDL" and "Exporting the Edit Index"; Timelines >
  Import > Timeline Markers from EDL): one event a marker, then `|C:colour |M:name |D:pictures`. Time code begins at
  01:00:00:00, where Resolve's own timelines begin: put the whole recording on a new timeline of its rate.
- **LosslessCut's CSV** (its docs/import-export.md and `edlFormats.ts`): start, end, name; seconds; no header; three
  columns in every row. Newer versions read three digits after the point. Rounded down to these, the cut lies less than
  a millisecond before its picture and after the one before it.
"""

from __future__ import annotations

import csv
import io
import re
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as Xml

from hlkit.cutlist import CutList
from hlkit.project import HlkitError
from hlkit.video import NTSC, TIME_BASES

if TYPE_CHECKING:
    import opentimelineio as otio

FINAL_CUT_RATES = (*map(Fraction, (24, 25, 30, 50, 60)), *(base * NTSC for base in (24, 30, 60)))
RESOLVE_START_HOUR = 1
# Three digits number an event, two a title's line of 70 characters: CMX 3600.
MAX_EVENTS = 999
MAX_TITLE = 70
DAY_HOURS = 24


class LeftOutError(HlkitError):
    """This format can't hold this cut list; the message says why."""


def to_otio(cuts: CutList) -> str:
    """An OpenTimelineIO timeline, as JSON; clips refer to the recording by its `file:` address."""
    import opentimelineio

    timeline = _timeline(cuts, float(cuts.rate), cuts.recording.as_uri())
    return opentimelineio.adapters.write_to_string(timeline, "otio_json")


def to_fcpxml(cuts: CutList) -> str:
    """A Final Cut project of FCPXML 1.8, in an event of its own.

    Raises:
        LeftOutError: for a rate that Final Cut does not take.
    """
    import opentimelineio

    if cuts.rate not in FINAL_CUT_RATES:
        known = "23.976, 24, 25, 29.97, 30, 50, 59.94 or 60"
        raise LeftOutError(f"Final Cut takes {known} pictures a second; this recording has {float(cuts.rate):.6g}")
    # Neither names nor the address reach the adapter: quotes would break its look-ups, and it would run ffprobe.
    timeline = _timeline(cuts, float(cuts.rate), "recording", plain=True)
    root = Xml.fromstring(opentimelineio.adapters.write_to_string(timeline, "fcpx_xml"))
    _mend(root, cuts)
    Xml.indent(root, "    ")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE fcpxml>\n{Xml.tostring(root, encoding="unicode")}\n'


def to_edl(cuts: CutList) -> str:
    """A CMX 3600 EDL, non-drop, of the recording's file; the scores stand in comments.

    Raises:
        LeftOutError: for a rate without time code, a recording of a day or more, or more than 999 excerpts.
    """
    import opentimelineio

    base = _time_base(cuts)
    # At the integer time base the library's time code is non-drop, and its numbers are those of the pictures.
    timeline = _timeline(cuts, float(base), cuts.recording.name, plain=True)
    timeline.name = cuts.title[:MAX_TITLE].strip()
    for clip, excerpt in zip(timeline.video_tracks()[0], cuts.excerpts, strict=True):
        clip.markers.clear()
        clip.metadata["cmx_3600"] = {"reel": "AX", "comments": [f"COMMENT: {excerpt.caption}"]}
    text = opentimelineio.adapters.write_to_string(timeline, "cmx_3600", rate=base, style="premiere")
    if cuts.has_audio:  # the adapter writes pictures alone
        text = re.sub(r"^(\d{3}  AX       )V   ", r"\1AA/V", text, flags=re.MULTILINE)
    return text.replace("\n\n", "\nFCM: NON-DROP FRAME\n\n", 1)


def to_resolve(cuts: CutList) -> str:
    """The highlights as markers of a DaVinci Resolve timeline that holds the whole recording.

    Raises:
        LeftOutError: as `to_edl` does.
    """
    base = _time_base(cuts, hours=DAY_HOURS - RESOLVE_START_HOUR)
    start = RESOLVE_START_HOUR * 3600 * base
    lines = [f"TITLE: {cuts.title[:MAX_TITLE].strip()}", "FCM: NON-DROP FRAME", ""]
    for number, excerpt in enumerate(cuts.excerpts, start=1):
        here, after = (time_code(start + excerpt.first + picture, base) for picture in (0, 1))
        name = excerpt.caption.replace("|", "/")
        lines.append(f"{number:03d}  001      V     C        {here} {after} {here} {after}  ")
        lines += [f" |C:ResolveColorBlue |M:{name} |D:{excerpt.count}", ""]
    return "\n".join(lines) + "\n"


def to_losslesscut(cuts: CutList) -> str:
    """LosslessCut's segments: `start,end,name`, seconds to the millisecond."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for excerpt in cuts.excerpts:
        times = (milliseconds(border, cuts.rate) for border in (excerpt.first, excerpt.stop))
        writer.writerow([*(f"{time // 1000}.{time % 1000:03d}" for time in times), excerpt.caption])
    return text.getvalue()


def milliseconds(picture: int, rate: Fraction) -> int:
    """When a picture comes on screen, rounded down: it is then shown at that time or up to a millisecond later."""
    return int(picture / rate * 1000)


def time_code(picture: int, base: int) -> str:
    """The non-drop time code `hh:mm:ss:ff` of a picture at an integer time base."""
    seconds, pictures = divmod(picture, base)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}:{pictures:02d}"


def _time_base(cuts: CutList, *, hours: int = DAY_HOURS) -> int:
    base = next((base for base in TIME_BASES if cuts.rate in (base, base * NTSC)), None)
    if base is None:
        known = ", ".join(map(str, TIME_BASES))
        raise LeftOutError(
            f"time code counts {known} pictures a second (or 1000/1001 of these); "
            f"this recording has {float(cuts.rate):.6g}"
        )
    if cuts.pictures >= hours * 3600 * base:
        raise LeftOutError(f"its time code ends after {hours} hours, and this recording is longer")
    if len(cuts.excerpts) > MAX_EVENTS:
        raise LeftOutError(f"it numbers {MAX_EVENTS} events, and these are {len(cuts.excerpts)}")
    return base


def _timeline(cuts: CutList, rate: float, target: str, *, plain: bool = False) -> otio.schema.Timeline:
    """The excerpts one after another. A plain timeline has numbers in place of names, and pictures alone."""
    from opentimelineio import schema
    from opentimelineio.opentime import RationalTime, TimeRange

    def stretch(first: int, count: int) -> TimeRange:
        return TimeRange(RationalTime(first, rate), RationalTime(count, rate))

    timeline = schema.Timeline("reel" if plain else cuts.title)
    kinds = [schema.TrackKind.Video, *([schema.TrackKind.Audio] if cuts.has_audio and not plain else [])]
    for kind in kinds:
        track = schema.Track(f"{kind[0]}1", kind=kind)
        timeline.tracks.append(track)
        for number, excerpt in enumerate(cuts.excerpts):
            media = schema.ExternalReference(target, stretch(0, cuts.pictures))
            name = str(number) if plain else excerpt.name
            clip = schema.Clip(name, media, stretch(excerpt.first, excerpt.count))
            if kind == schema.TrackKind.Video:
                # Final Cut makes to-do items of red and green ones.
                marker = schema.Marker(excerpt.caption, stretch(excerpt.first, 1), schema.MarkerColor.CYAN)
                marker.metadata["hlkit"] = {"score": excerpt.score}
                clip.markers.append(marker)
            track.append(clip)
    return timeline


def _mend(root: Xml.Element, cuts: CutList) -> None:
    """Give the adapter's FCPXML what it lacks, and every time exactly."""

    def exact(pictures: int) -> str:
        return f"{pictures * cuts.rate.denominator}/{cuts.rate.numerator}s"

    resources, project = _child(root, "resources"), _child(root, "project")
    for each in list(root):
        if each is not resources:
            root.remove(each)
    event = Xml.SubElement(Xml.SubElement(root, "library"), "event", {"name": cuts.title})
    event.append(project)
    project.attrib = {"name": cuts.title}
    form, asset = _child(resources, "format"), _child(resources, "asset")
    form.attrib = {
        "id": form.attrib["id"],
        "frameDuration": exact(1),
        "width": str(cuts.width),
        "height": str(cuts.height),
    }
    asset.attrib |= {"name": cuts.recording.stem, "src": cuts.recording.as_uri(), "hasAudio": str(int(cuts.has_audio))}
    asset.attrib |= {"start": exact(0), "duration": exact(cuts.pictures)}
    # An editor's timeline has cuts; fades are the reel's own.
    cuts = replace(cuts, fade=0)
    sequence = _child(project, "sequence")
    sequence.attrib |= {"duration": exact(cuts.reel_pictures), "tcStart": "0s", "tcFormat": "NDF"}
    for clip, (begin, excerpt) in zip(_child(sequence, "spine"), cuts.in_reel(), strict=True):
        # An asset-clip is the recording's pictures and sound together.
        clip.tag = "asset-clip"
        clip.remove(_child(clip, "video"))
        times = {"offset": exact(begin), "start": exact(excerpt.first), "duration": exact(excerpt.count)}
        clip.attrib = {"name": excerpt.name, "ref": asset.attrib["id"], "format": form.attrib["id"], **times}
        _child(clip, "marker").attrib |= {"start": exact(excerpt.first), "duration": exact(1), "value": excerpt.caption}


def _child(element: Xml.Element, name: str) -> Any:
    found = element.find(name)
    if found is None:
        raise HlkitError(f"otio-fcpx-xml-adapter wrote no <{name}>. Install version 1.0.0 of it.")
    return found
