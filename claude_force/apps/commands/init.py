"""`claude-force init`: a starter `.claude/` that is worth using from the first day."""

import os
from collections.abc import Iterator
from pathlib import Path

import click

import claude_force
from claude_force.apps.console import example, json_option, note, print_json
from claude_force.base.errors import InputError
from claude_force.stores.files import write_atomically


def starter_folder() -> Path:
    """The starter `.claude/`: inside the installed package, or this repository's own in a source checkout."""
    package = Path(claude_force.__file__).parent
    shipped = package / "starter"
    return shipped if shipped.is_dir() else package.parent / ".claude"


def starter_files(folder: Path) -> Iterator[Path]:
    """The files to offer, relative to `folder`; what claude-force wrote there while it ran is not among them."""
    yield from (Path("claude.json"), Path(".gitignore"))
    for part in ("agents", "skills", "workflows"):
        yield from sorted(path.relative_to(folder) for path in (folder / part).rglob("*") if path.is_file())


@click.command(epilog=example("claude-force init && claude-force agents list"))
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path), default=Path(), help="The project.")
@click.option("--force", is_flag=True, help="Replace files that are there and differ.")
@json_option
def command(folder: Path, force: bool, as_json: bool) -> None:
    """Write a starter .claude/ into the project: agents, skills, workflows and a claude.json.

    Files that exist are kept as they are, unless --force is given.
    """
    source, target = starter_folder(), folder / ".claude"
    written, kept = [], []
    try:
        for name in starter_files(source):
            data, path = (source / name).read_bytes(), target / name
            if os.path.lexists(path) and (not force or (path.is_file() and path.read_bytes() == data)):
                kept.append(path)
            elif not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder)):
                # A repository that was cloned must not have us write to another file of the user's.
                raise InputError(f"{str(path)!r} leads out of {str(folder)!r} by a link; remove that, and try again")
            else:
                write_atomically(path, data)
                written.append(path)
    except OSError as error:
        raise InputError(
            f"cannot write to {str(target)!r}: {error.strerror}; {len(written)} files are written;"
            " give a folder that you may write to"
        ) from error
    if as_json:
        print_json({"written": written, "kept": kept})
        return
    click.echo(f"{target}: {len(written)} files written, {len(kept)} kept as they were")
    note('claude-force execute python-expert "What does this do?" --file YOUR_FILE --offline', kind="next")
