"""Audit all pages of a folder in the night, at half the price, and write what is wrong with them into one report.

    python audit_docs.py docs audit.md

Start it again after a stop: the batch that was sent goes on without it, and nothing is sent or paid twice.
"""

import sys
from pathlib import Path

from claude_force import AgentOrchestrator, AgentTask, ClaudeForceError

TASK = "Review this page for a newcomer: what is wrong, missing or unclear? Answer `None.` if nothing is."


def main(folder: str, report: str) -> int:
    """Write the report; the exit code is that of the first page that could not be audited."""
    pages = sorted(Path(folder).rglob("*.md"))
    tasks = [AgentTask("docs-writer", TASK, {"files": page}) for page in pages]
    with AgentOrchestrator(max_cost_usd=5) as orchestrator:
        results = orchestrator.execute_batch(tasks, on_error="return", live_fallback=True)

    failures = [result for result in results if isinstance(result, ClaudeForceError)]
    sections = [f"# Audit of {len(pages)} pages, {len(failures)} of them failed\n"]
    for page, result in zip(pages, results, strict=True):
        if isinstance(result, ClaudeForceError):
            sections.append(f"## {page}: not audited\n\n{result}\n")
        elif result.strip() != "None.":
            sections.append(f"## {page}\n\n{result}\n")
    Path(report).write_text("\n".join(sections), encoding="utf-8")
    return failures[0].exit_code if failures else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
