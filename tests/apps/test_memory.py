"""`claude-force memory`: what was done before, for people, pipes and programs."""

import json
from pathlib import Path

from .conftest import Run


def test_what_was_done_before(run: Run, project: Path) -> None:
    """Kept by calls that remember, found, shown, exported, forgotten."""
    assert run("memory", "search", "anything").stderr == "note: nothing like it was done before\n"
    for part in ("client", "server"):
        asked = f"Review the retry loop of the {part}, api_key=abcdef123456"
        assert run("execute", "reviewer", asked, "--use-memory").returncode == 0
    assert run("execute", "reviewer", "Review the retry loop of the client").returncode == 0, "which keeps nothing"
    found = json.loads(run("memory", "search", "retryLoop client", "--json", "--min-relevance", "0.1").stdout)
    assert [(session["id"], session["success"], session["result"]) for session in found] == [
        (1, True, "Looks good."),
        (2, True, "Looks good."),
    ]
    assert found[0]["relevance"] == 1 > found[1]["relevance"]
    assert found[0]["task"] == "Review the retry loop of the client, api_key=[masked]"
    assert run("memory", "show", "2").stdout.startswith("Review the retry loop of the server")
    assert run("memory", "search", "retry loop", "--failure").stdout == ""
    assert run("memory", "stats").stdout == "reviewer\t2\t2\n"
    exported = [json.loads(line) for line in run("memory", "export").stdout.splitlines()]
    assert [session["id"] for session in exported] == [1, 2]
    for age in ("1d", "99999999999w"):
        assert run("memory", "prune", "--older-than", age, "--yes").stdout == "0 removed\n"
    assert run("memory", "forget", "1").stdout == "1 removed\n"
    gone = run("memory", "show", "1", "--json")
    assert (gone.returncode, "there is no session 1" in json.loads(gone.stdout)["error"]["message"]) == (2, True)
    partly = run("memory", "forget", "1", "2")
    assert (partly.returncode, partly.stdout) == (2, "1 removed\n")
    assert (project / ".claude/agent_memory.db").is_file()


def test_mistakes(run: Run, project: Path) -> None:
    """They are named, with what to do; nothing is removed unasked."""
    assert "nobody can be asked" in run("memory", "prune", "--older-than", "1d").stderr
    assert "'soon' is no age" in run("memory", "prune", "--older-than", "soon", "--yes").stderr
    (project / ".claude/agent_memory.db").write_bytes(b"none of ours" * 1000)
    broken = run("memory", "stats")
    assert (broken.returncode, "cannot be used" in broken.stderr) == (1, True)
