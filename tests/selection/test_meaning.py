"""A model where there is one, and words where there is none."""

import sys
from pathlib import Path

import pytest

from claude_force import AgentDefinition, InputError, SemanticSelector
from claude_force.selection.weights import own_folder

from .conftest import write_model

CREW = tuple(AgentDefinition(name=name, description=f"It is {name}.", prompt="Go.") for name in ("tests", "code"))


def test_meaning_is_added(model: Path, project: Path) -> None:
    """To words, and explained; the vectors are kept in the project."""
    found = SemanticSelector(project_dir=project, agents=CREW, model=model)
    both = found.explain_selection("code", "code")
    alone = SemanticSelector(project_dir=project, agents=CREW, semantic=False).explain_selection("code", "code")
    assert both.meaning
    assert both.evidence == pytest.approx(alone.evidence + both.meaning)
    assert found.method.startswith("words and meaning")
    assert (project / ".claude/selection/agents.npy").exists()
    assert (project / ".claude/selection/.gitignore").read_text() == "*\n"


def test_a_model_is_found(project: Path) -> None:
    """The one that was imported is used without a word; where there is none, words are, and one can ask why."""
    found = SemanticSelector(project_dir=project, agents=CREW)
    assert found.select_agents("code")
    assert found.method.startswith("words alone: no all-MiniLM-L6-v2")
    write_model(own_folder())
    assert SemanticSelector(project_dir=project, agents=CREW).method.startswith("words and meaning")


def test_a_broken_model(model: Path, project: Path) -> None:
    """Costs nothing but meaning where it was found, and is an error where it was given."""
    write_model(own_folder())
    for folder in (model, own_folder()):
        (folder / "model.safetensors").write_bytes(b"no weights")
    found = SemanticSelector(project_dir=project, agents=CREW)
    assert found.select_agents("code")
    assert "cannot be used: its header claims" in found.method
    with pytest.raises(InputError, match="cannot be used"):
        SemanticSelector(project_dir=project, agents=CREW, model=model).select_agents("code")


def test_without_numpy(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Words do; `method` says which extra is missing."""
    write_model(own_folder())
    for name in [name for name in sys.modules if name.partition(".")[0] == "numpy"]:
        monkeypatch.delitem(sys.modules, name)
    for name in ("minilm", "vectors"):
        monkeypatch.delitem(sys.modules, f"claude_force.selection.{name}", raising=False)
    monkeypatch.setitem(sys.modules, "numpy", None)
    found = SemanticSelector(project_dir=project, agents=CREW)
    assert found.select_agents("code")
    assert "claude-force[semantic]" in found.method
