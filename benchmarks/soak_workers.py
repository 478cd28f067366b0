"""Workers of a Postgres, killed at random, and who starts the runs with them: what is lost, and what is paid twice.

`soak_workers.py --url postgresql://... [--steps 300] [--kills 50]`; the database has to be an empty one of its own.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from claude_force.stores.runs import RunStore
from claude_force.testing import SeenRequest, Simulator

LATENCY_S = 0.3
"""How long an answer takes: long enough that a kill meets some of them."""


@dataclass(kw_only=True)
class Report:
    """What came of it."""

    results: dict[str, str]
    steps: int
    kills: dict[str, int] = field(default_factory=lambda: {"worker": 0, "run": 0})
    calls: int
    in_flight_at_a_kill: int
    max_in_flight: int
    limit: int
    seconds: float

    @property
    def in_the_window(self) -> int:
        """Calls that were answered, and paid again all the same, as nobody was told of the answer."""
        return self.calls - self.steps - self.in_flight_at_a_kill


class Soak:
    """Some workers, one run, and somebody who kills them."""

    def __init__(self, folder: Path, url: str, simulator: Simulator, *, workers: int, size: int, limit: int) -> None:
        self._folder, self._simulator = folder, simulator
        self._environment = os.environ | {
            "ANTHROPIC_API_KEY": "k",
            "ANTHROPIC_BASE_URL": simulator.base_url,
            "CLAUDE_ENGINE_URL": url,
            "CLAUDE_CACHE_SECRET": "a secret that all machines have",
        }
        self._size, self._limit = size, limit
        self._workers = [self._worker(number) for number in range(workers)]
        self._run: subprocess.Popen[str] | None = None

    def run(self, steps: int, kills: int, dice: random.Random) -> dict[str, str]:
        """The answers of a run of so many steps, in ten chains."""
        project = self._folder / "project"
        (project / ".claude/agents").mkdir(parents=True)
        (project / ".claude/agents/a.md").write_text("---\nname: a\ndescription: d\nmodel: haiku\n---\nBe kind.\n")
        chains = [
            {"id": f"s{n}", "agent": "a", "task": f"say {n}", "dependencies": [f"s{n - 10}"] if n >= 10 else []}  # noqa: PLR2004 - of the docstring
            for n in range(steps)
        ]
        (project / "w.json").write_text(json.dumps({"name": "w", "steps": chains}))
        self._start_run(project)
        for _ in range(kills):
            done = self._calls + dice.randint(1, max(1, 2 * steps // (kills + 1) - 1))
            self._simulator.wait_until(lambda stats, done=done: _calls(stats) >= done, timeout_s=300)  # type: ignore[misc] # a loop's value, bound at once
            if dice.random() < 0.25:  # noqa: PLR2004 - one in four is of the run
                self._kill(self._started)
                self._start_run(project)
                self.kills["run"] += 1
            else:
                number = dice.randrange(len(self._workers))
                self._kill(self._workers[number])
                self._workers[number] = self._worker(number)
                self.kills["worker"] += 1
        said, _ = self._started.communicate(timeout=600)
        answers: dict[str, str] = {name: step["text"] for name, step in json.loads(said)["steps"].items()}
        return answers

    kills: dict[str, int]

    def stop(self) -> list[int]:
        """Have all workers come to their end; their exit codes."""
        for worker in self._workers:
            worker.send_signal(signal.SIGTERM)
        return [worker.wait(120) for worker in self._workers]

    @property
    def _calls(self) -> int:
        return _calls(self._simulator.stats)

    @property
    def _started(self) -> "subprocess.Popen[str]":
        if self._run is None:
            raise RuntimeError("there is no run")
        return self._run

    def _worker(self, number: int) -> "subprocess.Popen[str]":
        folder = self._folder / f"machine-{number}"
        (folder / ".claude").mkdir(parents=True, exist_ok=True)
        (folder / ".claude/claude.json").write_text(json.dumps({"engine": {"max_concurrent": self._limit}}))
        return self._process(folder, "worker", "--concurrency", str(self._size))

    def _start_run(self, project: Path) -> None:
        begun = RunStore(project / ".claude/runs.db").runs(limit=1)
        options = ["--resume", begun[0].id] if begun else []
        self._run = self._process(
            project, "run-workflow", "w.json", *options, "--engine", "durable", "--no-cache", "--json"
        )

    def _process(self, folder: Path, *arguments: str) -> "subprocess.Popen[str]":
        with (self._folder / "log").open("a") as log:
            return subprocess.Popen(
                ["claude-force", *arguments],  # noqa: S607 - the one that is installed
                cwd=folder,
                env=self._environment,
                stdout=subprocess.PIPE if arguments[0] == "run-workflow" else log,
                stderr=log,
                text=True,
            )

    @staticmethod
    def _kill(process: "subprocess.Popen[str]") -> None:
        process.kill()
        process.communicate()


def _calls(stats: object) -> int:
    calls: int = stats.calls.get("/v1/messages", 0)  # type: ignore[attr-defined] # `Stats` is not public
    return calls


def soak(
    folder: Path, url: str, *, steps: int, kills: int, workers: int = 3, size: int = 5, limit: int = 8, seed: int = 0
) -> Report:
    """Kill so many of them while so many steps are done."""
    started_s = time.monotonic()

    def word(request: SeenRequest) -> str:
        return request.prompt.split()[-1]

    with Simulator(answer=word, latency=LATENCY_S, max_recorded=0) as simulator:
        subject = Soak(folder, url, simulator, workers=workers, size=size, limit=limit)
        subject.kills = {"worker": 0, "run": 0}
        try:
            results = subject.run(steps, kills, random.Random(seed))  # noqa: S311 - which process is killed
        finally:
            codes = subject.stop()
        stats = simulator.wait_until(lambda stats: stats.in_flight == 0)
    if set(codes) - {0, 128 + signal.SIGTERM}:  # the latter of one that was about to begin
        raise RuntimeError(f"workers ended with {codes}; see {folder / 'log'}")
    return Report(
        results=results,
        steps=steps,
        kills=subject.kills,
        calls=_calls(stats),
        in_flight_at_a_kill=stats.abandoned,
        max_in_flight=stats.max_in_flight,
        limit=limit,
        seconds=time.monotonic() - started_s,
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--url", required=True, help="of an empty database")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        report = soak(Path(folder), asked.url, steps=asked.steps, kills=asked.kills, seed=asked.seed)
    right = sum(report.results.get(f"s{number}") == str(number) for number in range(asked.steps))
    print(f"{right} of {report.steps} answers are right, after {report.kills} killed, in {report.seconds:.0f} s")
    print(f"{report.calls} calls: {report.in_flight_at_a_kill} more for what was in flight at a kill,")
    print(f"{report.in_the_window} more for what was answered, and not yet noted; never more than", end=" ")
    print(f"{report.max_in_flight} at once, of {report.limit}")


if __name__ == "__main__":
    main()
