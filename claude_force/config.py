"""The configuration's public door, for scripts that read or upgrade a `claude.json`. The room is `base.config`."""

from claude_force.base.config import Config, config_schema, load_settings, migrate_config, validate_config
from claude_force.base.errors import ConfigError

__all__ = ["Config", "ConfigError", "config_schema", "load_settings", "migrate_config", "validate_config"]
