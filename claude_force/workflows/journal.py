"""The journal of a run: each answer in the moment that it is whole, and how each step ended.

`Journal` writes it down. Whatever the disk does costs no answer: one warning, and what could not be written waits until
it can be.
`RunCache` stands before the response cache in every turn of a run: a run that is taken up again finds what it has paid
for, whether or not the response cache still has it, and whatever a step says about caching.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING

from claude_force.base.errors import ConfigError, JournalError
from claude_force.base.records import WHOLE_STOP_REASONS, KeptReply, Reply
from claude_force.response_cache import ResponseCache, entry_of, reply_of
from claude_force.stores.claims import Claims
from claude_force.stores.entries import StoreError
from claude_force.stores.runs import RunRecord, RunStore, StepRecord

if TYPE_CHECKING:
    from datetime import datetime

    from claude_force.base.ports import ReplyCache
    from claude_force.base.results import WorkflowResult

_FAULTS = (OSError, ValueError, ConfigError)
"""What a disk can do, a text that is no Unicode, and a secret that is no good: none may cost an answer."""


class Journal:
    """One run in the journal. Safe for threads."""

    def __init__(self, store: RunStore, seals: ResponseCache, run_id: str) -> None:
        self.run_id = run_id
        self._store = store
        self._seals = seals
        self._writing = threading.Lock()  # protects the order of what waits to be written
        self._unwritten: deque[Callable[[], object]] = deque()
        self._try_at = 0
        """When so many wait, it is tried again: a file that is locked costs each try five seconds."""
        self._has_warned = False

    @property
    def is_complete(self) -> bool:
        """Whether all of it is written down."""
        return not self._unwritten

    def begin(self, run: RunRecord, *, is_new: bool) -> None:
        """The run begins, or goes on."""
        if is_new:
            self._write(lambda: self._store.begin(run))
        else:
            try:
                self._store.take_up(run.id, definition=run.definition, inputs=run.inputs)
            except StoreError as error:  # to go on without what was paid for would be to pay again
                raise JournalError(
                    f"run {run.id!r} cannot be taken up, for the journal of runs cannot be written: {error}",
                    path=str(self._store.path),
                ) from error

    def keep(self, key: str, reply: Reply, *, agent: str, task: str, cost_usd: Decimal | None) -> None:
        """An answer, if it is whole."""
        if reply.stop_reason in WHOLE_STOP_REASONS:
            entry = entry_of(key, reply, agent=agent, task=task, cost_usd=cost_usd, timestamp=self._seals.now())
            self._write(lambda: self._store.keep(self.run_id, key, self._seals.sealed(entry)))

    def note(self, *steps: StepRecord) -> None:
        """How steps ended."""
        self._write(lambda: self._store.note(self.run_id, *steps))

    def answer(self, key: str) -> KeptReply | None:
        """The answer that this run has under this key, if it is signed by us."""
        try:
            sealed = self._store.answer(self.run_id, key)
            entry = None if sealed is None else self._seals.unsealed(key, sealed)
        except _FAULTS as error:
            self._warn("an answer of run %s cannot be read, so it is asked for again: %s", error)
            return None
        if entry is None:
            return None
        return KeptReply(reply=reply_of(entry), cost_usd=entry.estimated_cost, age_s=self._seals.age_seconds(entry))

    def end(self, result: "WorkflowResult", ended_at: "datetime", steps: list[StepRecord]) -> None:
        """The run is over, for now."""
        self._write(
            lambda: self._store.end(
                self.run_id,
                status=result.status,
                ended_at=ended_at,
                cost_usd=result.cost_usd,
                saved_usd=result.saved_usd or Decimal(0),
                error=None if result.error is None else " ".join(str(result.error).split()),
                simulated=result.simulated,
                steps=steps,
            ),
            is_last=True,
        )

    def _write(self, work: Callable[[], object], *, is_last: bool = False) -> None:
        with self._writing:
            self._unwritten.append(work)
            if len(self._unwritten) < self._try_at and not is_last:
                return
            while self._unwritten:
                try:
                    self._unwritten[0]()
                except _FAULTS as error:
                    self._warn("run %s is not written down, and cannot be taken up again until it is: %s", error)
                    if _may_pass(error):
                        self._try_at = 2 * len(self._unwritten)
                        return
                self._unwritten.popleft()
            self._try_at = 0

    def _warn(self, line: str, error: Exception) -> None:
        if not self._has_warned:
            self._has_warned = True
            logging.getLogger("claude_force.runs").warning(line, self.run_id, error, extra={"run_id": self.run_id})


def _may_pass(error: Exception) -> bool:
    """A disk may have room later; a text that is no Unicode stays one."""
    return not isinstance(error.__cause__ or error, UnicodeError)


class RunCache:
    """What the turn of one step asks before it pays. Implements `base.ports.ReplyCache`.

    `reads` is whether the answers that the run has may be given; `inner` is the response cache, or `None`, and
    `inner_reads` whether its answers may be: who refreshes only keeps there.
    """

    def __init__(
        self,
        journal: Journal,
        claims: Claims,
        inner: "ReplyCache | None",
        *,
        key: str | None,
        reads: bool,
        inner_reads: bool,
    ) -> None:
        self.key = key
        """Of the step: that of its first request, under which the run has its answer, whoever gave it. A run that is
        taken up again asks for that one first, and must not pay for it when a fallback has answered."""
        self._journal = journal
        self._claims = claims
        self._inner = inner
        self._reads = reads
        self._inner_reads = inner_reads

    @property
    def is_shared(self) -> bool:
        """Whether the response cache keeps its answers, too."""
        return self._inner is not None

    @property
    def may_stall(self) -> bool:
        """See `ReplyCache.may_stall`."""
        return self._inner is not None and self._inner.may_stall

    @property
    def reads_shared(self) -> bool:
        """Whether what that has is good enough."""
        return self._inner_reads

    def recall(self, key: str, *, agent: str) -> KeptReply | None:
        """See `ReplyCache.recall`."""
        self.key = self.key or key
        return self._inner.recall(key, agent=agent) if self._inner and self._inner_reads else None

    def find(self, key: str, *, agent: str, counts: bool) -> KeptReply | None:
        """See `ReplyCache.find`."""
        if self._reads and (kept := self._journal.answer(key)):
            return kept
        return self._inner.find(key, agent=agent, counts=counts) if self._inner and self._inner_reads else None

    def peek(self, key: str, *, agent: str) -> KeptReply | None:
        """See `ReplyCache.peek`."""
        if self._reads and (kept := self._journal.answer(key)):
            return kept
        return self._inner.peek(key, agent=agent) if self._inner and self._inner_reads else None

    def keep(self, key: str, reply: Reply, *, agent: str, task: str, cost_usd: Decimal | None) -> None:
        """See `ReplyCache.keep`. In the run first: what is in the cache alone does not count for who refreshes that."""
        self._journal.keep(self.key or key, reply, agent=agent, task=task, cost_usd=cost_usd)
        if self._inner:
            self._inner.keep(key, reply, agent=agent, task=task, cost_usd=cost_usd)

    def claim(self, key: str, *, agent: str, is_blocking: bool) -> Callable[[], object] | None:
        """See `ReplyCache.claim`. Of the runs, too: another process may have taken the run up without a cache."""
        release = self._claims.claim(key, is_blocking=is_blocking)
        if release is None or self._inner is None:
            return release
        release_inner = self._inner.claim(key, agent=agent, is_blocking=is_blocking)
        if release_inner is None:
            release()
            return None

        def release_both() -> None:
            release_inner()
            release()

        return release_both
