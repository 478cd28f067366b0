"""What a full turn costs over the bare SDK making the same request to the same simulator."""

import itertools
import os
import time
from collections.abc import Callable

from claude_force import AgentOrchestrator
from claude_force.testing import Simulator
from project import project
from results import Figure, measured, ratio
from scenarios import in_turn

CALLS = 25  # one measurement: single calls are too short to be told from the machine's noise


def run(iterations: int) -> dict[str, Figure]:
    """Plain and streamed calls, wall time and this process's CPU time (the simulator's share is in both)."""
    with (
        project({"a": "Be kind. " * 300}) as folder,
        Simulator(answer="word " * 200) as simulator,
        AgentOrchestrator(api_key="k", base_url=simulator.base_url, project_dir=folder) as orchestrator,
    ):
        orchestrator.execute_agent("a", "Why?")
        body = {key: value for key, value in simulator.requests[0].body.items() if key != "stream"}
        messages = orchestrator.client.messages

        def bare_stream() -> None:
            with messages.stream(**body) as stream:
                for _ in stream.text_stream:
                    pass
                stream.get_final_message()

        count = itertools.count(1000)  # no task twice: an answer from the cache would be no call
        subjects = {
            "bare": lambda: messages.create(**body),
            "turn": lambda: orchestrator.execute_agent("a", f"Why {next(count)}?"),
            "bare_stream": bare_stream,
            "turn_stream": lambda: orchestrator.execute_agent("a", f"Why {next(count)}?", on_text=lambda _: None),
        }
        wall = in_turn(iterations, **{name: _many(subject) for name, subject in subjects.items()})
        cpu = {name: _cpu(subject, iterations) for name, subject in subjects.items()}
    return {
        "bare SDK call, ms": measured([seconds / CALLS * 1000 for seconds in wall["bare"]]),
        "full turn over bare SDK call": ratio(wall["turn"], wall["bare"]),
        "full turn over bare SDK call, CPU": ratio(cpu["turn"], cpu["bare"]),
        "bare SDK stream, ms": measured([seconds / CALLS * 1000 for seconds in wall["bare_stream"]]),
        "full streamed turn over bare SDK stream": ratio(wall["turn_stream"], wall["bare_stream"]),
        "full streamed turn over bare SDK stream, CPU": ratio(cpu["turn_stream"], cpu["bare_stream"]),
    }


def _many(subject: Callable[[], object]) -> Callable[[], None]:
    def repeat() -> None:
        for _ in range(CALLS):
            subject()

    return repeat


def _cpu(subject: Callable[[], object], iterations: int) -> list[float]:
    """CPU seconds of this process for its calls, round by round."""
    os.sched_yield()
    times = []
    for _ in range(iterations):
        started = time.process_time()
        _many(subject)()
        times.append(time.process_time() - started)
    return times
