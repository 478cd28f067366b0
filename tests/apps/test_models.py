"""`claude-force models`: the model that knows what tasks mean, from the shell."""

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

Run = Callable[..., CompletedProcess[str]]


def test_models(run: Run, tmp_path: Path) -> None:
    """None is listed, what is not the model is refused, and nothing is there to be removed."""
    assert "by words alone" in run("models", "list").stderr
    folder = tmp_path / "weights"
    folder.mkdir()
    for name in ("config.json", "vocab.txt", "model.safetensors"):
        (folder / name).write_text("{}")
    done = run("models", "import", str(folder))
    assert done.returncode == 2
    assert "is not that of all-MiniLM-L6-v2" in done.stderr
    assert json.loads(run("models", "list", "--json").stdout) == []
    assert run("models", "remove").stdout == "0 removed\n"
    assert "selection: by words alone" in run("doctor").stdout
