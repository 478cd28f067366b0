"""Several ways to Claude: what the config says of each, and which of them may be used."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated
from urllib.parse import urlsplit

import msgspec

from claude_force.base.errors import TaskError
from claude_force.base.sections import Section
from claude_force.base.servers import is_web_address


class Endpoint(Section, frozen=True):
    """One of several ways to Claude: an address, an account, or both. The rest is as the SDK finds it."""

    name: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    """Empty for the one way that there is where the config names none."""
    base_url: str | None = None
    api_key_env: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] | None = None
    """The environment variable that has the key: a config never does."""
    weight: Annotated[float, msgspec.Meta(gt=0)] = 1.0
    """Its share of what is asked, against those of the others."""
    region: str | None = None
    """Any text; it is written down with what was answered there."""
    inference_geo: str | None = None
    """Where it has models run, which it is told with each request."""

    @property
    def facts(self) -> dict[str, str | None]:
        """What a trace says of it."""
        host = urlsplit(self.base_url).hostname if self.base_url else None
        return {"endpoint": self.name or None, "region": self.region, "server_address": host}


DEFAULT_ENDPOINT = Endpoint(name="")
"""Claude, as the SDK finds it."""


def in_use(endpoints: list[Endpoint], environment: Mapping[str, str]) -> list[Endpoint]:
    """Those of the config, unless the environment says where Claude is."""
    return [] if environment.get("ANTHROPIC_BASE_URL") else endpoints


def serving(endpoints: Sequence[Endpoint], inference_geo: str | None) -> Sequence[Endpoint]:
    """The ways that a request may go whose model is to run there. Raises `TaskError` where there is none."""
    if not endpoints:
        return (Endpoint(name="", inference_geo=inference_geo),)
    found = [endpoint for endpoint in endpoints if inference_geo in {None, endpoint.inference_geo}]
    if not found:
        listed = ", ".join(f"{endpoint.name} {endpoint.inference_geo or 'none'}" for endpoint in endpoints)
        raise TaskError(
            f"no endpoint has the inference_geo {inference_geo!r} that is asked for ({listed}); give it to one that has"
            " models run there"
        )
    return found


def retries(max_retries: int, endpoints: Sequence[Endpoint]) -> int:
    """How often a request is sent again at the most: each endpoint is asked once, however few retries there are."""
    return max(max_retries, len(endpoints) - 1)


def endpoint_faults(endpoints: Sequence[Endpoint]) -> Iterator[str]:
    """What is wrong with them beside their fields' kinds; nothing that could be a secret is quoted."""
    names = Counter(endpoint.name for endpoint in endpoints)
    yield from (f"endpoints: {count} have the name {name!r}" for name, count in names.items() if count > 1)
    for number, endpoint in enumerate(endpoints):
        if endpoint.base_url is not None and not is_web_address(endpoint.base_url):
            yield f"endpoints[{number}].base_url: give https://host, without user, password, or anything after a ?"
