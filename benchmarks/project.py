"""A project in a folder of its own, with the agents that a scenario needs."""

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

SHORT = "Be kind."


@contextmanager
def project(
    agents: Mapping[str, str] | None = None, *, model: str = "haiku", config: Mapping[str, object] | None = None
) -> Iterator[Path]:
    """Its folder; `agents` are their prompts by name, or one called `a`."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        place = folder / ".claude" / "agents"
        place.mkdir(parents=True)
        for agent, prompt in (agents or {"a": SHORT}).items():
            file = place / f"{agent}.md"
            file.write_text(f"---\nname: {agent}\ndescription: d\nmodel: {model}\n---\n{prompt}\n")
            os.utime(file, (0, 0))  # a file that was just written is read again each time, in case it changes
        if config:
            (folder / ".claude" / "claude.json").write_text(json.dumps(config))
        yield folder
