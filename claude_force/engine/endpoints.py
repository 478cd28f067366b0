"""Several ways to Claude: which of them a request goes to, and who is asked in its stead.

- *Sticky.* Claude's prompt cache belongs to an account, so requests that begin alike go the same way: the order is by
  weighted rendezvous hashing (score -ln u / weight, https://en.wikipedia.org/wiki/Rendezvous_hashing) of the beginning
  that a request shares with others. An endpoint that comes or goes moves only what it gets, or had.
- *Spread.* What is too short for the prompt cache has nothing to lose, and goes by its whole text.
- *In rounds.* Of those that may be asked, the first in the order whose breaker and limits let a request through now; of
  those that do not, the one that will soonest. One that fails is passed over until all were asked.
"""

import hashlib
import math
from typing import TYPE_CHECKING

from claude_force.base.errors import (
    AccountLimitError,
    AnswerError,
    ApiError,
    CircuitOpenError,
    CredentialsError,
    RateLimitError,
)
from claude_force.engine.breaker import is_outage
from claude_force.engine.retry import is_passing
from claude_force.engine.warming import prefixes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from claude_force.base.endpoints import Endpoint
    from claude_force.base.records import Request
    from claude_force.engine.traffic import Traffic


class Ways:
    """The endpoints that one request may go to, in their order, and which of them were asked in vain."""

    def __init__(self, endpoints: "Sequence[Endpoint]", request: "Request", traffic: "Traffic") -> None:
        self._endpoints = in_order(endpoints, request)
        self._request = request
        self._traffic = traffic
        self._failed: dict[str, ApiError | AnswerError] = {}
        """In this round, by name."""

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._endpoints)

    @property
    def may_stall(self) -> bool:
        """Whether the look who is next asks a server."""
        return self.count > 1 and self._traffic.is_shared

    @property
    def said(self) -> "list[ApiError | AnswerError]":
        """The errors of this round that another endpoint may not have."""
        return list(self._failed.values())

    @property
    def has_next(self) -> bool:
        """Whether there is one that this round has not asked."""
        return bool(self._left())

    def next(self) -> "Endpoint":
        """Who is asked now. After the last of a round, the next one begins."""
        if self.count == 1:
            return self._endpoints[0]
        left = self._left()
        if not left:
            self._failed.clear()
            left = self._left()
        gate, model = self._traffic.gate, self._request.model
        return min(left, key=lambda endpoint: gate(model, endpoint.name).outlook(self._request))

    def answered(self, endpoint: "Endpoint") -> None:
        """It is there, and its account is in order."""
        self._traffic.left_out.discard(endpoint.name)

    def failed(self, endpoint: "Endpoint", error: ApiError | AnswerError) -> bool:
        """Whether another one may do better. One that is out for good is left out by all."""
        if self.count == 1 or not moves_on(error):
            return False
        self._failed[endpoint.name] = error
        if error.is_terminal:
            self._traffic.left_out.add(endpoint.name)
        return True

    def _left(self) -> "list[Endpoint]":
        """Those to be asked in this round. Where all accounts said no, all are: one may have been mended."""
        there = [each for each in self._endpoints if each.name not in self._traffic.left_out] or self._endpoints
        return [each for each in there if each.name not in self._failed]


def moves_on(error: ApiError | AnswerError) -> bool:
    """True where another endpoint may well answer what this one did not.

    It is out of order, its breaker is open, or its account has no room, no money, or no leave.
    """
    if isinstance(error, RateLimitError | CircuitOpenError | CredentialsError | AccountLimitError):
        return True
    return is_outage(error) and is_passing(error)


def in_order(endpoints: "Sequence[Endpoint]", request: "Request") -> "Sequence[Endpoint]":
    """The one that the request belongs to comes first."""
    if len(endpoints) == 1:
        return endpoints
    beginning = _beginning(request)
    return sorted(endpoints, key=lambda endpoint: (_score(endpoint, beginning), endpoint.name))


def _beginning(request: "Request") -> bytes:
    """What all tasks of its agent share; where that is too short to be kept, the first part that is not."""
    for prefix in reversed(prefixes(request)):
        if prefix.end >= -len(request.skills):
            return prefix.key
    whole = hashlib.blake2b(request.model.encode(), digest_size=16)
    for text in request.texts:
        whole.update(b"\0" + text.encode())
    return whole.digest()


def _score(endpoint: "Endpoint", beginning: bytes) -> float:
    """The least comes first, which is each in as many cases as its share of the weights says."""
    digest = hashlib.blake2b(beginning + endpoint.name.encode(), digest_size=8).digest()
    return -math.log((int.from_bytes(digest) + 1) / 2**64) / endpoint.weight
