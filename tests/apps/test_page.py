"""The files of the page: what of them others wrote is as they wrote it, and what we wrote leaves no door open."""

import hashlib
import re
from importlib.resources import files
from pathlib import Path

PAGE = Path(str(files("claude_force"))) / "apps/dashboard/page"
VENDOR = PAGE / "vendor"


def test_vendored_files_are_those_that_were_published() -> None:
    """Each has the sum that is written beside it, and its licence; `sha256sum -c` says the same."""
    sums = dict(line.split("  ")[::-1] for line in (VENDOR / "SHA256SUMS").read_text().splitlines())
    there = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in VENDOR.iterdir()}
    del there["SHA256SUMS"], there["README.md"]
    assert there == sums
    assert {name.partition(".")[0] for name in sums} == {path.stem for path in VENDOR.glob("*.LICENSE")}


def test_nothing_is_put_into_the_page_as_markup() -> None:
    """Our scripts know no way by which a text could become markup or code: all that is shown goes through `dom.js`."""
    ways = (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "DOMParser",
        "Function(",
        "eval(",
        "srcdoc",
    )
    for script in PAGE.glob("*.js"):
        assert [way for way in ways if way in script.read_text()] == [], script.name


def test_the_page_names_just_the_files_there_are() -> None:
    """Each script is fetched at once, not when another one turns out to need it; and nothing is asked for in vain."""
    named = set(re.findall(r"/page/([\w./]+)", (PAGE / "index.html").read_text()))
    there = {str(path.relative_to(PAGE)) for kind in ("js", "css", "svg") for path in PAGE.rglob(f"*.{kind}")}
    assert named == there
