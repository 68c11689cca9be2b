"""A small file of each label format, as the programs that own it write it, and the spans that it holds."""

import json
from fractions import Fraction
from pathlib import Path

from hlkit.cutlist import CutList, Excerpt
from hlkit.editors import to_edl, to_otio

LENGTHS = {"a": 4000.0, "b": 300.0}
NTSC = Fraction(30000, 1001)


def cut_list(*excerpts: tuple[int, int], rate: Fraction = NTSC, label: str = "highlight", video: str = "a") -> CutList:
    """The pictures `[first, stop)` of a recording, named as `make_cut_list` names them."""
    names = [Excerpt(*pair, f"{label} {number}", 0.5) for number, pair in enumerate(excerpts, start=1)]
    return CutList(Path(f"/videos/{video}.mp4"), "A title", rate, 100_000, 640, 360, True, tuple(names))


SCALABEL = {
    "frames": [
        {
            "name": "a-30.jpg",
            "videoName": "a",
            "frameIndex": 30,
            "labels": [{"id": "0", "category": "Highlight start"}],
        },
        {"name": "a-45.jpg", "videoName": "a", "frameIndex": 45, "labels": [{"id": "1", "category": "car"}]},
        {
            "name": "a-60.jpg",
            "videoName": "a",
            "frameIndex": 60,
            "labels": [{"id": "2", "category": "Highlight end"}, {"id": "3", "category": "win start"}],
        },
        {"name": "a-75.jpg", "videoName": "a", "frameIndex": 75, "labels": [{"id": "4", "category": "win end"}]},
    ],
    "config": {"categories": ["car"]},
}

LABEL_STUDIO = [
    {
        "id": 7,
        "data": {"video": "/data/upload/3/1a2b3c4d-a.mp4"},
        "annotations": [
            {
                "id": 1,
                "completed_by": 2,
                "was_cancelled": False,
                "result": [
                    {
                        "id": "x",
                        "type": "timelinelabels",
                        "origin": "manual",
                        "from_name": "timeline",
                        "to_name": "video",
                        "value": {"ranges": [{"start": 3, "end": 5}], "timelinelabels": ["highlight"]},
                    },
                    {"id": "y", "type": "choices", "value": {"choices": ["good"]}},
                ],
            },
            {"id": 2, "was_cancelled": True, "result": [{"value": {"ranges": [{"start": 9, "end": 9}]}}]},
        ],
        "predictions": [{"result": [{"value": {"ranges": [{"start": 1, "end": 2}], "timelinelabels": ["x"]}}]}],
    }
]

# name: (text, what read_labels is told, the spans)
SAMPLES = {
    "csv": (
        "video,start,end,label\na,83.5,0:02:00,\nb,1,2.25,win\n",
        {},
        [("a", 83.5, 120.0, "highlight"), ("b", 1.0, 2.25, "win")],
    ),
    "tsv": (
        "vid_id\tstart\tstop\na\t00:01:23\t00:02:00\nb\t00:00:01\t00:00:02.25\n",
        {},
        [("a", 83.0, 120.0, "highlight"), ("b", 1.0, 2.25, "highlight")],
    ),
    "boxed": (
        'videos/a.mp4 "[0.4, 0.8, 0.6, 1]" "(83.5, 120)" "(0:02:10, 0:02:11)"\n"C:\\my videos\\b.mkv" "[0, 0, 1, 1]"\n',
        {},
        [("a", 83.5, 120.0, "highlight"), ("a", 130.0, 131.0, "highlight"), ("b", 0.0, 300.0, "background")],
    ),
    "scalabel": (
        json.dumps(SCALABEL),
        {"fps": 15},
        [("a", 2.0, 4.0, "highlight"), ("a", 4.0, 5.0, "win")],
    ),
    "blocks": (
        "a: [0:0, 0:2, 1:2]\nb:\n  - 0:4  # ends with the video\n",
        {},
        [
            *[("a", start, start + 120.0, "highlight") for start in (0.0, 120.0, 3720.0)],
            ("b", 240.0, 300.0, "highlight"),
        ],
    ),
    "kinetics": (
        "label,youtube_id,time_start,time_end,split\nriding a bike,a,10,20,train\nwin,b,0,10,val\n",
        {},
        [("a", 10.0, 20.0, "riding a bike"), ("b", 0.0, 10.0, "win")],
    ),
    "labelstudio": (json.dumps(LABEL_STUDIO), {"fps": 2}, [("a", 1.0, 2.5, "highlight")]),
    "losslesscut": (
        ',56.9568,First segment starting at 0\n70,842.33,"Another, quoted"\n0:20:34,,\n',
        {"video": "a"},
        [
            ("a", 0.0, 56.9568, "First segment starting at"),
            ("a", 70.0, 842.33, "Another, quoted"),
            ("a", 1234.0, 4000.0, "highlight"),
        ],
    ),
    "otio": (
        to_otio(cut_list((30, 60), (90, 300))),
        {},
        [("a", 1.001, 2.002, "highlight"), ("a", 3.003, 10.01, "highlight")],
    ),
    "edl": (
        to_edl(cut_list((30, 60), (90, 300))),
        {"fps": NTSC, "video": "a"},
        [("a", 1.001, 2.002, "highlight"), ("a", 3.003, 10.01, "highlight")],
    ),
    "chapters": (
        "What a stream!\n\n0:00 Start\n01:30 - Boss fight 1\n(2:00) Boss fight 2\n1:00:01 The end: bye\n",
        {"video": "a"},
        [
            ("a", 0.0, 90.0, "Start"),
            ("a", 90.0, 120.0, "Boss fight"),
            ("a", 120.0, 3601.0, "Boss fight"),
            ("a", 3601.0, 4000.0, "The end: bye"),
        ],
    ),
}
