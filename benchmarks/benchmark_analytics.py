"""`analytics summary` of a large ledger beside its peers: `benchmark_analytics.py [--lines N] [--rounds N]`.

Each subject is a process of its own, from its start to its end, in turns (A, B, A, B ...); shown is the median, and the
most memory that it had, or its largest helper. Processor time is of both; where others use the machine, it tells more
than what a clock says, of which two processes may take half. A loop over the lines with msgspec is what any reader in
Python takes at least; ratios to it hold where absolute times drift with the machine. Peers are measured where they are
installed: `pip install duckdb polars`. They answer less: count, successes, tokens, cost and percentiles, for one group.
"""

import argparse
import importlib.util
import os
import random
import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

DAYS, AGENTS = 29, 12
MODELS = ("claude-haiku-5-5", "claude-sonnet-5-5", "claude-opus-5-5")
COMMAND = ("-m", "claude_force", "analytics", "summary", "--json")
REPORT = ("-m", "claude_force", "analytics", "report", "--output", "report.html")

MSGSPEC = """
import sys, msgspec
from datetime import datetime
from decimal import Decimal
class Line(msgspec.Struct):
    timestamp: datetime
    success: bool
    execution_time_ms: float
    agent_name: str
    model: str | None
    input_tokens: int
    output_tokens: int
    estimated_cost: Decimal | None
decode, cost = msgspec.json.Decoder(Line).decode, 0
for data in open(sys.argv[1], "rb"):
    cost += decode(data).estimated_cost
print(cost)
"""
JSON = """
import sys, json
cost = 0
for data in open(sys.argv[1], "rb"):
    cost += json.loads(data)["estimated_cost"]
print(cost)
"""
DUCKDB = """
import sys, duckdb
print(duckdb.sql(f\"\"\"select count(*), sum(success::int), sum(input_tokens), sum(output_tokens), sum(estimated_cost),
    quantile_cont(execution_time_ms, [0.5, 0.75, 0.9, 0.95, 0.99]) from read_ndjson('{sys.argv[1]}')\"\"\").fetchall())
"""
POLARS = """
import sys, polars as pl
time = pl.col("execution_time_ms")
print(pl.scan_ndjson(sys.argv[1]).select(
    pl.len(), *(pl.col(name).sum() for name in ("success", "input_tokens", "output_tokens", "estimated_cost")),
    *(time.quantile(share).alias(str(share)) for share in (0.5, 0.75, 0.9, 0.95, 0.99)),
).collect(engine="streaming"))
"""


class Took(NamedTuple):
    """What a process took."""

    seconds: float
    processor_seconds: float
    megabytes: float


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--lines", type=int, default=1_000_000, help="of the ledger (default: 1,000,000)")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each figure (default: 3)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        ledger = Path(folder, ".claude/metrics/executions.jsonl")
        write(ledger, options.lines)
        size = ledger.stat().st_size
        print(f"{options.lines:,} lines, {size / 1e6:,.0f} MB, {size / options.lines:.0f} bytes each")
        took = measure(ledger, options.rounds)
    loop = took["a loop with msgspec"]
    for subject, (seconds, cpu, megabytes) in took.items():
        ratios = f"{seconds / loop.seconds:6.2f} x the loop, {cpu / loop.processor_seconds:6.2f} x its processor time"
        print(f"{subject:<30} {seconds:8.2f} s {cpu:8.2f} s of processors {megabytes:6.0f} MB {ratios}")


def write(ledger: Path, lines: int) -> None:
    """Executions of a month, evenly, with the fields that most have."""
    dice = random.Random(1)  # noqa: S311 - the same ledger each time
    begun, step = datetime.now(UTC) - timedelta(days=DAYS), timedelta(days=DAYS) / lines
    ledger.parent.mkdir(parents=True)
    with ledger.open("w") as file:
        for number in range(lines):
            at = (begun + number * step).isoformat().replace("+00:00", "Z")
            tokens = dice.randrange(5_000), dice.randrange(2_000)
            file.write(
                f'{{"timestamp":"{at}","agent_name":"agent-{dice.randrange(AGENTS)}","task_hash":'
                f'"{dice.getrandbits(32):08x}","success":true,"execution_time_ms":{dice.lognormvariate(8.5, 0.7):.3f},'
                f'"model":"{dice.choice(MODELS)}","input_tokens":{tokens[0]},"output_tokens":{tokens[1]},"total_tokens":'
                f'{sum(tokens)},"estimated_cost":0.{dice.randrange(10**6):06},"stop_reason":"end_turn","request_id":'
                f'"req_{dice.getrandbits(80):020x}"}}\n'
            )


def measure(ledger: Path, rounds: int) -> dict[str, Took]:
    """The median of each subject."""
    subjects = {
        "claude-force, the first time": COMMAND,
        "claude-force, later": COMMAND,
        "claude-force, a report": REPORT,
        "a loop with msgspec": ("-c", MSGSPEC, str(ledger)),
        "a loop with json": ("-c", JSON, str(ledger)),
    }
    for name, code in (("duckdb", DUCKDB), ("polars", POLARS)):
        if importlib.util.find_spec(name):
            subjects[name] = ("-c", code, str(ledger))
    taken: dict[str, list[Took]] = {subject: [] for subject in subjects}
    for _ in range(rounds):
        ledger.with_name("index.json").unlink(missing_ok=True)
        for subject, command in subjects.items():
            taken[subject].append(timed(command, ledger.parents[2]))
    return {
        subject: Took(
            statistics.median(each.seconds for each in all_),
            statistics.median(each.processor_seconds for each in all_),
            max(each.megabytes for each in all_),
        )
        for subject, all_ in taken.items()
    }


def timed(command: tuple[str, ...], folder: Path) -> Took:
    """Run Python so, in that folder."""
    begun = time.perf_counter()
    process = os.fork()
    if process == 0:
        os.chdir(folder)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.execv(sys.executable, [sys.executable, *command])  # noqa: S606 - itself
    _, status, usage = os.wait4(process, 0)
    if status:
        raise SystemExit(f"{' '.join(command)[:80]} has failed")
    return Took(time.perf_counter() - begun, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


if __name__ == "__main__":
    main()
