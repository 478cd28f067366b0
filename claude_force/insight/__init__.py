"""Floor 2: what executions and the machine tell about how things go."""
