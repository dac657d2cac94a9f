"""Signed records over the federation listener: verified in small pages and in large ones, each refused by name."""

import json
import time
from typing import Any

import pytest
from keys import pair
from nodes import LIFE, Served, push
from stamps import stamp

from node.verifier import Verifier
from sync import ed25519
from sync.attest import base64url
from sync.draft import Fields, new_memory
from sync.ids import memory_id
from sync.record import memory_version
from tests.vectors import verify

pytestmark = pytest.mark.asyncio(loop_scope="module")

LARGE = 120
"""More than one request to the process that verifies."""


def signed(title: str) -> Any:
    """A peer's memory as JSON, signed by its agent."""
    now = time.time_ns() // 1_000
    draft = new_memory(Fields(title=title, content="text", namespace="signed"), memory_id("signed", title, 0), now)
    return json.loads(memory_version(draft, pair("ai:peer"), stamp({LIFE: 1 << 20})).doc)


def forged(title: str) -> Any:
    """The same with another agent's key in it."""
    made = signed(title)
    made["metadata"]["attestation"]["key"] = base64url(pair("ai:other").key)
    return made


@pytest.mark.parametrize("count", [2, LARGE], ids=["a small page", "a large page"])
@pytest.mark.parametrize("is_verified", [True, False], ids=["verified", "control"])
async def test_a_forged_record_is_refused_and_the_rest_taken(
    node: Served, count: int, is_verified: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever it stands in the page. (Control: where everything counts as genuine it is stored.)"""
    if not is_verified:

        async def believing(self: Verifier, claims: list[Any]) -> bytes:
            return b"\1" * len(claims)

        monkeypatch.setattr(Verifier, "verify", believing)
        monkeypatch.setattr(ed25519, "verifies", lambda public, text, signature: True)
    name = f"{count} {is_verified}"
    records = [signed(f"{name} {number}") for number in range(count - 1)]
    records.insert(count - 2, forged(f"{name} forged"))
    reply = await node.friend("POST", "/sync/push", push(*records))
    found = {one["id"]: one["reason"] for one in reply.json["refused"]}
    if is_verified:
        assert (reply.json["applied"], found) == (count - 1, {records[count - 2]["id"]: "bad_signature"})
    else:
        assert (reply.json["applied"], found) == (count, {})


async def test_what_a_client_writes_leaves_the_node_signed(node: Served) -> None:
    """As its agent, by a key that stays the same; judged by the book."""
    keys = set()
    for title in ("first", "second"):
        body = {"title": title, "content": "text", "namespace": "signed"}
        made = (await node.local("POST", "/memories", body, {"X-Agent-Id": "ai:alice"})).json
        record = (await node.read(f"/memories/{made['id']}"))["memory"]
        assert record["metadata"]["attestation"]["agent"] == "ai:alice"
        assert verify.verdict({"kind": "memory", "record": record})
        keys.add(record["metadata"]["attestation"]["key"])
    assert keys == {base64url(node.daemon.store.keys.author("ai:alice").key)}
