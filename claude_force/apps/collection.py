"""A collection at work: how it stands, on the screen, and repaired or imported files on the disk.

Files are written one by one, each whole or not at all, and none is replaced that was not meant to be. What is wrong
with files, and how they are repaired, is found by `library.collection` and `library.repair`.
"""

import contextlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec

from claude_force.apps.console import Command, harmless, moves_cursor, note, print_json, print_table
from claude_force.base.errors import InputError
from claude_force.library.agents import AgentLibrary
from claude_force.library.collection import Examined, Format, Problem, Report, error, examine, kinds, worst_first
from claude_force.library.disk import Folder, resolved
from claude_force.library.repair import Repaired, repair
from claude_force.library.skills import SkillLibrary
from claude_force.stores.files import write_atomically, write_once

# A hostile or a very broken tree can hold thousands; nobody reads them on a screen.
MOST_LINES = 200
_STEP = 250  # files between two looks at the progress: some tenths of a second

Item = TypeVar("Item")


def counted(items: Iterable[Item], what: str) -> Iterator[Item]:
    """The items, and for a person who waits, how many there were so far."""
    is_shown = moves_cursor(sys.stderr)
    for number, item in enumerate(items, 1):
        if is_shown and number % _STEP == 0:
            click.echo(f"\r{number:,} {what}", err=True, nl=False)
        yield item
    if is_shown:
        click.echo("\r\033[K", err=True, nl=False)


def collection_options(command: Command) -> Command:
    """What is to be validated, and how: the parameters that agents and skills share."""
    options = (
        click.argument(
            "paths",
            nargs=-1,
            metavar="[DIR|FILE]...",
            type=click.Path(exists=True, path_type=Path),
            help="Check these files, and all below these folders, instead.",
        ),
        click.option("--strict", is_flag=True, help="Exit with 1 for warnings, too."),
        click.option(
            "--fix", is_flag=True, help="Write a copy of the folder's files with their front matter repaired."
        ),
        click.option("--output", type=click.Path(path_type=Path), help="With --fix: where to, a new folder."),
    )
    for option in reversed(options):
        command = option(command)
    return command


# ------------------------------------------------------------ how it stands


def validate_collection(
    paths: Sequence[Path],
    format_: Format,
    in_use: Callable[[], AgentLibrary | SkillLibrary],
    *,
    strict: bool,
    fix: bool,
    output: Path | None,
    as_json: bool,
) -> int:
    """Check the files at and below the paths, or what is in use, or write a repaired copy; gives the exit code."""
    if fix or output:
        return fix_collection(paths, format_, output if fix else None, strict=strict, as_json=as_json)
    report = Report()
    if paths:
        for file in counted(examine(paths, format_), "files"):
            report.add(file.path, file.outcome)
    else:
        library = in_use()
        for problem in library.problems():
            report.add(Path(problem.path), problem)
        for each in library.load_all():
            report.add(each.path or Path(), each)
        for hidden in library.shadowed():
            report.problems.append(Problem(path=hidden.hidden, kind="duplicate-name", reason=str(hidden)))
    return show_report(report, format_, is_tree=bool(paths), strict=strict, as_json=as_json)


def show_report(report: Report, format_: Format, *, is_tree: bool, strict: bool, as_json: bool) -> int:
    """Print it; gives the exit code."""
    if as_json:
        facts = {"usable": sorted(report.names), "documentation": report.documentation, "kinds": kinds(report.problems)}
        print_json(facts | {"problems": report.errors, "warnings": report.warnings})
    else:
        if is_tree:
            print_kinds(report.problems)
        note_problems(report.problems)
        if not report.usable and not report.unusable:
            what = format_.what
            note(f"no {what} files there; give a folder that holds some, such as .claude/{what}s", kind="warning")
        pages = f", {report.documentation} documentation" if report.documentation else ""
        click.echo(f"{report.usable} usable, {report.unusable} not, {len(report.warnings)} warnings{pages}")
    return 1 if report.unusable or (strict and report.problems) else 0


def print_kinds(problems: Sequence[Problem], *, label: str = "") -> None:
    """The kinds of problems, with how many files have them and one that does."""
    rows = [
        (label or ("error" if count.is_error else "warning"), count.kind, f"{count.files:,}", shown(count.example))
        for count in kinds(problems)
    ]
    if rows:
        print_table(("", "kind of problem", "files", "such as"), rows)


def note_problems(problems: Sequence[Problem], *, label: str = "") -> None:
    """The problems on stderr, the worst files first."""
    for problem in worst_first(problems)[:MOST_LINES]:
        where = shown(problem.path) + ("" if problem.line is None else f":{problem.line}")
        note(f"{where}: {problem.reason}", kind=label or ("error" if problem.is_error else "warning"))
    if len(problems) > MOST_LINES:
        note(f"and {len(problems) - MOST_LINES:,} more; --json has all of them", kind=label or "warning")


def shown(path: Path) -> str:
    """The path on one line, whatever its name holds."""
    return str(path) if str(path).isprintable() else repr(str(path))


def show_one(facts: Mapping[str, Any], warnings: Iterable[str], text: str) -> None:
    """An agent or a skill for a person: what is set of its settings, what is not as it should be, and its text."""
    for name, value in facts.items():
        if value not in (None, "", [], {}, False) and name != "warnings":
            written = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            click.echo(f"{name}: {harmless(written)}")
    for warning in warnings:
        note(warning, kind="warning")
    click.echo(f"\n{harmless(text)}")


# ------------------------------------------------------------ what is written


def fix_collection(paths: Sequence[Path], format_: Format, target: Path | None, *, strict: bool, as_json: bool) -> int:
    """Write the repaired copy and say what was done; gives the exit code."""
    if target is None or len(paths) != 1 or not paths[0].is_dir():
        raise click.UsageError("--fix takes one folder, and --output, where the copy goes; give both")
    written = write_copy(counted(examine(paths, format_), "files"), format_, source=paths[0], target=target)
    fixed = [problem for file in written.repaired for problem in file.fixed]
    left = written.left_out + [problem for file in written.repaired for problem in file.left]
    if as_json:
        print_json(written.as_json(target))
    else:
        print_kinds(fixed, label="fixed")
        print_kinds(left)
        note_problems(fixed, label="fixed")
        note_problems(left)
        changed = sum(bool(file.fixed) for file in written.repaired)
        click.echo(
            f"{shown(target)}: {changed} repaired, {written.unchanged} as they were, {len(written.left_out)} left out"
        )
    return 1 if written.left_out or (strict and left) else 0


class Written(msgspec.Struct, kw_only=True):
    """What became of the files of a collection."""

    unchanged: int = 0
    repaired: list[Repaired] = msgspec.field(default_factory=list)
    """Without their bytes."""
    left_out: list[Problem] = msgspec.field(default_factory=list)

    def as_json(self, target: Path) -> dict[str, Any]:
        """All of it, in JSON's types."""
        return {
            "output": target,
            "unchanged": self.unchanged,
            "repaired": [{"path": file.path, "fixed": file.fixed, "left": file.left} for file in self.repaired],
            "left_out": self.left_out,
        }


def write_copy(files: Iterable[Examined], format_: Format, *, source: Path, target: Path) -> Written:
    """Each usable file, repaired, at its place below `target`: a new or empty folder that lies outside of `source`.

    Raises `InputError`, where the disk refuses as well.
    """
    if resolved(target).is_relative_to(resolved(source)):
        raise InputError(f"{str(target)!r} lies inside {str(source)!r}; give a folder outside of it")
    written = Written()
    with _refused_by_disk(target):
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise InputError(f"{str(target)!r} is there already and not empty; give a new folder")
        for file in files:
            result = repair(file, format_)
            if isinstance(result, Problem):
                written.left_out.append(result)
            elif result is not None:
                _write_new(target / result.path.relative_to(source), result.data)
                written.unchanged += not result.fixed
                if result.fixed or result.left:
                    written.repaired.append(msgspec.structs.replace(result, data=b""))
    return written


def conflicts(files: Sequence[Repaired], target: Path, *, force: bool) -> list[Problem]:
    """Which of the files cannot be put into `target`, each as `NAME.md`, because something is in their way."""
    taken = {
        agent.name: agent.path
        for agent in AgentLibrary([Folder(path=target, source="project", root=target)]).load_all()
    }
    found, placed = [], dict[str, Path]()
    for file in files:
        path = target / f"{file.name}.md"
        first = placed.setdefault(file.name.casefold(), file.path)
        holder = taken.get(file.name, path)
        if first != file.path:
            reason = f"{str(first)!r} makes {file.name!r} as well; rename one"
        elif holder != path:
            reason = f"{str(holder)!r} defines {file.name!r} already; rename or remove one"
        elif path.is_symlink():
            reason = f"{str(path)!r} is a link; remove it"
        elif os.path.lexists(path) and not force and not _has(path, file.data):
            reason = f"{str(path)!r} is there already; --force replaces it"
        else:
            continue
        found.append(error(file.path, "conflict", reason))
    return found


def write_imported(files: Sequence[Repaired], target: Path, *, force: bool) -> int:
    """Each file as `NAME.md` in `target`; how many were not there already.

    Raises `InputError`, where another process was faster as well.
    """
    written = 0
    with _refused_by_disk(target):
        for file in files:
            path = target / f"{file.name}.md"
            if _has(path, file.data):
                continue
            if force:
                write_atomically(path, file.data)
            else:
                _write_new(path, file.data)
            written += 1
    return written


def _write_new(path: Path, data: bytes) -> None:
    if not write_once(path, data):
        raise InputError(f"{str(path)!r} has just been written by somebody else; look at it, and start again")


def _has(path: Path, data: bytes) -> bool:
    with contextlib.suppress(OSError):
        return path.is_file() and path.read_bytes() == data
    return False


@contextlib.contextmanager
def _refused_by_disk(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as fault:
        reason = fault.strerror or type(fault).__name__
        raise InputError(
            f"cannot write to {str(target)!r}: {reason}; the files that are there are whole, the others missing"
        ) from fault
