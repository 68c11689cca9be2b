"""The stages as commands: `hlkit STAGE ...`. Nothing of its own: each command is one call of `hlkit.stages`.

Exit status: 0 done, 1 failed with the reason on one line, 2 wrong usage, 130 stopped with Ctrl-C.
"""

from __future__ import annotations

import io
import logging
import sys
import traceback
import warnings

import typer
from typer.main import get_command

from hlkit.cli import files, intake, judging, keeping, labelling, learning, results
from hlkit.cli.common import in_options
from hlkit.project import HlkitError, HlkitWarning, plain_words

# The shell's number for a program that Ctrl-C has ended.
STOPPED = 130

app = typer.Typer(
    name="hlkit",
    help="Find the highlights of long game streams and cut them into a reel.",
    epilog="Start with: hlkit demo",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

# In the order of the work, which `hlkit --help` shows.
for group in (intake, labelling, keeping, learning, results, judging, files):
    app.add_typer(group.app)


def main() -> None:
    """The `hlkit` command."""
    warnings.showwarning = _show_warning
    warnings.simplefilter("always", HlkitWarning)
    if isinstance(sys.stdout, io.TextIOWrapper):  # a name may hold signs that the terminal's encoding does not have
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        try:
            app()
        except KeyboardInterrupt:  # before typer, which turns it into this, has begun to listen
            sys.exit(STOPPED)
    except SystemExit as end:
        if end.code == STOPPED:
            sys.stderr.write("\nhlkit: stopped. Run the same command again; it goes on where it stopped.\n")
        raise
    except (HlkitError, OSError) as error:
        if logging.getLogger("hlkit").isEnabledFor(logging.DEBUG):
            traceback.print_exc()
        sys.exit(f"hlkit: {' '.join(in_options(plain_words(error) or str(error), _options()).split())}")


def _options() -> dict[str, str]:
    """The option of each argument of the command that was typed; none where it was no command."""
    commands = getattr(get_command(app), "commands", {})
    typed = commands.get(sys.argv[1]) if sys.argv[1:] else None
    # An argument without dashes, such as a file, is known by what it is and not by its name.
    named = [parameter for parameter in (typed.params if typed else ()) if parameter.opts[0].startswith("-")]
    return {parameter.name: parameter.opts[0] for parameter in named if parameter.name}


def _show_warning(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
    # What a library wants to tell its caller is no news for a user; a fall-back of hlkit's is.
    if issubclass(category, HlkitWarning):
        sys.stderr.write(f"hlkit: {in_options(str(message), _options())}\n")
    else:
        logging.getLogger("hlkit").debug("%s", message)
