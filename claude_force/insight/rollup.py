"""The rollup: the ledger's old lines become a few figures a day, so that it stays small and nothing is forgotten.

Two files change, and a crash may come in between, so one of them decides: with `daily.jsonl` in its place the old lines
are rolled up. Its header says which these are, `insight/past.py` passes over them wherever they still lie, and the next
rollup takes them away. Writers go on all the while: they wait for the moment in which the ledger is exchanged.

Only lines that can be read are rolled up. What a crash has cut, or somebody else wrote, stays.
"""

import fcntl
import gzip
import hashlib
import os
import re
import stat
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal, NamedTuple, Self

import msgspec

from claude_force.base.errors import MetricsError
from claude_force.insight.blocks import Block, lines_of
from claude_force.insight.cells import Cells, add_lines, days_of, merge
from claude_force.insight.daily import ARCHIVE, FORMAT, Day, Header, archive_folder, daily_file, day_of, encode_daily
from claude_force.insight.ledger import LONG, ShortLine
from claude_force.insight.past import Past
from claude_force.performance_tracker import LineFile, lock
from claude_force.stores.files import make_private_folder, replacing_privately

if TYPE_CHECKING:
    from io import BufferedWriter
    from types import TracebackType

OldDetail = Literal["drop", "compress"]
OnProgress = Callable[[int, int], None]
"""Is told how many bytes were read, and of how many."""

KEEP_DAYS = 30
_LOCK_TRIES = 5
"""Of a second each: others hold it for microseconds."""
_ARCHIVE = re.compile(ARCHIVE)
_TEMPORARY = re.compile(r"\.(executions\.jsonl|daily\.jsonl|index\.json)\.[0-9a-f]{12}")


class Rollup(msgspec.Struct, frozen=True, kw_only=True):
    """What a rollup has done, or with `dry_run` would do."""

    lines: int = 0
    """How many became figures of days."""
    days: int = 0
    bytes_before: int = 0
    """Of ledger, days and archives together."""
    bytes_after: int = 0
    is_dry: bool = False

    @property
    def saved_share(self) -> float:
        """The part of the bytes that is gone; below 0 where a few lines made more."""
        return 1 - self.bytes_after / self.bytes_before if self.bytes_before else 0.0


def roll_up(
    path: Path,
    *,
    now: datetime,
    keep_days: int = KEEP_DAYS,
    old_detail: OldDetail = "drop",
    dry_run: bool = False,
    on_progress: OnProgress | None = None,
) -> Rollup | None:
    """Roll up what ended more than so many days ago; `None` where another process is at it.

    `old_detail="compress"` keeps the lines in `archive/`, for questions about a run or a step. Raises `OSError`, such
    as for a full disk, and `MetricsError` for days that are damaged or of a newer version; then nothing is lost.
    """
    cutoff = (now.astimezone(UTC) - timedelta(days=keep_days)).date()
    if not path.parent.is_dir():
        return Rollup(is_dry=dry_run)
    if dry_run:
        return _rolled_up(path, cutoff, _Archive(path.parent, old_detail), on_progress, dry_run=True)
    with _alone(path.parent) as mark:
        if mark is None:
            return None
        archive = _Archive(path.parent, old_detail, mark)
        return _rolled_up(path, cutoff, archive, on_progress, dry_run=False)


def last_tried(path: Path) -> datetime | None:
    """When a rollup of this ledger was begun last, whatever became of it; `None` for never."""
    with suppress(FileNotFoundError):
        return datetime.fromtimestamp(_lock_file(path.parent).stat().st_mtime, UTC)
    return None


def _rolled_up(
    path: Path, cutoff: date, archive: "_Archive", on_progress: OnProgress | None, *, dry_run: bool
) -> Rollup:
    with Past(path) as past:
        before = past.size + _size_beside(path)
        if not dry_run:
            _clear_up(path.parent, archive.mark, past.daily.archives)
            _exchange(past)
    with Past(path) as past:
        with archive:
            old = _old_lines(past, cutoff, archive, on_progress)
        if old is None:
            return Rollup(bytes_before=before, bytes_after=past.size + _size_beside(path), is_dry=dry_run)
        cells, lines, header = old
        days = _merged(past.daily.days, cells, archive.name)
        header = msgspec.structs.replace(header, days=len(days))
        rolled = Rollup(lines=lines, days=len({cell.ended for cell in cells}), bytes_before=before, is_dry=dry_run)
        if dry_run:
            written = sum(map(len, encode_daily(header, days)))
            kept = past.size - archive.bytes_taken + archive.size + _size_of(archive_folder(path.parent))
            return msgspec.structs.replace(rolled, bytes_after=written + kept)
        with replacing_privately(daily_file(path.parent)) as file:
            file.writelines(encode_daily(header, days))
    with Past(path) as past:
        _exchange(past)
    return msgspec.structs.replace(rolled, bytes_after=path.stat().st_size + _size_beside(path))


def _old_lines(
    past: Past, cutoff: date, archive: "_Archive", on_progress: OnProgress | None
) -> tuple[Cells, int, Header] | None:
    """What the old lines came to, how many there are, and which; `None` where there are none."""
    cells: Cells = {}
    lines, header = 0, None
    start = past.half_rolled[1].length if past.half_rolled else 0
    end = past.end_of_lines
    for block in past.blocks(start=start, end=end):
        taken = _divided(block, cutoff)
        if taken.lines:
            if header is None:
                digest = hashlib.sha256(taken.first).hexdigest()
                header = Header(
                    format=FORMAT,
                    days=0,
                    cutoff=cutoff,
                    length=end,
                    offset=taken.offset,
                    sha256=digest,
                    last_sha256=past.mark(end),
                )
            add_lines(cells, taken.lines)
            lines += len(taken.lines)
            archive.take(taken.rolled)
        if on_progress is not None:
            on_progress(block.start + len(block.data), end)
    return None if header is None else (cells, lines, header)


class _Taken(NamedTuple):
    """A block of the ledger, divided."""

    kept: bytes
    rolled: bytes = b""
    lines: Sequence[ShortLine] = ()
    """Those of `rolled`."""
    first: bytes = b""
    """The first of them, as it is written."""
    offset: int = 0
    """Where that begins."""


def _divided(block: Block, cutoff: date) -> _Taken:
    """What stays of the block, and what ended before that day."""
    written = block.data.split(b"\n")[:-1]  # it ends with a line
    found, _ = lines_of(block, LONG)  # none that is not sound
    lines: Sequence[ShortLine | None] = found
    if found and len(found) != len(written):
        lines = [next(iter(lines_of(Block(0, line), LONG)[0]), None) for line in written]
    first_day = cutoff.toordinal()
    is_old = [line is not None and (days := days_of(line)) is not None and days[0] < first_day for line in lines]
    if True not in is_old:
        return _Taken(block.data)
    number = is_old.index(True)
    return _Taken(
        kept=b"".join(data + b"\n" for data, old in zip(written, is_old, strict=True) if not old),
        rolled=b"".join(data + b"\n" for data, old in zip(written, is_old, strict=True) if old),
        lines=[line for line, old in zip(lines, is_old, strict=True) if old and line is not None],
        first=written[number],
        offset=block.start + sum(len(data) + 1 for data in written[:number]),
    )


def _merged(days: Sequence[Day], old: Cells, archive: str | None) -> list[Day]:
    new: dict[tuple[date, str | None], Cells] = {}
    for cell, figures in old.items():
        new.setdefault((date.fromordinal(cell.ended), archive), {})[cell] = figures
    merged = []
    for day in days:
        cells = day.figures
        merge(cells, new.pop((day.date, day.archive), {}))
        merged.append(day_of(day.date, day.archive, cells))
    merged += [day_of(*named, cells) for named, cells in new.items()]
    return sorted(merged, key=lambda day: (day.date, day.archive or ""))


def _exchange(past: Past) -> None:
    """Where the ledger has lines that the days have too, put one in its place that has none of them."""
    if past.half_rolled is None:
        return
    path, (old, header) = past.path, past.half_rolled
    with replacing_privately(path) as new:
        os.fchmod(new.fileno(), stat.S_IMODE(os.fstat(old.fileno()).st_mode))
        for block in past.blocks(end=header.length):
            new.write(_divided(block, header.cutoff).kept)
        new.flush()
        os.fsync(new.fileno())  # nobody waits for this; what comes next is little
        if not any(lock(old.fileno()) for _ in range(_LOCK_TRIES)):
            raise MetricsError(
                f"the ledger {str(path)!r} is locked by a process that may be stopped; its old lines are in the "
                "figures of days already, and the next rollup takes them away",
                path=str(path),
            )
        if not os.path.samestat(os.fstat(old.fileno()), path.lstat()):
            raise MetricsError(
                f"somebody has put another file in the place of {str(path)!r}; try again", path=str(path)
            )
        old.seek(header.length)
        while data := old.read(1 << 20):
            new.write(data)
    # Who waited for the lock in vain has written without it, perhaps just now.
    if late := old.read():
        LineFile(path).append(late)


class _Archive:
    """Where old lines go, if anywhere; it is a file with the first of them."""

    def __init__(self, folder: Path, old_detail: OldDetail, mark: int | None = None) -> None:
        self.name: str | None = None
        """`None` for lines that are dropped."""
        self.mark = mark
        """The file that says which archive is being made; without one, this is but a rehearsal."""
        self.bytes_taken = 0
        self.size = 0
        self._folder = archive_folder(folder)
        if old_detail == "compress":
            self.name = f"executions-{os.urandom(6).hex()}.jsonl.gz"
        self._stack = ExitStack()
        self._packed: gzip.GzipFile | None = None

    def take(self, lines: bytes) -> None:
        """Keep these lines."""
        self.bytes_taken += len(lines)
        if self.name is None:
            return
        if self._packed is None:
            self._packed = self._opened(self.name)
        self._packed.write(lines)

    def _opened(self, name: str) -> gzip.GzipFile:
        file: BufferedWriter | IO[bytes]
        if self.mark is None:
            file = self._stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 - the stack is one
        else:
            make_private_folder(self._folder)
            os.pwrite(self.mark, name.encode(), 0)
            file = self._stack.enter_context(replacing_privately(self._folder / name))
        self._stack.callback(lambda: setattr(self, "size", file.tell()))
        packed = gzip.GzipFile(fileobj=file, mode="wb")
        return self._stack.enter_context(packed)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: "TracebackType | None"
    ) -> None:
        self._stack.__exit__(kind, error, traceback)


def _lock_file(folder: Path) -> Path:
    return folder / "rollup.lock"


@contextmanager
def _alone(folder: Path) -> Iterator[int | None]:
    """The lock file, held; `None` where another process holds it. Its time says when a rollup was tried last."""
    file = os.open(_lock_file(folder), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        is_alone = True
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            is_alone = False
        else:
            os.utime(file)
        yield file if is_alone else None
    finally:
        os.close(file)


def _clear_up(folder: Path, mark: int | None, archives: "dict[str, int]") -> None:
    """Remove what a killed rollup was writing."""
    for path in tuple(folder.iterdir()):
        if _TEMPORARY.fullmatch(path.name):
            path.unlink(missing_ok=True)
    if mark is not None:
        name = os.pread(mark, 256, 0).decode(errors="replace")
        if _ARCHIVE.fullmatch(name) and name not in archives:
            (archive_folder(folder) / name).unlink(missing_ok=True)
        os.ftruncate(mark, 0)


def _size_beside(path: Path) -> int:
    """Of the days and the archives."""
    return _size_of(archive_folder(path.parent)) + _size_of(path.parent, only="daily.jsonl")


def _size_of(folder: Path, *, only: str | None = None) -> int:
    size = 0
    with suppress(FileNotFoundError):
        for entry in os.scandir(folder):
            if only in {None, entry.name}:
                size += entry.stat(follow_symlinks=False).st_size
    return size
