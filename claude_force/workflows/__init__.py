"""What runs in which order, what each step is told, and what is kept of it."""
