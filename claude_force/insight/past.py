"""All executions as they stand at one moment: the ledger's lines and the days that were rolled up, each counted once.

A rollup first puts the new `daily.jsonl` in its place, and then a shorter ledger. In between, and for as long as a
killed one leaves it at that, the ledger still has lines that the days have too; here they are passed over.
"""

import hashlib
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING, Self

from claude_force.insight.blocks import Block, blocks, lines_of
from claude_force.insight.cells import days_of
from claude_force.insight.daily import Daily, Header, archive_folder, read_archive, read_daily
from claude_force.insight.ledger import MAX_LINE_BYTES, Line, opened

if TYPE_CHECKING:
    from types import TracebackType

    import msgspec

MARK_BYTES = 4096


class Past:
    """A ledger with its days; close it, or use it as a context manager. Raises `OSError` and `MetricsError`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file, self.daily = _together(path)
        self.size = os.fstat(self.file.fileno()).st_size if self.file else 0
        """What is written later does not belong to this moment."""
        self.unreadable_lines = 0
        """How many were passed over so far, of all that were looked at."""

    @property
    def half_rolled(self) -> tuple[BufferedReader, Header] | None:
        """The ledger that still has lines that the days have too, and which these are; `None` where it has not."""
        header = self.daily.header
        if self.file is None or header is None or not header.offset < header.length <= self.size:
            return None
        if self.mark(header.length) != header.last_sha256:
            return None
        found = os.pread(self.file.fileno(), MAX_LINE_BYTES, header.offset).partition(b"\n")[0]
        return (self.file, header) if hashlib.sha256(found).hexdigest() == header.sha256 else None

    def mark(self, end: int) -> str:
        """A digest of the last bytes before `end`, by which a ledger that was read as far as that is known again.

        Lines have times and ids in them, so no two ledgers share one.
        """
        if self.file is None:
            return ""
        size = min(end, MARK_BYTES)
        return hashlib.sha256(os.pread(self.file.fileno(), size, end - size)).hexdigest()

    @property
    def end_of_lines(self) -> int:
        """Where the ledger's last whole line ends: a crash, or somebody who is just writing, may have left a part."""
        start = max(self.size - MAX_LINE_BYTES, 0)
        last = os.pread(self.file.fileno(), self.size - start, start) if self.file else b""
        cut = last.rfind(b"\n") + 1
        return start + cut if cut else 0

    def end_of_line(self, offset: int) -> int:
        """Where the ledger's line ends that this byte is in; the byte itself in what is too long to be one."""
        found = os.pread(self.file.fileno(), MAX_LINE_BYTES, offset) if self.file else b""
        return offset + found.find(b"\n") + 1

    def blocks(self, *, start: int = 0, end: int = sys.maxsize) -> Iterator[Block]:
        """The ledger as it is."""
        if self.file is not None:
            self.file.seek(start)
            yield from blocks(self.file, start=start, end=min(end, self.size))

    def lines(
        self, decoder: "msgspec.json.Decoder[Line]", *, start: int = 0, end: int = sys.maxsize
    ) -> Iterator[tuple[Block, list[Line]]]:
        """The ledger's lines, but for what the days have, many at a time."""
        half_rolled = self.half_rolled
        if half_rolled is None or start >= half_rolled[1].length:
            yield from self._read(decoder, start, end)
            return
        header = half_rolled[1]
        cutoff = header.cutoff.toordinal()
        for block, lines in self._read(decoder, start, min(end, header.length)):
            dated = ((line, days_of(line)) for line in lines)
            yield block, [line for line, days in dated if days is None or days[0] >= cutoff]
        yield from self._read(decoder, header.length, end)

    def _read(self, decoder: "msgspec.json.Decoder[Line]", start: int, end: int) -> Iterator[tuple[Block, list[Line]]]:
        for block in self.blocks(start=start, end=end):
            lines, unreadable = lines_of(block, decoder)
            self.unreadable_lines += unreadable
            yield block, lines

    def archived(self, name: str, decoder: "msgspec.json.Decoder[Line]") -> Iterator[list[Line]]:
        """The lines of an archive. Raises `FileNotFoundError` for one that somebody has removed."""
        return read_archive(archive_folder(self.path.parent) / name, decoder)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: "type[BaseException] | None", error: BaseException | None, traceback: "TracebackType | None"
    ) -> None:
        if self.file is not None:
            self.file.close()


def _together(path: Path) -> tuple[BufferedReader | None, Daily]:
    """The ledger and the days of one moment: if the ledger has not changed while the days were read, they are."""
    while True:
        file = None
        with suppress(FileNotFoundError):
            file = opened(path)
        try:
            daily = read_daily(path.parent)
            if file is None or os.path.samestat(os.fstat(file.fileno()), path.lstat()):
                return file, daily
        except FileNotFoundError:  # it was moved away meanwhile
            return file, daily
        except BaseException:
            if file is not None:
                file.close()
            raise
        file.close()
