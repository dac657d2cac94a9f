"""A store from before there were keys: what was written in it is signed once, when a node starts on it."""

import msgspec
import pytest
import stores
from keys import Nobody, Signing
from stores import Keeper, foreign, raw

from sync import engine, moment
from sync.attest import is_genuine, writer_of
from sync.record import load
from sync.version import Version


def kept(keeper: Keeper) -> dict[str, list[Version]]:
    """All kept versions, by namespace and id."""
    keys = keeper.rows("SELECT namespace, id FROM memory")
    found = keeper.do(lambda ledger: ledger.kept(keys))
    return {f"{key[0]}/{key[1]}": [one.version for one in some] for key, some in found.items()}


def outdated(keeper: Keeper) -> Keeper:
    """The same store, taken back to the schema before and opened again, as an upgrade does."""
    keeper.close()
    with raw(keeper.path) as connection:
        connection.execute("DROP TABLE unsigned")
        connection.execute("DROP TABLE agent_key")
        connection.execute("DELETE FROM migration WHERE version > 4")
    return Keeper(keeper.path, create=False)


def reopened(keeper: Keeper) -> Keeper:
    """The same store, as a restart opens it."""
    keeper.close()
    return Keeper(keeper.path, create=False)


def sign(keeper: Keeper) -> list[int]:
    """Sign all, and say how many versions each transaction had."""
    done: list[int] = []
    while (written := keeper.do(keeper.engine.sign_own)) is not None:
        done.append(written)
    return done


@pytest.fixture
def old(keeper: Keeper) -> Keeper:
    """A store with unsigned memories, tombstones, links and unlinks of its own, a conflict, and some of others."""
    for number in range(5):
        keeper.write(f"t{number}")
    keeper.link("t0", "x" * 8)
    keeper.link("t1", "y" * 8)
    keeper.unlink("t1", "y" * 8)
    keeper.delete("t2")
    keeper.take(*(foreign(f"theirs {number}", str(number)) for number in range(3)))
    mine = keeper.read(lambda reader: reader.by_title("a", "t4"))[0].version
    keeper.take(stores.memory_version(load(mine.doc), stores.Unsigned("agent:elsewhere"), {"e" * 16: 1 << 20}))
    return outdated(keeper)


def test_what_a_store_wrote_before_it_had_keys_is_signed_once(old: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memories, tombstones, links and unlinks, a few at a time; what others wrote stays as it came."""
    monkeypatch.setattr(engine, "MAX_SIGNED", 3)
    before = kept(old)
    old.engine.keys = Signing()
    assert sign(old) == [3, 3, 1]
    after = kept(old)
    assert after.keys() == before.keys()
    for key, versions in after.items():
        was = {one.tag: one for one in before[key]}
        for one in versions:
            if one.tag in was:
                assert writer_of(one)[0] == "agent:elsewhere"
                continue
            assert is_genuine(one)
            (replaced,) = [other for other in was.values() if writer_of(other)[0] == "agent:test"]
            assert (one.kind, one.content, writer_of(one)[0]) == (replaced.kind, replaced.content, "agent:test")
            assert moment.microseconds(one.at) == moment.microseconds(replaced.at) + 1
            assert replaced.clock.items() < one.clock.items()
    assert sorted(map(len, after.values())) == sorted(map(len, before.values()))
    number = old.do(lambda ledger: ledger.position().number)
    again = reopened(old)
    again.engine.keys = Signing()
    assert sign(again) == []
    assert again.do(lambda ledger: ledger.position().number) == number
    again.close()


def test_without_the_list_nothing_would_be_signed(old: Keeper) -> None:
    """Control: it is the list that the upgrade makes which is worked off."""
    old.do(lambda ledger: ledger._execute("DELETE FROM unsigned"))
    before = kept(old)
    old.engine.keys = Signing()
    assert sign(old) == []
    assert kept(old) == before
    assert all(not one.signature for versions in before.values() for one in versions)
    old.close()


def test_an_agent_without_a_key_signs_nothing(old: Keeper) -> None:
    """And is not asked again and again."""
    before = kept(old)
    assert isinstance(old.engine.keys, Nobody)
    assert sum(sign(old)) == 0
    assert kept(old) == before
    old.close()


def test_a_new_store_has_nothing_to_sign(keeper: Keeper) -> None:
    """Nor has one whose writes are signed."""
    keeper.engine.keys = Signing()
    keeper.write("x")
    assert sign(keeper) == []
    again = outdated(keeper)
    assert sign(again) == []
    assert msgspec.json.decode(kept(again).popitem()[1][0].doc)["metadata"]["attestation"]["sig"]
    again.close()
