"""`claude-force batch`: the message batches of a project, how they stand, their answers, and their end."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from claude_force.apps.console import age, config_option, example, json_option, note, print_json, print_table
from claude_force.orchestrator import Project

if TYPE_CHECKING:
    from claude_force.base.batches import BatchRecord, BatchStatus

_ID = "The batch's id, as `batch list` shows it."


@click.group()
def command() -> None:
    """See, collect and cancel message batches: many tasks at half the price."""


@command.command("list", epilog=example("claude-force batch list"))
@config_option
@json_option
def list_(config_path: Path | None, as_json: bool) -> None:
    """List the batches that were sent from here, newest first. Nothing is asked of the server."""
    project = Project(config_path)
    records = project.batching.store.records(project.parts.server)
    if as_json:
        print_json([_facts(record) for record in records])
        return
    now = datetime.now(UTC)
    rows = [
        (_name(record), record.stage, age((now - record.sent_at).total_seconds()), f"{record.entries:,}")
        for record in records
    ]
    print_table(("batch", "stage", "age", "entries"), rows)
    if not records:
        note("no batches were sent from here")


@command.command(epilog=example("claude-force batch status msgbatch_01HkcTjaV5uDC8jWR4ZsDV8d"))
@click.argument("batch", help=_ID)
@config_option
@json_option
def status(batch: str, config_path: Path | None, as_json: bool) -> None:
    """Ask the server how a batch stands."""
    project = Project(config_path)
    record = project.batching.record(batch)
    stands = None if record.batch_id is None else project.batching.server(record).show(record.batch_id)
    _show(record, stands, as_json=as_json)


@command.command(epilog=example("claude-force batch collect", "claude-force batch collect --json | jq .answered"))
@click.argument("batch", required=False, help=f"{_ID} Without it, all that are not collected.")
@config_option
@json_option
def collect(batch: str | None, config_path: Path | None, as_json: bool) -> None:
    """Wait for a batch, and keep its answers in the cache and in the ledger.

    The command that sent it then gives them at once. Collecting twice counts nothing twice.
    """
    from claude_force.apps.batch import collect_batches  # noqa: PLC0415 - not for --help

    counts, first = collect_batches(Project(config_path), batch)
    if as_json:
        print_json(counts)
    note("{batches} batch(es) collected: {answered} answered, {failed} failed".format_map(counts), kind="done")
    if first is not None:
        note(f"the first that failed: {type(first).__name__}: {first}", kind="error")
        raise SystemExit(first.exit_code)


@command.command(epilog=example("claude-force batch cancel msgbatch_01HkcTjaV5uDC8jWR4ZsDV8d"))
@click.argument("batch", help=_ID)
@config_option
@json_option
def cancel(batch: str, config_path: Path | None, as_json: bool) -> None:
    """Have the server answer nothing more of a batch. What it has answered by then is paid, and can be collected.

    A batch that the server does not know is forgotten here as well, and counts as spent.
    """
    project = Project(config_path)
    record = project.batching.record(batch)
    _show(record, project.batching.cancel(record), as_json=as_json)


def _name(record: "BatchRecord") -> str:
    return record.batch_id or record.id


def _facts(record: "BatchRecord") -> dict[str, Any]:
    return {
        "id": _name(record),
        "stage": record.stage,
        "sent_at": record.sent_at.isoformat(),
        "entries": record.entries,
    }


def _show(record: "BatchRecord", stands: "BatchStatus | None", *, as_json: bool) -> None:
    counts = ("processing", "succeeded", "errored", "canceled", "expired")
    facts = _facts(record)
    if stands is not None:
        facts |= {"status": stands.status, "expires_at": stands.expires_at.isoformat()}
        facts |= {name: getattr(stands, name) for name in counts}
    if as_json:
        print_json(facts)
    else:
        print_table(("what", "is"), [(name, str(value)) for name, value in facts.items()])
