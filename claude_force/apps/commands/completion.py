"""`claude-force completion`: the script that a shell loads to complete our commands."""

import click
from click.shell_completion import shell_complete

from claude_force.apps.console import example

SHELLS = ("bash", "zsh", "fish", "powershell")


@click.command(epilog=example('eval "$(claude-force completion bash)"'))
@click.argument("shell", type=click.Choice(SHELLS), help="The shell to write for.")
def command(shell: str) -> None:
    """Print the completion script of your shell.

    Load it in the shell's start-up file: commands, options and the names of your agents are completed by TAB.
    """
    root = click.get_current_context().find_root().command
    raise SystemExit(shell_complete(root, {}, "claude-force", "_CLAUDE_FORCE_COMPLETE", f"{shell}_source"))
