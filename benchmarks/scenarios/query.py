"""Similar sessions of an `AgentMemory`: found cold, found again, and after another process has written; beside LIKE.

LIKE is what one writes without an index: SQLite counts in how many of the task's words each session's task has, over
the same file. It finds parts of words as well, and knows neither how rare a word is nor who signed a session.
"""

import itertools
import random
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from claude_force import AgentMemory

SECRET = "a secret for measurements only"  # noqa: S105 - it guards nothing
AGENTS = 10
SYLLABLES = [f"{consonant}{vowel}" for consonant in "bdgklmnprt" for vowel in "ai"]
WORDS = ["".join(syllables) for syllables in itertools.product(SYLLABLES, repeat=3)]
"""8,000; how often one is used falls with its place, as in any language (Zipf)."""
WEIGHTS = list(itertools.accumulate(1 / place for place in range(1, len(WORDS) + 1)))
TASK_WORDS, RESULT_WORDS, KEPT_WORDS = 15, 40, 10
SMALL = 5_000

STORE = """
import sys
from claude_force import AgentMemory
AgentMemory(sys.argv[1], secret=sys.argv[2]).store_session("agent-0", sys.argv[3], "It is done.", success=True)
"""


def run(iterations: int) -> dict[str, float]:
    """The figures of a memory that is quickly filled."""
    return measure(iterations, SMALL)


def measure(iterations: int, sessions: int) -> dict[str, float]:
    """Milliseconds and microseconds over `iterations` different questions, and ratios."""
    dice = random.Random(7)  # noqa: S311 - the same sessions each time
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "agent_memory.db")
        tasks = [_text(dice, TASK_WORDS) for _ in range(sessions)]
        writer = AgentMemory(path, secret=SECRET)
        started = time.perf_counter()
        for number, task in enumerate(tasks):
            writer.store_session(f"agent-{number % AGENTS}", task, _text(dice, RESULT_WORDS), success=number % 9 > 0)
        stored_s = time.perf_counter() - started
        writer.close()
        questions = list(_questions(dice, tasks, iterations))
        memory, connection = AgentMemory(path, secret=SECRET), sqlite3.connect(path)
        memory.get_similar_sessions("nobody", "opens the file")
        cold = _times(questions, lambda agent, task: len(memory.get_similar_sessions(agent, task)))
        again = _times(questions, lambda agent, task: len(memory.get_similar_sessions(agent, task)))
        like = _times(questions, lambda agent, task: len(_like(connection, agent, task)))
        connection.close()
        seen_s = _after_a_write(memory, path, questions[0][1])
        memory.close()
    return {
        "sessions": float(sessions),
        "stored, microseconds a session": stored_s / sessions * 1e6,
        "cold, ms, P50": cold[0] * 1e3,
        "cold, ms, P95": cold[1] * 1e3,
        "from the LRU, microseconds, P50": again[0] * 1e6,
        "from the LRU, microseconds, P95": again[1] * 1e6,
        "the first after another process wrote, ms": seen_s * 1e3,
        "LIKE, ms, P50": like[0] * 1e3,
        "LIKE, ms, P95": like[1] * 1e3,
        "LIKE over cold, P95": like[1] / cold[1],
        "cold over the LRU, P95": cold[1] / again[1],
    }


def _text(dice: random.Random, length: int) -> str:
    return " ".join(dice.choices(WORDS, cum_weights=WEIGHTS, k=length))


def _questions(dice: random.Random, tasks: list[str], count: int) -> Iterator[tuple[str, str]]:
    """Agents and tasks: each second task is one of before with a third of its words changed, the others are new."""
    for number in range(count):
        place = dice.randrange(len(tasks))
        kept = dice.sample(tasks[place].split(), KEPT_WORDS) if number % 2 else []
        yield f"agent-{place % AGENTS}", " ".join([*kept, _text(dice, TASK_WORDS - len(kept))])


def _times(questions: list[tuple[str, str]], ask: Callable[[str, str], int]) -> tuple[float, float]:
    """Median and 95th percentile, in seconds."""
    times, found = [], 0
    for agent, task in questions:
        started = time.perf_counter()
        found += ask(agent, task)
        times.append(time.perf_counter() - started)
    assert found, "nothing was alike: this measures nothing"  # noqa: S101 - a measurement's own check
    return statistics.median(times), statistics.quantiles(times, n=20, method="inclusive")[-1]


def _like(connection: sqlite3.Connection, agent: str, task: str) -> list[tuple[int, str, str]]:
    patterns = [f"%{word}%" for word in task.split()]
    shared = " + ".join(["(task LIKE ?)"] * len(patterns))
    query = f"SELECT {shared} AS shared, task, result FROM sessions WHERE agent_name = ? ORDER BY 1 DESC LIMIT 5"  # noqa: S608 - no foreign text
    return connection.execute(query, (*patterns, agent)).fetchall()


def _after_a_write(memory: AgentMemory, path: Path, task: str) -> float:
    """Seconds of a question that was answered before, once another process has stored its very task."""
    before = memory.get_similar_sessions("agent-0", task, limit=1)
    subprocess.run([sys.executable, "-c", STORE, path, SECRET, task], check=True)
    started = time.perf_counter()
    (found,) = memory.get_similar_sessions("agent-0", task, limit=1)
    seconds = time.perf_counter() - started
    assert [found] != before, "another process's write was not seen"  # noqa: S101 - a measurement's own check
    assert found.result == "It is done."  # noqa: S101 - as above
    return seconds
