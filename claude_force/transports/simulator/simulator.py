"""The simulator itself: a server that can be told what to do, watched, held back and stopped."""

import queue
import signal
from dataclasses import replace
from typing import TYPE_CHECKING

from claude_force.base.clock import SystemClock
from claude_force.base.errors import InputError
from claude_force.transports.simulator.api import MessagesApi
from claude_force.transports.simulator.board import Board, Gate, Stats
from claude_force.transports.simulator.limits import ApiLimits
from claude_force.transports.simulator.script import AnswerSource, Latency, Script, SeenRequest, Step
from claude_force.transports.simulator.server import Server

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import FrameType, TracebackType
    from typing import Self

    from claude_force.base.clock import Clock
    from claude_force.transports.simulator.script import Rule

LOOPBACK_HOSTS = ("127.0.0.1", "::1", "localhost")


class Simulator:
    """A Messages API on loopback, which costs nothing and does as it is told.

    Point the SDK at `base_url`, with any API key (but `"invalid"`, which is refused). All methods may be called from
    any thread; `wait_until` blocks, so call it from async tests by `asyncio.to_thread`.

    Args:
        answer: What is answered: a text, an `Answer`, a list of them in order of arrival, or a function of the request
            (called in the server's thread, so it must not wait). `None`: a text that says that it is simulated.
        faults: What the first requests get instead, in order of arrival; `None` leaves one alone.
        rules: What requests of a certain kind get.
        latency: Seconds until an answer begins, or a `Latency`.
        seed: Fixes ids, latencies and probabilities.
        host: Loopback only.
        port: 0 takes a free one.
        clock: Gives the time of day, the age of what the prompt cache keeps, and the time in which limits refill.
            Latencies take real time.
        max_recorded: How many of the last requests are kept in `requests`; 0 keeps none.
        limits: What may be asked of each model in a minute; `None` limits nothing.
        batch_polls: How often a message batch has to be asked for until it has ended.

    Example:
        >>> from claude_force.testing import ApiFault, Simulator
        >>> with Simulator(answer="Looks good.", faults=[ApiFault(529), ApiFault(529)]) as simulator:
        ...     simulator.base_url.startswith("http://127.0.0.1:")
        True
    """

    def __init__(
        self,
        answer: AnswerSource = None,
        *,
        faults: "Sequence[Step]" = (),
        rules: "Sequence[Rule]" = (),
        latency: Latency | float = 0.0,
        seed: int = 0,
        host: str = "127.0.0.1",
        port: int = 0,
        clock: "Clock | None" = None,
        max_recorded: int = 1000,
        limits: ApiLimits | None = None,
        batch_polls: int = 1,
    ) -> None:
        if host not in LOOPBACK_HOSTS:
            raise InputError(f"the simulator cannot listen on {host!r}; it has no security: use {LOOPBACK_HOSTS[0]!r}")
        self._host = host
        self._port = port
        self._board = Board()
        self._gate = Gate()
        self._api = MessagesApi(
            Script(answer, faults, rules),
            latency if isinstance(latency, Latency) else Latency(latency),
            limits=limits or ApiLimits(),
            seed=seed,
            clock=clock or SystemClock(),
            max_recorded=max_recorded,
            batch_polls=batch_polls,
        )
        self._server: Server | None = None

    @property
    def base_url(self) -> str:
        """Where it listens, for `ANTHROPIC_BASE_URL`; the port is kept when it is stopped and started again."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}"

    @property
    def stats(self) -> Stats:
        """The counts of this moment."""
        return replace(self._board.stats(), batch_usage=self._api.batch_usage)

    @property
    def requests(self) -> tuple[SeenRequest, ...]:
        """The last requests, oldest first."""
        return tuple(self._api.seen.copy())

    def start(self) -> "Self":
        """Listen; returns when requests can come. Starting twice is fine."""
        if self._server is None:
            server = Server(self._api, self._board, self._gate)
            try:
                self._port = server.start(self._host, self._port)
            except OSError as error:
                raise InputError(
                    f"the simulator cannot listen on port {self._port!r}: {error.strerror}; use port 0 for a free one"
                ) from error
            self._server = server
        return self

    def stop(self) -> None:
        """Close the port, every connection and the thread. Stopping twice is fine."""
        if self._server is not None:
            self._server.stop()
            self._server = None

    def script(self, *steps: Step) -> None:
        """Say what the next requests get, in order of arrival, after what was said before."""
        self._api.script.add(*steps)

    def hold(self) -> None:
        """Keep back all answers to `/v1/messages` that have not begun, until `release`."""
        self._gate.close()

    def release(self, count: int | None = None) -> None:
        """Let the next `count` answers go, those that wait first; `None` lets all go and ends the `hold`."""
        for go in self._gate.open(count):
            if self._server:
                self._server.call(go)

    def wait_until(self, predicate: "Callable[[Stats], bool]", *, timeout_s: float = 60.0) -> Stats:
        """Block until the counts are as wanted, and return them; raises `TimeoutError` with the counts as they are.

        Example:
            >>> with Simulator() as simulator:
            ...     simulator.wait_until(lambda stats: stats.in_flight == 0).max_in_flight
            0
        """
        with self._board.changed:
            if not self._board.changed.wait_for(lambda: predicate(self.stats), timeout_s):
                raise TimeoutError(
                    f"the simulator did not get there within {timeout_s} s: {self.stats}; raise timeout_s"
                )
            return self.stats

    def __enter__(self) -> "Self":
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: "TracebackType | None"
    ) -> None:
        self.stop()


def serve(port: int = 0, *, on_ready: "Callable[[str], None]", seed: int = 0) -> signal.Signals:
    """Run a simulator until SIGINT or SIGTERM, and return which it was. For the main thread of a program only.

    `on_ready` is called with the base URL once requests can come.
    """
    arrived: queue.SimpleQueue[int] = queue.SimpleQueue()  # the one queue that a signal handler may put into

    def note(number: int, _frame: "FrameType | None") -> None:
        arrived.put(number)

    previous = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with Simulator(port=port, seed=seed, max_recorded=0) as simulator:
            on_ready(simulator.base_url)
            return signal.Signals(arrived.get())
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
