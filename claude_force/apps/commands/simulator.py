"""`claude-force simulator`: the offline Messages API as a server of its own, for any client."""

import signal

import click

from claude_force.apps.console import example
from claude_force.transports.simulator import serve


@click.command(epilog=example("claude-force simulator --port 8787 & export ANTHROPIC_BASE_URL=http://127.0.0.1:8787"))
@click.option("--port", type=click.IntRange(0, 65535), default=0, show_default="any free one")
@click.option("--seed", type=int, default=0, show_default=True, help="Equal seeds give equal answers.")
def command(port: int, seed: int) -> None:
    """Serve a simulated Messages API on loopback until Ctrl-C.

    The address is printed on stdout. Any SDK or agent that is pointed at it gets marked, deterministic answers.
    """
    stopped_by = serve(port, seed=seed, on_ready=click.echo)
    raise SystemExit(0 if stopped_by == signal.SIGINT else 128 + stopped_by)
