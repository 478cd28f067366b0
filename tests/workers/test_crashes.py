"""Workers, and who starts runs, are killed at random: every step is done once in the end, and little is paid twice."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from claude_force.workers.durable import LIVES, Address, Queue, queue_of
from claude_force.workers.engine import Standing

# Forks a process for each life, until the work does not kill any more.
POISON = """
import asyncio, os, signal, sys
from pathlib import Path
from claude_force.workers.durable import Address, Queue, Shift, queue_of

folder, lives = Path(sys.argv[1]), 0

async def do(id_, work):
    os.kill(os.getpid(), signal.SIGKILL)

async def work():
    address, until = Address("sqlite:///engine.db", folder=folder), asyncio.Event()
    shift = Shift(address, do, queue=queue_of(""), concurrency=1)
    looked = asyncio.create_task(asyncio.to_thread(given_up, address, until, asyncio.get_running_loop()))
    await shift.work(until)
    await looked

def given_up(address, until, loop):
    queue = Queue(address, queue_of(""))
    queue.open()
    while queue.look(["run/a/1"])["run/a/1"].state != "lost":
        pass
    queue.close(drains=False)
    loop.call_soon_threadsafe(until.set)

while True:
    child = os.fork()
    if not child:
        asyncio.run(work())
        os._exit(0)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0:
        break
    lives += 1
print(lives)
"""


@pytest.mark.usefixtures("_from_nursery")
def test_whoever_is_killed_the_run_comes_to_its_end(
    postgres: str, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every answer is right, the limit of all workers holds, and no more is paid again than a killed worker had."""
    monkeypatch.setattr(sys, "path", [str(Path(__file__).parents[2] / "benchmarks"), *sys.path])
    from soak_workers import soak

    report = soak(tmp_path_factory.mktemp("machines"), postgres, steps=30, kills=6, size=3, limit=6, seed=1)
    assert report.results == {f"s{number}": str(number) for number in range(30)}
    assert sum(report.kills.values()) == 6
    assert report.max_in_flight <= report.limit
    assert 0 <= report.in_the_window <= 3 * report.kills["worker"]


@pytest.mark.usefixtures("_from_nursery")
def test_work_that_kills_is_given_up(tmp_path: Path) -> None:
    """After so many workers have died of it, the next one leaves it alone."""
    queue = Queue(Address("sqlite:///engine.db", folder=tmp_path), queue_of(""))
    queue.open()
    queue.submit("run/a/1", b"poison")
    done = subprocess.run(
        ["quick-python", "-c", POISON, str(tmp_path)], capture_output=True, text=True, check=True, env=os.environ
    )
    assert int(done.stdout) == LIVES
    assert queue.look(["run/a/1"]) == {"run/a/1": Standing("lost")}
    queue.close(drains=False)
