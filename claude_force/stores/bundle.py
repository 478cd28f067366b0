"""Bundles: the entries of a cache as one file, for another machine, such as the next run of a CI job.

One JSON object a line: a head, an entry each as it is sealed, and a seal over all of it. So a bundle that was cut,
edited, put together from several or made without the secret is refused as a whole, before any entry is used; and each
entry is checked once more by who takes it. Both machines need the same secret.
"""

import base64
import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec

from claude_force.base.errors import CacheError
from claude_force.stores.entries import Stored
from claude_force.stores.files import open_regular, replacing_privately
from claude_force.stores.seal import MAX_PLAIN_BYTES, ForgedError, Sealer, UnreadableError

_HEAD = b'{"bundle": "claude-force response cache", "format": 1}\n'
_SEALED_FOR = "bundle"  # no entry's key, so that no entry passes for the seal of a bundle
_MAX_LINE_BYTES = 2 * MAX_PLAIN_BYTES


class _Line(msgspec.Struct, omit_defaults=True):
    """An entry, or, without a key, the seal of the bundle."""

    sealed: str
    key: str = ""


def write_bundle(path: Path, entries: Iterable[Stored], sealer: Sealer) -> int:
    """Write the entries to a private file, whole or not at all; how many it were. Raises `CacheError`."""
    try:
        with replacing_privately(path) as file:
            return _write(file, entries, sealer)
    except OSError as error:
        raise CacheError(
            f"cannot write {str(path)!r}: {error.strerror or error}; give a path that you may write to", path=str(path)
        ) from error


def _write(file: BinaryIO, entries: Iterable[Stored], sealer: Sealer) -> int:
    digest, count = hashlib.sha256(_HEAD), 0
    file.write(_HEAD)
    for count, entry in enumerate(entries, 1):  # noqa: B007 - the last number is the count
        line = _line(entry.sealed, entry.key)
        digest.update(line)
        file.write(line)
    file.write(_line(sealer.seal(_SEALED_FOR, digest.digest())))
    return count


def _line(sealed: bytes, key: str = "") -> bytes:
    return msgspec.json.encode(_Line(sealed=base64.b85encode(sealed).decode(), key=key)) + b"\n"


def read_bundle(path: Path, sealer: Sealer) -> Iterator[tuple[str, bytes]]:
    """The keys and sealed bytes of a bundle, after its own seal was checked. Raises `CacheError`."""
    try:
        with open_regular(path) as file:
            if not _is_ours(file, sealer):
                raise CacheError(
                    f"{str(path)!r} is no whole bundle that was signed with our secret; export it again, and give both"
                    " machines the same CLAUDE_CACHE_SECRET",
                    path=str(path),
                )
            file.seek(len(_HEAD))
            for line in map(_parsed, file):
                if line.key:
                    yield line.key, base64.b85decode(line.sealed)
    except OSError as error:
        raise CacheError(
            f"cannot read {str(path)!r}: {error.strerror or error}; give a file that `cache export` wrote",
            path=str(path),
        ) from error


def _is_ours(file: BinaryIO, sealer: Sealer) -> bool:
    if file.readline(len(_HEAD)) != _HEAD:
        return False
    digest, last = hashlib.sha256(_HEAD), b""
    while line := file.readline(_MAX_LINE_BYTES):
        digest.update(last)
        last = line
    try:
        return sealer.unseal(_SEALED_FOR, base64.b85decode(_parsed(last).sealed)) == digest.digest()
    except (ForgedError, UnreadableError, msgspec.MsgspecError, ValueError):
        return False


def _parsed(line: bytes) -> _Line:
    return msgspec.json.decode(line, type=_Line)
