"""The OpenAPI document, made of the same table and Structs that the routes are made of."""

from functools import cache
from typing import Any

import msgspec

from claude_force import __version__
from claude_force.apps.dashboard.endpoint import JSON, Endpoint
from claude_force.apps.dashboard.shapes import Problem

_REFS = "#/components/schemas/{name}"
_PROBLEM = "application/problem+json"


@cache
def document(endpoints: tuple[Endpoint, ...]) -> bytes:
    """As JSON."""
    kinds = {kind for one in endpoints for kind in (one.gives, one.takes) if kind is not None} | {Problem}
    _, components = msgspec.json.schema_components(sorted(kinds, key=lambda kind: kind.__name__), ref_template=_REFS)
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint)
    made = {
        "openapi": "3.1.0",
        "info": {"title": "claude-force serve", "version": __version__},
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
        "security": [{}, {"token": []}],
    }
    return msgspec.json.encode(made)


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    schema = {} if endpoint.gives is None else {"schema": _ref(endpoint.gives)}
    responses: dict[str, Any] = {
        str(endpoint.status): {"description": endpoint.does, "content": {endpoint.media_type: schema}},
        "default": {"description": "What went wrong.", "content": {_PROBLEM: {"schema": _ref(Problem)}}},
    }
    if endpoint.also is not None:
        responses[str(endpoint.also)] = {"description": "The same, and it is bad.", "content": {JSON: schema}}
    operation: dict[str, Any] = {
        "operationId": endpoint.name,
        "summary": endpoint.does,
        "parameters": list(_parameters(endpoint)),
        "responses": responses,
    }
    if endpoint.takes is not None:
        operation["requestBody"] = {"required": True, "content": {JSON: {"schema": _ref(endpoint.takes)}}}
    return operation


def _parameters(endpoint: Endpoint) -> list[dict[str, Any]]:
    if endpoint.asks is None:
        return []
    return [
        {
            "name": field.name,
            "in": "path" if field.name in endpoint.in_path else "query",
            "required": field.required,
            "schema": _in_query(msgspec.json.schema(field.type)),
        }
        for field in msgspec.structs.fields(endpoint.asks)
    ]


def _in_query(schema: dict[str, Any]) -> dict[str, Any]:
    """Without `null`, which nobody can write there: what is not given is it."""
    kinds = [kind for kind in schema.get("anyOf", []) if kind != {"type": "null"}]
    return kinds[0] if kinds else schema


def _ref(kind: type[msgspec.Struct]) -> dict[str, str]:
    return {"$ref": _REFS.format(name=kind.__name__)}
