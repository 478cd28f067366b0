"""Stretches of work, told to whoever traces: what the engine says of them, and nothing about how they are kept.

Facts are plain values: names, numbers, money, tokens. Prompts, answers and keys are never among them.
"""

from typing import TYPE_CHECKING, Literal, Protocol, Self

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from claude_force.base.records import Execution, KeptReply, Reply
    from claude_force.base.results import StepResult, WorkflowResult

    Outcome = Reply | Execution | StepResult | WorkflowResult | KeptReply | None
    """Of an attempt, a turn, a step, a run; and what was looked up."""

SpanKind = Literal["run", "step", "turn", "attempt", "lookup", "wait"]


class Span(Protocol):
    """A stretch of work under way, as a `with` block has it. An error that leaves the block is how it ended."""

    def tell(self, outcome: "Outcome") -> None:
        """Add what came of it."""

    def __enter__(self) -> Self:
        """It begins, under the one that is under way in this task or thread."""

    def __exit__(self, *ending: object) -> None:
        """It ends."""


class Spans(Protocol):
    """Where they are told. Nothing here raises: a trace must not cost an answer."""

    def span(self, kind: SpanKind, name: str, **facts: object) -> Span:
        """One that begins with its `with` block; a fact that is `None` says nothing."""

    def here(self) -> "AbstractContextManager[object]":
        """What work that is done later, and elsewhere, is put under what is under way here with."""


class NoSpans:
    """Where nobody traces. Implements `Spans`, and `Span` as well: there is nothing to tell apart."""

    def span(self, kind: SpanKind, name: str, **facts: object) -> Span:  # noqa: ARG002 - the protocol's
        """See `Spans.span`."""
        return self

    def here(self) -> Self:
        """See `Spans.here`."""
        return self

    def tell(self, outcome: "Outcome") -> None:
        """See `Span.tell`."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *ending: object) -> None:
        """See `Span.__exit__`."""


NO_SPANS = NoSpans()


def find_none() -> Spans:
    """Nobody traces."""
    return NO_SPANS
