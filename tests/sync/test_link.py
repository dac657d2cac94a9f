"""Links: read as they were written, kept and merged as memories are, moved with the memory that they begin at."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
import pytest
import rfc8785
import versions
from hypothesis import given, settings
from hypothesis import strategies as st
from keys import ANYBODY, agent_of
from keys import pair as pair_of
from stamps import stamp
from versions import ALICE, BOB, CAROL, ID, NOW, OTHER, SECOND, Desk

from sync import moment, writes
from sync.attest import Unsigned, signer_of, writer_of
from sync.errors import RemoteError
from sync.ids import memory_id
from sync.link import MAX_LINK_ID_BYTES, RELATIONS, LinkFields, link_id, link_version, load, read, unlink_version
from sync.memory import id_fault
from sync.policy import Policy
from sync.record import Refused
from sync.scope import Globs
from sync.version import Key, Version
from sync.writes import Missing

AT = moment.text(NOW)
LINK = versions.link(stamp({ALICE: 7}), valid_until="2028-01-01T00:00:00.000000+00:00", observed_by="ai:alice")
UNLINK = versions.unlink(stamp({ALICE: 8}))
X = memory_id("a", "x", 0)


def only(desk: Desk, key: Key) -> Version:
    """The one version that is kept of a key."""
    (one,) = desk.kept(key)
    return one.version


def key_of(target_id: str, *, namespace: str = "a", source_id: str = X) -> Key:
    return (namespace, link_id(source_id, target_id, "related_to"))


# --- the record


@pytest.mark.parametrize("version", [LINK, UNLINK], ids=["link", "unlink"])
def test_what_a_node_writes_another_reads_as_the_same_version(version: Version) -> None:
    """The document alone gives back ends, relation, times, stamp, content and bytes; and who wrote it."""
    assert read(version.doc) == version
    assert agent_of(version) == "agent:other"
    assert version.shown == f"{ID} related_to {OTHER}"


def test_the_same_statement_is_the_same_version_on_every_node() -> None:
    """Who imports or relays links makes the version that everybody else makes of the same words."""
    made = [
        link_version("a", ID, OTHER, "supersedes", AT, Unsigned("ai:bob"), stamp({BOB: 3}), observed_by="ai:bob")
        for _ in range(2)
    ]
    assert made[0] == made[1]
    other = link_version("b", ID, OTHER, "supersedes", AT, Unsigned("ai:bob"), stamp({BOB: 3}), observed_by="ai:bob")
    assert (other.content, other.tag == made[0].tag) == (made[0].content, False)


TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=6)
MAYBE = st.one_of(st.none(), TEXT)


@given(TEXT, TEXT, MAYBE, MAYBE, MAYBE)
def test_the_content_digest_is_that_of_the_reference_library(
    source: str, target: str, since: str | None, until: str | None, by: str | None
) -> None:
    """SHA-256 over the RFC 8785 form of seven members, null where one says nothing."""
    made = link_version(
        "a",
        source,
        target,
        "related_to",
        AT,
        Unsigned("x"),
        stamp({ALICE: 1}),
        valid_from=since,
        valid_until=until,
        observed_by=by,
    )
    book = {
        "source_id": source, "target_id": target, "relation": "related_to", "created_at": AT, "valid_from": since,
        "valid_until": until, "observed_by": by,
    }  # fmt: skip
    assert made.content == hashlib.sha256(rfc8785.dumps(book)).digest()


def test_no_id_of_a_memory_is_the_id_of_a_link() -> None:
    """The separator is refused in one; so neither can take the other's key."""
    assert id_fault(LINK.id) == "id: control character U+001F at 36, none expected"
    longest = max(RELATIONS, key=len)
    assert len(link_id("s" * 128, "t" * 128, longest).encode()) == MAX_LINK_ID_BYTES


Edit = Callable[[dict[str, Any]], object]
REFUSED: dict[str, tuple[Version, Edit, str, str]] = {
    "source empty": (LINK, lambda doc: doc.update(source_id=""), "limits", "source_id: empty, some text expected"),
    "target with the separator": (
        LINK, lambda doc: doc.update(target_id="a\x1fb"), "limits",
        "target_id: control character U+001F at 1, none expected",
    ),
    "to itself": (
        LINK, lambda doc: doc.update(target_id=ID), "limits",
        "target_id: a memory cannot be linked to itself, another one expected",
    ),
    "relation": (
        LINK, lambda doc: doc.update(relation="likes"), "limits",
        f"relation: 'likes', one of {', '.join(RELATIONS)} expected",
    ),
    "namespace": (LINK, lambda doc: doc.update(namespace="a//b"), "limits", "namespace: segment ''"),
    "time": (LINK, lambda doc: doc.update(valid_until="tomorrow"), "limits", "valid_until: 'tomorrow', expected the"),
    "observer": (LINK, lambda doc: doc.update(observed_by="a b"), "limits", "observed_by: 'a b', an agent id expected"),
    "altered": (
        LINK, lambda doc: doc.update(valid_until=AT), "bad_attestation",
        "attestation.content: is not the digest of this record's content",
    ),
    "own time altered": (
        LINK, lambda doc: doc.update(updated_at="2028-01-01T00:00:00.000000+00:00"), "bad_attestation",
        "attestation.at: differs from the record's own time",
    ),
    "no counter": (LINK, lambda doc: doc["attestation"].update(dot=[BOB, 0], context=[]), "limits", "dot: counter 0"),
    "attested as an unlink": (
        LINK, lambda doc: doc["attestation"].pop("content"), "bad_attestation",
        "attestation: content missing or not known",
    ),
    "unlink of itself": (
        UNLINK, lambda doc: doc.update(target_id=ID), "limits",
        "target_id: a memory cannot be linked to itself, another one expected",
    ),
    "unlink's namespace": (UNLINK, lambda doc: doc.update(namespace="a//b"), "limits", "namespace: segment ''"),
    "unlink's time": (UNLINK, lambda doc: doc.update(deleted_at="soon"), "limits", "deleted_at: 'soon', expected the"),
    "relation and observer": (
        LINK, lambda doc: doc.update(relation="likes", observed_by="a b"), "limits", "relation: 'likes'",
    ),
    "unlink without a time": (UNLINK, lambda doc: doc.update(deleted_at=None), "malformed", "not a link: Expected"),
    "unlink with content": (
        UNLINK, lambda doc: doc["attestation"].update(content="0" * 64), "bad_attestation",
        "attestation: content missing or not known",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_a_link_beyond_its_limits_is_refused_with_a_reason(case: str) -> None:
    """What was found and what was expected; the same document without the edit is read."""
    version, edit, reason, detail = REFUSED[case]
    document = msgspec.json.decode(version.doc)
    assert read(msgspec.json.encode(document)) == version
    edit(document)
    found = read(msgspec.json.encode(document))
    assert isinstance(found, Refused)
    assert (found.reason, found.detail[: len(detail)]) == (reason, detail)


def test_null_and_absent_are_one() -> None:
    """A link that says null where another says nothing is the same version, with the same bytes."""
    plain = versions.link(stamp({ALICE: 7}))
    document = msgspec.json.decode(plain.doc) | {"valid_from": None, "observed_by": None}
    assert read(msgspec.json.encode(document)) == plain


@settings(max_examples=200)
@given(st.data())
def test_damage_to_a_link_is_refused_and_no_exception(data: st.DataObject) -> None:
    """Bytes cut out or put in anywhere."""
    raw = bytearray(data.draw(st.sampled_from((LINK, UNLINK))).doc)
    at = data.draw(st.integers(0, len(raw)))
    raw[at : at + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=4))
    assert isinstance(read(bytes(raw)), Version | Refused)


# --- local writes


def test_a_link_is_made_once_and_changed_after_that() -> None:
    """Made again it takes no number; with another validity it keeps who said it first, and when."""
    desk = Desk()
    desk.write("x")
    made = desk.link("x", OTHER)
    assert (made.created, made.version.key, made.version.title) == (True, key_of(OTHER), OTHER)
    desk.now += SECOND
    again = desk.link("x", OTHER)
    assert (again.created, again.changed, desk.store.position().number) == (False, False, 2)
    fields = LinkFields(source_id=X, target_id=OTHER, valid_until="2028-01-01T01:00:00+01:00")
    changed = desk.do(desk.engine.link, "a", fields, "agent:later")
    link = load(only(desk, key_of(OTHER)).doc)
    assert (changed.created, changed.changed) == (False, True)
    assert (link.created_at, link.updated_at, link.observed_by) == (AT, moment.text(NOW + SECOND), "agent:desk")
    assert link.valid_until == "2028-01-01T00:00:00.000000+00:00"
    assert desk.link("x", OTHER).changed is False
    assert desk.link("x", OTHER, valid_until=None).changed is True


def test_saying_a_link_again_settles_a_conflict() -> None:
    """With a conflict there is something to write, though the winner says the same already."""
    desk = Desk()
    desk.write("x")
    said = {"source_id": X, "created_at": AT, "observed_by": "ai:first"}
    desk.take(versions.link(stamp({ALICE: 1}), **said), versions.link(stamp({BOB: 1}), **said))
    assert len(desk.kept(key_of(OTHER))) == 2
    written = desk.link("x", OTHER)
    assert (written.created, written.changed) == (False, True)
    assert only(desk, key_of(OTHER)) == written.version
    assert desk.link("x", OTHER).changed is False


def test_only_a_memory_that_is_here_can_be_linked_from() -> None:
    """Neither an unknown one, nor a deleted one, nor one of another namespace."""
    desk = Desk()
    assert isinstance(desk.link("x", OTHER), Missing)
    written = desk.write("x")
    fields = LinkFields(source_id=X, target_id=OTHER)
    assert isinstance(desk.do(desk.engine.link, "b", fields, "agent:desk"), Missing)
    desk.delete(written.version.key)
    assert isinstance(desk.link("x", OTHER), Missing)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"target_id": X}, "target_id: a memory cannot be linked to itself"),
        ({"relation": "likes"}, "relation: 'likes', one of related_to, supersedes"),
        ({"valid_from": "soon"}, "valid_from: 'soon', an RFC 3339 time expected"),
    ],
)
def test_what_a_client_says_wrong_is_named(fields: dict[str, str], words: str) -> None:
    """And nothing is written."""
    desk = Desk()
    desk.write("x")
    with pytest.raises(RemoteError, match=words):
        desk.link("x", **({"target_id": OTHER} | fields))
    assert desk.store.position().number == 1


def test_an_unlink_takes_back_what_is_there_and_a_link_comes_back_over_it() -> None:
    """Twice taken back is once; a new link has seen the unlink, so it wins everywhere."""
    desk = Desk()
    desk.write("x")
    desk.link("x", OTHER)
    assert (desk.unlink("x", OTHER), desk.unlink("x", OTHER), desk.unlink("x", "never")) == (1, 0, 0)
    unlinked = only(desk, key_of(OTHER))
    assert unlinked.kind == "u"
    desk.link("x", OTHER)
    linked = only(desk, key_of(OTHER))
    assert linked.kind == "l"
    other = Desk(2)
    other.take(linked, unlinked)
    assert only(other, key_of(OTHER)) == linked


def test_a_deleted_memory_leaves_its_links_and_finds_them_again() -> None:
    """A title that is stored again has the id that its links name."""
    desk = Desk()
    written = desk.write("x")
    desk.link("x", OTHER)
    desk.delete(written.version.key)
    assert only(desk, key_of(OTHER)).kind == "l"
    assert desk.write("x").version.id == X


# --- moves


def test_a_memory_that_moves_takes_along_what_begins_at_it() -> None:
    """In the same transaction: unlinked there, linked here, as it was said first; other links stay."""
    desk = Desk()
    written = desk.write("x")
    desk.write("y")
    desk.link("x", OTHER, valid_from=AT)
    desk.link("x", "gone")
    desk.unlink("x", "gone")
    desk.link("y", X)
    desk.now += SECOND
    desk.update(written.version.key, namespace="b")
    assert only(desk, key_of(OTHER)).kind == "u"
    moved = load(only(desk, key_of(OTHER, namespace="b")).doc)
    assert (moved.created_at, moved.valid_from, moved.observed_by) == (AT, AT, "agent:desk")
    assert desk.kept(key_of("gone", namespace="b")) == ()
    assert only(desk, key_of(X, source_id=memory_id("a", "y", 0))).kind == "l"


def test_who_may_read_only_the_old_place_learns_nothing_of_the_new_one() -> None:
    """A page for it has the tombstone and the unlink; a page for the new place has memory and link."""
    desk = Desk()
    written = desk.write("x")
    desk.link("x", OTHER)
    desk.update(written.version.key, namespace="secret")
    old, new = (desk.cut(scope=Globs((pattern,))).page for pattern in ("a", "secret"))
    assert (old.memories, b"deleted_at" in old.tombstones, b"deleted_at" in old.links) == (b"", True, True)
    assert b"secret" not in old.tombstones + old.links
    assert b'"namespace":"secret"' in new.links


def test_without_taking_them_along_the_links_stay_where_they_can_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: a move that forgets them leaves them in the old place."""
    monkeypatch.setattr(writes, "_take_up_links", lambda *_: [])
    with pytest.raises(AssertionError):
        test_who_may_read_only_the_old_place_learns_nothing_of_the_new_one()


def test_what_others_said_of_a_memory_stays_theirs_where_it_was_said() -> None:
    """A move makes no stranger's link the mover's word; what this node's agents said goes along."""
    desk = Desk()
    written = desk.write("x")
    desk.link("x", OTHER)
    desk.take(versions.link(stamp({ALICE: 1}), source_id=X, target_id="strange"))
    desk.do(desk.engine.link, "a", LinkFields(source_id=X, target_id="other"), "agent:third")
    desk.update(written.version.key, namespace="b")
    assert {only(desk, key_of(target, namespace="b")).kind for target in (OTHER, "other")} == {"l"}
    assert writer_of(only(desk, key_of("strange")))[0] == "agent:other"
    assert desk.kept(key_of("strange", namespace="b")) == ()


def test_what_the_mover_said_elsewhere_goes_along() -> None:
    """Whoever has several machines says with one key on all of them; the name alone is anybody's to use."""
    desk = Desk()
    written = desk.write("x")
    for number, (target, author) in enumerate(
        {"mine": Unsigned("agent:desk"), "not": pair_of("agent:desk")}.items(), 1
    ):
        desk.take(link_version("a", X, target, "related_to", AT, author, stamp({ALICE: number})))
    desk.update(written.version.key, namespace="b")
    assert only(desk, key_of("mine", namespace="b")).kind == "l"
    assert only(desk, key_of("not")).kind == "l"


def test_who_takes_along_every_link_signs_what_others_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Control."""
    monkeypatch.setattr(writes, "_is_said_by", lambda *_: True)
    with pytest.raises(AssertionError):
        test_what_others_said_of_a_memory_stays_theirs_where_it_was_said()


def test_however_many_links_hang_on_a_memory_its_move_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that the mover made here are found among any number of others; of its own there is a most, too."""
    monkeypatch.setattr(writes, "MAX_TAKEN_ALONG", 3)
    desk = Desk()
    written = desk.write("x")
    desk.link("x", OTHER)
    desk.take(*(versions.link(stamp({ALICE: n}), source_id=X, target_id=f"strange {n}") for n in range(1, 20)))
    before = desk.store.position().number
    moved = desk.update(written.version.key, namespace="b")
    assert only(desk, key_of(OTHER, namespace="b")).kind == "l"
    assert desk.store.position().number == before + 4  # two of the memory, two of its link
    for n in range(9):
        desk.do(desk.engine.link, "b", LinkFields(source_id=X, target_id=f"own {n}"), "agent:desk")
    before = desk.store.position().number
    desk.update(moved.version.key, namespace="c")
    assert desk.store.position().number == before + 2 + 2 * 3


def test_a_memory_that_gets_another_id_where_it_moves_keeps_its_links() -> None:
    """They begin at the new id; one that led there, while nothing was there, would lead to itself and goes."""
    desk = Desk()
    desk.write("x", namespace="b")
    desk.update(("b", memory_id("b", "x", 0)), title="renamed")
    written = desk.take(versions.version(stamp({ALICE: 1}), id=memory_id("b", "x", 0), namespace="a"))
    assert written.applied == 1
    source, renamed = memory_id("b", "x", 0), memory_id("b", "x", 1)
    for target in (OTHER, renamed):
        desk.do(desk.engine.link, "a", LinkFields(source_id=source, target_id=target), "agent:desk")
    moved = desk.update(("a", source), namespace="b")
    assert moved.version.id == renamed
    assert only(desk, key_of(OTHER, namespace="b", source_id=renamed)).kind == "l"
    assert desk.kept(key_of(renamed, namespace="b", source_id=renamed)) == ()


# --- merge


def test_a_link_that_comes_before_its_memories_is_kept() -> None:
    """The existing daemon drops it for ever."""
    desk = Desk()
    taken = desk.take(LINK)
    assert (taken.applied, taken.links, only(desk, LINK.key)) == (1, 1, LINK)


def test_links_and_unlinks_written_apart_are_conflicts_and_the_latest_wins() -> None:
    """Like any other versions; an edit that has seen them settles them."""
    desk = Desk()
    desk.take(versions.version(stamp({CAROL: 1}), id=X), versions.link(stamp({ALICE: 1}), source_id=X))
    taken = desk.take(versions.unlink(stamp({BOB: 1}), source_id=X, seconds=1))
    assert (taken.links, [one.version.kind for one in desk.kept(key_of(OTHER))]) == (1, ["u", "l"])
    desk.now += 2 * SECOND
    desk.do(desk.engine.link, "a", LinkFields(source_id=X, target_id=OTHER), "agent:desk")
    assert only(desk, key_of(OTHER)).kind == "l"


def test_more_versions_of_a_link_than_are_kept_are_settled() -> None:
    """By a write of the winner's words, be it a link or an unlink; what it said is as it was."""
    for last in (versions.link, versions.unlink):
        desk = Desk()
        many = [versions.link({f"{n:016x}": 1}, observed_by="ai:first") for n in range(1, 33)]
        taken = desk.take(*many, last(stamp({BOB: 1}), seconds=1))
        assert [alarm.detail.split(" were")[0] for alarm in taken.alarms] == [f"33 versions of {ID} related_to {OTHER}"]
        settled = only(desk, LINK.key)
        assert settled.kind == ("l" if last is versions.link else "u")
        assert (agent_of(settled), signer_of(settled)) == ("agent:other", "node:desk")


def test_a_link_out_of_scope_is_refused_by_the_namespace_it_was_made_in() -> None:
    """As its memory would be."""
    taken = Desk().take(LINK, replace(UNLINK, namespace="b", tag=b""), scope=Globs(("b",)))
    assert [(one.id, one.kind, one.reason) for one in taken.refused] == [(LINK.shown, "l", "scope")]
    assert taken.links == 1


def test_a_link_from_the_future_waits_until_it_is_due() -> None:
    """And is taken then."""
    desk = Desk()
    late = versions.link(stamp({ALICE: 1}), seconds=1_000)
    assert [one.reason for one in desk.take(late).refused] == ["clock_skew"]
    desk.now += 900 * SECOND
    assert desk.do(desk.engine.due, lambda peer: Policy(Globs.everything(), ANYBODY)).applied == 1
    assert only(desk, late.key) == late


def test_unlink_versions_are_deterministic_too() -> None:
    """The same arguments, the same tag."""
    one, two = (unlink_version("a", ID, OTHER, "related_to", AT, Unsigned("x"), stamp({ALICE: 1})) for _ in range(2))
    assert one == two
