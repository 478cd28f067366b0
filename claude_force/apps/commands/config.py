"""`claude-force config`: the configuration as it applies here, its faults, and its upgrade."""

import difflib
import json
from pathlib import Path

import click

from claude_force.apps.console import config_option, example, harmless, json_option, note, print_json
from claude_force.base.config import (
    check_files,
    config_schema,
    current_folder,
    find_config,
    load_settings,
    migrate_config,
    read_config,
    user_folder,
    validate_config,
)
from claude_force.base.errors import ConfigError
from claude_force.stores.files import keep_beside, write_atomically


@click.group()
def command() -> None:
    """See, check and upgrade .claude/claude.json."""


@command.command(epilog=example("claude-force config show | python -m json.tool"))
@config_option
def show(config_path: Path | None) -> None:
    """Print the configuration that applies here, defaults included, as JSON, without passwords of servers."""
    settings = load_settings(config_path)
    note(f"from {settings.path}" if settings.path else "no claude.json found: these are the built-in defaults")
    for change in settings.migrations:
        note(f"upgraded in memory: {change}")
    print_json(settings.config.shown())


@command.command(epilog=example("claude-force config validate --config .claude/claude.json"))
@config_option
@json_option
def validate(config_path: Path | None, as_json: bool) -> None:
    """Check the configuration; every fault is listed, and the exit code is 2 if there is one."""
    settings = load_settings(config_path)
    check_files(settings)
    if as_json:
        print_json({"path": settings.path, "problems": [], "migrations": settings.migrations})
    else:
        click.echo(f"{settings.path or 'built-in defaults'}: valid")
        for change in settings.migrations:
            note(f"upgraded in memory ({change}); `claude-force config migrate` writes it down")


@command.command(epilog=example("claude-force config migrate --dry-run"))
@click.option("--dry-run", is_flag=True, help="Show the difference and write nothing.")
@config_option
def migrate(config_path: Path | None, dry_run: bool) -> None:
    """Upgrade an old claude.json on disk.

    The old file is kept beside the new one, and the difference is shown.
    """
    path = config_path or find_config(current_folder(), home=user_folder())
    if path is None:
        raise ConfigError("no claude.json here or above; `claude-force init` writes one")
    old = read_config(path)
    new = migrate_config(old)
    validate_config(new, path=path)
    if old == new:
        click.echo(f"{path}: up to date, nothing to do")
        return
    text = json.dumps(new, indent=2, ensure_ascii=False) + "\n"
    before = path.read_text(encoding="utf-8-sig").splitlines(keepends=True)
    click.echo(harmless("".join(difflib.unified_diff(before, text.splitlines(keepends=True), str(path), "upgraded"))))
    if dry_run:
        note("nothing was written")
        return
    try:
        kept = keep_beside(path)
        write_atomically(path, text.encode())
    except OSError as error:
        raise ConfigError(f"cannot write beside {str(path)!r}: {error.strerror}; the old file is untouched") from error
    click.echo(f"{path}: upgraded; the old file is {kept}")


@command.command(epilog=example("claude-force config schema > claude.schema.json"))
def schema() -> None:
    """Print the JSON Schema of claude.json, for editors."""
    print_json(config_schema())
