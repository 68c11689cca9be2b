"""The journal of marks: nothing is lost by kills, by other tabs, or by other writers of the label table."""

import json
import os
import signal
from pathlib import Path

import polars as pl
import pytest
from children import context
from hypothesis import given, settings
from hypothesis import strategies as st

from hlkit.labels import read_labels, write_labels
from hlkit.project import HlkitError, HlkitWarning
from hlkit.widgets.journal import Journal

DURATION = 100.0


def open_journal(folder, *, write=write_labels):
    table = folder / "vod.csv"
    return Journal(
        folder / "vod.marks.jsonl",
        video="vod",
        duration=DURATION,
        read=lambda: read_labels(table, video="vod") if table.is_file() else None,
        write=lambda spans: write(spans, table),
    )


def spans_of(journal):
    return journal.table().select("start", "end", "label").rows()


def on_disk(folder):
    return read_labels(folder / "vod.csv", video="vod").sort("start", "end").select("start", "end", "label").rows()


def test_a_mark_is_on_disk_when_the_call_returns(tmp_path):
    journal = open_journal(tmp_path)
    journal.mark(10, 20, "highlight")
    assert on_disk(tmp_path) == [(10, 20, "highlight")]
    journal.fill(0, 30, "background", origin="review")
    assert on_disk(tmp_path) == [(0, 10, "background"), (10, 20, "highlight"), (20, 30, "background")]
    assert journal.table()["origin"].to_list() == ["review", "hand", "review"]
    lines = [json.loads(line) for line in (tmp_path / "vod.marks.jsonl").read_text().splitlines()]
    assert [line["op"] for line in lines] == ["marks", "table", "marks", "table"]


def test_a_mark_ends_with_the_video_and_none_begins_behind_it(tmp_path):
    journal = open_journal(tmp_path)
    journal.mark(95, 120, "highlight")
    journal.fill(90, 120, "background")
    assert on_disk(tmp_path) == [(90, 95, "background"), (95, 100, "highlight")]
    with pytest.raises(HlkitError, match=r"0:01:40.00 lies behind the end of the video, 0:01:40.00"):
        journal.mark(100, 110, "highlight")


def test_undo_takes_back_acts_one_by_one_and_redo_does_them_again(tmp_path):
    journal = open_journal(tmp_path)
    journal.mark(10, 20, "highlight")
    journal.mark(15, 40, "highlight")
    (id,) = journal.marks
    journal.move(id, 10, 30)
    journal.relabel(id, "background")
    journal.remove(id)
    seen = [spans_of(journal)]
    while journal.undo():
        seen.append(spans_of(journal))
        assert on_disk(tmp_path) == seen[-1]
    assert seen == [
        [],
        [(10, 30, "background")],
        [(10, 30, "highlight")],
        [(10, 40, "highlight")],
        [(10, 20, "highlight")],
        [],
    ]
    again = [spans_of(journal)]
    while journal.redo():
        again.append(spans_of(journal))
    assert again == seen[::-1]
    journal.undo()
    journal.mark(50, 60, "highlight")
    assert not journal.redo()


def test_what_is_no_longer_there_is_told(tmp_path):
    journal = open_journal(tmp_path)
    for act in (lambda: journal.move("gone", 1, 2), lambda: journal.relabel("gone", "background")):
        with pytest.raises(HlkitError, match="no longer there"):
            act()
    journal.remove("gone")
    assert not journal.undo()


def test_the_later_tab_sees_the_earlier_ones_marks_and_neither_loses_any(tmp_path):
    first = open_journal(tmp_path)
    first.mark(10, 20, "highlight")
    second = open_journal(tmp_path)
    assert spans_of(second) == [(10, 20, "highlight")]
    first.mark(30, 40, "highlight")
    second.mark(50, 60, "highlight")
    assert on_disk(tmp_path) == [(10, 20, "highlight"), (30, 40, "highlight"), (50, 60, "highlight")]
    assert first.sync() and not first.sync()
    assert first.marks == second.marks
    # Each takes back its own acts only.
    assert first.undo() and first.undo() and not first.undo()
    assert on_disk(tmp_path) == [(50, 60, "highlight")]


def test_an_act_on_what_another_tab_has_changed_since_is_not_taken_back(tmp_path):
    first = open_journal(tmp_path)
    first.mark(10, 20, "highlight")
    second = open_journal(tmp_path)
    (id,) = second.marks
    second.move(id, 12, 20)
    with pytest.raises(HlkitError, match="Another tab has changed"):
        first.undo()
    assert on_disk(tmp_path) == [(12, 20, "highlight")]


def test_what_would_come_back_over_a_newer_mark_stays_away(tmp_path):
    first = open_journal(tmp_path)
    first.mark(10, 20, "highlight")
    first.remove(next(iter(first.marks)))
    second = open_journal(tmp_path)
    second.mark(15, 30, "highlight")
    with pytest.raises(HlkitError, match="newer highlight"):
        first.undo()
    assert on_disk(tmp_path) == [(15, 30, "highlight")]


def test_labels_that_were_there_are_the_base_and_keep_their_origin(tmp_path):
    table = pl.DataFrame({"video": "vod", "start": [3.0], "end": [4.5], "label": "highlight"})
    write_labels(table, tmp_path / "vod.csv")
    journal = open_journal(tmp_path)
    journal.mark(10, 20, "highlight")
    assert on_disk(tmp_path) == [(3, 4.5, "highlight"), (10, 20, "highlight")]


def test_a_table_that_something_else_wrote_counts(tmp_path):
    journal = open_journal(tmp_path)
    journal.mark(10, 20, "highlight")
    (kept,) = journal.marks
    other = pl.DataFrame({"video": "vod", "start": [70.0, 10], "end": [80.0, 20], "label": "highlight"})
    write_labels(other, tmp_path / "vod.csv")
    journal.mark(30, 40, "highlight")
    assert on_disk(tmp_path) == [(10, 20, "highlight"), (30, 40, "highlight"), (70, 80, "highlight")]
    assert kept in journal.marks and journal.marks[kept].origin == "hand"
    assert open_journal(tmp_path).marks == journal.marks
    (tmp_path / "vod.csv").unlink()
    assert journal.sync() and journal.marks == {}


def test_a_table_that_can_not_be_read_or_written_is_told_and_the_marks_are_kept(tmp_path):
    def full(spans, table):
        raise HlkitError("The disk is full.")

    with pytest.raises(HlkitError, match="The disk is full"):
        open_journal(tmp_path, write=full).mark(10, 20, "highlight")
    assert not (tmp_path / "vod.csv").exists()
    journal = open_journal(tmp_path)
    assert on_disk(tmp_path) == [(10, 20, "highlight")]
    (tmp_path / "vod.csv").write_text("video,start,end,label\nvod,soon,later,highlight\n")
    with pytest.raises(HlkitError, match="'soon' is not a time"):
        journal.mark(30, 40, "highlight")


def test_marks_that_were_not_yet_in_the_table_are_laid_over_one_that_something_else_wrote(tmp_path):
    def full(spans, table):
        raise HlkitError("The disk is full.")

    journal = open_journal(tmp_path)
    journal.mark(10, 20, "highlight")
    journal._write = lambda spans: full(spans, None)
    with pytest.raises(HlkitError):
        journal.mark(15, 30, "highlight")
    other = pl.DataFrame({"video": "vod", "start": [25.0, 70], "end": [35.0, 80], "label": "highlight"})
    write_labels(other, tmp_path / "vod.csv")
    assert spans_of(open_journal(tmp_path)) == [(10, 35, "highlight"), (70, 80, "highlight")]
    assert on_disk(tmp_path) == [(10, 35, "highlight"), (70, 80, "highlight")]


def test_a_journal_that_was_pulled_from_elsewhere_counts_from_its_beginning(tmp_path):
    journal = open_journal(tmp_path)
    journal.mark(10, 20, "highlight")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    other = open_journal(elsewhere)
    for second in (30, 40, 50):
        other.mark(second, second + 5, "highlight")
    for name in ("vod.csv", "vod.marks.jsonl"):
        (elsewhere / name).rename(tmp_path / name)
    assert journal.sync()
    assert journal.marks == other.marks
    journal.mark(60, 65, "highlight")
    assert [start for start, _, _ in on_disk(tmp_path)] == [30, 40, 50, 60]


def test_a_damaged_line_is_told_by_its_number_and_half_a_line_is_cut_off(tmp_path):
    journal = open_journal(tmp_path)
    journal.mark(10, 20, "highlight")
    journal.mark(30, 40, "highlight")
    file = tmp_path / "vod.marks.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join([*lines, b'{"op": "marks", "chan']))
    assert open_journal(tmp_path).marks == journal.marks
    assert file.read_bytes() == b"".join(lines)
    file.write_bytes(b"".join([lines[0], b"\x00\xff\n", *lines[2:]]))
    with pytest.warns(HlkitWarning, match=r"vod.marks.jsonl, line 2 is damaged"):
        assert open_journal(tmp_path).marks == journal.marks


def mark_until_killed(folder, die_at, acknowledged):
    """Mark second after second; at the `die_at`th write, die with half of it written, or after a rename."""
    moments = iter(range(1, 1_000_000))
    real_fsync = os.fsync

    def fsync(number):
        if next(moments) == die_at:
            size = os.fstat(number).st_size
            if Path(f"/proc/self/fd/{number}").readlink().suffix != ".csv":
                os.ftruncate(number, size - 7)
            os.kill(os.getpid(), signal.SIGKILL)
        real_fsync(number)

    os.fsync = fsync
    journal = open_journal(folder)
    for second in range(0, 40, 2):
        journal.mark(second, second + 1, "highlight")
        acknowledged.send(second)


@pytest.mark.parametrize("die_at", [1, 2, 3, 4, 5, 6, 7, 11])
def test_a_process_that_is_killed_at_any_write_loses_no_mark_that_it_told_as_saved(tmp_path, die_at):
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=mark_until_killed, args=(tmp_path, die_at, sender))
    process.start()
    sender.close()
    told = []
    try:
        while True:
            told.append(receiver.recv())
    except EOFError:
        process.join()
    assert process.exitcode == -signal.SIGKILL
    found = [start for start, _, _ in spans_of(open_journal(tmp_path))]
    # The mark that it was busy with may be there, whole.
    assert told == found[: len(told)] and len(found) <= len(told) + 1
    assert len(told) == (die_at - 1) // 3
    if (tmp_path / "vod.csv").exists():
        assert [start for start, _, _ in on_disk(tmp_path)] == found


def test_a_mark_that_reached_the_table_before_the_kill_is_not_laid_over_a_later_table(tmp_path):
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=mark_until_killed, args=(tmp_path, 3, sender))
    process.start()
    process.join()
    assert on_disk(tmp_path) == [(0, 1, "highlight")]
    open_journal(tmp_path)
    write_labels(pl.DataFrame({"video": "vod", "start": [70.0], "end": [80.0], "label": "x"}), tmp_path / "vod.csv")
    assert spans_of(open_journal(tmp_path)) == [(70, 80, "x")]
    receiver.close()


def mark_some(folder, start):
    journal = open_journal(folder)
    for second in range(start, start + 40, 2):
        journal.mark(second, second + 1, "highlight")


def test_programs_that_mark_at_the_same_time_lose_nothing(tmp_path):
    processes = [context.Process(target=mark_some, args=(tmp_path, start)) for start in (0, 1, 50)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    marked = [*range(40), *range(50, 90, 2)]
    assert on_disk(tmp_path) == [(second, second + 1, "highlight") for second in marked]


stretch = st.tuples(st.integers(0, 19), st.integers(1, 20)).filter(lambda ends: ends[0] < ends[1])
acts = st.lists(
    st.tuples(
        st.sampled_from([0, 1]),
        st.one_of(
            st.tuples(st.sampled_from(["highlight", "background", "fill"]), stretch),
            st.tuples(st.sampled_from(["remove", "undo", "redo", "restart"]), st.integers(0, 9)),
        ),
    ),
    max_size=14,
)


@settings(max_examples=40)
@given(acts)
def test_two_tabs_and_the_disk_agree_whatever_they_do_in_turn(tmp_path_factory, acts):
    folder = tmp_path_factory.mktemp("journal")
    tabs = [open_journal(folder), open_journal(folder)]
    for which, (kind, value) in acts:
        tab = tabs[which]
        try:
            if kind in ("highlight", "background"):
                tab.mark(*value, kind)
            elif kind == "fill":
                tab.fill(*value, "background")
            elif kind == "remove" and tab.marks:
                tab.remove(sorted(tab.marks)[value % len(tab.marks)])
            elif kind == "restart":
                tabs[which] = open_journal(folder)
            else:
                tab.undo() if kind == "undo" else tab.redo()
        except HlkitError as error:
            assert kind in ("undo", "redo"), error
        for each in tabs:
            each.sync()
        assert tabs[0].marks == tabs[1].marks == open_journal(folder).marks
        if (folder / "vod.csv").exists():
            assert on_disk(folder) == spans_of(tabs[0])
        else:
            assert tabs[0].marks == {}
