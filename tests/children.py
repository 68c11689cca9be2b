"""Processes for the tests that kill one or run several at once.

They are forked from a server that has imported once what they need, and that has used no thread yet. A program has one
such server, which knows what to import when the first child is started; hence one list for all tests.
"""

import multiprocessing
from typing import Any

context: Any = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(
    ["boto3", "s3transfer.manager", "hlkit.storage", "hlkit.training", "hlkit.widgets.journal"]
)
