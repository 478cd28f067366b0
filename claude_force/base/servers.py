"""Addresses of servers that a project may use: which forms there are, who may name one, and how one is shown.

What is kept on a server is somebody's: answers, prompts, the right to start work. So where it goes is up to whoever
starts the program, never to a repository that was cloned: a project's file may name this very machine at the most.
"""

import ipaddress
from pathlib import PurePosixPath
from urllib.parse import SplitResult, parse_qsl, urlsplit, urlunsplit

from claude_force.base.errors import ConfigError

_TLS_OPTIONS = {"ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname"}


def parse_url(url: str, *, named: str, schemes: tuple[str, ...]) -> SplitResult:
    """The parts of an address of one of these kinds. Raises `ConfigError`; `named` is where it stands."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        said = (
            f"{named} is no address; give {_forms(schemes)}, with %2F for a / in the password, %23 for a #, %3F for a ?"
        )
        raise ConfigError(said) from None  # the reason quotes what is taken for a port, which may be the password
    if parts.scheme not in schemes:
        raise ConfigError(f"{named} is {shown_url(url)!r}; give {_forms(schemes)}")
    return parts


def check_redis_url(parts: SplitResult, *, named: str) -> None:
    """Raise `ConfigError` for what a client of Redis passes over, or takes for an argument of its own."""
    options = {name for name, _ in parse_qsl(parts.query, keep_blank_values=True)}
    surplus = options - (_TLS_OPTIONS if parts.scheme == "rediss" else set())
    is_password = bool(surplus) and "@" in parts.query  # with a ? in it
    if not parts.hostname or parts.path.strip("/").strip("0123456789") or parts.fragment or is_password:
        shown = shown_url(parts.geturl())
        raise ConfigError(f"{named} is {shown!r}; give redis://HOST:PORT/NUMBER, with rediss for TLS")
    if surplus:
        raise ConfigError(
            f"{named} has the options {sorted(surplus)}; a rediss:// address may have {sorted(_TLS_OPTIONS)}, and"
            " others have none"
        )


def _forms(schemes: tuple[str, ...]) -> str:
    return " or ".join(f"{scheme}://..." for scheme in schemes)


def is_on_this_machine(url: str) -> bool:
    """Whether whatever answers there runs here, without anything in the address that could say otherwise.

    A file counts if it lies in the folder that its path starts from.
    """
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return False
    if parts.query or parts.fragment:  # libpq takes another host from there
        return False
    if parts.scheme == "sqlite":
        path = PurePosixPath(parts.path.removeprefix("/"))
        return not host and not path.is_absolute() and ".." not in path.parts
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_web_address(url: str) -> bool:
    """Whether it says where an API is, and nothing else: no credentials, which would be written down with it."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return False
    is_bare = not (parts.query or parts.fragment or "@" in parts.netloc)
    return parts.scheme in {"http", "https"} and bool(parts.hostname) and is_bare


def shown_url(url: str) -> str:
    """The address without what only says who asks; none where a password may have ended its host.

    Example:
        >>> shown_url("rediss://app:secret@cache.example:6380/0?x=1")
        'rediss://cache.example:6380/0'
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        return "(no address)"
    is_file = parts.scheme == "sqlite" and not parts.netloc
    # After the host, an @ is most likely that of a password with a / or a ? in it, or of an address without its //.
    if "@" in parts.path + parts.query + parts.fragment and not is_file:
        return "(no address)"
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
