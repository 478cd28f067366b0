"""What the documentation says about the code, written from the code: `python docs/generate.py`.

It makes whole files (`WHOLE`) and the parts of pages that stand between `<!-- generated: NAME -->` and
`<!-- end -->` (`PARTS`). `tests/docs` fails where what is committed differs from what this makes.
"""  # noqa: INP001 - a script, not a package

import ast
import fcntl
import io
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import textwrap
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.padding import Padding
from rich.terminal_theme import TerminalTheme
from rich.text import Text

from claude_force.base import errors
from claude_force.base.config import config_schema
from claude_force.cli import cli
from claude_force.engine.breaker import TRANSITIONS, State
from claude_force.engine.untrusted import _PATTERNS as PATTERNS

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT / "benchmarks"))
from claims import measured  # noqa: E402 - found there

DOCS = ROOT / "docs"
PACKAGE = ROOT / "claude_force"

HELP_WIDTH = 100  # the widest that the commands ask for
PICTURE_COLUMNS, PICTURE_LINES = 90, 24


# ---------------------------------------------------------------- the command line

_CLI_PAGE = """\
<!-- Made by docs/generate.py from the commands; change those. -->

# Command line

Results go to stdout, all else to stderr.
Tables and colours appear on a terminal; a pipe gets plain lines, with tabs between columns.
With `--json`, an error is a JSON object on stdout, too: `type`, `message` and `exit_code` below `error`.

## Exit codes

{exit_codes}

{commands}
"""


def cli_page() -> str:
    """`docs/reference/cli.md`."""
    commands = (_section(path, command, context) for path, command, context in walk_commands())
    return _CLI_PAGE.format(exit_codes=exit_codes(), commands="\n\n".join(commands))


def walk_commands(
    command: click.Command = cli, parent: click.Context | None = None, name: str = "claude-force"
) -> Iterator[tuple[str, click.Command, click.Context]]:
    """Every command with its full name, each group before what is in it."""
    width = {} if parent else {"terminal_width": HELP_WIDTH}  # given, so that no terminal is asked
    context = command.make_context(name, [], parent, resilient_parsing=True, **width)
    yield context.command_path.replace("  ", " "), command, context
    if isinstance(command, click.Group):
        for child in command.list_commands(context):
            found = command.get_command(context, child)
            if found is not None:
                yield from walk_commands(found, context, child)


def _section(path: str, command: click.Command, context: click.Context) -> str:
    return f"## {path}\n\n```text\n{click.unstyle(command.get_help(context)).rstrip()}\n```"


_MEANINGS = {
    0: "done",
    1: "failed, or something is wrong (`doctor`, `agents validate`), or the answer is not whole",
    2: "bad usage, input or configuration; nothing was paid",
    3: "no credentials, or refused ones",
    4: "the account cannot pay, or may not spend more",
    5: "rate limit or overload, after all retries; or a circuit breaker is open",
    6: "the model declined",
    128 + signal.SIGHUP: "ended with its terminal (SIGHUP)",
    128 + signal.SIGINT: "interrupted (Ctrl-C)",
    128 + signal.SIGPIPE: "the reader of a pipe left, as `head` does (SIGPIPE)",
    128 + signal.SIGTERM: "ended from outside (SIGTERM)",
}


def exit_codes() -> str:
    """A row for each code, with the errors that end in it."""
    leaves = [kind for kind in _family(errors.ClaudeForceError) if not kind.__subclasses__()]
    names = {code: [kind.__name__ for kind in leaves if kind.exit_code == code] for code in _MEANINGS}
    rows = [
        f"| {code} | {meaning} | {', '.join(f'`{name}`' for name in sorted(names[code]))} |"
        for code, meaning in _MEANINGS.items()
    ]
    return "\n".join(
        [
            "| code | meaning | errors |",
            "|---|---|---|",
            *rows,
            "",
            "A `DeadlineError` ends in the code of the last failure before the time was over.",
        ]
    )


def _family(kind: type[errors.ClaudeForceError]) -> Iterator[type[errors.ClaudeForceError]]:
    yield kind
    for child in kind.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from _family(child)


# ---------------------------------------------------------------- parts of pages


def schema() -> str:
    """`docs/reference/claude.schema.json`, as `claude-force config schema` prints it."""
    return msgspec.json.format(msgspec.json.encode(config_schema()), indent=2).decode() + "\n"


def error_tree() -> str:
    """The family of errors, as its module draws it."""
    drawn = re.search(r"```\n(.*?)\n```", errors.__doc__ or "", re.DOTALL)
    if drawn is None:
        raise LookupError("base/errors.py draws no tree any more; mend its docstring or this function")
    return _text_block(drawn[1])


def patterns() -> str:
    """The techniques that a scan knows."""
    return "\n".join(f"- {name}" for name in PATTERNS)


def breaker() -> str:
    """The circuit breaker's states one below the other, and a rail at the right for each way that leads elsewhere."""
    states = list(State)
    rows = [line for state in states for line in (state.value, "", "")][:-2]
    rails = []
    for (source, event), target in TRANSITIONS.items():
        start, end = 3 * states.index(source), 3 * states.index(target)
        if end == start + 3:
            rows[start + 1 : end] = [f"  │ {event}", "  ▼"]
        else:
            rails.append((abs(start - end), start, end, event))
    column = max(map(len, rows)) + 3
    for _, start, end, event in sorted(rails):  # the shortest innermost, so that no two cross
        top, bottom = sorted((start, end))
        for row in range(top, bottom + 1):
            rows[row] = f"{rows[row]} ".ljust(column, "─" if row in {start, end} else " ")
            rows[row] += {top: "┐", bottom: "┘"}.get(row, "│")
        rows[end] = re.sub(r" ─", " ◄", rows[end], count=1)
        rows[top + 1] += f" {event}"
        column = max(map(len, rows)) + 3
    return _text_block("\n".join(row.replace("┘ ", "┴─") for row in rows))


def rooms() -> str:
    """The folders and doors of the package, each with the first sentence of its docstring."""
    return _text_block("\n".join(["claude_force/", *_branches(PACKAGE, "")]))


def _branches(folder: Path, indent: str) -> Iterator[str]:
    paths = sorted(folder.iterdir(), key=lambda path: (path.is_file(), path.name))
    rooms = [path for path in paths if (path / "__init__.py").is_file()]
    doors = [path for path in paths if path.suffix == ".py"] if folder == PACKAGE else []
    for path in [*rooms, *doors]:
        is_last = path == [*rooms, *doors][-1]
        name = path.name if path.is_file() else f"{path.name}/"
        label = f"{indent}{'└──' if is_last else '├──'} {name}"
        yield f"{label:<30} {_first_sentence(path if path.is_file() else path / '__init__.py')}"
        if path.is_dir():
            below = f"{indent}{'    ' if is_last else '│   '}"
            modules = " · ".join(sorted(module.stem for module in path.glob("[!_]*.py")))
            yield from (f"{below:<33}{line}" for line in textwrap.wrap(modules, 80))
            yield from _branches(path, below)


def _first_sentence(path: Path) -> str:
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    sentence = re.split(r"(?<=\.)\s|\n\n", docstring, maxsplit=1)[0]
    return re.sub(r"^Floor \d: ", "", " ".join(sentence.split()).replace("`", "")).rstrip(".")


def floors() -> str:
    """The floors, as import-linter checks them."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    layers = next(contract["layers"] for contract in contracts["contracts"] if contract["type"] == "layers")
    return _text_block("\n".join(layer.replace("claude_force.", "") for layer in layers))


def _text_block(text: str) -> str:
    return f"```text\n{text}\n```"


# ---------------------------------------------------------------- the picture

_AGENTS = {
    "project/.claude/agents/bug-hunter.md": ("opus", "Finds out why a test fails."),
    "project/.claude/agents/code-reviewer.md": ("sonnet", "Reviews a change before it is merged."),
    "home/.claude/agents/commit-writer.md": ("haiku", "Writes the commit message for a diff."),
}
# Prices of our own, so that a new price list does not change the picture.
_CONFIG = '{"pricing": {"claude-sonnet-5-5": {"input": 2, "output": 10}}}'
_CODE = "def fib(n: int) -> int:\n    return n if n < 2 else fib(n - 1) + fib(n - 2)\n"
_SCENE = (
    "claude-force agents list",
    'claude-force execute code-reviewer "Is this fast enough?" --file fib.py --offline',
    'claude-force execute code-reveiwer "Is this safe?"; echo "exit code $?"',
)
_MARGIN = 2  # columns left and right of the text
_NOT_SHOWN = re.compile(r"(, \d+\.\d s)?[ \r]+$", re.MULTILINE)  # how long it took, and what nobody sees

# Black, red, green, yellow, blue, magenta, cyan, white; then the same, bright.
_NORMAL = [(72, 79, 88), (255, 123, 114), (63, 185, 80), (210, 153, 34)]
_NORMAL += [(88, 166, 255), (188, 140, 255), (57, 197, 207), (240, 246, 252)]
_THEME = TerminalTheme((13, 17, 23), (201, 209, 217), _NORMAL, _NORMAL)

# As rich's own, without its web font: a picture must not call a stranger's server.
_SVG = """\
<svg viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg" role="img">
<!-- Made by docs/generate.py from the output of the commands that it shows. -->
<style>
.{unique_id}-matrix {{
  font: {char_height}px ui-monospace, "SF Mono", Menlo, "Fira Code", "DejaVu Sans Mono", "Liberation Mono", monospace;
}}
.{unique_id}-title {{ font: 18px system-ui, sans-serif; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/>
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


def picture() -> str:
    """`docs/images/cli.svg`: what the commands of the scene print on a terminal, without the seconds they took."""
    console = Console(
        record=True,
        file=io.StringIO(),
        width=PICTURE_COLUMNS + 2 * _MARGIN,
        height=PICTURE_LINES,  # or a dumb terminal around us would decide both
        force_terminal=True,
        no_color=False,
        color_system="truecolor",
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _furnish(folder)
        for command in _SCENE:
            printed = _NOT_SHOWN.sub("", _on_terminal(command, folder)).rstrip("\n")
            shown = Text.assemble(("$ ", "bold green"), (command, "bold white"), "\n", Text.from_ansi(printed))
            console.print(Padding(shown, (1, _MARGIN, 0, _MARGIN)))
        console.print()
    drawn = console.export_svg(
        title="claude-force", theme=_THEME, code_format=_SVG, font_aspect_ratio=0.6, unique_id="cli"
    )
    return "".join(f"{line.strip()}\n" for line in drawn.splitlines() if line.strip())


def _furnish(folder: Path) -> None:
    for path, (model, description) in _AGENTS.items():
        agent = folder / path
        agent.parent.mkdir(parents=True, exist_ok=True)
        agent.write_text(
            f"---\nname: {agent.stem}\ndescription: {description}\nmodel: {model}\n---\nYou are brief and exact.\n"
        )
    (folder / "home/.claude/claude.json").write_text(_CONFIG)
    (folder / "project/fib.py").write_text(_CODE)


def _on_terminal(command: str, folder: Path) -> str:
    """What a command prints on a terminal of a fixed size, in an environment of which nothing is this machine's."""
    scripts = Path(sys.executable).parent
    environment = {
        "HOME": str(folder / "home"),
        "PATH": f"{scripts}:/usr/bin:/bin",
        "TERM": "xterm-256color",
        "LANG": "C.UTF-8",
    }
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", PICTURE_LINES, PICTURE_COLUMNS, 0, 0))
    with subprocess.Popen(  # noqa: S603 - a command of the scene above
        ["/bin/sh", "-c", command],
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
        cwd=folder / "project",
        env=environment,
    ):
        os.close(theirs)
        printed = b"".join(iter(lambda: _read(ours), b""))
    os.close(ours)
    return printed.decode()


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # what Linux says when the last program has left the terminal
        return b""


# ---------------------------------------------------------------- all together

WHOLE: dict[str, Callable[[], str]] = {
    "docs/reference/cli.md": cli_page,
    "docs/reference/claude.schema.json": schema,
    "docs/images/cli.svg": picture,
}
PARTS: dict[str, Callable[[], str]] = {
    "breaker": breaker,
    "errors": error_tree,
    "floors": floors,
    "measured": measured,
    "patterns": patterns,
    "rooms": rooms,
}
_PART = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def generated() -> list[str]:
    """Every file that is made here, wholly or in parts, relative to the root."""
    pages = [str(path.relative_to(ROOT)) for path in (ROOT / "README.md", *sorted(DOCS.rglob("*.md")))]
    return [*WHOLE, *(page for page in pages if page not in WHOLE and _PART.search((ROOT / page).read_text("utf-8")))]


def made(name: str) -> str:
    """What the file of that name should hold."""
    if name in WHOLE:
        return WHOLE[name]()
    text = (ROOT / name).read_text(encoding="utf-8")
    return _PART.sub(lambda part: f"{part[1]}\n{PARTS[part[2]]()}\n\n{part[3]}", text)


def main() -> None:
    """Write what is not up to date, and say so."""
    for name in generated():
        path, text = ROOT / name, made(name)
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            sys.stdout.write(f"{name}: written\n")


if __name__ == "__main__":
    main()
