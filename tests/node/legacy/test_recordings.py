"""Every request that a real daemon was recorded to make is taken by our node, with the status that it got there.

And of the requests that were made to a real daemon by hand: the same status from us, or a difference that is written
down here.
"""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import recordings
from certs import Mesh
from lines import Caller, Reply
from nodes import Place, federation, peer
from recordings import Recorded

from node.daemon import Daemon
from node.store.queries import ListFilter

COUNTERS = (
    "applied", "noop", "skipped", "deleted", "archived", "restored", "dry_run", "quota_refused", "links_applied",
    "pendings_applied", "pending_decisions_applied", "namespace_meta_applied", "namespace_meta_cleared",
)  # fmt: skip
WHEN_RECORDED = "2026-11-24T00:00:00.000000+00:00"
"""What was sent expires days after this; whenever the tests run, the list is asked for as of then."""
NOT_DONE = ("namespace_meta_applied", "namespace_meta_cleared")
"""Counters of what a peer cannot have done here: they are 0, and what was asked for is among the skipped."""


@asynccontextmanager
async def listener(mesh: Mesh) -> AsyncIterator[tuple[Caller, Daemon]]:
    """The federation listener of a node to which a daemon is a peer, and the node."""
    place = Place(mesh, "ours", {})
    place.configure(peer("old", mesh.friend.fingerprint, legacy=True))
    place.list(mesh.friend.fingerprint)
    async with place.serving() as daemon, federation(daemon, mesh, mesh.friend) as old:
        yield old, daemon


async def play(caller: Caller, one: Recorded) -> Reply:
    """Send a recorded request byte for byte, but for the name of the host."""
    headers = [(name, value) for name, value in one.headers if name not in ("host", "content-length")]
    lines = [f"{one.method} {one.target} HTTP/1.1", "host: 127.0.0.1", *(f"{n}: {v}" for n, v in headers)]
    if one.method == "POST":
        lines.append(f"content-length: {len(one.body)}")
    return await caller.raw("\r\n".join((*lines, "", "")).encode() + one.body)


@pytest.mark.parametrize("version", ["v063", "v070"])
async def test_what_its_fan_out_and_catch_up_send_is_taken(mesh: Mesh, version: str) -> None:
    """One write after the other as it was sent: status, and every counter; at the end only what was not deleted."""
    async with listener(mesh) as (old, daemon):
        for one in recordings.load(version, "fanout_and_catchup_A_to_B"):
            reply = await play(old, one)
            assert reply.status == one.status, one.target
            told, recorded = reply.json, {"quota_refused": 0} | json.loads(one.answer)
            if one.method == "GET":
                assert told["updated_since"] == recorded["updated_since"]
                continue
            undone = sum(recorded[name] for name in NOT_DONE)
            expected = recorded | dict.fromkeys(NOT_DONE, 0) | {"skipped": recorded["skipped"] + undone}
            assert {name: told[name] for name in COUNTERS} == {name: expected[name] for name in COUNTERS}, one.body
            assert told["receiver_clock"].keys() == {"entries"}
        everything = ListFilter(WHEN_RECORDED, 100)
        found = await daemon.store.reader.run(lambda reader: reader.listed(everything))
        titles = {json.loads(one)["title"] for one in found}
        assert {"Consol", "hi", "agent:ai:bob"} <= titles
        assert not {"Fan one", "Fan two", "Fan three"} & titles, "they were deleted, or made into one"


@pytest.mark.parametrize("version", ["v063", "v070"])
async def test_what_its_sync_daemon_sends_is_taken(mesh: Mesh, version: str) -> None:
    """Pull and push in turns, with and without an API key."""
    async with listener(mesh) as (old, _):
        for one in recordings.load(version, "sync_daemon"):
            reply = await play(old, one)
            assert reply.status == one.status == 200
            told, recorded = reply.json, json.loads(one.answer)
            if one.method == "POST":
                assert told["applied"] == recorded["applied"]
                assert told["skipped"] == 0
            else:
                assert (told["limit"], told["updated_since"]) == (recorded["limit"], recorded["updated_since"])
                assert set(recorded) - {"excluded_for_scope", "scope_status"} == set(told)


DIFFERENT = {
    # A record that is wrong refuses itself, and not the hundred others of its push.
    "unknown-tier": 200, "missing-field": 200, "float-priority": 200, "link-unknown-relation": 200,
    "link-signature-base64": 200,
    # The sender's name is a claim that decides nothing here.
    "missing-x-peer-id": 200, "mismatching-x-peer-id": 200,
    # Ours takes 16 MiB.
    "over-2MiB": 200,
}  # fmt: skip


@pytest.mark.parametrize("version", ["v063", "v070"])
@pytest.mark.parametrize("name", ["sync_push", "sync_since"])
async def test_what_was_asked_of_a_daemon_by_hand_is_answered_alike(mesh: Mesh, version: str, name: str) -> None:
    """Statuses of malformed, oversized and odd requests; `DIFFERENT` says where ours differ. Of links the counters."""
    odd: dict[str, tuple[Any, Any]] = {}
    used: set[str] = set()
    counted: set[str] = set()
    async with listener(mesh) as (old, _):
        for one in recordings.load(version, name):
            if "/sync/" not in one.target:
                continue
            reply = await play(old, one)
            expected = DIFFERENT.get(one.label, one.status)
            used |= {one.label} & DIFFERENT.keys() if one.status != expected else set()
            if reply.status != expected:
                odd[one.label] = (reply.status, one.status)
            elif one.label.startswith("link") and reply.status == one.status:
                told, recorded = [
                    {name: answer[name] for name in ("links_applied", "skipped")}
                    for answer in (reply.json, json.loads(one.answer))
                ]
                counted.add(one.label)
                if told != recorded:
                    odd[one.label] = (told, recorded)
    assert odd == {}
    if name == "sync_push":
        assert {"link", "link-again", "link-unknown-memory", "link-self", "link-signature-ints"} <= counted
    if (version, name) == ("v070", "sync_push"):
        assert used == DIFFERENT.keys(), "a difference that is none any more"
