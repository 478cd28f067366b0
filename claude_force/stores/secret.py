"""Where the secret that signs the cache comes from: the caller, the environment, or a file that is made once.

Several secrets may be given, the newest first: the first signs, the others are still believed. That is how one is
changed without losing what it signed.
"""

import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path

from claude_force.base.errors import ConfigError
from claude_force.stores.files import open_regular, write_once

VARIABLE = "CLAUDE_CACHE_SECRET"

MIN_SECRET_BYTES = 16
"""128 bits, if each byte is random: who has a signed entry can try short secrets offline, at millions a second."""

Secret = str | bytes | Iterable[str | bytes]


def given_secrets(secret: Secret | None, variable: str | None) -> tuple[bytes, ...]:
    """The secrets of the caller, else of the environment variable, newest first; none where nobody gives one.

    The variable may hold several, with commas between; the caller may give a list. Raises `ConfigError` for one that
    is too short.
    """
    if isinstance(secret, (str, bytes)):
        secret = [secret]
    if secret is not None:
        return _checked([_encoded(part) for part in secret], "secret=")
    if variable:
        return _checked(
            [_encoded(part.strip()) for part in variable.split(",")], f"{VARIABLE} (commas separate several)"
        )
    return ()


def own_secrets(environment: Mapping[str, str]) -> tuple[bytes, ...]:
    """Those of the environment, else of the user's file. Raises `ConfigError`."""
    return given_secrets(None, environment.get(VARIABLE)) or file_secrets(secret_path())


def secret_path() -> Path:
    """In the user's own config folder: who can write to what is signed must not be able to read it there."""
    from platformdirs import user_config_path  # noqa: PLC0415 - not where a secret is given

    return user_config_path("claude-force") / "cache.key"


def file_secrets(path: Path) -> tuple[bytes, ...]:
    """The secrets in a file, one a line, newest first; a file with a random one is made where there is none.

    Processes that make it at once all get the same. Raises `ConfigError` for a file that cannot be made or read, that
    others may read, or that holds no secret.
    """
    try:
        if not path.exists():
            write_once(path, os.urandom(32).hex().encode() + b"\n")
        with open_regular(path) as file:
            mode, data = stat.S_IMODE(os.fstat(file.fileno()).st_mode), file.read()
    except OSError as error:
        raise ConfigError(
            f"the secret that signs what is kept cannot be made or read in {str(path)!r}: {error.strerror or error};"
            f" mend that, or set {VARIABLE}"
        ) from error
    if mode & 0o077:
        raise ConfigError(
            f"others may read the cache's secret in {str(path)!r} (mode {mode:04o}); `chmod 600` it, or delete it"
            " and a new one is made"
        )
    return _checked(data.split(), repr(str(path)))


def _encoded(part: str | bytes) -> bytes:
    return part.encode(errors="surrogateescape") if isinstance(part, str) else part


def _checked(found: list[bytes], source: str) -> tuple[bytes, ...]:
    shortest = min(map(len, found), default=0)
    if shortest < MIN_SECRET_BYTES:
        raise ConfigError(
            f"a secret of {shortest} bytes from {source} is too short to sign the cache: it could be guessed; give at"
            f" least {MIN_SECRET_BYTES} random bytes, such as `openssl rand -hex 32`"
        )
    return tuple(found)
