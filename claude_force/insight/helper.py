"""Another Python process that does a part of the work meanwhile: within one, only one processor counts lines.

It is help, and nothing depends on it: where it cannot be started, or does not come to its end, it has no output, and
who asked for it does that part, too. It ends with who asked, whatever ends that.
"""

import os
import sys
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from subprocess import Popen
    from types import TracebackType


class Helper:
    """`python -m module arguments...`, running; a context manager, which ends it where it is not needed any more."""

    def __init__(self, module: str, *arguments: str) -> None:
        self._process: Popen[bytes] | None = None
        if (os.cpu_count() or 1) > 1:
            import subprocess  # noqa: PLC0415 - 10 ms that only a long ledger pays

            try:
                self._process = subprocess.Popen(  # noqa: S603 - ourselves
                    # A folder that we are in may be somebody else's: -P takes no module from there.
                    [sys.executable, "-P", "-m", module, *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                )
            except (OSError, ValueError):  # as where nobody knows what runs us
                return

    def output(self) -> bytes:
        """All that it wrote, once it has ended; nothing where it failed."""
        if self._process is None:
            return b""
        written, _ = self._process.communicate()
        return b"" if self._process.returncode else written

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: "type[BaseException] | None", error: BaseException | None, traceback: "TracebackType | None"
    ) -> None:
        if self._process is not None:
            with self._process:
                self._process.kill()
