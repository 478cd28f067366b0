"""The soak knows when something was lost."""

import importlib
from pathlib import Path
from typing import Any

import msgspec
import pytest

GOOD = [
    *({"success": True, "model": "haiku", "input_tokens": 100, "output_tokens": 10, "estimated_cost": 0.1},) * 3,
    {"success": True, "model": "haiku", "input_tokens": 0, "output_tokens": 0, "estimated_cost": 0, "cached": True},
    {"success": True, "model": "sonnet", "attempts": 3},
]


@pytest.mark.parametrize(
    ("lines", "haiku", "sonnet", "fails"),
    [
        pytest.param(GOOD, 30, 20, False, id="right"),
        pytest.param(GOOD, 30, 30, False, id="broken twice"),
        pytest.param(GOOD, 40, 20, True, id="billed and not in the ledger"),
        pytest.param(GOOD, 20, 20, True, id="in the ledger and not billed"),
        pytest.param(GOOD, 30, 40, True, id="more answers than attempts"),
        pytest.param(GOOD[1:], 20, 20, True, id="a turn without a line"),
        pytest.param([*GOOD[:4], {"success": False, "model": "sonnet"}], 30, 20, True, id="a failed turn"),
        pytest.param([*GOOD[:4], {"success": True, "model": "haiku", "attempts": 3}], 50, 0, True, id="unknown cost"),
    ],
)
def test_the_soak_knows_a_wrong_bill(lines: list[Any], haiku: int, sonnet: int, *, fails: bool, tmp_path: Path) -> None:
    """Of made-up ledgers; each answer has 10 tokens."""
    ledger = tmp_path / "executions.jsonl"
    ledger.write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))
    usage = {"haiku": {"output_tokens": haiku}, "sonnet": {"output_tokens": sonnet}}
    try:
        importlib.import_module("scenarios.soak")._check(ledger, {"usage": usage}, len(GOOD))
    except RuntimeError:
        assert fails
    else:
        assert not fails


def test_the_soak_knows_growth() -> None:
    """From half way to the end, of anything that is counted."""
    soak = importlib.import_module("scenarios.soak")
    half = {"resident memory, MB": 150.0, "open files": 1_000.0}
    soak._check_flat(half, {"resident memory, MB": 160.0, "open files": 400.0})
    with pytest.raises(RuntimeError, match="resident memory, MB: 150 half way, 190 at the end"):
        soak._check_flat(half, {"resident memory, MB": 190.0, "open files": 1_000.0})
