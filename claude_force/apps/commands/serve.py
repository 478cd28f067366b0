"""`claude-force serve`: a page, an API, health and metrics over HTTP. The server itself: `apps.dashboard`."""

import os
import secrets
import socket
from pathlib import Path

import click

from claude_force.apps.console import config_option, example, note
from claude_force.base.errors import InputError
from claude_force.orchestrator import Project

TOKEN_VARIABLE = "CLAUDE_FORCE_TOKEN"  # noqa: S105 - its name
SHORTEST_TOKEN = 16
DEFAULT_PORT = 8484


@click.command(
    epilog=example("claude-force serve", "claude-force serve --host 0.0.0.0 --token $(openssl rand -hex 16)")
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Listen here; anywhere else than here, by token.")
@click.option("--port", type=click.IntRange(0, 65535), default=DEFAULT_PORT, show_default=True, help="0 is a free one.")
@click.option(
    "--token",
    envvar=TOKEN_VARIABLE,
    show_envvar=True,
    help="Answer only who has it; without one, other hosts get a new one each time.",
)
@click.option(
    "--allow-host",
    "names",
    multiple=True,
    metavar="NAME",
    help="A name that this server is called by; may be repeated.",
)
@click.option("--allow-runs", is_flag=True, help="Let it run agents and workflows, which costs money.")
@click.option("--open", "opens", is_flag=True, help="Open the page in a browser.")
@click.option("--offline", is_flag=True, help="What it runs asks the built-in simulator: no key, no cost.")
@config_option
def command(
    host: str,
    port: int,
    token: str | None,
    names: tuple[str, ...],
    allow_runs: bool,
    opens: bool,
    offline: bool,
    config_path: Path | None,
) -> None:
    """Serve a page that shows what is running, how it goes and what it costs, until Ctrl-C.

    It shows what any process of the project does, and changes nothing unless --allow-runs is given. Its address is
    printed on stdout; where there is a token, it is a link that works once, for an hour, and lets the browser in that
    opens it.

    Beside the page there are /healthz, /readyz, /metrics for Prometheus, and an API, which /api/openapi.json describes.
    """
    if token is None and TOKEN_VARIABLE in os.environ:
        raise click.UsageError(f"{TOKEN_VARIABLE} is empty; unset it, or give it {SHORTEST_TOKEN} characters")
    token = token and token.strip()
    if token is not None and (len(token.replace(" ", "")) < SHORTEST_TOKEN or not token.isascii()):
        raise click.UsageError(
            f"the token can be guessed, or no header can carry it; give {SHORTEST_TOKEN} or more ASCII characters"
        )
    try:
        from claude_force.apps.dashboard.guard import Access  # noqa: PLC0415 - an extra, and not for --help
        from claude_force.apps.dashboard.server import listen, make_app, serve  # noqa: PLC0415
        from claude_force.apps.dashboard.service import Service  # noqa: PLC0415
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("claude_force"):
            raise
        raise InputError(f"{error.name} is not installed; `pip install 'claude-force[dashboard]'` does it") from error
    project = Project(config_path, offline=offline)
    project.settings  # noqa: B018 - a config that is wrong is said now, and not to each page
    listening = listen(host, port)
    if token is None and not listening.is_loopback:
        token = secrets.token_urlsafe(32)
        note(f"the token is {token}", kind="token")
    own_names = () if listening.is_loopback else (host, socket.gethostname())
    access = Access(
        token=token,
        hosts=("localhost", *own_names, *names),
        any_address=not listening.is_loopback,
        port=listening.port,
    )
    service = Service(project, config_path=config_path, allow_runs=allow_runs, offline=offline)
    url = listening.url + access.login_path

    def say() -> None:
        click.echo(url)
        if opens:
            import webbrowser  # noqa: PLC0415 - few want it

            webbrowser.open(url)

    serve(make_app(service, access), listening, on_ready=say, on_end=service.end)
