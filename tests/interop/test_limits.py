"""Every memory that a node lets in is one that the older daemon takes: the limits of `sync.memory` are within its own.

Both sides of each limit are tried: what passes `memory_fault` here is pushed to the fake, and must arrive as it was.
"""

import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from keys import pair
from rust_daemon import V063, V070, Release, Request, RustDaemon
from stamps import stamp
from versions import memory

from sync.memory import SOURCES, TIERS, memory_fault
from sync.record import load, memory_version

ODD = [
    "\n",
    "\t",
    "\r",
    "\x00",
    "\x7f",
    "\x85",
    "\xa0",
    "\u2028",
    "\u3000",
    "\ufeff",
    "\\",
    "/",
    " ",
    ".",
    "..",
    "é",
    "𝒳",
]
SIZES = [127, 128, 129, 511, 512, 513]


def nested(depth: int) -> dict[str, Any]:
    """Objects in each other, so many in all."""
    value: dict[str, Any] = {}
    for _ in range(depth - 1):
        value = {"k": value}
    return value


def edges() -> Iterator[dict[str, Any]]:
    """Fields of memories, each a little inside or outside of a limit."""
    for text in ODD:
        for name in ("id", "title", "content", "namespace"):
            yield {name: text}
            yield {name: f"a{text}b"}
            yield {name: f"a/{text}"}
        yield {"tags": [f"a{text}"]}
        yield {"tags": [text]}
        yield {"metadata": {text: text}}
    for size in SIZES:
        for unit in ("x", "é", "𝒳"):
            yield from ({name: unit * size} for name in ("id", "title", "namespace"))
            yield {"tags": [unit * size]}
    yield from ({"content": unit * size} for unit in ("x", "é") for size in (32_768, 32_769, 65_536, 65_537))
    yield from ({"namespace": "/".join("a" * depth)} for depth in (7, 8, 9))
    yield from ({"tags": ["t"] * count} for count in (0, 50, 51))
    yield from ({"priority": value} for value in (0, 1, 10, 11))
    yield from ({"confidence": value} for value in (-0.1, 0.0, 0.1, 1.0, 1.1, float("nan")))
    yield from ({"source": value} for value in (*sorted(SOURCES), "robot"))
    yield from ({"tier": value} for value in TIERS)
    yield from ({"metadata": nested(depth)} for depth in (30, 31, 32, 33))
    yield from ({"metadata": {"k": value}} for value in (None, 0.1, 1e300, 2**53 - 1, 2**53, -(2**53) + 1, [[], {}]))
    yield from ({"metadata": {"k": "y" * size}} for size in (65_000, 65_536))
    yield from ({"metadata": {"agent_id": value}} for value in ("ai:x", "a b", 5))
    yield {"metadata": {"scope": "private", "governance": {"write": "owner"}}}
    yield {"expires_at": "2026-05-01T12:00:00.000000+00:00"}
    yield {"access_count": 2**70, "last_accessed_at": "yesterday"}


async def arrived(release: Release, fields: dict[str, Any]) -> bool:
    """Whether a memory with these fields, as a node sends it, is there afterwards as it was."""
    version = memory_version(memory(**fields), pair("ai:peer"), stamp({"ab" * 8: 1 << 20}))
    row = msgspec.json.encode(load(version.doc))
    daemon = RustDaemon(release)
    headers = (("content-type", "application/json"), ("x-peer-id", "host:x"))
    body = b'{"sender_agent_id":"host:x","memories":[%b]}' % row
    await daemon.handle(Request("POST", "/api/v1/sync/push", "", headers, body))
    sent, kept = json.loads(row), daemon.store.all()
    daemon.store.close()
    return [{name: one[name] for name in sent} for one in kept] == [sent]


@pytest.mark.parametrize("release", [V063, V070], ids=lambda release: release.version)
async def test_what_a_node_lets_in_the_daemon_takes(release: Release) -> None:
    """All of it. And the table has both: what is let in, and what is not."""
    let_in = [fields for fields in edges() if memory_fault(memory(**fields)) is None]
    refused = [fields for fields in edges() if memory_fault(memory(**fields)) is not None]
    assert [str(fields)[:80] for fields in let_in if not await arrived(release, fields)] == []
    assert len(let_in) > 100
    assert len(refused) > 50


OUTSIDE: list[dict[str, Any]] = [
    {"id": "x" * 129},
    {"title": " "},
    {"content": "a\rb"},
    {"content": "y" * 65_537},
    {"namespace": "a b"},
    {"namespace": "a//b"},
    {"tags": ["é" * 65]},
    {"priority": 11},
    {"source": "robot"},
    {"metadata": nested(33)},
]


@pytest.mark.parametrize("fields", OUTSIDE, ids=lambda fields: next(iter(fields)))
async def test_a_node_without_its_limits_would_be_skipped(fields: dict[str, Any]) -> None:
    """Control: what a node refuses, sent all the same."""
    assert memory_fault(memory(**fields)) is not None
    assert not await arrived(V070, fields)
