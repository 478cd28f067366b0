"""Who may ask, and what a browser may do with the answer: `Guard` stands before every route, those of files included.

- *Token.* Where there is one, nothing is answered without it but 401: as `Authorization: Bearer`, or as the cookie that
  the printed link gives, once, and within an hour: it may stand in a log. The cookie is made from the token, so it
  survives a restart with the same token.
- *Host.* A page elsewhere may have its own name resolve to this machine (DNS rebinding), and then its scripts are of
  our origin. So only names by which we are meant are answered: 421 for others.
- *Origin.* What acts must be JSON, which no form can send. Nothing is answered that a page of another origin asks for,
  but the page itself, to which it may link: reading costs a thread, too.
- *Headers.* Nothing is loaded from elsewhere, no script stands in a page, nobody frames us, nothing is kept on the way.
"""

import hashlib
import hmac
import ipaddress
import secrets
import string
import time
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import RedirectResponse, Response

from claude_force.apps.dashboard.problems import http_problem

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOGIN = "/login/"
LINK_S = 3600.0
_SAFE = frozenset({"GET", "HEAD"})
_HOST_CHARS = frozenset(string.ascii_letters + string.digits + "-._:[]")
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'self';"
        " frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


class Access:
    """Who may ask."""

    def __init__(
        self,
        *,
        token: str | None,
        hosts: Collection[str],
        any_address: bool,
        port: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._token = token
        self._hosts = frozenset(host.lower() for host in hosts)
        self._any_address = any_address
        self._cookie_name = f"claude-force-{port}"  # a browser keeps one jar for all ports of a host
        self._cookie = hmac.digest((token or "").encode(), b"claude-force cookie", hashlib.sha256).hex()
        self._code: str | None = secrets.token_urlsafe(32) if token else None
        self._clock = clock
        self._until_s = clock() + LINK_S

    @property
    def login_path(self) -> str:
        """Where the one-time link leads; `/` where no token is wanted, or the link was used."""
        return f"{LOGIN}{self._code}" if self._code else "/"

    def knows(self, headers: Headers) -> bool:
        """Whether the request has the token, or the cookie that was made from it; true where none is wanted."""
        if self._token is None:
            return True
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and _same(given.strip(), self._token):
            return True
        # Other servers of this host share the jar, and what they put there may be no cookie to a stricter reader.
        wanted = f"{self._cookie_name}={self._cookie}"
        return any(_same(cookie.strip(), wanted) for cookie in headers.get("cookie", "").split(";"))

    def log_in(self, path: str) -> Response | None:
        """The answer to the one-time link: the cookie, and on to the page. `None` for any other path, and later."""
        if self._code is None or not _same(path, self.login_path) or self._clock() > self._until_s:
            return None
        self._code = None
        response = RedirectResponse("/", 303)
        response.set_cookie(self._cookie_name, self._cookie, path="/", httponly=True, samesite="strict")
        return response

    def is_ours(self, host: str) -> bool:
        """Whether this `Host` names us: an address cannot be made to lead elsewhere, a name can."""
        if not _HOST_CHARS.issuperset(host):
            return False
        try:
            parts = urlsplit(f"//{host}")
            name, _ = parts.hostname or "", parts.port
        except ValueError:
            return False
        if name in self._hosts:
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return self._any_address or address.is_loopback


class Guard:
    """Asks `Access`, before the application is asked anything."""

    def __init__(self, app: "ASGIApp", access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """One request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return

        async def send_guarded(message: "Message") -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(_HEADERS)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        refusal = self._refusal(scope)
        await (refusal or self._app)(scope, receive, send_guarded)

    def _refusal(self, scope: "Scope") -> Response | None:
        headers = Headers(scope=scope)
        if scope["type"] != "http":
            return http_problem(400, "this server speaks HTTP; events come from /api/events")
        if scope["method"] == "GET" and (response := self._access.log_in(scope["path"])):
            return response
        if not self._access.knows(headers):
            detail = (
                "give the token as `Authorization: Bearer`, or open the link that `claude-force serve` printed, once,"
                " within an hour"
            )
            return http_problem(401, detail, headers={"WWW-Authenticate": "Bearer"})
        host = headers.get("host", "")
        if not self._access.is_ours(host):
            return http_problem(421, f"this is not {host!r}; `claude-force serve --allow-host NAME` names it so")
        return _refuse_foreign(headers, host, reads=scope["method"] in _SAFE, path=scope["path"])


def _refuse_foreign(headers: Headers, host: str, *, reads: bool, path: str) -> Response | None:
    """What is asked must come from our own page, or from no page at all."""
    origin = headers.get("origin")
    if not reads and origin is not None and origin.partition("://")[2] != host:
        return http_problem(403, f"a page of {origin!r} asks this; only this server's own page may")
    is_link = reads and path == "/" and headers.get("sec-fetch-mode") == "navigate"
    if headers.get("sec-fetch-site", "none") not in {"none", "same-origin"} and not is_link:
        return http_problem(403, "another page asks this; only this server's own page may")
    return None


def _same(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode(errors="replace"), wanted.encode())
