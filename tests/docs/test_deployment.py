"""The files that start workers: what they call exists, and what they set is known."""

import configparser
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import click
import pytest
import yaml

from claude_force.cli import cli

DEPLOYMENT = Path(__file__).parents[2] / "docs/deployment"
KNOWN = (DEPLOYMENT.parent / "reference/configuration.md").read_text(encoding="utf-8")


def check_command(line: str) -> None:
    """Parse it as the command would, without doing anything."""
    program, name, *arguments = shlex.split(line)
    assert Path(program).name == "claude-force"
    command = cli.get_command(click.Context(cli), name)
    assert command
    command.make_context(name, arguments).close()


def test_compose() -> None:
    """Workers are given what they need, under the names that are read."""
    services = yaml.safe_load((DEPLOYMENT / "compose.yaml").read_text(encoding="utf-8"))["services"]
    worker = services["worker"]
    check_command(worker["command"])
    assert set(worker["depends_on"]) == set(services) - {"worker"}
    assert [name for name in worker["environment"] if f"`{name}`" not in KNOWN] == []
    hosts = {url.rpartition("@")[2].partition(":")[0] for url in worker["environment"].values() if "@" in url}
    assert hosts == set(services) - {"worker"}


def test_systemd_unit(tmp_path: Path) -> None:
    """Its command is one of ours; systemd itself, where there is one, has nothing to say about the rest."""
    path = DEPLOYMENT / "claude-force-worker.service"
    unit = configparser.RawConfigParser(strict=False)
    unit.read(path, encoding="utf-8")
    start = unit["Service"]["ExecStart"]
    check_command(start)
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd here, which would check the unit")
    program = start.split()[0]
    there = re.sub(re.escape(program), "/bin/true", path.read_text(encoding="utf-8"))
    copy = tmp_path / path.name
    copy.write_text(there, encoding="utf-8")
    checked = subprocess.run(["systemd-analyze", "verify", copy], capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")
