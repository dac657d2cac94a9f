"""The keys of a node's agents: derived from a secret that its store keeps, so they last as long as the store does."""

from pathlib import Path
from typing import Any

import pytest
from stamps import stamp

from node.store import Store
from node.store.errors import WrongPassphrase
from node.store.keys import Keys, Sealed, beside, read, seal
from sync.attest import KeyPair, is_genuine
from sync.record import tombstone_version

PASSPHRASE = "a passphrase of the tests"


def keys_of(path: Path) -> Keys:
    store = Store.open(path, PASSPHRASE, create=True, readers=1)
    store.close()
    return store.keys


def test_an_agent_has_one_key_for_as_long_as_the_store_lives(tmp_path: Path) -> None:
    """After a restart it signs with the same key, and every agent with its own."""
    first, again = keys_of(tmp_path / "a.db"), keys_of(tmp_path / "a.db")
    assert first.author("ai:one") == again.author("ai:one")
    assert first.author("ai:one").key != first.author("ai:two").key


def test_another_store_has_other_keys(tmp_path: Path) -> None:
    """What one node signs for an agent no other can, unless it has its store."""
    one, other = keys_of(tmp_path / "a.db"), keys_of(tmp_path / "b.db")
    assert one.author("ai:one").key != other.author("ai:one").key


def test_what_it_signs_verifies(tmp_path: Path) -> None:
    """And only under the agent's key."""
    keys = keys_of(tmp_path / "a.db")
    made = tombstone_version("a", "id", "2026-11-25T08:00:00.000000+00:00", keys.author("ai:one"), stamp({"a" * 16: 1}))
    assert is_genuine(made)


def sealed(agent: str, seed: bytes, origin: Any = "imported") -> Sealed:
    return Sealed(agent, KeyPair.of(agent, seed).key, seed, origin, "2026-11-25T08:00:00.000000+00:00")


def test_an_agent_signs_with_the_key_that_was_sealed_last(tmp_path: Path) -> None:
    """Of several; the others sign as before, and after a restart it is the same."""
    path = tmp_path / "a.db"
    store = Store.open(path, PASSPHRASE, create=True, readers=1)
    derived = store.keys.author("ai:one")
    for number in (1, 2):
        store.writer.call(lambda ledger, n=number: seal(ledger.execute, sealed("ai:one", bytes([n]) * 32)))  # type: ignore[misc, attr-defined]
    assert store.keys.author("ai:one") == derived  # not before it is told
    store.keys.replace(store.reader.call(lambda reader: read(reader.execute)))
    two = store.keys.author("ai:two")
    assert store.keys.author("ai:one").seed == bytes([2]) * 32
    store.close()
    again = keys_of(path)
    assert again.author("ai:one").seed == bytes([2]) * 32
    assert again.author("ai:two") == two


def test_a_former_key_that_is_sealed_again_is_the_current_one(tmp_path: Path) -> None:
    """It is there once, and last; a row without a private half means the derived key."""
    path = tmp_path / "a.db"
    keys_of(path)
    one, other = sealed("ai:one", bytes([1]) * 32), sealed("ai:one", bytes([2]) * 32)
    for row in (one, other, one):
        with beside(path, PASSPHRASE) as (execute, known):
            seal(execute, row)
            derived = known.derived("ai:one")
    with beside(path, PASSPHRASE) as (execute, known):
        assert read(execute) == [other, one]
        seal(execute, Sealed("ai:one", derived.key))
    assert keys_of(path).author("ai:one") == derived


def test_what_is_done_beside_and_fails_leaves_nothing(tmp_path: Path) -> None:
    """The transaction is undone. (Control: the same without the failure is there.)"""
    path = tmp_path / "a.db"
    keys_of(path)
    with pytest.raises(ValueError, match="bad luck"), beside(path, PASSPHRASE) as (execute, _):
        seal(execute, sealed("ai:one", bytes([1]) * 32))
        raise ValueError("bad luck")
    with beside(path, PASSPHRASE) as (execute, _):
        assert read(execute) == []
        seal(execute, sealed("ai:one", bytes([1]) * 32))
    with beside(path, PASSPHRASE) as (execute, _):
        assert len(read(execute)) == 1


def test_a_wrong_passphrase_opens_no_keys(tmp_path: Path) -> None:
    """Beside a running node as anywhere."""
    keys_of(tmp_path / "a.db")
    with pytest.raises(WrongPassphrase), beside(tmp_path / "a.db", "another"):
        pass


def test_a_private_key_is_never_shown(tmp_path: Path) -> None:
    """Neither by a sealed key nor by a key pair, whatever prints them. (Control: the public half is.)"""
    one = sealed("ai:one", b"0123456789abcdef" * 2)
    keys = Keys(b"s" * 32, [one])
    for shown in (repr(one), repr(keys.author("ai:one")), repr(keys), str(one)):
        assert "0123456789abcdef" not in shown
    assert repr(one.key) in repr(one)


def test_two_nodes_with_one_key_sign_alike(tmp_path: Path) -> None:
    """What either of them writes for the agent verifies under the one key."""
    made = []
    for name in ("a.db", "b.db"):
        keys_of(tmp_path / name)
        with beside(tmp_path / name, PASSPHRASE) as (execute, _):
            seal(execute, sealed("ai:one", bytes([7]) * 32))
        author = keys_of(tmp_path / name).author("ai:one")
        made.append(tombstone_version("a", "id", "2026-11-25T08:00:00.000000+00:00", author, stamp({"a" * 16: 1})))
    assert made[0] == made[1]
    assert is_genuine(made[0])
