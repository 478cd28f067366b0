"""The web server of `claude-force serve`: a page, an API, health, metrics. Needs the `dashboard` extra."""
