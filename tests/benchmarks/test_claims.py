"""What README.md says was measured, was."""

import importlib
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_claim_can_be_shown() -> None:
    """Its command names a scenario that is there, and the baseline has its figures, which README.md shows.

    That README.md is as `docs/generate.py` makes it is a test of the pages.
    """
    claims, names = importlib.import_module("claims"), importlib.import_module("run_benchmarks").NAMES
    baseline = importlib.import_module("results").read_results(claims.BASELINE)
    readme = (ROOT / "README.md").read_text()
    for claim in claims.CLAIMS:
        assert claim.scenario in names
        assert claim.row(baseline) in readme
    commands = set(re.findall(r"`python (benchmarks/\S+)", readme))
    assert commands
    assert all((ROOT / command).is_file() for command in commands)
