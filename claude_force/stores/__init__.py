"""Floor 1: where things are kept."""
