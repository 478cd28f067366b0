"""What choosing skills saves: a task's prompt with all skills of its agent, with those that it needs, and with none."""

from typing import TYPE_CHECKING, Any

import msgspec

from claude_force.base.briefing import Briefing, SkillChoice
from claude_force.engine.briefing import main_skill, skill_block
from claude_force.engine.key import request_key
from claude_force.engine.request import build_request
from claude_force.engine.skills import choose
from claude_force.insight.estimate import Counts, estimated_tokens

if TYPE_CHECKING:
    from claude_force.base.records import AgentDefinition, Request
    from claude_force.engine.parts import Parts
    from claude_force.engine.request import Task


class SkillsReport(msgspec.Struct, frozen=True, kw_only=True):
    """The skills that an agent's file names, for one task. Tokens are of whole prompts but where they are a skill's."""

    agent: str
    choices: tuple[SkillChoice, ...]
    skill_tokens: dict[str, int]
    """What each adds to the prompt, in full."""
    all_tokens: int
    """With all of them in full, as `preload_skills` has it."""
    chosen_tokens: int
    """With all named, and those that the task needs in full."""
    bare_tokens: int
    """Without any."""
    is_counted: bool
    """Whether the API has counted them; else they are estimated."""
    warnings: tuple[str, ...]

    @property
    def saved_tokens(self) -> int:
        """Below 0 where all are needed, as naming them has its tokens, too."""
        return self.all_tokens - self.chosen_tokens

    @property
    def saved_share(self) -> float:
        """Of the prompt with all skills."""
        return self.saved_tokens / self.all_tokens

    def to_dict(self) -> dict[str, Any]:
        """All facts, ready for JSON."""
        return {
            "agent": self.agent,
            "skills": [
                {"name": choice.name, "chosen": choice.is_chosen, "tokens": self.skill_tokens[choice.name]}
                | {"score": choice.score, "reasons": list(choice.reasons)}
                for choice in self.choices
            ],
            "all_tokens": self.all_tokens,
            "chosen_tokens": self.chosen_tokens,
            "without_tokens": self.bare_tokens,
            "saved_tokens": self.saved_tokens,
            "saved_share": round(self.saved_share, 4),
            "counted": self.is_counted,
        }


class Comparison(msgspec.Struct, frozen=True):
    """The prompts that a report compares, ready to be counted."""

    choices: tuple[SkillChoice, ...]
    requests: dict[str, "Request"]
    """With all, the chosen ones, none, and each skill alone, under its name after a `+`."""
    warnings: tuple[str, ...]

    def keyed(self) -> "dict[str, Request]":
        """The requests by their keys, as they are counted."""
        return {request_key(request): request for request in self.requests.values()}

    def report(self, agent: str, counts: Counts) -> SkillsReport:
        """By what the API has counted, where it has."""
        tokens = {
            name: counts.get(request_key(request), estimated_tokens(request)) for name, request in self.requests.items()
        }
        return SkillsReport(
            agent=agent,
            choices=self.choices,
            skill_tokens={choice.name: tokens[f"+{choice.name}"] - tokens["none"] for choice in self.choices},
            all_tokens=tokens["all"],
            chosen_tokens=tokens["chosen"],
            bare_tokens=tokens["none"],
            is_counted=bool(counts),
            warnings=self.warnings,
        )


def compare(parts: "Parts", asked: "Task", agent: "AgentDefinition") -> Comparison:
    """What a call for this task would send, and what else it could."""
    found = agent.briefing or Briefing()
    none = msgspec.structs.replace(agent, briefing=msgspec.structs.replace(found, skills=()))
    progressive, preloading = (
        msgspec.structs.replace(parts.config, preload_skills=preloads) for preloads in (False, True)
    )
    chosen = build_request(asked, agent, progressive, parts.aliases)
    bare = build_request(asked, none, progressive, parts.aliases).request
    requests = {
        "all": build_request(asked, agent, preloading, parts.aliases).request,
        "chosen": chosen.request,
        "none": bare,
        **{
            f"+{skill.name}": msgspec.structs.replace(bare, skills=(*bare.skills, skill_block(skill)))
            for skill in found.skills
        },
    }
    choices = choose(found.skills, asked.text, asked.materials, main=main_skill(agent))
    return Comparison(tuple(choices), requests, chosen.warnings)
