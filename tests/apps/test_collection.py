"""Collections from the shell: validated, repaired into a copy, imported."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

AGENT = "---\nname: scout\ndescription: Looks ahead.\n---\nYou look ahead.\n"
BROKEN = "---\ndescription: See: this\nallowed-tools: Read Grep\n---\nYou look ahead.\n"


def write(path: Path, text: str = AGENT) -> Path:
    """A file with this text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def agents(*args: str, cwd: Path, code: int) -> subprocess.CompletedProcess[str]:
    """`claude-force agents ...`, which ends with this code and never with a traceback."""
    done = subprocess.run(
        ["claude-force", "agents", *args], cwd=cwd, capture_output=True, text=True, timeout=120, check=False
    )
    assert "Traceback" not in done.stderr
    assert code == done.returncode, done.stderr
    return done


def as_json(*args: str, cwd: Path, code: int) -> Any:
    """The same, with `--json`."""
    return json.loads(agents(*args, "--json", cwd=cwd, code=code).stdout)


def files(folder: Path) -> dict[str, bytes]:
    """What lies in a folder, hidden files included."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# ---------------------------------------------------------------- validate


def test_no_tree_is_too_odd_to_be_validated(tmp_path: Path) -> None:
    """Pipes, rings of links, huge, empty, binary and hostile files are each one problem; no name moves the cursor."""
    tree = tmp_path / "tree"
    write(tree / "scout.md")
    write(tree / "README.md", "# Agents")
    os.mkfifo(tree / "pipe.md")
    (tree / "ring").symlink_to(tree)
    (tree / "self.md").symlink_to(tree / "self.md")
    (tree / "out.md").symlink_to(write(tmp_path / "secret.md"))
    write(tree / "empty.md", "")
    with write(tree / "huge.md").open("r+b") as file:
        file.truncate(50 * 1024 * 1024)
    (tree / "utf16.md").write_bytes(AGENT.encode("utf-16"))
    (tree / "nul.md").write_bytes(b"---\nname: a\n---\nBody\0")
    (tree / "latin.md").write_bytes("---\nname: latin\ndescription: Prüft.\n---\nÄ.".encode("latin-1"))
    write(tree / "deep.md", f"---\nname: deep\nx: {'[' * 5000}\n---\nBody.")
    write(tree / "bomb.md", "---\nname: bomb\na: &a [x, x]\nb: &b [*a, *a]\n---\nBody.")
    write(tree / "a\nb\x1b[2J.md", "---\nmodel: opus\n---\nBody.")
    Path(os.fsdecode(bytes(tree) + b"/\xff\xfe.md")).write_text("---\nmodel: opus\n---\nBody.")
    done = agents("validate", "tree", cwd=tmp_path, code=1)
    assert "\x1b[2J" not in done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "2 usable, 11 not, 1 warnings, 1 documentation"
    assert done.stdout.split("\t")[:3] == ["error", "unreadable", "3"]
    assert len(done.stderr.splitlines()) == 12
    report = as_json("validate", "tree", cwd=tmp_path, code=1)
    counts = {count["kind"]: count["files"] for count in report["kinds"]}
    assert counts == {
        "unreadable": 3, "bad-name": 2, "bad-yaml": 2, "not-text": 2, "empty": 1, "too-large": 1, "encoding": 1
    }  # fmt: skip


def test_strict_makes_warnings_count(tmp_path: Path) -> None:
    """Warnings alone are fine, unless `--strict` is given; several folders and files may be given at once."""
    write(tmp_path / "a/broken.md", BROKEN)
    b = write(tmp_path / "b.md")
    assert agents("validate", "a", str(b), cwd=tmp_path, code=0).stdout == (
        "warning\tmisspelt-field\t1\ta/broken.md\nwarning\tneeds-quotes\t1\ta/broken.md\n"
        "warning\tno-name\t1\ta/broken.md\n2 usable, 0 not, 3 warnings\n"
    )
    agents("validate", "a", "--strict", cwd=tmp_path, code=1)
    agents("validate", "b.md", "--strict", cwd=tmp_path, code=0)


# ---------------------------------------------------------------- validate --fix


def test_a_repaired_copy_validates_clean(tmp_path: Path) -> None:
    """Every usable agent is in it, what was done is said, the source is as it was, and a copy of it is equal."""
    tree = tmp_path / "tree"
    write(tree / "sub/broken.md", BROKEN)
    write(tree / "scout.md")
    write(tree / "plain.md", "Just text.")
    write(tree / "README.md", "# Agents")
    before = files(tree)
    report = as_json("validate", "tree", "--fix", "--output", "copy", cwd=tmp_path, code=1)
    assert (report["unchanged"], [problem["kind"] for problem in report["left_out"]]) == (1, ["no-front-matter"])
    (repaired,) = report["repaired"]
    assert [problem["kind"] for problem in repaired["fixed"]] == ["needs-quotes", "misspelt-field", "no-name"]
    assert files(tree) == before
    assert files(tmp_path / "copy") == {
        "scout.md": AGENT.encode(),
        "sub/broken.md": b'---\nname: broken\ndescription: "See: this"\ntools: Read, Grep\n---\nYou look ahead.\n',
    }
    agents("validate", "copy", "--strict", cwd=tmp_path, code=0)
    done = agents("validate", "copy", "--fix", "--output", "again", "--strict", cwd=tmp_path, code=0)
    assert done.stdout == "again: 0 repaired, 2 as they were, 0 left out\n"
    assert files(tmp_path / "again") == files(tmp_path / "copy")


def test_a_copy_never_replaces_anything(tmp_path: Path) -> None:
    """A folder that holds something, a file, or a place inside the source is refused before anything is written."""
    write(tmp_path / "tree/broken.md", BROKEN)
    write(tmp_path / "full/x")
    before = files(tmp_path)
    for output, words in (("full", "not empty"), ("full/x", "not empty"), ("tree/copy", "inside"), ("tree", "inside")):
        assert words in agents("validate", "tree", "--fix", "--output", output, cwd=tmp_path, code=2).stderr
    agents("validate", "tree", "--fix", cwd=tmp_path, code=2)
    agents("validate", "--fix", "--output", "copy", cwd=tmp_path, code=2)
    assert files(tmp_path) == before


def test_a_full_disk_leaves_no_half_file(tmp_path: Path) -> None:
    """Where the disk refuses, the command says so, and every file that is there is whole."""
    write(tmp_path / "tree/a.md")
    write(tmp_path / "tree/b.md", AGENT + "x" * 5_000)
    limited = f"ulimit -f 1; exec {sys.executable} -m claude_force agents validate tree --fix --output copy"
    unmeasured = {
        name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")
    }  # it writes, too
    done = subprocess.run(
        ["bash", "-c", limited], cwd=tmp_path, env=unmeasured, capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert "cannot write to 'copy'" in done.stderr
    assert files(tmp_path / "copy") == {"a.md": AGENT.encode()}


def test_skills_are_a_collection_as_well(tmp_path: Path) -> None:
    """Kinds, `--strict` and `--fix` hold for skills, whose name is that of their folder."""
    write(tmp_path / "tree/.claude/skills/pdf/SKILL.md", "---\nname: PDF\ndescription: Read: PDFs\n---\nOpen it.\n")
    write(tmp_path / "tree/csv/SKILL.md", "---\nname: csv\ndescription: Reads CSV.\n---\nOpen it.\n")
    write(tmp_path / "tree/csv/scripts/notes.md", "Not a skill.")
    write(tmp_path / "tree/empty/SKILL.md", "")

    def skills(*args: str) -> subprocess.CompletedProcess[str]:
        command = ["claude-force", "skills", "validate", *args]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)

    done = skills("tree")
    assert done.returncode == 1
    assert done.stdout == (
        "error\tempty\t1\ttree/empty/SKILL.md\nwarning\tneeds-quotes\t1\ttree/.claude/skills/pdf/SKILL.md\n"
        "warning\tother-name\t1\ttree/.claude/skills/pdf/SKILL.md\n2 usable, 1 not, 2 warnings\n"
    )
    assert skills("tree", "--fix", "--output", "copy").returncode == 1
    assert files(tmp_path / "copy") == {
        ".claude/skills/pdf/SKILL.md": b'---\nname: pdf\ndescription: "Read: PDFs"\n---\nOpen it.\n',
        "csv/SKILL.md": b"---\nname: csv\ndescription: Reads CSV.\n---\nOpen it.\n",
    }
    assert (skills("copy", "--strict").returncode, skills("tree/csv/SKILL.md").returncode) == (0, 0)


# ---------------------------------------------------------------- import


def test_import_makes_agents_of_texts(tmp_path: Path) -> None:
    """Texts become agents that validate clean and can be called; a second import finds them done."""
    write(tmp_path / "texts/SQL Reviewer.md", "Reviews SQL. All of it.\n")
    write(tmp_path / "texts/scout.md")
    planned = agents("import", "texts", "--dry-run", cwd=tmp_path, code=0)
    assert planned.stdout.endswith("\n0 written, 0 conflicts, 0 left out\n")
    assert not (tmp_path / ".claude").exists()
    for written in (2, 0):
        done = agents("import", "texts", cwd=tmp_path, code=0)
        assert done.stdout == (
            "sql-reviewer\ttexts/SQL Reviewer.md\t.claude/agents/sql-reviewer.md\n"
            f"scout\ttexts/scout.md\t.claude/agents/scout.md\n{written} written, 0 conflicts, 0 left out\n"
        )
    agents("validate", ".claude/agents", "--strict", cwd=tmp_path, code=0)
    assert agents("show", "sql-reviewer", cwd=tmp_path, code=0).stdout.startswith("name: sql-reviewer\n")
    mine = write(tmp_path / "mine", "precious")
    (tmp_path / ".claude/agents/scout.md").unlink()
    (tmp_path / ".claude/agents/scout.md").symlink_to(mine)  # as a cloned repository may have it
    refused = agents("import", "texts", "--force", cwd=tmp_path, code=1)
    assert "'.claude/agents/scout.md' is a link; remove it" in refused.stdout + refused.stderr
    assert mine.read_text() == "precious"


@pytest.mark.parametrize(
    ("there", "words", "forced"),
    [
        ({"agents/a.md": "Mine."}, "is there already; --force replaces it", True),
        ({"agents/x/other.md": "---\nname: a\n---\nMine."}, "defines 'a' already", False),
        ({"texts/sub/A.md": "Another."}, "makes 'a' as well", False),
    ],
    ids=["file", "name", "twice"],
)
def test_import_writes_all_or_nothing(tmp_path: Path, there: dict[str, str], words: str, *, forced: bool) -> None:
    """What is in the way is listed and nothing is written; `--force` replaces a file, and nothing else."""
    write(tmp_path / "texts/a.md", "Does A.\n")
    write(tmp_path / "texts/b.md", "Does B.\n")
    for name, text in there.items():
        write(tmp_path / name, text)
    before = files(tmp_path)
    done = agents("import", "texts", "--to", "agents", cwd=tmp_path, code=1)
    assert words in done.stderr
    assert files(tmp_path) == before
    agents("import", "texts", "--to", "agents", "--force", cwd=tmp_path, code=0 if forced else 1)
    assert (files(tmp_path) == before) is not forced


def test_import_needs_the_config_of_claude_force_2(tmp_path: Path) -> None:
    """Without a `claude.json` that can be read, nothing is guessed."""
    write(tmp_path / "agents/a.md", "Does A.")
    done = agents("import", ".", "--from", "claude-force-v2", cwd=tmp_path, code=2)
    assert "no config file at 'claude.json'" in done.stderr
    write(tmp_path / "claude.json", '{"agents": ["a.md"]}')
    done = agents("import", ".", "--from", "claude-force-v2", cwd=tmp_path, code=2)
    assert done.stderr == "error: 'agents' of 'claude.json' is no object; write a name and a file for each\n"
