"""Skills are found, read leniently, checked against the standard, and never let anything in or out of their folder."""

import os
import time
from pathlib import Path

import pytest

from claude_force import Skill, SkillError, SkillFileError, SkillNotFoundError
from claude_force.library.disk import MAX_FILES, Folder
from claude_force.library.skills import (
    MAX_RESOURCE_BYTES,
    MAX_SKILL_FOLDERS,
    SkillLibrary,
    read_resource,
    read_skill,
    resources_of,
    skill_folders,
)


def write(
    folder: Path, text: str = "---\nname: {name}\ndescription: About it.\n---\nDo it.\n", file: str = "SKILL.md"
) -> Path:
    """A skill in that folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / file).write_text(text.format(name=folder.name))
    return folder


def read(text: str) -> Skill | SkillFileError:
    """What a file in a folder named `it` says."""
    return read_skill(text.encode(), path=Path("/skills/it/SKILL.md"), source="project")


def library(start: Path) -> SkillLibrary:
    """As a call has it."""
    return SkillLibrary(skill_folders(start, home=Path.home() / ".claude"))


FULL = """---
name: it
description: "Reviews SQL: locks, indexes."
when_to_use: Before a migration.
license: MIT
compatibility: needs psql
allowed-tools: Bash(git log:*) Read, Write
disable-model-invocation: yes
metadata:
  version: 1.0
  keywords: sql, query
argument-hint: [table]
---

Run !`rm -rf /` on $ARGUMENTS in ${CLAUDE_SKILL_DIR}.

"""


def test_all_fields_are_kept_and_nothing_is_replaced() -> None:
    """Commands and placeholders in the text are text."""
    skill = read(FULL)
    assert isinstance(skill, Skill)
    assert skill.body == "Run !`rm -rf /` on $ARGUMENTS in ${CLAUDE_SKILL_DIR}."
    assert skill.summary == "Reviews SQL: locks, indexes. Before a migration."
    assert (skill.license, skill.compatibility, skill.disable_model_invocation) == ("MIT", "needs psql", True)
    assert skill.allowed_tools == ("Bash(git log:*)", "Read", "Write")
    assert (skill.metadata, skill.keywords) == ({"version": "1.0", "keywords": "sql, query"}, ("sql", "query"))
    assert skill.extra == {"argument-hint": ["table"]}


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        ("---\nname: other\ndescription: a\n---\nb", "the name 'other' is not that of its folder, 'it', which counts"),
        ("---\nname: it\n---\n# It\n\nDoes it.\n", "no 'description', so the first paragraph was taken"),
        ("Just text.", "no 'name', so the folder's counts"),
        ("---\nname: it\ndescription: use when: now\n---\nb", "was read as text; put it in quotes"),
        (f"---\nname: it\ndescription: {'d' * 1025}\n---\nb", "longer than 1,024 characters"),
        (f"---\nname: it\ndescription: a\ncompatibility: {'d' * 501}\n---\nb", "'compatibility' is longer than 500"),
        ("---\nname: it\ndescription: a\nallowed-tools: [Read]\n---\nb", "'allowed-tools' is a list"),
        ("---\nname: it\ndescription: a\nmodel: opus\n---\nb", "'model': no key of the standard"),
        ("---\nname: it\ndescription: a\nmetadata: 3\n---\nb", "'metadata' is no mapping"),
        ("---\nname: it\ndescription: a\n---\n" + "line\n" * 501, "more than 500 lines"),
    ],
)  # fmt: skip
def test_what_is_not_as_the_standard_has_it_is_a_warning(text: str, warning: str) -> None:
    """And the skill is usable all the same."""
    skill = read(text)
    assert isinstance(skill, Skill)
    assert any(warning in each for each in skill.warnings), skill.warnings
    clean = read("---\nname: it\ndescription: a\n---\nb")
    assert isinstance(clean, Skill)
    assert clean.warnings == ()


def test_no_list_of_tools_is_slow() -> None:
    """A cloned repository must not hold each call up: brackets without an end took three seconds a skill."""
    begun_s = time.process_time()
    skill = read(f"---\nname: it\ndescription: a\nallowed-tools: Read, {'a(' * 30_000}\n---\nb")
    assert isinstance(skill, Skill)
    assert (skill.allowed_tools[0], len(skill.allowed_tools)) == ("Read", 2)
    assert time.process_time() - begun_s < 1


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("---\nname: it\ndescription: a\n---\n\n", "it holds no instructions"),
        ("---\nname: it\n", "nothing closes"),
        ("---\nname: &a it\n---\nb", "anchor"),
        ("b\0", "NUL"),
    ],
)
def test_what_cannot_be_used_is_an_error(text: str, reason: str) -> None:
    """With its reason, never an exception."""
    found = read(text)
    assert isinstance(found, SkillFileError)
    assert reason in found.reason


def test_the_nearest_one_counts_and_what_it_hides_is_told(tmp_path: Path) -> None:
    """Project before user, nearer before farther, `.claude` before `.agents`; a broken one is never replaced."""
    (tmp_path / ".git").mkdir()
    here = tmp_path / "app"
    places = [
        here / ".claude",
        here / ".agents",
        tmp_path / ".claude",
        Path.home() / ".claude",
        Path.home() / ".agents",
    ]
    for number, place in enumerate(places):
        for name in [f"s{number}", "all"]:
            write(place / "skills" / name)
    write(here / ".claude/skills/broken", "---\n")
    write(tmp_path / ".claude/skills/broken")
    write(tmp_path / ".claude/skills/group/lower", file="skill.md")
    found = library(here)
    assert [skill.name for skill in found.load_all()] == ["all", "lower", "s0", "s1", "s2", "s3", "s4"]
    assert found.find("all").path == places[0] / "skills/all/SKILL.md"
    assert {shadow.hidden for shadow in found.shadowed()} == {place / "skills/all/SKILL.md" for place in places[1:]}
    assert [problem.skill for problem in found.problems()] == ["broken"]
    with pytest.raises(SkillFileError, match="nothing closes"):
        found.find("broken")
    with pytest.raises(SkillNotFoundError, match="did you mean 'lower'"):
        found.find("lowr")


def test_outside_a_repository_only_the_folder_counts(tmp_path: Path) -> None:
    """Its parents may be anybody's."""
    write(tmp_path / ".claude/skills/theirs")
    (tmp_path / "mine").mkdir()
    assert library(tmp_path / "mine").load_all() == []


def test_links_stay_inside(tmp_path: Path) -> None:
    """Inside the repository they are followed, and read once; out of it, they are a problem; a circle ends."""
    (tmp_path / "repo/.git").mkdir(parents=True)
    outside = write(tmp_path / "outside")
    shared = write(tmp_path / "repo/shared/inside")
    skills = tmp_path / "repo/.claude/skills"
    skills.mkdir(parents=True)
    for name, target in (("inside", shared), ("again", shared), ("outside", outside), ("circle", skills)):
        (skills / name).symlink_to(target)
    found = library(tmp_path / "repo")
    assert len(found.load_all()) == 1
    assert ["leads out of" in problem.reason for problem in found.problems()] == [True]


@pytest.fixture
def skill(tmp_path: Path) -> Skill:
    """One with a file beside it."""
    folder = write(tmp_path / "it")
    (folder / "references").mkdir()
    (folder / "references/locks.md").write_text("Locks.\r\n")
    (tmp_path / "secret.md").write_text("secret")
    return SkillLibrary([Folder(path=tmp_path, source="project", root=tmp_path)]).find("it")


def test_a_resource_is_read(skill: Skill) -> None:
    """By its path from the skill's folder."""
    assert resources_of(skill) == ["references/locks.md"]
    assert read_resource(skill, "references/locks.md").text == "Locks.\n"
    assert read_resource(skill, "./references/locks.md").path == "references/locks.md"


OUTSIDE = ["../secret.md", "references/../../secret.md", "/etc/passwd", "link.md", "folder/secret.md", "~/x", ""]
NO_TEXT = ["pipe", "binary", "large", "references", "a\\..\\b", "a\0b"]


@pytest.mark.parametrize("path", [*OUTSIDE, *NO_TEXT])
def test_nothing_else_is_a_resource(skill: Skill, path: str) -> None:
    """No way out of the folder, no pipe that would be waited for, nothing but text, and not too much of it."""
    folder = skill.path.parent
    (folder / "link.md").symlink_to(folder.parent / "secret.md")
    (folder / "folder").symlink_to(folder.parent)
    os.mkfifo(folder / "pipe")
    (folder / "binary").write_bytes(b"\xff\xfe\x00")
    (folder / "large").write_bytes(b"a" * (MAX_RESOURCE_BYTES + 1))
    with pytest.raises(SkillError, match="cannot read"):
        read_resource(skill, path)


def test_what_lies_in_a_skill_is_no_other_skill(tmp_path: Path) -> None:
    """An example in a skill's folder is its own; `.git` and `node_modules` are left out, `.claude` is looked into."""
    write(tmp_path / "a/example/b")
    for name in ("a", "node_modules/c", ".git/d", ".claude/skills/e"):
        write(tmp_path / name)
    found = SkillLibrary([Folder(path=tmp_path, source="project", root=tmp_path)])
    assert [each.name for each in found.load_all()] == ["a", "e"]
    assert MAX_SKILL_FOLDERS > MAX_FILES  # each skill is a folder
