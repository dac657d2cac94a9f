"""A peer with a hostile text in every field that it may send: neither the log nor `sync status` obeys it."""

import io
import json
import re
import unicodedata
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from certs import Mesh
from nodes import BRISK, LIFE, Place, eventually, federation, local, memory, peer, push

from node import logs, plain
from node.dialer import Answer, Dialer
from node.standing import lines as _status_lines

FORGED = "desk            in step for 9 h: everything was confirmed"
ORDERS = "\x1b]0;owned\x07\x9b2J\x7f\u202e\u2066\U000e0041"
EVIL = f"x\n{FORGED}\r\n{FORGED}\u2028{FORGED}\u0085{FORGED}{ORDERS}" + " " * 300 + FORGED
REFUSED = {"id": EVIL, "kind": EVIL, "reason": EVIL, "detail": EVIL}
ANSWERS: dict[str, Answer] = {
    "a sentence": Answer(500, json.dumps({"error": EVIL, "code": EVIL}).encode(), 0.0),
    "an error that is no text": Answer(400, json.dumps({"error": {EVIL: [EVIL]}}).encode(), 0.0),
    "no JSON": Answer(200, EVIL.encode(), 0.0),
    "a cursor": Answer(200, json.dumps({"have": EVIL, "life": EVIL}).encode(), 0.0),
    "refusals and alarms": Answer(
        200,
        json.dumps(
            {"applied": 0, "have": None, "life": LIFE, "refused": [REFUSED] * 3, "alarms": [EVIL, EVIL], "wanted": [],
             "again": False, "noop": 0, "waiting": 0, "conflicts": 0}
        ).encode(),
        0.0,
    ),
}  # fmt: skip


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    yield
    structlog.reset_defaults()


def obeyed(text: str) -> list[str]:
    return [one for one in text if one != "\n" and unicodedata.category(one) in ("Cc", "Cf", "Zl", "Zp", "Cs")]


def forged(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.lstrip().startswith("desk ")]


def shown(told: dict[str, Any]) -> str:
    """As `sync status` prints it."""
    return "\n".join(map(plain.line, _status_lines(told)))


@pytest.mark.parametrize("style", ["console", "json"])
@pytest.mark.parametrize("name", ANSWERS)
async def test_nothing_that_a_peer_answers_is_obeyed(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch, name: str, style: str
) -> None:
    """Errors, refusals, alarms, cursors, and what is no answer at all."""
    out = io.StringIO()
    logs.configure(style, "debug", out)

    async def answer(self: Dialer, path: str, *_: Any) -> Answer:
        return ANSWERS[name]

    monkeypatch.setattr(Dialer, "post", answer)
    monkeypatch.setattr(Dialer, "get", answer)
    place = Place(mesh, "a", BRISK)
    stranger = mesh.issue("peer-desk")
    place.configure(peer("attic", stranger.fingerprint, url="https://127.0.0.1:1"))
    place.list(stranger.fingerprint)
    async with place.serving() as daemon, local(daemon) as client:

        async def troubled() -> dict[str, Any] | None:
            told = (await client("GET", "/sync/status")).json
            return told if told["peers"][0]["attempts"] or told["peers"][0]["refused"] else None

        told = await eventually(troubled)
    for text in (shown(told), out.getvalue()):
        assert not obeyed(text)
        assert not forged(text)
        assert max(map(len, text.splitlines())) < 6_000
    assert "attic" in out.getvalue(), "something was told of it"


FIELDS = ("id", "namespace", "title", "tier", "content", "source", "created_at", "updated_at", "metadata", "tags")


@pytest.mark.parametrize("style", ["console", "json"])
async def test_nothing_that_a_peer_sends_is_obeyed(mesh: Mesh, style: str) -> None:
    """A push with the text in each field of a record in turn, in its own words about itself, in path and headers."""
    out = io.StringIO()
    logs.configure(style, "debug", out)
    place = Place(mesh, "a", BRISK)
    friend = mesh.issue("peer-desk")
    place.configure(peer("attic", friend.fingerprint))
    place.list(friend.fingerprint)
    async with place.serving() as daemon, local(daemon) as client, federation(daemon, mesh, friend) as caller:
        one = memory("t", at=daemon.clock.now())
        many = [one, *(one | {field: EVIL} for field in FIELDS)]
        many += [
            one | {"metadata": {"attestation": {"agent": EVIL, "clock": {EVIL: 1}, "key": EVIL}, "agent_id": EVIL}}
        ]
        bodies = [push(*many), push(*many, alarms=[EVIL]), push(one, life=EVIL, cursor=EVIL, sender_agent_id=EVIL)]
        bodies += [push(offers=[[EVIL, EVIL, EVIL]], links=[{"source_id": EVIL, "target_id": EVIL, "relation": EVIL}])]
        for body in bodies:
            await caller("POST", "/sync/push", body)
        await caller("GET", f"/sync/since?cursor={'%1b%5b2J%0a' * 9}&for=%0a{'x' * 900}")
        await caller("GET", "/nowhere/%1b%5b2J%0adesk%20%20in%20step")
        told = (await client("GET", "/sync/status")).json
    for text in (shown(told), out.getvalue()):
        assert not obeyed(text)
        assert not forged(text)
        assert max(map(len, text.splitlines())) < 6_000
    assert "sync.refused" in out.getvalue(), "what was refused was told"
    assert "everything was confirmed" in out.getvalue() + shown(told), "the text was shown, so that the check saw it"


async def test_the_checks_see_what_is_obeyed(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: without the table of characters the sentence of a peer is obeyed, in the log and in the status."""
    monkeypatch.setattr(plain, "_HOSTILE", re.compile("(?!)"))
    out = io.StringIO()
    logs.configure("json", "debug", out)
    place = Place(mesh, "a", BRISK)
    friend = mesh.issue("peer-desk")
    place.configure(peer("attic", friend.fingerprint))
    place.list(friend.fingerprint)
    async with place.serving() as daemon, local(daemon) as client, federation(daemon, mesh, friend) as caller:
        await caller("POST", "/sync/push", push(one := memory("t", at=daemon.clock.now()), one | {"id": EVIL}))
        told = (await client("GET", "/sync/status")).json
    assert obeyed(out.getvalue())
    told["peers"][0]["reason"] = EVIL
    assert obeyed(shown(told)) and forged(shown(told))
