"""The project's context: which files, in which order, what they import, and what a project cannot make us send."""

import os
from pathlib import Path

import pytest

from claude_force.library.context import MOST_CHARS, MOST_FILE_BYTES, Context, parsed, read_context
from tests.conftest import write


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """A repository with a folder in it."""
    (tmp_path / "repo/.git").mkdir(parents=True)
    (tmp_path / "repo/app/.claude").mkdir(parents=True)
    return tmp_path / "repo"


def found(start: Path, *import_from: Path) -> Context:
    """As a call has it."""
    return read_context(start, home=Path.home() / ".claude", import_from=import_from)


def names(context: Context) -> list[str]:
    """Of the files."""
    return [file.name for file in context.files]


def test_all_levels_count_the_nearest_last(repo: Path) -> None:
    """The user's own first; a file that several links lead to is read once; names tell nothing of the machine."""
    write(Path.home() / ".claude/CLAUDE.md", "mine")
    for name in ("CLAUDE.md", "CLAUDE.local.md", "app/CLAUDE.md", "app/.claude/CLAUDE.md", "app/CLAUDE.local.md"):
        write(repo / name, name)
    (repo / ".claude").mkdir()
    (repo / ".claude/CLAUDE.md").symlink_to("../CLAUDE.md")
    write(repo.parent / "CLAUDE.md", "somebody's")
    context = found(repo / "app")
    assert names(context) == [
        "~/.claude/CLAUDE.md", "CLAUDE.md", "CLAUDE.local.md",
        "app/CLAUDE.md", "app/.claude/CLAUDE.md", "app/CLAUDE.local.md",
    ]  # fmt: skip
    assert context.warnings == []


def test_imports_follow_who_names_them(repo: Path) -> None:
    """Relative to the file, once, in circles too, four hops deep; what is no file is prose."""
    write(
        repo / "CLAUDE.md",
        "See @docs/a.md, ask @alice, use @types/node.\nIn `@code.md` or\n```\n@code.md\n```\n@gone.md",
    )
    write(repo / "code.md", "never")
    write(repo / "docs/a.md", "a @b.md @../CLAUDE.md")
    for one, two in ("bc", "cd", "de"):
        write(repo / f"docs/{one}.md", f"{one} @{two}.md")
    write(repo / "docs/e.md", "e")
    context = found(repo)
    assert names(context) == ["CLAUDE.md", "docs/a.md", "docs/b.md", "docs/c.md", "docs/d.md"]
    assert [warning.split(" is no part")[0] for warning in context.warnings] == [
        "'e.md', which 'docs/d.md' imports,", "'gone.md', which 'CLAUDE.md' imports,",
    ]  # fmt: skip


def test_a_project_cannot_have_other_files_sent(repo: Path) -> None:
    """Not by a path, not by a link, not from the home folder, without the user's consent."""
    secret = write(repo.parent / "elsewhere/secret.md", "secret")
    write(Path.home() / "key.md", "key")
    far = "../" * 99 + "etc/hosts"  # above the root of the disk is its root
    write(repo / "CLAUDE.md", f"@../elsewhere/secret.md @~/key.md @{secret} @link.md @{far}")
    (repo / "link.md").symlink_to(secret)
    (repo / "CLAUDE.local.md").symlink_to(secret)
    context = found(repo)
    assert names(context) == ["CLAUDE.md"]
    assert len(context.warnings) == 6
    assert all("outside of the repository" in warning for warning in context.warnings)
    assert "secret" in str(found(repo, secret.parent).files)


def test_a_project_cannot_have_hidden_files_sent(repo: Path) -> None:
    """What a user keeps beside a clone stays there: keys, and passwords in addresses; hidden notes are notes."""
    write(repo / ".env", "KEY=secret")
    write(repo / ".git/config", "url = https://me:secret@example.com")
    write(repo / ".github/notes.md", "notes")
    write(repo / "CLAUDE.md", "@.env @.git/config @link.md @.github/notes.md")
    (repo / "link.md").symlink_to(".env")
    context = found(repo)
    assert names(context) == ["CLAUDE.md", ".github/notes.md"]
    assert len(context.warnings) == 3
    assert all("hidden files" in warning for warning in context.warnings)
    hidden = write(repo / ".shared/rules.txt", "rules")
    write(repo / "CLAUDE.md", "@.shared/rules.txt")
    assert "rules" in str(found(repo, hidden.parent).files), "whoever names the folder means it"


def test_the_users_own_file_may_import_any(repo: Path) -> None:
    """It is the user who wrote it."""
    write(Path.home() / ".claude/CLAUDE.md", "@~/notes.md")
    write(Path.home() / "notes.md", "my notes")
    assert names(found(repo)) == ["~/.claude/CLAUDE.md", "~/notes.md"]


def test_comments_are_left_out() -> None:
    """Those that begin a line; code, and a comment that does not end, stay as they are."""
    text = "a\n<!-- b\n```\n@b.md -->\nc <!-- d -->\n```\n<!-- e -->\n```\n<!-- f --> g\n<!-- h"
    assert parsed(text).text == "a\nc <!-- d -->\n```\n<!-- e -->\n```\n g\n<!-- h"
    assert parsed(text).imports == []


@pytest.mark.parametrize("text", ["`" * 200_000, "<!--\n" * 60_000, "```\n" * 60_000, "@" * 200_000, "`a" * 100_000])
def test_no_text_is_slow(text: str) -> None:
    """A cloned repository must not hold a call up: each of these would take hours in the square of its length."""
    assert parsed(text).imports == []


def test_what_is_too_long_or_no_text_is_left_out_with_a_warning(repo: Path) -> None:
    """And nothing fails: a pipe is not waited for."""
    write(repo / "CLAUDE.md", "a" * (MOST_CHARS - 10))
    write(repo / "CLAUDE.local.md", "b" * 11)
    write(repo / "app/CLAUDE.md", "c" * (MOST_FILE_BYTES + 1))
    (repo / "app/.claude/CLAUDE.md").write_bytes(b"\xff")
    os.mkfifo(repo / "app/CLAUDE.local.md")
    context = found(repo / "app")
    assert names(context) == ["CLAUDE.md"]
    reasons = ("would be more than", "more than 262,144 bytes", "not UTF-8", "no regular file")
    assert all(reason in warning for reason, warning in zip(reasons, context.warnings, strict=True))
