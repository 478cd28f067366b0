"""The OpenAPI document, made of the same table and Structs that the routes are made of."""

from functools import cache
from typing import Any

import msgspec

from claude_force import __version__
from claude_force.apps.dashboard.route import JSON, Route
from claude_force.apps.dashboard.shapes import Problem

_REFS = "#/components/schemas/{name}"
_PROBLEM = "application/problem+json"


@cache
def document(routes: tuple[Route, ...]) -> bytes:
    """As JSON."""
    kinds = {kind for one in routes for kind in (one.gives, one.takes) if kind is not None} | {Problem}
    _, components = msgspec.json.schema_components(sorted(kinds, key=lambda kind: kind.__name__), ref_template=_REFS)
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    made = {
        "openapi": "3.1.0",
        "info": {"title": "claude-force serve", "version": __version__},
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
        "security": [{}, {"token": []}],
    }
    return msgspec.json.encode(made)


def _operation(route: Route) -> dict[str, Any]:
    schema = {} if route.gives is None else {"schema": _ref(route.gives)}
    responses: dict[str, Any] = {
        str(route.status): {"description": route.does, "content": {route.media_type: schema}},
        "default": {"description": "What went wrong.", "content": {_PROBLEM: {"schema": _ref(Problem)}}},
    }
    if route.also is not None:
        responses[str(route.also)] = {"description": "The same, and it is bad.", "content": {JSON: schema}}
    operation: dict[str, Any] = {
        "operationId": route.name,
        "summary": route.does,
        "parameters": list(_parameters(route)),
        "responses": responses,
    }
    if route.takes is not None:
        operation["requestBody"] = {"required": True, "content": {JSON: {"schema": _ref(route.takes)}}}
    return operation


def _parameters(route: Route) -> list[dict[str, Any]]:
    if route.asks is None:
        return []
    return [
        {
            "name": field.name,
            "in": "path" if field.name in route.in_path else "query",
            "required": field.required,
            "schema": _in_query(msgspec.json.schema(field.type)),
        }
        for field in msgspec.structs.fields(route.asks)
    ]


def _in_query(schema: dict[str, Any]) -> dict[str, Any]:
    """Without `null`, which nobody can write there: what is not given is it."""
    kinds = [kind for kind in schema.get("anyOf", []) if kind != {"type": "null"}]
    return kinds[0] if kinds else schema


def _ref(kind: type[msgspec.Struct]) -> dict[str, str]:
    return {"$ref": _REFS.format(name=kind.__name__)}
