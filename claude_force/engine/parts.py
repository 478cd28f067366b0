"""What a turn works with, who looks on, and how far it has come."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeVar

import msgspec

from claude_force.base.spans import find_none
from claude_force.engine.traffic import Traffic

if TYPE_CHECKING:
    from datetime import datetime

    from claude_force.base.clock import Clock
    from claude_force.base.config import Config
    from claude_force.base.endpoints import Endpoint
    from claude_force.base.ports import AgentFinder, Budget, Ledger, Memory, OnRetry, OnText, Pricer, ReplyCache
    from claude_force.base.records import AgentDefinition, Execution, KeptReply, ModelRecommendation, Reply, Request
    from claude_force.base.spans import Spans
    from claude_force.engine.outside import Outside
    from claude_force.engine.request import Task

    Choose = Callable[[Task, AgentDefinition], ModelRecommendation]

Seen = TypeVar("Seen")


class Parts(msgspec.Struct, frozen=True, kw_only=True):
    """What a turn works with; `orchestrator.Project` makes one and both faces share it."""

    agents: "AgentFinder"
    prices: "Pricer"
    ledger: "Ledger"
    clock: "Clock"
    config: "Config"
    traffic: Traffic
    cache: "ReplyCache | None" = None
    budget: "Budget | None" = None
    """What may be spent; `None` where there is no limit."""
    memory: "Callable[[], Memory] | None" = None
    """Gives what agents did before; called by who wants it."""
    choose: "Choose | None" = None
    """The router, for where nobody names a model; `None` where it is off. It reads the ledger, so it may stall."""
    find_spans: "Callable[[], Spans]" = find_none
    """Gives where the spans of a piece of work go; called as it begins."""
    aliases: Mapping[str, str] = msgspec.field(default_factory=dict)
    server: str = ""
    """Who answers, as far as it decides the answer: empty for Claude itself."""


class WatcherError(Exception):
    """Carries what a watcher raised out of the turn: it says nothing about the server, whatever its family."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


class Watch(msgspec.Struct, frozen=True):
    """Who looks on while a turn happens."""

    on_text: "OnText | None" = None
    """Gets the text as it arrives. After an `on_retry`, the answer starts again from its beginning."""
    on_retry: "OnRetry | None" = None
    on_warning: "OnText | None" = None
    """Gets each warning as it comes up; most do before anything is sent."""

    def guarded(self) -> "Watch":
        """The same; what they raise is a `WatcherError`."""
        return Watch(_guarded(self.on_text), _guarded(self.on_retry), _guarded(self.on_warning))


def _guarded(callback: Callable[[Seen], None] | None) -> Callable[[Seen], None] | None:
    if callback is None:
        return None

    def call(seen: Seen) -> None:
        try:
            callback(seen)
        except Exception as error:
            raise WatcherError(error) from error

    return call


class Turn(msgspec.Struct, kw_only=True):
    """A turn under way: what was asked, and how far it has come, which the ledger needs even if it goes no further."""

    outside: "Outside"
    parts: Parts
    spans: "Spans"
    task: "Task"
    watch: Watch
    model: str
    """The one that was chosen."""
    unrouted_model: str | None
    """The one that the router was asked instead of; `None` where it has not decided."""
    inference_geo: str | None
    """Where the model must run."""
    output_schema: str | None
    """What the answer has to fit, as JSON text."""
    timeout_s: float
    started_s: float
    timestamp: "datetime"
    replies: list["Reply"] = msgspec.field(default_factory=list)
    """Every reply that this turn paid for, the last one last."""
    asked: list["Request"] = msgspec.field(default_factory=list)
    """The request that each of them answers."""
    kept: "KeptReply | None" = None
    """The reply that was paid for before, or by another turn."""
    attempts: int = 0
    """Requests sent."""
    endpoint: "Endpoint | None" = None
    """That of the last of them."""
    has_unknown_cost: bool = False
    """An attempt may have been billed, and nobody said how much: its answer broke off, or nobody waited for it."""
    failure: str | None = "Interrupted"
    """Until something else is known; a Ctrl-C or a cancellation leaves it so."""
    shared_tokens: int = 0
    """With which other turns began as well, of all that was sent: what the prompt cache could have; an estimate."""
    warming_s: float = 0.0
    """For how long it waited while another turn put its prefix into the prompt cache."""
    execution: "Execution | None" = None
    """What was entered in the ledger, once it was."""
    warnings: list[str] = msgspec.field(default_factory=list)

    @property
    def last(self) -> "Reply | None":
        """The reply that the answer was read from, if there is one yet."""
        if self.kept:
            return self.kept.reply
        return self.replies[-1] if self.replies else None

    @property
    def elapsed_s(self) -> float:
        """Since the turn began."""
        return self.parts.clock.monotonic() - self.started_s

    @property
    def left_s(self) -> float:
        """To the deadline; negative after it."""
        return self.timeout_s - self.elapsed_s

    def warn(self, text: str) -> None:
        """Keep a warning for the result, and tell whoever looks on."""
        self.warnings.append(text)
        if self.watch.on_warning:
            self.watch.on_warning(text)
