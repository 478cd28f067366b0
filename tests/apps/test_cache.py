"""`claude-force cache` as people and scripts meet it: a real process and a real file."""

import json
import os
import pty
import sqlite3
import subprocess
from pathlib import Path
from typing import Any

import pytest

from claude_force.response_cache import FILE_NAME, ResponseCache, key_of

SECRET = "a secret for tests: long enough"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project in which two agents were asked, one of them twice."""
    monkeypatch.setenv("CLAUDE_CACHE_SECRET", SECRET)
    folder = tmp_path / "project"
    (folder / ".claude").mkdir(parents=True)
    with opened(folder) as cache:
        cache.set("linter", "Check it.", "claude-haiku-5-5", "Fine.", 90, 4, 0.25)
        cache.set("reviewer", "Review \x1b[2Jit.", "claude-opus-5-5", "Good \x1b[31mwork.", 90, 4, None)
        cache.get("linter", "Check it.", "claude-haiku-5-5")
        cache.get("linter", "Something else.", "claude-haiku-5-5")
    return folder


def opened(folder: Path) -> ResponseCache:
    """The cache of a project."""
    return ResponseCache(folder / ".claude" / "cache", secret=SECRET)


def run(*args: str, cwd: Path, code: int = 0, **env: str) -> str:
    """What `claude-force cache ...` prints, stderr included."""
    done = subprocess.run(
        ["claude-force", "cache", *args],
        cwd=cwd, env={**os.environ, **env}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, timeout=120, check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stdout
    assert done.returncode == code, done.stdout
    return done.stdout


def forge(folder: Path) -> str:
    """Somebody edits the linter's answer; its key."""
    key = key_of("linter", "Check it.", "claude-haiku-5-5", "")
    connection = sqlite3.connect(folder / ".claude" / "cache" / FILE_NAME)
    with connection:
        connection.execute("UPDATE entries SET sealed = zeroblob(99) WHERE key = ?", (key,))
    connection.close()
    return key


def test_stats(project: Path) -> None:
    """How much, how often, and what it saved, for people and for machines."""
    said = run("stats", cwd=project)
    assert "hit rate\t50.0% (1 of 2)\nsaved\t$0.2500\n" in said
    facts = json.loads(run("stats", "--json", cwd=project))
    assert (facts["entries"], facts["hits"], facts["saved_usd"], facts["integrity_failures"]) == (2, 1, 0.25, 0)
    assert facts["by_agent"]["linter"]["hit_rate"] == "50.0%"


def test_list_and_show(project: Path) -> None:
    """Where an answer came from; a beginning of its key is enough, and no terminal obeys what it holds."""
    first, second = (line.split("\t") for line in run("list", cwd=project).splitlines())
    assert (first[1], first[4:]) == ("linter", ["1", "$0.2500", "Check it."])
    assert (second[1], second[5:]) == ("reviewer", ["unpriced", "Review \N{REPLACEMENT CHARACTER}[2Jit."])
    shown = run("show", second[0][:6], cwd=project)
    assert "model: claude-opus-5-5\n" in shown
    assert shown.endswith("\nGood \N{REPLACEMENT CHARACTER}[31mwork.\n")
    assert json.loads(run("show", first[0], "--json", cwd=project))["response"] == "Fine."
    assert len(json.loads(run("list", "--json", cwd=project))) == 2
    assert "no answer has a key that begins with 'zz'" in run("show", "zz", cwd=project, code=2)
    assert "2 answers have a key" in run("show", "", cwd=project, code=2)


def test_verify(project: Path) -> None:
    """What is forged is named and is a failure; repair moves it away, and then all is well."""
    assert run("verify", cwd=project) == "2 checked, 0 forged, 0 expired\n"
    key = forge(project)
    said = run("verify", cwd=project, code=1)
    assert f"{key[:12]}: its signature is not ours; would be moved out of the way by --repair" in said
    assert json.loads(run("verify", "--json", cwd=project, code=1))["forged"] == [key]
    assert "moved out of the way" in run("verify", "--repair", cwd=project)
    assert run("verify", cwd=project) == "1 checked, 0 forged, 0 expired\n"


@pytest.mark.parametrize(("kind", "is_shown"), [("xterm", True), ("dumb", False)])
def test_how_far_it_is(project: Path, kind: str, *, is_shown: bool) -> None:
    """Is seen on a terminal; one that cannot move its cursor is sent no codes for that."""
    main, terminal = pty.openpty()
    command = ["claude-force", "cache", "verify"]
    env = os.environ | {"TERM": kind}
    done = subprocess.run(command, cwd=project, env=env, stdout=subprocess.PIPE, stderr=terminal, text=True, check=True)
    assert done.stdout == "2 checked, 0 forged, 0 expired\n"
    os.write(terminal, b"end\n")
    shown = os.read(main, 65536)
    assert (b"checking" in shown, b"\x1b" in shown) == (is_shown, is_shown)
    os.close(main)
    os.close(terminal)


def test_clear_asks(project: Path) -> None:
    """A script has to say yes; a person is asked, and may say no."""
    assert "give --yes" in run("clear", cwd=project, code=2)
    main, terminal = pty.openpty()
    command = ["claude-force", "cache", "clear"]
    for answer, code in ((b"n\n", 130), (b"y\n", 0)):
        os.write(main, answer)
        done = subprocess.run(command, cwd=project, stdin=terminal, capture_output=True, text=True, check=False)
        assert "Remove 2 answers from" in done.stderr
        assert done.returncode == code
    os.close(main)
    os.close(terminal)
    assert opened(project).get_stats()["entries"] == 0


def test_clear_and_prune(project: Path) -> None:
    """What was removed is counted."""
    assert run("prune", cwd=project) == "0 removed\n"
    assert run("prune", "--agent", "linter", "--older-than", "7d", cwd=project) == "0 removed\n"
    assert "is no age; give a number and m, h, d or w" in run("prune", "--older-than", "soon", cwd=project, code=2)
    assert run("prune", "--model", "claude-opus-5-5", cwd=project) == "1 removed\n"
    assert run("clear", "--yes", cwd=project) == "1 removed\n"
    assert "no answers are kept here" in run("list", cwd=project)


def test_export_and_import(project: Path, tmp_path: Path) -> None:
    """Answers travel to another machine that has the secret, and to no other."""
    other = tmp_path / "other"
    (other / ".claude").mkdir(parents=True)
    bundle = str(tmp_path / "answers.bundle")
    assert run("export", bundle, cwd=project) == "2 exported\n"
    refused = run("import", bundle, cwd=other, code=1, CLAUDE_CACHE_SECRET="somebody else's secret")
    assert "give both machines the same CLAUDE_CACHE_SECRET" in refused
    assert run("import", bundle, cwd=other) == "2 imported\n"
    assert "linter" in run("list", cwd=other)


def test_a_cache_that_cannot_be_used(project: Path) -> None:
    """The reason and the way out, and exit code 1."""
    (project / ".claude" / "cache" / FILE_NAME).write_text("no database " * 999)
    assert "error: the cache cannot be used: " in run("clear", "--yes", cwd=project, code=1)
    assert "file\tnone: the cache on disk cannot be used" in run("stats", cwd=project)
    assert "too short to sign the cache" in run("stats", cwd=project, code=2, CLAUDE_CACHE_SECRET="short")


def test_on_a_server(project: Path, valkey: str) -> None:
    """The same commands look after what many machines share, and say where it is without the password."""
    env: dict[str, Any] = {"CLAUDE_CACHE_URL": valkey.replace("//", "//default:@")}
    with ResponseCache(url=valkey, secret=SECRET) as cache:
        cache.set("linter", "Check it.", "claude-haiku-5-5", "Fine.", 90, 4, 0.25)
    said = run("stats", cwd=project, **env)
    assert said.startswith("answers\t1\nsize\t0.0 MB\n")
    assert f"\nserver\t{valkey}\n" in said
    assert "\tlinter\t" in run("list", cwd=project, **env)
    assert run("verify", cwd=project, **env) == "1 checked, 0 forged, 0 expired\n"
    assert run("clear", "--yes", cwd=project, **env) == "1 removed\n"
    assert run("clear", "--yes", cwd=project) == "2 removed\n"  # the disk was left alone
    env = {"CLAUDE_CACHE_URL": valkey.replace("//", "//nobody:sesame@")}
    said = run("clear", "--yes", cwd=project, code=1, **env)
    assert "does not let us in" in said
    assert "sesame" not in said
    assert "which cannot be used now" in run("stats", cwd=project, **env)
