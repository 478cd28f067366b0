"""`python -m claude_force` is `claude-force`."""

from claude_force.cli import main

main()
