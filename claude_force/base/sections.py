"""Parts of a JSON or YAML file that people write: which keys they may have, and every fault in one go.

A `Section` says what a part may hold. `faults` lists all that is wrong with it, each with the key's path and the
nearest valid name; msgspec alone stops at the first and hides dictionary keys.
"""

from collections.abc import Iterable, Iterator
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

import msgspec


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A part of such a file; a key that it does not know is a fault."""


def faults(data: object, kind: type[msgspec.Struct], path: str = "") -> Iterator[str]:
    """Every fault in `data`, which should be a `kind`, each with its key's path.

    Fields that only the program sets, and no file may, are in the kind's `not_in_files`.
    """
    if not isinstance(data, dict):
        yield f"{path or 'the file'}: expected an object, got {_json_type(data)}"
        return
    hidden = getattr(kind, "not_in_files", frozenset[str]())
    fields = {f.encode_name: f for f in msgspec.structs.fields(kind) if f.name not in hidden}
    for key, value in data.items():
        where = f"{path}.{key}" if path else str(key)
        if key in fields:
            yield from _value_faults(value, fields[key].type, where)
        else:
            yield f"{where}: unknown key{_suggestion(str(key), fields)}"
    for key, field in fields.items():
        if field.required and key not in data:
            yield f"{path}.{key}: missing" if path else f"{key}: missing"


def nearest(word: str, known: Iterable[str]) -> str:
    """`; did you mean ...?` for the known word that looks most like this one; empty if none does."""
    import difflib  # noqa: PLC0415 - only a fault needs it

    alike = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {alike[0]!r}?" if alike else ""


def _value_faults(value: object, kind: Any, where: str) -> Iterator[str]:  # noqa: ANN401 - a type form
    choices = get_args(kind) if get_origin(kind) in {Union, UnionType} else (kind,)
    section = next((choice for choice in choices if _has_fields(choice)), None)
    if section is not None and (section is kind or isinstance(value, dict)):
        yield from faults(value, section, where)
    elif get_origin(kind) is list and isinstance(value, list) and _has_fields(get_args(kind)[0]):
        for number, item in enumerate(value):
            yield from faults(item, get_args(kind)[0], f"{where}[{number}]")
    elif get_origin(kind) is dict and isinstance(value, dict):
        for key, item in value.items():
            yield from _value_faults(item, get_args(kind)[1], f"{where}.{key}")
    else:
        try:
            msgspec.convert(value, kind)
        except msgspec.ValidationError as error:
            text, _, inner = str(error).partition(" - at `$")
            words = [word for part in choices if get_origin(part) is Literal for word in get_args(part)]
            hint = _suggestion(str(value), words) if words else ""
            yield f"{where}{inner.rstrip('`')}: {text[0].lower()}{text[1:].replace('`', '')}{hint}"


def _has_fields(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _suggestion(key: str, known: Iterable[str]) -> str:
    known = sorted(map(str, known))
    return nearest(key, known) or f"; known here: {', '.join(known)}"


def _json_type(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")
