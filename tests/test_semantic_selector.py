"""Which agent fits a task: ranked, with reasons, and none where none does."""

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from claude_force import AgentDefinition, AgentMemory, AgentNotFoundError, InputError, SemanticSelector, TaskError

if TYPE_CHECKING:
    from claude_force import AgentOrchestrator

SECRET = "of a test, and nothing else"


def agent(name: str, description: str, prompt: str = "Do it.") -> AgentDefinition:
    """One of a few."""
    return AgentDefinition(name=name, description=description, prompt=prompt)


CREW = (
    agent("sql-tuner", "Makes slow database queries fast: indexes, EXPLAIN plans, migrations."),
    agent("translator", "Translates texts and user interfaces between languages.", "Keep placeholders and glossaries."),
    agent("css-expert", "Styles web pages: layout, colours, responsive grids.", "You know flexbox and specificity."),
    agent("reviewer", "Says what is wrong with a change before it is merged.", "Look at errors, tests and names."),
)


def selector(memory: AgentMemory | None = None, *, simulated: bool = False) -> SemanticSelector:
    """By words, and the memory that is given."""
    return SemanticSelector(agents=CREW, semantic=False, learns=memory is not None, memory=memory, simulated=simulated)


@pytest.mark.parametrize(
    ("task", "name"),
    [
        ("this query takes 40 seconds", "sql-tuner"),
        ("Migrating the orders table", "sql-tuner"),  # `migrations`
        ("a translation into Polish, please", "translator"),  # `translates`
        ("FlexboxLayout breaks on phones", "css-expert"),  # in the instructions, and in camelCase
        ("review it", "reviewer"),  # in the name alone
    ],
)
def test_words_find_the_agent(task: str, name: str) -> None:
    """In any form, wherever the agent has them."""
    assert selector().select_agents(task)[0].agent_name == name


def test_a_name_says_more_than_a_mention() -> None:
    """A word that all agents use still leads to the one that is called so; numbers lead to nobody."""
    crew = [
        agent(name, f"Is a {name} for 17 years.", "Review, test and translate with care, in 4 steps.")
        for name in ("reviewer", "tester", "translator")
    ]
    found = SemanticSelector(agents=crew, semantic=False, learns=False)
    for task, name in (("Review it", "reviewer"), ("Test it", "tester"), ("Translate it", "translator")):
        [match] = found.select_agents(task, 1, min_confidence=0.1)
        assert match.agent_name == name
    assert found.select_agents("17 and 4", min_confidence=0) == []


def test_confidence_is_shared() -> None:
    """The likeliest first; together no more than 1, and each reason says which words it was."""
    matches = selector().select_agents("Review the database queries of this change", top_k=4)
    assert [match.agent_name for match in matches] == ["reviewer", "sql-tuner"]
    assert 0.5 < sum(match.confidence for match in matches) <= 1
    assert matches[0].confidence > matches[1].confidence > 0
    assert matches[0].reasons == ("it has the words review, change",)


@pytest.mark.parametrize("task", ["What's the weather in Lisbon?", "hi", "17 + 4", "asdf qwer", "\U0001f600"])
def test_none_fits(task: str) -> None:
    """Then there is none, rather than the least wrong one."""
    assert selector().select_agents(task) == []


def test_the_nearest_where_none_fits() -> None:
    """`min_confidence=0` gives all for which anything speaks; a bound of one's own is kept to."""
    assert selector().select_agents("The tests of Lisbon") == []
    [nearest] = selector().select_agents("The tests of Lisbon", min_confidence=0)
    assert nearest.agent_name == "reviewer"
    assert nearest.confidence < 0.5
    assert selector().select_agents("The tests of Lisbon", min_confidence=nearest.confidence) == [nearest]
    assert selector().select_agents("The tests of Lisbon", min_confidence=nearest.confidence + 0.01) == []


def test_keywords_and_examples(project: Path) -> None:
    """Words that a user adds to a file, or its config, lead to the agent; an edited file is seen."""
    task = "the Hermes sync is stuck"
    found = SemanticSelector(project_dir=project, semantic=False)
    assert found.select_agents(task) == []
    path = project / ".claude/agents/reviewer.md"
    path.write_text("---\nname: reviewer\nexamples:\n  - Hermes sync, again\n---\nYou review.\n")
    assert SemanticSelector(project_dir=project, semantic=False).select_agents(task)[0].agent_name == "reviewer"
    path.write_text("---\nname: reviewer\n---\nYou review code.\n")
    (project / ".claude/claude.json").write_text(
        '{"agents": {"reviewer": {"path": "agents/reviewer.md", "keywords": ["hermes"]}}}'
    )
    assert SemanticSelector(project_dir=project, semantic=False).select_agents(task)[0].agent_name == "reviewer"


def test_an_explanation_adds_up() -> None:
    """Every part of the evidence is named, and the parts are the whole."""
    found = selector().explain_selection("Review the database queries of this change", "sql-tuner")
    assert (found.rank, found.agents, set(found.words)) == (2, 4, {"database", "queries"})
    assert found.evidence == pytest.approx(sum(found.words.values()) + found.history)
    assert found.meaning is None
    with pytest.raises(AgentNotFoundError, match="'reviewer'"):
        selector().explain_selection("Review it", "reviewr")


def test_what_cannot_be_asked() -> None:
    """Said at once."""
    with pytest.raises(TaskError):
        selector().select_agents(" \n")
    with pytest.raises(TaskError):
        selector().select_agents(3)  # type: ignore[arg-type] # as somebody may
    with pytest.raises(InputError, match="top_k"):
        selector().select_agents("Review", 0)
    with pytest.raises(InputError, match="min_confidence"):
        selector().select_agents("Review", min_confidence=1.5)
    assert SemanticSelector(agents=(), semantic=False, learns=False).select_agents("Review it") == []


# ------------------------------------------------------------ history


@pytest.fixture
def memory(tmp_path: Path) -> AgentMemory:
    """An empty one."""
    return AgentMemory(tmp_path / "agent_memory.db", secret=SECRET)


def test_what_was_done_well_changes_the_ranking(memory: AgentMemory) -> None:
    """A project's own words are learned from what its agents did, and the reason names the past task."""
    task = "Bring the Hermes leaflet for Acme up to date"
    found = selector(memory=memory)
    assert found.select_agents(task) == []
    memory.store_session("translator", "Bring the Hermes leaflet for Globex up to date", "Done.", success=True)
    [match] = found.select_agents(task)
    assert match.agent_name == "translator"
    assert "Hermes leaflet for Globex" in match.reasons[-1]
    assert found.explain_selection(task, "translator").history > 0
    assert selector().select_agents(task) == []


def test_failures_speak_against_it(memory: AgentMemory) -> None:
    """Who has failed more often has less to show; failures alone show nothing."""
    task = "Bring the Hermes leaflet for Acme up to date"
    found = selector(memory=memory)
    memory.store_session("translator", task, "No.", success=False)
    assert found.select_agents(task) == []
    memory.store_session("css-expert", task, "Done.", success=True)
    memory.store_session("translator", task, "Done.", success=True)
    assert [match.agent_name for match in found.select_agents(task)] == ["css-expert", "translator"]


def test_history_is_bounded(memory: AgentMemory) -> None:
    """A hundred sessions weigh no more than one: clear words win, and what agents are gone did is nothing."""
    for _ in range(100):
        memory.store_session("translator", "Why is this query slow?", "Done.", success=True)
        memory.store_session("gone", "Why is this query slow?", "Done.", success=True)
    found = selector(memory=memory)
    assert found.explain_selection("Why is this query slow?", "translator").history <= 2
    task = "Why is this slow query not using the database indexes of our migrations?"
    assert found.select_agents(task)[0].agent_name == "sql-tuner"


def test_a_simulator_proves_nothing(memory: AgentMemory) -> None:
    """What it did counts for who asks a simulator, and for nobody else."""
    task = "Bring the Hermes leaflet for Acme up to date"
    memory.store_session("translator", task, "Done.", success=True, metadata={"simulated": True})
    assert selector(memory=memory).select_agents(task) == []
    assert selector(memory=memory, simulated=True).select_agents(task)[0].agent_name == "translator"


def test_a_memory_that_cannot_be_read(project: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Costs one warning, and no answer."""
    (project / ".claude/agent_memory.db").write_text("no database")
    found = SemanticSelector(project_dir=project, semantic=False)
    for _ in range(2):
        assert found.select_agents("Review this code")[0].agent_name == "reviewer"
    assert len(caplog.records) == 1


# ------------------------------------------------------------ both faces


def test_both_faces(face: "type[AgentOrchestrator]", project: Path) -> None:
    """`recommend_agents` gives what the selector does, for the agents of the project."""
    with face(project_dir=project, offline=True) as orchestrator:
        [match] = orchestrator.recommend_agents("Review this code", top_k=1)
        assert match == SemanticSelector(project_dir=project).select_agents("Review this code")[0]
        assert orchestrator.recommend_agents("Sing a song of Rome") == []
        with pytest.raises(InputError):
            orchestrator.recommend_agents("")


def test_many_threads(project: Path) -> None:
    """One selector may serve all of them, while files change."""
    found = SemanticSelector(project_dir=project, semantic=False)
    names: list[str] = []

    def ask() -> None:
        for _ in range(20):
            names.extend(match.agent_name for match in found.select_agents("Review this code", 1))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    os.utime(project / ".claude/agents/reviewer.md")
    for thread in threads:
        thread.join()
    assert names == ["reviewer"] * 80
