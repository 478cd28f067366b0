"""The ledger for other programs: CSV, JSON, JSON lines or Parquet, one row for each execution, the first one first.

Rows are written as they are read, so a ledger of any length takes little memory. Columns are those of `LedgerLine`,
but for the calls of an execution, which fit into no table. Money is exact; Parquet holds 18 decimal places of it.
"""

import csv
import io
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from decimal import Context, Decimal
from itertools import islice
from typing import Any, Literal, Protocol, get_type_hints

import msgspec

from claude_force.base.errors import InputError
from claude_force.insight.ledger import LedgerLine

Format = Literal["csv", "json", "jsonl", "parquet"]

_KINDS = {name: kind for name, kind in get_type_hints(LedgerLine).items() if name != "calls"}
COLUMNS = tuple(_KINDS)
_MONEY_DIGITS, _MONEY_PLACES = 38, 18
_LEAST_MONEY = Decimal(1).scaleb(-_MONEY_PLACES)
_BATCH_ROWS = 10_000
# What a spreadsheet takes for a formula, by https://owasp.org/www-community/attacks/CSV_Injection.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


class Sink(Protocol):
    """Where bytes go."""

    def write(self, data: bytes, /) -> object:
        """Take them."""


def write_rows(lines: Iterable[LedgerLine], sink: Sink, format_: Format) -> None:
    """Write a row for each. Raises `InputError`, before anything is written, where a package is missing."""
    _WRITERS[format_](lines, sink)


def _values(line: LedgerLine) -> dict[str, Any]:
    facts = {name: getattr(line, name) for name in COLUMNS}
    return facts | {"timestamp": line.begun_at.astimezone(UTC)}


def _csv(lines: Iterable[LedgerLine], sink: Sink) -> None:
    buffer = io.StringIO()
    table = csv.writer(buffer)
    table.writerow(COLUMNS)
    for line in lines:
        table.writerow(map(_cell, _values(line).values()))
        if buffer.tell() > io.DEFAULT_BUFFER_SIZE:
            _pour(buffer, sink)
    _pour(buffer, sink)


def _pour(buffer: io.StringIO, sink: Sink) -> None:
    sink.write(buffer.getvalue().encode(errors="replace"))
    buffer.seek(0)
    buffer.truncate()


def _cell(value: object) -> object:
    """As a spreadsheet may have it: a text that it would take for a formula gets an apostrophe."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Decimal):
        return format(value, "f")
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


_encode = msgspec.json.Encoder(decimal_format="number").encode


def _json(lines: Iterable[LedgerLine], sink: Sink) -> None:
    before = b"[\n"
    for line in lines:
        sink.write(before + _encode(_values(line)))
        before = b",\n"
    sink.write(b"[]\n" if before == b"[\n" else b"\n]\n")


def _jsonl(lines: Iterable[LedgerLine], sink: Sink) -> None:
    for line in lines:
        sink.write(_encode(_values(line)) + b"\n")


def _parquet(lines: Iterable[LedgerLine], sink: Sink) -> None:
    try:
        import pyarrow as pa  # noqa: PLC0415 - an extra, of 50 MB
        from pyarrow import parquet  # noqa: PLC0415 - as above
    except ImportError as error:
        raise InputError(
            "Parquet needs another package; pip install 'claude-force[parquet]', or export csv or jsonl"
        ) from error
    types = {
        str: pa.string(),
        str | None: pa.string(),
        datetime: pa.timestamp("us", tz="UTC"),
        bool: pa.bool_(),
        float: pa.float64(),
        int: pa.int64(),
        Decimal | None: pa.decimal128(_MONEY_DIGITS, _MONEY_PLACES),
    }
    schema = pa.schema([(name, types[kind]) for name, kind in _KINDS.items()])
    rows = iter(lines)
    with parquet.ParquetWriter(pa.PythonFile(sink, "w"), schema, compression="zstd") as writer:
        while batch := [_rounded(_values(line)) for line in islice(rows, _BATCH_ROWS)]:
            writer.write_batch(pa.RecordBatch.from_pylist(batch, schema))


def _rounded(values: dict[str, Any]) -> dict[str, Any]:
    context = Context(_MONEY_DIGITS)
    return {
        name: value.quantize(_LEAST_MONEY, context=context) if isinstance(value, Decimal) else value
        for name, value in values.items()
    }


_WRITERS: dict[Format, Callable[[Iterable[LedgerLine], Sink], None]] = {
    "csv": _csv,
    "json": _json,
    "jsonl": _jsonl,
    "parquet": _parquet,
}
