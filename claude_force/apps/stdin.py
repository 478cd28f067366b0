"""Standard input, as the commands that take text from it read it."""

import os
import stat
import sys

from claude_force.apps.console import note
from claude_force.base.errors import TaskError
from claude_force.library.materials import MAX_BYTES, as_text

# A pipe that stays silent this long is probably one that nobody writes to.
PATIENCE_S = 3.0


def is_piped() -> bool:
    """True for a pipe or a file; false for a terminal, for /dev/null, and where there is no input at all."""
    try:
        mode = os.fstat(sys.stdin.fileno()).st_mode if sys.stdin is not None else 0
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISREG(mode)


def read_stdin() -> str:
    """All of it, as text. Says that it waits, if it does. Raises `TaskError` where there is none, or too much."""
    import select  # noqa: PLC0415 - a library of its own, for input only

    if sys.stdin is None:
        raise TaskError("standard input is closed; pipe the text in, or write it after the command", source="stdin")
    if is_piped() and not select.select([sys.stdin], [], [], PATIENCE_S)[0]:
        note("waiting for standard input; press Ctrl-D to end it, or use < /dev/null to give none")
    return as_text("standard input", sys.stdin.buffer.read(MAX_BYTES + 1))
