"""Floor 1: what lies in `.claude/`, read and checked."""
