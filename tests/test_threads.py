"""Work beside other work: its result, its failure, and leaving without it."""

import subprocess
import sys
import threading

import pytest

from hlkit.threads import beside


def test_the_result_is_waited_for():
    go = threading.Event()
    future = beside(lambda: go.wait() and 7)
    assert not future.done()
    go.set()
    assert future.result() == 7


def test_a_failure_comes_up_where_the_result_is_asked_for():
    future = beside(lambda: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        future.result()


def test_a_program_ends_without_it():
    code = "import threading; from hlkit.threads import beside; beside(threading.Event().wait)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0
