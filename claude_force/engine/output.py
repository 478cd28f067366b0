"""Stub until merge."""


def schema_text(schema):
    return str(schema)
