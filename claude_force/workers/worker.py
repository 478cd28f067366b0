"""What a worker does with work: an ordinary turn, with the parts of its own machine.

Its cache, its ledger, its limits and its budgets are its own; what decides the answer came with the work. The answer is
in the worker's journal the moment that it is whole, under the id of the work: when a worker dies before anybody was
told, the same work finds it there, and does not pay for it again.
"""

import logging
from contextlib import suppress
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from claude_force.base.errors import ClaudeForceError, ConfigError, EngineError
from claude_force.engine.parts import Watch
from claude_force.engine.request import Prepared, Task
from claude_force.engine.turn import run_prepared
from claude_force.stores.claims import Claims
from claude_force.stores.entries import StoreError
from claude_force.stores.runs import RunRecord, RunStore
from claude_force.workers.work import Outcome, failed, failure_of, opened_work, sealed_outcome
from claude_force.workflows.journal import Journal, RunCache
from claude_force.workflows.unit import Noting

if TYPE_CHECKING:
    from claude_force.base.records import Execution, Retry
    from claude_force.engine.faces import Awaiting
    from claude_force.engine.parts import Parts
    from claude_force.response_cache import ResponseCache
    from claude_force.stores.budgets import Budgets
    from claude_force.stores.seal import Sealer
    from claude_force.workers.work import Work

KEPT = timedelta(days=7)
"""How long the journal of a worker has an answer; it is needed from a crash until the work is done again."""
PRUNE_EVERY = 1000
"""After so many pieces of work, those are forgotten that are older."""


class Worker:
    """Does work, as much of it at once as it is given."""

    def __init__(
        self, parts: "Parts", *, sealer: "Sealer", seals: "ResponseCache", budgets: "Budgets", journal: Path
    ) -> None:
        """`seals` signs answers, on or off; `budgets` has this machine's limits, `journal` is a file of its own."""
        self._parts, self._sealer, self._seals, self._budgets = parts, sealer, seals, budgets
        self._store = RunStore(journal)
        self._claims = Claims(journal.with_suffix(".lock"))
        self._count = 0

    @property
    def server(self) -> str:
        """Who answers what it is given."""
        return self._parts.server

    async def do(self, outside: "Awaiting", id_: str, sealed: bytes) -> bytes:
        """The outcome of this work, whatever it is. Raises only what ends the worker, such as a cancellation."""
        watch = _Watched()
        if self._count % PRUNE_EVERY == 0:
            outside.later(self._prune)
        self._count += 1
        try:
            work = opened_work(self._sealer, id_, sealed)
            outcome = await self._done(outside, id_, work, watch)
        except ClaudeForceError as error:
            outcome = Outcome(error=failure_of(error))
        except Exception as error:  # a defect of ours: it is the run's to know, and no other worker would do better
            logging.getLogger("claude_force.workers").exception("work %s failed", id_)
            kind = type(error).__name__
            outcome = Outcome(error=failure_of(EngineError(f"the worker failed: {kind}: {error}", work=id_)))
        if watch.executions:
            outcome = msgspec.structs.replace(outcome, execution=watch.executions[-1])
        outcome = msgspec.structs.replace(outcome, retries=tuple(map(failed, watch.retries)))
        return sealed_outcome(self._sealer, id_, outcome)

    def close(self) -> None:
        """Let go of files."""
        self._store.close()

    async def _done(self, outside: "Awaiting", id_: str, work: "Work", watch: "_Watched") -> Outcome:
        if work.server != self._parts.server:
            raise ConfigError(
                f"the run asks {work.server or 'Claude'!r}, and this worker {self._parts.server or 'Claude'!r}; start"
                " both with the same --offline and ANTHROPIC_BASE_URL"
            )
        ledger = Noting(self._parts.ledger)
        watch.executions = ledger.executions
        cache = await outside.call(lambda: self._cache(id_, work))
        config = self._parts.config
        defaults = msgspec.structs.replace(
            config.defaults, max_retries=work.max_retries, attempt_timeout_seconds=work.attempt_timeout_s
        )
        parts = msgspec.structs.replace(
            self._parts,
            cache=cache,
            ledger=ledger,
            config=msgspec.structs.replace(config, defaults=defaults),
            budget=self._parts.budget if work.limit_usd is None else self._limited(id_, work.limit_usd),
        )
        task = Task(
            agent_name=work.agent,
            text=work.task,
            timeout_s=work.timeout_s,
            workflow_id=work.workflow,
            run_id=work.run,
            step_id=work.step,
            others=lambda: work.others,
            run_s=work.run_s,
        )
        prepared = Prepared(
            work.request, work.fallbacks, (), unrouted_model=work.unrouted_model, inference_geo=work.inference_geo
        )
        result = await run_prepared(outside, parts, task, prepared, Watch(on_retry=watch.retries.append))
        if result.cached:
            await outside.drain()  # its line in the ledger is written later
        return Outcome(text=str(result), warnings=result.warnings)

    def _prune(self) -> None:
        """Forget answers of long ago."""
        with suppress(StoreError):
            self._store.prune(older_than=self._parts.clock.now() - KEPT)

    def _limited(self, id_: str, limit_usd: Decimal) -> "Budgets":
        """The limits of this machine, and what the run has set aside."""
        return self._budgets.limited(f"work {id_}", limit_usd, "the run's share for this step")

    def _cache(self, id_: str, work: "Work") -> RunCache:
        """What is asked before anything is paid: what this very work has paid for, then the response cache."""
        journal = Journal(self._store, self._seals, id_)
        with suppress(StoreError):  # what it means is said by the journal
            if self._store.run(id_) is None:
                now = self._parts.clock.now()
                journal.begin(RunRecord(id=id_, workflow=work.workflow, status="running", started_at=now), is_new=True)
        inner = self._parts.cache if work.keeps else None
        return RunCache(journal, self._claims, inner, key=None, reads=True, inner_reads=work.reads)


class _Watched:
    """What a turn tells on its way."""

    def __init__(self) -> None:
        self.retries: list[Retry] = []
        self.executions: list[Execution] = []
