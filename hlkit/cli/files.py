"""`hlkit sort` and `unsort`: files of no project."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hlkit import stages
from hlkit.cli.common import VerboseOption, example

app = typer.Typer()

ThresholdsOption = Annotated[
    list[str] | None,
    typer.Option("--above", metavar="CLASS=SHARE", help="A class counts above this share of a file (repeatable)."),
]


def _shares(pairs: list[str] | None) -> dict[str, float]:
    shares = {}
    for pair in pairs or ():
        name, _, share = pair.rpartition("=")
        try:
            shares[name.strip()] = float(share)
        except ValueError as error:
            raise typer.BadParameter(
                f"'{pair}' is no share of a class. Give CLASS=SHARE, as in blurred=0.75.", param_hint="'--above'"
            ) from error
    return shares


@example(app, "sort clips --model hlkit-project/models/focus/model.ckpt --above blurred=0.75 --into sorted")
def sort(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Videos, or folders of them.")],
    model: Annotated[Path, typer.Option(help="A model.ckpt that tells the classes apart.")],
    into: Annotated[Path, typer.Option(metavar="DIR", help="Gets a folder for each class.")],
    thresholds: ThresholdsOption = None,
    target: Annotated[Path | None, typer.Option("--csv", help="Where the shares of each file go.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Move them; without, only say what would be moved.")] = False,
    verbose: VerboseOption = False,
) -> None:
    """Sort video files into a folder for each class."""
    stages.sort(files, model=model, into=into, thresholds=_shares(thresholds), target=target, yes=yes)


@example(app, "unsort sorted")
def unsort(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Into which files were sorted.")],
    verbose: VerboseOption = False,
) -> None:
    """Move back what was sorted into a folder."""
    stages.unsort(folder)
