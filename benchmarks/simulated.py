"""A simulator in a process of its own, so that what is measured is the client's work: `with simulated(KIND) as server`.

Realistic answers take as long as was seen of real ones: P50 2.5 s, P95 7.8 s, P99 12.5 s, which a log-normal
distribution with a sigma of 0.692 meets to a hundredth; all times are scaled by `SCALE`. How long one takes is decided
by the tag at the end of its task, so all who are compared wait the same for the same task.
"""

import json
import math
import random
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import msgspec

from claude_force.base.usage import Usage
from claude_force.testing import Answer, ApiFault, CutStream, Disconnect, Fault, Rule, SeenRequest, Simulator

P50_S, P95_S, P99_S = 2.5, 7.8, 12.5
SIGMA = 0.692
SCALE = 1 / 25
"""With it, a run takes minutes; what a client itself takes weighs 25 times as much as it would beside a real answer."""
TAG = re.compile(r"\[(?P<name>[^\]]+), (?P<tokens>\d+) tokens\]\s*$")


def tagged(task: str, name: str, tokens: int) -> str:
    """The task with the tag that decides how long its answer takes and is."""
    return f"{task} [{name}, {tokens} tokens]"


def latency_s(name: str) -> float:
    """How long the answer to the task with this name takes, scaled."""
    return random.Random(name).lognormvariate(math.log(P50_S), SIGMA) * SCALE  # noqa: S311 - the same each time


def _realistic(request: SeenRequest) -> Answer:
    tag = TAG.search(request.prompt)
    if tag is None:
        return Answer("Fine.", latency_s=0)
    return Answer("word " * int(tag["tokens"]), latency_s=latency_s(tag["name"]))


FAILING, SPOILED, BUSY = "haiku", "sonnet", "opus"
"""By all of these families of models, servers fail and connections are dropped, for which nothing is billed. By the
second, answers also break on the way, which is billed to whoever cannot know how much. The third one also says that it
is busy: after which a client has to send less, so no thousand requests could be in flight if all did."""
USAGE = Usage(input_tokens=100, output_tokens=10)
"""Of each answer by them, so that answers can be counted on the bill."""


def _fault(fault: Fault, probability: float, model: str = "") -> Rule:
    return Rule(fault, when=lambda request: model in request.model, probability=probability)


_FAULTS = (
    _fault(CutStream(clean=False), 0.05, SPOILED),
    _fault(ApiFault(529, headers={"retry-after-ms": "20"}), 0.006, BUSY),
    _fault(ApiFault(429, headers={"retry-after-ms": "50"}), 0.004, BUSY),
    _fault(ApiFault(500, headers={"retry-after-ms": "20"}), 0.02),
    _fault(Disconnect(), 0.005),
)


def _plain(latency: str = "0") -> Simulator:
    return Simulator(latency=float(latency), max_recorded=0)


KINDS: dict[str, Callable[..., Simulator]] = {
    "plain": _plain,
    "realistic": lambda: Simulator(_realistic, max_recorded=0),
    "faulty": lambda latency: Simulator(
        Answer("Fine.", usage=USAGE), rules=_FAULTS, latency=float(latency), max_recorded=0
    ),
}


class Server(NamedTuple):
    """A simulator that runs elsewhere."""

    url: str
    process: "subprocess.Popen[str]"

    def stats(self) -> dict[str, Any]:
        """Its counts, as `claude_force.testing.Stats` names them."""
        assert self.process.stdin  # noqa: S101 - both were asked for
        assert self.process.stdout  # noqa: S101 - as above
        print(file=self.process.stdin, flush=True)
        found: dict[str, Any] = json.loads(self.process.stdout.readline())
        return found

    def requests(self) -> int:
        """How many it had."""
        return sum(self.stats()["calls"].values())


@contextmanager
def simulated(kind: str = "plain", *arguments: float) -> Iterator[Server]:
    """One of `KINDS`, which ends with the block, and whenever this process ends."""
    command = [sys.executable, __file__, kind, *map(str, arguments)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout  # noqa: S101 - it was asked for
        yield Server(process.stdout.readline().strip(), process)


def _main(kind: str, *arguments: str) -> None:
    with KINDS[kind](*arguments) as simulator:
        print(simulator.base_url, flush=True)
        for _ in sys.stdin:  # each line asks for the counts; its end is ours
            print(msgspec.json.encode(simulator.stats).decode(), flush=True)


if __name__ == "__main__":
    _main(*sys.argv[1:])
