"""Which of several ways a request goes: by laws that need no server, and a clock that the test moves."""

from collections import Counter
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from claude_force.base.config import Breaker, Config, Defaults
from claude_force.base.endpoints import Endpoint
from claude_force.base.errors import (
    ApiError,
    ClaudeForceError,
    ConnectionFailedError,
    CredentialsError,
    DeadlineError,
    InvalidRequestError,
    OverloadedError,
    RateLimitError,
    ServerError,
    TimedOutError,
)
from claude_force.base.pricing import Prices
from claude_force.base.records import AgentResult, Reply, Request
from claude_force.base.usage import Usage
from claude_force.engine.endpoints import in_order
from claude_force.engine.faces import run_now
from claude_force.engine.parts import Parts, Watch
from claude_force.engine.request import Task
from claude_force.engine.traffic import Traffic
from claude_force.engine.turn import run_turn
from tests.engine.conftest import StillWorld

if TYPE_CHECKING:
    from claude_force.base.records import Retry

LONG = "A rule that all keep to. " * 400
REPLY = Reply(model="claude-haiku-5-5", text="yes", stop_reason="end_turn", usage=Usage(input_tokens=1))
A, B, C = (Endpoint(name=name) for name in "abc")
BUSY = OverloadedError("busy")


def request(system: str, task: str = "x", model: str = "claude-haiku-5-5") -> Request:
    """What an agent with this prompt is asked."""
    return Request(model=model, system=(system,), prompt=(task,), max_tokens=10)


def first(endpoints: list[Endpoint], system: str, task: str = "x") -> str:
    """Where it goes."""
    return in_order(endpoints, request(system, task))[0].name


# ---------------------------------------------------------------- sticky, and spread


def test_each_gets_its_share_of_the_beginnings() -> None:
    """With the weights 1, 2 and 1, of many agents a quarter, a half and a quarter go to each, in whatever order."""
    endpoints = [A, Endpoint(name="b", weight=2), C]
    counts = Counter(first(endpoints, f"{number} {LONG}") for number in range(4_000))
    # Four standard deviations of the binomial: sqrt(4000 * .25 * .75) is 27.
    assert abs(counts["a"] - 1_000) < 110
    assert abs(counts["b"] - 2_000) < 127
    for number in range(50):
        assert first(endpoints, f"{number} {LONG}") == first(endpoints[::-1], f"{number} {LONG}")


def test_what_begins_alike_stays_together_and_what_is_short_is_spread() -> None:
    """All tasks of an agent go where the prompt cache has its prompt; where it keeps none, each goes by itself."""
    endpoints = [A, B, C]
    assert len({first(endpoints, LONG, f"task {number}") for number in range(100)}) == 1
    skilled = [replace(request(LONG), skills=(f"skill {number} {LONG}",)) for number in range(20)]
    assert len({in_order(endpoints, each)[0].name for each in skilled}) == 1
    assert set(Counter(first(endpoints, "Be kind.", f"task {number}") for number in range(100))) == {"a", "b", "c"}


def test_one_that_comes_or_goes_moves_only_what_is_its() -> None:
    """Nobody else's prompt cache gets cold."""
    prompts = [f"{number} {LONG}" for number in range(200)]
    before, after = ({prompt: first(these, prompt) for prompt in prompts} for these in ([A, B, C], [A, B]))
    assert all(after[prompt] == where for prompt, where in before.items() if where != "c")
    assert len(set(after.values())) == 2


# ---------------------------------------------------------------- one turn and another, with a clock of ours


class World(StillWorld):
    """Each endpoint and model does as it was told last."""

    prompt = LONG

    def __init__(self, *endpoints: Endpoint, max_retries: int = 3, failure_threshold: int = 100) -> None:
        super().__init__()
        self.says: dict[str, Reply | ClaudeForceError] = {}
        """By endpoint, or by endpoint and model; else there is an answer."""
        self.takes_s = 0.0
        self.sent: list[str] = []
        self.timeouts: list[float] = []
        self.retries: list[Retry] = []
        breaker = Breaker(failure_threshold=failure_threshold)
        defaults = Defaults(max_retries=max_retries)
        self.parts = Parts(
            agents=self,
            prices=Prices(),
            ledger=self,
            clock=self,
            config=Config(defaults=defaults, breaker=breaker, endpoints=list(endpoints)),
            traffic=Traffic(self, failure_threshold=failure_threshold),
        )

    async def send(
        self, request: Request, *, timeout_s: float, on_text: object, caching: object, endpoint: Endpoint
    ) -> Reply:
        place = f"{endpoint.name} {request.model.split('-')[1]}"
        self.sent.append(place)
        self.timeouts.append(timeout_s)
        self.seconds += self.takes_s
        outcome = self.says.get(place) or self.says.get(endpoint.name) or REPLY
        if isinstance(outcome, ClaudeForceError):
            raise type(outcome)(*outcome.args, **outcome.__dict__)
        return outcome

    def run(self, *, timeout_s: float = 100, fallback_models: tuple[str, ...] = ()) -> AgentResult:
        """One turn in this world; `sent` and `pauses` are its own."""
        self.sent, self.pauses, self.retries = [], [], []
        task = Task(
            agent_name="a", text=f"{self.seconds}", model="haiku", timeout_s=timeout_s, fallback_models=fallback_models
        )
        return run_now(run_turn(self, self.parts, task, Watch(on_retry=self.retries.append)))


def order_of(world: World) -> list[str]:
    """Of its endpoints, for what it asks."""
    return [each.name for each in in_order(world.parts.config.endpoints, request(LONG))]


@pytest.mark.parametrize(
    "error",
    [
        BUSY,
        ServerError("500", status=500),
        ConnectionFailedError("refused"),
        TimedOutError("silence"),
        RateLimitError("429", retry_after_s=60),
        Reply(model="m", text="half", stop_reason=None, usage=None),
    ],
    ids=["overload", "5xx", "no connection", "time-out", "rate limit", "a stream that breaks off"],
)
def test_the_next_is_asked_at_once(error: ClaudeForceError | Reply) -> None:
    """It counts as an attempt, the watcher hears of it, and result and ledger say who answered."""
    world = World(A, B, C)
    one, two, _ = order_of(world)
    world.says[one] = error
    result = world.run()
    assert (result, result.endpoint, result.attempts) == ("yes", two, 2)
    assert world.sent == [f"{one} haiku", f"{two} haiku"]
    assert world.pauses == [0.0]
    assert [(retry.attempt, retry.wait_s) for retry in world.retries] == [(1, 0.0)]
    assert world.entries[-1].endpoint == two


def test_a_wait_comes_when_all_were_asked() -> None:
    """Rounds: each once, then a pause, the shortest that one of them asks for, until retries are used up."""
    world = World(A, B, max_retries=3)
    one, two = order_of(world)
    world.says = {one: OverloadedError("busy", retry_after_s=7), two: OverloadedError("busy", retry_after_s=3)}
    with pytest.raises(OverloadedError) as caught:
        world.run()
    # Whoever may be asked soonest comes first in the second round.
    assert [place.split()[0] for place in world.sent] == [one, two, two, one]
    assert caught.value.attempts == 4
    assert world.pauses[:2] == [0.0, 3]


def test_all_are_asked_however_few_retries_there_are() -> None:
    """`max_retries` bounds what is asked again, never who is asked at all."""
    world = World(A, B, C, max_retries=0)
    one, two, three = order_of(world)
    world.says = {one: BUSY, two: BUSY}
    assert world.run().endpoint == three
    world.says[three] = BUSY
    with pytest.raises(OverloadedError):
        world.run()
    assert len(world.sent) == 3


def test_all_endpoints_come_before_the_next_model() -> None:
    """A model is left only where no endpoint has it, also where one of them cannot be reached at all."""
    world = World(A, B, max_retries=0)
    one, two = order_of(world)
    world.says = {f"{one} haiku": BUSY, f"{two} haiku": ConnectionFailedError("refused")}
    assert world.run(fallback_models=("sonnet",)) == "yes"
    assert world.sent[:2] == [f"{one} haiku", f"{two} haiku"]
    assert len(world.sent) == 3
    assert world.sent[2].endswith("sonnet")


@given(
    names=st.lists(st.sampled_from(["haiku", "sonnet", "Opus", "claude-opus-5-5", "inherit", " "]), max_size=6),
    down=st.sets(st.sampled_from(["haiku", "sonnet", "opus"])),
)
def test_each_model_is_asked_once(names: list[str], down: set[str]) -> None:
    """In the order in which they are named, by whatever of their names, until one answers."""
    world = World(A, max_retries=0)
    world.says = {f"a {model}": BUSY for model in down}
    order = ["haiku", *(name.lower().removeprefix("claude-").removesuffix("-5-5") for name in names)]
    models = [model for model in dict.fromkeys(order) if model in {"haiku", "sonnet", "opus"}]
    there = [number for number, model in enumerate(models) if model not in down]
    if there:
        assert world.run(fallback_models=tuple(names)) == "yes"
    else:
        with pytest.raises(OverloadedError):
            world.run(fallback_models=tuple(names))
    assert world.sent == [f"a {model}" for model in models[: there[0] + 1 if there else None]]


def test_back_to_the_first_when_its_breaker_closes() -> None:
    """While its breaker is open the first is passed over without an attempt; then one request probes it, and stays."""
    world = World(A, B, failure_threshold=1)
    one, two = order_of(world)
    world.says[one] = BUSY
    assert world.run().endpoint == two
    del world.says[one]
    result = world.run()
    assert (result.endpoint, result.attempts, world.sent) == (two, 1, [f"{two} haiku"])
    world.seconds += 61
    assert [world.run().endpoint for _ in range(3)] == [one] * 3


def test_one_that_is_held_back_by_its_limits_is_passed_over() -> None:
    """After a 429 requests go where there is room, and come back when that time is over."""
    world = World(A, B)
    one, two = order_of(world)
    world.says[one] = RateLimitError("429", retry_after_s=60)
    world.run()
    del world.says[one]
    assert world.run().endpoint == two
    world.seconds += 61
    assert world.run().endpoint == one
    # Where both are held back, it is the one that may go first that is waited for.
    world.says = {one: RateLimitError("429", retry_after_s=50), two: RateLimitError("429", retry_after_s=20)}
    with pytest.raises(RateLimitError):
        world.run(timeout_s=10)
    world.says = {}
    started_s = world.seconds
    assert world.run().endpoint == two
    assert world.seconds - started_s == pytest.approx(20)


def test_there_is_one_deadline() -> None:
    """Each attempt has what is left of it, wherever it goes."""
    world = World(A, B, max_retries=9)
    world.takes_s = 40
    world.says = {"a": TimedOutError("silence"), "b": TimedOutError("silence")}
    with pytest.raises(DeadlineError) as caught:
        world.run(timeout_s=100)
    assert world.timeouts[:2] == [100, 60]
    assert world.timeouts[2] < 20
    assert (len(world.sent), caught.value.attempts) == (3, 3)


@pytest.mark.parametrize("error", [InvalidRequestError("400", status=400), ServerError("409", status=409)])
def test_what_another_would_not_mend_stays_where_it_is(error: ApiError) -> None:
    """A bad request is bad everywhere, and said as it is even if another endpoint was down before."""
    world = World(A, B)
    one, two = order_of(world)
    world.says = {one: BUSY, two: error}
    with pytest.raises(type(error), match=str(error.status)) as caught:
        world.run()
    assert caught.value.endpoint == two


def test_an_account_that_says_no_is_left_out() -> None:
    """With a warning, for all turns to come; a run ends only where all say no, and one that was mended is back."""
    world = World(A, B)
    one, two = order_of(world)
    world.says[one] = CredentialsError("bad key", status=401)
    result = world.run()
    assert (result.endpoint, result.attempts) == (two, 2)
    assert result.warnings == (f"the endpoint {one!r} is left out from now on: bad key",)
    result = world.run()
    assert (result.endpoint, result.attempts, result.warnings) == (two, 1, ())
    # Trouble of the one that is left is no reason to end a run.
    world.says[two] = BUSY
    with pytest.raises(OverloadedError):
        world.run()
    assert {place.split()[0] for place in world.sent} == {two}
    world.says[two] = CredentialsError("bad key", status=401)
    with pytest.raises(CredentialsError) as caught:
        world.run()
    assert caught.value.is_terminal
    assert sorted(world.sent) == ["a haiku", "b haiku"]
    world.says = {}
    assert world.run().endpoint == one
    # The other one is out as before, until that one says no again.
    world.says[one] = BUSY
    with pytest.raises(OverloadedError):
        world.run()
    assert {place.split()[0] for place in world.sent} == {one}


def test_an_account_that_says_no_ends_no_run_for_one_that_is_busy() -> None:
    """The error is then the one that passes, not the one that would stop everything."""
    world = World(A, B)
    one, two = order_of(world)
    world.says = {one: RateLimitError("429", retry_after_s=60), two: CredentialsError("bad key", status=401)}
    with pytest.raises(RateLimitError):
        world.run(timeout_s=10)
