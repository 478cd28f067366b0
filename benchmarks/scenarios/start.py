"""How long a start takes, as a multiple of `python -c pass`; promised: import 2.5, --version 8."""

import subprocess
import sys

from results import Figure, measured, ratio
from scenarios import in_turn


def run(iterations: int) -> dict[str, Figure]:
    """Whole processes, in turns."""

    def process(*arguments: str) -> None:
        subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)

    main = "from claude_force.cli import main; import sys; sys.argv = ['claude-force', {!r}]; main()"
    seconds = in_turn(
        iterations,
        bare=lambda: process("-c", "pass"),
        package=lambda: process("-c", "import claude_force"),
        click=lambda: process("-c", "import click"),
        version=lambda: process("-c", main.format("--version")),
        help=lambda: process("-c", main.format("--help")),
        sdk=lambda: process("-c", "import anthropic"),
    )
    names = {
        "package": "import claude_force",
        "click": "import click alone",
        "version": "claude-force --version",
        "help": "claude-force --help",
        "sdk": "import anthropic",
    }
    bare = seconds["bare"]
    return {"python -c pass, ms": measured([one * 1000 for one in bare])} | {
        f"times `python -c pass`: {said}": ratio(seconds[name], bare, "lower" if "force" in said else None)
        for name, said in names.items()
    }
