"""What other processes do: `Watcher` looks at the journal of runs and at the ledger, and tells the `Feed`.

They know nothing of a server. One look costs some microseconds, however many pages are open: the number that SQLite
changes with each commit of others, and the size of a file. Only where these are new is anything read, and then in a
thread, and after a look that took long there is a pause that is ten times as long: however large the runs are, a tenth
of a core is all that it takes.
"""

import asyncio
import logging
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from claude_force.apps.dashboard.shapes import RunFacts, StepEvent, StepFacts, StepState
from claude_force.base.errors import ClaudeForceError

if TYPE_CHECKING:
    from claude_force.apps.dashboard.reading import Reader
    from claude_force.apps.dashboard.stream import Feed

LOOK_S = 0.2
"""A run shows up within a second, with room for a slow machine."""
REST = 10
"""So many times as long as a look took, nothing is looked at."""
NEWEST = 20
"""More runs do not begin and end between two looks, or are not seen to; the list of runs has them."""
MOST_RUNNING = 100

Seen = dict[str, tuple[RunFacts, dict[str, StepFacts]]]


class Watcher:
    """One for each server."""

    def __init__(self, reader: "Reader", ledger: Path, feed: "Feed") -> None:
        self._reader = reader
        self._ledger = ledger
        self._feed = feed
        self._seen: Seen = {}
        self._has_warned = False

    def steps(self) -> dict[StepState, int]:
        """How many steps of runs under way have no end yet, by what is known of them."""
        found: dict[StepState, int] = {"running": 0, "ready": 0, "waiting": 0}
        for run, steps in self._seen.values():
            for step in steps.values() if run.status == "running" else ():
                if step.status in found:
                    found[step.status] += 1
        return found

    async def watch(self) -> None:
        """Look again and again, until it is cancelled."""
        changes, size = await self._changes(), _size(self._ledger)
        await self._look(tells=False)
        while True:
            await asyncio.sleep(LOOK_S)
            begun = time.monotonic()
            if (now := await self._changes()) != changes:
                changes = now
                await self._look(tells=True)
            if (now_size := _size(self._ledger)) != size:
                size = now_size
                self._feed.publish("ledger", {"at": datetime.now(UTC)})
            self._feed.ring()
            await asyncio.sleep((time.monotonic() - begun) * REST)

    async def _changes(self) -> object:
        try:
            return self._reader.history.changes()
        except ClaudeForceError as error:
            self._warn(error)
            return None

    async def _look(self, *, tells: bool) -> None:
        try:
            found = await asyncio.to_thread(self._found)
        except ClaudeForceError as error:  # a journal that cannot be read must not keep others from being served
            self._warn(error)
            return
        if tells:
            self._tell(found)
        self._seen = found

    def _found(self) -> Seen:
        """The newest runs, and those under way with their steps; what is over and was seen so is not read again."""
        history, seen = self._reader.history, self._seen
        running = history.runs(status="running", limit=MOST_RUNNING)
        runs = {run.id: run for run in (*history.runs(limit=NEWEST), *running)}
        were_running = {run_id for run_id, (run, _) in seen.items() if run.status == "running"}
        found: Seen = {}
        for run_id in {**runs, **dict.fromkeys(were_running)}:
            facts = run_id in runs and self._reader.run_facts(runs[run_id])
            if facts and facts.status != "running" and run_id in seen and seen[run_id][0] == facts:
                found[run_id] = facts, {}
                continue
            with suppress(ClaudeForceError):  # it was pruned meanwhile, or is a run that nobody could have noted
                run = history.find(run_id)
                steps = self._reader.steps(run)[1]
                found[run_id] = self._reader.run_facts(run), {step.id: step for step in steps}
        return found

    def _tell(self, found: Seen) -> None:
        for run_id, (run, steps) in found.items():
            before, steps_before = self._seen.get(run_id, (None, {}))
            if before is None:  # a run before its steps; its end after theirs
                self._feed.publish("run", run, run=run_id)
            for step in steps.values():
                if steps_before.get(step.id) != step:
                    self._feed.publish("step", StepEvent(run_id=run_id, step=step), run=run_id)
            if before is not None and run != before:
                self._feed.publish("run", run, run=run_id)

    def _warn(self, error: ClaudeForceError) -> None:
        if not self._has_warned:
            self._has_warned = True
            logging.getLogger("claude_force.dashboard").warning("what other processes do is not seen: %s", error)


def _size(path: Path) -> object:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
