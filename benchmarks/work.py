"""The same work done by claude-force and by what a user would take instead, side by side against slow answers.

All send the same agent, the same tasks and the same model to the same simulator, and wait the same for the same task.
A round makes new tasks; in each, all do them, one after the other, and who begins changes. Clients are made, and have
had an answer, before the clock starts. What claude-force does besides (cache, ledger, journal) is on.
"""

import asyncio
import hashlib
import importlib
import importlib.util
import json
import operator
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from tempfile import TemporaryDirectory
from typing import Annotated, Any, NamedTuple, TypedDict

import anthropic

from claude_force import AsyncAgentOrchestrator
from project import SHORT, project
from results import Figure, measured, ratio
from simulated import Server, simulated, tagged

MODEL = "claude-haiku-5-5"


class Step(NamedTuple):
    """A task for the agent, and those whose answers it is about."""

    task: str
    needs: tuple[str, ...] = ()


Work = Mapping[str, Step]
"""Tasks by name, each after all that it needs."""
AT_ONCE = 20
"""So many requests are under way, whoever makes them."""


def independent(name: str, count: int, *, task: str = "Review this.", tokens: int = 200) -> Work:
    """Tasks that need nothing of each other; all are new where the name is."""
    return {f"t{number}": Step(tagged(task, f"{name}.{number}", tokens)) for number in range(count)}


def needs(work: Work) -> dict[str, tuple[str, ...]]:
    """What each waits for."""
    return {name: step.needs for name, step in work.items()}


Do = Callable[[Work], Awaitable[Sequence[object]]]
Subject = Callable[[str], AbstractAsyncContextManager[Do]]
"""Given the server's address: a client that does work."""
OURS = "claude-force"


class Took(NamedTuple):
    """What a part of the work took."""

    seconds: float
    requests: float


def side_by_side(
    rounds: int, make: Callable[[int], Mapping[str, Sequence[Work]]], peers: Iterable[str] | None = None
) -> dict[str, Figure]:
    """For each part of the work that `make` gives for a round: scaled seconds, and times as long as ours.

    Parts are done one after the other by the same client, and so is the work within a part. Requests are told where
    not all send as many.
    """
    names = [OURS, *(name for name in (PEERS if peers is None else peers) if is_installed(name))]
    took: dict[str, list[dict[str, Took]]] = {name: [] for name in names}
    with simulated("realistic") as server:
        for number in range(rounds):
            work, first = make(number), number % len(names)
            for name in names[first:] + names[:first]:
                took[name].append(asyncio.run(_took(server, SUBJECTS[name], work)))
    figures: dict[str, Figure] = {}
    for part in make(0):
        seconds = {name: [each[part].seconds for each in all_] for name, all_ in took.items()}
        requests = {name: [each[part].requests for each in all_] for name, all_ in took.items()}
        figures |= {f"{part}, s: {name}": measured(seconds[name]) for name in names}
        figures |= {
            f"{part}, times as long as {OURS}: {name}": ratio(seconds[name], seconds[OURS], "higher")
            for name in names[1:]
        }
        if len(set(map(tuple, requests.values()))) > 1:
            figures |= {f"{part}, requests: {name}": measured(requests[name]) for name in names}
    return figures


async def _took(server: Server, subject: Subject, work: Mapping[str, Sequence[Work]]) -> dict[str, Took]:
    took = {}
    async with subject(server.url) as do:
        for warm in ({"a": Step("Are you there?")}, {"a": Step("And now?"), "b": Step("Yes?", needs=("a",))}):
            await do(warm)  # modules are imported, connections and files are made
        for part, pieces in work.items():
            before, started = server.requests(), time.perf_counter()
            for piece in pieces:
                answers = await do(piece)
                assert len(answers) == len(piece), "an answer is missing"  # noqa: S101 - figures would lie
            took[part] = Took(time.perf_counter() - started, server.requests() - before)
    return took


# ---------------------------------------------------------------- ours


@asynccontextmanager
async def _claude_force(url: str) -> AsyncIterator[Do]:
    with project() as folder:
        async with AsyncAgentOrchestrator(None, "k", AT_ONCE, base_url=url, project_dir=folder) as subject:

            async def do(work: Work) -> Sequence[object]:
                if not any(needs(work).values()):
                    return await subject.execute_multiple(("a", step.task) for step in work.values())
                steps = [
                    {"id": name, "agent": "a", "task": step.task, "dependencies": list(step.needs)}
                    for name, step in work.items()
                ]
                return list((await subject.execute_workflow({"name": "work", "steps": steps})).results.values())

            yield do


# ---------------------------------------------------------------- peers


def body(text: str) -> dict[str, Any]:
    """The request that our agent makes of this task."""
    return {
        "model": MODEL,
        "max_tokens": 16_000,
        "system": [{"type": "text", "text": SHORT, "cache_control": {"type": "ephemeral"}}],
        "messages": [{"role": "user", "content": [{"type": "text", "text": text}]}],
    }


Ask = Callable[[str], Awaitable[str]]
Act = Callable[[str, Sequence[str]], Awaitable[str]]
"""Does the step of that name, given the answers that it needs."""


async def as_tasks(needs: Mapping[str, Sequence[str]], act: Act) -> list[str]:
    """Bare asyncio: a task for each step, which waits for those that it needs."""
    tasks: dict[str, asyncio.Task[str]] = {}

    async def step(name: str) -> str:
        return await act(name, [await tasks[need] for need in needs[name]])

    for name in needs:
        tasks[name] = asyncio.create_task(step(name))
    return await asyncio.gather(*tasks.values())


class _State(TypedDict, total=False):
    tasks: list[str]
    answers: Annotated[list[tuple[str, str]], operator.add]


def as_langgraph(needs: Mapping[str, Sequence[str]], act: Act) -> Any:  # noqa: ANN401 - the peer's own
    """LangGraph: a node for each step, compiled; to be invoked with no answers."""
    peer = importlib.import_module("langgraph.graph")
    builder = peer.StateGraph(_State)
    for name, needed in needs.items():

        async def node(state: _State, name: str = name, needed: Sequence[str] = needed) -> _State:
            told = dict(state["answers"]) if needed else {}
            return {"answers": [(name, await act(name, [told[need] for need in needed]))]}

        builder.add_node(name, node)
        builder.add_edge(list(needed) or peer.START, name)
    for name in needs.keys() - {need for needed in needs.values() for need in needed}:
        builder.add_edge(name, peer.END)
    return builder.compile()


def _as_map(ask: Ask) -> Any:  # noqa: ANN401 - the peer's own
    """LangGraph's way of doing a list of tasks: one node, to which each is sent."""
    peer = importlib.import_module("langgraph.graph")
    send = importlib.import_module("langgraph.types").Send

    async def node(state: _State) -> _State:
        (task,) = state["tasks"]
        return {"answers": [(task, await ask(task))]}

    builder = peer.StateGraph(_State)
    builder.add_node("ask", node)
    builder.add_conditional_edges(peer.START, lambda state: [send("ask", {"tasks": [task]}) for task in state["tasks"]])
    builder.add_edge("ask", peer.END)
    return builder.compile()


def _acting(work: Work, ask: Ask) -> Act:
    """Each step's task, below the answers that it needs, with as many requests at once as all make."""
    places = asyncio.Semaphore(AT_ONCE)

    async def act(name: str, told: Sequence[str]) -> str:
        async with places:
            return await ask("\n\n".join([*told, work[name].task]))

    return act


@asynccontextmanager
async def _asking(url: str) -> AsyncIterator[Ask]:
    """The SDK's async client as it comes, but without its own retries, as nothing goes wrong here."""
    async with anthropic.AsyncAnthropic(api_key="k", base_url=url, max_retries=0) as client:

        async def ask(text: str) -> str:
            return _text(await client.messages.create(**body(text)))

        yield ask


def _text(message: "anthropic.types.Message") -> str:
    return "".join(block.text for block in message.content if block.type == "text")


@asynccontextmanager
async def _one_by_one(url: str) -> AsyncIterator[Do]:
    with anthropic.Anthropic(api_key="k", base_url=url, max_retries=0) as client:

        async def do(work: Work) -> Sequence[object]:
            answers: dict[str, str] = {}
            for name, step in work.items():
                text = "\n\n".join([*(answers[need] for need in step.needs), step.task])
                answers[name] = _text(client.messages.create(**body(text)))
            return list(answers.values())

        yield do


@asynccontextmanager
async def _gather(url: str) -> AsyncIterator[Do]:
    async with _asking(url) as ask:
        yield lambda work: as_tasks(needs(work), _acting(work, ask))


@asynccontextmanager
async def _diskcache(url: str) -> AsyncIterator[Do]:
    """Answers by a digest of the whole request; read and written in the event loop, as is usual."""
    with TemporaryDirectory() as folder, importlib.import_module("diskcache").Cache(folder) as cache:
        async with _asking(url) as ask:

            async def remembered(text: str) -> str:
                key = hashlib.sha256(json.dumps(body(text)).encode()).hexdigest()
                answer = cache.get(key)
                if answer is None:
                    answer = await ask(text)
                    cache.set(key, answer)
                return str(answer)

            yield lambda work: as_tasks(needs(work), _acting(work, remembered))


@asynccontextmanager
async def _langgraph(url: str) -> AsyncIterator[Do]:
    async with _asking(url) as ask:
        mapping = _as_map(ask)  # compiled once, as it is the same for all lists

        async def do(work: Work) -> Sequence[object]:
            options = {"max_concurrency": AT_ONCE, "recursion_limit": 1_000}
            if any(needs(work).values()):
                done = await as_langgraph(needs(work), _acting(work, ask)).ainvoke({"answers": []}, options)
            else:
                tasks = [step.task for step in work.values()]
                done = await mapping.ainvoke({"tasks": tasks, "answers": []}, options)
            return list(done["answers"])

        yield do


SUBJECTS: dict[str, Subject] = {
    OURS: _claude_force,
    "SDK, one by one": _one_by_one,
    "SDK, asyncio.gather": _gather,
    "SDK, gather, diskcache": _diskcache,
    "langgraph": _langgraph,
}
PEERS = ("SDK, one by one", "SDK, asyncio.gather", "langgraph")


def is_installed(name: str) -> bool:
    """Whether this peer is here; the SDK and asyncio always are."""
    package = name.rpartition(", ")[2]
    return package not in {"dask", "diskcache", "langgraph"} or importlib.util.find_spec(package) is not None
