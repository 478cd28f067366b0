"""Which model a task needs: a score from 0 to 1 with its reasons, and the rung of a ladder that it reaches. Pure.

The verb says what has to be done, and nouns only what it is about: to mend a typo in an architecture page is a trivial
edit. So plain work, such as a translation, starts low and hardly listens to learned words. A task of which nothing is
known starts in the middle: a little too dear is better than an answer that is found to be wrong later.

It reads English words, and no more than the beginning and the end of a long text. In other languages it goes by size
and agent alone. How often it is right: `benchmarks/routing`.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from claude_force.base.models import TIERS, Tier

if TYPE_CHECKING:
    from claude_force.base.records import Effort


class Rung(NamedTuple):
    """A model with an effort, and the score from which on it is good enough."""

    score: float
    tier: Tier
    effort: "Effort"


# Two efforts of a tier before the next one: the dearer half of its tasks is what a little more thinking is for.
LADDER = (
    Rung(0.0, "haiku", "low"),
    Rung(0.2, "haiku", "medium"),
    Rung(0.3, "sonnet", "medium"),
    Rung(0.45, "sonnet", "high"),
    Rung(0.6, "opus", "medium"),
    Rung(0.75, "opus", "high"),
    Rung(0.95, "fable", "high"),
)


class PastAnswers(NamedTuple):
    """How an agent's answers on this kind of task came out, by one tier."""

    executions: int
    unusable: int
    """Empty, or not as their schema says: a model that was too weak. What the server or the user ended is not here."""


class TaskTraits(msgspec.Struct, frozen=True, kw_only=True):
    """What the router goes by."""

    text: str
    file_chars: tuple[int, ...] = ()
    """The length of each file, or other material."""
    max_tokens: int | None = None
    """Of the answer, where the call says."""
    agent_name: str = ""
    agent_effort: "Effort | None" = None
    """As the agent's file says."""
    history: Mapping[Tier, PastAnswers] = msgspec.field(default_factory=dict)


class Routing(NamedTuple):
    """A rung, and why."""

    rung: Rung
    score: float
    reasons: tuple[str, ...]


def route(traits: TaskTraits, *, min_tier: Tier, max_tier: Tier) -> Routing:
    """The cheapest rung that is good enough, between these tiers."""
    points = list(_points(traits))
    score = round(min(1.0, max(0.0, _ORDINARY + sum(point.value for point in points))), 2)
    reasons = [point.reason for point in sorted(points, key=lambda point: -abs(point.value))]
    reasons = reasons or ["ordinary work, as far as its words say"]
    allowed = [rung for rung in LADDER if TIERS.index(min_tier) <= TIERS.index(rung.tier) <= TIERS.index(max_tier)]
    wanted, rung = _reached(score, LADDER), _reached(score, allowed)
    if wanted.tier != rung.tier and wanted < rung:
        reasons.insert(0, f"{wanted.tier} would do, but {min_tier} is the least that is allowed")
    elif rung.tier != wanted.tier:
        reasons.insert(0, f"{wanted.tier} would be better, but {max_tier} is the most that is allowed")
    while (past := traits.history.get(rung.tier)) and _was_too_weak(past) and rung.tier != max_tier:
        reasons.insert(0, f"{past.unusable} of its last {past.executions} answers by {rung.tier} could not be used")
        rung = next(higher for higher in allowed if TIERS.index(higher.tier) > TIERS.index(rung.tier))
    return Routing(rung, score, tuple(reasons))


def _reached(score: float, rungs: Iterable[Rung]) -> Rung:
    """The highest rung that this score reaches, else the lowest."""
    lowest, *others = rungs
    return [lowest, *(rung for rung in others if rung.score <= score)][-1]


# One unusable answer of a few is bad luck. Good answers are no reason to go down: that an answer was whole does not say
# that it was right.
_ENOUGH_ANSWERS, _TOO_OFTEN = 5, 0.2


def _was_too_weak(past: PastAnswers) -> bool:
    return past.executions >= _ENOUGH_ANSWERS and past.unusable > _TOO_OFTEN * past.executions


# ---------------------------------------------------------------- the score


class _Point(NamedTuple):
    value: float
    reason: str


def _words(text: str) -> re.Pattern[str]:
    """One pattern for all of these: `design*` is design, designs and designing; `root_cause` may have a hyphen."""
    return re.compile(rf"\b(?:{'|'.join(text.split()).replace('*', '[a-z]*').replace('_', '[ -]')})\b")


# What follows from its material, so that a mistake is seen at once. It counts only as the verb of the task.
_POLITE = r"(?:(?:please|just|now|can|could|would|you|quickly|kindly|let us|let's) )*"
_PLAIN_ACT = re.compile(
    _POLITE
    + _words(
        """rename* reformat* format indent* sort translat* transcribe transliterate summari[sz]e* list extract count
        copy tag label classify categori[sz]e shorten rephrase paraphrase proofread capitali[sz]e lowercase uppercase
        bump correct pull print quote spell tidy deduplicate give_me give_each give_every"""
    ).pattern
)
# These are plain unless anything hard, or a condition, stands in the task: much can be replaced, a database, too.
_EDIT = re.compile(_POLITE + _words("convert remove delete replace change turn put append insert").pattern)
# Things that are as plain whatever is done to them; one of them has to be what the task begins with.
_PLAIN_THING = _words(
    """typos? misspell* spelling grammar whitespace newlines? indentation punctuation commit_message changelog
    docstrings? type_hints? unused_imports? version_number copyright licen[cs]e_header alt_texts? slug"""
)
_SHORT_ANSWER = _words("one_word one_line one_sentence single_word yes_or_no briefly")
_FACT = re.compile(r"(?:what (?:is|are|does|do)|which|when|who|where|how (?:do|can) (?:i|you)|do|does|is|are)\b")
# Where a wrong answer is dear: causes that nobody knows, choices that last, adversaries, races, proofs.
_HARD_ACT = _words(
    """architect* design redesign* trade_offs? strateg* roadmap weigh decide choose evaluate judge assess
    root_causes? diagnos* debug investigat* reproduce intermittent* sometimes flaky corrupt* outages? post_mortem*
    race races race_conditions? deadlock* livelock* starv* interleav* segfault* segmentation_faults?
    memory_leaks? undefined_behaviou?r threat* attack* vulnerab* exploit* escape* harden* audit* take_over
    prove proof proofs verify derive invent zero_downtime without_downtime migrate migration migrations"""
)
# What such tasks are often about; alone it says little.
_HARD_MATTER = _words(
    """security authentication cryptograph* untrusted sandbox* concurren* locks? lock_free thread_safe* memory
    consisten* consensus distributed replicat* failover partition* idempoten* isolation transaction* event_sourcing
    exactly_once offline downtime monolith microservices? multi_tenant scal* latency throughput bottlenecks?
    correctness invariants? complexity algorithm* protocol* backward* compatib* legacy production plan hypothes*
    experiments? regress* incident*"""
)
_DOUBT = re.compile(
    r"(?:why|should we|is (?:it|this|that) (?:safe|correct|sound)|can (?:the|this|an?|it|we)\b|how should)"
)
_CONDITION = _words(
    """without while must never nobody cannot keep keeping unless although until both at_least at_most but so_that
    in_use survives? guarantee*"""
)
_FIRST_WORDS = 6
_SHORT_CHARS = 100
# The beginning and the end of a task say what is wanted; what lies between is most often pasted.
_READ_CHARS = 600
_LONG_TASK_CHARS = 1_500
_LARGE_CHARS = 100_000
_LONG_ANSWER_TOKENS = 20_000
_ORDINARY = 0.4
_EFFORTS: Mapping[str, float] = {"low": -0.15, "medium": 0.0, "high": 0.1, "xhigh": 0.2, "max": 0.25}


def _points(traits: TaskTraits) -> Iterator[_Point]:
    """What speaks for a dearer model, and what against it; all of it together is the score."""
    text = traits.text.strip()
    read = (text if len(text) <= 2 * _READ_CHARS else f"{text[:_READ_CHARS]}\n{text[-_READ_CHARS:]}").lower()
    start = " ".join(read.split(maxsplit=_FIRST_WORDS)[:_FIRST_WORDS])
    acts = tuple(dict.fromkeys(_HARD_ACT.findall(read)))
    matter = tuple(dict.fromkeys(_HARD_MATTER.findall(read)))
    conditions = tuple(dict.fromkeys(_CONDITION.findall(read)))
    plain = _PLAIN_ACT.match(start) or _plain_thing(start)
    if not (plain or acts or matter or conditions):
        plain = _EDIT.match(start)
    doubt = _DOUBT.match(start)
    if plain:
        yield _Point(-0.25, f"plain work: {plain[0]!r}")
    elif short := _SHORT_ANSWER.search(read):
        yield _Point(-0.2, f"a short answer: {short[0]!r}")
    elif not (traits.file_chars or acts or matter) and len(text) < _SHORT_CHARS and _FACT.match(start):
        yield _Point(-0.25, "a short question")
    share = 0.25 if plain else 1.0
    if acts:
        yield _Point(share * min(0.45, 0.15 + 0.1 * len(acts)), f"hard work: {_listed(acts)}")
    if matter:
        yield _Point(share * min(0.2, 0.1 * len(matter)), f"hard matter: {_listed(matter)}")
    if doubt and not plain:
        yield _Point(0.2, f"asks for a judgement: {doubt[0]!r}")
    if conditions and not plain:
        yield _Point(min(0.15, 0.05 * len(conditions)), f"conditions: {_listed(conditions)}")
    if not plain:
        yield from _size_points(traits, read)
    yield from _agent_points(traits)


def _plain_thing(start: str) -> re.Match[str] | None:
    """What a task begins with, unless hard work comes first: to design a spelling checker is no spelling."""
    plain, hard = _PLAIN_THING.search(start), _HARD_ACT.search(start)
    return plain if plain and not (hard and hard.start() < plain.start()) else None


def _size_points(traits: TaskTraits, read: str) -> Iterator[_Point]:
    """How much has to be seen together. Plain work is as plain on a hundred pages."""
    if len(traits.text) > _LONG_TASK_CHARS:
        yield _Point(0.1, f"a task of {len(traits.text):,} characters")
    files, chars = len(traits.file_chars), sum(traits.file_chars)
    if files > 1:
        yield _Point(min(0.15, 0.05 * (files - 1)), f"{files} files")
    if chars > _LARGE_CHARS:
        yield _Point(0.05, f"{chars:,} characters of material")
    if traits.max_tokens and traits.max_tokens > _LONG_ANSWER_TOKENS:
        yield _Point(0.1, f"an answer of up to {traits.max_tokens:,} tokens")
    if "```" in read or "traceback (most recent call last)" in read:
        yield _Point(0.05, "code in the task")


def _agent_points(traits: TaskTraits) -> Iterator[_Point]:
    """What its author thought that this agent needs."""
    name = traits.agent_name.lower().replace("-", " ").replace("_", " ")
    if found := _HARD_ACT.search(name) or _HARD_MATTER.search(name):
        yield _Point(0.1, f"an agent for hard matter: {found[0]!r}")
    if traits.agent_effort and (value := _EFFORTS[traits.agent_effort]):
        yield _Point(value, f"the agent's effort is {traits.agent_effort}")


def _listed(words: tuple[str, ...]) -> str:
    return ", ".join(words[:3]) + (", ..." if len(words) > 3 else "")  # noqa: PLR2004 - as many as one reads
