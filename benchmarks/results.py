"""What benchmarks find: figures with their noise, and the machine that they were found on, kept as JSON."""

import importlib.metadata
import math
import os
import platform
import re
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Literal

import msgspec

SCHEMA = 1
CONFIDENCE = 0.95
CPU_NAME = re.compile(r"^model name\s*:\s*(.+)$", re.MULTILINE)


class Figure(msgspec.Struct, frozen=True, omit_defaults=True):
    """A median, and the interval that holds the true one in 95 of 100 cases: between two of the ordered samples.

    With fewer than six samples the interval is all of them, and less sure than that; a single one says nothing of
    noise.
    """

    median: float
    low: float
    high: float
    samples: int = 1
    better: Literal["lower", "higher"] | None = None
    """Of a ratio of ours to what was measured in the same run, or of what does not depend on the machine: only such
    figures are compared with those of another run. What a peer takes is its own matter."""


def measured(samples: Sequence[float], better: Literal["lower", "higher"] | None = None) -> Figure:
    """The figure of these samples: one for each round."""
    ordered, count = sorted(samples), len(samples)
    left_out, tail = 0, 0.5**count  # so likely are all samples on one side of the true median
    while 2 * (tail := tail + math.comb(count, left_out + 1) * 0.5**count) <= 1 - CONFIDENCE:
        left_out += 1
    return Figure(
        statistics.median(ordered),
        low=ordered[left_out],
        high=ordered[-1 - left_out],
        samples=count,
        better=better,
    )


def ratio(
    these: Sequence[float], those: Sequence[float], better: Literal["lower", "higher"] | None = "lower"
) -> Figure:
    """These over those, round by round: what else the machine did met both."""
    return measured([this / that for this, that in zip(these, those, strict=True)], better)


class Scenario(msgspec.Struct, frozen=True):
    """What one scenario found."""

    about: str
    took_s: float
    figures: dict[str, Figure]
    skipped: str | None = None
    """Why it found nothing."""


class Machine(msgspec.Struct, frozen=True):
    """Where it was measured."""

    cpu: str
    cores: int
    system: str
    load_before: float
    """Processes that wanted to run, on average of a minute; above `cores`, all figures in seconds are too high."""
    load_after: float | None = None


class Results(msgspec.Struct, frozen=True):
    """All that a run found."""

    made_at: datetime
    machine: Machine
    versions: dict[str, str | None]
    """Of Python, claude-force, the SDK and the peers; `None` is not installed."""
    latency: dict[str, float]
    """Of the answers in scenarios with realistic ones: P50, P95 and P99 in seconds, and the scale of all times."""
    iterations: int
    scenarios: dict[str, Scenario]
    schema: int = SCHEMA

    def figure(self, scenario: str, name: str) -> Figure:
        """One of them. Raises `KeyError`."""
        return self.scenarios[scenario].figures[name]

    def figures(self) -> Iterable[tuple[str, str, Figure]]:
        """Scenario, name and figure, of all."""
        return ((key, name, figure) for key, found in self.scenarios.items() for name, figure in found.figures.items())


def write_results(results: Results, path: Path) -> None:
    """As JSON that people can read, too."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(results), indent=1) + b"\n")


def read_results(path: Path) -> Results:
    """What `write_results` wrote. Ends the program where that is not what the file holds."""
    try:
        data = path.read_bytes()
        schema = msgspec.json.decode(data, type=Mapping[str, object]).get("schema")
        if schema != SCHEMA:
            sys.exit(f"{path} has results of schema {schema!r}, and this program reads {SCHEMA}: make it anew")
        return msgspec.json.decode(data, type=Results)
    except OSError as error:
        sys.exit(f"{path} cannot be read: {error.strerror}; make it with run_benchmarks.py --output")
    except msgspec.MsgspecError as error:
        sys.exit(f"{path} holds no results of benchmarks: {error}; make it with run_benchmarks.py --output")


def this_machine() -> Machine:
    """Where this program runs, before it measures."""
    try:
        cpu = CPU_NAME.search(Path("/proc/cpuinfo").read_text())
    except OSError:
        cpu = None
    name = cpu[1] if cpu else platform.processor() or platform.machine()
    return Machine(name, cores=os.cpu_count() or 1, system=platform.system(), load_before=load())


def load() -> float:
    """How many processes want to run, on average of a minute."""
    return round(os.getloadavg()[0], 2)


def versions() -> dict[str, str | None]:
    """Of Python, of claude-force and the SDK, and of the peers that the extra `bench` names."""
    required = importlib.metadata.requires("claude-force") or []
    peers = [re.split(r"[^\w-]", line)[0] for line in required if re.search(r"extra == .bench.", line)]
    return {"python": platform.python_version()} | {
        name: _version(name) for name in ("claude-force", "anthropic", *peers)
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
