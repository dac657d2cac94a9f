"""The agents of a node and their keys: made, rotated at once, taken in, and told without their private halves."""

import asyncio
import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from node import identities
from node.exchange import new_engine
from node.identities import Identities
from node.memories import Memories
from node.store import Store
from node.store.keys import beside
from node.timekeeper import Timekeeper
from sync import ed25519, lives
from sync.attest import KeyPair, base64url, from_base64url
from sync.errors import RemoteError
from sync.keyline import parse_key, successor_text

PASSPHRASE = "a passphrase of the tests"
SEED = bytes(range(32))


class Node:
    """A store with what is served over it."""

    def __init__(self, path: Path) -> None:
        self.store = Store.open(path, PASSPHRASE, create=True, readers=1)
        clock = Timekeeper()
        engine = new_engine("host:test", self.store)
        self.store.writer.call(lambda ledger: engine.begin_life(ledger, clock.now(), lives.START))
        self.memories = Memories(self.store, engine, clock.now)
        self.identities = Identities(self.store, engine.agent, clock.now)

    def write(self, title: str, agent: str) -> str:
        """The key that a new memory is signed with."""
        body = json.dumps({"title": title, "content": "text"}).encode()
        made = asyncio.run(self.memories.create(body, agent))
        found = json.loads(asyncio.run(self.memories.get(made["id"], None)))["memory"]
        return f"ed25519:{found['metadata']['attestation']['key']}"

    def rotate(self, agent: str) -> dict[str, Any]:
        return asyncio.run(self.identities.rotate(wanted(agent)))

    def generate(self, agent: str) -> dict[str, Any]:
        return asyncio.run(self.identities.generate(wanted(agent)))

    def listed(self) -> dict[str, list[dict[str, Any]]]:
        found = asyncio.run(self.identities.listed())["identities"]
        return {one["agent"]: one["keys"] for one in found}


def wanted(agent: str) -> bytes:
    return json.dumps({"agent_id": agent}).encode()


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    one = Node(tmp_path / "a.db")
    yield one
    one.store.close()


def test_a_rotated_key_signs_the_next_write(node: Node) -> None:
    """At once, and only that agent's; the former key is named as such, with what it signed."""
    old = node.write("before", "ai:one")
    other = node.write("other", "ai:two")
    told = node.rotate("ai:one")
    assert (told["after"], told["origin"]) == (old, "rotated")
    assert node.write("after", "ai:one") == told["key"] != old
    assert node.write("other again", "ai:two") == other
    current, former = node.listed()["ai:one"]
    assert (current["key"], current["current"], current["signed"]) == (told["key"], True, 1)
    assert (former["key"], former["current"], former["signed"]) == (old, False, 1)


def test_a_node_that_is_not_told_signs_with_the_old_key(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: without the keys in memory replaced, a rotation would wait for the next start."""
    old = node.write("before", "ai:one")
    monkeypatch.setattr(node.store.keys, "replace", lambda sealed: None)
    node.rotate("ai:one")
    assert node.write("after", "ai:one") == old


def test_a_successor_is_signed_by_its_predecessor(node: Node) -> None:
    """Each of a chain, over the text of the protocol."""
    keys = [node.generate("ai:one")["key"]]
    for _ in range(3):
        told = node.rotate("ai:one")
        old = parse_key(keys[-1])
        text = successor_text("ai:one", parse_key(told["key"]), old, told["since"])
        by = from_base64url(told["by"], 64)
        assert by is not None
        assert ed25519.verifies(old, text, by)
        assert not ed25519.verifies(old, text.replace(b"ai:one", b"ai:two"), by)
        keys.append(told["key"])
    assert [one["key"] for one in node.listed()["ai:one"]] == keys[::-1]


def test_a_rotation_outlives_a_restart(tmp_path: Path) -> None:
    """It is in the store, and in any backup made since."""
    first = Node(tmp_path / "a.db")
    first.generate("ai:one")
    key = first.rotate("ai:one")["key"]
    first.store.close()
    again = Node(tmp_path / "a.db")
    assert again.write("after", "ai:one") == key
    again.store.close()


def test_an_older_backup_signs_with_the_former_key(tmp_path: Path) -> None:
    """It knows nothing of the rotation; the key that was exported before brings it back."""
    path = tmp_path / "a.db"
    first = Node(path)
    old = first.write("before", "ai:one")
    first.store.close()
    backup = path.read_bytes()
    again = Node(path)
    key = again.rotate("ai:one")["key"]
    pair = again.store.keys.author("ai:one")
    again.store.close()
    path.write_bytes(backup)
    restored = Node(path)
    assert restored.write("restored", "ai:one") == old
    restored.store.close()
    with beside(path, PASSPHRASE) as (execute, known):
        identities.take_in(execute, known, pair, 1_800_000_000_000_000)
    whole = Node(path)
    assert whole.write("taken in", "ai:one") == key
    whole.store.close()


def test_what_was_sealed_beside_is_taken_in_when_told(node: Node) -> None:
    """While the node runs and writes; not before it is told."""
    old = node.write("before", "ai:one")
    pair = KeyPair.of("ai:one", SEED)
    with beside(node.store.path, PASSPHRASE) as (execute, known):
        one, is_new = identities.take_in(execute, known, pair, 1_800_000_000_000_000)
    assert (one.key, one.origin, is_new) == (pair.key, "imported", True)
    assert node.write("not yet", "ai:one") == old
    assert asyncio.run(node.identities.reload()) == {"keys": 2}
    assert parse_key(node.write("after", "ai:one")) == pair.key
    with beside(node.store.path, PASSPHRASE) as (execute, known):
        assert identities.take_in(execute, known, pair, 1) == (one, False)


def test_one_key_is_not_taken_for_two_agents(node: Node) -> None:
    """A keyring could not say whose it is. (Control: the agent that has it may have it again.)"""
    node.generate("ai:one")
    node.rotate("ai:one")
    pair = node.store.keys.author("ai:one")
    with beside(node.store.path, PASSPHRASE) as (execute, known):
        assert not identities.take_in(execute, known, pair, 1)[1]
        with pytest.raises(RemoteError, match="the key of ai:one here"):
            identities.take_in(execute, known, KeyPair("ai:two", pair.key, pair.seed), 1)


def test_a_former_key_is_taken_in_again(node: Node) -> None:
    """It is the current one then, and known by where it came from first."""
    first = KeyPair.of("ai:one", SEED)
    for pair in (first, KeyPair.of("ai:one", SEED[::-1]), first):
        with beside(node.store.path, PASSPHRASE) as (execute, known):
            identities.take_in(execute, known, pair, 1_800_000_000_000_000)
    asyncio.run(node.identities.reload())
    assert parse_key(node.write("after", "ai:one")) == first.key
    assert len(node.listed()["ai:one"]) == 3


def test_generate_names_an_agent_that_did_not_write_yet(node: Node) -> None:
    """With the key that it will sign with; again changes nothing. (Control: another agent is not named.)"""
    told = node.generate("ai:new")
    assert told == node.generate("ai:new")
    assert set(node.listed()) == {"ai:new", "host:test"}
    assert node.write("first", "ai:new") == told["key"]


def test_only_who_has_a_key_gets_the_next_one(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """The node itself, who wrote here, and who was named. Control: without the question a slip makes another agent."""
    node.write("one", "ai:writes")
    node.generate("ai:named")
    for agent in ("host:test", "ai:writes", "ai:named"):
        assert node.rotate(agent)["agent"] == agent
    with pytest.raises(RemoteError, match="ai:wrties has no key here; did you mean ai:writes") as refused:
        node.rotate("ai:wrties")
    assert refused.value.code == "not_found"
    assert "there are: ai:named, ai:writes, host:test." in str(refused.value)
    assert "ai:wrties" not in node.listed()
    monkeypatch.setattr(identities, "require_known", lambda *_: None)
    node.rotate("ai:wrties")
    assert "ai:wrties" in node.listed()


def test_an_error_names_some_of_many_agents(node: Node) -> None:
    """As many as a person reads."""
    for number in range(identities.MOST_NAMED + 5):
        node.generate(f"ai:{number:02}")
    with pytest.raises(RemoteError, match=r"ai:09, …\. `ai-memory identity generate nobody` makes it one"):
        node.rotate("nobody")


@pytest.mark.parametrize("agent", ["", "a b", "ai:\0", "é", "x" * 129])
def test_what_is_no_agent_id_is_refused(node: Node, agent: str) -> None:
    """By the rule that holds for every write."""
    for ask in (node.generate, node.rotate):
        with pytest.raises(RemoteError, match="agent_id"):
            ask(agent)


def test_a_key_that_no_row_explains_is_told_all_the_same(node: Node) -> None:
    """What was signed here under a secret that this store had not, such as one before a repair."""
    node.write("one", "ai:one")
    node.store.keys.replace([])
    node.store.writer.call(lambda ledger: ledger.execute("UPDATE key_secret SET secret = ?", (bytes(32),)))  # type: ignore[attr-defined]
    node.store.close()
    again = Node(node.store.path)
    current, lost = again.listed()["ai:one"]
    again.store.close()
    assert (current["signed"], current["origin"]) == (0, "derived")
    assert (lost["signed"], lost["origin"], lost["current"]) == (1, "unknown", False)


def test_no_private_half_is_told(node: Node) -> None:
    """In no answer that goes over HTTP."""
    told = json.dumps([node.generate("ai:one"), node.rotate("ai:one"), node.listed(), node.generate("ai:one")])
    seed = node.store.keys.author("ai:one").seed
    forms = (seed.hex(), base64url(seed), base64.b64encode(seed).decode(), "seed", "secret", "private")
    assert not [form for form in forms if form in told]
    assert base64url(ed25519.public_of(seed)) in told  # control: the public half, in such a form
