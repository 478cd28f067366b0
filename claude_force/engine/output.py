"""Structured output: a JSON schema as it is asked for, and whether an answer fits it. Pure; nothing is ever fetched.

`jsonschema` takes a fifth of a second to import, so only a schema imports it. `format` is not checked: it is a note to
the model, which the API keeps by itself. What the API takes of a schema is in `transports/output_schema.py`.
"""

import functools
import itertools
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from claude_force.base.errors import TaskError

if TYPE_CHECKING:
    from jsonschema.protocols import Validator
    from referencing import Registry

MAX_PROBLEMS = 20
MAX_PROBLEM_CHARS = 200  # the checker quotes what does not fit, which may be all of the answer


def schema_text(schema: object) -> str:
    """The schema as a `Request` has it: JSON text, with its keys in their order. Raises `TaskError`."""
    if not isinstance(schema, Mapping):
        raise _unusable(f"is {type(schema).__name__}")
    import json  # noqa: PLC0415 - msgspec has no `allow_nan`, and only a schema needs it

    try:
        text = json.dumps(schema, default=_plain, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise _unusable(f"is no JSON: {error}") from error
    _validator(text)
    return text


def problems_of(text: str, schema: str) -> tuple[str, ...]:
    """Where an answer does not fit the schema, each with its JSON path; the first `MAX_PROBLEMS`."""
    try:
        errors = _validator(schema).iter_errors(read_data(text))
        return tuple(_short(f"{error.json_path}: {error.message}") for error in itertools.islice(errors, MAX_PROBLEMS))
    except msgspec.DecodeError as error:
        return (f"$: no JSON ({str(error).removeprefix('JSON is malformed: ')})",)
    except RecursionError:
        return ("$: nested too deeply",)
    except OverflowError:
        return ("$: holds a number that is too large to be checked",)


def read_data(text: str) -> Any:  # noqa: ANN401 - any JSON value
    """The value of a JSON text. Strict: what JSON or UTF-8 has no word for, such as `NaN`, is a `DecodeError`."""
    return msgspec.json.decode(text)


def _plain(value: object) -> dict[Any, Any]:
    """For a mapping that is no `dict`."""
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} has no form in it")


@functools.lru_cache(maxsize=64)  # a check of a schema takes a millisecond, and a batch's tasks have the same
def _validator(schema: str) -> "Validator":
    """What checks answers. Raises `TaskError` where the schema cannot be used."""
    from jsonschema import Draft202012Validator, SchemaError  # noqa: PLC0415 - see the module's docstring
    from jsonschema.validators import validator_for  # noqa: PLC0415
    from referencing import Registry  # noqa: PLC0415

    loaded = msgspec.json.decode(schema)
    registry: Registry[Any] = Registry()  # one that fetches nothing; the default one does
    try:
        says_draft = isinstance(loaded.get("$schema"), str)
        kind = validator_for(loaded, default=Draft202012Validator) if says_draft else Draft202012Validator
        kind.check_schema(loaded)
        _check_references(loaded, registry, kind)
    except SchemaError as error:
        raise _unusable(f"is no JSON schema: {_short(f'{error.json_path}: {error.message}')}") from error
    except ValueError as error:
        raise _unusable(f"holds an address that is none: {error}") from error
    except re.error as error:
        raise _unusable(f"holds a pattern that is none: {error}") from error
    except RecursionError as error:
        raise _unusable("is nested too deeply") from error
    return kind(loaded, registry=registry)


def _check_references(schema: Mapping[str, Any], registry: "Registry[Any]", kind: "type[Validator]") -> None:
    """Every `$ref` leads to a place in the schema itself, and what is there is a schema, too."""
    from referencing import Resource  # noqa: PLC0415 - see the module's docstring
    from referencing.exceptions import Unresolvable  # noqa: PLC0415
    from referencing.jsonschema import DRAFT202012  # noqa: PLC0415

    root = Resource.from_contents(schema, DRAFT202012)
    waiting, seen = [(root, registry.resolver_with_root(root))], set()
    while waiting:
        part, resolver = waiting.pop()
        if id(part.contents) in seen:
            continue
        seen.add(id(part.contents))
        words = part.contents if isinstance(part.contents, Mapping) else {}
        for pattern in words.get("patternProperties", ()):  # neither this nor what a reference is says every draft
            re.compile(pattern)
        for reference in (words[word] for word in ("$ref", "$dynamicRef") if word in words):
            if not isinstance(reference, str):
                raise _unusable(f"refers to {reference!r}, which is no address")
            try:
                found = resolver.lookup(reference)
            except Unresolvable as error:
                raise _unusable(f"has no place {reference!r}, and nothing is fetched") from error
            kind.check_schema(found.contents)
            waiting.append((Resource.from_contents(found.contents, DRAFT202012), found.resolver))
        waiting.extend((inner, resolver.in_subresource(inner)) for inner in part.subresources())


def _unusable(why: str) -> TaskError:
    return TaskError(f"the output schema {why}; give a JSON schema that is whole in itself", source="output_schema")


def _short(text: str) -> str:
    return text if len(text) <= MAX_PROBLEM_CHARS else f"{text[:MAX_PROBLEM_CHARS]}..."
