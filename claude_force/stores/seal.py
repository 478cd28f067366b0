"""Seals: bytes that are believed only where our own signature is on them, under the key that they were made for.

A sealed entry is `signature (32 bytes) | format (1) | form (1) | payload`. The signature is HMAC-SHA256, by a key that
is derived from the secret, over the entry's key and all that follows; it is compared in constant time, and before
anything else is looked at. So what is edited, cut, copied under another key, unsigned, or signed by somebody else is
refused, and what is unpacked afterwards is known to be ours.
"""

import hashlib
import hmac
import os
import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from claude_force.base.errors import ConfigError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

FORMAT = 1
"""Of the seal and of what it holds. Another one is not read, and left for the version that wrote it."""

# Below, zlib costs more time (20 µs for 4 KB of code) than the disk and the signature gain.
MIN_COMPRESSED_BYTES = 8_192
# No answer is as large; what claims to be is not unpacked to its end.
MAX_PLAIN_BYTES = 64 * 1024 * 1024

_SIGNATURE_BYTES = 32
_BLOCK_BYTES = 64  # of SHA-256; our keys are shorter
_NONCE_BYTES = 12
_COMPRESSED, _ENCRYPTED = 1, 2


class ForgedError(Exception):
    """The signature is none of ours, or not for this key."""


class UnreadableError(Exception):
    """Ours, but of another format, or encrypted where the `encryption` extra is missing: to be left alone."""


class Sealer:
    """Seals with the first secret, and opens what any of them has sealed.

    Example:
        >>> old, new = Sealer([b"old" * 16]), Sealer([b"new" * 16, b"old" * 16])
        >>> bytes(new.unseal("key", old.seal("key", b"text")))
        b'text'
    """

    def __init__(self, secrets: Sequence[bytes], *, encrypt: bool = False) -> None:
        self._secrets = tuple(secrets)
        self._macs = tuple(_begun_hmac(_derived(secret, "signature")) for secret in secrets)
        self._cipher = _cipher(secrets[0]) if encrypt else None

    def seal(self, key: str, plain: bytes) -> bytes:
        """The bytes, packed and signed for this key."""
        form, payload = 0, plain
        if len(plain) >= MIN_COMPRESSED_BYTES:
            packed = zlib.compress(plain, 1)
            if len(packed) < len(plain) * 3 // 4:
                form, payload = _COMPRESSED, packed
        if self._cipher is not None:
            nonce = os.urandom(_NONCE_BYTES)
            form, payload = form | _ENCRYPTED, nonce + self._cipher.encrypt(nonce, payload, key.encode())
        signed = bytes((FORMAT, form)) + payload
        return _signature(self._macs[0], key, signed) + signed

    def unseal(self, key: str, sealed: bytes) -> "bytes | memoryview":
        """What was sealed for this key. Raises `ForgedError` or `UnreadableError`."""
        if len(sealed) < _SIGNATURE_BYTES + 2:
            raise ForgedError
        given, signed = sealed[:_SIGNATURE_BYTES], memoryview(sealed)[_SIGNATURE_BYTES:]
        for number, mac in enumerate(self._macs):
            if hmac.compare_digest(given, _signature(mac, key, signed)):
                return self._unpacked(key, signed, number)
        raise ForgedError

    def _unpacked(self, key: str, signed: memoryview, secret: int) -> "bytes | memoryview":
        form: int = signed[1]
        payload: bytes | memoryview = signed[2:]
        if signed[0] != FORMAT or form & ~(_COMPRESSED | _ENCRYPTED):
            raise UnreadableError(f"format {signed[0]}.{form}")
        if form & _ENCRYPTED:
            try:
                cipher = _cipher(self._secrets[secret])
            except ConfigError as error:
                raise UnreadableError(str(error)) from error
            payload = cipher.decrypt(bytes(payload[:_NONCE_BYTES]), bytes(payload[_NONCE_BYTES:]), key.encode())
        if form & _COMPRESSED:
            unpacking = zlib.decompressobj()
            payload = unpacking.decompress(payload, MAX_PLAIN_BYTES)
            if not unpacking.eof:
                raise UnreadableError(f"more than {MAX_PLAIN_BYTES:,} bytes")
        return payload


def check_encryption() -> None:
    """Raise `ConfigError` where the library that encrypts is missing."""
    _cipher(bytes(_SIGNATURE_BYTES))


def _begun_hmac(key: bytes) -> tuple["hashlib._Hash", "hashlib._Hash"]:
    """HMAC-SHA256 (RFC 2104) as far as it is the same for all messages: the inner and the outer hash of the key.

    Copied for each use; `hmac.HMAC` wraps the same in Python, for a tenth of a hit from disk.
    """
    block = key.ljust(_BLOCK_BYTES, b"\0")
    return hashlib.sha256(bytes(byte ^ 0x36 for byte in block)), hashlib.sha256(bytes(byte ^ 0x5C for byte in block))


def _signature(begun: tuple["hashlib._Hash", "hashlib._Hash"], key: str, signed: bytes | memoryview) -> bytes:
    inner, outer = begun[0].copy(), begun[1].copy()
    inner.update(key.encode() + b"\0")
    inner.update(signed)
    outer.update(inner.digest())
    return outer.digest()


def _derived(secret: bytes, purpose: str) -> bytes:
    """A key for one purpose: HMAC as a pseudorandom function, the expand step of RFC 5869 for one block."""
    return hmac.digest(secret, f"claude-force response cache {FORMAT} {purpose}\x01".encode(), hashlib.sha256)


def _cipher(secret: bytes) -> "AESGCM":
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise ConfigError(
            "the cache cannot encrypt: the library is missing; `pip install 'claude-force[encryption]'`"
        ) from error
    return AESGCM(_derived(secret, "encryption"))
