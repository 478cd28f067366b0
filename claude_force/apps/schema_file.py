"""A JSON Schema file: what `execute --schema` reads, checked before anything is sent."""

import json
from typing import Any

from claude_force.base.errors import InputError, TaskError
from claude_force.engine.output import schema_text
from claude_force.library.materials import read_material


def read_schema(path: str) -> dict[str, Any]:
    """The schema in the file. Raises `InputError`, with the file's name."""
    try:
        schema = json.loads(read_material(path).text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path!r} is no JSON: {error}; give a file with a JSON schema") from error
    try:
        schema_text(schema)
    except TaskError as error:
        raise InputError(f"{path!r} cannot be used: {error}") from error
    return schema  # type: ignore[no-any-return] # only an object has passed
