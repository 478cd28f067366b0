"""Agents ranked by the words of a task (BM25), in a unit that means something, and what that says of how sure one is.

Evidence is counted in *rare words*: 1 is a word of the task that only one agent has, once in a description of usual
length. So it says the same of five agents and of five hundred, and what else speaks for an agent can be added to it.
Nothing here does I/O.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from claude_force.base.records import AgentDefinition
from claude_force.base.words import written_words

NAME_WEIGHT = 0.5
"""Of a word in the name, beside what it weighs as one of the description: `reviewer` says more there than in a text."""
BODY_WEIGHT = 0.5
"""Of a word in the instructions, against one in name, description, keywords and examples."""
MAX_CHARS = 20_000
"""Of the instructions, and of a task, that are looked at."""
ROOT_LETTERS = 6
"""By which words meet that have no ending in common: `migrate` and `migration`, `optimise` and `optimization`."""
_K1, _B = 1.2, 0.75  # of BM25, as Robertson and Zaragoza (2009) recommend them

HALF_AT = 0.85
"""The evidence at which it is as likely as not that an agent fits."""
STEEPNESS = 5
"""How fast it gets more likely with more evidence, and how much the best agent is preferred to the next."""


class Index:
    """The words of some agents."""

    def __init__(self, agents: Sequence[AgentDefinition]) -> None:
        self._agents = len(agents)
        self._evidence: dict[str, dict[int, float]] = {}
        """What a word says for which agent, by its root."""
        fields = [(_roots_of(_head(agent)), _roots_of(agent.prompt)) for agent in agents]
        lengths = [max(1.0, sum(map(len, field)) / len(agents)) for field in zip(*fields, strict=True)]
        frequencies = [_frequencies(roots, lengths) for roots in fields]
        self._add([{root: often * (_K1 + 1) / (often + _K1) for root, often in each.items()} for each in frequencies])
        self._add([dict.fromkeys(_roots_of(agent.name), NAME_WEIGHT) for agent in agents])

    def _add(self, weights: Sequence[Mapping[str, float]]) -> None:
        """Count what each agent's words weigh, by how rare they are among these."""
        agents_of: dict[str, list[int]] = {}
        for number, roots in enumerate(weights):
            for root in roots:
                agents_of.setdefault(root, []).append(number)
        for root, numbers in agents_of.items():
            rarity = self._rarity(len(numbers)) / self._rarity(1)
            found = self._evidence.setdefault(root, {})
            for number in numbers:
                found[number] = found.get(number, 0.0) + rarity * weights[number][root]

    def evidence(self, task: str) -> list[float]:
        """How much speaks for each agent."""
        total = [0.0] * self._agents
        for root in _task_roots(task):
            for number, evidence in self._evidence.get(root, {}).items():
                total[number] += evidence
        return total

    def words(self, task: str, number: int) -> dict[str, float]:
        """The words of the task that speak for this agent, as they were written, and how much; the most first."""
        found = {
            word: evidence
            for root, word in _task_roots(task).items()
            if (evidence := self._evidence.get(root, {}).get(number))
        }
        return dict(sorted(found.items(), key=lambda pair: -pair[1]))

    def _rarity(self, count: int) -> float:
        return math.log(1 + (self._agents - count + 0.5) / (count + 0.5))


def confidences(evidence: Sequence[float], *, half_at: float = HALF_AT) -> list[float]:
    """How likely each agent is the right one, from 0 to 1. They add up to how likely any of them is.

    That depends on the best evidence alone: 0.5 at `half_at`. It is shared out by how much speaks for each.

    Example:
        >>> [round(each, 2) for each in confidences([2.0, 1.0, 0.0])]
        [0.96, 0.03, 0.0]
        >>> sum(confidences([HALF_AT, HALF_AT]))
        0.5
    """
    best = max(evidence, default=0.0)
    if best <= 0:
        return [0.0] * len(evidence)
    any_fits = 1 / (1 + (half_at / best) ** STEEPNESS)
    shares = [(max(0.0, each) / best) ** STEEPNESS for each in evidence]
    whole = sum(shares)
    return [any_fits * share / whole for share in shares]


def _head(agent: AgentDefinition) -> str:
    """What says when to call it."""
    return "\n".join((agent.name, agent.description, *agent.keywords, *agent.examples))


def _roots(text: str) -> Iterator[tuple[str, str]]:
    """Each word's root, and the word; numbers say nothing of who should do a task."""
    for word, form in written_words(text[:MAX_CHARS]):
        if not form.isdigit():
            yield form[:ROOT_LETTERS], word


def _roots_of(text: str) -> list[str]:
    return [root for root, _ in _roots(text)]


def _task_roots(task: str) -> dict[str, str]:
    """Each root of a task once: who says a thing twice does not want it twice as much."""
    found: dict[str, str] = {}
    for root, word in _roots(task):
        found.setdefault(root, word)
    return found


def _frequencies(fields: Sequence[Sequence[str]], lengths: Sequence[float]) -> dict[str, float]:
    """How often an agent has each root, in all fields: weighed, and less in a field that is longer than others'."""
    found: dict[str, float] = {}
    for field, length, weight in zip(fields, lengths, (1.0, BODY_WEIGHT), strict=True):
        each = weight / (1 - _B + _B * len(field) / length)
        for root, count in Counter(field).items():
            found[root] = found.get(root, 0.0) + each * count
    return found
