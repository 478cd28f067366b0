"""The vectors of texts that are asked about again and again, kept in a file, so that each is computed once.

The file is a plain `.npy` array with a seal behind it: our own signature over the digest of the array, its shape and
type, the model's fingerprint, and the digest of the text of each row. What is not signed by us is not even looked at,
nothing is ever unpickled, and what does not fit is computed anew. So is the row of a text that was edited, alone.
Whatever the disk does costs time and nothing else.
"""

import hashlib
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from claude_force.base.errors import ConfigError
from claude_force.selection.minilm import MiniLm
from claude_force.selection.threads import one_thread
from claude_force.stores.files import make_private_folder, open_regular, replacing_privately
from claude_force.stores.seal import ForgedError, Sealer, UnreadableError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float32]

FORMAT = 1
"""Of the file."""
MAX_FILE_BYTES = 64 * 1024 * 1024
"""40,000 texts."""
_LENGTH_BYTES = 4
_NUMBERS = "<f4"


class _Facts(msgspec.Struct, frozen=True):
    """What is signed."""

    format: int
    model: str
    digests: tuple[str, ...]
    """Of the text of each row."""
    shape: tuple[int, int]
    dtype: str
    sha256: str
    """Of the array's bytes, its header included."""


class TextVectors:
    """Vectors by one model. `sealer` may raise `ConfigError`: then nothing is kept."""

    def __init__(self, model: MiniLm, fingerprint: str, path: Path, sealer: Callable[[], Sealer]) -> None:
        self._model, self._fingerprint, self._path, self._make_sealer = model, fingerprint, path, sealer

    def one(self, text: str) -> "Array":
        """That of a text that will not be asked about again."""
        with one_thread():
            return self._model.vector(text)

    def many(self, texts: Sequence[str]) -> "Array":
        """One row for each."""
        digests = [hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest() for text in texts]
        try:
            sealer: Sealer | None = self._make_sealer()
        except ConfigError:
            sealer = None
        kept = self._read(sealer) if sealer else {}
        with one_thread():
            rows = [
                kept[digest] if digest in kept else self._model.vector(text)
                for digest, text in zip(digests, texts, strict=True)
            ]
        array = np.array(rows, np.dtype(_NUMBERS)).reshape(len(rows), self._model.size)
        if sealer and kept.keys() != set(digests):
            self._write(sealer, array, digests)
        return array

    def _read(self, sealer: Sealer) -> "dict[str, Array]":
        """The rows that we have signed, by the digest of their text."""
        try:
            with open_regular(self._path) as file:
                data = file.read(MAX_FILE_BYTES + 1)
        except OSError:
            return {}
        if not _LENGTH_BYTES <= len(data) <= MAX_FILE_BYTES:
            return {}
        end = len(data) - _LENGTH_BYTES - int.from_bytes(data[-_LENGTH_BYTES:], "little")
        if end < 0:
            return {}
        try:
            signed = sealer.unseal(_KEY, data[end:-_LENGTH_BYTES])
            facts = msgspec.json.decode(signed, type=_Facts)
        except (ForgedError, UnreadableError, msgspec.MsgspecError):
            return {}
        shape = (len(facts.digests), self._model.size)
        is_ours = (facts.format, facts.model, facts.shape, facts.dtype) == (FORMAT, self._fingerprint, shape, _NUMBERS)
        if not is_ours or hashlib.sha256(data[:end]).hexdigest() != facts.sha256:
            return {}
        array = np.load(io.BytesIO(data[:end]), allow_pickle=False)
        return dict(zip(facts.digests, array, strict=True))

    def _write(self, sealer: Sealer, array: "Array", digests: Sequence[str]) -> None:
        buffer = io.BytesIO()
        np.save(buffer, array, allow_pickle=False)
        data = buffer.getvalue()
        shape = (len(digests), self._model.size)
        facts = _Facts(FORMAT, self._fingerprint, tuple(digests), shape, _NUMBERS, hashlib.sha256(data).hexdigest())
        seal = sealer.seal(_KEY, msgspec.json.encode(facts))
        try:
            make_private_folder(self._path.parent)
            with replacing_privately(self._path) as file:
                file.writelines((data, seal, len(seal).to_bytes(_LENGTH_BYTES, "little")))
        except OSError:  # a read-only or full disk: they are computed again
            return


_KEY = "vectors of agents"
