"""`claude-force models`: the model by which agents are chosen by what a task means, brought from a folder and kept."""

from pathlib import Path

import click

from claude_force.apps.console import example, json_option, note, print_json, print_table
from claude_force.selection.weights import FILES, MODEL, find_models, import_model, own_folder, remove_model

FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


@click.group()
def command() -> None:
    """Add, see and remove the model that knows what tasks mean."""


@command.command("import", epilog=example("claude-force models import ~/Downloads/all-MiniLM-L6-v2"))
@click.argument("folder", type=FOLDER, help=f"Has the files of {MODEL}: {', '.join(FILES)}.")
def import_(folder: Path) -> None:
    """Copy a model into your own data, if its files are what they should be."""
    import_model(folder, into=own_folder())
    click.echo(str(own_folder()))
    note("it is used wherever numpy is installed; `claude-force agents recommend --explain` says so")


@command.command("list", epilog=example("claude-force models list"))
@json_option
def list_(*, as_json: bool) -> None:
    """List the copies on this machine; the first one is used."""
    found = list(find_models())
    if as_json:
        print_json([{"model": MODEL, "folder": str(each.folder), "origin": each.origin} for each in found])
        return
    print_table(("model", "from", "folder"), [(MODEL, each.origin, str(each.folder)) for each in found])
    if not found:
        note("none, so agents are chosen by words alone; `claude-force models import DIR` adds one")


@command.command(epilog=example("claude-force models remove"))
def remove() -> None:
    """Remove the copy that was imported; others are left alone."""
    click.echo("1 removed" if remove_model(own_folder()) else "0 removed")
