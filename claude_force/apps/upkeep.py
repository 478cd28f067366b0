"""What the command line does by itself once an answer is out: the rollup of the ledger, at most once a day."""

import sys
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from claude_force.apps.console import note
from claude_force.base.errors import ClaudeForceError

if TYPE_CHECKING:
    from claude_force.orchestrator import Project


def roll_up_if_due(project: "Project") -> None:
    """Roll up what is a day too old, unless that was tried today. Never fails, and Ctrl-C ends it without harm."""
    with suppress(KeyboardInterrupt):
        if sys.stdout is not None:
            sys.stdout.flush()  # nobody waits for this
        try:
            if _is_due(project):
                project.roll_up()
        except (OSError, ClaudeForceError) as error:
            note(f"old executions are not rolled up: {error}", kind="warning")


def _is_due(project: "Project") -> bool:
    config, path = project.settings.config, project.tracker.path
    if not (config.tracking.enabled and config.metrics.auto_rollup):
        return False
    from claude_force.insight.ledger import first_end  # noqa: PLC0415 - not for --help

    now, first = datetime.now(UTC), first_end(path)
    if first is None or first > now - timedelta(days=config.metrics.keep_days + 1):
        return False
    from claude_force.insight.rollup import last_tried  # noqa: PLC0415 - once in a month at the earliest

    tried = last_tried(path)
    return tried is None or tried.date() != now.date()
