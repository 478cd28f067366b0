"""The response cache beside a dict, cachetools, diskcache, LangChain's SQLiteCache and one signed file per entry.

Every subject keeps the same answers and gives back the same facts. Peers that are not installed have no figures. Disk
hits are read by a fresh process, each key once; `put` and `hit` are medians, and means where they say so.
"""

import hashlib
import hmac
import importlib.util
import json
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

sys.path.insert(0, str(Path(__file__).parents[1]))  # this file is also a program
from memory import resident_mb
from results import Figure, measured, ratio

if TYPE_CHECKING:
    from claude_force.response_cache import ResponseCache

SECRET = "a secret for measurements only"  # noqa: S105 - it guards nothing
KIB = 1024
PROCESSES = 8


class Subject(NamedTuple):
    """A cache that was opened: `get` gives the answer's text, or raises."""

    get: Callable[[str], str]
    put: Callable[[str, str], object]


def _claude_force(folder: Path, *, memory_mb: float = 1e-6) -> Subject:
    from claude_force.response_cache import ResponseCache  # noqa: PLC0415 - fresh processes open one of many

    cache = ResponseCache(folder, secret=SECRET, max_size_mb=10_000, memory_mb=memory_mb)
    cache._disk()  # noqa: SLF001 - opening is what is measured, and would else happen with the first hit
    return subject_of(cache)


def subject_of(cache: "ResponseCache") -> Subject:
    """A cache of ours, wherever it keeps its entries."""
    from claude_force.response_cache import CacheEntry  # noqa: PLC0415 - as above

    def get(key: str) -> str:
        entry = cache.lookup(key, agent_name="linter")
        if entry is None:
            raise KeyError(key)
        return entry.response

    def put(key: str, text: str) -> None:
        facts = {"input_tokens": 900, "output_tokens": 800, "estimated_cost": None, "timestamp": time.time()}
        cache.keep(
            CacheEntry(key=key, agent_name="linter", task="Check it.", model="haiku", response=text, **facts)  # type: ignore[arg-type] # one row
        )

    return Subject(get, put)


def _claude_force_in_memory(folder: Path) -> Subject:
    return _claude_force(folder, memory_mb=1_000)


def _files(folder: Path) -> Subject:
    """One JSON file per entry, signed, written atomically: what many programs do."""

    def signature(facts: str) -> str:
        return hmac.digest(SECRET.encode(), facts.encode(), "sha256").hex()

    def get(key: str) -> str:
        kept = json.loads((folder / key).read_bytes())
        if not hmac.compare_digest(signature(kept["facts"]), kept["signature"]):
            raise KeyError(key)
        facts = json.loads(kept["facts"])
        return str(facts["response"]) if facts["key"] == key else ""

    def put(key: str, text: str) -> None:
        facts = json.dumps({"key": key, "response": text, "input": 900, "output": 800, "timestamp": time.time()})
        temporary = folder / f"{key}.{os.getpid()}"
        temporary.write_text(json.dumps({"facts": facts, "signature": signature(facts)}))
        temporary.replace(folder / key)

    folder.mkdir(exist_ok=True)
    return Subject(get, put)


def _floor(folder: Path) -> Subject:
    """The least that a signed answer in SQLite can cost: one statement, msgspec, HMAC-SHA256; no bound, no figures.

    A hash takes a third of that or more where the processor has no instructions for SHA-256: so the ratio counts.
    """
    folder.mkdir(exist_ok=True)
    database = sqlite3.connect(folder / "floor.db", isolation_level=None)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = NORMAL")
    database.execute("CREATE TABLE IF NOT EXISTS entries (key TEXT PRIMARY KEY, signature BLOB, facts BLOB)")
    encode, decode = msgspec.msgpack.Encoder().encode, msgspec.msgpack.Decoder(list[Any]).decode

    def get(key: str) -> str:
        signature, facts = database.execute("SELECT signature, facts FROM entries WHERE key = ?", (key,)).fetchone()
        if not hmac.compare_digest(signature, hmac.digest(SECRET.encode(), facts, "sha256")):
            raise KeyError(key)
        return str(decode(facts)[1])

    def put(key: str, text: str) -> None:
        facts = encode([key, text, 900, 800, time.time()])
        signature = hmac.digest(SECRET.encode(), facts, "sha256")
        database.execute("INSERT OR REPLACE INTO entries VALUES (?, ?, ?)", (key, signature, facts))

    return Subject(get, put)


def _diskcache(folder: Path) -> Subject:
    import diskcache  # type: ignore[import-untyped,import-not-found,unused-ignore] # noqa: PLC0415 - not everywhere

    cache = diskcache.Cache(str(folder), size_limit=10**10)
    return Subject(
        lambda key: str(cache[key]["response"]),
        lambda key, text: cache.set(key, {"response": text, "input": 900, "output": 800, "timestamp": time.time()}),
    )


def _langchain(folder: Path) -> Subject:
    from langchain_community.cache import SQLiteCache  # type: ignore[import-untyped,import-not-found,unused-ignore] # noqa: PLC0415
    from langchain_core.outputs import Generation  # type: ignore[import-untyped,import-not-found,unused-ignore] # noqa: PLC0415

    folder.mkdir(exist_ok=True)
    cache = SQLiteCache(str(folder / "langchain.db"))
    return Subject(
        lambda key: str((cache.lookup(key, "haiku") or [])[0].text),
        lambda key, text: cache.update(key, "haiku", [Generation(text=text)]),
    )


def _cachetools(_: Path) -> Subject:
    import cachetools  # type: ignore[import-untyped,import-not-found,unused-ignore] # noqa: PLC0415 - not everywhere

    cache: Any = cachetools.LRUCache(10_000)
    return Subject(cache.__getitem__, cache.__setitem__)


def _dict(_: Path) -> Subject:
    cache: dict[str, str] = {}
    return Subject(cache.__getitem__, cache.__setitem__)


MEMORY = {"claude_force": _claude_force_in_memory, "cachetools": _cachetools, "dict": _dict}
DISK = {
    "claude_force": _claude_force,
    "floor": _floor,
    "files": _files,
    "diskcache": _diskcache,
    "langchain": _langchain,
}
_NEEDS = {"cachetools": "cachetools", "diskcache": "diskcache", "langchain": "langchain_community"}


def is_installed(name: str) -> bool:
    """Whether this peer can be measured here."""
    return importlib.util.find_spec(_NEEDS.get(name, "json")) is not None


def run(iterations: int) -> dict[str, Figure]:
    """Figures of whatever is installed, and ratios of some, over several rounds; a large cache is opened once."""
    rounds = [measure(2, 2_000) for _ in range(max(1, iterations // 3))]
    samples = {name: [each[name] or 0 for each in rounds] for name, value in rounds[0].items() if value is not None}
    figures = {name: measured(values) for name, values in samples.items()}
    for what in ("put, 4 KB", "disk hit, 4 KB"):
        ours = samples[f"{what}, µs: claude_force"]
        figures |= {
            f"{what}, times as long as claude-force: {name}": ratio(samples[f"{what}, µs: {name}"], ours, "higher")
            for name in DISK
            if name != "claude_force" and is_installed(name)
        }
    with tempfile.TemporaryDirectory() as folder:
        large = _open("claude_force", Path(folder), 100_000)
    return figures | {name: measured([value]) for name, value in large.items() if value is not None}


def measure(iterations: int, entries: int = 100_000) -> dict[str, float | None]:
    """All figures; `None` for a peer that is not installed."""
    figures: dict[str, float | None] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for name in MEMORY:
            figures[f"memory hit, 4 KB, µs: {name}"] = _if_installed(name, _memory_hit, folder, iterations)
        for size in (4, 64):
            count = min(iterations * 100, 2_000)
            puts = _puts(folder, size, count)
            for name in DISK:
                figures[f"put, {size} KB, µs: {name}"] = statistics.median(puts[name]) * 1e6 if name in puts else None
            for name in DISK:
                figures[f"put, {size} KB, mean µs: {name}"] = (
                    statistics.fmean(puts[name]) * 1e6 if name in puts else None
                )
            hits = json.loads(_worker("read", size, folder, count))
            figures |= {f"disk hit, {size} KB, µs: {name}": hits.get(name) for name in DISK}
        for count in (100, entries):
            for name in DISK if count == 100 else ("claude_force",):  # noqa: PLR2004 - peers would take hours to fill
                figures |= _open(name, folder, count)
        for name in DISK:
            figures[f"{PROCESSES} processes, read and write, operations/s: {name}"] = _if_installed(
                name, _together, name, folder, 500
            )
    return figures


def _if_installed(name: str, work: Callable[..., Any], *arguments: Any) -> Any:  # noqa: ANN401 - passes them on
    return work(*((name, *arguments) if work is _memory_hit else arguments)) if is_installed(name) else None


def _key(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def _text(kilobytes: int) -> str:
    """Source code, which packs as answers do: not as well as one word repeated, and better than noise."""
    code = Path(json.__file__).parent.joinpath("decoder.py").read_text() + Path(statistics.__file__).read_text()
    return (code * 2)[: kilobytes * KIB]


def _memory_hit(name: str, folder: Path, iterations: int) -> float:
    subject, keys = MEMORY[name](folder / f"{name}-memory"), [_key(number) for number in range(100)]
    for key in keys:
        subject.put(key, _text(4))
    times = []
    for _ in range(iterations * 10):
        started = time.perf_counter()
        for key in keys:
            subject.get(key)
        times.append((time.perf_counter() - started) / len(keys))
    return statistics.median(times) * 1e6


def _opened(folder: Path, size: int) -> dict[str, Subject]:
    return {name: open_(folder / f"{name}-{size}") for name, open_ in DISK.items() if is_installed(name)}


def _puts(folder: Path, size: int, count: int) -> dict[str, list[float]]:
    """Seconds of each put."""
    subjects, text = _opened(folder, size), _text(size)
    return _in_turns(subjects, [_key(number) for number in range(count)], lambda subject, key: subject.put(key, text))


def _in_turns(
    subjects: dict[str, Subject], keys: list[str], call: Callable[[Subject, str], object]
) -> dict[str, list[float]]:
    """Seconds of each call, fifty of each subject at a time: what else the machine does meets all alike."""
    times: dict[str, list[float]] = {name: [] for name in subjects}
    for block in (keys[start : start + 50] for start in range(0, len(keys), 50)):
        for name, subject in subjects.items():
            for key in block:
                started = time.perf_counter()
                call(subject, key)
                times[name].append(time.perf_counter() - started)
    return times


def _open(name: str, folder: Path, count: int) -> dict[str, float | None]:
    """Opening a cache that holds so many, and what the process then takes."""
    label = f"with {count:,} entries"
    if not is_installed(name):
        return {f"open {label}, ms: {name}": None}
    place = folder / f"{name}-{count}"
    _worker("fill", name, place, count)
    ms, mb = _worker("open", name, place, count).split()
    return {f"open {label}, ms: {name}": float(ms), f"memory {label}, MB more: {name}": float(mb)}


def _together(name: str, folder: Path, count: int) -> float:
    """Processes that read and write the same cache at once."""
    place = folder / f"{name}-together"
    _worker("fill", name, place, 10)
    workers = [_start("share", name, place, count, offset) for offset in range(PROCESSES)]
    for worker in workers:
        _said(worker)  # it has imported and opened everything
    started = time.perf_counter()
    for worker in workers:
        _tell(worker)
    codes = [worker.wait() for worker in workers]
    if any(codes):
        raise RuntimeError(f"{name} lost what was written")
    return PROCESSES * count * 2 / (time.perf_counter() - started)


def _said(worker: "subprocess.Popen[str]") -> str:
    return worker.stdout.readline() if worker.stdout else ""


def _tell(worker: "subprocess.Popen[str]") -> None:
    if worker.stdin:
        worker.stdin.write("go\n")
        worker.stdin.flush()


# ---------------------------------------------------------------- in a process of its own


def _start(*arguments: object) -> "subprocess.Popen[str]":
    command = [sys.executable, __file__, *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _worker(*arguments: object) -> str:
    process = _start(*arguments)
    output, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(f"{arguments} failed")
    return output.strip()


def _work(action: str, name: str, folder: str, count: str, offset: str = "0") -> None:
    text, keys = _text(4), [_key(int(offset) * 1_000_000 + number) for number in range(int(count))]
    if action == "read":
        times = _in_turns(_opened(Path(folder), int(name)), keys, lambda subject, key: subject.get(key))
        print(json.dumps({peer: statistics.median(seconds) * 1e6 for peer, seconds in times.items()}))
        return
    if action == "open":
        with tempfile.TemporaryDirectory() as warm:
            DISK[name](Path(warm) / "cache")  # modules are imported by now
    before = resident_mb()
    started = time.perf_counter()
    subject = DISK[name](Path(folder))
    opened_s = time.perf_counter() - started
    if action == "open":
        subject.get(keys[-1])
        print(opened_s * 1e3, resident_mb() - before)
    elif action == "fill":
        for key in keys:
            subject.put(key, text)
    else:
        print("ready", flush=True)
        sys.stdin.readline()
        for key in keys:
            subject.put(key, text)
        for key in keys:
            subject.get(key)


if __name__ == "__main__":
    _work(*sys.argv[1:])
