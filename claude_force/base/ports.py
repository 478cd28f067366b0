"""The few things that the engine asks of the rest of the house, as small protocols.

The engine imports these and nothing behind them; `orchestrator.Project` plugs the real ones in.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, TypeVar

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from decimal import Decimal

    from claude_force.base.endpoints import Endpoint
    from claude_force.base.records import (
        AgentDefinition,
        Caching,
        Execution,
        KeptReply,
        Material,
        Reply,
        Request,
        Retry,
    )
    from claude_force.base.usage import Usage

S = TypeVar("S", bound=msgspec.Struct)
T = TypeVar("T")

UseCache = Literal["refresh"] | bool | None
"""Whether a call may be answered from the cache: `None` and `True` as the config says, `False` never, and
`"refresh"` asks again and keeps the new answer."""
OnText = Callable[[str], None]
"""Called with each piece of text as it arrives; its presence asks the transport to stream."""
OnRetry = Callable[["Retry"], None]
"""Called before the wait for another attempt."""


class Transport(Protocol):
    """A way to Claude that blocks. Raises the `ApiError` family and nothing else."""

    def send(
        self,
        request: "Request",
        *,
        timeout_s: float,
        on_text: OnText | None = None,
        caching: "Caching | None" = None,
        endpoint: "Endpoint" = ...,
    ) -> "Reply":
        """Send once, without retries, within `timeout_s`, by this way."""

    def close(self) -> None:
        """Close every connection; calling it twice is fine."""


class AsyncTransport(Protocol):
    """A way to Claude that is awaited; cancelling closes the connection."""

    async def send(
        self,
        request: "Request",
        *,
        timeout_s: float,
        on_text: OnText | None = None,
        caching: "Caching | None" = None,
        endpoint: "Endpoint" = ...,
    ) -> "Reply":
        """As `Transport.send`, awaited."""

    async def aclose(self) -> None:
        """As `Transport.close`, awaited."""


class CountingTransport(AsyncTransport, Protocol):
    """One whose server can count as well."""

    async def count_tokens(self, request: "Request", *, timeout_s: float, endpoint: "Endpoint" = ...) -> int:
        """How many tokens the prompt has: free, and nothing is answered. Raises the `ApiError` family."""


class AgentFinder(Protocol):
    """Where agents come from."""

    def recall(self, name: str) -> "AgentDefinition | None":
        """The agent of that name if it is known without a look that may stall."""

    def find(self, name: str) -> "AgentDefinition":
        """The agent of that name, or an `AgentError`."""


class Pricer(Protocol):
    """What an answer costs."""

    def cost_usd(
        self, model: str, usage: "Usage | None", at: "datetime", *, asked_as: str | None = None
    ) -> "Decimal | None":
        """US dollars at that time's price; `None` where price or usage is not known."""


class ReplyCache(Protocol):
    """Where replies are kept for whoever asks the same again. Nothing here raises: a cache must not cost an answer."""

    @property
    def may_stall(self) -> bool:
        """Whether `find`, `claim` and what ends a claim take so long, on a server, that others should not wait."""

    def recall(self, key: str, *, agent: str) -> "KeptReply | None":
        """The reply under this key, if it is in memory."""

    def find(self, key: str, *, agent: str, counts: bool) -> "KeptReply | None":
        """The reply under this key, wherever it is. `counts`: whether a miss is one of the figures."""

    def peek(self, key: str, *, agent: str) -> "KeptReply | None":
        """The reply that `find` would give, for who only wants to know: it counts for nothing, and makes no file."""

    def keep(self, key: str, reply: "Reply", *, agent: str, task: str, cost_usd: "Decimal | None") -> None:
        """Keep a reply, if it may be kept."""

    def claim(self, key: str, *, agent: str, is_blocking: bool) -> "Callable[[], object] | None":
        """What ends the claim, if we may ask for this key now; `None` while somebody else does, who will keep it.

        Who blocks its thread may always ask where that very thread has the claim: it would wait for itself.
        """


class Shortage(NamedTuple):
    """Why nothing can be set aside: the limit that is in the way."""

    limit: str
    """As its owner knows it: `budgets.per_day_usd`."""
    limit_usd: "Decimal"
    spent_usd: "Decimal"
    held_usd: "Decimal"
    """Set aside for requests that are under way: what they do not cost comes free again."""


class Hold(Protocol):
    """What is set aside for one request."""

    def settle(self, cost_usd: "Decimal") -> None:
        """Count what it has cost, and let go of the rest. Never raises: what cannot be written stays set aside."""


class Budget(Protocol):
    """What may be spent."""

    def hold(self, usd: "Decimal", *, agent: str, at: "datetime", lease_s: float) -> "Hold | Shortage":
        """Set this much aside in every limit that applies, or say which one has no room for it.

        What is not settled after `lease_s` has a process that nobody will hear of again.
        May stall. Raises `BudgetError` where the budget cannot be kept: then nothing may be spent.
        """


class Documents(Protocol):
    """Small documents on a server that many machines share."""

    @property
    def owner(self) -> str:
        """What this process is known by among all that share them."""

    def change(self, names: "Sequence[str]", kind: type[S], decide: "Callable[[Sequence[S], float], T]") -> T:
        """What the function says of these documents, which it may change, at this moment of the server.

        All of its changes are kept, or none. It is called again if others were faster, and it may meet its own changes
        if an answer got lost. May stall. Raises `OSError` where the server is away, or keeps what nobody knows.
        """

    def warn(self, error: OSError) -> None:
        """Say once that one goes on without the server."""


class Memory(Protocol):
    """What agents did before. Neither method raises: a memory that cannot be used must not cost an answer."""

    def recall(self, task: str, *, agent: str, key: str) -> "tuple[Material, ...]":
        """What this agent did that is like the task, but for what was kept under this key."""

    def keep(self, task: str, result: str, *, agent: str, key: str, success: bool, simulated: bool) -> None:
        """Keep how a task ended."""


class Ledger(Protocol):
    """Where executions are written down."""

    def record(self, execution: "Execution") -> None:
        """Keep one execution. Never raises: a full disk must not cost an answer."""
