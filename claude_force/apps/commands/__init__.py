"""One module per group of commands; `claude_force.cli` loads each only when it is called."""
