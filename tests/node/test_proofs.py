"""What is stored is proven anew: every kept version, how far, by which way it came, and every bit that was altered."""

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import versions
from keys import pair
from stamps import stamp
from versions import ALICE, BOB, memory

from node import proofs as module
from node.exchange import new_engine
from node.proofs import Proofs, verify_in_thread
from node.store import Store
from sync import attest, ed25519, lives, moment
from sync.attest import Unsigned, base64url, claims_of
from sync.draft import Fields
from sync.errors import RemoteError
from sync.ids import memory_id
from sync.keyline import key_text
from sync.keyring import EMPTY, Entry, Keyring
from sync.link import LinkFields, link_id
from sync.policy import Policy
from sync.receive import Page, Part, Taken
from sync.record import memory_version, tombstone_version
from sync.scope import Globs
from sync.trust import Trust
from sync.version import Version

PASSPHRASE = "a passphrase of the tests"
NOW = versions.NOW
PEER, STRANGER = "sha256:" + "5" * 64, "sha256:" + "6" * 64
POLICY = Policy(Globs.everything(), Trust(allow_unsigned=True))
COLUMNS = ("namespace", "id", "kind", "at", "title", "stamp", "content", "signature", "tag", "doc")


class Place:
    """A signing store, written to through the engine, and altered behind its back."""

    def __init__(self, path: Path) -> None:
        self.store = Store.open(path, PASSPHRASE, create=True, readers=1)
        self.engine = new_engine("host:test", self.store)
        self.now, self.pages = NOW, 0
        self.keyring = EMPTY
        self.proofs = Proofs(self.store, verify_in_thread, {PEER: "desk"}.get, lambda: self.keyring)
        self.do(self.engine.begin_life, self.now, lives.START)

    def do(self, body: Any, *args: Any) -> Any:
        return self.store.writer.call(lambda ledger: body(ledger, *args))

    def write(self, title: str) -> str:
        self.now += moment.SECOND
        fields = Fields(namespace="a", title=title, content="text")
        found: str = self.do(self.engine.store, fields, "ai:one", self.now).version.id
        return found

    def take(self, *some: Version, peer: str = PEER) -> None:
        held = self.store.tail.peer(peer).held
        after, self.pages = held[0].cursor if held else None, self.pages + 1
        to = f"{'f' * 16}.{self.pages}.{self.pages}.{'0' * 16}.{'0' * 8}"
        page = Page(peer, "f" * 16, after, to, self.store.lives[-1].actor, False)
        genuine = frozenset(place for place, one in enumerate(some) if one.signature)
        self.do(self.engine.receive, page, Part(some, genuine=genuine), POLICY, Taken(), self.now)

    def alter(self, statement: str, *values: Any) -> None:
        """One statement over one row, as somebody with the passphrase could run it."""

        def run(ledger: Any) -> None:
            assert ledger.execute(statement, values).rowcount == 1

        self.do(run)

    def one(self, record_id: str, namespace: str | None = None) -> Any:
        return asyncio.run(self.proofs.one(record_id, namespace))

    def all(self, limit: int = 100) -> list[Any]:
        records, after = [], 0
        while after is not None:
            page = asyncio.run(self.proofs.page({"after": str(after), "limit": str(limit)}))
            records += page["records"]
            after = page["next"]
        return records

    def broken(self) -> dict[str, str]:
        """Ids of what is not as it was written, with the reasons."""
        return {one["id"]: version["reason"] for one in self.all() for version in one["versions"] if version["reason"]}


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    one = Place(tmp_path / "a.db")
    yield one
    one.store.close()


def theirs(title: str, author: Any = None, actor: str = ALICE) -> Version:
    return memory_version(
        memory(id=memory_id("a", title, 0), title=title, content=f"theirs, by {actor}"), author or pair("ai:peer"),
        stamp({actor: 1 << 20}),
    )  # fmt: skip


def test_what_was_written_is_proven(place: Place) -> None:
    """Memories, deleted ones, links and unlinks: each at its level, with its agent, key and time."""
    first, second = place.write("first"), place.write("second")
    fields = LinkFields(source_id=first, target_id=second)
    place.do(place.engine.link, "a", fields, "ai:one", place.now)
    undone = LinkFields(source_id=first, target_id=second, relation="supersedes")
    place.do(place.engine.link, "a", undone, "ai:one", place.now)
    place.do(place.engine.unlink, [("a", link_id(first, second, "supersedes"))], "ai:one", place.now)
    place.do(place.engine.delete, ("a", second), "ai:one", place.now)
    found = [version for one in place.all() for version in one["versions"]]
    assert sorted(one["kind"] for one in found) == ["link", "memory", "tombstone", "unlink"]
    key = key_text(place.store.keys.author("ai:one").key)
    for one in found:
        assert (one["level"], one["agent"], one["key"], one["reason"]) == ("self_signed", "ai:one", key, None)
        assert one["came"] == {"by": "own", "peer": None, "fingerprint": None}
        assert moment.is_canonical(one["at"])


def test_each_kind_is_found_by_its_id(place: Place) -> None:
    """Shortened, deleted, or a link by its ends; what is not there is not found."""
    first, second = place.write("first"), place.write("second")
    place.do(place.engine.link, "a", LinkFields(source_id=first, target_id=second), "ai:one", place.now)
    place.do(place.engine.delete, ("a", second), "ai:one", place.now)
    for name in (first, first[:8], second, second[:8], f"{first} related_to {second}"):
        (record,) = place.one(name)["records"]
        assert record["versions"][0]["level"] == "self_signed"
    assert place.one(first, "a")["levels"] == {"self_signed": 1}
    for name, namespace in (("none", None), (first[:3], None), (f"{first} supersedes {second}", None), (first, "b")):
        with pytest.raises(RemoteError, match="not found"):
            place.one(name, namespace)


def test_a_beginning_of_several_is_ambiguous(place: Place) -> None:
    """As for every other look-up."""
    place.take(
        *(memory_version(memory(id=f"same-{n}", title=f"t{n}"), pair("ai:x"), stamp({ALICE: n << 20})) for n in (1, 2))
    )
    with pytest.raises(RemoteError, match="begins more than one id"):
        place.one("same")


def test_it_says_by_which_way_each_version_came(place: Place) -> None:
    """Written here; from a peer that is known, and one that is known no more; from elsewhere."""
    place.write("own")
    place.take(theirs("from desk"))
    place.take(theirs("from a stranger"), peer=STRANGER)
    adopted = theirs("adopted")
    place.do(lambda ledger: place.engine.adopt(ledger, (adopted,), place.now, dry_run=False))
    came = {one["id"]: one["versions"][0]["came"] for one in place.all()}
    assert came == {
        memory_id("a", "own", 0): {"by": "own", "peer": None, "fingerprint": None},
        memory_id("a", "from desk", 0): {"by": "peer", "peer": "desk", "fingerprint": PEER},
        memory_id("a", "from a stranger", 0): {"by": "peer", "peer": None, "fingerprint": STRANGER},
        memory_id("a", "adopted", 0): {"by": "elsewhere", "peer": None, "fingerprint": None},
    }


def test_every_kept_version_is_looked_at(place: Place) -> None:
    """The winner first, and those beside it; an unsigned one is called so."""
    record_id = place.write("apart")
    place.take(theirs("apart"), theirs("apart", Unsigned("ai:peer"), BOB))
    (record,) = place.one(record_id)["records"]
    assert sorted(one["level"] for one in record["versions"]) == ["self_signed", "self_signed", "unsigned"]
    assert [one["wins"] for one in record["versions"]] == [True, False, False]
    assert {one["came"]["by"] for one in record["versions"]} == {"own", "peer"}
    assert record["fault"] is None


@pytest.mark.parametrize("column", COLUMNS)
def test_a_bit_flipped_in_the_store_is_found(place: Place, column: str) -> None:
    """In any column of any memory, by name. (Control: before that, and everything else, is as it was written.)"""
    place.write("first")
    victim = place.write("victim")
    place.write("last")
    assert place.broken() == {}
    (number,) = place.store.reader.call(
        lambda reader: reader.execute("SELECT number FROM memory WHERE id = ?", (victim,)).fetchone()
    )
    raw = place.store.reader.call(
        lambda reader: reader.execute(f"SELECT CAST({column} AS BLOB) FROM memory WHERE number = ?", (number,))
    ).fetchone()[0]
    changed = raw[:-1] + bytes([raw[-1] ^ 1])
    kind = "BLOB" if column in ("stamp", "content", "signature", "tag", "doc") else "TEXT"
    place.alter(f"UPDATE memory SET {column} = CAST(? AS {kind}) WHERE number = ?", changed, number)
    expected = victim if column != "id" else changed.decode()
    assert list(place.broken()) == [expected]


def test_without_the_look_at_the_signature_a_forged_one_would_pass(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A whole version that somebody signed with another key. (Control: who believes every signature finds nothing.)"""
    victim = place.write("victim")
    kept = place.store.reader.call(lambda reader: reader.versions(("a", victim)))[0].version
    ((key, text, signature),) = claims_of(kept)
    forged = bytes([signature[0] ^ 1]) + signature[1:]
    doc = json.loads(kept.doc)
    doc["metadata"]["attestation"]["sig"] = base64url(forged)
    again = Version(
        kept.namespace, kept.id, "m", kept.at, kept.dot, kept.context, kept.depth, kept.content, forged,
        json.dumps(doc, ensure_ascii=False, separators=(",", ":")).encode(), kept.title,
    )  # fmt: skip
    assert ed25519.verifies(key, text, signature)
    place.alter("UPDATE memory SET signature = ?, tag = ?, doc = ? WHERE id = ?", forged, again.tag, again.doc, victim)
    assert place.broken() == {victim: "bad_signature"}

    async def believing(claims: list[Any]) -> bytes:
        return b"\1" * len(claims)

    monkeypatch.setattr(place.proofs, "_verify", believing)
    assert place.broken() == {}


def test_a_version_that_is_gone_is_missed(place: Place) -> None:
    """Beside the winner: the store knows how many there should be."""
    record_id = place.write("apart")
    place.take(theirs("apart"))
    assert place.one(record_id)["faults"] == 0
    place.alter("DELETE FROM conflict")
    told = place.one(record_id)
    assert (told["faults"], told["records"][0]["fault"]) == (1, "1 versions of it are here, 2 expected")


def test_the_keyring_says_whose_key_it_is(place: Place) -> None:
    """Attested, where it is the agent's; refused, where it is not, or was revoked; control: nobody is enrolled."""
    record_id, key = place.write("one"), place.store.keys.author("ai:one").key
    other = pair("ai:other").key

    def level() -> tuple[str, str | None]:
        version = place.one(record_id)["records"][0]["versions"][0]
        return version["level"], version["reason"]

    assert level() == ("self_signed", None)
    place.keyring = Keyring((Entry(key, "ai:one"),))
    assert level() == ("attested", None)
    place.keyring = Keyring((Entry(other, "ai:one"),))
    assert level() == ("refused", "key_mismatch")
    place.keyring = Keyring((Entry(key, "ai:one", revoked=moment.text(place.now)),))
    assert level() == ("refused", "key_revoked")
    place.keyring = Keyring((Entry(key, "ai:one", revoked=moment.text(place.now + 1)),))
    assert level() == ("attested", None)


def test_what_was_altered_is_broken_whoever_is_enrolled(place: Place) -> None:
    """The keyring is asked about what verifies, and about nothing else."""
    record_id = place.write("one")
    place.keyring = Keyring((Entry(place.store.keys.author("ai:one").key, "ai:one"),))
    place.alter("UPDATE memory SET title = 'else' WHERE id = ?", record_id)
    assert place.one(record_id)["levels"] == {"broken": 1}


def test_pages_cover_everything_once(place: Place) -> None:
    """However small they are, over more than one request to the verifier."""
    place.take(*(theirs(f"t{number}") for number in range(module.STEP + 7)))
    deleted = tombstone_version("a", memory_id("a", "t3", 0), moment.text(place.now), pair("ai:peer"), stamp({BOB: 1}))
    place.take(deleted)
    whole = place.all(limit=module.MAX_PAGE)
    assert len(whole) == module.STEP + 7
    assert {one["versions"][0]["level"] for one in whole} == {"self_signed"}
    small = place.all(limit=10)
    assert small == whole


@pytest.mark.parametrize("is_in_place", [True, False], ids=["as it is", "control"])
def test_nothing_is_proven_on_the_event_loop(place: Place, is_in_place: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither documents nor signatures: the node answers others meanwhile. (Control: without threads they are.)"""
    place.write("one")
    threads: list[int] = []

    def noted(work: Any) -> Any:
        def run(*arguments: Any) -> Any:
            threads.append(threading.get_ident())
            return work(*arguments)

        return run

    async def at_once(work: Any, *arguments: Any) -> Any:
        return work(*arguments)

    monkeypatch.setattr(module, "recheck", noted(module.recheck))
    monkeypatch.setattr(attest, "claims_of", noted(attest.claims_of))
    monkeypatch.setattr(ed25519, "verifies", noted(ed25519.verifies))
    if not is_in_place:
        monkeypatch.setattr(asyncio, "to_thread", at_once)
    place.all()
    assert len(threads) == 3
    assert (threading.get_ident() in threads) is not is_in_place


def test_what_was_taken_away_whole_is_not_missed(place: Place) -> None:
    """Nothing else in the store says that it was there: the peers do. Control: what is left is proven as before."""
    kept, gone = place.write("stays"), place.write("goes")
    assert {one["id"] for one in place.all()} == {kept, gone}
    place.alter("DELETE FROM memory WHERE id = ?", gone)
    assert {one["id"] for one in place.all()} == {kept} and place.broken() == {}
