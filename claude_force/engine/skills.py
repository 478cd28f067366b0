"""Which skills a task needs: chosen by words, without a model, so it costs nothing and is the same each time. Pure.

A skill that is needed and left out costs more than one too many, which is only some tokens. So little is enough to take
one, and the less the shorter it is; the skill that an agent's file names first, its main one, is always taken; and
where the words say nothing for any of them, all are.
How often that is right is measured by `benchmarks/benchmark_skills.py`, which the figures here were tuned by.
"""

import math
from functools import lru_cache
from typing import TYPE_CHECKING

import msgspec

from claude_force.base.briefing import SkillChoice
from claude_force.base.words import words

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from claude_force.base.briefing import Skill
    from claude_force.base.records import Material

# What a word says for a skill, by where the skill has it. A body speaks of much, so its words together have a bound.
NAME_WEIGHT, SUMMARY_WEIGHT, BODY_WEIGHT, MOST_OF_BODY = 3.0, 1.0, 0.2, 1.0
# A word of the material says less than one of the task.
MATERIAL_WEIGHT = 0.3
# With so much, a skill of that length is taken; one of half the length with half of it.
ENOUGH, ENOUGH_FOR_CHARS = 1.0, 5_000
# Where no skill has so much, the task is too vague to choose by.
VAGUE = 0.5
# Of material, so much is looked at: a subject shows at the beginning, and a book would take a second.
MOST_MATERIAL_CHARS = 40_000
# Nobody reads more reasons.
MOST_WORDS = 4


def choose(
    skills: "Sequence[Skill]", task: str, materials: "Sequence[Material]", *, main: str | None
) -> list[SkillChoice]:
    """For each skill whether the task needs it, in their order; `main` is the one that is always taken."""
    asked = _asked(task, materials)
    known = [_known(_Text(skill.name, skill.keywords, skill.summary, skill.body)) for skill in skills]
    spoken = [_spoken(asked, own, known) for own in known]
    is_vague = all(sum(each.values()) < VAGUE for each in spoken)
    found = []
    for skill, each in zip(skills, spoken, strict=True):
        score, reasons = sum(each.values()), _reasons(each, asked)
        if skill.name == main:
            reasons = ("it is the agent's main skill", *reasons)
        elif is_vague:
            reasons = ("the task is too vague to choose by",)
        is_chosen = skill.name == main or is_vague or score >= ENOUGH * len(skill.body) / ENOUGH_FOR_CHARS
        reasons = reasons or ("nothing speaks for it",)
        found.append(SkillChoice(name=skill.name, is_chosen=is_chosen, reasons=reasons, score=round(score, 2)))
    return found


class _Known(msgspec.Struct, frozen=True):
    """The words of a skill, each with its weight."""

    strong: "Mapping[str, float]"
    body: frozenset[str]
    """Those that only its body has."""


def _spoken(asked: "Mapping[str, _Said]", own: _Known, known: "Sequence[_Known]") -> "dict[str, float]":
    """What each word of the task says for this skill, against the agent's others."""
    strong = {
        word: asked[word].weight * weight * _rarity(sum(word in each.strong for each in known), len(known))
        for word, weight in own.strong.items()
        if word in asked
    }
    body = {
        word: asked[word].weight
        * BODY_WEIGHT
        * _rarity(sum(word in each.strong or word in each.body for each in known), len(known))
        for word in sorted(own.body & asked.keys())
    }
    share = min(1.0, MOST_OF_BODY / sum(body.values())) if body else 0.0
    return strong | {word: weight * share for word, weight in body.items()}


class _Said(msgspec.Struct, frozen=True):
    """A word of the task or its material: what it counts, where it stands, and how it is written there."""

    weight: float
    place: str
    written: str


def _asked(task: str, materials: "Sequence[Material]") -> "Mapping[str, _Said]":
    """The words of the task and of its material."""
    asked: dict[str, _Said] = {}
    _hear(asked, task, 1.0, "the task")
    left = MOST_MATERIAL_CHARS
    for material in materials:
        _hear(asked, material.name, MATERIAL_WEIGHT, "a file's name")
        _hear(asked, material.text[:left], MATERIAL_WEIGHT, material.name)
        left = max(left - len(material.text), 0)
    return asked


def _hear(asked: "dict[str, _Said]", text: str, weight: float, place: str) -> None:
    for token in dict.fromkeys(text.split()):  # code says the same over and over
        for word in words(token):
            if word not in asked:
                asked[word] = _Said(weight, place, token.strip(".,;:!?()[]{}\"'`"))


class _Text(msgspec.Struct, frozen=True):
    """What a skill says of itself."""

    name: str
    keywords: tuple[str, ...]
    summary: str
    body: str


@lru_cache(maxsize=256)  # a file of 100,000 tasks asks for the same few
def _known(text: _Text) -> _Known:
    named = " ".join((text.name, *text.keywords))
    places = ((text.summary, SUMMARY_WEIGHT), (named, NAME_WEIGHT))
    strong = {word: weight for place, weight in places for word in words(place)}
    return _Known(strong, frozenset(words(text.body)) - strong.keys())


def _rarity(skills: int, of: int) -> float:
    """What a word is worth that so many of the skills have: most where only one does, little where all do."""
    return math.log(1 + (of - skills + 0.5) / (skills + 0.5)) / math.log(1 + (of - 0.5) / 1.5)


def _reasons(spoken: "Mapping[str, float]", asked: "Mapping[str, _Said]") -> tuple[str, ...]:
    """The strongest words, as they are written."""
    said: dict[str, list[str]] = {}
    for word in sorted(spoken, key=lambda word: (-spoken[word], word))[:MOST_WORDS]:
        said.setdefault(asked[word].place, []).append(repr(asked[word].written))
    return tuple(f"{place} says {', '.join(names)}" for place, names in said.items())
