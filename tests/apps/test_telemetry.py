"""Logs and traces of commands: nothing of them on stdout, and nothing lost at the end."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar

import pytest

from claude_force.testing import Hang, Simulator

from .conftest import Run, Start


def json_lines(text: str) -> list[dict[str, Any]]:
    """Those lines that are JSON."""
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def test_a_log_is_on_stderr_as_asked(run: Run) -> None:
    """As JSON or text, by option or environment; the answer alone is on stdout."""
    done = run("--log-format", "json", "execute", "reviewer", "Review it.")
    assert done.stdout == "Looks good.\n"
    assert [line["event"] for line in json_lines(done.stderr)] == ["attempt", "turn"]
    done = run("execute", "reviewer", "Review it.", CLAUDE_FORCE_LOG_LEVEL="debug")
    assert "DEBUG lookup memory: done after" in done.stderr
    assert "INFO turn reviewer: done after" in done.stderr
    done = run("--log-level", "error", "execute", "reviewer", "Review it.")
    assert "turn" not in done.stderr


def test_traces_to_the_console_share_ids_with_the_log(run: Run) -> None:
    """Each span is a line on stderr; the log names them, so that one leads to the other."""
    done = run("--log-format", "json", "execute", "reviewer", "Review it.", OTEL_TRACES_EXPORTER="console")
    assert done.stdout == "Looks good.\n"
    lines = json_lines(done.stderr)
    said = [line for line in lines if "event" in line]
    spans = {line["context"]["span_id"]: line for line in lines if "context" in line}
    turn = spans[f"0x{said[-1]['span_id']}"]
    assert (turn["name"], turn["resource"]["attributes"]["service.name"]) == ("invoke_agent reviewer", "claude-force")


def test_an_interrupted_command_sends_its_spans(start: Start, simulator: Simulator) -> None:
    """After Ctrl-C, those that were cut are there."""
    simulator.script(Hang())
    process = start("execute", "reviewer", "Review it.", OTEL_TRACES_EXPORTER="console")
    assert process.stdin
    process.stdin.close()
    process.stdin = None  # or `communicate` would close it once more
    simulator.wait_until(lambda stats: stats.in_flight == 1, timeout_s=120)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    cut = [span["name"] for span in json_lines(err) if span["attributes"].get("claude_force.interrupted")]
    assert cut == ["chat claude-haiku-5-5", "invoke_agent reviewer"]


class Collector(BaseHTTPRequestHandler):
    """Takes what an exporter sends."""

    got: ClassVar[list[tuple[str, bytes]]] = []

    def do_POST(self) -> None:
        self.got.append((self.path, self.rfile.read(int(self.headers["content-length"]))))
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's name
        """Not on stderr."""


@pytest.fixture
def collector() -> Iterator[str]:
    """The address of one."""
    Collector.got.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Collector) as server:
        serving = Thread(target=server.serve_forever)
        serving.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        serving.join()


def test_traces_go_to_an_endpoint_before_the_end(run: Run, collector: str) -> None:
    """`OTEL_EXPORTER_OTLP_ENDPOINT` alone is enough."""
    run("execute", "reviewer", "Review it.", OTEL_EXPORTER_OTLP_ENDPOINT=collector)
    ((path, body),) = Collector.got
    assert path == "/v1/traces"
    assert b"invoke_agent reviewer" in body


BARE = """
import sys
sys.modules["opentelemetry.sdk.trace"] = None
from claude_force.cli import main
main()
"""


def test_without_the_extra_it_says_so_once(project: Path, run: Run) -> None:
    """And does what it was asked; an exporter that it does not know is said as well."""
    command = [sys.executable, "-c", BARE, "cache", "stats"]
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(project), "OTEL_TRACES_EXPORTER": "otlp"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0
    assert done.stderr.count("warning: no traces are sent") == 1
    assert "pip install 'claude-force[otel]'" in done.stderr
    said = run("cache", "stats", OTEL_TRACES_EXPORTER="zipkin").stderr
    assert "OTEL_TRACES_EXPORTER names 'zipkin', which commands do not know; give console, otlp, none" in said
