"""Tasks files: what `execute --tasks-file` reads, and the results file from which it goes on.

A tasks file has one JSON value a line: a string, which is the task, or an object with the keys of `TaskLine`. All of it
is checked before anything is sent: each task's request is built as its turn will build it.

A task is known again by its *hash*: of that request, so of the agent's file, the task, its files, model and limits; of
who answers, as a simulated answer is none in earnest; of its id; and, for a line that stands there more than once, of
which one it is. So an edited task is a new one, and lines may be moved. Nothing is ever removed from a results file;
the last line of a hash counts.
"""

import fcntl
import hashlib
import io
import os
import stat
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Self

import msgspec

from claude_force.base.briefing import NO_SKILLS, LoadedSkills
from claude_force.base.errors import BudgetError, ClaudeForceError, InputError, NotRunError, TasksFileError
from claude_force.base.records import AgentResult, Effort
from claude_force.engine.key import request_key
from claude_force.engine.request import build_request, named_model
from claude_force.library.materials import read_material
from claude_force.orchestrator import AgentTask, CallOptions, task_of

if TYPE_CHECKING:
    from claude_force.base.records import AgentDefinition, Material
    from claude_force.engine.parts import Parts
    from claude_force.engine.request import Prepared, Task
    from claude_force.insight.choosing import Chooser

Status = Literal["done", "failed", "not_run"]

# What a person reads of many faults; `problems` has all.
MOST_FAULTS = 50


class TaskLine(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One line of a tasks file, written as an object; what it leaves out is as the command says."""

    task: str
    agent: str | None = None
    id: str | int | None = None
    """A name of the user's own, which comes back in the result; unique in its file."""
    files: str | list[str] = []
    """Text files that the task is about, relative to the current folder; after those of the command."""
    model: str | None = None
    effort: Effort | None = None
    max_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None


class FileTask(NamedTuple):
    """A task of a tasks file, checked and ready to be asked."""

    number: int
    """Its line in the file, counted from 1."""
    id: str | int | None
    hash: str
    call: AgentTask
    key: str
    """Of its request: what the cache knows its answer by."""


class CheckedTasks(NamedTuple):
    """What a tasks file holds."""

    tasks: list[FileTask]
    warnings: tuple[str, ...]
    """What the user should know before anything is sent, each once."""


# ---------------------------------------------------------------- tasks


def read_tasks(
    data: bytes,
    *,
    path: str | None,
    agent: str,
    parts: "Parts",
    common: CallOptions,
    chooser: "Chooser | None" = None,
) -> CheckedTasks:
    """The tasks of a file's content. `agent` and the `common` options are for lines that say nothing else.

    With a `chooser`, tasks for which nobody names a model get one of its.

    Raises one `TasksFileError` with every fault, or the `AgentError` of `agent`. Reads the files that tasks name.
    """
    check = _Check(parts, agent=agent, common=common, chooser=chooser)
    tasks: list[FileTask] = []
    problems: list[str] = []
    lines_of: dict[str, int] = {}  # by id
    for number, line in enumerate(io.BytesIO(data.removeprefix(b"\xef\xbb\xbf")), 1):
        if not line.strip():
            continue
        try:
            task = check.task(number, _decode(line))
            if task.id is not None and (first := lines_of.setdefault(str(task.id), number)) != number:
                raise InputError(f"the id {task.id!r} is that of line {first}, too; give each task its own")  # noqa: TRY301 - one fault of many
        except InputError as error:
            problems.append(f"line {number}: {error}")
        else:
            tasks.append(task)
    if problems:
        raise _faulty(path, problems)
    return CheckedTasks(tasks, tuple(check.warnings))


_decoder = msgspec.json.Decoder(str | TaskLine)


def _decode(line: bytes) -> TaskLine:
    try:
        written = _decoder.decode(line)
    except msgspec.ValidationError as error:
        known = f"; known here: {', '.join(TaskLine.__struct_fields__)}" if "unknown field" in str(error) else ""
        raise InputError(f"{_lowered(str(error))}{known}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        reason = str(error).removeprefix("JSON is malformed: ")
        raise InputError(f"no JSON ({reason}); write a string, or an object with `task`") from error
    return TaskLine(task=written) if isinstance(written, str) else written


def _lowered(text: str) -> str:
    return text[:1].lower() + text[1:]


class _Check:
    """Builds each task's request, to see whether it can be, and to know the task by it."""

    def __init__(self, parts: "Parts", *, agent: str, common: CallOptions, chooser: "Chooser | None") -> None:
        self._parts = parts
        self._agent = agent
        self._common = common
        self._chooser = chooser
        self._found: dict[str, AgentDefinition | InputError] = {}  # a look at the disk for each of 100,000 takes long
        self._seen: Counter[bytes] = Counter()
        self.warnings: dict[str, None] = {}
        self._definition(agent)

    def task(self, number: int, line: TaskLine) -> FileTask:
        """The task of that line. Raises `InputError`."""
        files = [line.files] if isinstance(line.files, str) else line.files
        options = {"files": files, "model": line.model, "effort": line.effort, "max_tokens": line.max_tokens}
        own = CallOptions(**{name: value for name, value in options.items() if value})  # type: ignore[typeddict-item] # named just above
        call = AgentTask(line.agent or self._agent, line.task, own)
        asked = self._task(call, (*map(read_material, files), *self._common.get("materials", ())))
        agent = self._definition(call.agent_name)
        if self._chooser and named_model(asked, agent) is None:
            asked = msgspec.structs.replace(asked, choice=self._chooser.choose(asked, agent))
        prepared = build_request(asked, agent, self._parts.config, self._parts.aliases)
        self.warnings.update(dict.fromkeys(prepared.warnings))
        key = request_key(prepared.request, server=self._parts.server)
        name = self._hash(call.agent_name, line.id, self._known_by(prepared, asked.effort or agent.effort))
        return FileTask(number, line.id, name, call, key)

    def _known_by(self, prepared: "Prepared", effort: Effort | None) -> str:
        """The key of its request; whichever model was chosen, as another one may be when the command goes on."""
        request = prepared.request
        if prepared.choice and self._chooser:
            request = msgspec.structs.replace(request, model=self._chooser.name, effort=effort)
        return request_key(request, server=self._parts.server)

    def _task(self, call: AgentTask, materials: "tuple[Material, ...]") -> "Task":
        options = self._common | call.options
        skills = options.get("skills", NO_SKILLS)
        assert isinstance(skills, LoadedSkills), "a line has none of its own, and those of all lines were read before"  # noqa: S101 - it cannot happen
        return task_of(call.agent_name, call.task, options, materials=materials, skills=skills)

    def _definition(self, name: str) -> "AgentDefinition":
        if name not in self._found:
            try:
                self._found[name] = self._parts.agents.find(name)
            except InputError as error:
                self._found[name] = error
        found = self._found[name]
        if isinstance(found, InputError):
            raise found
        return found

    def _hash(self, agent: str, name: str | int | None, key: str) -> str:
        """Without the fallback models: who adds one because of an overload wants to go on, and not to begin anew."""
        asked = hashlib.sha256(msgspec.json.encode((agent, name, key)))
        digest = asked.digest()
        self._seen[digest] += 1
        asked.update(b"%d" % self._seen[digest])
        return asked.hexdigest()


def _faulty(path: str | None, problems: list[str]) -> TasksFileError:
    listed = "".join(f"\n  {problem}" for problem in problems[:MOST_FAULTS])
    more = f"\n  and {len(problems) - MOST_FAULTS} more" if len(problems) > MOST_FAULTS else ""
    name = repr(path) if path else "standard input"
    message = f"{name} has {len(problems)} fault(s), so nothing was sent; mend them:{listed}{more}"
    return TasksFileError(message, path=path, problems=tuple(problems))


# ---------------------------------------------------------------- results


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """Why a task has no answer, or none that is whole."""

    type: str
    message: str
    exit_code: int
    is_terminal: bool


class ResultLine(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a results file. The order of the fields is that in the file, and `number` marks a line as ours."""

    number: int
    id: str | int | None
    agent: str
    hash: str
    status: Status
    result: dict[str, Any] | None
    """`AgentResult.to_dict()`; there for an answer that was cut as well, whose status is `failed`."""
    error: Failure | None

    def to_json(self) -> bytes:
        """The line, with its end."""
        return msgspec.json.encode(self) + b"\n"


def result_line(task: FileTask, result: AgentResult | ClaudeForceError) -> ResultLine:
    """How this task ended, as it is written down."""
    failure = failure_of(result)
    is_unsent = isinstance(result, NotRunError | BudgetError)
    status: Status = "done" if failure is None else "not_run" if is_unsent else "failed"
    return ResultLine(
        number=task.number,
        id=task.id,
        agent=task.call.agent_name,
        hash=task.hash,
        status=status,
        result=result.to_dict() if isinstance(result, AgentResult) else None,
        error=failure,
    )


def failure_of(result: AgentResult | ClaudeForceError) -> Failure | None:
    """What is wrong with it; `None` for a whole answer."""
    if isinstance(result, ClaudeForceError):
        kind, message, code = type(result).__name__, str(result), result.exit_code
        return Failure(type=kind, message=message, exit_code=code, is_terminal=result.is_terminal)
    if result.is_whole:
        return None
    message = f"the answer is not whole ({result.stop_reason}); raise max_tokens or give less material"
    return Failure(type="CutAnswerError", message=message, exit_code=1, is_terminal=False)


class _KnownLine(msgspec.Struct, frozen=True):
    """What matters of a line that was written earlier."""

    number: int
    hash: str
    status: Status


_known_decoder = msgspec.json.Decoder(_KnownLine)


class ResultsFile:
    """The file that results are appended to; one process at a time has it.

    A line is there whole or not at all: what a crash cut is removed when the file is opened, what a full disk cut at
    once. Raises `TasksFileError` for a file that another process has, or that holds anything but results.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = _opened(path)
        try:
            self.known: dict[str, Status] = dict(self._read())
            """The last status of each hash."""
        except BaseException:
            os.close(self._file)
            raise

    def append(self, line: ResultLine) -> None:
        """Write the line down; it is with the system when this returns. Raises `ClaudeForceError`."""
        if line.status == self.known.get(line.hash) == "not_run":
            return  # said already; 100,000 of them after each try would only fill the disk
        self.known[line.hash] = line.status
        data = line.to_json()
        size = os.lseek(self._file, 0, os.SEEK_END)
        try:
            written = os.write(self._file, data)
        except OSError as error:
            raise self._unwritable(error.strerror or type(error).__name__) from error
        if written != len(data):
            os.ftruncate(self._file, size)
            raise self._unwritable("there is no room for the whole line")

    def close(self) -> None:
        """Have the disk keep what was written, and let the next process have the file."""
        try:
            os.fsync(self._file)
        finally:
            os.close(self._file)

    def _read(self) -> Iterator[tuple[str, Status]]:
        end, line = 0, b"\n"
        for known, line in _known_lines(self.path):
            if known is None:
                os.ftruncate(self._file, end)
                return
            yield known.hash, known.status
            end += len(line)
        if not line.endswith(b"\n"):  # not before the last one was read, or this would be read as well
            os.write(self._file, b"\n")

    def _unwritable(self, reason: str) -> ClaudeForceError:
        return ClaudeForceError(
            f"cannot write to {str(self.path)!r}: {reason}; mend that, and the same command goes on from there"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def known_results(path: Path) -> dict[str, Status]:
    """The last status of each hash in a results file, which is only read; none where there is none."""
    try:
        return {known.hash: known.status for known, _ in _known_lines(path) if known}
    except FileNotFoundError:
        return {}
    except OSError as error:
        said = f"cannot read {str(path)!r}: {error.strerror}; give --output a file that you may read"
        raise TasksFileError(said, path=str(path)) from error


def _known_lines(path: Path) -> Iterator[tuple[_KnownLine | None, bytes]]:
    """What is known, line by line; `None` for a last one that a crash has cut. Raises `TasksFileError`, `OSError`."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                known = _known_decoder.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                if not line.endswith(b"\n") and _is_beginning(line):
                    yield None, line
                    return
                raise TasksFileError(
                    f"line {number} of {str(path)!r} is no result; give another --output, or remove the line",
                    path=str(path),
                    problems=(f"line {number}: {_lowered(str(error))}",),
                ) from error
            yield known, line


def _is_beginning(line: bytes) -> bool:
    """Whether a crash may have left this of a line of ours."""
    start = b'{"number":'
    return line.startswith(start) or start.startswith(line)


def _opened(path: Path) -> int:
    """The locked file, ready to be appended to."""
    try:
        file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o666)
    except OSError as error:
        said = f"cannot write to {str(path)!r}: {error.strerror}; give --output a file that you may write to"
        raise TasksFileError(said, path=str(path)) from error
    try:
        _claim(file, path)
    except BaseException:
        os.close(file)
        raise
    return file


def _claim(file: int, path: Path) -> None:
    if not stat.S_ISREG(os.fstat(file).st_mode):
        said = f"{str(path)!r} is no regular file, so nothing could go on from it; leave --output out for a pipe"
        raise TasksFileError(said, path=str(path))
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        said = f"another claude-force is writing to {str(path)!r}; wait until it has ended, or give another --output"
        raise TasksFileError(said, path=str(path)) from error


def unanswered(tasks: Iterable[FileTask], known: dict[str, Status]) -> list[FileTask]:
    """The tasks that have no answer yet: those that failed, were not run, or are new."""
    return [task for task in tasks if known.get(task.hash) != "done"]
