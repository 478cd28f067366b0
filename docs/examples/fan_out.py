"""Ask one question of every Python file of a repository, many at once; each answer is a line as soon as it is there.

    python fan_out.py "Which functions of this file have no test?" > answers.jsonl

Ask again after an edit: only what has changed is asked, the cache has the rest.
"""

import asyncio
import json
import subprocess
import sys

from claude_force import AgentTask, AsyncAgentOrchestrator, ClaudeForceError


async def main(question: str) -> int:
    """Print the answers; the exit code is that of the first file that got none."""
    listing = await asyncio.to_thread(subprocess.check_output, ["git", "ls-files", "-z", "*.py"], text=True)
    files = listing.split("\0")[:-1]
    tasks = [AgentTask("code-reviewer", question, {"files": file}) for file in files]
    exit_code = asked = 0
    async with AsyncAgentOrchestrator(max_concurrent=20, max_cost_usd=10) as orchestrator:
        async for number, result in orchestrator.as_completed(tasks, effort="low"):
            if isinstance(result, ClaudeForceError):
                answer = {"error": str(result)}
                exit_code = exit_code or result.exit_code
            else:
                answer = {"answer": str(result)}
                asked += not result.cached
            print(json.dumps({"file": files[number], **answer}), flush=True)
    print(f"{asked} of {len(files)} files were asked", file=sys.stderr)
    return exit_code


if __name__ == "__main__":
    sys.exit(asyncio.run(main(*sys.argv[1:])))
