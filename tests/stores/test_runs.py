"""The journal of runs: what was put down is there, whole and exact, whoever else writes and whenever it all ends."""

import base64
import gc
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from claude_force.stores.entries import StoreError
from claude_force.stores.runs import RunRecord, RunStore, StepRecord
from claude_force.stores.sqlite import SqliteEntries

# More, where somebody has the time: the tests themselves see no variable that begins like these.
CRASH_ROUNDS = int(os.environ.get("CLAUDE_FORCE_CRASH_ROUNDS", "3"))
EXAMPLES = int(os.environ.get("CLAUDE_FORCE_RUNS_EXAMPLES", "30"))

NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
RUN = RunRecord(id="20261121-120000-000001", workflow="review", status="running", started_at=NOON)
DONE = StepRecord(step="linter", agent="linter", status="done")


@pytest.fixture
def store(tmp_path: Path) -> Any:
    """A journal with one run."""
    store = RunStore(tmp_path / "runs.db")
    store.begin(RUN)
    yield store
    store.close()


def sql(path: Path, statement: str, *values: object) -> list[Any]:
    """What somebody else does to the file."""
    connection = sqlite3.connect(path)
    with connection:
        rows = connection.execute(statement, values).fetchall()
    connection.close()
    return rows


def sizes(path: Path) -> list[int]:
    """How many runs, steps and answers lie in the file."""
    return [sql(path, f"SELECT count(*) FROM {table}")[0][0] for table in ("runs", "steps", "answers")]  # noqa: S608


# ---------------------------------------------------------------- what is kept

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
moments = st.datetimes(timezones=st.just(UTC))
money = st.decimals(0, 10**6, places=12)  # with noughts at the end; costs are finite
counts = st.integers(0, 2**63 - 1)
runs = st.builds(
    RunRecord, id=texts, workflow=texts, status=texts, started_at=moments, ended_at=st.none() | moments,
    definition=texts, inputs=texts, cost_usd=st.none() | money, saved_usd=money, resumed=counts,
    error=st.none() | texts, simulated=st.booleans(),
)  # fmt: skip
steps = st.builds(
    StepRecord, step=texts, agent=texts, status=texts, key=st.none() | texts, model=st.none() | texts,
    started_at=st.none() | moments, ended_at=st.none() | moments, input_tokens=st.none() | counts,
    output_tokens=st.none() | counts, cost_usd=st.none() | money, saved_usd=st.none() | money, attempts=counts,
    reason=st.none() | texts, causes=texts,
)  # fmt: skip


@given(run=runs, noted=st.lists(steps, unique_by=lambda step: step.step), key=texts, sealed=st.binary())
@settings(max_examples=EXAMPLES)
def test_all_comes_back_as_it_was(run: RunRecord, noted: list[StepRecord], key: str, sealed: bytes) -> None:
    """Every text, every moment to the microsecond, and money to its last digit."""
    with tempfile.TemporaryDirectory() as folder:
        store = RunStore(Path(folder) / "runs.db")
        store.begin(run)
        store.note(run.id, *noted)
        store.keep(run.id, key, sealed)
        store.close()
        found = store.run(run.id)
        assert found == run
        assert found is not None
        assert str(found.saved_usd) == str(run.saved_usd)  # 0.10 is not 0.1
        assert store.steps(run.id) == noted
        assert store.answer(run.id, key) == sealed
        assert store.runs() == [replace(run, definition="{}", inputs="{}")]
        store.close()


def test_a_resumed_run_goes_on(store: RunStore) -> None:
    """It is running again, with what it is now, and has what it had."""
    store.keep(RUN.id, "a", b"paid")
    store.end(
        RUN.id,
        status="failed",
        ended_at=NOON + MINUTE,
        cost_usd=None,
        saved_usd=Decimal("0.1"),
        error="no",
        steps=[DONE],
    )
    ended = store.run(RUN.id)
    assert ended == replace(
        RUN, status="failed", ended_at=NOON + MINUTE, cost_usd=None, saved_usd=Decimal("0.1"), error="no"
    )
    taken = store.take_up(RUN.id, definition='{"new": 1}', inputs='{"x": 2}')
    assert taken == store.run(RUN.id)
    assert taken == replace(
        RUN, cost_usd=None, saved_usd=Decimal("0.1"), resumed=1, definition='{"new": 1}', inputs='{"x": 2}'
    )
    assert (store.answer(RUN.id, "a"), store.steps(RUN.id)) == (b"paid", [DONE])


def test_what_was_simulated_once_is_never_called_real(store: RunStore) -> None:
    """A run that is resumed live keeps the mark."""
    for simulated in (True, False):
        store.end(
            RUN.id, status="completed", ended_at=NOON, cost_usd=Decimal(0), saved_usd=Decimal(0), simulated=simulated
        )
    assert [run.simulated for run in store.runs()] == [True]


def test_a_step_stays_where_it_was_first_noted(store: RunStore) -> None:
    """What is noted of it later takes the place of all that was noted before."""
    store.note(RUN.id, DONE, replace(DONE, step="tests", cost_usd=Decimal("0.1"), reason="slow"))
    store.note(RUN.id, replace(DONE, step="summary"))
    store.note(RUN.id, replace(DONE, step="tests", status="failed"))
    noted = [(step.step, step.status, step.cost_usd, step.reason) for step in store.steps(RUN.id)]
    assert noted == [("linter", "done", None, None), ("tests", "failed", None, None), ("summary", "done", None, None)]


def test_steps_are_noted_together_or_not_at_all(store: RunStore) -> None:
    """One that cannot be written takes the others with it, at the end of a run as well."""
    wrong = [DONE, replace(DONE, step="\ud800")]
    with pytest.raises(StoreError):
        store.note(RUN.id, *wrong)
    with pytest.raises(StoreError):
        store.end(RUN.id, status="completed", ended_at=NOON, cost_usd=None, saved_usd=Decimal(0), steps=wrong)
    assert (store.steps(RUN.id), store.run(RUN.id)) == ([], RUN)


def test_runs_are_found_newest_first(store: RunStore) -> None:
    """By the beginning of their ids, by workflow, and as they began; what looks like a pattern is none."""
    for number, workflow in enumerate(["review", "release", "review"], 1):
        begun = NOON - number * MINUTE  # the clock was set back, again and again
        store.begin(RunRecord(id=f"20261121-120{number}00-%", workflow=workflow, status="running", started_at=begun))
    assert store.match("20261121-120") == [f"20261121-120{n}00-%" for n in (3, 2, 1)] + [RUN.id]
    assert (store.match("20261121-1201"), store.match("%"), store.match(RUN.id)) == (
        ["20261121-120100-%"],
        [],
        [RUN.id],
    )
    assert [run.started_at.minute for run in store.runs()] == [57, 58, 59, 0]
    assert [run.started_at.minute for run in store.runs(workflow="review", limit=2)] == [57, 59]


def test_how_long_steps_took(store: RunStore) -> None:
    """Each in the newest run in which it was done: neither cached nor failed, nor in another workflow."""
    for number, (workflow, status, seconds) in enumerate(
        [
            ("review", "done", 2),
            ("review", "done", 1.5),
            ("review", "cached", 0),
            ("review", "failed", 9),
            ("other", "done", 7),
        ]
    ):
        begun = NOON - number * MINUTE  # whatever the clock says
        store.begin(RunRecord(id=str(number), workflow=workflow, status="running", started_at=begun))
        took = replace(DONE, status=status, started_at=begun, ended_at=begun + timedelta(seconds=seconds))
        store.note(str(number), took, replace(took, step=f"only in {number}"), replace(DONE, step="not timed"))
    assert store.durations("review") == {"linter": 1.5, "only in 0": 2.0, "only in 1": 1.5}
    assert store.durations("unknown") == {}


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    "work",
    [
        lambda store: store.keep("nowhere", "a", b"x"),
        lambda store: store.note("nowhere", DONE),
        lambda store: store.note("nowhere", DONE, replace(DONE, step="b")),
        lambda store: store.end(
            "nowhere", status="failed", ended_at=NOON, cost_usd=None, saved_usd=Decimal(0), steps=[DONE]
        ),
        lambda store: store.take_up("nowhere", definition="{}", inputs="{}"),
    ],
    ids=["keep", "note one", "note two", "end", "take up"],
)  # fmt: skip
def test_a_run_that_is_not_there_gets_nothing(store: RunStore, work: Callable[[RunStore], object]) -> None:
    """Writing to it is an error that names it, and leaves nothing behind."""
    with pytest.raises(StoreError, match="has no run 'nowhere'"):
        work(store)
    assert sizes(store.path) == [1, 0, 0]
    assert (store.run("nowhere"), store.steps("nowhere"), store.answer("nowhere", "a")) == (None, [], None)


def test_an_id_is_given_once(store: RunStore) -> None:
    """A second run under it is refused, and the first stays as it is."""
    with pytest.raises(StoreError, match=f"has a run {RUN.id!r} already"):
        store.begin(replace(RUN, workflow="other"))
    assert store.run(RUN.id) == RUN


def test_asking_makes_no_file(tmp_path: Path) -> None:
    """Where nothing ever ran, everything is empty, and stays so."""
    store = RunStore(tmp_path / "new" / "runs.db")
    assert (store.runs(), store.run("a"), store.match(""), store.steps("a")) == ([], None, [], [])
    assert (store.answer("a", "b"), store.durations("a"), store.prune(keep=0)) == (None, {}, 0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "planted",
    ["cost_usd = 'much'", "started_at = 9e18", "started_at = 'long ago' * 0 - 9e17", "workflow = CAST(x'ff' AS TEXT)"],
)
def test_what_nobody_could_have_noted_is_an_error_of_the_store(store: RunStore, planted: str) -> None:
    """A file from elsewhere raises nothing else."""
    sql(store.path, f"UPDATE runs SET {planted}")  # noqa: S608 - as above
    for ask in (store.runs, lambda: store.run(RUN.id)):
        with pytest.raises(StoreError):
            ask()


# ---------------------------------------------------------------- pruning


def ended(store: RunStore, number: int, status: str = "completed") -> None:
    """A run that took a minute, `number` hours after noon."""
    begun = NOON + timedelta(hours=number)
    store.begin(RunRecord(id=str(number), workflow="review", status="running", started_at=begun))
    store.keep(str(number), "a", b"paid")
    store.note(str(number), replace(DONE, started_at=begun, ended_at=begun + MINUTE))
    if status != "running":
        store.end(str(number), status=status, ended_at=begun + MINUTE, cost_usd=Decimal(0), saved_usd=Decimal(0))


@pytest.mark.parametrize(
    ("conditions", "left"),
    [
        ({}, "54321"),
        ({"keep": 2}, "542"),
        ({"keep": 0}, "2"),
        ({"keep": 9}, "54321"),
        ({"older_than": NOON + timedelta(hours=4)}, "54"),
        ({"older_than": NOON + timedelta(hours=2, seconds=30)}, "5432"),
        ({"older_than": NOON + timedelta(hours=4), "keep": 3}, "543"),
        ({"older_than": NOON + timedelta(days=4)}, ""),
    ],
    ids=repr,
)
def test_prune(tmp_path: Path, conditions: dict[str, Any], left: str) -> None:
    """What is older goes, but for the newest; what is running (here the second) only if it has been silent as long."""
    store = RunStore(tmp_path / "runs.db")
    for number in range(1, 6):
        ended(store, number, "running" if number == 2 else "failed")
    assert store.prune(**conditions) == 5 - len(left)
    assert "".join(run.id for run in store.runs()) == left
    assert sizes(store.path) == [len(left)] * 3
    store.close()


def test_a_pruned_file_shrinks(tmp_path: Path) -> None:
    """Disk space is what people prune for."""
    store = RunStore(tmp_path / "runs.db")
    ended(store, 1)
    store.keep("1", "b", os.urandom(500_000))
    store.prune(keep=0)
    store.close()
    assert store.path.stat().st_size < 100_000


def test_a_run_that_is_taken_up_survives_its_pruning(tmp_path: Path) -> None:
    """What was written to it last says how old it is, not when it began."""
    store = RunStore(tmp_path / "runs.db")
    ended(store, 1, "failed")
    store.take_up("1", definition="{}", inputs="{}")
    store.note("1", replace(DONE, started_at=NOON + timedelta(days=9), ended_at=None))
    assert store.prune(older_than=NOON + timedelta(days=8)) == 0
    assert store.prune(older_than=NOON + timedelta(days=10)) == 1
    store.close()


# ---------------------------------------------------------------- the disk


def test_what_is_written_is_private(tmp_path: Path) -> None:
    """Files 0600, a folder that was missing 0700; one that was there is left as it is."""
    folder = tmp_path / "new"
    store = RunStore(folder / "runs.db")
    store.begin(RUN)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir() if path.name != ".gitignore"}
    assert modes == {"runs.db": 0o600, "runs.db-wal": 0o600, "runs.db-shm": 0o600}
    store.close()
    there = tmp_path / "there"
    there.mkdir(mode=0o755)
    store = RunStore(there / "runs.db")
    store.begin(RUN)
    store.close()
    assert [path.name for path in there.iterdir()] == ["runs.db"]
    assert stat.S_IMODE(there.stat().st_mode) == 0o755


def begun(path: Path) -> None:
    """A file of ours."""
    store = RunStore(path)
    store.begin(RUN)
    store.close()


def newer(path: Path) -> None:
    """A file of a later version."""
    begun(path)
    sql(path, "PRAGMA user_version = 99")


def with_a_trigger(path: Path) -> None:
    """A file that somebody has prepared."""
    begun(path)
    sql(path, "CREATE TRIGGER evil AFTER INSERT ON steps BEGIN DELETE FROM answers; END")


def of_the_cache(path: Path) -> None:
    """A file of ours that is another one."""
    store = SqliteEntries(path)
    store.generation()
    store.close()


def link(ending: str) -> Callable[[Path], None]:
    """A repository that brings a link along."""

    def plant(path: Path) -> None:
        if ending:
            begun(path)
        (path.parent / "precious").write_text("precious")
        path.with_name(path.name + ending).symlink_to(path.parent / "precious")

    return plant


def in_a_folder_that_cannot_be(path: Path) -> None:
    """Nothing can be made there, not even by the superuser."""
    path.parent.rmdir()
    path.parent.symlink_to("/proc/nowhere")


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "a folder": (lambda path: path.mkdir(), "runs.db': unable to open"),
    "an empty file": (lambda path: path.write_text(""), "is no journal of runs of claude-force; move it away"),
    "no database": (lambda path: path.write_text("no database " * 999), "not a database"),
    "a newer version": (newer, "was written by a newer claude-force; upgrade, or move it away"),
    "a planted trigger": (with_a_trigger, "is no journal of runs of claude-force; move it away"),
    "a cache": (of_the_cache, "was written by a newer claude-force"),  # its version is higher: more is not looked at
    "a link": (link(""), "runs.db' is a link; move it away"),
    "a link for the log": (link("-wal"), "runs.db-wal' is a link; move it away"),
    "no folder": (in_a_folder_that_cannot_be, "runs.db': "),
}


@pytest.mark.parametrize(("break_it", "message"), BROKEN.values(), ids=BROKEN)
def test_what_cannot_be_used_is_an_error_of_the_store(
    tmp_path: Path, break_it: Callable[[Path], object], message: str
) -> None:
    """With the file and a way out, again at every call, and nothing is written."""
    folder = tmp_path / "folder"
    folder.mkdir()
    break_it(folder / "runs.db")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    store = RunStore(folder / "runs.db")
    calls: list[Callable[[], object]] = [
        lambda: store.begin(RUN),
        lambda: store.keep(RUN.id, "a", b"x"),
        lambda: store.note(RUN.id, DONE, DONE),
    ]
    if before or (folder / "runs.db").exists():
        calls += [store.runs, lambda: store.prune(keep=0)]
    for call in calls:
        with pytest.raises(StoreError, match=message):
            call()
    store.close()
    after = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert {path: after[path] for path in before} == before


FULL_DISK = """
import resource, sys
from datetime import UTC, datetime
from pathlib import Path
from claude_force.stores.entries import StoreError
from claude_force.stores.runs import RunRecord, RunStore, StepRecord
store = RunStore(Path(sys.argv[1]))
store.begin(RunRecord(id="a", workflow="w", status="running", started_at=datetime.now(UTC)))
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
kept = []
for number in range(100):
    try:
        store.keep("a", str(number), str(number).encode() * 3000)
        store.note("a", StepRecord(step=str(number), agent="a", status="done"))
    except StoreError as error:
        print(error, file=sys.stderr)
    else:
        kept.append(number)
assert kept and len(kept) < 100
for number in kept:
    assert store.answer("a", str(number)) == str(number).encode() * 3000
"""


def test_a_full_disk_costs_nothing_that_was_kept(tmp_path: Path) -> None:
    """What fits is kept, what does not is an error of the store, and the file is whole afterwards."""
    # Coverage could not be written down either, and would say so.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    command = [sys.executable, "-W", "error", "-c", FULL_DISK, str(tmp_path / "runs.db")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert "runs.db': " in done.stderr
    assert sql(tmp_path / "runs.db", "PRAGMA integrity_check") == [("ok",)]


# ---------------------------------------------------------------- versions

VERSION_1 = """
c-rmV%WoS+90%}O$60$x?NlJkibBxT2qhM_@w%i^sVd=+Z7{eFaUIbTRc4(XhsBQ#yR&tps0T;tg){#E{{iRz1>E>AxFaFK4Q3xs?AVDAk!Y#DAJ4vKW*;
-Z^<mee<iSqW<czj0yQgz{lUyf}2>F;&LP$hRadKu}OwqAzDV#17A%%S@vG^y6FD#Jc(c&-3{I&0sk%br6_Cy8%0002M%QMWyW6STR;wSHO+dMd6w(a(tH
tShWm?2i3PwHB^q0vUYvbCkv=~yW(-)o4RO|7bl3fncW%%L0FR;4z|yjS18PaVz<9s1>`T3z$1(7V*?8il^wYcc!IL`}W#448d!U9Gk`d`FI@mzSlJx47Q
wvT%=Z5gT1>d84YG9&IhyomOfM&1=FJ^~(Kn{Sp0KdzAA}GAgKTH)w6QTFuc8JE9HkVPh=IVR~1zd84|$F_ybqtL*G*bWI$_-z%HV$K-T*St4fNU{9Uzy5
c#bsk_|rx0~TLHPvt>e&R-B>2z9pUh&)G_mw}JpJ+?ahyS7_-j3&+q93q6pK2f1x$B(I9d$&G_AG;S!*x;D=FDh{XQ%LtIm$%)CUeaGq05`x>M(IzoaS0C
pOw9DIlSpQ#^?;XxWUG@b<SDukUKM4Xfxfh`eD6&-F4VhD<-1k^+-0GotM*h(-(!w@9w7RFXYeW<n((f$@Gi7d%W2?YI3v3y!B`prb=y7dq~GiPrngsXWf
-Oc_78osg(3w@x$$vdsAd0*uh?x#o9C`n;5n*M+cVOX?Lx`Ka1{k9LEZ$1A1wUCL-dvJ@H+caZKB`?9uLK&+Y1bW<CGbnYvtqwavcC%`n=hCE3-8oW7H~D
42dwRBt{vdbUq^5AlmX5Rm`?000000N_9Lt&}9UmzHFitSBqW>T0Q2x}~ZmHLsS6Lf)GdRhvCA*`TePU1kvZ>z|i?JS5(7<-<RSS}3h+d9`SA+On+<JI)w
pyPf%nW}arA9cTQvIbv(?@v}Gl=l@@cNB{r;00000@V~Y+cUzhL79n{4|DA{g0000000025k%c)~8I2eS#{X{-kpKVy00000;Bv!T(wjuNv631l^0F*RsY
NNZ6O7Pz_HI57)|hQreWtgr_Sx_1uEFx(=w`>wujkj#kNy8DS}dr=V#MiMgX0V{OwJ5%tbfM;V;9Z`qiZSjjLc~K|8GPj000000001ZT_mH*4dv|3MDY9n
PeddD00000004MJ)FhcG!^GQH9YsKb|Kjmi@caJ@A`$=q000000K9Uvd1aVTuKFI}Z??KWcK
"""


def test_a_file_of_the_first_version_opens(tmp_path: Path) -> None:
    """Its bytes are those that the first version wrote: whoever comes later reads them and writes on."""
    path = tmp_path / "runs.db"
    path.write_bytes(zlib.decompress(base64.b85decode(VERSION_1.replace("\n", ""))))
    assert sql(path, "PRAGMA user_version") == [(1,)]
    store = RunStore(path)
    run = replace(
        RUN, status="failed", ended_at=NOON + MINUTE, definition='{"steps": []}', inputs='{"diff": "x"}', resumed=1,
        cost_usd=None, saved_usd=Decimal("0.000000000125"), error="it broke", simulated=True,
    )  # fmt: skip
    step = StepRecord(
        step="reviews[3]", agent="reviewer", status="done", key="ab" * 32, model="claude-haiku-5-5", started_at=NOON,
        ended_at=NOON + MINUTE, input_tokens=90, output_tokens=4, cost_usd=Decimal("0.10"), saved_usd=Decimal(0),
        attempts=2, reason="slow", causes='{"edited": ["agents/reviewer.md"]}',
    )  # fmt: skip
    assert (store.run(RUN.id), store.steps(RUN.id), store.answer(RUN.id, "ab" * 32)) == (run, [step], b"\0sealed\xff")
    assert store.take_up(RUN.id, definition="{}", inputs="{}").resumed == 2
    assert store.durations("review") == {"reviews[3]": 60.0}
    assert store.prune(keep=0, older_than=NOON + 2 * MINUTE) == 1
    store.close()


# ---------------------------------------------------------------- many at once

WRITER = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from claude_force.stores.runs import RunRecord, RunStore, StepRecord
store, name = RunStore(Path(sys.argv[1])), sys.argv[2]
store.begin(RunRecord(id=name, workflow="w", status="running", started_at=datetime.now(UTC)))
number = 0
while number < int(sys.argv[3]):
    store.keep(name, str(number), f"{name} {number}".encode() * 300)
    store.note(name, StepRecord(step=str(number), agent=name, status="done", key=str(number)))
    print(number, flush=True)
    number += 1
store.close()
"""


def writers(path: Path, count: int, numbers: int) -> list[subprocess.Popen[str]]:
    """Processes that write so many steps with their answers, each to a run of its own."""
    command = [sys.executable, "-W", "error", "-c", WRITER, str(path)]
    return [
        subprocess.Popen([*command, f"run {n}", str(numbers)], stdout=subprocess.PIPE, text=True) for n in range(count)
    ]


def check_written(store: RunStore, name: str, numbers: int) -> None:
    """Whether at least so many steps of a writer are there, and all that are there are whole."""
    noted = store.steps(name)
    assert [step.step for step in noted] == [str(number) for number in range(len(noted))]
    assert len(noted) in {numbers, numbers + 1}  # one may have been noted and not said
    for step in noted:
        assert store.answer(name, step.step) == f"{name} {step.step}".encode() * 300


def test_two_processes_lose_nothing(tmp_path: Path) -> None:
    """They make the file at the same moment and write at once."""
    processes = writers(tmp_path / "runs.db", 2, 200)
    for process in processes:
        process.communicate(timeout=120)
    assert [process.returncode for process in processes] == [0, 0]
    store = RunStore(tmp_path / "runs.db")
    for n in range(2):
        check_written(store, f"run {n}", 200)
    store.close()


def test_kill_9_at_any_moment(tmp_path: Path) -> None:
    """Whatever was kept or noted before is there, and whole: of two processes, one of them killed before the file is.

    `CLAUDE_FORCE_CRASH_ROUNDS=200` makes it the long test.
    """
    for round_ in range(CRASH_ROUNDS):
        path = tmp_path / f"{round_}.db"
        processes = writers(path, 2, 10**9)
        said = 0
        for process in processes:
            assert process.stdout is not None
            for _ in range(1 + 7 * round_ % 50):
                process.stdout.readline()
                said += 1
        for process in processes:
            process.send_signal(signal.SIGKILL)
        rest = [process.communicate()[0].split() for process in processes]
        store = RunStore(path)
        for n, lines in enumerate(rest):
            check_written(store, f"run {n}", said // 2 + len(lines))
        store.close()
        assert sql(path, "PRAGMA integrity_check") == [("ok",)]


def test_many_threads_share_one_journal(store: RunStore) -> None:
    """No answer and no step is lost, whoever closes it in between."""

    def work(thread: int) -> None:
        for number in range(50):
            name = f"{thread} {number}"
            store.keep(RUN.id, name, name.encode())
            store.note(RUN.id, replace(DONE, step=name, key=name), replace(DONE, step=f"{name} too"))
            assert store.answer(RUN.id, name) == name.encode()
            if thread == 0:
                store.close()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert sizes(store.path) == [1, 800, 400]


def test_reading_waits_for_nobody(store: RunStore) -> None:
    """While another process writes, answers are found."""
    store.keep(RUN.id, "a", b"paid")
    other = sqlite3.connect(store.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert store.answer(RUN.id, "a") == b"paid"
    other.execute("ROLLBACK")
    other.close()


def test_a_forked_child_goes_on(tmp_path: Path) -> None:
    """Whatever a thread of its parent was doing, and both write on."""
    program = f"""
import os, signal
from datetime import UTC, datetime
from pathlib import Path
from claude_force.stores.runs import RunRecord, RunStore
store = RunStore(Path({str(tmp_path / "runs.db")!r}))
store.begin(RunRecord(id="a", workflow="w", status="running", started_at=datetime.now(UTC)))
store.keep("a", "parent", b"paid")
with store._writing, store._reading:
    child = os.fork()
    if child == 0:
        signal.alarm(30)
        assert store.answer("a", "parent") == b"paid"
        store.keep("a", "child", b"paid too")
        raise SystemExit
_, status = os.waitpid(child, 0)
assert status == 0
assert store.answer("a", "child") == b"paid too"
store.keep("a", "parent", b"paid again")
"""
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, timeout=120)
    assert sizes(tmp_path / "runs.db") == [1, 0, 2]


def test_a_forgotten_journal_lets_go_of_its_file(tmp_path: Path) -> None:
    """Without a warning, and the log is gone with it."""
    store = RunStore(tmp_path / "runs.db")
    store.begin(RUN)
    del store
    gc.collect()
    assert [path.name for path in tmp_path.iterdir()] == ["runs.db"]


# ---------------------------------------------------------------- the law


class AgainstADict(RuleBasedStateMachine):
    """Whatever happens in whatever order, the journal does as plain dicts with the same rules."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.store = RunStore(Path(self.folder.name) / "runs.db")
        self.now = NOON
        self.runs: dict[str, RunRecord] = {}  # the newest last
        self.steps: dict[str, dict[str, StepRecord]] = {}
        self.answers: dict[str, dict[str, bytes]] = {}

    ids, names = st.sampled_from("abcde"), st.sampled_from("xyz")

    @rule(run_id=ids, workflow=st.sampled_from(["v", "w"]))
    def begin(self, run_id: str, workflow: str) -> None:
        """A run begins, if it is new."""
        self.now += MINUTE
        run = RunRecord(id=run_id, workflow=workflow, status="running", started_at=self.now)
        if run_id in self.runs:
            with pytest.raises(StoreError):
                self.store.begin(run)
        else:
            self.store.begin(run)
            self.runs[run_id], self.steps[run_id], self.answers[run_id] = run, {}, {}

    def does(self, run_id: str, work: Callable[[], object]) -> bool:
        """Do it, or see it refused, where there is no such run."""
        if run_id in self.runs:
            work()
            return True
        with pytest.raises(StoreError):
            work()
        return False

    @rule(run_id=ids, key=names, sealed=st.binary(max_size=9000))
    def keep(self, run_id: str, key: str, sealed: bytes) -> None:
        """An answer is whole."""
        if self.does(run_id, lambda: self.store.keep(run_id, key, sealed)):
            self.answers[run_id][key] = sealed

    @rule(run_id=ids, noted=st.lists(st.tuples(names, st.sampled_from(["done", "cached"])), min_size=1, max_size=3))
    def note(self, run_id: str, noted: list[tuple[str, str]]) -> None:
        """Steps end, some of them twice."""
        self.now += MINUTE
        steps = [
            StepRecord(step=name, agent="a", status=status, started_at=self.now, ended_at=self.now + n * MINUTE)
            for n, (name, status) in enumerate(noted)
        ]
        if self.does(run_id, lambda: self.store.note(run_id, *steps)):
            self.steps[run_id].update({step.step: step for step in steps})

    @rule(run_id=ids, status=st.sampled_from(["completed", "failed"]), cost_usd=st.none() | money)
    def end(self, run_id: str, status: str, cost_usd: Decimal | None) -> None:
        """A run ends."""
        self.now += MINUTE
        facts: dict[str, Any] = {"status": status, "ended_at": self.now, "cost_usd": cost_usd, "saved_usd": Decimal(1)}
        if self.does(run_id, lambda: self.store.end(run_id, **facts)):
            run = self.runs[run_id]  # which may have had parts before, and their costs
            facts["cost_usd"] = None if cost_usd is None or run.cost_usd is None else run.cost_usd + cost_usd
            facts["saved_usd"] += run.saved_usd
            self.runs[run_id] = replace(run, **facts)

    @rule(run_id=ids)
    def take_up(self, run_id: str) -> None:
        """And goes on."""
        if self.does(run_id, lambda: self.store.take_up(run_id, definition="1", inputs="2")):
            run = self.runs[run_id]
            self.runs[run_id] = replace(
                run, status="running", ended_at=None, resumed=run.resumed + 1, definition="1", inputs="2"
            )

    @rule(minutes=st.none() | st.integers(0, 20), keep=st.none() | st.integers(0, 4))
    def prune(self, minutes: int | None, keep: int | None) -> None:
        """What is old goes."""
        before = None if minutes is None else self.now - minutes * MINUTE
        if minutes is None and keep is None:
            gone = []
        else:
            old = list(self.runs)[: max(0, len(self.runs) - (keep or 0))]
            gone = [run_id for run_id in old if self.is_old(run_id, before)]
        assert self.store.prune(older_than=before, keep=keep) == len(gone)
        for run_id in gone:
            del self.runs[run_id], self.steps[run_id], self.answers[run_id]

    def is_old(self, run_id: str, before: datetime | None) -> bool:
        """Whether nothing was heard of it since."""
        run = self.runs[run_id]
        if before is None:
            return run.status != "running"
        heard = [step.ended_at for step in self.steps[run_id].values() if step.ended_at]
        return (run.ended_at or max(heard, default=run.started_at)) < before

    @rule()
    def reopen(self) -> None:
        """The process ends and another one goes on."""
        self.store.close()
        self.store = RunStore(self.store.path)

    @invariant()
    def all_is_there(self) -> None:
        """Runs, steps, answers and durations are those of the dicts."""
        assert self.store.match("") == list(self.runs)[::-1]
        for run_id in "abcde":
            assert self.store.run(run_id) == self.runs.get(run_id)
            assert self.store.steps(run_id) == list(self.steps.get(run_id, {}).values())
            for key in "xyz":
                assert self.store.answer(run_id, key) == self.answers.get(run_id, {}).get(key)
        for workflow in "vw":
            mine = [run_id for run_id, run in self.runs.items() if run.workflow == workflow]
            assert [run.id for run in self.store.runs(workflow=workflow)] == mine[::-1]
            assert self.store.durations(workflow) == {
                step.step: (step.ended_at - step.started_at).total_seconds()
                for run_id in mine
                for step in self.steps[run_id].values()
                if step.status == "done" and step.started_at and step.ended_at
            }

    def teardown(self) -> None:
        """The end of one example."""
        self.store.close()
        if self.store.path.exists():
            held = len(self.runs), *(sum(map(len, kept.values())) for kept in (self.steps, self.answers))
            assert sizes(self.store.path) == list(held)
        self.folder.cleanup()


TestAgainstADict = AgainstADict.TestCase
TestAgainstADict.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
