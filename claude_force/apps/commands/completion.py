"""`claude-force completion`: the script that a shell loads to complete our commands."""

import click
from click.shell_completion import get_completion_class

from claude_force.apps.console import example

SHELLS = ("bash", "zsh", "fish", "powershell")


@click.command(epilog=example('eval "$(claude-force completion bash)"'))
@click.argument("shell", type=click.Choice(SHELLS), help="The shell to write for.")
def command(shell: str) -> None:
    """Print the completion script of your shell.

    Load it in the shell's start-up file: commands, options and the names of your agents are completed by TAB.
    """
    kind = get_completion_class(shell)
    if kind is None:
        raise click.ClickException(f"this click has no completion for {shell!r}; upgrade click to 8.5 or later")
    root = click.get_current_context().find_root().command
    click.echo(kind(root, {}, "claude-force", "_CLAUDE_FORCE_COMPLETE").source())
