"""Bars beside a table: they fit, they compare, and what is there is seen."""

import pytest

from claude_force.apps.console import bars


@pytest.mark.parametrize(("columns", "length"), [("60", 40), ("40", 22), ("10", 8)])
def test_bars(columns: str, length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as the terminal leaves room for, but no longer than is easy to follow; one of a million is seen."""
    monkeypatch.setenv("COLUMNS", columns)
    half, none, little, whole = bars([500_000, 0, 1, 1_000_000], headers=["name"], rows=[["x" * 12]])
    assert (len(whole), len(half), none, little) == (length, length // 2, "", "\N{LEFT ONE EIGHTH BLOCK}")
    assert set(whole) == {"\N{FULL BLOCK}"}
    assert bars([], headers=["name"], rows=[]) == []
