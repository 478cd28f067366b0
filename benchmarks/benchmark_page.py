"""How soon the page of `claude-force serve` shows something: `benchmark_page.py [--executions 100000]`.

Needs Chromium and the extra `browser`. Milliseconds from the moment that the address is opened, in a browser that is
running already: until anything is painted, and until the figures are there. The first page is the first that the server
is asked for after its start, and the ledger has not been read before.
"""

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from playwright.sync_api import sync_playwright

if TYPE_CHECKING:
    from playwright.sync_api import Browser

DAYS = 30
_WATCH = """
addEventListener('DOMContentLoaded', () => {
  const figures = document.querySelector('#figures');
  new MutationObserver(() => { window.figuresAt ??= performance.now(); }).observe(figures, { childList: true });
});
"""
_ASK = "[performance.getEntriesByName('first-contentful-paint')[0].startTime, window.figuresAt]"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--executions", type=int, default=100_000, help="in the ledger (default: 100000)")
    executions = parser.parse_args().executions
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        _write(Path(folder) / ".claude/metrics/executions.jsonl", executions)
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        command = [sys.executable, "-m", "claude_force", "serve", "--port", "0"]
        with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout  # noqa: S101 - it was asked for
            address = server.stdout.readline().strip()
            try:
                for which in ("first page", "second page", "third page"):
                    painted, shown = _open(browser, address)
                    print(f"{which}: painted after {painted:,.0f} ms, figures after {shown:,.0f} ms")
            finally:
                server.terminate()


def _write(ledger: Path, executions: int) -> None:
    dice, now = random.Random(1), datetime.now(UTC)  # noqa: S311 - the same executions each time
    ledger.parent.mkdir(parents=True)
    with ledger.open("w") as file:
        for number in range(executions):
            at = now - timedelta(days=DAYS) * (1 - number / executions)
            line = {
                "timestamp": at.isoformat(),
                "agent_name": f"agent-{dice.randrange(8)}",
                "task_hash": "0123abcd",
                "success": dice.random() > 0.03,  # noqa: PLR2004 - as a good service has it
                "execution_time_ms": round(dice.lognormvariate(7, 0.6), 1),
                "model": dice.choice(["claude-haiku-5-5", "claude-sonnet-5-5"]),
                "input_tokens": 1_000,
                "output_tokens": 100,
                "total_tokens": 1_100,
                "estimated_cost": 0.0015,
            }
            file.write(json.dumps(line) + "\n")


def _open(browser: "Browser", address: str) -> tuple[float, float]:
    page = browser.new_page()
    page.add_init_script(_WATCH)
    page.goto(address)
    page.locator("#figures .figure").first.wait_for(timeout=120_000)
    painted, shown = page.evaluate(_ASK)
    page.close()
    return painted, shown


if __name__ == "__main__":
    main()
