"""The `claude-force` command. Each group of commands is imported only when it is called, so that `--help` is fast.

Exit codes: 0 done, 1 failed, 2 bad usage or config, 3 credentials, 4 budget or account limit, 5 rate limit or overload
after retries, 6 refusal, 130 and 143 interrupted (Ctrl-C, SIGTERM), 141 left by the reader of a pipe.
"""

import atexit
import gc
import os
import signal
import sys
from importlib import import_module
from io import TextIOWrapper
from types import FrameType
from typing import NoReturn

import click

from claude_force import __version__
from claude_force.base.errors import ClaudeForceError

# name of the command: one line of help. The command itself is `claude_force.apps.commands.<name>.command`, with `_`
# for `-`.
COMMANDS = {
    "agents": "See and check the agents that can be called.",
    "analytics": "Show how executions went, and what was spent and saved.",
    "batch": "See, collect and cancel message batches.",
    "budgets": "Show what was spent of the config's limits.",
    "cache": "See, check, prune, share and warm the answers that are kept.",
    "completion": "Print the script that completes commands in your shell.",
    "config": "See, check and upgrade the configuration.",
    "doctor": "Say what is found, what is wrong, and how to mend it.",
    "execute": "Run one agent on one task.",
    "health": "Say how things go: config, agents, disk, the last hour's errors.",
    "init": "Write a starter .claude/ with agents, skills and workflows.",
    "memory": "Search, show and forget what agents did before.",
    "metrics": "Roll up what was written down of executions.",
    "models": "Add, see and remove the model that knows what tasks mean.",
    "run-workflow": "Run a workflow: what is ready runs now, and what is paid is kept.",
    "runs": "See, compare and remove the runs of workflows.",
    "serve": "Serve a page with all that runs, and an API, health and metrics.",
    "simulator": "Serve the Messages API on loopback, without a model.",
    "skills": "See and check skills, and what choosing them by task saves.",
    "worker": "Do the steps of workflows that are run with --engine durable.",
    "workflows": "See, check, draw and plan the workflows that can be run.",
}


_TRACED = {"batch", "cache", "execute", "run-workflow", "worker"}
"""Those that may ask a model."""


class LazyGroup(click.Group):
    """A group that knows its commands' names and imports one when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Every command, in order of name."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name; unless a shell asks, one that is not there is an error with the nearest."""
        if cmd_name not in COMMANDS:
            if ctx.resilient_parsing:
                return None
            raise click.NoSuchCommand(cmd_name, possibilities=COMMANDS, ctx=ctx)
        module = cmd_name.replace("-", "_")
        command: click.Command = import_module(f"claude_force.apps.commands.{module}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's signature
        """The list of commands in the help, without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> object:
        """As click does, but who reads our output and leaves ends us as it ends any program, and makes no failure."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            sys.stdout = None  # as in `fail`
            raise click.exceptions.Exit(128 + signal.SIGPIPE) from error


@click.command(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog='\b\nWithout a key:\n  claude-force execute python-expert "What does this do?" --file main.py --offline',
)
@click.version_option(__version__, prog_name="claude-force", message="%(prog)s %(version)s")
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    envvar="CLAUDE_FORCE_LOG_LEVEL",
    help="Log what happens, from this level on, to stderr. [env: CLAUDE_FORCE_LOG_LEVEL]",
)
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    envvar="CLAUDE_FORCE_LOG_FORMAT",
    help="How, with --log-level info unless that is given. [env: CLAUDE_FORCE_LOG_FORMAT]",
)
@click.pass_context
def cli(ctx: click.Context, log_level: str | None, log_format: str | None) -> None:
    """Run your .claude/agents from the shell: make, for Claude agents."""
    if log_level or log_format:
        from claude_force.apps.telemetry import log  # noqa: PLC0415 - 10 ms that only a log pays

        log(log_level or "info", log_format or "text")
    if ctx.invoked_subcommand in _TRACED and any(name.startswith("OTEL_") for name in os.environ):
        from claude_force.apps.telemetry import trace  # noqa: PLC0415 - as above

        ctx.call_on_close(trace(os.environ))


def main() -> NoReturn:
    """Run the command line and exit with a code that says how it went."""
    atexit.register(gc.freeze)  # or the interpreter looks through all that is loaded for cycles, just to forget it
    stopped_by = _catch_signals()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a character that the terminal lacks must not cost a paid answer
            stream.reconfigure(errors="backslashreplace")
    try:
        sys.exit(cli.main(standalone_mode=False))
    except ClaudeForceError as error:
        fail(type(error).__name__, str(error), error.exit_code)
    except click.exceptions.NoArgsIsHelpError as error:  # its message is the help page
        if sys.stderr is not None:
            click.echo(error.format_message(), err=True)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        if isinstance(error, click.UsageError) and error.ctx is not None and sys.stderr is not None:
            click.echo(f"{error.ctx.get_usage()}\nTry '{error.ctx.command_path} --help' for help.", err=True)
        fail(type(error).__name__, error.format_message(), error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        fail("Interrupted", "interrupted", 128 + stopped_by[0])
    except OSError as error:
        sys.stdout = None  # as in `fail`
        where = "input or output failed" if error.filename is None else repr(os.fsdecode(error.filename))
        fail("OSError", f"{where}: {error.strerror or error}; make room, or give a path that you may use", 1)


def _catch_signals() -> list[signal.Signals]:
    """SIGTERM and SIGHUP end us as Ctrl-C does, whoever handles that then: us, or an event loop. Gives which it was."""
    stopped_by = [signal.SIGINT]

    def end(number: int, frame: FrameType | None) -> None:
        stopped_by[0] = signal.Signals(number)
        handler = signal.getsignal(signal.SIGINT)
        (handler if callable(handler) else signal.default_int_handler)(signal.SIGINT, frame)

    for ending in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(ending) is not signal.SIG_IGN:  # nohup wants to be left alone
            signal.signal(ending, end)
    return stopped_by


def fail(kind: str, message: str, exit_code: int) -> NoReturn:
    """Say what went wrong, on stdout as well where JSON was asked for, and exit."""
    from claude_force.apps.console import note, print_json  # noqa: PLC0415 - only a failure needs it

    if "--json" in sys.argv:
        try:
            print_json({"error": {"type": kind, "message": message, "exit_code": exit_code}})
        except OSError:
            sys.stdout = None  # or Python would fail once more at the end, and exit with 120
    note(message, kind="error")
    sys.exit(exit_code)
