"""`claude-force cache`: what is kept, what it saved, whether it can be believed, and how to get rid of it."""

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from claude_force.apps.commands.execute import complete_agent
from claude_force.apps.console import (
    age,
    ask,
    beginning,
    config_option,
    example,
    harmless,
    hours,
    is_terminal,
    json_option,
    moves_cursor,
    note,
    price,
    print_json,
    print_table,
    yes_option,
)
from claude_force.base.errors import InputError
from claude_force.orchestrator import Project

if TYPE_CHECKING:
    from claude_force.response_cache import CacheEntry, ResponseCache

# As many digits of a key as `list` shows: enough to tell a million entries apart.
SHORT_KEY = 12


@click.group()
def command() -> None:
    """See, check, prune, share and warm the answers that are kept."""


@command.command(epilog=example("claude-force cache stats", "claude-force cache stats --json | python -m json.tool"))
@config_option
@json_option
def stats(config_path: Path | None, as_json: bool) -> None:
    """Show how much is kept, how often it was of use, and what it saved.

    Figures are totals of all processes since the cache was made; `clear` leaves them.
    """
    with _cache(config_path) as cache:
        facts = cache.get_stats()
    if as_json:
        print_json({name: value for name, value in facts.items() if not name.startswith(("session", "memory"))})
        return
    is_here = facts["max_size_mb"] is not None  # a server has its own limit, and may not tell
    most = f" of {facts['max_size_mb']:g}" if is_here else ""
    rows = [
        ("answers", f"{facts['entries']:,}"),
        ("size", f"{facts['size_mb']:.1f}{most} MB"),
        ("hit rate", f"{facts['hit_rate']} ({facts['hits']:,} of {facts['hits'] + facts['misses']:,})"),
        ("saved", f"${facts['saved_usd']:.4f}"),
        ("evictions", f"{facts['evictions']:,}"),
        ("integrity failures", f"{facts['integrity_failures']:,}"),
    ]
    if is_here:
        rows.append(("file", facts["path"] if facts["on_disk"] else "none: the cache on disk cannot be used"))
    else:
        rows.append(("server", facts["path"] + ("" if facts["on_disk"] else ", which cannot be used now")))
    print_table(("cache", ""), rows)
    agents = facts["by_agent"].items()
    if agents and is_terminal(sys.stdout):
        print_table(
            ("agent", "hit rate", "hits", "misses", "saved"),
            [
                (name, a["hit_rate"], f"{a['hits']:,}", f"{a['misses']:,}", f"${a['saved_usd']:.4f}")
                for name, a in agents
            ],
        )


@command.command("list", epilog=example("claude-force cache list", "claude-force cache list --json"))
@config_option
@json_option
def list_(config_path: Path | None, as_json: bool) -> None:
    """List the answers that are kept, the last used first."""
    with _cache(config_path) as cache:
        rows = [_summary(cache, entry) for entry in cache.entries()][::-1]
    if as_json:
        print_json(rows)
        return
    columns = ("key", "agent", "model", "age", "hits", "saves", "task")
    print_table(
        columns,
        [
            (
                row["key"][:SHORT_KEY],
                row["agent_name"],
                row["model"],
                age(row["age_seconds"]) + ("" if row["is_fresh"] else ", expired"),
                str(row["hit_count"]),
                price(row["estimated_cost"]),
                beginning(row["task"]),
            )
            for row in rows
        ],
    )
    if not rows:
        note("no answers are kept here")


@command.command(epilog=example("claude-force cache show 3f9a0c12d4e5"))
@click.argument("key", help="A key, or its beginning; `cache list` shows them.")
@config_option
@json_option
def show(key: str, config_path: Path | None, as_json: bool) -> None:
    """Show one answer and where it came from: agent, task, model, time, request."""
    with _cache(config_path) as cache:
        found = [entry for entry in cache.entries() if entry.key.startswith(key.lower())]
        if len(found) != 1:
            problem = f"{len(found)} answers have a key" if found else "no answer has a key"
            raise InputError(f"{problem} that begins with {key!r}; `claude-force cache list` shows all")
        facts = _summary(cache, found[0])
    if as_json:
        print_json(facts | {"response": found[0].response})
        return
    facts["timestamp"] = datetime.fromtimestamp(found[0].timestamp, UTC).isoformat(timespec="seconds")
    for name, value in facts.items():
        if value not in (None, "", 0) or name in {"is_fresh", "hit_count"}:
            click.echo(f"{name}: {harmless(str(value))}")
    click.echo(f"\n{harmless(found[0].response)}")


@command.command(epilog=example("claude-force cache verify --repair"))
@click.option("--repair", is_flag=True, help="Move what is forged out of the way, and put the size right.")
@config_option
@json_option
def verify(repair: bool, config_path: Path | None, as_json: bool) -> None:
    """Check every signature and the size; the exit code is 1 if something is wrong and not repaired."""
    bar = click.progressbar(length=0, label="checking", file=sys.stderr, hidden=not moves_cursor(sys.stderr))
    with _cache(config_path) as cache, bar:

        def advance(_: int, total: int) -> None:
            bar.length = total
            bar.update(1)

        check = cache.verify(repair=repair, on_progress=advance)
    if as_json:
        print_json(msgspec.structs.asdict(check) | {"is_clean": check.is_clean})
    else:
        what = "moved out of the way" if repair else "would be moved out of the way by --repair"
        for key in check.forged:
            note(f"{key[:SHORT_KEY]}: its signature is not ours; {what}", kind="warning")
        for key in check.unreadable:
            note(f"{key[:SHORT_KEY]}: another version wrote it, or it is encrypted; left alone", kind="warning")
        if not check.is_size_right:
            note(
                f"the size that is kept is wrong; {'put right' if repair else '--repair puts it right'}", kind="warning"
            )
        click.echo(f"{check.checked:,} checked, {len(check.forged)} forged, {check.expired:,} expired")
    raise SystemExit(0 if check.is_clean or repair else 1)


@command.command(epilog=example("claude-force cache clear --yes"))
@yes_option
@config_option
def clear(yes: bool, config_path: Path | None) -> None:
    """Remove every answer; the figures of the past stay."""
    with _cache(config_path) as cache:
        if not yes:
            facts = cache.get_stats()
            ask(f"Remove {facts['entries']:,} answers from {facts['path']}?")
        click.echo(f"{cache.clear():,} removed")


@command.command(
    epilog=example("claude-force cache prune", "claude-force cache prune --agent code-reviewer --older-than 7d")
)
@click.option("--agent", help="Answers of this agent.")
@click.option("--model", help="Answers of this model, by the id that `cache list` shows.")
@click.option("--older-than", metavar="AGE", help="Answers that are older: 30m, 12h, 7d, 2w.")
@config_option
def prune(agent: str | None, model: str | None, older_than: str | None, config_path: Path | None) -> None:
    """Remove the answers that meet every condition; without one, those that expired."""
    older_than_hours = None if older_than is None else hours(older_than)
    with _cache(config_path) as cache:
        click.echo(f"{cache.prune(agent=agent, model=model, older_than_hours=older_than_hours):,} removed")


@command.command(epilog=example("claude-force cache export answers.bundle"))
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False), help="Where to write it.")
@config_option
def export(file: Path, config_path: Path | None) -> None:
    """Write the fresh answers to one signed file, for another machine.

    Both machines need the same CLAUDE_CACHE_SECRET.
    """
    with _cache(config_path) as cache:
        click.echo(f"{cache.export_bundle(file):,} exported")


@command.command("import", epilog=example("claude-force cache import answers.bundle"))
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False), help="What `cache export` wrote.")
@config_option
def import_(file: Path, config_path: Path | None) -> None:
    """Take the answers of a bundle that are fresh, and newer than what is here.

    A bundle that was changed, cut, or signed with another secret is refused as a whole.
    """
    with _cache(config_path) as cache:
        click.echo(f"{cache.import_bundle(file):,} imported")


@command.command(epilog=example("claude-force cache warm code-reviewer --tasks-file tasks.jsonl --max-usd 0.50"))
@click.argument("agent", shell_complete=complete_agent, help="The agent's name; `agents list` shows them.")
@click.option(
    "--tasks-file",
    required=True,
    type=click.Path(allow_dash=True),
    help="As for `execute`: one JSON string or object a line; `-` reads them from standard input.",
)
@click.option(
    "--max-usd",
    "max_cost_usd",
    type=click.FloatRange(0, min_open=True),
    help="Never pay more: what could pass it is not sent, and the exit code is 4.",
)
@click.option("--max-concurrent", type=click.IntRange(min=1), help="This many at once, at most.")
@click.option("--offline", is_flag=True, help="Ask the built-in simulator: no key, no cost, no real answer.")
@config_option
@json_option
def warm(
    agent: str,
    tasks_file: str,
    max_cost_usd: float | None,
    max_concurrent: int | None,
    offline: bool,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """Ask what is not in the cache yet; prints no answers."""
    from claude_force.apps.batch import warm_cache  # noqa: PLC0415 - no other command asks anything

    code = warm_cache(
        tasks_file,
        agent=agent,
        max_concurrent=max_concurrent,
        max_cost_usd=max_cost_usd,
        config_path=config_path,
        offline=offline,
        as_json=as_json,
    )
    raise SystemExit(code)


def _cache(config_path: Path | None) -> "ResponseCache":
    """The cache of this project, with its limits; switched off or not, it can be looked after."""
    return Project(config_path).make_cache(enabled=True)


def _summary(cache: "ResponseCache", entry: "CacheEntry") -> dict[str, Any]:
    """All but the answer, in JSON's types."""
    facts = {name: value for name, value in msgspec.structs.asdict(entry).items() if name != "response"}
    cost = None if entry.estimated_cost is None else float(entry.estimated_cost)
    own = {"age_seconds": round(cache.age_seconds(entry), 3), "is_fresh": cache.is_fresh(entry)}
    return facts | {"estimated_cost": cost} | own
