"""The key of a request: a digest of everything that decides its answer, and of nothing else. Pure.

One key serves single flight, the cache and a run's journal, so "the same request" means the same everywhere.
"""

import hashlib
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from claude_force.base.records import Request

KEY_VERSION = 1
"""Part of every key: raised when the canonical form changes, so that no old key is taken for a new one."""


SIMULATED_SERVER = "simulator"
"""Who answers offline, as it goes into the key."""


def request_key(request: "Request", *, server: str = "") -> str:
    """SHA-256 over the canonical form, in hex. `server` is who answers: the simulator's word is not Claude's.

    The form is the JSON array of the version, the server and the request's fields in their declared order: every text
    stands in quotes of its own, so two requests that differ have forms that differ. Skills are system blocks, as they
    are sent. A schema, which comes last, counts without the order of its keys; where there is none, the array ends
    before it, as it did before there were any.
    """
    model, system, *fields, schema, skills = msgspec.structs.astuple(request)
    fields = [model, (*system, *skills), *fields]
    if schema is not None:
        fields.append(msgspec.json.encode(msgspec.json.decode(schema), order="sorted").decode())
    return hashlib.sha256(msgspec.json.encode([KEY_VERSION, server, *fields])).hexdigest()
