"""`claude-force doctor`: is everything there that a run needs?"""

from pathlib import Path

import click

from claude_force.apps.console import config_option, example, harmless, json_option, print_json, styled
from claude_force.apps.diagnosis import diagnose
from claude_force.base.config import current_folder

_COLOURS = {"ok": "green", "warning": "yellow", "error": "red"}


@click.command(epilog=example("claude-force doctor --json"))
@config_option
@json_option
def command(config_path: Path | None, as_json: bool) -> None:
    """Say what is found, what is wrong, and how to mend it. Sends nothing.

    The exit code is 1 if something is wrong; warnings alone are fine.
    """
    findings = []
    for finding in diagnose(config_path, start=current_folder()):
        findings.append(finding)
        if not as_json:
            fix = f"\n{'':9}{finding.fix}" if finding.fix else ""
            mark = styled(f"{finding.state:<7}", _COLOURS[finding.state])
            click.echo(f"{mark}  {harmless(f'{finding.subject}: {finding.detail}{fix}')}")
    if as_json:
        print_json([finding._asdict() for finding in findings])
    raise SystemExit(1 if any(finding.state == "error" for finding in findings) else 0)
