"""Model names: what an alias means today, which ids are gone, and what a model can take.

State of 2026-11-20. Ids that are not Claude's (a gateway's, a local server's) pass through untouched.
"""

import functools
import re
from typing import TYPE_CHECKING, Literal, get_args

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

Tier = Literal["haiku", "sonnet", "opus", "fable"]
"""A family of models."""
TIERS: tuple[Tier, ...] = get_args(Tier)
"""The cheapest first."""

CURRENT: dict[str, str] = {
    "haiku": "claude-haiku-5-5",
    "sonnet": "claude-sonnet-5-5",
    "opus": "claude-opus-5-5",
    "fable": "claude-fable-5-2",
}
DEFAULT_ALIAS = "sonnet"

# Words that Claude Code accepts beside the family names.
_ALIASES: dict[str, str] = {
    "best": "fable",
    "default": "sonnet",
    "opusplan": "opus",
}

# The API answers 404 for these: generation 3 and before, Sonnet 4, Opus 4 and Opus 4.1 (retired by 2026-08-05).
# Text, because a start must not compile what most never ask: `re` compiles a pattern once, when it is used.
_RETIRED = (
    r"claude-(?:[12](?:\.\d)?(?:-100k)?|instant-.*|3-.*"
    r"|(?:sonnet|opus)-4(?:-0)?(?:-2025\d{4})?|opus-4-1(?:-2025\d{4})?|mythos-preview)"
)
_WITHOUT_EFFORT = r"claude-(?:haiku-4-5|sonnet-4-5|opus-4-[01]).*"
_WITHOUT_XHIGH = r"claude-(?:sonnet|opus)-4-[56].*"
# The shortest prefix that the prompt cache keeps, by model; a shorter one is passed over without a word.
# Source: https://platform.claude.com/docs/en/build-with-claude/prompt-caching, state of 2026-11-20.
_MIN_CACHEABLE = (
    (r"claude-(?:haiku-5|sonnet-5-5|opus-5|fable-)", 512),
    (r"claude-(?:sonnet-[45]|opus-4-8)", 1024),
    (r"claude-opus-4-7", 2048),
)
_MOST_MIN_CACHEABLE = 4096
_FAMILY_WORD = r"(?i)\b(haiku|sonnet|opus|fable)\b"


class ModelChoice(msgspec.Struct, frozen=True):
    """A model id that can be sent, and what had to be changed to get it."""

    id: str
    warning: str | None = None


def resolve_model(name: str, aliases: "Mapping[str, str] | None" = None) -> ModelChoice:
    """The id behind `name`: an alias, a full id, or a name as people write it ("Claude Sonnet 4.5 (copilot)").

    `aliases` overrides what a family name means, as `ANTHROPIC_DEFAULT_SONNET_MODEL` does. A retired id is replaced by
    the current model of its family, with a warning, as Claude Code does; an unknown id is left for the server to judge.
    """
    current = {**CURRENT, **(aliases or {})}
    word = name.strip().removesuffix("[1m]")  # asks for a context that every current model has
    family = _ALIASES.get(word.lower(), word.lower())
    if family in current:
        return ModelChoice(current[family])
    found = re.search(_FAMILY_WORD, word)
    if re.fullmatch(_RETIRED, word):
        replacement = current[found[1].lower() if found else DEFAULT_ALIAS]
        return ModelChoice(
            replacement, f"model {word!r} is retired; using {replacement!r} instead: change the agent file"
        )
    if " " in word and found:
        replacement = current[found[1].lower()]
        return ModelChoice(
            replacement, f"{word!r} is no model id; using {replacement!r}: write the id or {found[1].lower()!r}"
        )
    return ModelChoice(word)


def tier_of(model: str) -> Tier | None:
    """The family that a model's name or id says; `None` for a model that is not Claude's."""
    found = re.search(_FAMILY_WORD, _ALIASES.get(model.strip().lower(), model))
    return next((tier for tier in TIERS if found and tier == found[1].lower()), None)


def takes_effort(model: str, effort: str) -> bool:
    """Whether the API accepts this effort for this model; models that are not Claude's are taken at their word."""
    if re.fullmatch(_WITHOUT_EFFORT, model):
        return False
    return not (effort == "xhigh" and re.fullmatch(_WITHOUT_XHIGH, model))


@functools.cache  # asked for each turn
def min_cacheable_tokens(model: str) -> int:
    """How long a prefix has to be for the prompt cache to keep it; of a model that is not known, the longest of all."""
    return next((tokens for pattern, tokens in _MIN_CACHEABLE if re.search(pattern, model)), _MOST_MIN_CACHEABLE)
