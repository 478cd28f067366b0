"""A ledger, or a file of old lines, read forwards where all of it is wanted: many lines at once, in little memory."""

import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from claude_force.insight.ledger import MAX_LINE_BYTES, UNREADABLE, Line

if TYPE_CHECKING:
    from io import BufferedIOBase

    import msgspec

# What is made of larger ones falls out of the processor's cache.
BLOCK_BYTES = 1 << 19


class Block(NamedTuple):
    """A piece of a file."""

    start: int
    data: bytes
    """Whole lines; only the file's last one may lack its end."""
    is_lines: bool = True
    """False for a part of a line that is too long to be one."""


def blocks(file: "BufferedIOBase", *, start: int = 0, end: int = sys.maxsize) -> Iterator[Block]:
    """The file from where it stands, which is `start`, up to `end`; together they are all that is there."""
    left, rest, is_long = end - start, b"", False
    while read := file.read(min(BLOCK_BYTES, left)):
        left -= len(read)
        data = rest + read if rest else read
        if is_long:
            is_long = b"\n" not in data
            cut = len(data) if is_long else data.index(b"\n") + 1
            yield Block(start, data[:cut], is_lines=False)
            start, data = start + cut, data[cut:]
        cut = data.rfind(b"\n") + 1
        if cut:
            yield Block(start, data[:cut])
        start, rest = start + cut, data[cut:]
        if len(rest) > MAX_LINE_BYTES:
            yield Block(start, rest, is_lines=False)
            start, rest, is_long = start + len(rest), b"", True
    if rest:
        yield Block(start, rest)


def lines_of(block: Block, decoder: "msgspec.json.Decoder[Line]") -> tuple[list[Line], int]:
    """Its lines, sound or not, and how many others cannot be read; empty ones are left out."""
    if not block.is_lines:
        return [], int(block.data.endswith(b"\n"))
    with suppress(*UNREADABLE):
        found = decoder.decode_lines(block.data)
        if len(found) == block.data.count(b"\n") + (not block.data.endswith(b"\n")):  # or one goes over two lines
            return found, 0
    lines, unreadable = [], 0
    for data in block.data.split(b"\n"):
        try:
            if data:
                lines.append(decoder.decode(data))
        except UNREADABLE:
            unreadable += 1
    return lines, unreadable
