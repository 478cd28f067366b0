"""The vectors that are kept: computed once, and believed only as we have signed them."""

import io
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from claude_force.base.errors import ConfigError
from claude_force.selection.minilm import MiniLm
from claude_force.selection.threads import _switch, one_thread
from claude_force.selection.vectors import TextVectors
from claude_force.stores.seal import Sealer
from tests.conftest import in_threads

from .conftest import write_model

TEXTS = ["the code", "the tests", "review!"]


class Counting(MiniLm):
    """Knows how many texts it has read."""

    read = 0

    def vector(self, text: str) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        self.read += 1
        return super().vector(text)


class Kept:
    """A file of vectors, and what it costs to ask it."""

    def __init__(self, model: Path, path: Path) -> None:
        self.path = path
        self.model = Counting(model)
        self.right = np.array([self.model.vector(text) for text in TEXTS])

    def ask(self, *, secret: bytes = b"s" * 16, fingerprint: str = "1", texts: list[str] = TEXTS) -> int:
        """How many texts had to be read; what is given is right in any case."""
        self.model.read = 0
        vectors = TextVectors(self.model, fingerprint, self.path, lambda: Sealer([secret])).many(texts)
        known = dict(zip(TEXTS, self.right, strict=True))
        for text, row in zip(texts, vectors, strict=True):
            if text in known:
                assert np.array_equal(row, known[text])
        return self.model.read


@pytest.fixture
def kept(model: Path, tmp_path: Path) -> Kept:
    """One that was asked once."""
    found = Kept(model, tmp_path / "kept" / "agents.npy")
    assert found.ask() == len(TEXTS)
    return found


def test_computed_once(kept: Kept) -> None:
    """In a plain array that only this user may read; an edited text is read anew, alone."""
    assert kept.ask() == 0
    assert kept.path.stat().st_mode & 0o777 == 0o600
    assert np.array_equal(np.load(kept.path, allow_pickle=False), kept.right)
    assert kept.ask(texts=["the code", "another", "review!"]) == 1
    assert kept.ask(texts=["the code", "another", "review!"]) == 0
    assert kept.ask(texts=["another"]) == 0


def _flip(at: int) -> Callable[[bytes], bytes]:
    return lambda data: data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def _pickled(_: bytes) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array([_Bomb()], object), allow_pickle=True)
    return buffer.getvalue()


class _Bomb:
    """Does harm where it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str, ...]]:
        return os.mkdir, ("harm",)


def _exchanged(data: bytes) -> bytes:
    """Another array before a seal of ours."""
    buffer = io.BytesIO()
    np.save(buffer, np.ones((3, 8), "<f4"))
    return buffer.getvalue() + data[len(buffer.getvalue()) :]


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(_flip(3), id="magic"),
        pytest.param(_flip(60), id="shape"),
        pytest.param(_flip(150), id="number"),
        pytest.param(_flip(-40), id="seal"),
        pytest.param(_flip(-1), id="length"),
        pytest.param(lambda data: data[:-1], id="cut"),
        pytest.param(lambda data: data[:140], id="cut in the array"),
        pytest.param(lambda _: b"", id="empty"),
        pytest.param(lambda _: b"\xff" * 300, id="rubbish"),
        pytest.param(_pickled, id="pickle"),
        pytest.param(lambda data: _pickled(data) + data[-400:], id="pickle with a seal"),
        pytest.param(_exchanged, id="another array"),
    ],
)
def test_what_we_have_not_signed_is_never_believed(
    kept: Kept, damage: Callable[[bytes], bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is computed anew, and put right; nothing is unpickled."""
    monkeypatch.chdir(tmp_path)
    kept.path.write_bytes(damage(kept.path.read_bytes()))
    assert kept.ask() == len(TEXTS)
    assert kept.ask() == 0
    assert not Path("harm").exists()


def test_another_secret_or_model(kept: Kept, tmp_path: Path) -> None:
    """What somebody else has signed, or another model has made, is no vector of ours."""
    assert kept.ask(secret=b"t" * 16) == len(TEXTS)
    assert kept.ask(secret=b"s" * 16) == len(TEXTS)
    assert kept.ask(fingerprint="2") == len(TEXTS)
    other = Kept(write_model(tmp_path / "other", seed=2), kept.path)
    assert other.ask(fingerprint="3") == len(TEXTS)


def test_a_place_that_cannot_be_used_costs_only_time(kept: Kept, tmp_path: Path) -> None:
    """No folder there, no secret, or a pipe that nobody writes to; a link is replaced, and what it leads to is left."""
    (tmp_path / "file").write_text("mine")
    assert Kept(tmp_path / "model", tmp_path / "file" / "agents.npy").ask() == len(TEXTS)

    def none() -> Sealer:
        raise ConfigError("no secret")

    model = MiniLm(tmp_path / "model")
    assert TextVectors(model, "1", tmp_path / "never" / "agents.npy", none).many(TEXTS).shape == (3, 8)
    assert not (tmp_path / "never").exists()
    kept.path.unlink()
    os.mkfifo(kept.path)
    assert kept.ask() == len(TEXTS)
    kept.path.unlink()
    kept.path.symlink_to(tmp_path / "file")
    assert kept.ask() == len(TEXTS)
    assert (tmp_path / "file").read_text() == "mine"


def test_pickle_does_harm_where_it_is_let() -> None:
    """The bomb of the tests above is a real one."""
    assert pickle.dumps(_Bomb())


def test_numpy_has_its_threads_back(model: Path) -> None:
    """Many readers at once leave the setting as it was, and so does one that fails."""
    switch = _switch()
    if switch is None:
        pytest.skip("numpy has another library here")
    before = switch(2)
    try:
        found = MiniLm(model)
        inside: list[int] = []

        def read() -> None:
            for _ in range(50):
                with one_thread():
                    found.vector("the code")
                    inside.append(switch(1))

        in_threads(read, 4)
        with pytest.raises(ZeroDivisionError), one_thread():
            _ = 1 / 0
        assert set(inside) == {1}
        assert switch(2) == 2
    finally:
        switch(before)
