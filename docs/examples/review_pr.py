"""Review a pull request in CI: each finding becomes an annotation of its line, and a blocker fails the job.

    python review_pr.py origin/main...HEAD

The exit code is 0 where nothing blocks, 1 where something does, else that of the error.
"""

import subprocess
import sys

from claude_force import AgentOrchestrator, ClaudeForceError, Material

TASK = "Review this pull request. Report only what you can prove, at the line in the new file where it goes wrong."
FINDING = {
    "type": "object",
    "properties": {
        "file": {"type": "string"},
        "line": {"type": "integer", "minimum": 1},
        "what": {"type": "string", "description": "What goes wrong, when, and the smallest fix."},
        "severity": {"enum": ["blocker", "major", "minor"]},
    },
    "required": ["file", "line", "what", "severity"],
}
REVIEW = {
    "type": "object",
    "properties": {"findings": {"type": "array", "items": FINDING}},
    "required": ["findings"],
}
LEVELS = {"blocker": "error", "major": "warning", "minor": "notice"}

# What a model writes must not end an annotation and begin another command of the runner.
TEXT = str.maketrans({"%": "%25", "\r": "%0D", "\n": "%0A"})
PROPERTY = TEXT | str.maketrans({":": "%3A", ",": "%2C"})


def main(commits: str) -> int:
    """Print the annotations, and say whether the change may be merged."""
    diff = subprocess.run(["git", "diff", commits], stdout=subprocess.PIPE, text=True, check=True).stdout
    if not diff:
        return 0
    try:
        with AgentOrchestrator(max_cost_usd=1) as orchestrator:
            change = Material("pull-request.diff", diff)
            review = orchestrator.execute_agent("code-reviewer", TASK, materials=[change], output_schema=REVIEW)
    except ClaudeForceError as error:
        print(f"::error::{str(error).translate(TEXT)}")
        return error.exit_code
    findings = review.data["findings"]
    for finding in findings:
        place = f"file={finding['file'].translate(PROPERTY)},line={finding['line']}"
        print(f"::{LEVELS[finding['severity']]} {place}::{finding['what'].translate(TEXT)}")
    return int(any(finding["severity"] == "blocker" for finding in findings))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
