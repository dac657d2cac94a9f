"""The fake of the older daemon answers as the real one did: every recorded request is played to it again.

The recordings (tests/recordings) were taken from release builds of 0.6.3 and 0.7.0 with encrypted stores, over mutual
TLS. `LEFT_OUT` lists each recorded exchange that is not played, with the reason; what is masked in the comparison is
told at the top of tests/support/recordings.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from recordings import FOLDER as RECORDINGS
from recordings import Comparison, Recorded, load, raw
from rust_daemon import V063, V070, Clock, Release, Request, RustDaemon, Scope, Trust, tables

RELEASES = {"v063": V063, "v070": V070}
HOOKS = "webhooks are not in the fake"
OUTSIDE = "not in the fake: nothing that federates depends on it"
LEFT_OUT: Mapping[str, str] = {
    "capabilities": OUTSIDE,
    "stats": "holds the size of the database file",
    "taxonomy": OUTSIDE,
    "export": OUTSIDE,
    "metrics": OUTSIDE,
    "inbox": OUTSIDE,
    "contradictions": OUTSIDE,
    "check-duplicate": OUTSIDE,
    "session-start": OUTSIDE,
    "sub-no-secret": HOOKS,
    "sub-loopback-http": HOOKS,
    "sub-private": HOOKS,
    "sub-userinfo": HOOKS,
    "sub-list": HOOKS,
    "sub-delete": HOOKS,
    "sub-array-events": HOOKS,
}
"""Labels of api.json."""
OPEN = Trust()
SCOPES = {"host:peer-x": Scope(senders=("host:relay",), namespaces=("pub/**",))}
CHAINS: Mapping[str, Sequence[tuple[str, Trust]]] = {
    "main": (
        ("sync_push", OPEN),
        ("sync_since", OPEN),
        ("api", OPEN),
        ("sync_scope_default_deny", Trust(sync_trust_peer=False)),
        ("sync_scope_scoped", Trust(SCOPES, sync_trust_peer=False)),
    ),
    "quota": (("quota_429", OPEN),),
    "key": (("api_key", OPEN),),
}
"""Files in the order in which they were recorded, and how the daemon was started for each; one store for a chain."""
PLAYED = [(v, "main", name) for v in RELEASES for name, _ in CHAINS["main"]]
PLAYED += [("v070", "quota", "quota_429"), ("v070", "key", "api_key")]
NOT_PLAYED_HERE = {
    "client_calls_on_A_with_fanout": "test_fake_clients.py",
    "fanout_and_catchup_A_to_B": "test_fake_clients.py",
    "fanout_peer_answers": "test_fake_clients.py",
    "sync_daemon": "test_fake_clients.py",
    "rules-observed": "test_fake_rules.py",
    "tls_probe": "test_fake_door.py",
}
"""Which test looks at it instead, beside this one."""


@dataclass
class Played:
    """What came of one file."""

    compared: int = 0
    left_out: list[str] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)


async def play(release: Release, version: str, chain: str, *, until_one: bool = False) -> dict[str, Played]:
    """Every file of a chain, against one daemon. `until_one`: no further than the first difference."""
    limit = 3 if chain == "quota" else 1000
    daemon = RustDaemon(release, clock=Clock(), memories_per_day=limit, api_key="K1" if chain == "key" else None)
    daemon.certified = True
    comparison, found = Comparison(), {}
    before = ""
    for name, trust in CHAINS[chain]:
        daemon.trust = trust
        played = found[name] = Played()
        for one in load(version, name):
            if name == "api" and one.label in LEFT_OUT:
                played.left_out.append(one.label)
                if one.label == "sub-userinfo":
                    await _register(daemon)
                continue
            if one.at != before:
                daemon.clock.freeze(one.at)
                before = one.at
            daemon.clock.advance(0.001)
            played.differences += await _differences(daemon, comparison, one)
            played.compared += 1
            if until_one and played.differences:
                return found
    daemon.store.close()
    return found


async def _register(daemon: RustDaemon) -> None:
    """A subscription registers its owner as an agent, and the agent is a row that later pages hold."""
    body = b'{"agent_id":"ai:alice","agent_type":"ai:generic","capabilities":[]}'
    headers = (("content-type", "application/json"), ("x-agent-id", "ai:alice"))
    await daemon.handle(Request("POST", "/api/v1/agents", "", headers, body))


async def _differences(daemon: RustDaemon, comparison: Comparison, one: Recorded) -> list[str]:
    path, _, query = comparison.asks(one.target).partition("?")
    body = comparison.asks(one.body.decode()).encode()
    answer = await daemon.handle(Request(one.method, path, query, one.headers, body))
    headers: dict[str, Any] = {"vary": one.answer_headers.get("vary"), **answer.headers}
    if answer.kind is not None:
        headers["content-type"] = answer.kind
    told = comparison.answer_differences(one, answer.status, headers, answer.data.decode())
    return [f"{one.label}: {difference}" for difference in told]


@pytest.fixture(scope="module")
def played_once() -> dict[tuple[str, str], dict[str, Played]]:
    """What came of each chain: its files are looked at one by one, but played together."""
    return {}


@pytest.mark.parametrize(("version", "chain", "name"), PLAYED)
async def test_each_answer_is_the_recorded_one(
    version: str, chain: str, name: str, played_once: dict[tuple[str, str], dict[str, Played]]
) -> None:
    """Status, headers and body of every exchange of a file."""
    if (version, chain) not in played_once:
        played_once[version, chain] = await play(RELEASES[version], version, chain)
    played = played_once[version, chain][name]
    assert played.differences == []
    assert played.compared + len(played.left_out) == len(load(version, name))
    assert played.compared >= 6


def test_no_recording_is_left_out_in_silence() -> None:
    """Every file is played by some test, and every label that is left out exists."""
    for version in RELEASES:
        here = {name for v, _, name in PLAYED if v == version}
        there = {path.stem for path in (RECORDINGS / version).glob("*.json")}
        assert here <= there <= here | set(NOT_PLAYED_HERE)
        assert set(LEFT_OUT) <= {one["label"] for one in raw(version, "api")}
    for name, test in NOT_PLAYED_HERE.items():
        assert f'"{name}"' in (Path(__file__).parent / test).read_text(), f"{test} does not read {name}"


CONTROLS: Mapping[str, tuple[str, str, str]] = {
    "older content wins": ("MERGE", "excluded.updated_at > memories.updated_at", "1"),
    "an id under another title is let in": ("MERGE", "INSERT INTO", "INSERT OR REPLACE INTO"),
    "a page starts at its watermark": ("SINCE", "updated_at > ?1", "updated_at >= ?1"),
    "a page is not ordered": ("SINCE", "ORDER BY updated_at ASC", "ORDER BY updated_at DESC"),
    "a restored row keeps its time": ("RESTORE", "?2", "updated_at"),
}


@pytest.mark.parametrize("control", CONTROLS)
@pytest.mark.parametrize("version", RELEASES)
async def test_a_daemon_with_another_rule_is_noticed(
    version: str, control: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Control: where one rule of the store is changed, answers differ from the recorded ones."""
    name, old, new = CONTROLS[control]
    statement = getattr(tables, name)
    assert old in statement
    monkeypatch.setattr(tables, name, statement.replace(old, new))
    played = await play(RELEASES[version], version, "main", until_one=True)
    assert [one for each in played.values() for one in each.differences] != []


@pytest.mark.parametrize(("played", "recorded"), [(V070, "v063"), (V063, "v070")])
async def test_one_release_does_not_pass_for_the_other(played: Release, recorded: str) -> None:
    """Control: the recordings tell the two releases apart."""
    found = await play(played, recorded, "main")
    assert all(each.differences for each in found.values())
