"""What README.md says was measured: each line with the figures that it stands on, which are those of `baseline.json`.

`docs/generate.py` writes it, so no figure is typed by hand; a new baseline changes README.md with it.
"""

from pathlib import Path
from typing import NamedTuple

from results import Results, read_results

BASELINE = Path(__file__).parent / "baseline.json"
LONGER = "times as long as claude-force"


class Claim(NamedTuple):
    """One line."""

    what: str
    scenario: str
    figures: tuple[str, ...]
    shown: str
    """How the medians of the figures read, in their order."""

    @property
    def command(self) -> str:
        """What shows it."""
        return f"python benchmarks/run_benchmarks.py --scenario {self.scenario}"

    def row(self, results: Results) -> str:
        """As a row of the table."""
        medians = (results.figure(self.scenario, name).median for name in self.figures)
        return f"| {self.what} | {self.shown.format(*medians)} | `{self.command}` |"


CLAIMS = (
    Claim(
        "3 independent agents, against one after the other: equal answers, and realistic ones",
        "async_vs_sync",
        (f"3 equal agents, {LONGER}: SDK, one by one", f"3 independent agents, {LONGER}: SDK, one by one"),
        "{:.1f} and {:.1f} times as fast",
    ),
    Claim(
        "a fan-out of 100 tasks, against a loop over the SDK, a `gather`, LangGraph",
        "fan_out",
        tuple(f"fan-out of 100, {LONGER}: {peer}" for peer in ("SDK, one by one", "SDK, asyncio.gather", "langgraph")),
        "{:.1f}, {:.2f} and {:.2f} times as fast",
    ),
    Claim(
        "60 tasks once more, against no cache",
        "asked_again",
        (f"the same 60 again, {LONGER}: SDK, asyncio.gather", "the same 60 again, requests: claude-force"),
        "{:.0f} times as fast, {:.0f} requests",
    ),
    Claim(
        "a workflow of 1,000 steps over its longest way; rounds of `gather`, LangGraph",
        "workflow",
        tuple(
            f"1,000 layered steps, makespan over critical path: {name}"
            for name in ("claude-force", "rounds of gather", "langgraph")
        ),
        "{:.2f}; {:.2f}, {:.2f}",
    ),
    Claim(
        "a mixed day whose second nightly run finds 70 % unchanged: requests, and those of a `gather`",
        "mixed_day",
        ("a mixed day, requests: claude-force", "a mixed day, requests: SDK, asyncio.gather"),
        "{:.0f}, {:.0f}",
    ),
    Claim(
        "20 calls that share 20,000 tokens, against not waiting for the first",
        "warm",
        ("cold over warm, cost",),
        "cost {:.1f} times less",
    ),
    Claim(
        "a call with cache, ledger and limits, over the bare SDK: its time, its CPU, and its CPU where it is streamed",
        "turn",
        (
            "full turn over bare SDK call",
            "full turn over bare SDK call, CPU",
            "full streamed turn over bare SDK stream, CPU",
        ),
        "{:.2f}, {:.2f}, {:.2f}",
    ),
    Claim(
        "a put into the cache, against diskcache",
        "cache",
        (f"put, 4 KB, {LONGER}: diskcache", f"disk hit, 4 KB, {LONGER}: diskcache"),
        "{:.1f} times as fast; a hit, which is checked against forgery, {:.1f} times",
    ),
    Claim(
        "`import claude_force`, and `claude-force --version`, over an empty Python",
        "start",
        ("times `python -c pass`: import claude_force", "times `python -c pass`: claude-force --version"),
        "{:.1f}, {:.1f}",
    ),
    Claim(
        "the same command again from the shell, over an empty Python",
        "hit",
        ("hit from the shell over `python -c pass`",),
        "{:.1f}",
    ),
)


def measured() -> str:
    """The part of README.md."""
    results = read_results(BASELINE)
    machine = results.machine
    rows = "\n".join(claim.row(results) for claim in CLAIMS)
    return (
        "| what | measured | shown by |\n|---|---|---|\n"
        f"{rows}\n\n"
        f"Medians of a run on {results.made_at:%Y-%m-%d}, {machine.cores} cores of {machine.cpu} (load"
        f" {machine.load_before:g} to {machine.load_after or 0:g}), Python {results.versions['python']}; answers take"
        f" what real ones take, scaled by 1/{1 / results.latency['scale']:g}."
    )
