"""The agent library: which file is which agent, which one wins, and what is refused."""

import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_force.base.config import project_folders
from claude_force.base.errors import AgentFileError, AgentNameError, AgentNotFoundError, ClaudeForceError
from claude_force.base.records import AgentDefinition
from claude_force.library.agents import AgentLibrary, ConfiguredAgent, agent_folders, check_agent_name
from claude_force.library.briefing import BriefedAgents
from claude_force.library.context import Context
from claude_force.library.disk import MAX_FILES, MAX_FOLDERS, Folder
from claude_force.library.skills import SkillLibrary

OLD = 1_000_000_000  # a time at which a file has long been settled


def write(path: Path, front: str = "name: scout\ndescription: Looks ahead.", body: str = "You look ahead.") -> Path:
    """An agent file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"---\n{front}\n---\n{body}\n", encoding="utf-8")
    return path


def tree(folder: Path) -> AgentLibrary:
    """A library of one project folder."""
    return AgentLibrary([Folder(path=folder, source="project", root=folder)])


def configured(
    name: str, path: Path, *, root: Path | None = None, keywords: tuple[str, ...] = ()
) -> dict[str, ConfiguredAgent]:
    """What a config with one agent names."""
    return {name: ConfiguredAgent(path=path, root=root, keywords=keywords)}


def only(folder: Path) -> AgentDefinition:
    """The one agent that the folder holds."""
    (agent,) = tree(folder).load_all()
    return agent


def warned(agent: AgentDefinition, words: str) -> bool:
    """Whether a warning holds these words."""
    return any(words in warning for warning in agent.warnings)


# ------------------------------------------------------------ what a file says


def test_reads_every_documented_field(tmp_path: Path) -> None:
    """A file with all fields of Claude Code becomes a definition with all of them, and no warning."""
    front = """\
name: code-reviewer
description: Reviews code.
tools: Read, Grep, Agent(scout, builder), mcp__git__*
disallowedTools: [Bash, Write]
model: opus[1m]
permissionMode: acceptEdits
maxTurns: 12
skills:
  - review
  - style
mcpServers: [github]
hooks: {Stop: []}
memory: project
background: true
effort: high
isolation: worktree
color: teal
initialPrompt: Begin.
keywords: review, diff
category: quality"""
    path = write(tmp_path / "any" / "file.md", front, "\n\n  You review.\n\nAlways.\n\n")
    expected = AgentDefinition(
        name="code-reviewer",
        description="Reviews code.",
        prompt="  You review.\n\nAlways.",
        path=path,
        source="project",
        model="opus[1m]",
        effort="high",
        tools=("Read", "Grep", "Agent(scout, builder)", "mcp__git__*"),
        disallowed_tools=("Bash", "Write"),
        skills=("review", "style"),
        keywords=("review", "diff"),
        permission_mode="acceptEdits",
        max_turns=12,
        memory="project",
        color="teal",
        extra={
            "mcpServers": ["github"],
            "hooks": {"Stop": []},
            "background": True,
            "isolation": "worktree",
            "initialPrompt": "Begin.",
            "category": "quality",
        },
    )
    assert tree(tmp_path).find("code-reviewer") == expected


@pytest.mark.parametrize(
    ("line", "field", "value", "warning"),
    [
        pytest.param("tools: []", "tools", (), None, id="no tools"),
        pytest.param("color: red", "tools", None, None, id="tools absent"),
        pytest.param("tools: '*'", "tools", None, None, id="all tools"),
        pytest.param("tools: *", "tools", None, "put it in quotes", id="all tools, without quotes"),
        pytest.param("tools:", "tools", None, "'tools' is empty", id="tools empty"),
        pytest.param(
            "tools: Read, Bash(git log:*, -p)", "tools", ("Read", "Bash(git log:*, -p)"), None, id="parentheses"
        ),
        pytest.param("tools:\n  - Read\n  - Agent(a,b)", "tools", ("Read", "Agent(a,b)"), None, id="tools as list"),
        pytest.param("tools: {Read: true}", "tools", (), "'tools' holds something else", id="tools as mapping"),
        pytest.param("tools: [Read, {Bash: x}]", "tools", ("Read",), "'tools' holds something else", id="tools mixed"),
        pytest.param("tools: 7", "tools", ("7",), "none of Claude's tools: 7", id="tools as number"),
        pytest.param(
            "tools: search, edit/editFiles", "tools", ("search", "edit/editFiles"), "tools: search, edit", id="Copilot"
        ),
        pytest.param("allowed-tools: Read", "tools", None, "'allowed-tools' is no field", id="a skill's field"),
        pytest.param("allowedTools: Read", "tools", None, "did you mean 'tools'", id="a flag's name"),
        pytest.param("model: inherit", "model", None, None, id="inherited model"),
        pytest.param("model: claude-sonnet-4", "model", "claude-sonnet-4", None, id="dead model"),
        pytest.param(
            "model: Claude Sonnet 4.5 (copilot)", "model", "Claude Sonnet 4.5 (copilot)", "no model's id", id="prose"
        ),
        pytest.param("effort: High", "effort", "high", None, id="effort in capitals"),
        pytest.param("effort: huge", "effort", None, "'effort' is 'huge'", id="unknown effort"),
        pytest.param("effort: 3", "effort", None, "'effort' is '3'", id="effort as number"),
        pytest.param("maxTurns: '5'", "max_turns", 5, None, id="turns as text"),
        pytest.param("maxTurns: -1", "max_turns", None, "'maxTurns' is no whole number", id="negative turns"),
        pytest.param("maxTurns: true", "max_turns", None, "'maxTurns' is no whole number", id="turns as truth value"),
        pytest.param("maxTurns: [1]", "max_turns", None, "'maxTurns' is no whole number", id="turns as list"),
        pytest.param(
            "maxTurns: 0x" + "f" * 6000, "max_turns", None, "'maxTurns' is no whole", id="turns beyond Python"
        ),
        pytest.param("permissionMode: godMode", "permission_mode", None, "'permissionMode' is 'godMode'", id="mode"),
        pytest.param("memory: cloud", "memory", None, "use user, project or local", id="unknown memory"),
        pytest.param("color: '#ff0000'", "color", "#ff0000", None, id="colour as hex code"),
        pytest.param("keywords: [a, b c]", "keywords", ("a", "b c"), None, id="keywords as list"),
        pytest.param("skills: a, b, a", "skills", ("a", "b"), None, id="skills as text"),
        pytest.param("background: 'on'", "extra", {"background": True}, None, id="background on"),
        pytest.param("background: no", "extra", {"background": False}, None, id="background no"),
        pytest.param("background: 0", "extra", {"background": False}, None, id="background 0"),
        pytest.param(
            "background: maybe", "extra", {"background": "maybe"}, "neither yes nor no", id="background maybe"
        ),
        pytest.param("vibe: [1, {a: 2}]", "extra", {"vibe": [1, {"a": 2}]}, None, id="unknown key"),
    ],
)
def test_reads_a_field_in_every_shape(tmp_path: Path, line: str, field: str, value: Any, warning: str | None) -> None:
    """Each way in which people write a field has one meaning, and a warning exactly where it had to be guessed."""
    write(tmp_path / "a.md", f"name: scout\ndescription: Looks.\n{line}")
    agent = only(tmp_path)
    assert getattr(agent, field) == value
    assert warned(agent, warning) if warning else agent.warnings == ()


@pytest.mark.parametrize(
    ("front", "description", "warning"),
    [
        pytest.param("description: 42", "42", "'description' is no text and was read as one", id="number"),
        pytest.param("description: [a, 1]", "a, 1", "'description' is no text and was read as one", id="list"),
        pytest.param(
            "description: {a: 1}", "Instructions here.", "'description' is no text and was left", id="mapping"
        ),
        pytest.param(
            "description: yes", "Instructions here.", "'description' is no text and was left", id="truth value"
        ),
        pytest.param("color: red", "Instructions here.", "there is no 'description'", id="absent"),
        pytest.param("description: ''", "Instructions here.", "there is no 'description'", id="empty"),
        pytest.param("description: a: b", "a: b", "put it in quotes", id="repaired"),
        pytest.param("description: " + "x" * 1025, "x" * 1025, "longer than 1,024 characters", id="long"),
        pytest.param("description: |\n  One.\n  Two: 2.", "One.\nTwo: 2.", None, id="block"),
        pytest.param(r"description: One.\nTwo.", r"One.\nTwo.", None, id="literal backslash n"),
    ],
)
def test_finds_a_description(tmp_path: Path, front: str, description: str, warning: str | None) -> None:
    """An agent always has a description; a warning says where it is not the one that Claude Code would see."""
    write(tmp_path / "a.md", f"name: scout\n{front}", "# Head\n\nInstructions\nhere.\n\nMore.")
    agent = only(tmp_path)
    assert agent.description == description
    assert warned(agent, warning) if warning else agent.warnings == ()


@pytest.mark.parametrize(
    ("file", "front", "name", "warning"),
    [
        pytest.param("other.md", "name: scout", "scout", None, id="a name unlike the file's"),
        pytest.param("scout.md", "color: red", "scout", "there is no 'name'", id="no name"),
        pytest.param("a.md", "name: 007", "7", "'name' is no text and was read as one", id="a number"),
        pytest.param("a.md", "name: Code Reviewer", "Code Reviewer", "is unusual", id="spaces and capitals"),
        pytest.param("a.md", "name: v2.scout_x", "v2.scout_x", "is unusual", id="dots and underscores"),
        pytest.param("a.md", "name: sp\u00e4her", "sp\u00e4her", "is unusual", id="other letters"),
        pytest.param("a.md", f"name: {'a' * 65}", "a" * 65, "longer than 64 characters", id="long"),
        pytest.param("a.md", 'name: "s\\x63out"', "scout", None, id="escapes"),
    ],
)
def test_the_name_field_is_the_identity(tmp_path: Path, file: str, front: str, name: str, warning: str | None) -> None:
    """An agent is found by the name in its file, whatever the file is called."""
    write(tmp_path / file, f"description: Looks.\n{front}")
    agent = tree(tmp_path).find(name)
    assert agent.name == name
    assert warned(agent, warning) if warning else agent.warnings == ()


@pytest.mark.parametrize(
    ("text", "description"),
    [
        pytest.param("# Scout\n\nYou look\nahead.\n\nMore.", "You look ahead.", id="heading first"),
        pytest.param("# Scout\nYou look ahead.\n## More", "You look ahead.", id="no blank lines"),
        pytest.param("<!-- by me -->\n\nYou look ahead.", "You look ahead.", id="comment first"),
        pytest.param("# Scout\n## Ahead", "Scout", id="headings only"),
    ],
)
def test_a_file_without_front_matter_is_an_agent(tmp_path: Path, text: str, description: str) -> None:
    """Files of an older generation work under their file's name, whole; a warning says what to add."""
    (tmp_path / "scout.md").write_text(f"\n{text}\n")
    agent = only(tmp_path)
    assert (agent.name, agent.description, agent.prompt) == ("scout", description, text)
    assert warned(agent, "there is no front matter")


@pytest.mark.parametrize(
    ("file", "text"),
    [
        pytest.param("README.md", "# Our agents", id="readme"),
        pytest.param("readme.de.md", "# Unsere Agenten", id="readme in another language"),
        pytest.param("CLAUDE.md", "---\ndescription: Rules.\n---\nRules.", id="rules"),
        pytest.param("README.md", "---\nA rule above, and no end", id="a readme that opens with a rule"),
        pytest.param("README.md", "", id="an empty readme"),
        pytest.param("guide.md", "---\ntitle: Guide\n---\nText.", id="front matter of something else"),
        pytest.param(".hidden.md", "---\nname: a\ndescription: b\n---\nText.", id="hidden"),
        pytest.param("node_modules/a.md", "---\nname: a\ndescription: b\n---\nText.", id="a package's file"),
        pytest.param("notes.txt", "Text.", id="another kind of file"),
    ],
)
def test_documentation_is_no_agent_and_no_problem(tmp_path: Path, file: str, text: str) -> None:
    """Files that lie beside agents are left alone without a word."""
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(text)
    assert (tree(tmp_path).names(), tree(tmp_path).problems()) == ([], [])


def test_a_readme_that_names_itself_is_an_agent(tmp_path: Path) -> None:
    """The name field decides, even over the name of the file."""
    write(tmp_path / "README.md")
    assert only(tmp_path).name == "scout"


# ------------------------------------------------------------ what cannot be used


@pytest.mark.parametrize(
    ("data", "line", "reason"),
    [
        pytest.param(b"", None, "holds no instructions", id="empty"),
        pytest.param(b"---\nname: scout\ndescription: b\n---\n \n\n", None, "holds no instructions", id="no body"),
        pytest.param(b"---\nname: scout\n", 1, "nothing closes", id="never closed"),
        pytest.param(b"---\nname: scout\na: &a x\n---\nText.", 3, "anchor", id="an anchor"),
        pytest.param("---\nname: scout\n".encode("utf-16"), None, "UTF-16", id="UTF-16"),
        pytest.param(b"---\nname: scout\n---\nText\0.", 4, "NUL", id="NUL"),
        pytest.param(b"Text.\n" * 200_000, None, "larger than 1,048,576 bytes", id="a huge file"),
        pytest.param(b"Text.\n" * 40_000, None, "longer than 200,000 characters", id="a huge body"),
    ],
)
def test_an_unusable_file_is_reported_and_never_run(tmp_path: Path, data: bytes, line: int | None, reason: str) -> None:
    """Who asks for the agent hears path, line and reason; who lists them sees the others and one problem."""
    (tmp_path / "scout.md").write_bytes(data)
    write(tmp_path / "other.md", "name: other\ndescription: b")
    library = tree(tmp_path)
    (problem,) = library.problems()
    with pytest.raises(AgentFileError) as caught:
        library.find("scout")
    assert library.names() == ["other"]
    for error in (problem, caught.value):
        assert (error.agent, error.path, error.line) == ("scout", str(tmp_path / "scout.md"), line)
        assert reason in error.reason
        assert error.reason in str(error)
    assert str(pickle.loads(pickle.dumps(problem))) == str(problem)  # noqa: S301 - our own bytes


@pytest.mark.parametrize("name", ["../x", "a:b", "-x", "a;b", "a/b", "x" * 129])
def test_a_file_cannot_give_itself_a_dangerous_name(tmp_path: Path, name: str) -> None:
    """A name that a shell or a path would obey makes the file a problem."""
    write(tmp_path / "a.md", f"name: '{name}'\ndescription: b")
    library = tree(tmp_path)
    assert (library.names(), [problem.path for problem in library.problems()]) == ([], [str(tmp_path / "a.md")])


def test_a_broken_file_is_found_by_the_name_inside(tmp_path: Path) -> None:
    """A fault in the front matter does not turn "your file is broken" into "no such agent"."""
    (tmp_path / "a.md").write_text("---\nname: 'Code Reviewer'\nx: &y z\n---\nText.")
    with pytest.raises(AgentFileError, match="anchor"):
        tree(tmp_path).find("Code Reviewer")


def test_a_broken_file_is_not_replaced_by_a_farther_one(tmp_path: Path) -> None:
    """Who breaks the project's agent is told so, instead of getting the user's agent of the same name."""
    near, far = tmp_path / "near", tmp_path / "far"
    near.mkdir()
    (near / "scout.md").write_text("---\nname: scout\n")
    write(far / "scout.md")
    library = AgentLibrary([Folder(path=path, source="project", root=path) for path in (near, far)])
    with pytest.raises(AgentFileError):
        library.find("scout")
    assert library.names() == []


# ------------------------------------------------------------ names that users type


@pytest.mark.parametrize(
    "name",
    ["../../etc/passwd", "/etc/passwd", "a\\b", "plugin:agent", "-rf", "", "  ", "a\nb", "a\x1b[2J", "a\0", "a\u202eb",
     "a;b", "a|b", "a&b", "$(a)", "`a`", "a>b", "a<b", "a*", "a?", "'a'", '"a"', "a..b", "x" * 129],
)  # fmt: skip
def test_refuses_names_before_any_file_is_touched(name: str) -> None:
    """A path, an option or a line of shell is no name, and nothing is opened to find that out."""
    untouchable: Any = [None]  # to look into this folder would be an AttributeError
    with pytest.raises(AgentNameError, match=r"is no agent name: .*; use lower-case letters") as caught:
        AgentLibrary(untouchable).find(name)
    assert caught.value.agent == name[:128]
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("name", ["scout", "Code Reviewer", "v2.1", "a_b", "c#", "sp\u00e4her", "x" * 128])
def test_accepts_the_names_that_people_give(name: str) -> None:
    """Spaces, dots, capitals and other letters are used in real files."""
    check_agent_name(name)


def test_an_unknown_agent_comes_with_the_nearest_names(tmp_path: Path) -> None:
    """A typing mistake is answered with what was meant and with the command that lists everything."""
    for name in ("code-reviewer", "code-review", "scout"):
        write(tmp_path / f"{name}.md", f"name: {name}\ndescription: b")
    with pytest.raises(AgentNotFoundError) as caught:
        tree(tmp_path).find("Code-Reviewr")
    assert caught.value.nearest == ("code-reviewer", "code-review")
    assert str(caught.value) == (
        "no agent is named 'Code-Reviewr'; did you mean 'code-reviewer' or 'code-review'? "
        "`claude-force agents list` shows all of them"
    )


def test_an_unknown_agent_among_none(tmp_path: Path) -> None:
    """Where there are none, the way to some is told."""
    with pytest.raises(AgentNotFoundError, match="none here; `claude-force init`"):
        tree(tmp_path).find("x")


# ------------------------------------------------------------ which file wins


def test_the_nearest_folder_wins(tmp_path: Path) -> None:
    """Config before the nearest project folder, before its parents, before the user; all that is hidden is listed."""
    start, home = tmp_path / "repo" / "pkg" / "deep", tmp_path / "home"
    start.mkdir(parents=True)
    (tmp_path / "repo" / ".git").mkdir()
    outside = write(tmp_path / ".claude/agents/outside.md", "name: outside\ndescription: b")
    user = write(home / "agents/scout.md", body="user")
    far = write(tmp_path / "repo/.claude/agents/scout.md", body="far")
    near = write(tmp_path / "repo/pkg/.claude/agents/scout.md", body="near")
    named = write(tmp_path / "repo/elsewhere/scout.md", body="config")
    folders = agent_folders(start, home=home)
    assert [(folder.path, folder.source) for folder in folders] == [
        (near.parent, "project"),
        (far.parent, "project"),
        (user.parent, "user"),
    ]
    library = AgentLibrary(folders)
    assert (library.find("scout").prompt, library.find("scout").source) == ("near", "project")
    assert [(found.used, found.hidden) for found in library.shadowed()] == [(near, far), (near, user)]
    assert str(library.shadowed()[0]) == f"agent 'scout': {str(near)!r} hides {str(far)!r}"
    with_entry = AgentLibrary(folders, entries=configured("scout", named))
    assert (with_entry.find("scout").prompt, with_entry.find("scout").source) == ("config", "config")
    assert [found.hidden for found in with_entry.shadowed()] == [near, far, user]
    assert "outside" not in library.names()
    assert outside.exists()


def test_outside_a_repository_parents_are_not_searched(tmp_path: Path) -> None:
    """Agents that somebody planted in a shared parent, such as `/tmp`, are never picked up."""
    start = tmp_path / "shared" / "work"
    planted = write(tmp_path / "shared/.claude/agents/planted.md", "name: planted\ndescription: b")
    start.mkdir()
    assert agent_folders(start, home=tmp_path / "none") == []
    here = write(start / ".claude/agents/scout.md")
    assert agent_folders(start, home=tmp_path / "none") == [Folder(path=here.parent, source="project", root=start)]
    assert planted.exists()


@pytest.mark.parametrize("repository", [".", "a", "a/b", "a/b/c", None], ids=str)
@pytest.mark.parametrize("start", [".", "a", "a/b", "a/b/c"])
def test_agents_and_config_are_looked_for_in_the_same_folders(
    tmp_path: Path, repository: str | None, start: str
) -> None:
    """Whose config applies, that project's agents apply, and no others."""
    for folder in (".", "a", "a/b", "a/b/c"):
        (tmp_path / folder / ".claude/agents").mkdir(parents=True)
    if repository:
        (tmp_path / repository / ".git").mkdir()
    places = project_folders(tmp_path / start)
    assert agent_folders(tmp_path / start, home=tmp_path / "none") == [
        Folder(path=place / ".claude/agents", source="project", root=places[-1]) for place in places
    ]


@pytest.mark.parametrize("start", [".", "work"])
def test_the_users_folder_is_not_taken_for_a_project(tmp_path: Path, start: str) -> None:
    """Where the home folder is the project, or a repository above it, the user's agents are the user's, once."""
    (tmp_path / ".git").mkdir()
    (tmp_path / "work").mkdir()
    write(tmp_path / ".claude/agents/scout.md")
    (folder,) = agent_folders(tmp_path / start, home=tmp_path / ".claude")
    assert folder.source == "user"


def test_without_any_folder_there_are_no_agents(tmp_path: Path) -> None:
    """A machine on which nobody has written an agent is no error."""
    library = AgentLibrary(agent_folders(tmp_path, home=tmp_path / "none"))
    assert (library.names(), library.load_all(), library.problems(), library.shadowed()) == ([], [], [], [])


def test_inside_a_folder_the_first_path_wins(tmp_path: Path) -> None:
    """Two files with one name: the first in sorted order counts everywhere, and its warning names both."""
    first = write(tmp_path / "a/zz.md", body="first")
    second = write(tmp_path / "scout.md", body="second")
    library = tree(tmp_path)
    for agent in (library.find("scout"), *library.load_all()):
        assert agent.prompt == "first"
        (warning,) = agent.warnings
        assert str(first) in warning
        assert str(second) in warning
    assert [found.hidden for found in library.shadowed()] == [second]


# ------------------------------------------------------------ entries of the config


def test_the_configs_name_is_the_identity(tmp_path: Path) -> None:
    """An entry renames its file's agent, which is then no longer found under its own name."""
    path = write(tmp_path / "scout.md")
    folder = Folder(path=tmp_path, source="project", root=tmp_path)
    library = AgentLibrary([folder], entries=configured("looker", path))
    assert library.names() == ["looker"]
    assert warned(library.find("looker"), "the config calls this agent 'looker', its file 'scout'")
    with pytest.raises(AgentNotFoundError):
        library.find("scout")


@pytest.mark.parametrize(
    ("entry", "file", "text", "reason"),
    [
        pytest.param("scout", "none.md", None, "No such file", id="absent"),
        pytest.param("scout", "a.txt", "Secret.", "does not end in '.md'", id="no agent file"),
        pytest.param("scout", "README.md", "# Head", "neither 'name' nor 'description'", id="documentation"),
        pytest.param("scout", "a.md", "", "holds no instructions", id="empty"),
        pytest.param("a/b", "a.md", "Text.", "looks like a path", id="a wrong name"),
    ],
)
def test_an_entry_without_a_usable_file_is_a_problem(
    tmp_path: Path, entry: str, file: str, text: str | None, reason: str
) -> None:
    """The config is believed in nothing but where to look."""
    if text is not None:
        (tmp_path / file).write_text(text)
    library = AgentLibrary(entries=configured(entry, tmp_path / file))
    (problem,) = library.problems()
    assert problem.agent == entry
    assert reason in problem.reason
    with pytest.raises(AgentNameError if "/" in entry else AgentFileError):
        library.find(entry)


@pytest.mark.parametrize(
    ("file", "target"),
    [
        pytest.param("../outside.md", None, id="a path"),
        pytest.param(".claude/../../outside.md", None, id="a path by a detour"),
        pytest.param("link.md", "../outside.md", id="a link"),
        pytest.param("folder/outside.md", "..", id="a folder that is a link"),
        pytest.param("../repo-too/beside.md", None, id="a folder with a longer name"),
    ],
)
def test_an_entry_that_leads_out_of_its_root_is_refused(tmp_path: Path, file: str, target: str | None) -> None:
    """A repository's config cannot have its users send files of theirs to a model, however it names them."""
    repo = tmp_path / "repo"
    (repo / ".claude").mkdir(parents=True)
    write(tmp_path / "outside.md", "name: scout\ndescription: My plans.", "My plans.")
    write(tmp_path / "repo-too/beside.md")
    if target is not None:
        (repo / file.partition("/")[0]).symlink_to(target)
    path = repo / file
    library = AgentLibrary(entries=configured("scout", path, root=repo))
    (problem,) = library.problems()
    assert (problem.agent, problem.path) == ("scout", str(path))
    assert problem.reason == f"it lies outside {str(repo)!r}; copy the file into it"
    assert library.names() == []
    with pytest.raises(AgentFileError, match="lies outside"):
        library.find("scout")
    assert AgentLibrary(entries=configured("scout", path)).names() == ["scout"]  # as the user's own config may


def test_a_root_may_itself_be_reached_by_a_link(tmp_path: Path) -> None:
    """A project that is used by way of a link has the agents that its config names."""
    write(tmp_path / "repo/agents/scout.md")
    (tmp_path / "link").symlink_to("repo")
    entries = configured("scout", tmp_path / "link/agents/scout.md", root=tmp_path / "link")
    assert AgentLibrary(entries=entries).names() == ["scout"]


def test_a_refused_entry_hides_nobody_elses_agent(tmp_path: Path) -> None:
    """A project whose config points at an agent of the user's does not take it away from the user."""
    theirs = write(tmp_path / "home/agents/scout.md")
    library = AgentLibrary(
        agent_folders(tmp_path / "repo", home=tmp_path / "home"),
        entries=configured("looker", theirs, root=tmp_path / "repo"),
    )
    assert library.find("scout").source == "user"
    with pytest.raises(AgentFileError, match="lies outside"):
        library.find("looker")


@pytest.mark.parametrize(
    ("line", "keywords", "expected"),
    [
        pytest.param("keywords: [a, b]", (), ("a", "b"), id="the file's"),
        pytest.param("color: red", ("c", "d"), ("c", "d"), id="the config's"),
        pytest.param("keywords: [a, b]", ("c", "b", "c", "a"), ("a", "b", "c"), id="both, each once"),
    ],
)
def test_keywords_of_the_config_are_added(
    tmp_path: Path, line: str, keywords: tuple[str, ...], expected: tuple[str, ...]
) -> None:
    """An agent has the keywords of its file first, then those that the config adds."""
    path = write(tmp_path / "scout.md", f"name: scout\ndescription: Looks.\n{line}")
    agent = AgentLibrary(entries=configured("scout", path, keywords=keywords)).find("scout")
    assert agent.keywords == expected
    assert agent.warnings == ()


# ------------------------------------------------------------ links, pipes, sizes


def test_links_inside_the_tree_load_their_target_once(tmp_path: Path) -> None:
    """A linked file or folder is one agent, also where links run in a circle."""
    real = write(tmp_path / "b/real.md")
    (tmp_path / "a.md").symlink_to(real)
    (tmp_path / "circle").symlink_to(tmp_path)
    (tmp_path / "b" / "again").symlink_to(tmp_path / "b")
    library = tree(tmp_path)
    assert [agent.path for agent in library.load_all()] == [tmp_path / "a.md"]
    assert (library.problems(), library.shadowed()) == ([], [])


def test_a_link_out_of_the_repository_is_refused(tmp_path: Path) -> None:
    """A repository cannot have its users send files of theirs to a model."""
    secret = tmp_path / "secret.md"
    secret.write_text("My key.")
    agents = tmp_path / "repo/.claude/agents"
    write(tmp_path / "repo/shared/inside.md", "name: inside\ndescription: b")
    agents.mkdir(parents=True)
    (tmp_path / "repo/.git").mkdir()
    (agents / "secret.md").symlink_to(secret)
    (agents / "folder").symlink_to(tmp_path)
    (agents / "inside.md").symlink_to(tmp_path / "repo/shared/inside.md")
    library = AgentLibrary(agent_folders(agents, home=tmp_path / "none"))
    assert library.names() == ["inside"]
    assert [problem.path for problem in library.problems()] == [str(agents / "folder"), str(agents / "secret.md")]
    with pytest.raises(AgentFileError, match="leads out of"):
        library.find("secret")


def test_a_users_folder_may_itself_be_a_link(tmp_path: Path) -> None:
    """Dotfiles live elsewhere; what is in them still stays in them."""
    write(tmp_path / "dotfiles/agents/scout.md")
    (tmp_path / "home").mkdir()
    (tmp_path / "home/agents").symlink_to(tmp_path / "dotfiles/agents")
    library = AgentLibrary(agent_folders(tmp_path / "nowhere", home=tmp_path / "home"))
    assert (library.names(), library.problems()) == (["scout"], [])


def test_what_is_no_file_is_a_problem(tmp_path: Path) -> None:
    """Pipes and links to nothing are reported at once; nothing waits for them to speak."""
    os.mkfifo(tmp_path / "pipe.md")
    (tmp_path / "nothing.md").symlink_to(tmp_path / "gone.md")
    (tmp_path / "self.md").symlink_to(tmp_path / "self.md")
    (tmp_path / "self").symlink_to(tmp_path / "self")
    write(tmp_path / "scout.md")
    library = tree(tmp_path)
    assert library.names() == ["scout"]
    assert [Path(problem.path).name for problem in library.problems()] == ["nothing.md", "pipe.md", "self.md"]


def test_a_folder_that_cannot_be_read_is_a_problem(tmp_path: Path) -> None:
    """The agents beside a closed folder or file still work."""
    write(tmp_path / "scout.md")
    write(tmp_path / "closed/a.md")
    write(tmp_path / "b.md")
    (tmp_path / "closed").chmod(0)
    (tmp_path / "b.md").chmod(0)
    try:
        if os.access(tmp_path / "b.md", os.R_OK):
            pytest.skip("this user may read everything")
        library = tree(tmp_path)
        assert library.names() == ["scout"]
        assert [problem.path for problem in library.problems()] == [str(tmp_path / "b.md"), str(tmp_path / "closed")]
    finally:
        (tmp_path / "closed").chmod(0o700)


def test_a_tree_without_end_is_cut_and_says_so(tmp_path: Path) -> None:
    """A link to a whole disk costs seconds, not the session, and the rest is reported as left out."""
    many, deep = tmp_path / "many", tmp_path / "deep"
    write(many / "0000.md")
    for i in range(MAX_FILES):
        (many / f"README.{i}.md").touch()
    for i in range(MAX_FOLDERS):
        (deep / f"{i:04}").mkdir(parents=True)
    write(deep / "0000/scout.md")
    for folder in (many, deep):
        library = tree(folder)
        (problem,) = library.problems()
        assert library.names() == ["scout"]
        assert (problem.path, "10,000 agent files or 2,000 folders" in problem.reason) == (str(folder), True)


# ------------------------------------------------------------ again and again


def test_an_edit_is_seen_by_the_next_call(tmp_path: Path) -> None:
    """An agent that was changed, renamed or deleted between two calls is what it is now."""
    path = write(tmp_path / "scout.md", body="one")
    library = tree(tmp_path)
    assert library.find("scout").prompt == "one"
    before = path.stat()
    write(path, body="two")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # of the same size, within one tick of the clock
    assert library.find("scout").prompt == "two"
    os.utime(path, (OLD, OLD))
    assert [library.find("scout").prompt for _ in range(2)] == ["two", "two"]
    write(path, "name: other\ndescription: b", body="six")
    os.utime(path, (OLD + 1, OLD + 1))
    assert library.names() == ["other"]
    path.unlink()
    with pytest.raises(AgentNotFoundError):
        library.find("other")


def test_a_settled_file_is_read_once(tmp_path: Path) -> None:
    """Asking twice gives the same object where nothing changed: no second reading."""
    path = write(tmp_path / "scout.md")
    os.utime(path, (OLD, OLD))
    library = tree(tmp_path)
    assert library.find("scout") is library.find("scout")


def test_an_error_of_a_settled_file_is_raised_anew(tmp_path: Path) -> None:
    """Two callers never share one exception."""
    (tmp_path / "scout.md").write_bytes(b"")
    os.utime(tmp_path / "scout.md", (OLD, OLD))
    library = tree(tmp_path)
    raised = []
    for _ in range(2):
        with pytest.raises(AgentFileError) as caught:
            library.find("scout")
        raised.append(caught.value)
    assert raised[0] is not raised[1]
    assert str(raised[0]) == str(raised[1])


def test_threads_may_share_a_library(tmp_path: Path) -> None:
    """Many threads that ask for different agents at once each get theirs."""
    names = [f"agent-{i}" for i in range(20)]
    for name in names:
        os.utime(write(tmp_path / f"{name}.md", f"name: {name}\ndescription: b", name), (OLD, OLD))
    library = tree(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        prompts = list(pool.map(lambda name: library.find(name).prompt, names * 5))
    assert prompts == names * 5


def test_calls_at_once_look_once(tmp_path: Path) -> None:
    """Whoever comes while one looks takes what it finds: a hundred calls a second apart do not walk a hundred times."""
    os.utime(write(tmp_path / "scout.md"), (OLD, OLD))
    looks: list[Context] = []
    found: list[AgentDefinition] = []

    def read() -> Context:
        looks.append(Context())
        if len(looks) == 1:
            others = [pool.submit(lambda: found.append(agents.find("scout"))) for _ in range(4)]
            wait(others, timeout=0.2)  # who does not wait for us looks meanwhile
        return looks[-1]

    agents = BriefedAgents(tree(tmp_path), SkillLibrary([]), read)
    with ThreadPoolExecutor(4) as pool:
        first = agents.find("scout")
    assert [other is first for other in found] == [True] * 4
    assert len(looks) == 1


NAMES = st.sampled_from(["scout", "Scout", "name", "true", "7", "x y"])
LINES = st.sampled_from(
    ["name: {}", "name: '{}'", "name: [{}]", 'name: "{}"', 'name: "sc\\x6fut"', 'name: "sc\\\n  out"', "name: 0x7",
     "name: yes", "name: .nan", "name: a: {}", "Name: {}", "description: {}", "\tname: {}", "name:\n  {}", "x: &a {}"]
)  # fmt: skip


@given(
    files=st.dictionaries(
        st.sampled_from(["scout.md", "a.md", "b/scout.md", "README.md", "x y.md"]),
        st.tuples(st.lists(LINES, max_size=3), NAMES, st.booleans()),
        max_size=4,
    ),
    names=st.lists(NAMES, min_size=1, max_size=3),
)
def test_find_agrees_with_the_whole_list(
    files: dict[str, tuple[list[str], str, bool]], names: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Looking for one agent takes short cuts, and still gives what reading every file would give."""
    folder = tmp_path_factory.mktemp("agents")
    for file, (lines, name, has_body) in files.items():
        path = write(folder / file, "\n".join(lines).replace("{}", name), "Text." if has_body else "")
        os.utime(path, (OLD, OLD))
    library = tree(folder)
    found: list[AgentDefinition | str] = []
    for name in names:
        try:
            found.append(library.find(name))
        except ClaudeForceError as error:
            found.append(str(error))
    listed = {agent.name: agent for agent in tree(folder).load_all()}
    broken = {problem.agent: str(problem) for problem in reversed(tree(folder).problems())}
    for name, agent in zip(names, found, strict=True):
        expected = listed.get(name) or broken.get(name)
        assert agent == expected or (expected is None and "no agent is named" in str(agent))


def test_importing_the_library_is_cheap() -> None:
    """Nobody pays for YAML or for spelling suggestions before they are needed."""
    code = (
        "import sys; before = set(sys.modules); import claude_force.library.agents\n"
        "print(sorted({'yaml', 'difflib'} & (sys.modules.keys() - before)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "[]"
