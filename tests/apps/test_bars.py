"""Bars beside a table: they fit, they compare, and what is there is seen."""

import io
import re

import pytest

from claude_force.apps.console import bars, print_table


@pytest.mark.parametrize(("columns", "length"), [("60", 40), ("40", 22), ("10", 8)])
def test_bars(columns: str, length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as the terminal leaves room for, but no longer than is easy to follow; one of a million is seen."""
    monkeypatch.setenv("COLUMNS", columns)
    half, none, little, whole = bars([500_000, 0, 1, 1_000_000], headers=["name"], rows=[["x" * 12]])
    assert (len(whole), len(half), none, little) == (length, length // 2, "", "\N{LEFT ONE EIGHTH BLOCK}")
    assert set(whole) == {"\N{FULL BLOCK}"}
    assert bars([], headers=["name"], rows=[]) == []


class _Terminal(io.StringIO):
    """What a person looks at."""

    def isatty(self) -> bool:
        """That they do."""
        return True


@pytest.mark.parametrize("columns", [20, 40, 60, 80, 200])
def test_no_amount_is_torn(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """However narrow the terminal, a short cell stands there whole, and no cell is missing."""
    terminal = _Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    monkeypatch.setenv("COLUMNS", str(columns))
    names, amounts = ["security-scanner"] * 4, [f"${number}.0000" for number in range(6)]
    print_table(["a word"] * 4 + ["expected"] * 6, [[*names, *amounts]])
    shown = re.sub(r"\x1b\[[0-9;]*m", "", terminal.getvalue())
    assert [amount for amount in amounts if amount not in shown] == []
    assert max(map(len, shown.splitlines())) <= max(columns, len("a word: security-scanner"))
