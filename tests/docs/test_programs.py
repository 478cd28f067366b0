"""The programs of `docs/examples` do what they say, offline: each is run as it stands, in a repository of its own."""

import ast
import asyncio
import inspect
import json
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import anthropic  # noqa: F401 - it takes seconds, which are not a test's
import pytest
import yaml
from starlette.testclient import TestClient

from claude_force.testing import Answer, ApiFault, Refusal, Simulator, simulator

__all__ = ["simulator"]
pytestmark = pytest.mark.usefixtures("simulator")  # who asks Claude gets that

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "docs" / "examples"
FINDINGS = [
    {"file": "a,b.py", "line": 2, "what": "It fails.\n::set-env name=X::y", "severity": "blocker"},
    {"file": "greeting.py", "line": 1, "what": "100% slow.", "severity": "minor"},
]


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with our agents, one file, and a change of it."""
    shutil.copytree(ROOT / ".claude", tmp_path / ".claude", ignore=shutil.ignore_patterns("metrics"))
    monkeypatch.chdir(tmp_path)
    git("init", "-q", "-b", "main")
    for text in ("print('hello')\n", "print('hello, you')\n"):
        (tmp_path / "greeting.py").write_text(text)
        git("add", "greeting.py")
        git("-c", "user.name=me", "-c", "user.email=me@example.com", "commit", "-q", "-m", "Greet")
    return tmp_path


def git(*arguments: str) -> None:
    """Run git here."""
    subprocess.run(["git", *arguments], check=True)


def run(name: str, *arguments: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """The exit code of an example that is started with these arguments."""
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    assert isinstance(ended.value.code, int)
    return ended.value.code


@pytest.mark.usefixtures("repository")
def test_review_pr(simulator: Simulator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Findings are annotations that cannot become commands, a blocker fails the job, and so does an error."""
    simulator.script(ApiFault(401), json.dumps({"findings": FINDINGS}))
    assert run("review_pr.py", "HEAD~1...HEAD", monkeypatch=monkeypatch) == 3
    assert capsys.readouterr().out.startswith("::error::")
    assert run("review_pr.py", "HEAD~1...HEAD", monkeypatch=monkeypatch) == 1
    assert "+print('hello, you')" in simulator.requests[-1].prompt
    assert capsys.readouterr().out.splitlines() == [
        "::error file=a%2Cb.py,line=2::It fails.%0A::set-env name=X::y",
        "::notice file=greeting.py,line=1::100%25 slow.",
    ]
    assert run("review_pr.py", "HEAD...HEAD", monkeypatch=monkeypatch) == 0


def test_review_pr_in_a_workflow() -> None:
    """The workflow of GitHub starts the program, and takes nothing of the change itself."""
    steps = yaml.safe_load((EXAMPLES / "review_pr.yml").read_text(encoding="utf-8"))["jobs"]["review"]["steps"]
    assert [step["run"] for step in steps if "run" in step][-1] == 'python review_pr.py "HEAD...$HEAD_SHA"'
    assert steps[0]["with"]["ref"] == "${{ github.base_ref }}"


def test_audit_docs(repository: Path, simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """A report has what was found, and why a page has no audit; the next night asks only for that one."""
    for name in ("good", "bad", "odd"):
        (repository / "docs" / f"{name}.md").parent.mkdir(exist_ok=True)
        (repository / "docs" / f"{name}.md").write_text(f"# {name}\n")
    simulator.script("Its title says nothing.", "None.", Answer("", refusal=Refusal("cyber")))
    assert run("audit_docs.py", "docs", "audit.md", monkeypatch=monkeypatch) == 6
    report = (repository / "audit.md").read_text()
    assert report.startswith("# Audit of 3 pages, 1 of them failed\n\n## docs/bad.md\n\nIts title says nothing.\n")
    assert "good.md" not in report
    assert "## docs/odd.md: not audited\n\n" in report

    simulator.script("None.")
    assert run("audit_docs.py", "docs", "audit.md", monkeypatch=monkeypatch) == 0
    assert (repository / "audit.md").read_text() == "# Audit of 3 pages, 0 of them failed\n" + report[
        report.index("\n\n## docs/bad.md") + 1 : report.index("\n## docs/odd.md")
    ]


def test_fan_out(repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Every file that git knows has a line, also one that is no text, and only what has changed is asked again."""
    (repository / "broken.py").write_bytes(b"\0")
    (repository / "unknown to git.py").write_text("x = 1\n")
    git("add", "broken.py")
    assert run("fan_out.py", "What is it?", monkeypatch=monkeypatch) == 2
    printed = capsys.readouterr()
    lines = {line["file"]: line for line in map(json.loads, printed.out.splitlines())}
    assert sorted(lines) == ["broken.py", "greeting.py"]
    assert "answer" in lines["greeting.py"]
    assert "broken.py" in lines["broken.py"]["error"]
    assert printed.err.splitlines()[-1] == "1 of 2 files were asked"

    (repository / "broken.py").write_text("y = 1\n")
    assert run("fan_out.py", "What is it?", monkeypatch=monkeypatch) == 0
    assert capsys.readouterr().err.splitlines()[-1] == "1 of 2 files were asked"


@pytest.mark.usefixtures("repository")
def test_service(simulator: Simulator) -> None:
    """A review comes as the schema says; who asks hears of a fault of theirs, and else when to come back."""
    app = runpy.run_path(str(EXAMPLES / "service.py"))["app"]
    review = {"reasons": ["It greets."], "verdict": "merge"}
    simulator.script(json.dumps(review), Answer("", refusal=Refusal("cyber")), ApiFault(401))
    with TestClient(app) as client:
        assert client.post("/reviews", json={"diff": "+ x = 1"}).json() == review
        assert client.post("/reviews", json={"diff": ""}).status_code == 422
        assert client.post("/reviews", json={"diff": "+ x = 2"}).status_code == 422
        later = client.post("/reviews", json={"diff": "+ x = 3"})
    assert (later.status_code, later.json(), later.headers["Retry-After"]) == (503, {"detail": "no review now"}, "30")


@pytest.mark.usefixtures("repository")
def test_notebook(capsys: pytest.CaptureFixture[str]) -> None:
    """Its cells run from the first to the last, within a running event loop, as Jupyter runs them."""
    document = json.loads((EXAMPLES / "notebook.ipynb").read_text(encoding="utf-8"))
    cells = ["".join(cell["source"]) for cell in document["cells"] if cell["cell_type"] == "code"]
    assert all(cell.get("outputs", []) == [] for cell in document["cells"])
    shown = asyncio.run(run_cells(cells))
    assert capsys.readouterr().out.startswith("[simulated answer")
    assert shown[1][3] is False
    assert shown[2] == {"test-writer": False, "python-expert": True, "code-reviewer": False}
    assert shown[3].startswith("paid $0.")


async def run_cells(cells: list[str]) -> list[Any]:
    """What each cell shows: the value of its last line, where that is an expression."""
    namespace: dict[str, Any] = {}
    return [await run_cell(cell, namespace) for cell in cells]


async def run_cell(cell: str, namespace: dict[str, Any]) -> Any:
    """Run one cell; `await` is allowed at its top."""
    tree = ast.parse(cell)
    if isinstance(tree.body[-1], ast.Expr):
        name = ast.Name("shown", ast.Store(), lineno=0, col_offset=0)
        tree.body[-1] = ast.Assign([name], tree.body[-1].value, lineno=0, col_offset=0)
    namespace["shown"] = None
    code = compile(tree, "cell", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    done = eval(code, namespace)  # noqa: S307 - it is our notebook
    if inspect.isawaitable(done):
        await done
    return namespace["shown"]
