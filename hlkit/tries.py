"""Tries: what fails for a reason that may pass is done again after growing waits, and never in silence.

It is told by `logging`'s warnings, which Python shows where nobody has set up anything else: to try again is no
fall-back, and a program that makes errors of its warnings is to be patient all the same.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Sequence
from itertools import count
from typing import TypeVar

from hlkit.project import HlkitError

# Where nobody answers at all no server is busy: the address or the network is wrong, and waiting mends neither.
UNANSWERED = re.compile(
    r"refused|failed to resolve|name or service not known|name resolution|no address associated|network is unreachable"
    r"|no route to host|all connection attempts failed",
    re.IGNORECASE,
)
UNANSWERED_WAITS = (2.0, 5.0)

Result = TypeVar("Result")

_log = logging.getLogger(__name__)


def waits_after(reason: str, waits: Sequence[float]) -> Sequence[float]:
    """The seconds before each further try where `reason` is why it failed: fewer and shorter ones without an answer."""
    return tuple(map(min, waits, UNANSWERED_WAITS)) if UNANSWERED.search(reason) else waits


def tell_wait(reason: str, seconds: float, *, number: int, most: int) -> None:
    """Say why something failed, and that try `number` of `most` comes in so many seconds."""
    _log.warning(
        "%s Trying again in %g s (try %d of %d).",
        reason if reason.endswith((".", "?")) else f"{reason}.",
        seconds,
        number,
        most,
    )


def patiently(
    work: Callable[[], Result], *, waits: Sequence[float], passing: type[HlkitError], what: str = ""
) -> Result:
    """Do `work` again after each of `waits`, in seconds, while it fails with `passing`; each wait is told at once.

    Args:
        work: what may fail.
        waits: before each further try; see `waits_after` for when they are cut short.
        passing: the error whose reason may pass. Others are raised as they come, and the last one of these is.
        what: is asked for, where the error does not say it.
    """
    for number in count(1):
        try:
            return work()
        except passing as error:
            left = waits_after(str(error), waits)
            if number > len(left):
                raise
            reason = f"{what}: {error}" if what else str(error)
        tell_wait(reason, left[number - 1], number=number + 1, most=len(left) + 1)
        time.sleep(left[number - 1])
    raise AssertionError("the count never ends")
