"""The simulated prompt cache: what is written, what is read, and when."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import anthropic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_force.base.usage import Usage
from claude_force.transports.simulator import Simulator
from claude_force.transports.simulator.prompt import PromptCache, blocks, count_tokens, prompt_tokens
from tests.conftest import MovedClock

if TYPE_CHECKING:
    from collections.abc import Mapping

SHARED = "shared " * 600  # 4,200 characters: 1,050 tokens
AGENT = "agent " * 400  # 2,400 characters: 600 tokens
MIN_TOKENS = 512


def text(value: str, ttl: str | None = None) -> dict[str, Any]:
    """A text block, with a cache marker if it has a ttl."""
    return {"type": "text", "text": value} | ({"cache_control": {"type": "ephemeral", "ttl": ttl}} if ttl else {})


def request(*system: dict[str, Any], task: str = "Do it.", **more: Any) -> dict[str, Any]:
    """A request with these system blocks."""
    return {"system": list(system), "messages": [{"role": "user", "content": task}], **more}


class Workspace:
    """A cache, and a clock that the test moves."""

    def __init__(self) -> None:
        self.cache = PromptCache()
        self.now_s = datetime(2026, 11, 20, tzinfo=UTC).timestamp()

    def ask(self, body: "Mapping[str, Any]", model: str = "a", *, has_begun: bool = True) -> tuple[int, int, int]:
        """Read, written and plain tokens of a request."""
        reading = self.cache.read(body, model=model, min_tokens=MIN_TOKENS, now_s=self.now_s)
        if has_begun:
            self.cache.keep(reading, now_s=self.now_s)
        usage = reading.usage
        return usage.cache_read_tokens, usage.cache_write_5m_tokens + usage.cache_write_1h_tokens, usage.input_tokens


@pytest.fixture
def workspace() -> Workspace:
    """An empty cache."""
    return Workspace()


def test_the_second_request_reads_what_the_first_wrote(workspace: Workspace) -> None:
    """Shared text that is marked is written once and read by every other task."""
    assert workspace.ask(request(text(SHARED, "5m"))) == (0, 1050, 2)
    assert workspace.ask(request(text(SHARED, "5m"), task="Something longer.")) == (1050, 0, 5)


def test_nothing_is_kept_without_a_marker(workspace: Workspace) -> None:
    """Without `cache_control` every token is plain."""
    assert workspace.ask(request(text(SHARED))) == (0, 0, 1052)
    assert workspace.ask(request(text(SHARED))) == (0, 0, 1052)


def test_an_entry_is_readable_once_the_response_has_begun(workspace: Workspace) -> None:
    """Requests that start together all pay for the write; this is why a fan-out sends one first."""
    body = request(text(SHARED, "5m"))
    assert workspace.ask(body, has_begun=False) == (0, 1050, 2)
    assert workspace.ask(body) == (0, 1050, 2)
    assert workspace.ask(body) == (1050, 0, 2)


@pytest.mark.parametrize(("ttl", "alive_s"), [("5m", 300), ("1h", 3600)])
def test_entries_live_as_long_as_they_say_and_reading_renews_them(workspace: Workspace, ttl: str, alive_s: int) -> None:
    """Five minutes or an hour, counted from the last use."""
    body = request(text(SHARED, ttl))
    workspace.ask(body)
    for _ in range(2):
        workspace.now_s += alive_s - 1
        assert workspace.ask(body) == (1050, 0, 2)
    workspace.now_s += alive_s
    assert workspace.ask(body) == (0, 1050, 2)


def test_a_longer_prefix_pays_for_the_rest_only(workspace: Workspace) -> None:
    """Two markers: the shared part is read, the agent's part is written."""
    workspace.ask(request(text(SHARED, "5m"), text("other " * 400, "5m")))
    assert workspace.ask(request(text(SHARED, "5m"), text(AGENT, "5m"))) == (1050, 600, 2)
    assert workspace.ask(request(text(SHARED, "5m"), text(AGENT, "5m"))) == (1650, 0, 2)
    assert workspace.ask(request(text(SHARED, "5m"))) == (1050, 0, 2)


def test_both_lifetimes_are_counted_apart(workspace: Workspace) -> None:
    """An hour for what is shared, five minutes for the agent: the API counts and bills them apart."""
    body = request(text(SHARED, "1h"), text(AGENT, "5m"))
    reading = workspace.cache.read(body, model="a", min_tokens=MIN_TOKENS, now_s=0)
    assert reading.usage == Usage(input_tokens=2, cache_write_1h_tokens=1050, cache_write_5m_tokens=600)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(request(text(SHARED + "!", "5m")), id="text"),
        pytest.param(request(text("first"), text(SHARED, "5m")), id="block-before"),
        pytest.param(request(text(SHARED, "5m"), tools=[{"name": "t"}]), id="tools"),
    ],
)
def test_any_change_of_the_prefix_misses(workspace: Workspace, change: dict[str, Any]) -> None:
    """A prefix is exact: one character before the marker and nothing is read."""
    workspace.ask(request(text(SHARED, "5m")))
    assert workspace.ask(change)[0] == 0


def test_each_model_has_its_own_entries(workspace: Workspace) -> None:
    """What one model wrote no other reads."""
    workspace.ask(request(text(SHARED, "5m")), model="a")
    assert workspace.ask(request(text(SHARED, "5m")), model="b") == (0, 1050, 2)


def test_short_prefixes_are_silently_not_kept(workspace: Workspace) -> None:
    """Below the model's minimum both counters stay 0."""
    body = request(text("x" * 4 * (MIN_TOKENS - 1), "5m"))
    assert [workspace.ask(body), workspace.ask(body)] == [(0, 0, MIN_TOKENS - 1 + 2)] * 2


def test_the_automatic_marker_covers_the_whole_prompt(workspace: Workspace) -> None:
    """Top-level `cache_control` stands for a marker on the last block."""
    body = request(text(SHARED), cache_control={"type": "ephemeral"})
    assert workspace.ask(body) == (0, 1052, 0)
    assert workspace.ask(body) == (1052, 0, 0)


def test_effort_is_part_of_the_messages_but_not_of_the_system(workspace: Workspace) -> None:
    """Another effort misses what reaches into the messages, and still reads the system prompt."""
    body = request(text(SHARED, "5m"), task=AGENT, cache_control={"type": "ephemeral"})
    workspace.ask(body)
    assert workspace.ask({**body, "output_config": {"effort": "low"}}) == (1050, 600, 0)


def test_a_marker_looks_back_twenty_blocks(workspace: Workspace) -> None:
    """A conversation that grew by fewer than twenty blocks still finds its old end."""

    def talk(turns: int) -> dict[str, Any]:
        content = [text(SHARED), *(text(f"turn {number}") for number in range(turns))]
        return {"messages": [{"role": "user", "content": content}], "cache_control": {"type": "ephemeral"}}

    workspace.ask(talk(0))
    assert workspace.ask(talk(19), has_begun=False)[0] == 1050
    assert workspace.ask(talk(20), has_begun=False)[0] == 0


def test_the_sdk_sees_the_cache() -> None:
    """Through the API: held together both write, then all read, until five minutes are over."""
    clock = MovedClock()
    with Simulator(clock=clock) as simulator, ThreadPoolExecutor(2) as pool:

        def ask(number: int) -> tuple[int | None, int | None]:
            with anthropic.Anthropic(base_url=simulator.base_url, api_key="k") as client:
                usage = client.messages.create(
                    model="claude-sonnet-5-5",
                    max_tokens=100,
                    system=[{"type": "text", "text": SHARED, "cache_control": {"type": "ephemeral"}}],
                    messages=[{"role": "user", "content": f"task {number}"}],
                ).usage
            return usage.cache_read_input_tokens, usage.cache_creation_input_tokens

        simulator.hold()
        first = [pool.submit(ask, number) for number in range(2)]
        simulator.wait_until(lambda stats: stats.in_flight == 2)
        simulator.release()
        assert [future.result() for future in first] == [(0, 1050), (0, 1050)]
        assert ask(3) == (1050, 0)
        clock.seconds += 300
        assert ask(4) == (0, 1050)
        assert simulator.stats.usage["claude-sonnet-5-5"].cache_write_5m_tokens == 3 * 1050


@given(st.lists(st.text(min_size=1, max_size=3000), min_size=1, max_size=6), st.data())
def test_no_token_is_lost_or_counted_twice(parts: list[str], data: st.DataObject) -> None:
    """Read, written and plain tokens add up to the prompt, wherever the markers are."""
    workspace = Workspace()
    body = request(*(text(part, data.draw(st.sampled_from([None, "5m"]))) for part in parts))
    for _ in range(2):
        assert sum(workspace.ask(body)) == prompt_tokens(body)


def test_tokens_are_counted_by_the_rule() -> None:
    """Every four characters begun are one token; blocks that are no text count by their JSON, without the marker."""
    assert [count_tokens(value) for value in ("", "a", "abcd", "abcde")] == [0, 1, 1, 2]
    tool = {"name": "t", "cache_control": {"type": "ephemeral"}}
    assert [block.content for block in blocks(request(tools=[tool]))] == ['{"name":"t"}', "Do it."]
