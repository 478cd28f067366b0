"""HTTP/1.1 as bytes: requests out of what arrives, responses into what is sent. No sockets, no API.

Kept-alive connections, `Content-Length` bodies and `Expect: 100-continue` are served. Chunked request bodies are
refused (411): no client of the Messages API sends them.
"""

from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import TYPE_CHECKING

from claude_force.transports.simulator.script import ApiFault, RejectedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MAX_BODY_BYTES = 32 * 1024 * 1024
MAX_HEAD_BYTES = 64 * 1024  # what common servers allow for all headers together
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
NOT_STANDARD = {529: "Overloaded"}
REASONS = {status.value: status.phrase for status in HTTPStatus} | NOT_STANDARD


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One request, its body still bytes."""

    method: str
    path: str
    query: str
    headers: "Mapping[str, str]"
    """Names in lower case."""
    body: bytes
    can_chunk: bool
    """False for HTTP/1.0, where the end of a stream is the end of the connection."""

    @property
    def keeps_alive(self) -> bool:
        """Whether the connection is to serve another request."""
        return self.can_chunk and self.headers.get("connection", "").lower() != "close"


class RequestReader:
    """Cuts what arrives on one connection into requests."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._head: HttpRequest | None = None
        self._body_bytes = 0
        self._owes_continue = False

    @property
    def buffered_bytes(self) -> int:
        """What has arrived and was not taken yet."""
        return len(self._buffer)

    def feed(self, data: bytes) -> None:
        """Take what arrived."""
        self._buffer += data

    def take_continue(self) -> bool:
        """True once, where the client waits to be told that it may send its body."""
        owed, self._owes_continue = self._owes_continue, False
        return owed

    def next_request(self) -> HttpRequest | None:
        """The next whole request, or `None` until more has arrived; what cannot be served raises `RejectedError`."""
        if self._head is None and not self._read_head():
            return None
        head = self._head
        if head is None or len(self._buffer) < self._body_bytes:
            return None
        body = bytes(self._buffer[: self._body_bytes])
        del self._buffer[: self._body_bytes]
        self._head, self._owes_continue = None, False
        return replace(head, body=body)

    def _read_head(self) -> bool:
        end = self._buffer.find(b"\r\n\r\n", 0, MAX_HEAD_BYTES)
        if end < 0:
            if len(self._buffer) > MAX_HEAD_BYTES:
                raise RejectedError(ApiFault(431, message=f"the headers have more than {MAX_HEAD_BYTES} bytes"))
            return False
        lines = self._buffer[:end].decode("latin-1").split("\r\n")
        del self._buffer[: end + 4]
        headers = _headers(lines[1:])
        self._body_bytes = _body_bytes(headers)
        self._owes_continue = headers.get("expect", "").lower() == "100-continue"
        self._head = _request_line(lines[0], headers)
        return True


def _request_line(line: str, headers: "Mapping[str, str]") -> HttpRequest:
    words = line.split(" ")
    if len(words) != 3 or not words[1].startswith("/") or words[2] not in ("HTTP/1.1", "HTTP/1.0"):  # noqa: PLR2004
        raise RejectedError(ApiFault(400, message="this is not an HTTP/1.1 request"))
    path, _, query = words[1].partition("?")
    return HttpRequest(words[0], path, query, headers, b"", words[2] == "HTTP/1.1")


def _headers(lines: "Iterable[str]") -> dict[str, str]:
    headers = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or name != name.strip() or not name:
            raise RejectedError(ApiFault(400, message="a header line cannot be read"))
        headers[name.lower()] = value.strip()
    return headers


def _body_bytes(headers: "Mapping[str, str]") -> int:
    if "transfer-encoding" in headers:
        raise RejectedError(ApiFault(411, message="chunked request bodies are not served; send a content-length"))
    length = headers.get("content-length", "0")
    if not (length.isascii() and length.isdigit()):
        raise RejectedError(ApiFault(400, message="content-length is not a number"))
    if len(length) > len(str(MAX_BODY_BYTES)) + 1 or int(length) > MAX_BODY_BYTES:
        raise RejectedError(ApiFault(413, message=f"Request exceeds the maximum size of {MAX_BODY_BYTES} bytes"))
    return int(length)


def head(status: int, headers: "Mapping[str, str]") -> bytes:
    """The status line and headers of a response."""
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    return f"HTTP/1.1 {status} {REASONS.get(status, 'Simulated')}\r\n{lines}\r\n".encode("latin-1", "replace")


def chunk(data: bytes) -> bytes:
    """One chunk of a body of unknown length; the empty one ends it."""
    return b"%x\r\n%s\r\n" % (len(data), data)
