"""The benchmarks are scripts beside each other: here they can import one another."""

from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def _benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is for who starts one."""
    monkeypatch.syspath_prepend(str(FOLDER))
