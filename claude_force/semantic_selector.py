"""Which agent fits a task: `SemanticSelector`, which ranks a project's agents, says why, and can say that none does.

Three things speak for an agent, and are added up in one unit (`selection.ranking`):

- words that the task shares with its name, description, keywords, examples and instructions, the rare ones the more;
- meaning, where a model is at hand (`selection.weights`): how near the description is to the task;
- history: that this agent did something like it before, and did it well. `AgentMemory` knows, where memory is on.

`AgentMatch.confidence` is how likely an agent is the right one; those of all agents add up to how likely any is.
"""

import functools
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from claude_force.base.config import claude_folder, load_settings, project_of, user_folder
from claude_force.base.errors import AgentMemoryError, ConfigError, InputError, TaskError
from claude_force.base.records import AgentDefinition
from claude_force.library.agents import not_found
from claude_force.library.project import agent_library, memory_file
from claude_force.selection.ranking import HALF_AT, MAX_CHARS, Index, confidences

if TYPE_CHECKING:
    from collections.abc import Sequence

    from claude_force.agent_memory import AgentMemory, Session
    from claude_force.library.agents import AgentLibrary
    from claude_force.selection.meaning import Meaning
    from claude_force.selection.vectors import Array
    from claude_force.stores.seal import Sealer

RECENT_S = 1.0
"""For so long the agents are taken to be as they were: looking at the disk takes longer than all else."""
HISTORY_WEIGHT = 2.0
"""Evidence of the very same task, done well before: two words that only this agent has."""
MEANING_WEIGHT = 6.0
"""Evidence of a description that means what the task means (a cosine of 1, where 0.4 is near)."""
UNRELATED = 0.08
"""The cosine of texts that have nothing to do with each other: with a model, so much more is no evidence."""
MOST_SESSIONS = 20
"""Past tasks that are looked at."""
NONE_FITS = 0.5
"""Below, it is more likely than not that no agent fits."""
MOST_WORDS = 5
"""In a reason."""


class AgentMatch(msgspec.Struct, frozen=True, kw_only=True):
    """An agent for a task."""

    agent_name: str
    confidence: float
    """How likely it is the right one, from 0 to 1."""
    reasons: tuple[str, ...]
    """What speaks for it; the words first."""


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """Why an agent is where it is. Evidence is in words that no other agent has; the parts add up to the whole."""

    agent_name: str
    confidence: float
    reasons: tuple[str, ...]
    rank: int
    """Its place, from 1."""
    agents: int
    """Of so many."""
    any_fits: float
    """How likely any of them fits; below 0.5 none is selected."""
    evidence: float
    words: Mapping[str, float]
    """What each word of the task says for it."""
    meaning: float | None
    """What the meaning of its description says for it; `None` where no model is at hand."""
    history: float
    """What its past says for it."""


class SemanticSelector:
    """Ranks the agents of a project, or those that are given. Safe for threads.

    `config_path` and `project_dir` decide which agents apply, as for an orchestrator; `agents` are others instead.
    `semantic=False` looks at no model, `model` is the folder of one, else it is looked for. `memory` has past tasks,
    by default the project's; `learns=False` looks at none. What a simulator did counts with `simulated=True` only. An
    edited agent file is seen within a second.

    Example:
        >>> from claude_force import SemanticSelector
        >>> selector = SemanticSelector(semantic=False)
        >>> [match] = selector.select_agents("our tests are flaky, and coverage is low", top_k=1)
        >>> match.agent_name, match.reasons
        ('test-writer', ('it has the words coverage, flaky, tests',))
        >>> selector.select_agents("What's the weather in Lisbon?")
        []
    """

    def __init__(
        self,
        config_path: str | os.PathLike[str] | None = None,
        *,
        project_dir: str | os.PathLike[str] | None = None,
        agents: Iterable[AgentDefinition] | None = None,
        semantic: bool = True,
        model: str | os.PathLike[str] | None = None,
        learns: bool = True,
        memory: "AgentMemory | None" = None,
        simulated: bool = False,
    ) -> None:
        self._start = Path(project_dir) if project_dir is not None else project_of(config_path)
        self._config_path = config_path
        self._given = None if agents is None else tuple(agents)
        self._semantic = semantic
        self._model = None if model is None else Path(model)
        self._learns = learns
        self._memory = memory
        self._simulated = simulated
        self._ready: _Ready | None = None
        self._has_complained = False

    # ------------------------------------------------------------ asking

    def select_agents(self, task: str, top_k: int = 3, *, min_confidence: float | None = None) -> list[AgentMatch]:
        """The agents that fit best, the best first; none where it is more likely than not that none fits.

        With `min_confidence`, each that is at least so likely the right one, however likely it is that none fits; 0
        gives all for which anything speaks. Raises `InputError`.
        """
        if top_k < 1:
            raise InputError(f"top_k is {top_k!r}; give 1 or more")
        if min_confidence is not None and not 0 <= min_confidence <= 1:
            raise InputError(f"min_confidence is {min_confidence!r}; give a number from 0 to 1")
        ranking = self._rank(task)
        if min_confidence is None and ranking.any_fits < NONE_FITS:
            return []
        least = min_confidence or 0.0
        chosen = [number for number in ranking.order if ranking.evidence[number] > 0][:top_k]
        return [
            AgentMatch(
                agent_name=ranking.agents[number].name,
                confidence=ranking.confidence[number],
                reasons=ranking.reasons(number),
            )
            for number in chosen
            if ranking.confidence[number] >= least
        ]

    def explain_selection(self, task: str, agent_name: str) -> Explanation:
        """Why this agent is where it is. Raises `InputError`, as where there is no agent of that name."""
        ranking = self._rank(task)
        names = [agent.name for agent in ranking.agents]
        if agent_name not in names:
            raise not_found(agent_name, names)
        number = names.index(agent_name)
        return Explanation(
            agent_name=agent_name,
            confidence=ranking.confidence[number],
            reasons=ranking.reasons(number),
            rank=ranking.order.index(number) + 1,
            agents=len(names),
            any_fits=ranking.any_fits,
            evidence=ranking.evidence[number],
            words=ranking.words(number),
            meaning=None if ranking.meaning is None else ranking.meaning[number],
            history=ranking.history[number],
        )

    @property
    def method(self) -> str:
        """What the ranking goes by, and what it would need to know more; for a person."""
        meaning = self._meaning
        if meaning is None:
            return "words"
        return f"words and meaning: {meaning.how}" if meaning.vectors else f"words alone: {meaning.how}"

    # ------------------------------------------------------------ how

    def _rank(self, task: str) -> "_Ranking":
        if not isinstance(task, str):
            raise TaskError(f"task is {type(task).__name__}; give a str")
        if not task.strip():
            raise TaskError("the task is empty; say what is to be done")
        ready, sessions = self._looked_at(), self._sessions(task)
        past = [sessions.get(agent.name, []) for agent in ready.agents]
        meaning = None
        if ready.vectors is not None and self._meaning is not None and self._meaning.vectors is not None:
            cosines = ready.vectors @ self._meaning.vectors.one(task[:MAX_CHARS])
            meaning = [MEANING_WEIGHT * max(0.0, float(cosine)) for cosine in cosines]
        return _Ranking(task, ready, meaning, past)

    def _looked_at(self) -> "_Ready":
        """The agents as they are now. Two threads may both look: one of the two is kept, and either is right."""
        ready, now_s = self._ready, time.monotonic()
        if ready is not None and (self._given is not None or now_s - ready.looked_at_s < RECENT_S):
            return ready
        agents = self._given if self._given is not None else tuple(self._library.load_all())
        if ready is not None and agents == ready.agents:
            ready = msgspec.structs.replace(ready, looked_at_s=now_s)
        else:
            vectors = self._meaning.vectors if self._meaning is not None and agents else None
            ready = _Ready(agents, Index(agents), vectors.many([*map(_text, agents)]) if vectors else None, now_s)
        self._ready = ready
        return ready

    def _sessions(self, task: str) -> "dict[str, list[Session]]":
        """What was done that is like the task, by agent, the most alike first."""
        if not self._learns:
            return {}
        if self._memory is None:
            path = memory_file(self._start)
            if not os.path.lexists(path):
                return {}
            from claude_force.agent_memory import AgentMemory  # noqa: PLC0415 - most projects remember nothing

            self._memory = AgentMemory(path)
        found: dict[str, list[Session]] = {}
        try:
            sessions = self._memory.get_similar_sessions(None, task[:MAX_CHARS], limit=MOST_SESSIONS)
        except (AgentMemoryError, ConfigError) as error:
            self._complain(error)
            return {}
        for session in sessions:
            if self._simulated or session.metadata.get("simulated") is not True:
                found.setdefault(session.agent_name, []).append(session)
        return found

    def _complain(self, error: Exception) -> None:
        if not self._has_complained:
            import logging  # noqa: PLC0415 - 10 ms that only a failure pays

            self._has_complained = True
            logging.getLogger("claude_force.selection").warning("agents are chosen without their past: %s", error)

    @functools.cached_property
    def _library(self) -> "AgentLibrary":
        return agent_library(load_settings(self._config_path, start=self._start), start=self._start)

    @functools.cached_property
    def _meaning(self) -> "Meaning | None":
        """What is known of meaning; `None` where nobody asks. Raises `InputError` where the model was given."""
        if not self._semantic:
            return None
        from claude_force.selection.meaning import find_meaning  # noqa: PLC0415 - not where words are enough

        folder = claude_folder(self._start) or user_folder()
        meaning = find_meaning(self._model, kept_in=folder / "selection" / "agents.npy", sealer=_sealer)
        if self._model is not None and meaning.vectors is None:
            raise InputError(meaning.how)
        return meaning


class _Ready(msgspec.Struct, frozen=True):
    """The agents, ready to be asked about."""

    agents: tuple[AgentDefinition, ...]
    index: Index
    vectors: "Array | None"
    looked_at_s: float


class _Ranking:
    """All agents, for one task."""

    def __init__(
        self, task: str, ready: _Ready, meaning: list[float] | None, past: "Sequence[Sequence[Session]]"
    ) -> None:
        self.agents, self.meaning = ready.agents, meaning
        self.history = [HISTORY_WEIGHT * _success(sessions) for sessions in past]
        parts = (ready.index.evidence(task), self.history, meaning or [0.0] * len(past))
        self.evidence = [sum(each) for each in zip(*parts, strict=True)]
        half_at = HALF_AT if meaning is None else HALF_AT + MEANING_WEIGHT * UNRELATED
        self.confidence = confidences(self.evidence, half_at=half_at)
        self.any_fits = sum(self.confidence)
        self.order = sorted(range(len(past)), key=lambda number: -self.evidence[number])
        self._task, self._index, self._past = task, ready.index, past

    def words(self, number: int) -> dict[str, float]:
        """The words that speak for an agent."""
        return self._index.words(self._task, number)

    def reasons(self, number: int) -> tuple[str, ...]:
        """What speaks for an agent, for a person."""
        found = []
        if words := list(self.words(number)):
            more = f", and {len(words) - MOST_WORDS} more" if len(words) > MOST_WORDS else ""
            found.append(f"it has the words {', '.join(words[:MOST_WORDS])}{more}")
        if self.meaning and (cosine := self.meaning[number] / MEANING_WEIGHT) > UNRELATED:
            found.append(f"its description is near in meaning ({cosine:.2f})")
        if self.history[number]:
            best = next(session for session in self._past[number] if session.success)
            found.append(f"it did well what is alike ({best.relevance or 0:.2f}): {_beginning(best.task)}")
        return tuple(found)


def _success(sessions: "Sequence[Session]") -> float:
    """What past tasks say for an agent, from 0 to 1: how alike the best one is, less where others have failed."""
    well = [session.relevance or 0.0 for session in sessions if session.success]
    if not well:
        return 0.0
    return max(well) * sum(well) / sum(session.relevance or 0.0 for session in sessions)


def _text(agent: AgentDefinition) -> str:
    """What says what an agent is for, as a sentence has it."""
    return f"{agent.name.replace('-', ' ')}: {agent.description}"


def _beginning(text: str) -> str:
    line = " ".join(text[:200].split())
    return f"{line[:59]}\N{HORIZONTAL ELLIPSIS}" if len(line) > 60 else line  # noqa: PLR2004 - enough to know it again


def _sealer() -> "Sealer":
    from claude_force.stores.seal import Sealer  # noqa: PLC0415 - only vectors are signed
    from claude_force.stores.secret import own_secrets  # noqa: PLC0415

    return Sealer(own_secrets(os.environ))
