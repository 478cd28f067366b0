"""Collections: what is wrong with their files, by kind."""

import pickle
from pathlib import Path
from typing import get_args

from hypothesis import given
from hypothesis import strategies as st

from claude_force.library.collection import AGENTS, Examined, Report, examine, kinds, worst_first
from claude_force.library.remarks import ErrorKind, Remark, WarningKind


def looked_at(data: bytes, name: str = "scout.md") -> Examined:
    """A file with these bytes."""
    path = Path("drafts", name)
    return Examined(path, data, AGENTS.read(data, path))


# ------------------------------------------------------------ laws

LINES = st.sampled_from(
    [
        *(
            "name: scout",
            "name: ../x",
            "name: 12",
            "Name: x",
            '"name": x',
            "name:",
            "description: a: b",
            "# remark",
            "",
        ),
        *("description:", "description: |", "description: 'a", "  more: text", "\tmore", "user: x: y", "model: opus"),
        *(
            "model: haiku # c",
            "allowed-tools: Read Grep",
            "allowedTools: [a]",
            "tools: *",
            "- item",
            "skills:",
            "  - a",
        ),
        *("{a: b}", "[x]", "&a b", "x: &a b", "effort: hihg", "é: ü\x85", "key: \u2028 x: y", "k: \x01", "? a"),
        *("<<: x", "\ufeff", "..."),
    ]
)
FRONTS = st.lists(LINES, max_size=8).map("\n".join).map(str.encode)
BYTES = st.one_of(
    st.binary(max_size=200),
    st.builds(lambda front, body: b"---\n" + front + b"\n---\n" + body, FRONTS, st.binary(max_size=40)),
    st.builds(lambda front: b"---\r\n" + front.replace(b"\n", b"\r\n") + b"\r\n---\r\nB\xe9 ahead.\r\n", FRONTS),
)
NAMES = st.sampled_from(
    ["scout.md", "SqlReviewer.md", "a\nb.md", "\x1b[31m.md", "\udcff.md", "..md", "评审.md", "README.md"]
)


@given(BYTES, NAMES)
def test_no_file_crashes_a_collection(data: bytes, name: str) -> None:
    """Every outcome can be counted and sorted."""
    file = looked_at(data, name)
    report = Report()
    report.add(file.path, file.outcome)
    assert report.usable + report.unusable + report.documentation == 1
    assert {problem.kind for problem in report.problems} <= {*get_args(ErrorKind), *get_args(WarningKind)}
    assert worst_first(report.problems) == report.problems
    assert sum(count.files for count in kinds(report.problems)) == len({p.kind for p in report.problems})


def test_a_warning_keeps_its_kind_when_it_is_sent_to_another_process() -> None:
    """A remark is its sentence, and pickles with its kind."""
    remark = pickle.loads(pickle.dumps(Remark("there is no 'name'", "no-name")))  # noqa: S301 - our own
    assert (remark, remark.kind) == ("there is no 'name'", "no-name")


# ------------------------------------------------------------ any tree


def write(path: Path, text: str = "---\nname: scout\ndescription: Looks ahead.\n---\nYou look ahead.") -> Path:
    """A file with this text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_a_collection_is_found_wherever_it_lies(tmp_path: Path) -> None:
    """Below `.claude` too, but not among commands and skills; a file is read once, whatever names lead to it."""
    a = write(tmp_path / "repo/.claude/agents/a.md", "---\nname: a\ndescription: d\n---\nB.")
    b = write(tmp_path / "plugins/x/agents/b.md", "---\nname: b\ndescription: d\n---\nB.")
    readme = write(tmp_path / "README.md", "# Agents")
    for path in (".git/x.md", "node_modules/x.md", ".claude/commands/x.md", "plugins/x/skills/y/x.md", "z/x.md"):
        write(tmp_path / path)
    write(tmp_path / "z/SKILL.md")
    (tmp_path / "again").symlink_to(tmp_path / "plugins")
    linked = tmp_path / "again/x/agents/b.md"
    assert {readme, linked, a} == {file.path for file in examine([tmp_path], AGENTS)}
    assert [b, a] == [file.path for file in examine([b, a, tmp_path / "plugins"], AGENTS)]


def test_a_report_tells_kinds_and_the_worst_files(tmp_path: Path) -> None:
    """Errors come first, then the most common kinds; of two files of one name, the second is told of the first."""
    write(tmp_path / "a.md")
    write(tmp_path / "b.md")
    write(tmp_path / "c.md", "---\ndescription: No name: here\neffort: hihg\n---\nYou look.")
    write(tmp_path / "d.md", "")
    write(tmp_path / "e.md", "---\nmodel: opus\n---\nYou look.")
    report = Report()
    for file in examine([tmp_path], AGENTS):
        report.add(file.path, file.outcome)
    assert (report.usable, report.unusable, sorted(report.names)) == (4, 1, ["c", "e", "scout"])
    counts = [(count.kind, count.files) for count in kinds(report.problems)]
    assert counts[:3] == [("empty", 1), ("no-name", 2), ("duplicate-name", 1)]
    assert [problem.path.name for problem in worst_first(report.problems)][:4] == ["d.md", "c.md", "c.md", "c.md"]
