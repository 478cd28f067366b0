"""The `claude-force` command. Each group of commands is imported only when it is called, so that `--help` is fast.

Exit codes: 0 done, 1 failed, 2 bad usage or config, 3 credentials, 4 budget or account limit, 5 rate limit or overload
after retries, 6 refusal, 130 and 143 interrupted (Ctrl-C, SIGTERM).
"""

import signal
import sys
from importlib import import_module
from types import FrameType
from typing import NoReturn

import click

from claude_force import __version__
from claude_force.base.errors import ClaudeForceError

# name of the command: one line of help. The command itself is `claude_force.apps.commands.<name>.command`.
COMMANDS = {
    "agents": "See and check the agents that can be called.",
    "completion": "Print the script that completes commands in your shell.",
    "config": "See, check and upgrade the configuration.",
    "doctor": "Say what is found, what is wrong, and how to mend it.",
    "execute": "Run one agent on one task.",
    "init": "Write a starter .claude/ with agents, skills and workflows.",
    "simulator": "Serve the Messages API on loopback, without a model.",
}


class LazyGroup(click.Group):
    """A group that knows its commands' names and imports one when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Every command, in order of name."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        """The command of that name."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"claude_force.apps.commands.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's signature
        """The list of commands in the help, without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, but an unknown command gets a suggestion."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            import difflib  # noqa: PLC0415 - only a mistake needs it

            nearest = difflib.get_close_matches(args[0], COMMANDS, n=1)
            hint = f"did you mean {nearest[0]!r}?" if nearest else "`claude-force --help` lists the commands"
            ctx.fail(f"there is no command {args[0]!r}; {hint}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> object:
        """As click does; where `--json` was asked for, an error is JSON as well."""
        try:
            return super().invoke(ctx)
        except ClaudeForceError as error:
            if ctx.meta.get("as_json"):
                from claude_force.apps.console import print_json  # noqa: PLC0415 - only a failure needs it

                facts = {"type": type(error).__name__, "message": str(error), "exit_code": error.exit_code}
                print_json({"error": facts})
            raise


@click.command(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog='\b\nWithout a key:\n  claude-force execute python-expert "What does this do?" --file main.py --offline',
)
@click.version_option(__version__, prog_name="claude-force", message="%(prog)s %(version)s")
def cli() -> None:
    """Run your .claude/agents from the shell: make, for Claude agents."""


def main() -> NoReturn:
    """Run the command line and exit with a code that says how it went."""
    stopped_by = [signal.SIGINT]

    def terminate(_: int, frame: FrameType | None) -> None:
        """SIGTERM ends us as Ctrl-C does, whoever handles that at the time: us, or an event loop."""
        stopped_by[0] = signal.SIGTERM
        handler = signal.getsignal(signal.SIGINT)
        (handler if callable(handler) else signal.default_int_handler)(signal.SIGINT, frame)

    signal.signal(signal.SIGTERM, terminate)
    try:
        sys.exit(cli.main(standalone_mode=False))
    except ClaudeForceError as error:
        from claude_force.apps.console import note  # noqa: PLC0415 - only a failure needs it

        note(str(error), kind="error")
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        sys.exit(128 + stopped_by[0])
