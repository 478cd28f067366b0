"""How long a start takes, as a multiple of `python -c pass`; promised: import 2.5, --version 8."""

import subprocess
import sys

from scenarios import medians_in_turn


def run(iterations: int) -> dict[str, float]:
    """Whole processes, in turns."""

    def process(*arguments: str) -> None:
        subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)

    main = "from claude_force.cli import main; import sys; sys.argv = ['claude-force', {!r}]; main()"
    seconds = medians_in_turn(
        iterations,
        bare=lambda: process("-c", "pass"),
        package=lambda: process("-c", "import claude_force"),
        click=lambda: process("-c", "import click"),
        version=lambda: process("-c", main.format("--version")),
        help=lambda: process("-c", main.format("--help")),
        sdk=lambda: process("-c", "import anthropic"),
    )
    return {
        "python -c pass, ms": seconds["bare"] * 1000,
        "import claude_force, times that": seconds["package"] / seconds["bare"],
        "import click alone, times that": seconds["click"] / seconds["bare"],
        "claude-force --version, times that": seconds["version"] / seconds["bare"],
        "claude-force --help, times that": seconds["help"] / seconds["bare"],
        "import anthropic, times that": seconds["sdk"] / seconds["bare"],
    }
