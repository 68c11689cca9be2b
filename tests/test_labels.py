import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from hlkit.labels import (
    SPAN_SCHEMA,
    check_spans,
    covered,
    label_frames,
    merge_spans,
    parse_spans,
    partly_seen,
    read_labels,
    write_labels,
)
from hlkit.project import HlkitError

# A shared machine stalls now and then; that is no fault of the code.
unhurried = settings(deadline=None)


def spans(*rows):
    """A span table from (video, start, end[, label])."""
    return pl.DataFrame([(*row, "highlight")[:4] for row in rows], schema=SPAN_SCHEMA, orient="row")


def frames(times, video="a"):
    return pl.DataFrame({"video": [video] * len(times), "time": np.asarray(times, dtype=np.float64)})


def write(folder, text, encoding="utf-8"):
    (folder / "labels.csv").write_bytes(text.encode(encoding))
    return folder / "labels.csv"


span_rows = st.tuples(
    st.sampled_from(["a", "b"]),
    st.integers(0, 60),
    st.integers(1, 30),
    st.sampled_from(["highlight", 'say "gg", then win', "=1+1"]),
).map(lambda row: (row[0], row[1] / 2, (row[1] + row[2]) / 2, row[3]))


def test_reads_clock_times_seconds_and_defaults(tmp_path):
    text = "Start, End,label\n0:01:23.5,0:02:00,win\n\n 130 ,131.25,\n,,\n"
    assert read_labels(write(tmp_path, text), video="a").rows() == [
        ("a", 83.5, 120.0, "win"),
        ("a", 130.0, 131.25, "highlight"),
    ]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_byte_order_mark_and_other_alphabets_are_read(tmp_path, encoding):
    path = write(tmp_path, "video,start,end,label\r\n配信,1,2,victória\r\n", encoding)
    assert read_labels(path).rows() == [("配信", 1.0, 2.0, "victória")]


def test_file_with_a_header_alone_has_no_spans(tmp_path):
    table = read_labels(write(tmp_path, "video,start,end\n"))
    assert table.height == 0
    assert table.schema == SPAN_SCHEMA


@unhurried
@given(st.lists(span_rows, max_size=4, unique_by=lambda row: (row[0], row[3])), st.floats(1e-6, 1e5))
def test_written_labels_are_read_back_equal(tmp_path_factory, rows, shift):
    shift = round(shift, 6)
    table = spans(*rows).with_columns((pl.col("start", "end") + shift).round(6))
    path = tmp_path_factory.mktemp("labels") / "labels.csv"
    write_labels(table, path)
    assert_frame_equal(read_labels(path), table, check_exact=True)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("a,1:23,0:02:00,", "row 2, start: '1:23' is not a time: .* write '0:1:23' if you mean minutes and seconds"),
        ("a,50,40,", r"row 2, end: 0:00:40.00 is not after the start 0:00:50.00"),
        ("a,50,50,", "row 2, end: .* allowed is a later end"),
        ("a,-3,40,", "row 2, start: -3 is before the video begins; allowed is 0 or later"),
        ("a,nan,40,", "row 2, start: 'nan' is not a time"),
        ('a,"1,5",40,', "row 2, start: '1,5' is not a time"),
        ("a,1,5,40,", "row 2, 'a,1,5,40,' has 5 values; allowed are 4: video,start,end,label"),
        (",1,2,", "row 2, video: '' is not allowed; allowed is the id of a video"),
        ("a,1,5,x\na,0,9,y\na,4.9,6,x", "row 4, start: 0:00:04.90 lies inside row 2"),
    ],
)
def test_wrong_rows_are_named_with_value_and_what_is_allowed(tmp_path, line, reason):
    with pytest.raises(HlkitError, match=f"labels.csv, {reason}"):
        read_labels(write(tmp_path, f"video,start,end,label\n{line}\n"))


def test_all_faults_are_listed_at_once_on_one_line(tmp_path):
    path = write(tmp_path, "video,start,end\na,1:00,2:00\na,9,8\nb,10,20\na,0,99\n")
    with pytest.raises(HlkitError) as caught:
        read_labels(path, video="a", durations={"a": 60.0})
    text = str(caught.value)
    assert "has 5 faults: (1) row 2, end: '2:00'" in text
    assert "(2) row 2, start: '1:00'" in text
    assert "(3) row 3, end: 0:00:08.00 is not after the start 0:00:09.00" in text
    assert "(4) row 4, video: 'b' is not allowed; allowed is 'a', or no video column." in text
    assert "(5) row 5, end: 0:01:39.00 lies outside the video; allowed is up to its length 0:01:00.00." in text
    assert "\n" not in text


def test_a_long_list_of_faults_is_cut_with_the_count_of_the_rest(tmp_path):
    with pytest.raises(HlkitError, match=r"has 30 faults: .*\(20\) row 21.* And 10 more\.$"):
        read_labels(write(tmp_path, "video,start,end\n" + "a,2,1\n" * 30))


@pytest.mark.parametrize(
    ("header", "video"),
    [("video,begin,end", None), ("start,end", None), ("start,end,lable", "a"), ("start,end,end", "a")],
)
def test_wrong_columns_are_refused(tmp_path, header, video):
    with pytest.raises(HlkitError, match=f"has the columns '{header}'; allowed are video,start,end,label"):
        read_labels(write(tmp_path, f"{header}\n1,2,3\n"), video=video)


def test_missing_and_unreadable_files_are_named(tmp_path):
    for nothing in ("", "\n\n  \n", "sep=;\n"):
        with pytest.raises(HlkitError, match=r"labels\.csv is empty; allowed is a first row video,start,end,label"):
            read_labels(write(tmp_path, nothing))
    with pytest.raises(HlkitError, match="There is no label file"):
        read_labels(tmp_path / "none.csv")
    with pytest.raises(HlkitError, match=r"can't be split into rows and cells .field larger than"):
        read_labels(write(tmp_path, "video,start,end\n" + "x" * 200_000))


def test_a_quotation_mark_that_is_not_closed_takes_no_rows_with_it(tmp_path):
    with pytest.raises(HlkitError, match=r"rows and cells \(unexpected end of data\). Look for a quotation mark"):
        read_labels(write(tmp_path, 'video,start,end,label\na,1,2,"win\na,3,4,win\n'))
    closed = 'video,start,end,label\na,1,2,"win, at ""last"""\na,3,4,win\n'
    assert read_labels(write(tmp_path, closed))["label"].to_list() == ['win, at "last"', "win"]


def test_a_file_that_names_no_video_says_how_to_name_it(tmp_path):
    path = write(tmp_path, "start,end\n1,2\n")
    with pytest.raises(
        HlkitError, match=r"\(video and start and end must be there; origin may\)\. Name the video that"
    ):
        read_labels(path)
    assert read_labels(path, video="a").rows() == [("a", 1, 2, "highlight")]


def test_classes_that_a_spreadsheet_wrote_with_a_capital_are_those_that_are_known(tmp_path):
    text = "video,start,end,label\na,1,2,Background\na,3,4,HIGHLIGHT\na,5,6,Win\n"
    assert read_labels(write(tmp_path, text))["label"].to_list() == ["background", "highlight", "Win"]


def test_check_spans_clips_the_last_second_and_refuses_more():
    durations = {"a": 59.4, "b": 10.0}
    assert check_spans(spans(("a", 50, 60), ("b", 1, 2)), durations)["end"].to_list() == [59.4, 2.0]
    with pytest.raises(HlkitError, match=r"^notes, span 2, end: 0:01:00.50 lies outside the video; .* 0:00:59.40\.$"):
        check_spans(spans(("b", 1, 2), ("a", 50, 60.5)), durations, source="notes")
    with pytest.raises(HlkitError, match="lies outside"):
        check_spans(spans(("a", 59.5, 59.9)), durations)
    with pytest.raises(HlkitError, match="video: 'c' is unknown; allowed is 'a', 'b'"):
        check_spans(spans(("c", 1, 2)), durations)
    with pytest.raises(HlkitError, match="lacks start, end; it has video, label"):
        check_spans(spans().drop("start", "end"), durations)
    with pytest.raises(HlkitError, match=r"start and end: None and 2\.0 are not both times"):
        check_spans(spans(("a", None, 2.0)), durations)


def test_check_spans_allows_overlap_of_different_labels_and_touching_of_one():
    table = spans(("a", 0, 5, "x"), ("a", 5, 9, "x"), ("a", 3, 7, "y"))
    assert_frame_equal(check_spans(table, {"a": 9}), table)


def test_merge_joins_overlaps_touching_and_small_gaps():
    table = spans(("b", 0, 1), ("a", 8, 9), ("a", 0, 5), ("a", 1, 2), ("a", 5, 6), ("a", 4, 7, "x"))
    assert merge_spans(table).rows() == [
        ("a", 0, 6, "highlight"),
        ("a", 4, 7, "x"),
        ("a", 8, 9, "highlight"),
        ("b", 0, 1, "highlight"),
    ]
    assert merge_spans(table, gap_seconds=2).rows() == [
        ("a", 0, 9, "highlight"),
        ("a", 4, 7, "x"),
        ("b", 0, 1, "highlight"),
    ]
    # 0.1 * 3 - 0.1 is a little more than 0.2.
    assert merge_spans(spans(("a", 0, 0.1), ("a", 0.1 * 3, 1)), gap_seconds=0.2).rows() == [("a", 0, 1, "highlight")]
    assert merge_spans(spans()).schema == SPAN_SCHEMA


@unhurried
@given(st.lists(span_rows, max_size=12), st.sampled_from([0, 0.5, 3]))
def test_merged_spans_are_apart_and_cover_the_same_time(rows, gap):
    table = spans(*rows)
    merged = merge_spans(table, gap_seconds=gap)
    for _, part in merged.group_by("video", "label"):
        assert (part["start"][1:] - part["end"][:-1] > gap).all()
    if gap == 0:
        for video in ("a", "b"):
            probes = frames(np.arange(0, 50, 0.25), video)
            expected = [any(v == video and s <= t < e for v, s, e, _ in rows) for t in probes["time"]]
            assert covered(probes, table).tolist() == expected
            assert covered(probes, merged).tolist() == expected


@pytest.mark.parametrize("fps", [0.5, 3, 10, 24000 / 1001, 60])
@unhurried
@given(first=st.integers(0, 300), length=st.integers(1, 100), way=st.sampled_from(["divide", "multiply", "add"]))
def test_spans_are_half_open_whatever_the_rounding_of_times(fps, first, length, way):
    number = np.arange(500)
    step = 1 / fps
    times = {"divide": number / fps, "multiply": number * step, "add": np.cumsum(np.full(500, step)) - step}[way]
    labelled = label_frames(frames(times), spans(("a", first / fps, (first + length) / fps), ("b", 0, 999)))
    assert labelled["label"].dtype == pl.Int8
    assert np.flatnonzero(labelled["label"]).tolist() == list(range(first, min(first + length, 500)))


def test_later_class_wins_where_spans_overlap_and_order_of_frames_stays():
    table = spans(("a", 0, 6, "win"), ("a", 2, 4, "kill"), ("a", 3, 9, "background"))
    times = [5, 3, 0, 7]
    assert label_frames(frames(times), table, classes=("background", "kill", "win"))["label"].to_list() == [2, 2, 2, 0]
    assert label_frames(frames(times), table, classes=("background", "win", "kill"))["label"].to_list() == [1, 2, 1, 0]


def test_a_label_that_is_no_class_is_refused():
    with pytest.raises(HlkitError, match="'win' is none of this model's classes: 'background', 'highlight'"):
        label_frames(frames([0]), spans(("a", 0, 6, "win")))


def test_typed_stretches_are_read():
    assert parse_spans(" 0:01:10-0:01:25, 90 - 95.5;\n", video="a").rows() == [
        ("a", 70.0, 85.0, "highlight"),
        ("a", 90.0, 95.5, "highlight"),
    ]
    assert parse_spans("", video="a").is_empty()


def test_every_faulty_typed_stretch_is_named():
    faults = r"2 faults: \(1\) part 2, '1:10' is not a time.*\(2\) part 3, 'x' is no stretch"
    with pytest.raises(HlkitError, match=faults):
        parse_spans("1-2, 1:10-1:25, x", video="a")


def test_the_origin_of_a_span_is_read_checked_joined_and_written(tmp_path):
    text = "video,start,end,label,origin\na,1,2,highlight,hand\na,2,3,,reel:best of May\na,4,5,background,\n"
    table = read_labels(write(tmp_path, text))
    assert table["origin"].to_list() == ["hand", "reel:best of May", None]
    assert_frame_equal(check_spans(table, {"a": 9}), table)
    write_labels(table, tmp_path / "again.csv")
    assert_frame_equal(read_labels(tmp_path / "again.csv"), table)
    merged = merge_spans(table)
    assert merged.rows() == [("a", 1, 3, "highlight", "hand+reel:best of May"), ("a", 4, 5, "background", None)]


@pytest.mark.parametrize(
    ("rest", "expected"),
    [
        ("background", [1, 0, 0, 0, 1, 0]),
        ("ignore", [1, 0, -1, -1, 1, -1]),
        ("auto", [1, 0, -1, -1, 1, 0]),
    ],
)
def test_time_that_no_span_covers_counts_as_asked(rest, expected):
    table = pl.concat([frames([0, 2, 4, 6]), frames([0, 2], "b")])
    # A highlight wins over the background that it lies in.
    marks = spans(("a", 0, 1), ("a", 0, 3, "background"), ("b", 0, 1))
    assert label_frames(table, marks, rest=rest)["label"].to_list() == expected


def test_a_video_is_partly_seen_by_its_background_or_by_answers_alone():
    rows = [
        ("all", 0, 1, "highlight", "hand"),
        ("rejected", 0, 1, "highlight", "hand"),
        ("rejected", 2, 3, "background", None),
        ("answers", 0, 1, "highlight", "review"),
        ("both", 0, 1, "highlight", "review"),
        ("both", 4, 5, "highlight", None),
    ]
    table = pl.DataFrame(rows, schema={**SPAN_SCHEMA, "origin": pl.String}, orient="row")
    assert partly_seen(table).to_list() == ["rejected", "answers"]
    assert partly_seen(table.drop("origin")).to_list() == ["rejected"]
    assert partly_seen(table.clear()).to_list() == partly_seen(spans()).to_list() == []
    times = pl.concat([frames([0, 2, 4], video) for video in ("all", "rejected", "answers", "both", "new")])
    labels = label_frames(times, table, rest="auto")["label"].to_list()
    assert labels == [1, 0, 0, 1, 0, -1, 1, -1, -1, 1, 0, 1, 0, 0, 0]


@pytest.mark.parametrize("kind", ["edl", "chapters", "boxed", "blocks"])
def test_a_file_of_another_format_is_not_taken_for_one_without_labels(tmp_path, kind):
    file = tmp_path / "a.csv"
    file.write_text("video;start;end\na;1;2\n")
    with pytest.raises(HlkitError):
        read_labels(file, video="a", fps="30", format=kind)


def test_a_time_beyond_all_times_is_a_fault_of_its_row(tmp_path):
    file = tmp_path / "a.csv"
    file.write_text(f"video,start,end\na,1,{'9' * 308}\n")
    with pytest.raises(HlkitError, match=r"row 2, start and end: 1\.0 and 1e\+308 are not both times"):
        read_labels(file, durations={"a": 10.0})
