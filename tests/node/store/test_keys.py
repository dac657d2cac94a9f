"""The keys of a node's agents: derived from a secret that its store keeps, so they last as long as the store does."""

from pathlib import Path

from node.store import Store
from node.store.keys import Keys
from sync.attest import is_genuine
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
    made = tombstone_version("a", "id", "2026-11-25T08:00:00.000000+00:00", keys.author("ai:one"), {"a" * 16: 1})
    assert is_genuine(made)
