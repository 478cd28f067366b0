"""The command line as people and scripts meet it: a real process, a real server, real pipes."""

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from claude_force.testing import Answer, ApiFault, Hang, Latency, Refusal, Simulator, environment
from tests.conftest import ledger, write

COMMAND = "claude-force"
STARTED = f"{sys.executable} -m claude_force"
"""The same with its whole start: where streams are closed, or there is no folder to start in."""


def env_of(simulator: Simulator | None) -> dict[str, str]:
    """The environment of a command: that of the test, pointed at the simulator."""
    return {**os.environ, **(environment(simulator.base_url) if simulator else {})}


def run(
    *args: str, cwd: Path, simulator: Simulator | None = None, stdin: str | None = None, **env: str
) -> subprocess.CompletedProcess[str]:
    """The command, run to its end; no traceback is ever shown."""
    done = subprocess.run(
        [COMMAND, *args],
        cwd=cwd,
        env=env_of(simulator) | env,
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "Traceback" not in done.stderr
    return done


# ---------------------------------------------------------------- start


@pytest.mark.parametrize("code", ["import claude_force", "--version", "--help"])
def test_a_start_imports_nothing_heavy(code: str, tmp_path: Path) -> None:
    """Importing the package, `--version` and `--help` load no SDK, no models, no loop and no tables."""
    arguments = [] if code.startswith("import") else [code]
    call = "import claude_force.cli; claude_force.cli.main()" if arguments else code
    program = (
        f"import sys, atexit\nsys.argv = ['claude-force', *{arguments!r}]\n"
        "heavy = ('anthropic', 'pydantic', 'asyncio', 'rich', 'genai_prices', 'httpx2', 'yaml', 'msgspec', 'logging',"
        " 'jsonschema')\n"
        "atexit.register(lambda: print([name for name in heavy if name in sys.modules], file=sys.stderr))\n" + call
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"


def test_the_version(tmp_path: Path) -> None:
    """`--version` names the program and its version."""
    assert run("--version", cwd=tmp_path).stdout == "claude-force 2.3.0\n"


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["exeute", "a", "b"], "Did you mean 'execute'?"),
        (["agents", "lst"], "Did you mean 'list'?"),
        (["zzz"], "Try 'claude-force --help' for help."),
        (["execute"], "Try 'claude-force execute --help' for help."),
        (["execute", "reviewer", "x", "--effort", "huge"], "'huge' is not one of"),
        (["execute", "reviewer", "x", "--max-tokens", "0"], "0 is not in the range"),
        (["execute", "reviewer", "x", "--timeout", "0"], "0.0 is not in the range"),
        (["execute", "reviewer", "x", "--config", "nowhere.json"], "no config file at 'nowhere.json'"),
        (["agents", "validate", "nowhere"], "does not exist"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_usage_is_2(project: Path, args: list[str], said: str) -> None:
    """A mistake on the command line is explained on stderr, with nothing on stdout."""
    done = run(*args, cwd=project)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr


# ---------------------------------------------------------------- execute


@pytest.mark.parametrize("args", [[], ["cache"]], ids=str)
def test_a_group_alone_is_its_help(project: Path, args: list[str]) -> None:
    """On stderr, once, and no success."""
    done = run(*args, cwd=project)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == run(*args, "--help", cwd=project).stdout


def test_async_gives_the_same(project: Path, simulator: Simulator) -> None:
    """`--async` goes through the async client and prints the same."""
    done = run("execute", "reviewer", "Review it.", "--async", cwd=project, simulator=simulator)
    assert (done.returncode, done.stdout) == (0, "Looks good.\n")


def test_nothing_but_the_answer_is_on_stdout(project: Path, simulator: Simulator) -> None:
    """A pipe gets the answer and one line end; everything else is on stderr."""
    done = run("execute", "reviewer", "Review it.", cwd=project, simulator=simulator)
    assert (done.returncode, done.stdout) == (0, "Looks good.\n")
    assert "simulated" in done.stderr
    assert ledger(project)[0]["success"] is True


def test_offline_needs_nothing(project: Path) -> None:
    """`--offline` answers without a key, and the answer says that it is simulated."""
    done = run("execute", "reviewer", "Review it.", "--offline", cwd=project)
    assert done.returncode == 0
    assert done.stdout.startswith("[simulated answer")


@pytest.mark.parametrize(
    ("args", "stdin", "prompt_end"),
    [
        (["reviewer", "Do it."], None, "Do it."),
        (["reviewer", "-"], "From the pipe.", "From the pipe."),
        (["reviewer"], "From the pipe.", "From the pipe."),
        (["reviewer", "Do it."], "a diff", "\nDo it."),
        (["reviewer", "Do it."], "", "Do it."),
    ],
    ids=["argument", "dash", "pipe alone", "pipe as material", "empty pipe"],
)
def test_where_the_task_comes_from(
    project: Path, simulator: Simulator, args: list[str], stdin: str | None, prompt_end: str
) -> None:
    """A pipe is the task, or, beside a task, fenced material; an empty pipe is nothing."""
    done = run("execute", *args, cwd=project, simulator=simulator, stdin=stdin)
    assert done.returncode == 0
    prompt = simulator.requests[0].prompt
    assert prompt.endswith(prompt_end)
    assert ('kind="input" name="stdin">\na diff\n</material-' in prompt) is (stdin == "a diff")


def test_no_task_at_all(project: Path, simulator: Simulator) -> None:
    """Without a task and without a pipe the error says what to do, even with stdin closed."""
    done = run("execute", "reviewer", cwd=project, simulator=simulator)
    assert (done.returncode, done.stdout) == (2, "")
    closed = subprocess.run(
        ["sh", "-c", f"{STARTED} execute reviewer <&-"],
        cwd=project, env=env_of(simulator), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert closed.returncode == 2
    assert "no task is given" in closed.stderr
    assert "Traceback" not in closed.stderr
    dash = shell("STARTED agents recommend - <&-", cwd=project, simulator=simulator)
    assert (dash.returncode, dash.stderr.partition(";")[0]) == (2, "error: standard input is closed")


def test_options_reach_the_request(project: Path, simulator: Simulator) -> None:
    """Files, model, effort and max_tokens are sent."""
    write(project / "a.py", "A = 1")
    write(project / "b.py", "B = 2")
    options = ["-f", "a.py", "--file", "b.py", "--model", "opus", "--effort", "high", "--max-tokens", "99"]
    assert run("execute", "reviewer", "x", *options, cwd=project, simulator=simulator).returncode == 0
    (seen,) = simulator.requests
    assert (seen.body["model"], seen.body["max_tokens"]) == ("claude-opus-5-5", 99)
    assert seen.body["output_config"] == {"effort": "high"}
    assert seen.prompt.index("A = 1") < seen.prompt.index("B = 2")


def test_json_is_one_document(project: Path, simulator: Simulator) -> None:
    """`--json` gives all facts of the answer."""
    done = run("execute", "reviewer", "x", "--json", cwd=project, simulator=simulator)
    data = json.loads(done.stdout)
    assert (data["text"], data["agent_name"], data["model"]) == ("Looks good.", "reviewer", "claude-haiku-5-5")
    assert data["usage"]["output_tokens"] > 0
    assert data["cost_usd"] > 0


def test_a_schema_makes_data_of_the_answer(project: Path, simulator: Simulator) -> None:
    """`--schema` prints JSON that fits, and with `--json` the value stands beside its facts."""
    write(project / "s.json", '{"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}')
    simulator.script('{"ok": true}', '{"ok": 1}')
    for mode, data in (([], {"ok": True}), (["--json"], {"ok": True})):
        done = run("execute", "reviewer", "x", "--schema", "s.json", *mode, cwd=project, simulator=simulator)
        printed = json.loads(done.stdout)
        assert (done.returncode, printed["data"] if mode else printed) == (0, data)
    done = run("execute", "reviewer", "y", "--schema", "s.json", "--json", cwd=project, simulator=simulator)
    assert (done.returncode, json.loads(done.stdout)["error"]["type"]) == (1, "InvalidOutputError")
    assert "$.ok: 1 is not of type 'boolean'" in done.stderr


@pytest.mark.parametrize("more", [["x"], ["--tasks-file", "t.jsonl"]], ids=["one task", "many"])
@pytest.mark.parametrize(
    ("schema", "said"),
    [
        (None, "cannot read 's.json'"),
        ('{"type": ', "'s.json' is no JSON: "),
        ("[1]", "'s.json' cannot be used: the output schema is list"),
        ('{"type": "objekt"}', "'s.json' cannot be used: the output schema is no JSON schema: $.type: 'objekt'"),
    ],
    ids=["missing", "no JSON", "no object", "no schema"],
)
def test_a_bad_schema_file_is_2(
    project: Path, simulator: Simulator, schema: str | None, said: str, more: list[str]
) -> None:
    """The error names the file and the place, once however many tasks there are, and nothing is sent."""
    if schema is not None:
        write(project / "s.json", schema)
    write(project / "t.jsonl", '"a"\n"b"\n')
    done = run("execute", "reviewer", *more, "--schema", "s.json", cwd=project, simulator=simulator)
    assert (done.returncode, done.stdout, simulator.stats.calls) == (2, "", {})
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("fault", "code", "kind"),
    [
        (ApiFault(400), 1, "InvalidRequestError"),
        (ApiFault(404), 2, "ModelNotFoundError"),
        (ApiFault(401), 3, "CredentialsError"),
        (ApiFault(403), 3, "CredentialsError"),
        (ApiFault(402), 4, "AccountLimitError"),
        (ApiFault(429, error_code="enforced_spend_limit_reached"), 4, "AccountLimitError"),
        (ApiFault(429), 5, "RateLimitError"),
        (ApiFault(529), 5, "OverloadedError"),
        (ApiFault(500), 1, "ServerError"),
        (Answer("", refusal=Refusal()), 6, "RefusalError"),
        (Answer(""), 1, "EmptyAnswerError"),
        (Hang(), 1, "DeadlineError"),
    ],
    ids=str,
)
def test_exit_codes(project: Path, simulator: Simulator, fault: Any, code: int, kind: str) -> None:
    """Each kind of failure has its exit code; stdout stays empty, or holds the error as JSON where that was asked."""
    simulator.script(fault, fault)
    command = ["execute", "reviewer", "x", "--timeout", "1" if fault == Hang() else "60"]
    done = run(*command, cwd=project, simulator=simulator)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.strip().splitlines()) == 1
    done = run(*command, "--json", cwd=project, simulator=simulator)
    error = json.loads(done.stdout)["error"]
    assert (done.returncode, error["type"], error["exit_code"]) == (code, kind, code)


def test_without_credentials(project: Path, simulator: Simulator) -> None:
    """Exit code 3, and the error names `--offline`; nothing is simulated unasked."""
    done = run("execute", "reviewer", "x", cwd=project, ANTHROPIC_BASE_URL=simulator.base_url)
    assert (done.returncode, done.stdout) == (3, "")
    assert "--offline" in done.stderr


def test_an_answer_that_was_cut_is_no_success(project: Path) -> None:
    """The text is printed, the reason is said, and a script sees the failure."""
    with Simulator(answer="word " * 100) as simulator:
        done = run("execute", "reviewer", "x", "--max-tokens", "5", cwd=project, simulator=simulator)
    assert done.returncode == 1
    assert done.stdout.startswith("word")
    assert "raise --max-tokens" in done.stderr


def test_an_unknown_agent_gets_a_suggestion(project: Path) -> None:
    """The nearest name is offered."""
    done = run("execute", "reviwer", "x", "--offline", cwd=project)
    assert done.returncode == 2
    assert "'reviewer'" in done.stderr


def test_retries_are_told(project: Path, simulator: Simulator) -> None:
    """Who waits sees why."""
    (project / ".claude/claude.json").unlink()
    simulator.script(ApiFault(529, message="busy", headers={"retry-after-ms": "1"}))
    done = run("execute", "reviewer", "x", cwd=project, simulator=simulator)
    assert (done.returncode, done.stdout) == (0, "Looks good.\n")
    assert "attempt 1 of 4: busy" in done.stderr


def test_a_reader_that_leaves_is_no_crash(project: Path) -> None:
    """`| head` closes the pipe early: no traceback, and the end that any program has then."""
    with Simulator(answer="line\n" * 50_000) as simulator:
        line = f"{{ {COMMAND} execute reviewer x --max-tokens 128000 </dev/null; echo $? >code; }} | head -n 1"
        done = shell(line, cwd=project, simulator=simulator)
    assert (done.stdout, (project / "code").read_text()) == ("line\n", "141\n")
    assert "Traceback" not in done.stderr
    assert "rror" not in done.stderr


def shell(line: str, *, cwd: Path, simulator: Simulator) -> subprocess.CompletedProcess[str]:
    """What a shell makes of it; `STARTED` is the command with its whole start."""
    line = line.replace("STARTED", STARTED)
    return subprocess.run(
        ["sh", "-c", line], cwd=cwd, env=env_of(simulator), capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    "line", ["STARTED execute reviewer x <&- 2>&-", "claude-force execute reviewer x </dev/null 2>/dev/full"]
)
def test_an_answer_is_one_without_anybody_to_note(project: Path, simulator: Simulator, line: str) -> None:
    """A full stderr is no reason to fail, or to have a script pay again; services may start us without any stream."""
    done = shell(line, cwd=project, simulator=simulator)
    assert (done.returncode, done.stdout) == (0, "Looks good.\n")


@pytest.mark.parametrize(
    ("line", "sent"),
    [
        ("STARTED execute reviewer x >&-", 0),
        ("claude-force execute reviewer x >/dev/full", 1),
        ("env -u PYTHONUNBUFFERED STARTED agents show nobody --json >/dev/full", 0),
    ],
)
def test_output_that_cannot_be_written(project: Path, simulator: Simulator, line: str, sent: int) -> None:
    """It is an error in one line; where it can be known before, nothing is paid."""
    done = shell(f"{line} </dev/null", cwd=project, simulator=simulator)
    assert done.returncode in {1, 2}
    assert "error: " in done.stderr
    assert "; " in done.stderr, "what to do"
    assert "Traceback" not in done.stderr
    assert sum(simulator.stats.calls.values()) == sent


def test_a_terminal_without_the_character(project: Path) -> None:
    """What the encoding of the output lacks is escaped; a paid answer is not lost for it. JSON stays JSON."""
    with Simulator(answer="h \U0001f389") as simulator:
        line = "PYTHONIOENCODING=latin-1 claude-force execute reviewer x </dev/null"
        done = shell(line, cwd=project, simulator=simulator)
        assert (done.returncode, done.stdout) == (0, "h \\U0001f389\n")
        data = shell(f"{line} --json", cwd=project, simulator=simulator)
    assert json.loads(data.stdout)["text"] == "h \U0001f389"


def test_a_usage_error_is_json_too(project: Path) -> None:
    """A script that asked for JSON gets JSON, whatever went wrong."""
    done = run("execute", "reviewer", "x", "--timeout", "0", "--json", cwd=project)
    assert (done.returncode, json.loads(done.stdout)["error"]["exit_code"]) == (2, 2)


def test_the_current_folder_is_gone(project: Path, simulator: Simulator) -> None:
    """A deleted folder is said to be, by every command that looks around."""
    for command in ("agents list", "execute reviewer x", "doctor", "config show"):
        done = shell(
            f"mkdir gone && cd gone && rmdir ../gone && STARTED {command} </dev/null", cwd=project, simulator=simulator
        )
        assert (done.returncode, "the current folder is gone" in done.stderr) == (2, True)


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)],
    ids=["Ctrl-C", "SIGTERM", "SIGHUP"],
)
@pytest.mark.parametrize("mode", [[], ["--async"]], ids=["sync", "async"])
def test_an_interruption(
    project: Path, simulator: Simulator, number: signal.Signals, code: int, mode: list[str]
) -> None:
    """The exit code is the signal's, there is no traceback, the connection is closed and the ledger knows."""
    simulator.script(Hang())
    process = subprocess.Popen(
        [COMMAND, "execute", "reviewer", "x", *mode],
        cwd=project,
        env=env_of(simulator),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    simulator.wait_until(lambda stats: stats.in_flight == 1, timeout_s=120)
    process.send_signal(number)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out) == (code, "")
    assert "Traceback" not in err
    simulator.wait_until(lambda stats: stats.in_flight == 0)
    assert ledger(project)[0]["error_type"] == "Interrupted"


def on_terminal(*args: str, cwd: Path, simulator: Simulator) -> Iterator[str]:
    """What appears on a terminal, piece by piece."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(cwd)
        os.execvpe(  # noqa: S606 - the child of a fork
            COMMAND, [COMMAND, *args], env_of(simulator) | {"TERM": "xterm", "COLUMNS": "100"}
        )
    try:
        while piece := os.read(terminal, 65536):
            yield piece.decode()
    except OSError:  # how Linux says that the other side has closed
        pass
    finally:
        os.close(terminal)
        _, status = os.waitpid(pid, 0)
    yield f"exit {os.waitstatus_to_exitcode(status)}"


def test_on_a_terminal_the_answer_streams(project: Path) -> None:
    """It appears as it is written, and a summary with tokens and price follows."""
    with Simulator(answer="first " + "word " * 40, latency=Latency(0.0, per_token_s=0.002)) as simulator:
        pieces = list(on_terminal("execute", "reviewer", "x", cwd=project, simulator=simulator))
    assert pieces[-1] == "exit 0"
    assert len(pieces) > 5
    shown = "".join(pieces)
    assert "first word word" in shown
    assert "claude-haiku-5-5" in shown
    assert "$0.0" in shown
    assert simulator.requests[0].body["stream"] is True


def test_an_answer_cannot_command_the_terminal(project: Path) -> None:
    """Escape codes in an answer are shown as unknown characters on a terminal; a pipe gets the answer as it is."""
    answer = "a\x1b]0;owned\x07b\x9b31m \u061c\u202e\u3000\u65e5\u672c\u00a0\u200d! \x1b[1mbold"
    with Simulator(answer=answer) as simulator:
        shown = "".join(on_terminal("execute", "reviewer", "x", cwd=project, simulator=simulator))
        piped = run("execute", "reviewer", "x", cwd=project, simulator=simulator).stdout
        write(project / "tasks.jsonl", '"x"')
        as_json = [
            "".join(on_terminal("execute", "reviewer", *args, cwd=project, simulator=simulator)).partition("exit")[0]
            for args in (["x", "--json"], ["--tasks-file", "tasks.jsonl"])
        ]
    assert "a\ufffd]0;owned\ufffdb\ufffd31m \ufffd\ufffd\u3000\u65e5\u672c\u00a0\u200d!" in shown
    assert piped == answer + "\n"
    for document in as_json:
        assert not {"\x1b]", "\x07", "\x9b", "\u061c", "\u202e"} & set(document)
        assert "a\\u001b]0;owned\\u0007b\\u009b31m \\u061c\\u202e\u3000\u65e5" in document


def test_no_file_of_a_project_can_command_the_terminal(project: Path) -> None:
    """Neither by its name, nor by what it says."""
    write(project / "CLAUDE.md", "@docs/\x1b[2J.md")
    write(project / "docs/\x1b[2J.md", "hello")
    write(project / ".claude/claude.json", '{"agents": {"reviewer": {"file": "agents/\x9b31m.md"}}}')
    for args in (["doctor"], ["config", "migrate", "--dry-run"]):
        shown = run(*args, cwd=project).stdout
        assert not {"\x1b", "\x9b"} & set(shown)
        assert "\ufffd" in shown


# ---------------------------------------------------------------- agents


def test_agents_list(project: Path) -> None:
    """A pipe gets one tab-separated line an agent; JSON has every fact but the prompt."""
    done = run("agents", "list", cwd=project)
    assert done.stdout == "reviewer\thaiku\tproject\tReviews code.\n"
    (agent,) = json.loads(run("agents", "list", "--json", cwd=project).stdout)
    assert (agent["name"], agent["model"], agent["source"]) == ("reviewer", "haiku", "project")
    assert agent["path"].endswith("reviewer.md")
    assert "prompt" not in agent


def test_agents_list_on_a_terminal(project: Path, simulator: Simulator) -> None:
    """A person gets a table, of which nothing is cut off where it is narrow."""
    name = "-".join(["longest"] * 12)
    write(project / f".claude/agents/{name}.md", "You review.")
    shown = "".join(on_terminal("agents", "list", cwd=project, simulator=simulator))
    assert "when to call it" in shown
    assert "reviewer" in shown
    assert "\N{HORIZONTAL ELLIPSIS}" not in shown
    assert "".join(line.strip().partition(" ")[0] for line in shown.splitlines()).count(name) == 1


def test_agents_show(project: Path) -> None:
    """One agent's settings and its prompt, as text and as JSON."""
    done = run("agents", "show", "reviewer", cwd=project)
    assert "model: haiku" in done.stdout
    assert done.stdout.endswith("\n\nYou review code.\n")
    assert json.loads(run("agents", "show", "reviewer", "--json", cwd=project).stdout)["prompt"] == "You review code."
    assert run("agents", "show", "reviwer", cwd=project).returncode == 2


def test_agents_validate(project: Path) -> None:
    """Unusable files give exit code 1 with their reason, repaired ones a warning."""
    assert run("agents", "validate", cwd=project).stdout == "1 usable, 0 not, 0 warnings\n"
    write(project / ".claude/agents/colon.md", "---\nname: colon\ndescription: use it: often\n---\nBody.\n")
    write(project / ".claude/agents/empty.md", "")
    done = run("agents", "validate", cwd=project)
    assert done.returncode == 1
    assert done.stdout.startswith("2 usable, 1 not, ")
    assert "empty.md" in done.stderr
    assert "colon.md" in done.stderr
    report = json.loads(run("agents", "validate", ".claude/agents", "--json", cwd=project).stdout)
    assert report["usable"] == ["colon", "reviewer"]
    assert report["problems"][0]["path"].endswith("empty.md")


def test_no_agents(tmp_path: Path) -> None:
    """An empty project is told what to do."""
    done = run("agents", "list", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "")
    assert "claude-force init" in done.stderr
    asked = run("execute", "python-expert", "x", "--offline", cwd=tmp_path)
    assert (asked.returncode, "claude-force init" in asked.stderr) == (2, True)


# ---------------------------------------------------------------- init


def test_init_then_execute(tmp_path: Path) -> None:
    """From an empty folder to an answer in two commands."""
    done = run("init", cwd=tmp_path)
    assert done.returncode == 0
    assert len(run("agents", "list", cwd=tmp_path).stdout.splitlines()) == 19
    assert run("config", "validate", cwd=tmp_path).returncode == 0
    assert run("execute", "python-expert", "x", "--offline", cwd=tmp_path).returncode == 0


def test_init_never_overwrites(tmp_path: Path) -> None:
    """A file of the user's is kept, unless `--force` says otherwise; only what differs is written again."""
    mine = write(tmp_path / ".claude/agents/python-expert.md", "mine")
    report = json.loads(run("init", "--json", cwd=tmp_path).stdout)
    assert str(mine.relative_to(tmp_path)) in report["kept"]
    assert mine.read_text() == "mine"
    again = json.loads(run("init", "--json", cwd=tmp_path).stdout)
    assert again["written"] == []
    forced = json.loads(run("init", "--force", "--json", cwd=tmp_path).stdout)
    assert forced["written"] == [str(mine.relative_to(tmp_path))]
    assert mine.read_text() != "mine"


def test_init_follows_no_link_out_of_the_project(tmp_path: Path) -> None:
    """A repository that was cloned must not choose which of the user's files is written, or made."""
    mine, project = write(tmp_path / "mine", "precious"), tmp_path / "project"
    (project / ".claude/agents").mkdir(parents=True)
    (project / ".claude/agents/python-expert.md").symlink_to(tmp_path / "new.md")
    (project / ".claude/claude.json").symlink_to(mine)
    assert run("init", cwd=project).returncode == 0, "as they are there, they are kept"
    forced = run("init", "--force", cwd=project)
    assert (forced.returncode, forced.stderr) == (
        2, "error: '.claude/claude.json' leads out of '.' by a link; remove that, and try again\n",
    )  # fmt: skip
    assert mine.read_text() == "precious"
    assert not (tmp_path / "new.md").exists()
    shutil.rmtree(project / ".claude")
    (project / ".claude").symlink_to(tmp_path / "folder")
    assert run("init", cwd=project).returncode == 2
    assert not (tmp_path / "folder").exists()


def test_init_where_nothing_can_be_written(tmp_path: Path) -> None:
    """A file in the way is a clear error."""
    write(tmp_path / ".claude", "in the way")
    done = run("init", cwd=tmp_path)
    assert done.returncode == 2
    assert "cannot write to '.claude'" in done.stderr
    assert "give a folder that you may write to" in done.stderr


# ---------------------------------------------------------------- config


OLD = {
    "version": "1.0.0",
    "agents": {"a": {"file": "a.md", "priority": 1}},
    "workflows": {"w": ["a", "b"]},
    "rules": {},
}


def test_config_show_and_schema(project: Path, tmp_path: Path) -> None:
    """The configuration that applies, defaults included, and its schema, are JSON on stdout."""
    shown = json.loads(run("config", "show", cwd=project).stdout)
    assert (shown["defaults"]["max_retries"], shown["cache"]["ttl_hours"]) == (0, 24.0)
    assert "properties" in json.dumps(json.loads(run("config", "schema", cwd=tmp_path).stdout))


def test_config_show_keeps_passwords_to_itself(tmp_path: Path) -> None:
    """What it prints gets pasted; where servers are is all that it says of them."""
    urls = {
        "cache": "rediss://me:sesame@cache/1",
        "shared": "postgresql://db/x?password=sesame",
        "engine": "sqlite:///e",
    }
    write(tmp_path / "own.json", json.dumps({name: {"url": url} for name, url in urls.items()}))
    done = run("config", "show", "--config", "own.json", cwd=tmp_path)
    shown = json.loads(done.stdout)
    assert [shown[name]["url"] for name in urls] == ["rediss://cache/1", "postgresql://db/x", "sqlite:///e"]
    assert "sesame" not in done.stdout + done.stderr


def test_config_validate(project: Path) -> None:
    """A sound file is said to be; a fault exits with 2 and names its key."""
    assert "valid" in run("config", "validate", cwd=project).stdout
    write(project / ".claude/claude.json", '{"cach": {}}')
    done = run("config", "validate", cwd=project)
    assert (done.returncode, done.stdout) == (2, "")
    assert "did you mean 'cache'?" in done.stderr


def test_config_migrate(project: Path) -> None:
    """An old file is upgraded once, kept beside the new one, and the difference is shown."""
    path = write(project / ".claude/claude.json", json.dumps(OLD))
    dry = run("config", "migrate", "--dry-run", cwd=project)
    assert dry.returncode == 0
    assert "+++ upgraded" in dry.stdout
    assert json.loads(path.read_text()) == OLD
    done = run("config", "migrate", cwd=project)
    assert done.returncode == 0
    assert '+      "path": "a.md"' in done.stdout
    assert json.loads(path.with_name("claude.json.bak").read_text()) == OLD
    assert json.loads(path.read_text())["agents"] == {"a": {"path": "a.md"}}
    assert "up to date" in run("config", "migrate", cwd=project).stdout
    missing = run("config", "validate", cwd=project)
    assert missing.returncode == 2
    assert "agents.a.path: no file 'a.md'" in missing.stderr
    write(project / ".claude/a.md", "You are a.")
    assert run("config", "validate", cwd=project).returncode == 0


def test_migration_never_loses_an_old_file(project: Path) -> None:
    """A second upgrade keeps the first backup, and a faulty file is left as it is."""
    path = write(project / ".claude/claude.json", json.dumps(OLD))
    write(path.with_name("claude.json.bak"), "an older one")
    assert run("config", "migrate", cwd=project).returncode == 0
    assert path.with_name("claude.json.bak").read_text() == "an older one"
    assert json.loads(path.with_name("claude.json.bak2").read_text()) == OLD
    write(path, json.dumps(OLD))
    path.with_name("claude.json.bak3").symlink_to(project / "elsewhere")
    assert run("config", "migrate", cwd=project).returncode == 0
    assert not (project / "elsewhere").exists(), "no link in a cloned repository says where the copy lies"
    assert json.loads(path.with_name("claude.json.bak4").read_text()) == OLD
    faulty = write(path, json.dumps(OLD | {"cach": {}})).read_text()
    assert run("config", "migrate", cwd=project).returncode == 2
    assert path.read_text() == faulty


# ---------------------------------------------------------------- doctor, completion, simulator


def test_doctor(project: Path, simulator: Simulator) -> None:
    """It says what is there and how to mend what is not; warnings alone do not fail it."""
    done = run("doctor", cwd=project, ANTHROPIC_BASE_URL=simulator.base_url, XDG_CONFIG_HOME="/dev/null/nowhere")
    assert done.returncode == 0
    assert "1 found" in done.stdout
    assert "secret: /dev/null/nowhere/claude-force cannot be written" in done.stdout
    assert "or set CLAUDE_CACHE_SECRET" in done.stdout
    assert "set ANTHROPIC_API_KEY, or use --offline" in done.stdout
    write(project / ".claude/claude.json", "{")
    write(project / ".claude/agents/empty.md", "")
    env = {"ANTHROPIC_BASE_URL": simulator.base_url, "CLAUDE_CACHE_SECRET": "short"}
    broken = run("doctor", "--json", cwd=project, **env)  # type: ignore[arg-type] # no other keys
    assert broken.returncode == 1
    states = {(finding["subject"], finding["state"]) for finding in json.loads(broken.stdout)}
    assert {("config", "error"), ("agents", "error"), ("credentials", "warning"), ("metrics", "ok")} <= states
    assert ("secret", "error") in states


def test_doctor_asks_the_server_of_the_cache(project: Path, simulator: Simulator, valkey: str) -> None:
    """Whether it answers, bounds itself, and lets us in; a missing secret fails, for then nothing would run."""

    def found(url: str, secret: str = "") -> dict[str, str]:
        env = {"CLAUDE_CACHE_URL": url, "CLAUDE_CACHE_SECRET": secret}
        done = run("doctor", "--json", cwd=project, ANTHROPIC_BASE_URL=simulator.base_url, **env)  # type: ignore[arg-type] # no other
        (finding,) = [finding for finding in json.loads(done.stdout) if finding["subject"] == "cache"]
        return dict(finding)

    secret = "a secret for tests: long enough"
    assert "CLAUDE_CACHE_SECRET" in found(valkey)["detail"]
    assert "has no limit on its memory" in found(valkey, secret)["detail"]
    away = found("redis://:sesame@127.0.0.1:1", secret)
    assert (away["state"], "sesame" in str(away)) == ("warning", False)


def test_doctor_sees_credentials(project: Path, simulator: Simulator) -> None:
    """A key in the environment is found, not shown, and nothing is sent."""
    done = run("doctor", cwd=project, simulator=simulator, ANTHROPIC_API_KEY="sk-secret")
    assert f"for {simulator.base_url}" in done.stdout
    assert "sk-secret" not in done.stdout + done.stderr
    assert simulator.stats.calls == {}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "powershell"])
def test_completion(shell: str, tmp_path: Path) -> None:
    """Each shell gets its script."""
    assert "_CLAUDE_FORCE_COMPLETE" in run("completion", shell, cwd=tmp_path).stdout


def test_agents_names_are_completed(project: Path) -> None:
    """TAB offers the agents of the project, but for names that a shell would run."""
    write(project / ".claude/agents/rev$(touch owned).md", "You review.")
    completing = {
        "_CLAUDE_FORCE_COMPLETE": "bash_complete",
        "COMP_WORDS": "claude-force execute rev",
        "COMP_CWORD": "2",
    }
    done = subprocess.run(
        COMMAND, cwd=project, env=os.environ | completing, capture_output=True, text=True, check=False
    )
    assert done.stdout == "plain,reviewer\n"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, 143)], ids=["Ctrl-C", "SIGTERM"])
def test_simulator(tmp_path: Path, number: signal.Signals, code: int) -> None:
    """Any client can use it; a signal ends it at once."""
    process = subprocess.Popen(
        [COMMAND, "simulator", "--port", "0"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        body = {"model": "claude-haiku-5-5", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
        headers = {"x-api-key": "k", "content-type": "application/json", "anthropic-version": "2026-10-21"}
        request = urllib.request.Request(f"{url}/v1/messages", json.dumps(body).encode(), headers)  # noqa: S310 - loopback
        with urllib.request.urlopen(request, timeout=120) as response:  # noqa: S310 - loopback
            assert json.load(response)["type"] == "message"
        process.send_signal(number)
        _, err = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == code
    assert "Traceback" not in err
