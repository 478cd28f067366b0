"""A tasks file from the shell: a real process, a real server, and no task paid for twice."""

import json
import os
import pty
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from claude_force.testing import Answer, ApiFault, Refusal, Rule, Simulator, environment
from tests.conftest import echo

from .conftest import Run, Start, on

EXECUTE = ("execute", "reviewer", "--tasks-file", "t.jsonl")
KEEPING = (*EXECUTE, "--output", "r.jsonl")


@pytest.fixture
def simulator() -> Any:
    """A server that answers with the task's last word."""
    with Simulator(answer=echo) as running:
        yield running


@pytest.fixture
def write(project: Path) -> Callable[..., None]:
    """Writes the tasks file: a number makes that many tasks."""

    def write(*lines: object) -> None:
        if isinstance(lines[0], int):
            lines = tuple(f"task {number}" for number in range(lines[0]))
        (project / "t.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))

    return write


def results(text: str) -> list[dict[str, Any]]:
    """The lines of results; each is whole."""
    assert text == "" or text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def kept(project: Path) -> list[dict[str, Any]]:
    """The lines of the results file."""
    return results((project / "r.jsonl").read_text())


def asked(simulator: Simulator) -> Counter[str]:
    """How often each task has reached the server."""
    return Counter(request.prompt for request in simulator.requests)


def test_a_schema_is_for_every_task(run: Run, write: Callable[..., None], project: Path, simulator: Simulator) -> None:
    """Each result has its data, and with another schema all are asked anew."""
    (project / "s.json").write_text('{"type": "integer"}')
    write("say 1", "say 2")
    assert run(*KEEPING, "--schema", "s.json").returncode == 0
    assert sorted(line["result"]["data"] for line in kept(project)) == [1, 2]
    assert run(*KEEPING, "--schema", "s.json").returncode == 0
    assert sum(asked(simulator).values()) == 2
    (project / "s.json").write_text('{"type": "integer", "maximum": 1}')
    assert run(*KEEPING, "--schema", "s.json").returncode == 1
    assert sum(asked(simulator).values()) == 4


# ---------------------------------------------------------------- results


def test_each_task_has_one_line_of_json(run: Run, write: Any, simulator: Simulator) -> None:
    """Results are on stdout, as they come, and nothing else is; the summary is on stderr."""
    write("task 0", {"task": "task 1", "id": "second"}, {"task": "task 2", "id": 3})
    done = run(*EXECUTE)
    lines = sorted(results(done.stdout), key=lambda line: line["number"])
    assert done.returncode == 0
    assert [(line["id"], line["status"], line["result"]["text"]) for line in lines] == [
        (None, "done", "0"),
        ("second", "done", "1"),
        (3, "done", "2"),
    ]
    assert "3 done, 0 failed, 0 not run, would cost $0.0" in done.stderr
    assert "simulated" in done.stderr
    assert asked(simulator) == {"task 0": 1, "task 1": 1, "task 2": 1}


def test_tasks_from_a_pipe(run: Run) -> None:
    """`-` reads them from standard input."""
    done = run("execute", "reviewer", "--tasks-file", "-", stdin='"task 0"\n"task 1"\n')
    assert sorted(line["result"]["text"] for line in results(done.stdout)) == ["0", "1"]


def test_options_and_lines(run: Run, write: Any, simulator: Simulator, project: Path) -> None:
    """What the command says is for all tasks, and what a line says wins; files of both are sent."""
    for name in ("a", "b"):
        (project / f"{name}.py").write_text(f"{name.upper()} = 1")
    (project / ".claude/agents/other.md").write_text("---\nname: other\ndescription: Other.\n---\nYou are other.\n")
    write("one", {"task": "two", "agent": "other", "model": "opus", "files": ["b.py"], "max_tokens": 5})
    assert run(*EXECUTE, "--file", "a.py", "--model", "sonnet", "--max-tokens", "9").returncode == 0
    one, two = sorted(simulator.requests, key=lambda request: request.prompt.split()[-1])
    assert (one.model, one.body["max_tokens"], one.system) == ("claude-sonnet-5-5", 9, "You review code.")
    assert (two.model, two.body["max_tokens"], two.system) == ("claude-opus-5-5", 5, "You are other.")
    assert ["A = 1" in request.prompt for request in (one, two)] == [True, True]
    assert ["B = 1" in request.prompt for request in (one, two)] == [False, True]


def test_so_many_at_once(start: Start, write: Any, simulator: Simulator) -> None:
    """`--max-concurrent` is exact."""
    write(12)
    simulator.hold()
    process = start(*EXECUTE, "--max-concurrent", "3")
    simulator.wait_until(lambda stats: stats.in_flight == 3, timeout_s=120)
    simulator.release()
    process.communicate(timeout=120)
    assert (process.returncode, simulator.stats.max_in_flight) == (0, 3)


def test_a_summary_for_a_machine(run: Run, write: Any) -> None:
    """With `--json` and `--output`, stdout is one document with the counts."""
    write(3)
    data = json.loads(run(*KEEPING, "--json").stdout)
    assert (data["done"], data["failed"], data["not_run"], data["exit_code"], data["error"]) == (3, 0, 0, 0, None)
    assert (data["simulated"], data["unpriced"]) == (3, 0)
    assert data["cost_usd"] > 0
    assert json.loads(run(*KEEPING, "--json").stdout)["done_before"] == 3


def test_no_tasks(run: Run, project: Path, simulator: Simulator) -> None:
    """An empty file is done at once, and said to be empty."""
    (project / "t.jsonl").write_text("\n\n")
    done = run(*EXECUTE)
    assert (done.returncode, done.stdout, simulator.stats.calls) == (0, "", {})
    assert "no tasks in 't.jsonl'" in done.stderr


# ---------------------------------------------------------------- before anything is sent


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["execute", "reviewer", "x", "--tasks-file", "t.jsonl"], "not both"),
        (["execute", "reviewer", "x", "--output", "r.jsonl"], "belong to --tasks-file"),
        (["execute", "reviewer", "x", "--max-concurrent", "2"], "belong to --tasks-file"),
        ([*EXECUTE, "--json"], "results are JSON already"),
        ([*EXECUTE, "--max-concurrent", "0"], "0 is not in the range"),
        ([*EXECUTE, "--output", "t.jsonl"], "is the tasks file"),
        ([*EXECUTE, "--output", "notes.txt"], "line 1 of 'notes.txt' is no result"),
        ([*EXECUTE, "--output", "nowhere/r.jsonl"], "cannot write to 'nowhere/r.jsonl'"),
        ([*EXECUTE, "-f", "nowhere.py"], "cannot read 'nowhere.py'"),
        (["execute", "reviewer", "--tasks-file", "nowhere"], "cannot read 'nowhere'"),
        (["execute", "reviwer", "--tasks-file", "t.jsonl"], "did you mean 'reviewer'?"),
        (["execute", "reviewer", "--tasks-file", "faulty.jsonl"], "line 2: "),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistakes_cost_nothing(
    run: Run, write: Any, simulator: Simulator, project: Path, args: list[str], said: str
) -> None:
    """Bad usage, and a fault anywhere in the file, is exit code 2 before anything is sent or written."""
    write(3)
    (project / "notes.txt").write_text("mine")
    (project / "faulty.jsonl").write_text('"fine"\n{"task": ""}\n')
    before = sorted(path.name for path in project.iterdir())
    done = run(*args)
    assert (done.returncode, simulator.stats.calls) == (2, {})
    assert said in done.stderr
    assert sorted(path.name for path in project.iterdir()) == before
    assert (project / "notes.txt").read_text() == "mine"


def test_two_processes_at_once(start: Start, run: Run, write: Any, simulator: Simulator, project: Path) -> None:
    """The second is refused while the first writes, and the first does not notice."""
    write(3)
    simulator.hold()
    first = start(*KEEPING)
    simulator.wait_until(lambda stats: stats.in_flight == 3, timeout_s=120)
    second = run(*KEEPING)
    assert second.returncode == 2
    assert "another claude-force is writing to 'r.jsonl'" in second.stderr
    simulator.release()
    first.communicate(timeout=120)
    assert first.returncode == 0
    assert len(kept(project)) == 3


# ---------------------------------------------------------------- going on


def test_what_is_done_is_not_asked_again(run: Run, write: Any, simulator: Simulator, project: Path) -> None:
    """The same command asks again for what failed, for what is new and for what was edited, and for nothing else."""
    write("task 0", "task 1", "task 2")
    simulator.script(*[ApiFault(500)] * 3)
    assert run(*KEEPING).returncode == 1
    assert run(*KEEPING).returncode == 0
    write("task 3", "task 2", "task 1 edited", "task 0")
    last = run(*KEEPING)
    assert "2 of 4 tasks are done already; 2 are asked" in last.stderr
    assert "'r.jsonl' holds 1 answer(s) to something else" in last.stderr
    assert asked(simulator) == {"task 0": 2, "task 1": 2, "task 2": 2, "task 3": 1, "task 1 edited": 1}
    assert [line["status"] for line in kept(project)] == ["failed"] * 3 + ["done"] * 5


def test_a_simulated_answer_is_none_in_earnest(run: Run, write: Any, simulator: Simulator, project: Path) -> None:
    """What `--offline` answered is asked again without it."""
    write(2)
    assert run(*KEEPING, "--offline").returncode == 0
    assert simulator.stats.calls == {}
    assert run(*KEEPING).returncode == 0
    assert asked(simulator) == {"task 0": 1, "task 1": 1}
    assert len(kept(project)) == 4


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)],
    ids=["Ctrl-C", "SIGTERM", "kill -9"],
)
def test_stopped_in_the_middle(
    start: Start, run: Run, write: Any, simulator: Simulator, project: Path, number: signal.Signals, code: int
) -> None:
    """What was answered is kept, nothing new is sent, and the same command goes on: no answer is paid for twice."""
    write(12)
    simulator.hold()
    process = start(*KEEPING, "--max-concurrent", "3")
    simulator.wait_until(lambda stats: stats.in_flight == 3, timeout_s=120)
    simulator.release(4)
    simulator.wait_until(lambda stats: sum(stats.calls.values()) == 7, timeout_s=120)
    while len((project / "r.jsonl").read_text().splitlines()) < 4 and process.poll() is None:  # kill -9 leaves no time
        os.sched_yield()
    process.send_signal(number)
    _, err = process.communicate(timeout=120)
    assert process.returncode == code
    assert "Traceback" not in err
    if number != signal.SIGKILL:
        assert "4 done, 0 failed, 8 not run" in err
        assert "the same command goes on" in err
    simulator.wait_until(lambda stats: stats.in_flight == 0)
    first = kept(project)
    assert [line["status"] for line in first] == ["done"] * 4
    simulator.release()
    assert run(*KEEPING).returncode == 0
    assert sorted(line["result"]["text"] for line in kept(project)) == sorted(str(number) for number in range(12))
    calls = asked(simulator)
    assert [calls[f"task {line['result']['text']}"] for line in first] == [1, 1, 1, 1]
    assert calls.total() == 12 + 3


def test_a_torn_line_is_mended(run: Run, write: Any, simulator: Simulator, project: Path) -> None:
    """After a crash in the middle of a line, that task is done again, from the cache, and the file is whole."""
    write(2)
    run(*KEEPING)
    path = project / "r.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    assert run(*KEEPING).returncode == 0
    assert sorted(line["result"]["text"] for line in kept(project)) == ["0", "1"]
    assert asked(simulator).total() == 2


# ---------------------------------------------------------------- failures


@pytest.mark.parametrize(
    ("fault", "code", "kind", "is_last"),
    [
        (ApiFault(401), 3, "CredentialsError", True),
        (ApiFault(402), 4, "AccountLimitError", True),
        (ApiFault(404), 2, "ModelNotFoundError", True),
        (ApiFault(429), 5, "RateLimitError", False),
        (ApiFault(500), 1, "ServerError", False),
        (Answer("", refusal=Refusal()), 6, "RefusalError", False),
    ],
    ids=str,
)
def test_exit_codes(
    run: Run, write: Any, simulator: Simulator, project: Path, fault: Any, code: int, kind: str, *, is_last: bool
) -> None:
    """One failure is the exit code; a terminal one ends the batch, and the rest is not run. Going on asks for both."""
    write(6)
    simulator.script(None, None, fault)
    done = run(*KEEPING, "--max-concurrent", "1", "--json")
    assert done.returncode == code
    summary = json.loads(done.stdout)
    assert summary["error"]["type"] == kind
    assert summary["error"]["is_terminal"] is is_last
    rest = ["not_run"] * 3 if is_last else ["done"] * 3
    assert [line["status"] for line in kept(project)] == ["done", "done", "failed", *rest]
    assert f"error: line 3: {kind}" in done.stderr
    calls = 3 if is_last else 6
    assert asked(simulator).total() == calls
    assert run(*KEEPING).returncode == 0
    assert asked(simulator).total() == calls + (4 if is_last else 1)


def test_a_terminal_error_wins(project: Path, run: Run, write: Any) -> None:
    """Whatever failed before, the exit code is that of the error that ended the batch."""
    rules = [Rule(ApiFault(429), when=on("0")), Rule(ApiFault(402), when=on("1"))]
    write(3)
    with Simulator(rules=rules) as simulator:
        done = run(*KEEPING, "--max-concurrent", "1", **environment(simulator.base_url))
    assert done.returncode == 4
    assert [line["status"] for line in kept(project)] == ["failed", "failed", "not_run"]
    assert kept(project)[2]["error"]["exit_code"] == 4


def test_an_answer_that_was_cut_is_no_success(run: Run, write: Any, simulator: Simulator, project: Path) -> None:
    """Its text is kept, as it is paid for, and the task has failed."""
    write({"task": "word " * 9 + "cut-here-because-it-is-long", "max_tokens": 3})
    done = run(*KEEPING)
    (line,) = kept(project)
    assert (done.returncode, line["status"], line["error"]["type"]) == (1, "failed", "CutAnswerError")
    assert line["result"]["text"]
    assert simulator.stats.calls == {"/v1/messages": 1}


def test_a_reader_that_leaves(project: Path, write: Any, simulator: Simulator) -> None:
    """`| head` ends the batch without a traceback."""
    write(500)
    done = subprocess.run(
        ["sh", "-c", f"claude-force {' '.join(EXECUTE)} --max-concurrent 1 | head -n 1"],
        cwd=project, env=os.environ | environment(simulator.base_url), stdin=subprocess.DEVNULL,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert len(results(done.stdout)) == 1
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr
    assert sum(simulator.stats.calls.values()) < 500


def unmeasured() -> dict[str, str]:
    """The environment of a process whose coverage is not measured: it could not be written down either."""
    return {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}


def test_a_full_disk(project: Path, write: Any, simulator: Simulator) -> None:
    """The batch stops at once, says how to go on and what was paid, and the file is whole."""
    write(50)
    command = f"ulimit -f 4; exec {sys.executable} -m claude_force {' '.join(KEEPING)} --max-concurrent 1"
    done = subprocess.run(
        ["bash", "-c", f"trap '' XFSZ; {command}"],
        cwd=project, env={**unmeasured(), **environment(simulator.base_url)}, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "the same command goes on" in done.stderr
    assert "Traceback" not in done.stderr
    assert 0 < len(kept(project)) < 50
    assert f"{len(kept(project)) + 1} done, 0 failed" in done.stderr
    assert sum(simulator.stats.calls.values()) <= len(kept(project)) + 2


# ---------------------------------------------------------------- progress


def test_a_bar_on_a_terminal(project: Path, write: Any, simulator: Simulator) -> None:
    """A terminal shows how far it is, the rate, the cost and the retries; the results go elsewhere."""
    (project / ".claude/claude.json").write_text("{}")
    simulator.script(ApiFault(529, headers={"retry-after-ms": "1"}))
    write(40)
    ours, theirs = pty.openpty()
    environ = os.environ | environment(simulator.base_url) | {"TERM": "xterm", "COLUMNS": "100"}
    simulator.hold()
    process = subprocess.Popen(
        ["claude-force", *EXECUTE, "--max-concurrent", "1"],
        cwd=project, env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    shown = ""
    simulator.release(3)  # one of them is the retry
    while "2 of 40, 1 retry" not in shown and len(shown) < 100_000:
        shown += os.read(ours, 65536).decode()
    simulator.release()
    out, _ = process.communicate(timeout=120)
    try:
        while piece := os.read(ours, 65536):
            shown += piece.decode()
    except OSError:  # how Linux says that the other side has closed
        pass
    os.close(ours)
    assert process.returncode == 0
    assert len(results(out.decode())) == 40
    assert "/s, would cost $0.0" in shown
    assert " left" in shown
    assert "40 done, 0 failed" in shown


def test_no_bar_in_a_pipe(run: Run, write: Any) -> None:
    """A log gets plain lines, and a short batch only its summary."""
    write(20)
    done = run(*KEEPING)
    assert len(done.stderr.splitlines()) == 2
    assert "\x1b" not in done.stderr


def test_what_the_prompt_cache_did(run: Run, write: Callable[..., None], project: Path) -> None:
    """A line at the end, and in the summary for machines, where tasks share something long; else no word of it."""
    write(3)
    assert "prompt cache" not in run(*KEEPING).stderr
    with (project / ".claude/agents/reviewer.md").open("a") as agent:
        agent.write("A rule to obey. " * 2_000)
    done = run(*KEEPING, "--json")
    assert "prompt cache: 16," in done.stderr
    assert "would have saved: $0.0" in done.stderr
    assert " by the prompt cache\n" in done.stderr
    figures = json.loads(done.stdout)["prompt_caching"]
    assert figures["read_tokens"] == 2 * figures["written_tokens"] > 0
    assert 0 < figures["saved_usd"] < 0.01
    assert figures["waited_s"] > 0
