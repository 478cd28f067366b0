"""Which model a task needs: cheap for what is plain, dear for what is hard, and never without a reason."""

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_force.base.models import TIERS, Tier
from claude_force.engine.router import LADDER, PastAnswers, Routing, TaskTraits, route


def routed(text: str, *, min_tier: Tier = "haiku", max_tier: Tier = "fable", **facts: Any) -> Routing:
    """What the router says of this task."""
    return route(TaskTraits(text=text, **facts), min_tier=min_tier, max_tier=max_tier)


TRIVIAL = (
    "Fix the typo in the title.",
    "Rename `x` to `total`.",
    "Please translate this page into French.",
    "Sort the imports of architecture.py.",
    "Write a commit message for the redesign of our deadlock detection.",
    "What is the default port of PostgreSQL?",
)
HARD = (
    "Design the architecture of a payment service.",
    "Which architecture fits us: a monolith or services? Weigh the trade-offs.",
    "Architecture question: where should validation live?",
    "Find the root cause of this outage.",
    "Why does this deadlock?",
    "Design a spelling checker.",
    "Delete the legacy tables of the production database.",
    "Replace our monolith, and keep it running meanwhile.",
)


@pytest.mark.parametrize("text", TRIVIAL)
@given(files=st.lists(st.integers(0, 2_000_000), max_size=20))
def test_a_trivial_edit_stays_at_the_bottom(text: str, files: list[int]) -> None:
    """However much material there is, and however learned it sounds, plain work is for the cheapest model."""
    if text.startswith("What"):
        files = []  # a fact about one's own files is none that is in every manual
    assert routed(text, file_chars=tuple(files)).rung.tier == "haiku"


@pytest.mark.parametrize("text", HARD)
@given(files=st.lists(st.integers(0, 2_000_000), max_size=20), effort=st.sampled_from([None, "low", "high"]))
def test_a_hard_question_never_goes_to_the_bottom(text: str, files: list[int], effort: str | None) -> None:
    """Few words are enough, and an agent that is told to take it easy changes that little."""
    assert routed(text, file_chars=tuple(files), agent_effort=effort).rung.tier != "haiku"


def test_what_nobody_knows_goes_to_the_middle() -> None:
    """Where no word tells, the model is neither the cheapest nor a dear one."""
    assert routed("Handle the Meyer thing as we discussed.").rung.tier == "sonnet"
    assert routed("Schreibe eine Funktion für Feiertage.").rung.tier == "sonnet"


@given(text=st.text(max_size=300), bounds=st.tuples(st.sampled_from(TIERS), st.sampled_from(TIERS)))
def test_the_bounds_hold_for_every_text(text: str, bounds: tuple[Tier, Tier]) -> None:
    """No text leads out of what is allowed, and there is always a reason."""
    low, high = sorted(bounds, key=TIERS.index)
    found = routed(text, min_tier=low, max_tier=high)
    assert TIERS.index(low) <= TIERS.index(found.rung.tier) <= TIERS.index(high)
    assert 0 <= found.score <= 1
    assert found.reasons


@pytest.mark.parametrize(
    ("text", "bounds", "tier", "reason"),
    [
        ("Fix the typo.", {"min_tier": "sonnet"}, "sonnet", "haiku would do, but sonnet is the least that is allowed"),
        (HARD[3], {"max_tier": "sonnet"}, "sonnet", "opus would be better, but sonnet is the most that is allowed"),
    ],
    ids=["least", "most"],
)
def test_a_bound_that_decides_is_the_first_reason(text: str, bounds: dict[str, Tier], tier: str, reason: str) -> None:
    """Who asks why hears of the bound, not only of the task."""
    found = routed(text, **bounds)
    assert (found.rung.tier, found.reasons[0]) == (tier, reason)


def test_effort_is_part_of_the_choice() -> None:
    """Within a tier, more effort comes before the next model; at a bound, the dearest that it has."""
    assert routed("Fix the typo.").rung == LADDER[0]
    assert routed("Write a parser for durations.").rung.effort == "medium"
    assert routed("Write a parser for durations.", file_chars=(9, 9, 9)).rung == LADDER[3]
    assert routed(HARD[3], max_tier="sonnet").rung == LADDER[3]


@pytest.mark.parametrize(
    ("past", "tier"),
    [
        (PastAnswers(10, 3), "sonnet"),
        (PastAnswers(10, 2), "haiku"),
        (PastAnswers(4, 4), "haiku"),
        (PastAnswers(500, 0), "haiku"),
    ],
    ids=["too weak", "bad luck", "too few to tell", "well"],
)
def test_a_tier_that_was_too_weak_is_passed_over(past: PastAnswers, tier: str) -> None:
    """What this agent's answers came to decides, too, and is the first reason."""
    found = routed("Fix the typo.", history={"haiku": past})
    assert found.rung.tier == tier
    assert found.reasons[0].startswith("3 of its last 10 answers by haiku") is (tier == "sonnet")


def test_history_stays_within_the_bounds() -> None:
    """Where every tier was too weak, the dearest that is allowed is asked."""
    bad = {tier: PastAnswers(10, 10) for tier in TIERS}
    assert routed("Fix the typo.", history=bad, max_tier="sonnet").rung.tier == "sonnet"
    assert routed("Fix the typo.", history=bad).rung.tier == "fable"


@pytest.mark.parametrize(
    "facts",
    [
        {"file_chars": (100, 100, 100)},
        {"file_chars": (500_000,)},
        {"max_tokens": 64_000},
        {"agent_effort": "max"},
        {"agent_name": "security-scanner"},
    ],
    ids=lambda facts: next(iter(facts)),
)
def test_what_makes_a_task_harder(facts: dict[str, Any]) -> None:
    """Files, size, length of the answer and the agent count, and each says so."""
    text = "Review this change."
    plain, harder = routed(text), routed(text, **facts)
    assert harder.score > plain.score
    assert plain.reasons == ("ordinary work, as far as its words say",)
    assert len(harder.reasons) == 1
    assert harder.reasons != plain.reasons


def test_code_in_a_task_counts() -> None:
    """A pasted traceback is more to think about than words are."""
    assert routed("Mend it.\n```\nx = 1\n```").reasons == ("code in the task",)
    assert routed("Mend it.\nTraceback (most recent call last):").reasons == ("code in the task",)


def test_a_ladder_only_rises() -> None:
    """Each rung needs more and costs more than the one before."""
    assert all(a.score < b.score and TIERS.index(a.tier) <= TIERS.index(b.tier) for a, b in itertools.pairwise(LADDER))


def test_the_middle_of_a_long_task_is_not_read() -> None:
    """So that a decision takes no longer for a text that was pasted in, whatever it holds."""
    ends = ["Rename the file. " * 200, "x " * 100_000, "Thank you. " * 200]
    hard = [ends[0], "Design the architecture, and find the race. ".ljust(200_000 - 1) + " ", ends[2]]
    assert routed("".join(ends)).score == routed("".join(hard)).score
    assert routed(hard[1]).score > routed(ends[0]).score


LABELLED = Path(__file__).parents[2] / "benchmarks/routing/tasks.jsonl"


@pytest.mark.parametrize("is_held_out", [False, True], ids=["looked at", "held out"])
def test_the_labelled_tasks_go_where_they_belong(*, is_held_out: bool) -> None:
    """Four of five go where their label says, and no mistake is a bad one: hard to the bottom, or plain to the top."""
    rows = [json.loads(line) for line in LABELLED.read_text().splitlines()]
    rows = [row for number, row in enumerate(rows) if (number % 3 == 2) is is_held_out]
    pairs = [
        (row["tier"], routed(row["task"], max_tier="opus", file_chars=tuple(row.get("files", ()))).rung.tier)
        for row in rows
    ]
    assert sum(label == tier for label, tier in pairs) >= 0.8 * len(pairs)
    assert {("opus", "haiku"), ("haiku", "opus")}.isdisjoint(pairs)
