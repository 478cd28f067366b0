"""Model names as people write them, and what becomes of them."""

import pytest

from claude_force.base.models import CURRENT, TIERS, min_cacheable_tokens, resolve_model, takes_effort, tier_of
from claude_force.transports.simulator.catalogue import MODELS, SimulatedModel


@pytest.mark.parametrize(
    ("name", "model", "warns"),
    [
        ("sonnet", "claude-sonnet-5-5", False),
        ("Opus", "claude-opus-5-5", False),
        ("sonnet[1m]", "claude-sonnet-5-5", False),
        ("best", "claude-fable-5-2", False),
        ("claude-haiku-4-5-20251001", "claude-haiku-4-5-20251001", False),
        ("claude-sonnet-4-5", "claude-sonnet-4-5", False),
        ("claude-sonnet-4-20250514", "claude-sonnet-5-5", True),
        ("claude-sonnet-4", "claude-sonnet-5-5", True),
        ("claude-opus-4-1-20250805", "claude-opus-5-5", True),
        ("claude-3-5-haiku-20241022", "claude-haiku-5-5", True),
        ("claude-3-opus-20240229", "claude-opus-5-5", True),
        ("claude-2.1", "claude-sonnet-5-5", True),
        ("claude-instant-1.2", "claude-sonnet-5-5", True),
        ("Claude Sonnet 4.5 (copilot)", "claude-sonnet-5-5", True),
        ("llama3.2:3b", "llama3.2:3b", False),
        ("my model", "my model", False),
        ("claude-opus-9-9", "claude-opus-9-9", False),
    ],
)
def test_a_name_becomes_an_id(name: str, model: str, warns: bool) -> None:  # noqa: FBT001 - a row of a table
    """Aliases resolve, retired ids are replaced with a warning, ids of other servers pass."""
    choice = resolve_model(name)
    assert (choice.id, choice.warning is not None) == (model, warns)
    if warns:
        assert repr(name) in str(choice.warning)


def test_the_environment_may_say_what_an_alias_means() -> None:
    """`ANTHROPIC_DEFAULT_SONNET_MODEL` moves the alias, and replacements of retired ids with it."""
    aliases = {"sonnet": "claude-sonnet-5"}
    assert resolve_model("sonnet", aliases).id == "claude-sonnet-5"
    assert resolve_model("claude-3-7-sonnet-latest", aliases).id == "claude-sonnet-5"
    assert resolve_model("opus", aliases).id == CURRENT["opus"]


@pytest.mark.parametrize(
    ("model", "effort", "taken"),
    [
        ("claude-haiku-4-5", "low", False),
        ("claude-sonnet-4-5-20250929", "max", False),
        ("claude-sonnet-4-6", "xhigh", False),
        ("claude-sonnet-4-6", "high", True),
        ("claude-haiku-5-5", "xhigh", True),
        ("qwen3", "high", True),
    ],
)
def test_effort_goes_only_where_it_is_taken(model: str, effort: str, taken: bool) -> None:  # noqa: FBT001 - a row of a table
    """Models that answer 400 to an effort are known."""
    assert takes_effort(model, effort) is taken


@pytest.mark.parametrize(
    ("model", "tier"),
    [
        *((id_, family) for family, id_ in CURRENT.items()),
        ("claude-3-5-haiku-20241022", "haiku"),
        ("Claude Sonnet 4.5 (copilot)", "sonnet"),
        ("opusplan", "opus"),
        ("Best", "fable"),
        ("llama3.2:3b", None),
        ("my-sonnets", None),
    ],
)
def test_an_id_has_a_tier(model: str, tier: str | None) -> None:
    """The family is read from an id or a name; a model of somebody else has none."""
    assert tier_of(model) == tier
    assert set(TIERS) == set(CURRENT)


@pytest.mark.parametrize("model", MODELS.values(), ids=lambda model: model.id)
def test_the_shortest_prefix_that_is_kept(model: SimulatedModel) -> None:
    """As the API has it, by whatever name a gateway knows the model."""
    assert min_cacheable_tokens(model.id) == model.min_cacheable_tokens
    assert min_cacheable_tokens(f"eu.anthropic.{model.id}-v1:0") == model.min_cacheable_tokens


def test_an_unknown_model_keeps_only_what_all_do() -> None:
    """A mark that is for nothing costs nothing, but nobody should wait for it."""
    assert min_cacheable_tokens("llama3.2:3b") == 4096
