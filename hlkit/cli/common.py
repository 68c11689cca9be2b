"""What the commands share: their common options, the example in their help, and how failures name options."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated

import typer

from hlkit.project import parse_time

DEFAULT_PROJECT = Path("hlkit-project")


def _verbose(value: bool) -> None:
    if value:
        logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
        logging.getLogger("hlkit").setLevel(logging.DEBUG)


def _time(text: str) -> float:
    try:
        return parse_time(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


ProjectOption = Annotated[Path, typer.Option("--project", metavar="DIR", help="The project's folder.")]
VerboseOption = Annotated[
    bool, typer.Option("--verbose", callback=_verbose, help="Say more, and show the traceback of a failure.")
]
RedoOption = Annotated[bool, typer.Option("--redo", help="Do it again, even if it is already done.")]
VideosOption = Annotated[list[str] | None, typer.Option("--video", metavar="ID", help="Only this video (repeatable).")]
RunOption = Annotated[str | None, typer.Option("--run", help="The name of the training run.")]
TimeOption = Annotated[float | None, typer.Option(parser=_time, metavar="TIME", help="Seconds or h:mm:ss.")]


def example(app: typer.Typer, command: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a command whose help ends with an example."""
    return app.command(epilog=f"Example: hlkit {command}")


def in_options(message: str, options: Mapping[str, str]) -> str:
    """A stage's message in the words of its command: options in place of the arguments that they become.

    An argument is told from a word of the sentence by its `_` or by the `=` after it: `min_seconds=-1 is not allowed`
    becomes `--shortest -1 is not allowed`. What stands in quotes or in a path is left as it is.

    Args:
        message: of an error or a warning.
        options: the option of each argument of the command, such as `--shortest` of `min_seconds`.
    """
    for argument, option in options.items():
        message = re.sub(rf"(?<![^\s(]){argument}=(?=\S)", f"{option} ", message)
        if "_" in argument:
            message = re.sub(rf"(?<![^\s(]){argument}(?![=\w]|[./-]\w)", option, message)
    return message


def old_and_new(text: str) -> tuple[str, str]:
    """The two sides of `OLD=NEW`, the value of a `--class`, at its last `=`."""
    old, sign, new = text.rpartition("=")
    if not sign or not old:
        raise typer.BadParameter(
            f"'{text}' is no pair of classes. Give OLD=NEW, as in 'Boss fight=highlight' or '*='.",
            param_hint="'--class'",
        )
    return old.strip(), new.strip()
