"""Floor 1: how a turn happens. Decides here, acts only in `faces`."""
