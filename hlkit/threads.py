"""Work in a thread beside other work."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

Value = TypeVar("Value")


def beside(call: Callable[[], Value]) -> Future[Value]:
    """Begin `call` in a thread of its own; the future's `result()` waits for it and raises what it raised.

    Unlike with an executor nobody waits for the thread on leaving, so Ctrl-C ends a program at once.
    """
    future: Future[Value] = Future()

    def work() -> None:
        try:
            future.set_result(call())
        except BaseException as error:  # noqa: BLE001 - whoever asks for the result gets it
            future.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    return future
