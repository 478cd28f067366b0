"""What the ledger says of the last while."""

from collections import Counter
from datetime import datetime
from pathlib import Path

import msgspec

from claude_force.insight.ledger import Ledger, LedgerLine


class Count(msgspec.Struct):
    """Executions of some kind."""

    executions: int = 0
    errors: int = 0
    """Those without a whole answer; what the user interrupted is no error."""

    @property
    def error_rate(self) -> float:
        """Errors per execution; 0 where there was none."""
        return self.errors / self.executions if self.executions else 0.0


class Recent(msgspec.Struct):
    """The executions that ended since some moment."""

    all: Count = msgspec.field(default_factory=Count)
    by_model: dict[str, Count] = msgspec.field(default_factory=dict)
    error_types: Counter[str] = msgspec.field(default_factory=Counter)
    interrupted: int = 0
    simulated: int = 0
    unreadable_lines: int = 0


def read_recent(path: Path, *, since: datetime) -> Recent:
    """What ended after `since`. A ledger that is not there is an empty one; one that is no file is an `OSError`."""
    recent, ledger = Recent(), Ledger(path)
    for line in ledger.lines(since=since):
        _add(recent, line)
    recent.unreadable_lines = ledger.unreadable_lines
    return recent


def _add(recent: Recent, line: LedgerLine) -> None:
    if line.error_type == "Interrupted":
        recent.interrupted += 1
        return
    recent.simulated += line.simulated
    for count in (recent.all, recent.by_model.setdefault(line.model or "unknown", Count())):
        count.executions += 1
        count.errors += not line.success
    if not line.success:
        recent.error_types[line.error_type or "unknown"] += 1
