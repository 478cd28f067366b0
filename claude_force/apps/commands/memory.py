"""`claude-force memory`: what agents did before, found, shown, exported and forgotten."""

from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from claude_force.apps.console import (
    age,
    ask,
    beginning,
    config_option,
    example,
    hours,
    json_option,
    note,
    print_json,
    print_json_line,
    print_table,
    print_text,
    yes_option,
)
from claude_force.base.errors import InputError
from claude_force.orchestrator import Project

if TYPE_CHECKING:
    from collections.abc import Iterator

    from claude_force.agent_memory import AgentMemory, Session


@click.group()
def command() -> None:
    """Search, show and forget what agents did before."""


@command.command(epilog=example('claude-force memory search "review the retry loop"'))
@click.argument("task")
@click.option("--agent", help="Only what this agent did.")
@click.option("--limit", type=click.IntRange(min=1), default=5, show_default=True, help="So many, at most.")
@click.option("--success/--failure", default=None, help="Only what went well, or did not.")
@click.option("--max-age", metavar="AGE", help="Nothing older: 12h, 7d, 2w.")
@click.option(
    "--min-relevance",
    type=click.FloatRange(0, 1),
    help="Only what has at least this share of the task's words, the rare ones counting more.",
)
@config_option
@json_option
def search(
    *,
    task: str,
    agent: str | None,
    limit: int,
    success: bool | None,
    max_age: str | None,
    min_relevance: float | None,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """Find the sessions whose tasks are like TASK, the most alike first; there may be none."""
    from claude_force.agent_memory import MIN_RELEVANCE  # noqa: PLC0415 - not for --help

    with _memory(config_path) as memory:
        found = memory.get_similar_sessions(
            agent,
            task,
            limit,
            success=success,
            max_age=None if max_age is None else timedelta(hours=hours(max_age)),
            min_relevance=MIN_RELEVANCE if min_relevance is None else min_relevance,
        )
    if as_json:
        print_json([_facts(session) for session in found])
        return
    rows = [(str(s.id), f"{s.relevance:.2f}", s.agent_name, _end(s), _age(s), beginning(s.task)) for s in found]
    print_table(("session", "relevance", "agent", "end", "age", "task"), rows)
    if not found:
        note("nothing like it was done before")


@command.command(epilog=example("claude-force memory show 12"))
@click.argument("session", type=click.IntRange(min=1))
@config_option
@json_option
def show(session: int, config_path: Path | None, as_json: bool) -> None:
    """Show one session: its task and how it ended."""
    with _memory(config_path) as memory:
        found = memory.get_session(session)
    if as_json:
        print_json(_facts(found))
        return
    note(f"session {found.id}: {found.agent_name}, {_end(found)}, {found.timestamp:%Y-%m-%d %H:%M:%S} UTC")
    print_text(f"{found.task}\n\n{found.result}")


@command.command(epilog=example("claude-force memory stats --json"))
@config_option
@json_option
def stats(config_path: Path | None, as_json: bool) -> None:
    """Show how much is remembered, by agent."""
    with _memory(config_path) as memory:
        facts = memory.get_stats()
    if as_json:
        print_json({name: value for name, value in facts.items() if not name.startswith("query")})
        return
    agents = facts["by_agent"].items()
    print_table(
        ("agent", "sessions", "successes"), [(a, f"{n['sessions']:,}", f"{n['successes']:,}") for a, n in agents]
    )
    note(f"{facts['sessions']:,} sessions, {facts['size_mb']:.1f} MB in {facts['path']}")


@command.command(epilog=example("claude-force memory forget 12 13"))
@click.argument("sessions", type=click.IntRange(min=1), nargs=-1, required=True)
@config_option
def forget(sessions: tuple[int, ...], config_path: Path | None) -> None:
    """Remove these sessions for good."""
    with _memory(config_path) as memory:
        removed = memory.forget(*sessions)
    click.echo(f"{removed:,} removed")
    if removed < len(set(sessions)):
        raise InputError(
            f"{len(set(sessions)) - removed:,} of these sessions are not there; `memory search` finds some"
        )


@command.command(epilog=example("claude-force memory prune --older-than 90d"))
@click.option("--older-than", metavar="AGE", required=True, help="Sessions of before: 12h, 7d, 2w.")
@yes_option
@config_option
def prune(older_than: str, yes: bool, config_path: Path | None) -> None:
    """Remove old sessions for good."""
    limit = timedelta(hours=hours(older_than))
    if not yes:
        ask(f"Remove all sessions of more than {older_than} ago?")
    with _memory(config_path) as memory:
        click.echo(f"{memory.prune(older_than=limit):,} removed")


@command.command(epilog=example("claude-force memory export > sessions.jsonl"))
@click.option("--agent", help="Only what this agent did.")
@config_option
def export(agent: str | None, config_path: Path | None) -> None:
    """Print all sessions, oldest first, a line of JSON each."""
    with _memory(config_path) as memory:
        for session in memory.sessions(agent_name=agent):
            print_json_line(msgspec.json.encode(_facts(session)) + b"\n")


@contextmanager
def _memory(config_path: Path | None) -> "Iterator[AgentMemory]":
    memory = Project(config_path).memory
    try:
        yield memory
    finally:
        memory.close()


def _facts(session: "Session") -> dict[str, Any]:
    facts = msgspec.structs.asdict(session)
    if session.relevance is None:
        del facts["relevance"]
    return facts | {"timestamp": session.timestamp.isoformat()}


def _end(session: "Session") -> str:
    return "success" if session.success else "failure"


def _age(session: "Session") -> str:
    return age(max((datetime.now(UTC) - session.timestamp).total_seconds(), 0))
