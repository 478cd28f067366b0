"""A deadline for blocking calls, which the HTTP client has not: its own time-out starts anew with every byte.

So a server that trickles its headers or its body could hold a call for ever. This imports the HTTP client, so it is
imported by who makes one.
"""

import math
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpcore2
import httpx2


class _Call(threading.local):
    ends_s = math.inf


_call = _Call()
"""That of this thread: each piece of its request and its answer is sent and read by it alone."""


@contextmanager
def deadline(timeout_s: float) -> Iterator[None]:
    """What is called inside is over by then, with the client's own time-out error."""
    before = _call.ends_s  # who watches a stream may make a call of his own
    _call.ends_s = time.monotonic() + timeout_s
    try:
        yield
    finally:
        _call.ends_s = before


def keep_deadlines(client: httpx2.Client) -> None:
    """Have this client keep them. It takes no backend, so that is put where it has its own, if it still has it there.

    With one that has not, each read and write has the time-out of its own that it would have anyway.
    """
    transports = [getattr(client, "_transport", None), *getattr(client, "_mounts", {}).values()]
    pools: list[Any] = [getattr(transport, "_pool", None) for transport in transports]
    for pool in pools:
        if hasattr(pool, "_network_backend"):
            pool._network_backend = _Backend()  # noqa: SLF001 - as above


class _Backend(httpcore2.SyncBackend):
    def connect_tcp(self, *args: Any, **options: Any) -> httpcore2.NetworkStream:  # noqa: ANN401 - passed on
        return _Stream(super().connect_tcp(*args, **options))


class _Stream(httpcore2.NetworkStream):
    def __init__(self, stream: httpcore2.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _left_s(timeout, httpcore2.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _left_s(timeout, httpcore2.WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def get_extra_info(self, info: str) -> Any:  # noqa: ANN401 - the client's own
        return self._stream.get_extra_info(info)

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.NetworkStream:
        return _Stream(self._stream.start_tls(ssl_context, server_hostname, timeout))


def _left_s(timeout_s: float | None, over: type[Exception]) -> float | None:
    left_s = _call.ends_s - time.monotonic()
    if left_s <= 0:
        raise over("the deadline is over")
    return timeout_s if left_s == math.inf else min(left_s, math.inf if timeout_s is None else timeout_s)
