"""Files that a task is about, read as text and nothing else."""

import os
from pathlib import Path

from claude_force.base.errors import TaskError
from claude_force.base.records import Material

# A material limit in characters is checked later; this only keeps a mistaken path from filling the memory.
MAX_BYTES = 32 * 1024 * 1024


def read_material(path: str | Path) -> Material:
    """The file's text, unchanged, named as it was given. Raises `TaskError` for what is no UTF-8 text file."""
    name = readable_name(path)
    try:
        with Path(path).open("rb") as file:
            return text_material(name, file.read(MAX_BYTES + 1))
    except OSError as error:
        raise unreadable(name, error) from error


def readable_name(path: str | os.PathLike[str]) -> str:
    """The path as text: the bytes of a file's name may be none, and must not spoil the request."""
    return os.fsencode(path).decode(errors="replace")


def text_material(name: str, data: bytes) -> Material:
    """The bytes as a material. Raises `TaskError` as `as_text` does."""
    return Material(name, as_text(name, data))


def unreadable(name: str, error: OSError) -> TaskError:
    """The error for a file that the system does not let us read."""
    reason = (error.strerror or type(error).__name__).lower()
    return TaskError(f"cannot read {name!r}: {reason}; give the path of a text file", source=name)


def as_text(name: str, data: bytes) -> str:
    """The bytes as text. Raises `TaskError` where they are too many, or no UTF-8."""
    if len(data) > MAX_BYTES:
        raise TaskError(f"{name!r} has more than {MAX_BYTES >> 20} MB; give a part of it", source=name)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        what = f"{name!r} is not UTF-8 text (byte {error.start} is {data[error.start]:#04x})"
        raise TaskError(f"{what}; convert it, or give a text file", source=name) from error
