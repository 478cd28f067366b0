"""Reads `.safetensors` files: numbers with a table of contents, and nothing that could be run.

A file is 8 bytes with the length of a JSON header, the header, and the numbers. Every length and place is checked
before it is used, so a wrong file is a `WeightsError` and never a crash, or memory that was asked for and not needed.
Only 32-bit floats are read: the models that we know have no others.
"""

import mmap
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_HEADER_BYTES = 1_000_000
"""MiniLM's has 10,000."""
_LENGTH_BYTES = 8


class WeightsError(Exception):
    """The file is not what it should be; the message says how."""


class _Tensor(msgspec.Struct):
    dtype: str
    shape: list[int]
    data_offsets: tuple[int, int]


class Tensors:
    """The numbers of one file, which are read from the disk when they are used. Raises `OSError` and `WeightsError`."""

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            size = path.stat().st_size
            length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
            self._start = _LENGTH_BYTES + length
            if not 0 < length <= MAX_HEADER_BYTES or self._start > size:
                raise WeightsError(f"its header claims {length:,} bytes")
            self.header = file.read(length)
            self._data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        try:
            table = msgspec.json.decode(self.header, type=dict[str, msgspec.Raw])
            table.pop("__metadata__", None)
            self._tensors = {name: msgspec.json.decode(raw, type=_Tensor) for name, raw in table.items()}
        except (msgspec.MsgspecError, RecursionError) as error:
            raise WeightsError(f"its header is broken ({error})") from error

    def get(self, name: str, *shape: int) -> "NDArray[np.float32]":
        """One of them, which must have this shape."""
        import numpy as np  # noqa: PLC0415 - an extra

        tensor = self._tensors.get(name)
        if tensor is None:
            raise WeightsError(f"it has no {name!r}")
        if tensor.dtype != "F32" or tuple(tensor.shape) != shape:
            raise WeightsError(f"{name!r} is {tensor.dtype} of {tensor.shape}, and should be F32 of {list(shape)}")
        count = 1
        for side in shape:
            count *= side
        begin, end = (self._start + offset for offset in tensor.data_offsets)
        if not self._start <= begin <= end <= len(self._data) or end - begin != 4 * count:
            raise WeightsError(f"{name!r} lies outside of the file")
        numbers = np.frombuffer(self._data, np.dtype("<f4"), count, begin)
        return np.require(numbers, np.float32, ["ALIGNED"]).reshape(shape)

    def rows(self, name: str) -> int:
        """How many rows it has, whatever their length; 0 where there is none of that name."""
        tensor = self._tensors.get(name)
        return tensor.shape[0] if tensor is not None and tensor.shape else 0
