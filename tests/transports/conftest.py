"""What tests of the simulator share: a plain HTTP request."""

import http.client
import json
from collections.abc import Mapping
from contextlib import closing
from typing import Any

from claude_force.testing import Simulator

HEADERS = {"x-api-key": "k", "anthropic-version": "2026-10-21"}
ASK: dict[str, Any] = {
    "model": "claude-sonnet-5-5",
    "max_tokens": 1000,
    "messages": [{"role": "user", "content": "Review the parser."}],
}


def call(
    simulator: Simulator, path: str = "/v1/messages", body: object = None, headers: Mapping[str, str] = HEADERS
) -> tuple[int, dict[str, str], Any]:
    """Status, headers and body, parsed if it is JSON, of one request: a POST if there is a body."""
    raw = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    connection = http.client.HTTPConnection(simulator.base_url.removeprefix("http://"), timeout=120)
    with closing(connection):
        connection.request("GET" if raw is None else "POST", path, raw, dict(headers))
        response = connection.getresponse()
        found = {name.lower(): value for name, value in response.getheaders()}
        text = response.read()
        return response.status, found, json.loads(text) if found["content-type"] == "application/json" else text
