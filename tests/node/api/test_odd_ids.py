"""Ids of peers' writing, of every character that an id may have: each can be looked at, changed and deleted."""

import itertools
import json
import time
from urllib.parse import quote

import pytest
from keys import pair
from nodes import LIFE, Served, push
from stamps import stamp

from sync.draft import Fields, new_memory
from sync.record import memory_version

pytestmark = pytest.mark.asyncio(loop_scope="module")

_numbers = itertools.count(1)
ODD = (
    "{evil",
    "}x",
    "{",
    "{id}",
    "a/b",
    ".",
    "..",
    "?x=1",
    "#x",
    "%2e%2e",
    "\\x",
    " lead",
    "a b",
    "-x",
    "😀",
    ":x",
    "*",
    "+",
)
"""What means something to a router, a URL, a shell or a pattern."""


@pytest.mark.parametrize("odd", ODD)
async def test_a_memory_with_an_odd_id_is_like_any_other(node: Served, odd: str) -> None:
    """Whatever a route makes of a path, no id may be out of its reach: who chose it would have it stay for ever."""
    number = next(_numbers)
    draft = new_memory(Fields(title=f"odd {number}", content="x", namespace="team"), odd, time.time_ns() // 1_000)
    theirs = memory_version(draft, pair("ai:peer"), stamp({LIFE: number << 20}))
    assert (await node.friend("POST", "/sync/push", push(json.loads(theirs.doc)))).json["applied"] == 1
    path = quote(odd, safe="")
    assert (await node.local("GET", f"/memories/{path}")).json["memory"]["id"] == odd
    for method, route, body in (
        ("GET", f"/links/{path}", None),
        ("GET", f"/verify/{path}", None),
        ("PUT", f"/memories/{path}", {"content": "changed"}),
        ("POST", f"/memories/{path}/promote", {}),
        ("DELETE", f"/memories/{path}", None),
    ):
        assert (await node.local(method, route, body)).status == 200, (method, route)
    assert (await node.local("GET", f"/memories/{path}")).status == 404
    assert "no conflict under" in (await node.local("GET", f"/conflicts/{path}")).json["error"]
