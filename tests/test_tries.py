"""What may pass is tried again, and each wait is told when it begins."""

import pytest

from hlkit import tries
from hlkit.project import HlkitError
from hlkit.tries import patiently, waits_after


class BusyError(HlkitError):
    pass


@pytest.fixture
def waits(monkeypatch):
    taken = []
    monkeypatch.setattr(tries.time, "sleep", taken.append)
    return taken


def failing(*errors):
    """What raises these errors in turn, and then returns "done"."""
    left = [*errors, None]

    def work():
        if (error := left.pop(0)) is not None:
            raise error
        return "done"

    return work


def told(caplog):
    return [record.getMessage() for record in caplog.records]


def test_it_is_done_again_after_each_wait_and_said(waits, caplog):
    work = failing(BusyError("It is busy."), BusyError("Still"))
    assert patiently(work, waits=(2.0, 30.0, 60.0), passing=BusyError, what="a.org") == "done"
    assert waits == [2.0, 30.0]
    assert told(caplog) == [
        "a.org: It is busy. Trying again in 2 s (try 2 of 4).",
        "a.org: Still. Trying again in 30 s (try 3 of 4).",
    ]


def test_the_last_failure_is_raised_and_no_wait_follows_it(waits):
    with pytest.raises(BusyError, match="third"):
        patiently(failing(*map(BusyError, ["first", "second", "third"])), waits=(1.0, 2.0), passing=BusyError)
    assert waits == [1.0, 2.0]


def test_what_does_not_pass_is_raised_at_once(waits, caplog):
    with pytest.raises(HlkitError, match="gone"):
        patiently(failing(HlkitError("gone")), waits=(1.0,), passing=BusyError)
    assert (waits, told(caplog)) == ([], [])


@pytest.mark.parametrize(
    ("reason", "waits"),
    [
        ("HTTP Error 503: Service Unavailable", (2.0, 10.0, 30.0)),
        ("[Errno 111] Connection refused", (2.0, 5.0)),
        ("Failed to resolve 'a.org' ([Errno -2] Name or service not known)", (2.0, 5.0)),
        ("httpx.ConnectError: All connection attempts failed", (2.0, 5.0)),
    ],
)
def test_where_nobody_answers_the_waits_are_few(reason, waits):
    assert waits_after(reason, (2.0, 10.0, 30.0)) == waits


def test_shorter_waits_stay_short():
    assert waits_after("Connection refused", (0.0,)) == (0.0,)
    assert waits_after("Connection refused", ()) == ()
