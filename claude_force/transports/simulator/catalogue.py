"""The models that the simulator knows, and what each can take. State of 2026-11-20; guesses are marked.

It answers for the API, so it is kept apart from `base.models`, which is what *we* believe about it.
"""

from dataclasses import dataclass
from datetime import date
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

EFFORTS = ("low", "medium", "high", "xhigh", "max")
UP_TO_4_6 = ("low", "medium", "high", "max")
THINKING_TYPES = ("adaptive", "between_tools", "disabled", "enabled")
MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class SimulatedModel:
    """One model of the catalogue."""

    id: str
    released: date
    """The days of the generations before 5 are those in the dated ids, or a guess within the month."""
    thinking: frozenset[str]
    """The `thinking.type` values that it accepts."""
    efforts: tuple[str, ...] = EFFORTS
    min_cacheable_tokens: int = 512
    max_input_tokens: int = MILLION
    max_tokens: int = 128_000
    takes_forced_tools: bool = True
    takes_prefill: bool = False
    retires: date | None = None
    """Set for deprecated models."""

    @property
    def line(self) -> str:
        """Haiku, sonnet, opus or fable."""
        return self.id.split("-")[1]

    @property
    def display_name(self) -> str:
        """Such as `Claude Haiku 5.5`."""
        line, *version = self.id.split("-")[1:4]
        return f"Claude {line.title()} {'.'.join(part for part in version if len(part) == 1)}"

    def to_json(self) -> dict[str, Any]:
        """The body of `GET /v1/models/{id}`."""
        return {
            "type": "model",
            "id": self.id,
            "display_name": self.display_name,
            "created_at": f"{self.released}T00:00:00Z",
            "lifecycle": "deprecated" if self.retires else "active",
            "deprecated_at": f"{self.released}T00:00:00Z" if self.retires else None,
            "retires_at": f"{self.retires}T00:00:00Z" if self.retires else None,
            "line": self.line,
            "max_input_tokens": self.max_input_tokens,
            "max_tokens": self.max_tokens,
            "capabilities": self._capabilities(),
        }

    def _capabilities(self) -> dict[str, Any]:
        yes, no = {"supported": True}, {"supported": False}
        return {
            "batch": yes,
            "citations": no,
            "code_execution": no,
            "context_management": no,
            "effort": {
                "supported": bool(self.efforts),
                **{effort: {"supported": effort in self.efforts} for effort in EFFORTS},
            },
            "image_input": yes,
            "pdf_input": yes,
            "server_tools": {"supported": False, "code_execution": no, "web_search": no},
            "structured_outputs": yes,
            "thinking": {
                "supported": True,
                "types": {kind: {"supported": kind in self.thinking} for kind in THINKING_TYPES},
            },
        }


_ADAPTIVE = frozenset({"adaptive"})
_CAN_BE_OFF = frozenset({"adaptive", "disabled"})
_ANY = frozenset({"adaptive", "disabled", "enabled"})
_BUDGET = frozenset({"disabled", "enabled"})

# Newest first, as `GET /v1/models` lists them.
_ALL = (
    SimulatedModel("claude-fable-5-2", date(2026, 11, 9), _ADAPTIVE, takes_forced_tools=False),  # limits: as 5.1
    SimulatedModel("claude-haiku-5-5", date(2026, 10, 7), _CAN_BE_OFF),
    SimulatedModel(
        "claude-sonnet-5-5", date(2026, 9, 28), frozenset({"adaptive", "between_tools"}), takes_forced_tools=False
    ),
    SimulatedModel("claude-opus-5-5", date(2026, 9, 22), _ADAPTIVE, takes_forced_tools=False),
    SimulatedModel("claude-fable-5-1", date(2026, 9, 1), _ADAPTIVE, takes_forced_tools=False),
    SimulatedModel("claude-opus-5", date(2026, 7, 20), _CAN_BE_OFF),
    SimulatedModel("claude-sonnet-5", date(2026, 6, 20), _CAN_BE_OFF, min_cacheable_tokens=1024),
    SimulatedModel("claude-fable-5", date(2026, 6, 1), _ADAPTIVE),
    SimulatedModel("claude-opus-4-8", date(2026, 5, 20), _CAN_BE_OFF, min_cacheable_tokens=1024),
    SimulatedModel("claude-opus-4-7", date(2026, 4, 10), _CAN_BE_OFF, min_cacheable_tokens=2048),
    SimulatedModel("claude-sonnet-4-6", date(2026, 2, 15), _ANY, UP_TO_4_6, min_cacheable_tokens=1024),
    SimulatedModel("claude-opus-4-6", date(2026, 2, 5), _ANY, UP_TO_4_6, min_cacheable_tokens=4096),
    SimulatedModel(
        "claude-opus-4-5-20251101", date(2025, 11, 1), _BUDGET, UP_TO_4_6, 4096, 200_000, 64_000, takes_prefill=True
    ),
    SimulatedModel(
        "claude-haiku-4-5-20251001", date(2025, 10, 1), _BUDGET, (), 4096, 200_000, 64_000, takes_prefill=True
    ),
    SimulatedModel(
        "claude-sonnet-4-5-20250929",
        date(2025, 9, 29),
        _BUDGET,
        (),
        1024,
        200_000,
        64_000,
        takes_prefill=True,
        retires=date(2026, 11, 30),
    ),
)
MODELS: "Mapping[str, SimulatedModel]" = MappingProxyType({model.id: model for model in _ALL})
"""By id, newest first."""
_ALIASES = {model_id[:-9]: model_id for model_id in MODELS if model_id[-8:].isdigit()}


def find_model(model_id: str) -> SimulatedModel | None:
    """The model of that id or alias; `None` where it is unknown or retired."""
    return MODELS.get(_ALIASES.get(model_id, model_id))
