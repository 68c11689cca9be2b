"""Every label format: what its own program writes is read, what hlkit writes is read back equal, and what is wrong in a
file is told with its place, whatever the file is."""

import json
import random
import re
import warnings
from fractions import Fraction
from itertools import pairwise

import polars as pl
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from label_samples import LABEL_STUDIO, LENGTHS, NTSC, SAMPLES, SCALABEL, cut_list
from polars.testing import assert_frame_equal

from hlkit.editors import to_edl, to_losslesscut, to_otio
from hlkit.exports import stream_chapters
from hlkit.labels import (
    LABEL_FORMATS,
    SPAN_SCHEMA,
    WRITTEN_FORMATS,
    label_format,
    labels_text,
    read_boxes,
    read_labels,
    write_labels,
)
from hlkit.project import HlkitError, HlkitWarning


def put(folder, content):
    """A file without a telling name."""
    path = folder / "file"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def spans(rows):
    return pl.DataFrame(rows, schema=SPAN_SCHEMA, orient="row")


# What its program writes.


def test_every_format_has_a_sample():
    assert set(SAMPLES) == set(LABEL_FORMATS)


@pytest.mark.parametrize("name", SAMPLES)
def test_a_format_is_told_by_its_content_and_read(tmp_path, name):
    text, told, expected = SAMPLES[name]
    path = put(tmp_path, text)
    assert label_format(path) == name
    assert read_labels(path, durations=LENGTHS, **told).rows() == expected
    assert read_labels(path, durations=LENGTHS, format=name, **told).rows() == expected


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_a_format_is_read_in_other_encodings_and_with_windows_line_ends(tmp_path, name, encoding):
    text, told, expected = SAMPLES[name]
    text = text if name in ("scalabel", "labelstudio", "otio") else text.replace("\n", "\r\n")
    assert read_labels(put(tmp_path, text.encode(encoding)), durations=LENGTHS, **told).rows() == expected


def test_letters_of_excel_are_read_and_it_is_said(tmp_path):
    path = put(tmp_path, "video,start,end,label\na,1,2,Café\n".encode("cp1252"))
    with pytest.warns(HlkitWarning, match=r"is not in UTF-8 and is read as Windows-1252; check its accents"):
        assert read_labels(path).rows() == [("a", 1.0, 2.0, "Café")]


@pytest.mark.parametrize(
    "text",
    [
        "video;start;end;label\na;83,5;0:02:00,25;win\n",
        "sep=;\r\nvideo;start;end;label;;\r\na;83,5;0:02:00,25;win;;\r\n;;;;;\r\n",
        "start\tend\tvideo\tlabel\n83,5\t0:02:00.25\ta\twin\n",
        "Start , END,label,video\n83.5, 0:02:00.25,win,a\n",
    ],
)
def test_spreadsheets_in_other_languages_are_read(tmp_path, text):
    assert read_labels(put(tmp_path, text)).rows() == [("a", 83.5, 120.25, "win")]


def test_rows_are_counted_as_a_spreadsheet_shows_them(tmp_path):
    with pytest.raises(HlkitError, match="row 3, start: 'x' is not a time"):
        read_labels(put(tmp_path, "sep=;\nvideo;start;end\na;x;2\n"))


def test_kinetics_takes_the_dataset_s_other_column_and_says_what_a_test_split_lacks(tmp_path):
    text = "label,youtube_id,time_start,time_end,split,is_cc\nwin,---QUuC4vJs,84,94,val,0\n"
    assert read_labels(put(tmp_path, text)).rows() == [("---QUuC4vJs", 84.0, 94.0, "win")]
    with pytest.raises(HlkitError, match=r"columns 'youtube_id,time_start,time_end,split'; .*holds no labels"):
        read_labels(put(tmp_path, "youtube_id,time_start,time_end,split\nabc,1,2,test\n"))


def test_tsv_needs_no_first_row(tmp_path):
    path = put(tmp_path, "1234567\t00:01:00\t01:02:03.5\n")
    assert label_format(path) == "tsv"
    assert read_labels(path).rows() == [("1234567", 60.0, 3723.5, "highlight")]


def test_losslesscut_s_clock_times_are_read_and_an_open_end_needs_the_length(tmp_path):
    text = "00:01:23.500,00:02:00.000,win 1\n1:05,1:06.5,\n"
    assert read_labels(put(tmp_path, text), video="a").rows() == [
        ("a", 83.5, 120.0, "win"),
        ("a", 65.0, 66.5, "highlight"),
    ]
    with pytest.raises(HlkitError, match=r"row 1, end: '' is the end of the video, whose length is not known"):
        read_labels(put(tmp_path, "1,,x\n"), video="a")


def test_boxes_of_boxed_lines_are_kept(tmp_path):
    assert read_boxes(put(tmp_path, SAMPLES["boxed"][0])) == {"a": (0.4, 0.8, 0.6, 1.0), "b": (0.0, 0.0, 1.0, 1.0)}
    with pytest.raises(HlkitError, match="has no boxes; allowed are lines such as"):
        read_boxes(put(tmp_path, SAMPLES["csv"][0]))
    wrong = 'a.mp4 "[0.4, 0.8, 0.6, 1]" "(1, 2)"\nb.mp4 "[0.4, 0.8, 0.2, 1]"\na.mp4 "[0, 0, 1, 1]" "(3, 4)"\n'
    with pytest.raises(HlkitError, match=r"2 faults: \(1\) line 2, box: .*\(2\) line 3, box: .* a video has one box"):
        read_boxes(put(tmp_path, wrong))


def test_a_boxed_line_without_spans_needs_the_length(tmp_path):
    with pytest.raises(
        HlkitError, match=r"line 2, 'b' has no spans, so all of it is background, and its length is not"
    ):
        read_labels(put(tmp_path, SAMPLES["boxed"][0]))


def test_blocks_stand_alone_for_the_video_that_is_named(tmp_path):
    expected = [("a", start, start + 120.0, "highlight") for start in (0.0, 120.0, 3720.0)]
    for text in ("0:0, 0:2, 1:2", "[0:0, 0:2, 1:2]", '["0:0", "0:2", "1:2"]', "- 0:0\n- 0:2\n\n# more\n- 1:2\n"):
        path = put(tmp_path, text)
        assert label_format(path) == "blocks"
        assert read_labels(path, video="a").rows() == expected
    with pytest.raises(HlkitError, match=r"a list of blocks without a name does not say which video"):
        read_labels(path)


def test_scalabel_counts_the_frames_that_it_lists_where_they_have_no_number(tmp_path):
    categories = [[], ["Highlight start"], [], ["highlight END"], []]
    frames = [{"videoName": "a", "labels": [{"category": each} for each in names]} for names in categories]
    assert read_labels(put(tmp_path, json.dumps(frames)), fps="1/2").rows() == [("a", 2.0, 6.0, "highlight")]


def test_label_studio_s_frames_count_from_one_and_seconds_are_read_too(tmp_path):
    value = {"ranges": [{"start": 1, "end": 1}], "timelinelabels": ["win"]}
    least = [{"id": 1, "video": "https://host/a.mp4?x=1", "tricks": [value]}]
    assert read_labels(put(tmp_path, json.dumps(least)), fps=4).rows() == [("a", 0.0, 0.25, "win")]
    seconds = {"start": 1.5, "end": 2, "labels": ["win"]}
    task = {"id": 1, "data": {"audio": "b.mp4"}, "annotations": [{"result": [{"type": "labels", "value": seconds}]}]}
    assert read_labels(put(tmp_path, json.dumps([task]))).rows() == [("b", 1.5, 2.0, "win")]


def test_fps_is_taken_from_a_task_of_label_studio_and_else_asked_for(tmp_path):
    path = put(tmp_path, json.dumps(LABEL_STUDIO))
    with pytest.raises(HlkitError, match=r"Label Studio's JSON counts frames and does not say .* Give fps \(--fps\)"):
        read_labels(path)
    task = LABEL_STUDIO[0] | {"data": {"video": "a.mp4", "fps": 2}}
    assert read_labels(put(tmp_path, json.dumps([task]))).rows() == [("a", 1.0, 2.5, "highlight")]
    with pytest.raises(HlkitError, match="The frame rate is '0'"):
        read_labels(put(tmp_path, json.dumps([LABEL_STUDIO[0] | {"data": {"video": "a.mp4", "fps": 0}}])))


@pytest.mark.parametrize("name", ["scalabel", "edl"])
def test_other_formats_that_count_frames_ask_for_fps(tmp_path, name):
    with pytest.raises(HlkitError, match=r"counts frames and does not say how many make a second. Give fps"):
        read_labels(put(tmp_path, SAMPLES[name][0]), video="a")


def test_otio_of_another_program_is_read_as_the_library_reads_it(tmp_path):
    import opentimelineio as otio
    from opentimelineio.opentime import RationalTime, TimeRange

    def stretch(first, count, rate=25):
        return TimeRange(RationalTime(first, rate), RationalTime(count, rate))

    media = otio.schema.ExternalReference("file:///C:/clips/my%20stream.mov", stretch(90_000, 10_000))
    clips = [
        otio.schema.Clip("Best kill 2", media, stretch(90_250, 50)),
        otio.schema.Clip("my stream.mov", media, stretch(94_000, 100)),
        otio.schema.Clip("whole", otio.schema.ExternalReference("b.mp4", stretch(0, 30, 30))),
    ]
    nested = otio.schema.Stack("nest", children=[otio.schema.Track(children=[otio.schema.Gap(), clips[1]])])
    track = otio.schema.Track("V1", kind="Video", children=[clips[0], nested, clips[2]])
    sound = otio.schema.Track("A1", kind="Audio", children=[clips[0].clone()])
    timeline = otio.schema.Timeline("edit", tracks=[track, sound])
    path = put(tmp_path, otio.adapters.write_to_string(timeline, "otio_json"))
    assert read_labels(path).rows() == [
        ("my stream", 10.0, 12.0, "Best kill"),
        ("my stream", 160.0, 164.0, "highlight"),
        ("b", 0.0, 1.0, "whole"),
    ]
    first_version = otio.adapters.write_to_string(timeline, "otio_json", target_schema_versions={"Clip": 1})
    assert '"media_reference":' in first_version
    assert_frame_equal(read_labels(put(tmp_path, first_version)), read_labels(path))


def test_drop_frame_time_code_leaves_numbers_out(tmp_path):
    event = "001  AX       V     C        {} {} 00:00:00:00 00:00:01:00\n* FROM CLIP NAME: a.mov\n"
    drop = event.format("00:01:00;02", "00:10:00;00")
    # After a minute the numbers 0 and 1 are left out, but not after ten.
    expected = [("a", float(1800 / NTSC), float(17982 / NTSC), "highlight")]
    assert read_labels(put(tmp_path, f"TITLE: x\n{drop}"), fps=NTSC).rows() == expected
    plain = event.format("00:01:00:00", "00:10:00:00")
    expected = [("a", float(1800 / NTSC), float(18000 / NTSC), "highlight")]
    assert read_labels(put(tmp_path, f"TITLE: x\nFCM: NON-DROP FRAME\n{plain}"), fps=NTSC).rows() == expected
    with pytest.raises(HlkitError, match="Time code can't count 7 frames a second"):
        read_labels(put(tmp_path, plain), fps=7)


# What hlkit writes.

names = st.text("abcäß0", min_size=1, max_size=5)
labels = st.sampled_from(
    ["highlight", "background", "Win", 'say "gg", then', "=1+1", "(x)", "日本", "a;b\tc".replace("\t", " ")]
)


@st.composite
def tables(draw, *, unit=1_000_000, labels=labels):
    """Spans whose ends are whole multiples of 1/unit s, those of one video and label disjoint, perhaps touching."""
    rows = []
    for video, label in draw(st.sets(st.tuples(names, labels), max_size=4)):
        steps = draw(st.lists(st.integers(1, 20_000 if unit < 1000 else 10**9), min_size=2, max_size=8))
        ends = [sum(steps[:count]) - steps[0] for count in range(1, len(steps) + 1)]
        chosen = zip(ends[::2], ends[1::2], strict=False) if draw(st.booleans()) else pairwise(ends)
        rows += [(video, float(Fraction(first) / unit), float(Fraction(stop) / unit), label) for first, stop in chosen]
    return spans(rows)


def assert_returns(folder, table, **told):
    """A written table is read back equal, but for the order of videos."""
    path = folder / "labels"
    fps = {"fps": told["fps"]} if "fps" in told else {}
    write_labels(table, path, **told)
    if table.is_empty() and told["format"] in ("boxed", "labelstudio"):
        return  # neither a line nor a task tells which format it would be
    assert label_format(path) == told["format"]
    order = ["video", "label", "start"]
    assert_frame_equal(read_labels(path, **fps).sort(order), table.sort(order), check_exact=True)


@given(tables())
@settings(max_examples=60)
def test_csv_and_kinetics_are_read_back_equal(tmp_path_factory, table):
    for name in ("csv", "kinetics"):
        assert_returns(tmp_path_factory.mktemp(name), table, format=name)


@given(tables(labels=st.just("highlight")))
@settings(max_examples=60)
def test_tsv_and_boxed_lines_are_read_back_equal(tmp_path_factory, table):
    for name in ("tsv", "boxed"):
        assert_returns(tmp_path_factory.mktemp(name), table, format=name)


@pytest.mark.parametrize("fps", ["3", "30", "60", "1/2", "24000/1001"])
@given(data=st.data())
@settings(max_examples=25)
def test_scalabel_and_label_studio_are_read_back_equal_on_frames(tmp_path_factory, fps, data):
    table = data.draw(tables(unit=Fraction(fps)))
    for name in ("scalabel", "labelstudio"):
        assert_returns(tmp_path_factory.mktemp(name), table, format=name, fps=fps)


@given(tables(unit=Fraction(7, 11)).filter(len), st.sampled_from(["30", "24000/1001"]))
@settings(max_examples=30)
def test_ends_between_frames_move_by_half_a_frame_at_most(tmp_path_factory, table, fps):
    path = tmp_path_factory.mktemp("frames") / "labels"
    write_labels(table, path, format="labelstudio", fps=fps)
    order = ["video", "label", "start"]
    again, table = read_labels(path, fps=fps).sort(order), table.sort(order)
    for edge in ("start", "end"):
        assert ((again[edge] - table[edge]).abs() <= 0.5 / float(Fraction(fps)) + 1e-9).all()


def test_boxes_and_recordings_of_background_alone_are_read_back(tmp_path):
    table = spans([("a", 1.0, 2.0, "highlight"), ("b", 0.0, 300.0, "background")])
    write_labels(table, tmp_path / "x", format="boxed", boxes={"a": (0.25, 0.5, 0.75, 1.0)})
    assert (tmp_path / "x").read_text() == 'a.mp4 "[0.25, 0.5, 0.75, 1]" "(1, 2)"\nb.mp4 "[0, 0, 1, 1]"\n'
    assert_frame_equal(read_labels(tmp_path / "x", durations=LENGTHS), table)
    assert read_boxes(tmp_path / "x")["a"] == (0.25, 0.5, 0.75, 1.0)


@given(st.lists(st.integers(1, 40_000), min_size=2, max_size=8), st.sampled_from(["highlight", "Boss fight", "äß"]))
@settings(max_examples=30)
def test_exports_of_highlights_are_read_back_to_the_picture(tmp_path_factory, steps, label):
    ends = [sum(steps[: count + 1]) for count in range(len(steps))]
    pairs = [pair for pair in zip(ends[::2], ends[1::2], strict=False) if pair[1] < 100_000]
    assume(pairs)
    cuts, folder = cut_list(*pairs, label=label), tmp_path_factory.mktemp("exports")
    exact = [("a", float(first / NTSC), float(stop / NTSC), label) for first, stop in pairs]
    approximately = lambda rows, digits: [(v, round(s, digits), round(e, digits), n) for v, s, e, n in rows]  # noqa: E731
    otio = read_labels(put(folder, to_otio(cuts)))
    assert approximately(otio.rows(), 8) == approximately(exact, 8)
    edl = read_labels(put(folder, to_edl(cuts)), video="a", fps=NTSC)
    assert approximately(edl.rows(), 8) == approximately(exact, 8)
    for row, (_, start, end, _) in zip(
        read_labels(put(folder, to_losslesscut(cuts)), video="a").rows(), exact, strict=True
    ):
        assert row[3] == label
        assert 0 <= start - row[1] < 0.001 + 1e-9
        assert 0 <= end - row[2] < 0.001 + 1e-9


def test_chapters_that_hlkit_writes_are_read_back(tmp_path):
    cuts = cut_list((600, 1200), (3000, 3600), (9000, 9300), rate=Fraction(30), label="Boss fight")
    rows = read_labels(put(tmp_path, stream_chapters(cuts)), video="a", durations=LENGTHS).rows()
    assert rows == [
        ("a", 0.0, 20.0, "Start"),
        ("a", 20.0, 100.0, "Boss fight"),
        ("a", 100.0, 300.0, "Boss fight"),
        ("a", 300.0, 4000.0, "Boss fight"),
    ]


@pytest.mark.parametrize(
    ("told", "rows", "reason"),
    [
        ({"format": "tsv"}, [("a", 1, 2, "win")], "A TSV of times has no classes, so it can't hold 'win'"),
        ({"format": "boxed"}, [("a", 1, 2, "win")], "Boxed lines have no classes, so 'a' can't have 'win'"),
        ({"format": "boxed"}, [("a", 1, 2, "background")], "'a' can't have 'background'"),
        ({"format": "scalabel"}, [("a", 1, 2, "x")], r"'scalabel' counts frames. Give how many .*--fps"),
        ({"format": "labelstudio"}, [], r"'labelstudio' counts frames"),
        ({"format": "edl"}, [], r"not written as 'edl'. There is csv, tsv, .* by `hlkit export`"),
        ({"format": "excel"}, [], r"not written as 'excel'"),
    ],
)
def test_what_a_format_can_t_hold_is_refused_and_no_file_changes(tmp_path, told, rows, reason):
    path = put(tmp_path, "as it was")
    with pytest.raises(HlkitError, match=reason):
        write_labels(spans(rows), path, **told)
    assert path.read_text() == "as it was"


def test_every_written_format_can_be_read():
    assert set(WRITTEN_FORMATS) < set(LABEL_FORMATS)
    assert labels_text(spans([("a", 1, 2.5, "x")]), format="csv") == "video,start,end,label\na,1,2.5,x\n"


# What is wrong.


def scalabel(*marks):
    frames = [{"videoName": "a", "frameIndex": number, "labels": [{"category": each}]} for number, each in marks]
    return json.dumps({"frames": frames})


def regions(*values, video="a.mp4"):
    return json.dumps(
        [
            {
                "id": 1,
                "data": {"video": video, "fps": 1},
                "annotations": [{"result": [{"value": each} for each in values]}],
            }
        ]
    )


def ranges(start, end):
    return {"ranges": [{"start": start, "end": end}], "timelinelabels": ["x"]}


OTIO = json.loads(SAMPLES["otio"][0])


@pytest.mark.parametrize(
    ("text", "told", "reasons"),
    [
        (
            "vid_id\tstart\tstop\na\t00:00:09\t0:0\n\t00:00:01\t00:00:02\n",
            {},
            ["row 2, stop: '0:0' is not", "row 3, vid_id: ''"],
        ),
        (
            "label,youtube_id,time_start,time_end,split\n,a,1,2,x\nx,a,two,2,\n",
            {},
            ["row 2, label: ''", "row 3, time_start: 'two'"],
        ),
        (
            "1,2,x\nz,3,y\n4,5\n",
            {"video": "a"},
            ["row 2, start: 'z' is not", "row 3, '4,5' has 2 values; allowed are 3"],
        ),
        ('a.mp4 "[0, 0, 1, 1]" "(1, 2)" 3-4\nb.mp4\n', {}, ["line 1, '3-4' is no stretch", "line 2, box: '' is none"]),
        (
            "a:\n- 0:0\n- 0:75\n- [x]\n",
            {},
            ["line 3, '0:75' is no block; allowed is h:m", "line 4, 'a list in a list'"],
        ),
        (
            "a: [0:0, 0:0, 0:1]\n",
            {},
            ["line 1, start and end: .* says too", "line 1, start: 0:01:00.00 lies inside line 1"],
        ),
        (
            scalabel((1, "Highlight start"), (5, "Highlight start")),
            {"fps": 1},
            ["frame 2, .*starts again before it ended"],
        ),
        (
            scalabel((1, "Highlight end"), (3, "x start")),
            {"fps": 1},
            ["frame 1, .*has not started", "frame 2, .*does not end"],
        ),
        (
            scalabel((-1, "x start"), ("1", "x end")),
            {"fps": 1},
            ["frame 1, frameIndex: '-1'", "frame 2, frameIndex: '1' is not"],
        ),
        ('{"frames": [3, {"labels": 4}]}', {"fps": 1}, ["frame 1, '3' is no frame", "frame 2, labels: '4' is no list"]),
        (
            regions(ranges(0, 3), ranges(5, 4)),
            {},
            ["task 1, end: .* is not after the start", "task 1, ranges: .*frames from 1"],
        ),
        (
            regions({"start": "1", "end": 2, "labels": ["x"]}),
            {},
            ["task 1, start and end: '1' and '2' are not both seconds"],
        ),
        (
            json.dumps([{**LABEL_STUDIO[0], "annotations": [{}, {}]}, 5]),
            {},
            ["task 1, .* delete the others", "task 2, '5' is no"],
        ),
        (
            json.dumps(OTIO | {"tracks": {"OTIO_SCHEMA": "Clip.2", "name": "x"}}),
            {},
            ["clip 1, 'x' says no stretch of its rec"],
        ),
        (
            "001 AX V C 00:00:01:00 00:00:02:99 00:00:00:00 00:00:01:00\n002 AX V 00:00:01:00\n",
            {"fps": 25},
            ["line 1, '00:00:02:99' is no time code", "line 2, .* is no event"],
        ),
        (
            "0:00 a\n0:30 b\n0:20 c\n",
            {"video": "a", "durations": LENGTHS},
            ["line 2, time: 0:00:30 is not before what follows"],
        ),
        ("0:00 a\n0:30 b\n", {"video": "a"}, ["line 2, end: the last chapter goes on to the end of the video"]),
    ],
)
def test_every_fault_of_a_file_is_named_with_its_place(tmp_path, text, told, reasons):
    with pytest.raises(HlkitError) as caught:
        read_labels(put(tmp_path, text), **told)
    for reason in reasons:
        assert re.search(reason, str(caught.value)), f"{reason}: {caught.value}"
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"\x00\x01\x02\xff", "is no text, so it is no label file"),
        (b"\x81\x8d\x8f", "is no text in UTF-8, UTF-16 or Windows-1252"),
        ('{"frames": [', r"looks like JSON and is none \(Expecting value: line 1 column 13"),
        ("[" * 50_000, "looks like JSON and is none"),
        ('{"a": 1}', "is JSON, but none of otio, scalabel, labelstudio is like it"),
        ("hello", "has the columns 'hello'; allowed are video,start,end,label"),
        ("video,start,end\n../a,1,2\n", "row 2, video: '../a' can't be a video's id"),
        ('video,start,end,label\na,1,2,"x\x07"\n', "is no text"),
        (json.dumps(LABEL_STUDIO).replace("highlight", "\\ud800"), "task 1, label: .* holds signs that are no text"),
        ("1:2\n", "does not say which video it is of"),
    ],
)
def test_files_that_are_something_else_are_refused(tmp_path, text, reason):
    with pytest.raises(HlkitError, match=reason):
        read_labels(put(tmp_path, text), fps=1)


def test_a_recording_is_no_label_file(tmp_path):
    with (tmp_path / "file").open("wb") as file:
        file.truncate(100_000_000)
    with pytest.raises(HlkitError, match="has 100 MB, so it is no label file"):
        read_labels(tmp_path / "file")


def test_a_format_that_is_named_must_fit(tmp_path):
    path = put(tmp_path, json.dumps(SCALABEL))
    with pytest.raises(HlkitError, match="is JSON, but not as otio has it"):
        read_labels(path, format="otio")
    with pytest.raises(HlkitError, match=r"'srt' is no format of labels. There is csv, tsv, boxed"):
        read_labels(path, format="srt")


def test_wrong_fps_shows_in_a_span_beyond_the_end(tmp_path):
    path = put(tmp_path, json.dumps(SCALABEL))
    with pytest.raises(
        HlkitError, match=r"frame 3, end: .* up to its length 0:00:03.00 \(is 15 frames a second right\?\)"
    ):
        read_labels(path, fps=15, durations={"a": 3.0})


def test_one_recording_of_another_name_is_taken_for_the_video_aloud_and_two_are_not(tmp_path):
    with pytest.warns(HlkitWarning, match="names the recording 'a'; it is taken for 'saturday', as asked"):
        table = read_labels(put(tmp_path, json.dumps(SCALABEL)), fps=15, video="saturday")
    assert set(table["video"]) == {"saturday"}
    with pytest.raises(HlkitError, match=r"line 3, video: 'b' is not allowed; allowed is 'a', or no video column"):
        read_labels(put(tmp_path, "a: [0:0]\nb:\n- 0:4\n"), video="a")
    with pytest.raises(HlkitError, match=r"line 2, video: 'b' is not allowed"):
        read_labels(put(tmp_path, SAMPLES["boxed"][0]), video="a", durations=LENGTHS)


def test_thousands_of_spans_are_read_quickly_and_their_faults_counted(tmp_path):
    rows = [f"a,{2 * number},{2 * number + 1}" for number in range(20_000)]
    assert read_labels(put(tmp_path, "\n".join(["video,start,end", *rows]))).height == 20_000
    wrong = [f"a,{2 * number + 1},{2 * number}" for number in range(5_000)]
    with pytest.raises(HlkitError, match=r"has 5000 faults: .* And 4980 more\.$"):
        read_labels(put(tmp_path, "\n".join(["video,start,end", *wrong])))


ODD = [None, True, -1, 0, 2**70, 1e308, float("nan"), "", [], {}, "x", "\ud800", "a\x00b", [[]]]


def spoiled_json(value, draw):
    """A JSON value with some of its parts left out or replaced."""
    if draw.random() < 0.08:
        return draw.choice(ODD)
    if isinstance(value, dict):
        return {key: spoiled_json(each, draw) for key, each in value.items() if draw.random() > 0.03}
    return [spoiled_json(each, draw) for each in value] if isinstance(value, list) else value


def spoiled_bytes(content, draw):
    """A file's bytes cut short, or with some changed, removed or put in."""
    if draw.random() < 0.3:
        return content[: draw.randrange(len(content))]
    content = bytearray(content)
    for _ in range(draw.randrange(1, 6)):
        place = draw.randrange(len(content) + 1)
        what = draw.choice(
            [bytes([draw.randrange(256)]), b"\n", b'"', b",", b":", b"9" * 400, b"-", b"[", b"{", b"&a", b"*a"]
        )
        content[place : place + draw.randrange(3)] = what
    return bytes(content)


@pytest.mark.parametrize("name", [*SAMPLES, "bytes"])
def test_a_spoiled_file_is_read_or_refused_and_nothing_else(tmp_path, name):
    """Two hundred spoiled files of each format, each read as what it seems to be and as another format."""
    draw = random.Random(name)
    text, told, _ = SAMPLES.get(name, ("", {}, None))
    refused = 0
    for _ in range(200):
        if name == "bytes":
            content = draw.randbytes(draw.randrange(1, 80))
        elif name in ("scalabel", "labelstudio", "otio") and draw.random() < 0.5:
            content = json.dumps(spoiled_json(json.loads(text), draw)).encode()
        else:
            content = spoiled_bytes(text.encode(), draw)
        path = put(tmp_path, content)
        for format in (None, draw.choice(LABEL_FORMATS)):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", HlkitWarning)
                try:
                    table = read_labels(path, durations=LENGTHS, format=format, **told)
                    assert table.schema == SPAN_SCHEMA
                    assert (table["start"] < table["end"]).all()
                except HlkitError as error:
                    refused += 1
                    assert "\n" not in str(error)
    assert refused > 50
