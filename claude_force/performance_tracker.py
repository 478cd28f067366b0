"""The ledger: one JSON line per execution in `.claude/metrics/executions.jsonl`, written as it ends.

Many processes may write at once: each line is appended under the file's lock, in microseconds. Without it, one could
not tell a line that a crash cut from one that is just being written, nor take back the part that a full disk let
through. A failure to write (a full disk, a folder without rights) is logged once and never costs an answer.
"""

import errno
import fcntl
import hashlib
import os
import stat
import threading
import time
import weakref
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec

from claude_force.base.config import claude_folder, user_folder
from claude_force.base.errors import BatchError
from claude_force.base.records import Call, Execution
from claude_force.base.usage import Usage
from claude_force.stores.files import make_private_folder, open_regular

if TYPE_CHECKING:
    from collections.abc import Callable


Tokens = Annotated[int, msgspec.Meta(ge=0, le=10**12)]
"""As a line that is read may have them: the largest is a thousand times what any model takes at once."""


class CallLine(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One of the answers that an execution was billed for: what its price comes from."""

    model: str
    asked_model: str | None = None
    """As the request named it, where the server answered by another name."""
    input_tokens: Tokens = 0
    output_tokens: Tokens = 0
    cache_read_tokens: Tokens = 0
    cache_write_tokens: Tokens = 0
    cache_write_1h_tokens: Tokens = 0
    """The part of those written that is kept for an hour, which is dearer."""
    inference_geo: str | None = None
    """Where the model ran, where the API said so."""


class ExecutionLine(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of `executions.jsonl`. Optional fields are left out where they say nothing."""

    timestamp: datetime
    """ISO 8601, UTC."""
    agent_name: str
    task_hash: str
    """The first 8 hex digits of the task's SHA-256: tells tasks apart without keeping them."""
    success: bool
    execution_time_ms: float
    model: str | None
    input_tokens: int
    """Prompt tokens that the prompt cache had no part in."""
    output_tokens: int
    total_tokens: int
    """The whole prompt and the output."""
    estimated_cost: Decimal | None
    """US dollars by the tokens that the API counted and the price of the day; null where unpriced."""
    attempts: int = 1
    ttft_ms: float | None = None
    """Until the first text came, from when it was asked for, where the answer was streamed."""
    cached: bool = False
    cache_age_s: float | None = None
    saved_cost: Decimal | None = None
    """US dollars that the cached answer had cost."""
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cache_write_1h_tokens: int = 0
    inference_geo: str | None = None
    """Where the model ran, where the API said so: the price depends on it."""
    asked_model: str | None = None
    calls: tuple[CallLine, ...] = ()
    """The answers that were billed, where it was more than one: prices depend on the length of each."""
    prompt_cache_shared_tokens: int = 0
    """What the prompt cache could have had: tokens with which other calls began as well; an estimate."""
    prompt_cache_saved: Decimal | None = None
    """US dollars that the prompt cache has saved, below 0 where it has cost more; null where it had no part."""
    prompt_cache_wait_ms: float | None = None
    """For how long it waited while another call wrote what both share."""
    routing_saved: Decimal | None = None
    """US dollars that the router has saved against the model that would else have been asked, below 0 where its choice
    was dearer; null where it had no part, or a price is not known."""
    thinking_tokens: int | None = None
    stop_reason: str | None = None
    request_id: str | None = None
    workflow_id: str | None = None
    run_id: str | None = None
    step_id: str | None = None
    batch_id: str | None = None
    """The message batch that it was part of, at half the price; `request_id` is then its `custom_id` there."""
    endpoint: str | None = None
    """Which of several answered, or was asked last."""
    region: str | None = None
    error_type: str | None = None
    simulated: bool = False
    """True where no model was asked; the cost is then what it would have been."""


# Money stays exact: as a number in the file, not as a string, and never by way of a float.
_encode = msgspec.json.Encoder(decimal_format="number").encode


class _BatchLine(msgspec.Struct, frozen=True):
    """The part of a line that tells the entries of a batch."""

    batch_id: str | None = None
    request_id: str | None = None


_decode = msgspec.json.Decoder(_BatchLine).decode


def _entry_of(data: bytes) -> _BatchLine:
    try:
        return _decode(data)
    except (msgspec.DecodeError, RecursionError):  # a crash has cut it, or it is none of ours
        return _BatchLine()


def metrics_folder(start: Path) -> Path:
    """Where executions are written down: in the project's `.claude`, or the user's where there is no project."""
    return (claude_folder(start) or user_folder()) / "metrics"


class PerformanceTracker:
    """Writes executions down; safe for many threads and processes.

    Example:
        >>> import tempfile
        >>> tracker = PerformanceTracker(tempfile.mkdtemp())
        >>> tracker.track_execution("linter", "check it", success=True, execution_time_ms=812.5, input_tokens=90)
        >>> tracker.path.read_text().count("linter")
        1
    """

    def __init__(self, metrics_dir: str | os.PathLike[str], *, enabled: bool = True) -> None:
        self.path = Path(metrics_dir) / "executions.jsonl"
        self.enabled = enabled
        self._lines = LineFile(self.path)
        self._has_complained = False

    def record(self, execution: Execution) -> None:
        """Append the line of one execution. Never raises for what the disk does."""
        if not self.enabled:
            return
        try:
            self._lines.append(_encode(_line(execution)) + b"\n")
        except (OSError, ValueError) as error:  # a text that is no Unicode is a ValueError
            self._complain(error)

    def track_execution(
        self,
        agent_name: str,
        task: str,
        *,
        success: bool,
        execution_time_ms: float,
        model: str | None = None,
        input_tokens: int = 0,
        output_tokens: int = 0,
        estimated_cost: Decimal | None = None,
        workflow_id: str | None = None,
        error_type: str | None = None,
    ) -> None:
        """Record an execution that was made elsewhere; the orchestrators record their own."""
        execution = Execution(
            timestamp=datetime.now(UTC),
            agent_name=agent_name,
            task=task,
            model=model,
            success=success,
            duration_ms=execution_time_ms,
            attempts=1,
            usage=Usage(input_tokens=input_tokens, output_tokens=output_tokens),
            cost_usd=estimated_cost,
            workflow_id=workflow_id,
            error_type=error_type,
        )
        self.record(execution)

    def batch_entries(self, batch_id: str) -> set[str]:
        """Which entries of a message batch are written down, by `custom_id`. Raises `BatchError` if nobody can tell."""
        try:
            with open_regular(self.path) as file:
                wanted = batch_id.encode()
                lines = [_entry_of(data) for data in file if wanted in data]
        except FileNotFoundError:
            return set()
        except OSError as error:
            raise BatchError(
                f"the ledger {str(self.path)!r} cannot be read, so what it has of the batch is not known: "
                f"{error.strerror}; mend that and collect again",
                batch_id=batch_id,
            ) from error
        return {line.request_id for line in lines if line.batch_id == batch_id and line.request_id is not None}

    def _complain(self, error: OSError | ValueError) -> None:
        if not self._has_complained:
            import logging  # noqa: PLC0415 - 10 ms that only a failure pays

            self._has_complained = True
            reason = getattr(error, "strerror", None) or error
            logging.getLogger("claude_force.metrics").warning(
                "executions are not written down: %s: %s", self.path, reason, extra={"path": str(self.path)}
            )


def task_hash(task: str) -> str:
    """What the ledger knows a task by."""
    return hashlib.sha256(task.encode()).hexdigest()[:8]


def _line(execution: Execution) -> ExecutionLine:
    usage, caching = execution.usage or Usage(), execution.prompt_caching
    calls = execution.calls if execution.usage else ()
    return ExecutionLine(
        timestamp=execution.timestamp,
        agent_name=execution.agent_name,
        task_hash=task_hash(execution.task),
        success=execution.success,
        execution_time_ms=round(execution.duration_ms, 3),
        model=execution.model,
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        total_tokens=usage.total_tokens,
        estimated_cost=execution.cost_usd,
        attempts=execution.attempts,
        ttft_ms=None if execution.ttft_ms is None else round(execution.ttft_ms, 3),
        cached=execution.cached,
        cache_age_s=execution.cache_age_s,
        saved_cost=execution.saved_usd,
        cache_read_tokens=usage.cache_read_tokens,
        cache_write_tokens=usage.cache_write_5m_tokens + usage.cache_write_1h_tokens,
        cache_write_1h_tokens=usage.cache_write_1h_tokens,
        inference_geo=usage.inference_geo,
        asked_model=_asked_model(calls[0]) if len(calls) == 1 else None,
        calls=tuple(map(_call_line, calls)) if len(calls) > 1 else (),
        prompt_cache_shared_tokens=caching.shared_tokens,
        prompt_cache_saved=caching.saved_usd if caching.read_tokens or caching.written_tokens else None,
        prompt_cache_wait_ms=round(caching.waited_s * 1000, 3) if caching.waited_s else None,
        routing_saved=execution.routing_saved_usd or None,
        thinking_tokens=usage.thinking_tokens,
        stop_reason=execution.stop_reason,
        request_id=execution.request_id,
        workflow_id=execution.workflow_id,
        run_id=execution.run_id,
        step_id=execution.step_id,
        batch_id=execution.batch_id,
        endpoint=execution.endpoint,
        region=execution.region,
        error_type=execution.error_type,
        simulated=execution.simulated,
    )


def _call_line(call: Call) -> CallLine:
    usage = call.usage or Usage()
    return CallLine(
        model=call.model,
        asked_model=_asked_model(call),
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_read_tokens=usage.cache_read_tokens,
        cache_write_tokens=usage.cache_write_5m_tokens + usage.cache_write_1h_tokens,
        cache_write_1h_tokens=usage.cache_write_1h_tokens,
        inference_geo=usage.inference_geo,
    )


def _asked_model(call: Call) -> str | None:
    return None if call.asked_as == call.model else call.asked_as


class LineFile:
    """A file that lines are appended to, kept open: opening it takes as long as all the rest."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._guard = threading.Lock()  # threads share the open file, and with it the system's lock
        self._file: int | None = None
        self._close: Callable[[], object] = lambda: None
        self._process = self._inode = 0
        self._end = -1
        """Where our last line ended: if the file still does, no other line was cut after it."""
        _ALIVE.add(self)

    def append(self, line: bytes) -> None:
        """Write the line, whole or not at all. Raises `OSError`."""
        with self._guard:
            file = self._locked()
            try:
                size = os.fstat(file).st_size
                if size not in {0, self._end} and os.pread(file, 1, size - 1) != b"\n":
                    line = b"\n" + line  # a line that a crash cut must not swallow this one
                if os.write(file, line) != len(line):
                    os.ftruncate(file, size)
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                self._end = size + len(line)
            finally:
                fcntl.flock(file, fcntl.LOCK_UN)

    def _locked(self) -> int:
        """The file that has the name now, locked: another one may have been put in its place, or our process forked.

        A rollup puts another one there while it has the lock, so the name is looked at with the lock in our hands. Who
        gave up waiting for it writes all the same, and the rollup takes over what it finds in the old file after the
        exchange. What remains: the rollup is stopped for a second at that place, and goes on just between our look at
        the name and our write. Then this line is lost.
        """
        while True:
            file = self._opened()
            lock(file)
            if self._is_there():
                return file
            self._forget()

    def _opened(self) -> int:
        if self._file is None or self._process != os.getpid():
            self._forget()
            self._file, self._process, self._end = _open(self._path), os.getpid(), -1
            self._inode = os.fstat(self._file).st_ino
            self._close = weakref.finalize(self, os.close, self._file)
        return self._file

    def _forget(self) -> None:
        self._close()
        self._file = None  # its number may soon be that of a file of somebody else, and ours cannot be opened

    def _is_there(self) -> bool:
        try:
            return os.stat(self._path).st_ino == self._inode  # noqa: PTH116 - half the time that Path.stat takes
        except OSError:
            return False


_ALIVE: "weakref.WeakSet[LineFile]" = weakref.WeakSet()


def _after_fork() -> None:
    """A thread that was writing is not in the child, and would never let go."""
    for lines in _ALIVE:
        lines._guard = threading.Lock()  # noqa: SLF001 - its own module


os.register_at_fork(after_in_child=_after_fork)


def _open(path: Path) -> int:
    # No links: a cloned repository must not have us append to another file of the user's.
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        file = os.open(path, flags, 0o600)
    except FileNotFoundError:
        make_private_folder(path.parent)
        file = os.open(path, flags, 0o600)
    if not stat.S_ISREG(os.fstat(file).st_mode):  # a pipe or a device would take lines, and keep none
        os.close(file)
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    return file


def lock(file: int) -> bool:
    """Hold the file for one write; dying lets it go. Whether it is held: nobody is waited for longer than a second.

    A process that was stopped while it wrote must not hold up a paid answer: we write without the lock then.
    """
    for _ in range(100):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.01)
        else:
            return True
    return False
