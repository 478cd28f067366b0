"""What `claude-force serve` takes while many pages are open and much happens in another process.

`PAGES` clients read the events; a run of another process notes `A_SECOND` steps a second in the journal. The server's
processor time is that of its own process, in cores; its memory is looked at when all pages are open, and at the end.
"""

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from claude_force.stores.runs import RunRecord, RunStore, StepRecord

PAGES = 200
A_SECOND = 50
SECONDS = 30
STEPS = 200
"""Of the run; each is noted again and again, as if it were done each time."""


def run(rounds: int) -> dict[str, float]:
    """The figures."""
    import starlette  # noqa: F401, PLC0415 - the extra `dashboard`: if it is not there, this says so at once

    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / ".claude").mkdir()
        command = [sys.executable, "-m", "claude_force", "serve", "--port", "0"]
        with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout  # noqa: S101 - it was asked for
            port = int(server.stdout.readline().rstrip("/\n").rpartition(":")[2])
            try:
                return asyncio.run(_watched(server.pid, port, Path(folder) / ".claude/runs.db", SECONDS * rounds))
            finally:
                server.terminate()


async def _watched(pid: int, port: int, journal: Path, seconds: float) -> dict[str, float]:
    counts = [0] * PAGES
    pages = [asyncio.create_task(_page(port, counts, number)) for number in range(PAGES)]
    writing = asyncio.create_task(asyncio.to_thread(_write, journal, seconds + 4))
    await asyncio.sleep(4)  # all are open, and the journal is there
    before, cpu, begun = list(counts), _cpu_s(pid), time.monotonic()
    memory = _memory_mb(pid)
    await asyncio.sleep(seconds)
    took, used, memory_after = time.monotonic() - begun, _cpu_s(pid) - cpu, _memory_mb(pid)
    told = [now - earlier for now, earlier in zip(counts, before, strict=True)]
    for page in pages:
        page.cancel()
    await writing
    return {
        f"server, cores, {PAGES} pages, {A_SECOND} events a second": used / took,
        "events that the slowest page was told, a second": min(told) / took,
        "events that the fastest page was told, a second": max(told) / took,
        "server, MB, all pages open": memory,
        "server, MB, at the end": memory_after,
    }


async def _page(port: int, counts: list[int], number: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
    writer.write(b"GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
    while data := await reader.read(1 << 16):
        counts[number] += data.count(b"event: step")


def _write(journal: Path, seconds: float) -> None:
    """As a run in another process does: it knows nothing of a server."""
    store, now = RunStore(journal), datetime.now(UTC)
    steps = ",".join(f'{{"id": "s{number}", "agent": "a", "task": "x"}}' for number in range(STEPS))
    definition = f'{{"steps": [{steps}]}}'
    store.begin(RunRecord(id="1", workflow="w", status="running", started_at=now, definition=definition))
    begun = time.monotonic()
    for number in range(round(seconds * A_SECOND)):
        now = datetime.now(UTC)
        store.note("1", StepRecord(step=f"s{number % STEPS}", agent="a", status="done", started_at=now, ended_at=now))
        time.sleep(max(begun + number / A_SECOND - time.monotonic(), 0))
    store.close()


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _memory_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
