"""Lines that others wrote, in whatever order and form: many at once are counted as one by one, and by two as by one."""

import json
import os
import resource
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claude_force.insight.cells import Cells, add_lines, days_of, merge
from claude_force.insight.helper import Helper
from claude_force.insight.index import WORTH_HELP_BYTES, Index, read_index
from claude_force.insight.ledger import LONG, UNREADABLE
from claude_force.insight.past import Past

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)

odd_costs = st.sampled_from(
    ["0.25", "0", "-0.0", "1e-9", "0e-41", "1e-999999", "-0.1", "1e12", "1e999999", '"NaN"', '"sNaN"', '"-Infinity"']
)
usual_costs = st.integers(0, 10**6).map(lambda number: f"{number / 10**6}") | st.just("null")
odd_tokens = st.sampled_from([-1, 10**12, 10**12 + 1, 10**30, 1.5])
odd_times = st.sampled_from(["-5.0", "0", "90000000", "1e300", "1e999", "NaN"])
moments = st.timedeltas(-timedelta(days=2), timedelta(days=2)).map(lambda since: (NOON + since).isoformat())
odd_moments = st.sampled_from(
    [
        "2026-11-20T23:59:59.999",  # without a time zone
        "2026-11-20T23:59:59+05:30",
        "2026-11-20t12:00:00z",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59Z",
        "yesterday",
    ]
)


def rarely(odd: st.SearchStrategy[Any], usual: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """One of the usual ones nearly always: where each line is odd, nothing is done for many at once."""
    return st.integers(0, 19).flatmap(lambda number: usual if number else odd)


@st.composite
def written(draw: st.DrawFn) -> bytes:
    """A line, or what is none."""
    facts = {
        "timestamp": json.dumps(draw(rarely(odd_moments, moments))),
        "agent_name": draw(st.sampled_from(['"a"', '"b"', '"\\u00e9"', '"é"'])),
        "success": draw(rarely(st.just("false"), st.just("true"))),
        "execution_time_ms": draw(rarely(odd_times, st.floats(0, 9e4).map(str))),
        "model": draw(st.sampled_from(['"m"', '"n"', "null"])),
        "input_tokens": str(draw(rarely(odd_tokens, st.integers(0, 10**6)))),
        "estimated_cost": draw(rarely(odd_costs, usual_costs)),
    }
    for name, values in {
        "error_type": st.sampled_from(['"ServerError"', '"Interrupted"']),
        "cached": st.just("true"),
        "simulated": st.just("true"),
        "saved_cost": odd_costs,
        "routing_saved": odd_costs,
        "cache_read_tokens": odd_tokens.map(str),
        "batch_id": st.just('"b"'),
        "of_a_newer_version": st.just('[{"x": 1}]'),
    }.items():
        if draw(rarely(st.just(True), st.just(False))):
            facts[name] = draw(values)
    for name in draw(rarely(st.sets(st.sampled_from(sorted(facts))), st.just(set()))):
        del facts[name]
    line = "{%s}" % ", ".join(f'"{name}": {value}' for name, value in facts.items())  # noqa: UP031 - braces
    found: str = draw(
        rarely(
            st.sampled_from([line[:20], "foreign", "[]", "", line.replace(", ", ",\n", 1), f"{line} {line}", "\x00"]),
            st.sampled_from([line, f"{line}\r"]),
        )
    )
    return found.encode()


def one_by_one(data: bytes) -> tuple[Cells, int]:
    """What the lines come to, and how many are none."""
    cells: Cells = {}
    unreadable = 0
    for line in filter(None, data.split(b"\n")):
        try:
            found = LONG.decode(line)
        except UNREADABLE:
            unreadable += 1
            continue
        own: Cells = {}
        assert add_lines(own, [found]) == (days_of(found) is None)
        unreadable += not own
        merge(cells, own)
    return cells, unreadable


def indexed(path: Path) -> Index:
    """The index of that ledger, made anew."""
    path.with_name("index.json").unlink(missing_ok=True)
    with Past(path) as past:
        return read_index(past)


def cells_of(index: Index) -> Cells:
    """All of its cells."""
    return {cell: figures for day in index.days.values() for cell, figures in day.cells.items()}


@settings(max_examples=40)
@given(st.lists(written(), max_size=40), st.sampled_from([b"\n", b""]))
def test_many_at_once_are_counted_as_one_by_one(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], ending: bytes
) -> None:
    """To the digit, and what is no line is counted as that; the last one may lack its end."""
    path = tmp_path_factory.mktemp("m") / "executions.jsonl"
    path.write_bytes(b"\n".join(lines) + ending)
    found = indexed(path)
    assert (cells_of(found), found.unreadable_lines) == one_by_one(path.read_bytes())


def children_s() -> float:
    """Processor time of the processes that this one has started."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime


def test_a_helper_counts_half_of_a_long_ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The figures are those of one process, with its help, and where it cannot be started or fails."""
    lines: list[bytes] = []
    for number in range(100):
        begun = (NOON + timedelta(hours=number)).isoformat()
        facts = {"timestamp": begun, "agent_name": "ab"[number % 2], "success": True, "execution_time_ms": number}
        lines.append(json.dumps(facts | {"estimated_cost": number / 8, "padding": "x" * 700_000}).encode())
        lines += [b"torn"] * (number % 10 == 0)
    path = tmp_path / "executions.jsonl"
    path.write_bytes(b"\n".join(lines))
    assert path.stat().st_size > WORTH_HELP_BYTES
    expected = one_by_one(path.read_bytes())
    before = children_s()
    found = indexed(path)
    assert (cells_of(found), found.unreadable_lines) == expected
    assert list(found.days) == sorted(found.days)
    assert (children_s() > before) == ((os.cpu_count() or 1) > 1)
    monkeypatch.setenv("PYTHONHOME", str(tmp_path))  # no Python starts with that
    found = indexed(path)
    assert (cells_of(found), found.unreadable_lines) == expected


def test_a_helper_ends_with_who_asked() -> None:
    """Whatever ends that: nobody is left who counts for nobody."""
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    before = children.read_text()

    def interrupted() -> None:
        with Helper("http.server", "--bind", "127.0.0.1", "0"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert children.read_text() == before
