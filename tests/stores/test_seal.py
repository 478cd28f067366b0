"""Seals: what was signed for one key opens under that key, with that secret, and not otherwise."""

import hmac
import sys
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_force.stores import seal
from claude_force.stores.seal import ForgedError, Sealer, UnreadableError

SECRET = b"a secret for tests"
SEALER = Sealer([SECRET])


@given(st.text(), st.binary(max_size=20_000))
def test_what_is_sealed_comes_back(key: str, plain: bytes) -> None:
    """Any bytes, under any key."""
    assert SEALER.unseal(key, SEALER.seal(key, plain)) == plain


@given(st.text(), st.text(), st.binary(max_size=100))
def test_another_key_is_a_forgery(key: str, other: str, plain: bytes) -> None:
    """A seal holds for one key alone, also where one key is a part of the other."""
    sealed = SEALER.seal(key, plain)
    if other != key:
        with pytest.raises(ForgedError):
            SEALER.unseal(other, sealed)


@given(st.binary(max_size=200))
def test_what_nobody_sealed_is_a_forgery(sealed: bytes) -> None:
    """Any bytes at all, and without any other error."""
    with pytest.raises(ForgedError):
        SEALER.unseal("key", sealed)


def signed(body: bytes) -> bytes:
    """These bytes, as another version of ours would have signed them."""
    key = seal._derived(SECRET, "signature")
    return hmac.digest(key, b"key\0" + body, "sha256") + body


@pytest.mark.parametrize(
    "body",
    [b"\x02\x00later", b"\x01\x80later", b"\x01\x01" + zlib.compress(bytes(seal.MAX_PLAIN_BYTES + 1))],
    ids=["a newer format", "an unknown form", "more than there is room for"],
)
def test_what_is_ours_and_cannot_be_read_is_no_forgery(body: bytes) -> None:
    """It is left for the version that wrote it; and what is packed too well is not unpacked to its end."""
    with pytest.raises(UnreadableError):
        SEALER.unseal("key", signed(body))


@pytest.mark.parametrize("plain", [b"text", b"much text" * 10_000])
def test_what_an_older_secret_has_encrypted(plain: bytes) -> None:
    """It is read as long as the secret is one of ours, by who encrypts and by who does not."""
    old, new = Sealer([b"old"], encrypt=True), Sealer([b"new", b"old"])
    sealed = old.seal("key", plain)
    assert len(sealed) < len(plain) + 100
    assert plain[:4] not in sealed
    assert sealed != old.seal("key", plain)
    assert new.unseal("key", sealed) == plain
    assert Sealer([b"old"]).unseal("key", sealed) == plain


def test_what_is_encrypted_stays_where_the_library_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no forgery, which would be moved away: whoever has the library reads it."""
    sealed = Sealer([SECRET], encrypt=True).seal("key", b"text")
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.ciphers.aead", None)
    with pytest.raises(UnreadableError, match="encryption"):
        SEALER.unseal("key", sealed)
