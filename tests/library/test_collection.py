"""Collections: what is wrong with their files, and how far those can be put in order without a person."""

import pickle
from pathlib import Path
from typing import get_args

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from claude_force.base.briefing import Skill
from claude_force.base.records import AgentDefinition
from claude_force.library.collection import (
    AGENTS,
    SKILLS,
    Examined,
    Problem,
    Report,
    examine,
    kinds,
    problems_of,
    worst_first,
)
from claude_force.library.importing import imported
from claude_force.library.remarks import ErrorKind, Remark, WarningKind
from claude_force.library.repair import Repaired, convert, repair

BODY = b"You look ahead.\r\n\n---\n\tAnd back: \xc3\xa9.\r\nNo newline at the end"


def looked_at(data: bytes, name: str = "scout.md") -> Examined:
    """A file with these bytes."""
    path = Path("drafts", name)
    return Examined(path, data, AGENTS.read(data, path))


def repaired(data: bytes, name: str = "scout.md") -> Repaired:
    """The file, which can be repaired."""
    result = repair(looked_at(data, name), AGENTS)
    assert isinstance(result, Repaired), result
    return result


# ------------------------------------------------------------ a front matter repaired


@pytest.mark.parametrize(
    ("front", "expected", "fixed"),
    [
        pytest.param("name: a\ndescription: b: c", 'name: a\ndescription: "b: c"', ["needs-quotes"], id="quotes"),
        pytest.param(
            "description: d\nname: a\nskills: @b", 'description: d\nname: a\nskills: "@b"', ["needs-quotes"], id="sign"
        ),
        pytest.param(
            "name: a\ndescription: See: this.\nuser: go: now\nmodel: opus",
            'name: a\ndescription: "See: this.\\nuser: go: now"\nmodel: opus',
            ["not-indented"],
            id="lines",
        ),
        pytest.param("name: a\ndescription: d\nx:\n\t- y", "name: a\ndescription: d\nx:\n  - y", ["tabs"], id="tabs"),
        pytest.param("description: d # c\nx: y", "name: scout\ndescription: d # c\nx: y", ["no-name"], id="name"),
        pytest.param("name: ../x\ndescription: d", "name: scout\ndescription: d", ["bad-name"], id="path"),
        pytest.param("name: a\nx: y", "name: a\ndescription: You look ahead.\nx: y", ["no-description"], id="text"),
        pytest.param("name: a\ndescription:", "name: a\ndescription: You look ahead.", ["no-description"], id="empty"),
        pytest.param(
            "name: a\ndescription: d\nallowed-tools: Read Bash(git add:*)",
            'name: a\ndescription: d\ntools: "Read, Bash(git add:*)"',
            ["misspelt-field"],
            id="tools",
        ),
        pytest.param(
            "name: a\ndescription: d\nallowedTools:\n- Read\n- Grep",
            "name: a\ndescription: d\ntools:\n- Read\n- Grep",
            ["misspelt-field"],
            id="tools-list",
        ),
        pytest.param(
            "name: a\ndescription: |\n  Old.\n\n  Text.\nmodel: haiku\ndescription: New.",
            "name: a\nmodel: haiku\ndescription: New.",
            ["duplicate-key"],
            id="twice",
        ),
        pytest.param(
            "model: opus\nmodel: haiku\nallowed-tools: Read\ndescription: No: quotes",
            'name: scout\nmodel: haiku\ntools: Read\ndescription: "No: quotes"',
            ["needs-quotes", "duplicate-key", "misspelt-field", "no-name"],
            id="all-at-once",
        ),
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["lf", "crlf"])
def test_a_repair_touches_what_is_wrong_and_nothing_else(front: str, expected: str, fixed: list[str], end: str) -> None:
    """Lines that are in order, their ends and the body stay byte for byte, and the result validates clean."""

    def file(text: str) -> bytes:
        return b"\xef\xbb\xbf" + f"---\n{text}\n".replace("\n", end).encode() + b"--- \n" + BODY

    result = repaired(file(front))
    assert file(expected) == result.data
    assert fixed == [problem.kind for problem in result.fixed]
    assert {"cut-off"} >= {problem.kind for problem in result.left}  # whether a ' #' belongs there nobody can know


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"---\nname: a\n", "unclosed"),
        (b"---\nname: &a b\n---\nBody.", "bad-yaml"),
        (b"---\nname: a\n---\n \n", "empty"),
        (b"---\nname: a\n---\nBod\0y.", "not-text"),
        (b"\xff\xfe-\0-\0", "not-text"),
        (b"x" * 1_048_577, "too-large"),
        (b"Just text.", "no-front-matter"),
    ],
)
def test_what_cannot_be_repaired_is_said(data: bytes, kind: str) -> None:
    """A file that no machine can mend is a problem of its kind, not a guess."""
    result = repair(looked_at(data), AGENTS)
    assert isinstance(result, Problem)
    assert (result.kind, result.is_error) == (kind, True)


def test_what_only_a_person_can_decide_is_left() -> None:
    """Unknown values, tools and models stay as they are, and are said; so does a file that would have to be moved."""
    data = b"---\nname: a\ndescription: d\neffort: hihg\ntools: search\nmodel: 'No Model'\n---\nBody."
    result = repaired(data)
    assert (result.data, result.fixed) == (data, ())
    assert [problem.kind for problem in result.left] == ["unknown-model", "wrong-value", "unknown-tool"]
    indented = b"  ---\n  name: a\n  description: b: c\n  ---\n  Body.\n"
    assert repaired(indented).data == indented


def test_documentation_is_not_repaired() -> None:
    """A README without a name stays what it is."""
    assert repair(looked_at(b"---\ntitle: x\n---\nText.", "README.md"), AGENTS) is None


# ------------------------------------------------------------ laws

KINDS = {*get_args(ErrorKind), *get_args(WarningKind)}

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
@example(b"---\nallowed-tools: &a b\ndescription: x\n---\nx", "scout.md")
def test_a_repaired_file_says_what_it_said_and_stays_repaired(data: bytes, name: str) -> None:
    """What is written can be used, says what the file said, and a second repair changes nothing."""
    file = looked_at(data, name)
    result = repair(file, AGENTS)
    if not isinstance(result, Repaired):
        return
    after = AGENTS.read(result.data, file.path)
    assert isinstance(after, AgentDefinition)
    if isinstance(file.outcome, AgentDefinition):
        before = file.outcome
        same = msgspec.structs.replace(
            after, name=before.name, tools=before.tools, warnings=before.warnings, extra=before.extra
        )
        assert before == same
        assert (after.tools, after.extra) == (before.tools, before.extra) or "misspelt-field" in {
            p.kind for p in result.fixed
        }
    again = repair(Examined(file.path, result.data, after), AGENTS)
    assert isinstance(again, Repaired)
    assert (again.data, again.fixed) == (result.data, ())


@given(BYTES, NAMES)
def test_no_file_crashes_a_collection(data: bytes, name: str) -> None:
    """Every outcome can be counted and sorted, and a conversion makes an agent or says why not."""
    file = looked_at(data, name)
    report = Report()
    report.add(file.path, file.outcome)
    assert report.usable + report.unusable + report.documentation == 1
    assert {problem.kind for problem in report.problems} <= KINDS
    assert worst_first(report.problems) == report.problems
    assert sum(count.files for count in kinds(report.problems)) == len({p.kind for p in report.problems})
    result = convert(file, AGENTS)
    if isinstance(result, Repaired):
        assert isinstance(AGENTS.read(result.data, file.path), AgentDefinition)
        left = {problem.kind for problem in result.left}
        assert "no-front-matter" not in left
        assert "no-name" not in left or "encoding" in left  # which may have no letters for it
    else:
        assert (result is None) == (file.outcome is None)


@given(BYTES)
def test_a_repaired_skill_says_what_it_said_and_stays_repaired(data: bytes) -> None:
    """As for agents; a skill's name is its folder's, so that stays, too."""
    path = Path("pdf", "SKILL.md")
    file = Examined(path, data, SKILLS.read(data, path))
    assert {problem.kind for problem in problems_of(path, file.outcome)} <= KINDS
    result = repair(file, SKILLS)
    if isinstance(result, Repaired):
        after = SKILLS.read(result.data, path)
        assert isinstance(file.outcome, Skill)
        assert isinstance(after, Skill)
        assert file.outcome == msgspec.structs.replace(after, warnings=file.outcome.warnings)
        again = repair(Examined(path, result.data, after), SKILLS)
        assert isinstance(again, Repaired)
        assert (again.data, again.fixed) == (result.data, ())


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


# ------------------------------------------------------------ other layouts


@pytest.mark.parametrize(
    ("file", "text", "name", "description"),
    [
        ("SQL Reviewer.md", "# About\n\nReviews SQL: all of it. And more.", "sql-reviewer", "Reviews SQL: all of it."),
        ("sub/ApiDesigner.md", "You design APIs", "api-designer", "You design APIs"),
        ("评.md", "# Code Judge\n\nYes", "code-judge", "Yes"),
        ("评.md", "Yes.", "评", "Yes."),
        ("no.md", "no", "no", "no"),
        ("a;b.md", "Body.", "a-b", "Body."),
    ],
)
def test_a_plain_file_becomes_an_agent(tmp_path: Path, file: str, text: str, name: str, description: str) -> None:
    """Name and description are made of the file, and the file itself follows byte for byte."""
    write(tmp_path / file, text)
    (result,) = imported(tmp_path, "plain")
    assert isinstance(result, Repaired)
    agent = AGENTS.read(result.data, Path("any.md"))
    assert isinstance(agent, AgentDefinition)
    assert (agent.name, agent.description, agent.tools, agent.model) == (name, description, None, None)
    assert result.data.endswith(b"---\n\n" + text.encode())
    assert all(problem.kind == "unusual-name" for problem in result.left)


def test_a_file_that_is_named_twice_is_looked_at_once(tmp_path: Path) -> None:
    """By its path, by that of its folder, and by a link; what is no Markdown is told of."""
    path, text, link = tmp_path / "agents/a.md", tmp_path / "agents/a.txt", tmp_path / "b.md"
    write(path, "Does A.")
    write(text, "Does A.")
    link.symlink_to(path)
    files = list(examine([link, path, path.parent, text, path], AGENTS))
    assert [file.path for file in files] == [link, text]


def test_a_project_of_claude_force_2_becomes_agents(tmp_path: Path) -> None:
    """The config's name counts, domains become keywords, the contract follows the text, and paths stay inside."""
    base = tmp_path / ".claude"
    agents = {
        "python-expert": {
            "file": "agents/python-expert.md",
            "contract": "contracts/python-expert.contract",
            "domains": ["python", "cli"],
            "priority": 2,
        },
        "renamed": {"file": "agents/other.md", "contract": "contracts/gone.contract"},
        "thief": {"file": "../secret.md"},
        "spy": {"file": "agents/spy.md", "contract": "../secret.txt"},
        "bad;name": {"file": "agents/bad.md"},
        "gone": {"file": "agents/gone.md"},
        "odd": ["agents/odd.md"],
        "cut": {"file": "agents/cut\0.md"},
        "far": {"file": "agents/far.md", "contract": "c" * 300},
    }
    write(base / "claude.json", msgspec.json.encode({"version": "2.2.0", "agents": agents}).decode())
    write(base / "agents/python-expert.md", "# Python Expert Agent\n\n## Role\nWrites Python. Well.\n")
    write(base / "contracts/python-expert.contract", "# Contract\n\n**FULL**: scripts\n")
    write(tmp_path / "secret.txt", "secret")
    write(tmp_path / "secret.md", "A secret.")
    for name in ("other", "spy", "bad", "far", "unlisted"):
        write(base / f"agents/{name}.md", f"The {name} one.")
    for folder in (tmp_path, base):
        results = list(imported(folder, "claude-force-v2"))
        made = {result.name: result.data.decode() for result in results if isinstance(result, Repaired)}
        problems = [result.path.name for result in results if isinstance(result, Problem)]
        assert made == {
            "python-expert": "---\nname: python-expert\ndescription: Writes Python.\nkeywords: python, cli\n---\n\n"
            "# Python Expert Agent\n\n## Role\nWrites Python. Well.\n\n# Contract\n\n**FULL**: scripts\n",
            "renamed": "---\nname: renamed\ndescription: The other one.\n---\n\nThe other one.",
            "far": "---\nname: far\ndescription: The far one.\n---\n\nThe far one.",
            "unlisted": "---\nname: unlisted\ndescription: The unlisted one.\n---\n\nThe unlisted one.",
        }
        assert problems == ["secret.md", "secret.txt", "bad.md", "gone.md", "claude.json", "claude.json"]
