"""A workflow from the shell: a real process, a real server, and nothing that was paid for is paid twice."""

import json
import os
import pty
import re
import signal
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from claude_force.testing import Answer, ApiFault, Refusal, Rule, Simulator, environment

from .conftest import Run, Start, on

Write = Callable[..., None]

REVIEW = ("run-workflow", "review")
"""Three independent steps, and one that sums up."""


@pytest.fixture
def simulator() -> Any:
    """A server that answers with the task's last word."""
    with Simulator(answer=lambda request: request.prompt.split()[-1]) as running:
        yield running


@pytest.fixture
def write(project: Path) -> Write:
    """Writes a workflow: steps as `id=dependency,dependency`, or as dicts."""

    def write(name: str, *steps: "str | dict[str, Any]", **keys: Any) -> None:
        path = project / ".claude/workflows" / f"{name}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(
            json.dumps({"steps": [step if isinstance(step, dict) else as_step(step) for step in steps]} | keys)
        )

    write("review", "a", "b", "c", "sum=a,b,c")
    return write


def as_step(words: str) -> dict[str, Any]:
    """A step whose task is to say its own id."""
    name, _, needed = words.partition("=")
    return {"id": name, "agent": "reviewer", "task": f"say {name}", "dependencies": needed.split(",") if needed else []}


def asked(simulator: Simulator) -> Counter[str]:
    """How often the step with this last word has reached the server."""
    return Counter(request.prompt.split()[-1] for request in simulator.requests)


def seen(process: "subprocess.Popen[str]", words: str) -> str:
    """What the process says on stderr, up to the line with these words."""
    assert process.stderr
    said = ""
    while words not in said:
        line = process.stderr.readline()
        assert line, f"no {words!r} in {said!r}"
        said += line
    return said


def go_on(said: str) -> list[str]:
    """The command that is said to go on with the run."""
    found = re.search(r"to go on: claude-force (run-workflow .*)", said)
    assert found, said
    return found[1].split()


# ---------------------------------------------------------------- results


@pytest.mark.usefixtures("write")
def test_stdout_is_the_answer_and_nothing_else(run: Run, simulator: Simulator) -> None:
    """The last step's answer is on stdout; how it went, what it cost and in what order is on stderr."""
    done = run(*REVIEW)
    assert (done.returncode, done.stdout) == (0, "sum\n")
    lines = done.stderr.splitlines()
    assert sorted(line.split(",")[0] for line in lines[:3]) == ["done: a", "done: b", "done: c"]
    assert re.fullmatch(r"done: sum, \d+\.\d s, \d+ in, 1 out, \$0\.\d+", lines[3])
    assert re.fullmatch(r"Execution order: (a|b|c) -> (a|b|c) -> (a|b|c) -> sum", lines[-2])
    assert re.fullmatch(r"Completed in \d+\.\d\ds, would cost \$0\.\d+", lines[-1])
    assert "\x1b" not in done.stderr
    assert asked(simulator) == {"a": 1, "b": 1, "c": 1, "sum": 1}


def test_each_last_step_has_a_heading(run: Run, write: Write) -> None:
    """Where several steps come last, each answer stands under its name."""
    write("fork", "a", "left=a", "right=a")
    assert run("run-workflow", "fork").stdout == "==> left <==\nleft\n==> right <==\nright\n"


@pytest.mark.usefixtures("write")
def test_one_after_the_other(run: Run, simulator: Simulator) -> None:
    """`--sequential` asks one step at a time, in the order of the file, and answers the same."""
    done = run(*REVIEW, "--sequential")
    assert done.stdout == "sum\n"
    assert "Execution order: a -> b -> c -> sum\n" in done.stderr
    assert [request.prompt.split()[-1] for request in simulator.requests] == ["a", "b", "c", "sum"]
    assert simulator.stats.max_in_flight == 1


@pytest.mark.usefixtures("write")
def test_so_many_at_once(start: Start, simulator: Simulator) -> None:
    """`--max-concurrent` is exact."""
    simulator.hold()
    process = start(*REVIEW, "--max-concurrent", "2")
    simulator.wait_until(lambda stats: stats.in_flight == 2, timeout_s=120)
    simulator.release()
    process.communicate(timeout=120)
    assert (process.returncode, simulator.stats.max_in_flight) == (0, 2)


@pytest.mark.parametrize(
    "features",
    [{"async_enabled": False}, {"parallel_workflows_enabled": False}],
    ids=lambda features: next(iter(features)),
)
@pytest.mark.usefixtures("write")
def test_parts_that_are_switched_off(run: Run, project: Path, features: dict[str, bool]) -> None:
    """The rollback plan changes how a workflow runs, and not what comes of it."""
    (project / ".claude/claude.json").write_text(json.dumps({"features": features}))
    assert run(*REVIEW).stdout == "sum\n"


@pytest.mark.usefixtures("write")
def test_the_whole_result_for_a_machine(run: Run) -> None:
    """`--json` is one document with every step, and the same is free the second time."""
    run(*REVIEW)
    data = json.loads(run(*REVIEW, "--json").stdout)
    assert (data["status"], data["exit_code"], data["error"]) == ("completed", 0, None)
    assert data["results"] == {"a": "a", "b": "b", "c": "c", "sum": "sum"}
    assert (data["cached_steps"], data["cost_usd"]) == (["a", "b", "c", "sum"], 0)
    assert data["steps"]["sum"]["why"] == "the same was answered before"


@pytest.mark.usefixtures("write")
def test_a_line_for_each_event(run: Run) -> None:
    """`--output-format stream-json` tells everything as it happens, text too; the last line has the result."""
    lines = [json.loads(line) for line in run(*REVIEW, "--output-format", "stream-json").stdout.splitlines()]
    assert (lines[0]["event"], lines[-1]["event"]) == ("run_started", "run_ended")
    assert "".join(line["text"] for line in lines if line["event"] == "text" and line["step"] == "sum") == "sum"
    assert {line["step"]: line["result"]["status"] for line in lines if line["event"] == "ended"} == dict.fromkeys(
        ("a", "b", "c", "sum"), "done"
    )
    assert lines[-1]["run"]["status"] == "completed"
    assert len({line["run_id"] for line in lines}) == 1


@pytest.mark.usefixtures("write")
def test_a_reader_that_leaves(project: Path, simulator: Simulator) -> None:
    """`| head` starts nothing more; what was in flight is kept, and no traceback is shown."""
    command = f"claude-force {' '.join(REVIEW)} --sequential --output-format stream-json | head -n 1"
    done = subprocess.run(
        ["sh", "-c", command],
        cwd=project, env=os.environ | environment(simulator.base_url), stdin=subprocess.DEVNULL,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert json.loads(done.stdout)["event"] == "run_started"
    assert "Traceback" not in done.stderr
    assert "to go on: " in done.stderr
    assert sum(simulator.stats.calls.values()) < 4


# ---------------------------------------------------------------- inputs


@pytest.fixture
def echo(write: Write, project: Path) -> None:
    """A workflow whose answer is its input `text`, and a file with a text."""
    step = {"id": "echo", "agent": "reviewer", "task": "{{ inputs.text }}"}
    inputs = {"text": {"required": True}, "tone": {"default": "calm"}}
    write("echo", step, inputs=inputs)
    write("two", step, inputs=inputs | {"tone": {"required": True}})
    (project / "words.txt").write_text("from-a-file\n")


@pytest.mark.parametrize(
    ("args", "stdin", "answer"),
    [
        (["--input", "text=typed"], "", "typed"),
        (["--input", "text=a=b"], "", "a=b"),
        (["--input", "text=@words.txt"], "", "from-a-file"),
        (["--input", "text=@@home"], "", "@home"),
        (["--input", "text=-"], "from-a-pipe\n", "from-a-pipe"),
        ([], "from-a-pipe\n", "from-a-pipe"),
        (["--input", "text=typed"], "not wanted", "typed"),
    ],
    ids=["value", "equals sign", "file", "at sign", "dash", "pipe", "pipe that is not wanted"],
)
@pytest.mark.usefixtures("echo")
def test_inputs(run: Run, args: list[str], stdin: str, answer: str) -> None:
    """An input is typed in, read from a file, or piped in; a pipe fills the one that is required and not given."""
    done = run("run-workflow", "echo", *args, stdin=stdin)
    assert (done.returncode, done.stdout) == (0, f"{answer}\n")
    assert ("standard input is the input 'text' (12 characters)" in done.stderr) is (args == [])


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["nowhere"], "there is no workflow 'nowhere'"),
        (["reviw"], "did you mean 'review'?"),
        (["flows/x.json"], "workflow 'flows/x.json' cannot be read"),
        ([], "give a workflow's name, or --resume"),
        (["review", "--resume", "2020"], "there is no run '2020'"),
        (["review", "--resume"], "there is no run of workflow 'review'"),
        (["review", "--force", "suum"], "force: there is no step 'suum'; did you mean 'sum'?"),
        (["review", "--sequential", "--max-concurrent", "2"], "leave --max-concurrent out"),
        (["review", "--refresh", "--no-cache"], "give one of them"),
        (["review", "--json", "--output-format", "text"], "are two formats"),
        (["review", "--max-usd", "0"], "is not in the range"),
        (["echo"], "inputs.text: nothing gives it"),
        (["echo", "--input", "text"], "'text' has no name"),
        (["echo", "--input", "text=a", "--input", "text=b"], "'text' is given twice"),
        (["echo", "--input", "text=@gone.txt"], "cannot read 'gone.txt'"),
        (["echo", "--input", "txt=a"], "inputs.txt: the workflow has no such input; did you mean 'text'?"),
        (["two", "--input", "text=-", "--input", "tone=-"], "standard input can be one input only"),
        (["two"], "inputs.text: nothing gives it"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
@pytest.mark.usefixtures("echo")
def test_mistakes_cost_nothing(run: Run, simulator: Simulator, args: list[str], said: str) -> None:
    """Bad usage is exit code 2 before anything is sent, and says what to do."""
    done = run("run-workflow", *args, stdin="" if args == ["echo"] else "text")
    assert (done.returncode, simulator.stats.calls) == (2, {})
    assert done.stdout == "" or "--json" in args
    assert said in done.stderr


def test_every_fault_at_once(run: Run, write: Write, simulator: Simulator) -> None:
    """A workflow that is wrong is not begun, and all that is wrong with it is said; as JSON, too."""
    write("bad", "a=b", "b=a", "c=nowhere", as_step("d") | {"agent": "reviwer"}, inputs={"text": {"required": True}})
    done = run("run-workflow", "bad", "--json", stdin="")
    assert (done.returncode, simulator.stats.calls) == (2, {})
    for fault in (
        "a -> b -> a is a circle",
        "no step 'nowhere'",
        "did you mean 'reviewer'",
        "inputs.text: nothing gives",
    ):
        assert fault in done.stderr
    assert json.loads(done.stdout)["error"]["type"] == "WorkflowError"
    assert run("runs", "list").stdout == ""


def test_a_file_is_a_workflow(run: Run, write: Write, project: Path) -> None:
    """A path will do for a name, and the run has the file's name."""
    write("review", "a")
    (project / ".claude/workflows/review.json").rename(project / "mine.json")
    assert run("run-workflow", "./mine.json").stdout == "a\n"
    assert run("run-workflow", "mine.json", "--resume").returncode == 0
    assert run("runs", "list").stdout.split("\t")[1] == "mine"


def test_names_are_completed(write: Write, project: Path) -> None:
    """TAB offers the workflows of files and of the config, even if one of them is broken; or files, after a path."""
    write("release", "nowhere=nothing")
    config = project / ".claude/claude.json"
    config.write_text('{"workflows": {"redo": {"steps": []}}}')
    (config.parent / "workflows/re`touch owned`.yaml").write_text("steps: []")
    assert completed("re") == ["plain,redo", "plain,release", "plain,review"]
    assert completed("./re") == ["file,./re"]
    config.write_text("{")
    assert completed("re") == []


def completed(word: str) -> list[str]:
    """What the shell is told to offer after `claude-force run-workflow` and this word."""
    completing = {
        "_CLAUDE_FORCE_COMPLETE": "bash_complete",
        "COMP_WORDS": f"claude-force run-workflow {word}",
        "COMP_CWORD": "2",
    }
    done = subprocess.run("claude-force", env=os.environ | completing, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


# ---------------------------------------------------------------- failures


@pytest.mark.parametrize(
    ("fault", "code", "kind"),
    [
        (ApiFault(401), 3, "CredentialsError"),
        (ApiFault(429), 5, "RateLimitError"),
        (Answer("", refusal=Refusal()), 6, "RefusalError"),
    ],
    ids=str,
)
@pytest.mark.usefixtures("write")
def test_a_step_that_fails(run: Run, fault: Any, code: int, kind: str) -> None:
    """The exit code is the error's; nothing is printed as if it were done, and going on pays only for the rest."""
    with Simulator(rules=[Rule(fault, when=on("b"), times=1)], answer=lambda r: r.prompt.split()[-1]) as simulator:
        env = dict(environment(simulator.base_url))
        done = run(*REVIEW, "--sequential", **env)
        assert (done.returncode, done.stdout) == (code, "")
        assert f"error: {kind}: " in done.stderr
        assert f"no answer from 'b' (failed): {kind}: " in done.stderr
        assert f"no answer from 'sum' (not run): the run ended: {kind}: " in done.stderr
        assert "the run is failed; its answers are kept; to go on: " in done.stderr
        assert asked(simulator) == {"a": 1, "b": 1}
        again = run(*go_on(done.stderr), "--no-cache", **env)
        assert (again.returncode, again.stdout) == (0, "sum\n")
        assert asked(simulator) == {"a": 1, "b": 2, "c": 1, "sum": 1}


def test_half_an_answer_is_none(run: Run, write: Write, simulator: Simulator) -> None:
    """Where one of two last steps fails, the other's answer is kept, and not printed as if the run were done."""
    write("fork", "a", "left=a", "right=a")
    simulator.script(None, None, ApiFault(500))
    done = run("run-workflow", "fork", "--sequential")
    assert (done.returncode, done.stdout) == (1, "")
    assert "its answers are kept" in done.stderr
    assert run("runs", "show", "last", "--step", "left").stdout == "left\n"


@pytest.mark.usefixtures("write")
def test_a_failure_for_a_machine(run: Run, simulator: Simulator) -> None:
    """With `--json` a failed run is told whole, with what was done and what was not, and never as an error alone."""
    simulator.script(None, ApiFault(500))
    done = run(*REVIEW, "--sequential", "--json")
    data = json.loads(done.stdout)
    assert (done.returncode, data["exit_code"], data["status"], data["error"]["type"]) == (
        1,
        1,
        "failed",
        "ServerError",
    )
    assert {name: step["status"] for name, step in data["steps"].items()} == {
        "a": "done", "b": "failed", "c": "not_run", "sum": "not_run",
    }  # fmt: skip
    assert data["results"] == {"a": "a"}


@pytest.mark.usefixtures("write")
def test_a_budget_that_is_too_small(run: Run, simulator: Simulator) -> None:
    """`--max-usd` is never passed: what could do so is not sent, and the exit code is 4."""
    done = run(*REVIEW, "--max-usd", "0.00000123456789")
    assert (done.returncode, done.stdout, simulator.stats.calls) == (4, "", {})
    assert "is left" in done.stderr
    assert " --max-usd 1.23456789e-06" in done.stderr.partition("to go on: ")[2], "who goes on as is said has no limit"


@pytest.mark.usefixtures("write")
def test_a_run_that_is_not_written_down(run: Run, project: Path, simulator: Simulator) -> None:
    """It says so, and does not say how to go on with what is not there."""
    (project / ".claude/runs.db").mkdir()
    simulator.script(None, ApiFault(500))
    done = run(*REVIEW, "--sequential")
    assert done.returncode == 1
    assert "runs.db" in done.stderr
    assert "the run is failed; it is not written down" in done.stderr
    assert "--resume" not in done.stderr


def test_a_step_that_may_fail(run: Run, write: Write, simulator: Simulator) -> None:
    """A run that goes on without a step is done, and still says which answer is missing."""
    write("review", as_step("a") | {"on_failure": "continue"}, "sum=a")
    simulator.script(ApiFault(500))
    done = run(*REVIEW)
    assert (done.returncode, simulator.stats.calls["/v1/messages"]) == (0, 2)
    assert "warning: no answer from 'a' (failed): ServerError: " in done.stderr
    assert "Completed in " in done.stderr


# ---------------------------------------------------------------- stopping and going on


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["Ctrl-C", "SIGTERM"])
@pytest.mark.usefixtures("write")
def test_stopped_once(start: Start, run: Run, simulator: Simulator, number: signal.Signals, code: int) -> None:
    """Nothing more starts, what is in flight comes to its end and is kept, and going on pays only for the rest."""
    simulator.hold()
    process = start(*REVIEW, "--max-concurrent", "2", "--no-cache", "--json")
    simulator.wait_until(lambda stats: stats.in_flight == 2, timeout_s=120)
    process.send_signal(number)
    assert "what is in flight comes to its end and is kept" in seen(process, "press Ctrl-C again to stop at once")
    simulator.release()
    out, err = process.communicate(timeout=120)
    data = json.loads(out)
    assert (process.returncode, data["exit_code"], data["status"]) == (code, code, "cancelled")
    assert [step["status"] for step in data["steps"].values()] == ["done", "done", "not_run", "not_run"]
    assert "no answer from 'sum' (not run): the run was stopped" in err
    assert "Traceback" not in err
    again = run(*go_on(err), "--no-cache")
    assert (again.returncode, again.stdout) == (0, "sum\n")
    assert asked(simulator) == {"a": 1, "b": 1, "c": 1, "sum": 1}


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["Ctrl-C", "SIGTERM"])
@pytest.mark.usefixtures("write")
def test_stopped_twice(start: Start, run: Run, simulator: Simulator, number: signal.Signals, code: int) -> None:
    """The second one waits for nothing: the run ends at once, and what was paid for before is kept."""
    simulator.hold()
    process = start(*REVIEW, "--max-concurrent", "2", "--no-cache", "--json")
    simulator.wait_until(lambda stats: stats.in_flight == 2, timeout_s=120)
    simulator.release(1)
    seen(process, "done: ")
    simulator.wait_until(lambda stats: stats.in_flight == 2 and stats.calls["/v1/messages"] == 3, timeout_s=120)
    process.send_signal(number)
    seen(process, "press Ctrl-C again")
    process.send_signal(number)
    out, err = process.communicate(timeout=120)
    data = json.loads(out)
    assert (process.returncode, data["exit_code"], data["status"]) == (code, code, "cancelled")
    assert Counter(step["status"] for step in data["steps"].values()) == {"cancelled": 2, "done": 1, "not_run": 1}
    assert "Traceback" not in err
    simulator.wait_until(lambda stats: stats.in_flight == 0, timeout_s=120)
    simulator.release()
    assert run(*go_on(err), "--no-cache").stdout == "sum\n"
    assert asked(simulator).total() == 4 + 2


@pytest.mark.usefixtures("write")
def test_stopped_at_its_last_step(start: Start, simulator: Simulator) -> None:
    """A run that comes to its end after all is done, whatever was pressed."""
    simulator.hold()
    process = start(*REVIEW)
    simulator.release(3)
    simulator.wait_until(lambda stats: stats.in_flight == 1 and stats.calls["/v1/messages"] == 4, timeout_s=120)
    process.send_signal(signal.SIGINT)
    seen(process, "press Ctrl-C again")
    simulator.release()
    out, _ = process.communicate(timeout=120)
    assert (process.returncode, out) == (0, "sum\n")


@pytest.mark.usefixtures("write")
def test_killed(start: Start, run: Run, simulator: Simulator) -> None:
    """After kill -9, `--resume` without a run or a name pays for what has no answer, and for nothing else."""
    simulator.hold()
    process = start(*REVIEW, "--max-concurrent", "2", "--no-cache")
    simulator.wait_until(lambda stats: stats.in_flight == 2, timeout_s=120)
    simulator.release(1)
    seen(process, "done: ")
    simulator.wait_until(lambda stats: stats.in_flight == 2 and stats.calls["/v1/messages"] == 3, timeout_s=120)
    process.kill()
    process.communicate(timeout=120)
    simulator.wait_until(lambda stats: stats.in_flight == 0, timeout_s=120)
    simulator.release()
    assert "\trunning or broken off\t" in run("runs", "list").stdout
    done = run("run-workflow", "--resume", "--no-cache", "--why")
    assert (done.returncode, done.stdout) == (0, "sum\n")
    assert "1 of 4 steps reused" in done.stderr
    assert asked(simulator).total() == 4 + 2


@pytest.mark.usefixtures("write")
def test_why_a_step_was_done(run: Run, project: Path, write: Write, simulator: Simulator) -> None:
    """`--why` tells what changed since the run before, and what needed no asking."""
    run(*REVIEW)
    write("review", "a", "b", as_step("c") | {"task": "say it better c"}, "sum=a,b,c")
    done = run(*REVIEW, "--why")
    assert "cached: a: the same was answered before\n" in done.stderr
    assert "done: c: its task changed\n" in done.stderr
    assert "cached: sum: " in done.stderr  # its own input did not change: c answered the same
    agent = project / ".claude/agents/reviewer.md"
    agent.write_text(agent.read_text() + "Be kind.\n")
    assert "done: a: agent file reviewer.md changed\n" in run(*REVIEW, "--why").stderr
    assert asked(simulator) == {"a": 2, "b": 2, "c": 3, "sum": 2}


@pytest.mark.usefixtures("write")
def test_a_step_is_forced(run: Run, simulator: Simulator) -> None:
    """`--force` does one step again, and only that one."""
    run(*REVIEW)
    assert "done: b: it was forced\n" in run(*REVIEW, "--resume", "last", "--force", "b", "--why").stderr
    assert asked(simulator) == {"a": 1, "b": 2, "c": 1, "sum": 1}


def test_another_workflows_run(run: Run, write: Write, simulator: Simulator) -> None:
    """A run is taken up only under its own workflow's name."""
    write("other", "a")
    run(*REVIEW)
    run_id = run("runs", "list").stdout.split("\t")[0]
    done = run("run-workflow", "other", "--resume", run_id)
    assert (done.returncode, asked(simulator).total()) == (2, 4)
    assert "is one of workflow 'review', not of 'other'" in done.stderr


# ---------------------------------------------------------------- a terminal


class Terminal:
    """The command with its stderr on a terminal."""

    def __init__(self, project: Path, simulator: Simulator, *args: str, **env: str) -> None:
        self._ours, theirs = pty.openpty()
        environ = (
            os.environ | environment(simulator.base_url) | {"TERM": "xterm", "COLUMNS": "100", "LINES": "30"} | env
        )
        self.process = subprocess.Popen(
            ["claude-force", *args],
            cwd=project, env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=theirs,
        )  # fmt: skip
        os.close(theirs)
        self._raw = b""

    @property
    def shown(self) -> str:
        """What was shown so far, without colours and the moves of the cursor."""
        return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", self._raw.decode(errors="replace")).replace("\r", "")

    def until(self, pattern: str) -> None:
        """Read until this was shown."""
        while not re.search(pattern, self.shown):
            assert self._read(), self.shown

    def rest(self) -> str:
        """Read to the end; gives what is on stdout."""
        while self._read():
            pass
        os.close(self._ours)
        out, _ = self.process.communicate(timeout=120)
        return out.decode()

    def _read(self) -> bool:
        """Take in what is there; whether the other side is still open."""
        try:
            self._raw += (piece := os.read(self._ours, 65536))
        except OSError:  # how Linux says that the other side has closed
            return False
        return bool(piece)


def test_a_table_on_a_terminal(project: Path, write: Write, simulator: Simulator) -> None:
    """A row for each step, in topological order, with what it waits for, its state, time, tokens, cost, and a total."""
    (project / ".claude/claude.json").write_text("{}")
    each = as_step("each") | {"for_each": "{{ inputs.files }}", "task": "look at {{ item }}"}
    write("review", "sum=a,each", "a", each, inputs={"files": {"type": "list", "default": ["x", "y", "z"]}})
    simulator.script(ApiFault(529, headers={"retry-after-ms": "1"}))
    simulator.hold()
    terminal = Terminal(project, simulator, *REVIEW, "--max-concurrent", "1")
    terminal.until(r"sum +<- a, each +waiting")
    simulator.release(3)  # one of them is the retry
    terminal.until(r"each +. running 1/3 +\d+\.\d +\d+ / 1 +\$0\.\d{4}")
    terminal.until(r"note: a: attempt 1 of 4: ")
    terminal.until(r"total +1 of 3 +\d+\.\d ")
    simulator.release()
    assert terminal.rest() == "sum\n"
    assert terminal.process.returncode == 0
    last = terminal.shown.rpartition("waits for")[2]
    assert re.search(r"a +done .*\n each +<?-? ?.*done 3/3 .*\n sum +<- a, each +done ", last)
    assert re.search(r"total +3 of 3 +\d+\.\d +\d+ / 5 +\$0\.\d{4}", last)
    assert "Completed in " in last


@pytest.mark.usefixtures("write")
def test_ctrl_c_on_a_terminal(project: Path, simulator: Simulator) -> None:
    """The table says what was not run, and the terminal is left as it was found."""
    simulator.hold()
    terminal = Terminal(project, simulator, *REVIEW, "--sequential")
    terminal.until("a +. running")
    simulator.wait_until(lambda stats: stats.in_flight == 1, timeout_s=120)
    terminal.process.send_signal(signal.SIGINT)
    terminal.until("press Ctrl-C again")
    simulator.release()
    assert terminal.rest() == ""
    assert terminal.process.returncode == 130
    last = terminal.shown.rpartition("waits for")[2]
    assert re.search(r"a +done ", last)
    assert re.search(r"sum +<- a, b, c +not run ", last)
    assert "--resume" in last


@pytest.mark.usefixtures("write")
def test_no_table_on_a_terminal_that_cannot(project: Path, simulator: Simulator) -> None:
    """A terminal that cannot move its cursor gets lines."""
    terminal = Terminal(project, simulator, *REVIEW, TERM="dumb")
    terminal.rest()
    assert "waits for" not in terminal.shown
    assert "done: sum" in terminal.shown


def test_a_table_for_a_small_screen(project: Path, write: Write, simulator: Simulator) -> None:
    """Of a workflow with more steps than lines, what happens now stays in sight, and the rest is counted."""
    write("review", *(f"s{number}" for number in range(40)))
    terminal = Terminal(project, simulator, *REVIEW, "--sequential", LINES="15")
    terminal.rest()
    assert "and 32 more" in terminal.shown
    assert "total" in terminal.shown


@pytest.mark.usefixtures("write")
def test_what_the_prompt_cache_did(run: Run, project: Path) -> None:
    """Steps of one agent share its body: a line at the end says what that saved, and JSON has it."""
    with (project / ".claude/agents/reviewer.md").open("a") as agent:
        agent.write("A rule to obey. " * 2_000)
    done = run(*REVIEW, "--json")
    assert "prompt cache: 24," in done.stderr
    figures = json.loads(done.stdout)["prompt_caching"]
    assert figures["read_tokens"] == 3 * figures["written_tokens"] > 0
