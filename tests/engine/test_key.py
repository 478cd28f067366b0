"""The key of a request: what decides the answer changes it, and nothing else does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from claude_force.base.records import Request
from claude_force.engine.key import request_key

REQUEST = Request(model="m", system=("be brief", "be kind"), prompt=("a file", "a task"), max_tokens=100, effort="low")
OTHERS = {
    "model": replace(REQUEST, model="n"),
    "system": replace(REQUEST, system=("be brief", "be rude")),
    "prompt": replace(REQUEST, prompt=("a file", "another task")),
    "max_tokens": replace(REQUEST, max_tokens=101),
    "effort": replace(REQUEST, effort=None),
    "output_schema": replace(REQUEST, output_schema='{"type":"object"}'),
    "skills": replace(REQUEST, skills=("be thorough",)),
}


@pytest.mark.parametrize("field", Request.__struct_fields__)
def test_every_field_decides(field: str) -> None:
    """A change of any one field is another key; a field without a row here is one that nobody thought of."""
    assert request_key(OTHERS[field]) != request_key(REQUEST)


def test_who_answers_decides() -> None:
    """The simulator's answer, or another server's, is never taken for Claude's."""
    assert request_key(REQUEST, server="simulator") != request_key(REQUEST)


def test_the_key_is_the_same_everywhere() -> None:
    """It does not depend on the process, and this version's form is fixed: a change must raise `KEY_VERSION`."""
    assert request_key(REQUEST) == "bfbd911ba478201d8841bc73fd8b7bfb2d234ebcb4312af81bbffbfdbabe4e5d"


def test_the_order_of_a_schemas_keys_does_not_decide() -> None:
    """Any answer that fits one fits the other, so nobody pays twice; another word in it is another schema."""
    texts = (
        '{"type":"object","required":["a"]}',
        '{"required":["a"],"type":"object"}',
        '{"required":["b"],"type":"object"}',
    )
    one, turned, other = (request_key(replace(REQUEST, output_schema=text)) for text in texts)
    assert one == turned != other


TEXTS = st.lists(st.text(), max_size=4).map(tuple)


@given(TEXTS, TEXTS, TEXTS, TEXTS)
def test_no_two_requests_share_a_key(
    a: tuple[str, ...], b: tuple[str, ...], c: tuple[str, ...], d: tuple[str, ...]
) -> None:
    """Texts that run together, or move from one block or field to the next, are told apart."""
    one, other = replace(REQUEST, system=a, prompt=b), replace(REQUEST, system=c, prompt=d)
    assert (request_key(one) == request_key(other)) == (one == other)
