"""What a row of the older daemon is: a version, an echo, or an edit; and what becomes of a delete that it tells."""

from dataclasses import replace
from typing import Any

import msgspec
import pytest
import versions
from keys import agent_of, pair
from stamps import over, stamp
from versions import ALICE, BOB, CAROL, NOW, SECOND

from sync import ed25519, moment
from sync.attest import Said, Unsigned, is_genuine
from sync.canonical import content_digest
from sync.dot import seen_until
from sync.legacy.judge import NOBODY, Echo, brought_back, judge, left, removed
from sync.legacy.past import Past, written
from sync.legacy.row import Row, read_row
from sync.memory import MAX_METADATA_BYTES
from sync.merge import supersedes
from sync.record import Refused, load, memory_version, read, tombstone_version
from sync.version import Version

KEY = ("a", versions.ID)
AT = moment.text(NOW)
LATER = moment.text(NOW + 9 * SECOND)


def row(version: Version | None = None, **changes: Any) -> Row:
    """A row that the daemon made of a version of ours (or of its own), with these members changed."""
    base = msgspec.to_builtins(load(version.doc) if version is not None else versions.memory())
    found = read_row(msgspec.json.encode(base | changes))
    assert isinstance(found, Row), found
    return found


def judged(found: Row, *kept: Version) -> Version:
    version = judge(found, KEY, kept)
    assert isinstance(version, Version), version
    again = read(version.doc, "m")
    assert isinstance(again, Version), again
    assert again.tag == version.tag, "every native peer reads the same version from its document"
    return version


def test_an_unaltered_row_is_the_version_that_it_was() -> None:
    """Case 1: content and time are those of the attestation, so it is that version, from wherever it came."""
    ours = versions.version(stamp({ALICE: 3}))
    assert judged(row(ours)).tag == ours.tag
    assert judged(row(ours, id="its own id", access_count=7, last_accessed_at=AT), ours).tag == ours.tag


def test_a_signed_version_comes_back_signed() -> None:
    """Case 1, through a daemon that knows nothing of signatures: it verifies behind it."""
    ours = memory_version(versions.memory(), pair("ai:writer"), stamp({ALICE: 3}))
    back = judged(row(ours, id="its own id", access_count=7))
    assert back.tag == ours.tag
    assert is_genuine(back)


@pytest.mark.parametrize("is_verified", [True, False], ids=["verified", "control"])
def test_a_signature_that_is_not_over_the_attestation_proves_nothing(
    is_verified: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Case 4: then it is what that daemon says, unsigned, and has seen nothing. (Control: it would have seen that.)"""
    if not is_verified:
        monkeypatch.setattr(ed25519, "verifies", lambda key, text, signature: True)
    ours = memory_version(versions.memory(), pair("ai:writer"), stamp({ALICE: 3}))
    metadata = msgspec.to_builtins(load(ours.doc))["metadata"]
    metadata["attestation"]["dot"] = [ALICE, 9_000 << 20]
    found = judge(row(ours, metadata=metadata), KEY, [])
    assert isinstance(found, Version)
    assert found.dot.is_legacy is is_verified
    assert found.context.entries == (((seen_until(NOW)),) if is_verified else ours.context.entries)
    assert (found.signature == b"") is is_verified


@pytest.mark.parametrize(
    "altered",
    [{"tier": "long", "priority": 9}, {"priority": 9}, {"expires_at": LATER}, {"created_at": LATER}],
    ids=["tier", "priority", "expiry", "creation"],
)
def test_a_row_that_it_altered_is_no_edit(altered: dict[str, Any]) -> None:
    """Case 2: an echo where the version is covered; else that version, as far as it is still there, unsigned."""
    ours = memory_version(versions.memory(tier="mid"), pair("agent:other"), stamp({ALICE: 3}))
    later = versions.version(stamp({ALICE: 4}), seconds=5, content="new")
    assert judge(row(ours, **altered), KEY, [ours]) == Echo(ours)
    assert judge(row(ours, **altered), KEY, [later]) == Echo(later)
    alone = judged(row(ours, **altered))
    assert (alone.dot.is_legacy, alone.at, alone.signature) == (True, ours.at, b"")
    assert supersedes(ours, alone), "wherever the version itself comes, the copy gives way"


def test_a_row_is_the_echo_of_the_version_that_its_attestation_names() -> None:
    """Not of another one that says the same in what travels together, be it the newer one or the winner."""
    ours = versions.version(stamp({ALICE: 3}))
    twin = versions.version(stamp({BOB: 9}), seconds=5, priority=7)
    assert judge(row(ours, tier="mid"), KEY, [twin, ours]) == Echo(ours)
    assert judge(row(ours, tier="mid", metadata={}), KEY, [twin, ours]) == Echo(twin), "control: it names none"


def test_another_text_under_the_same_time_and_attestation_is_an_edit() -> None:
    """It has the attestation of a version that says something else: nobody has seen what it says."""
    ours = versions.version(stamp({ALICE: 3}))
    found = judged(row(ours, content="forged"), ours)
    assert found.context.entries == (seen_until(NOW),)


@pytest.mark.parametrize("metadata", [{}, {"attestation": {"v": 1}}, {"attestation": "x"}, {"attestation": None}])
def test_a_row_without_our_word_that_says_what_we_keep_is_an_echo(metadata: dict[str, Any]) -> None:
    """Case 3: the four fields that travel together are the same, and it is not newer."""
    ours = versions.version(stamp({ALICE: 3}))
    assert judge(row(ours, metadata=metadata, tier="mid"), KEY, [ours]) == Echo(ours)
    newer = row(ours, metadata=metadata, updated_at=LATER, tier="mid")
    assert judged(newer, ours).context.entries == (seen_until(NOW + 9 * SECOND),)
    other = row(ours, metadata=metadata, content="other")
    assert judged(other, ours).context.entries == (seen_until(NOW),)


def test_an_edit_there_has_seen_what_it_edits() -> None:
    """Case 4: a newer row with our attestation still in it supersedes that version, and no concurrent one."""
    ours, concurrent = versions.version(stamp({ALICE: 3})), versions.version(stamp({BOB: 1}), seconds=3)
    found = judged(row(ours, content="edited", updated_at=LATER), ours, concurrent)
    assert set(found.context) == {ours.dot, seen_until(NOW + 9 * SECOND)}
    assert (found.depth, supersedes(found, ours), supersedes(found, concurrent)) == (ours.depth + 1, True, False)
    assert (found.at, agent_of(found)) == (LATER, "agent:other")


@pytest.mark.parametrize("is_bound", [True, False], ids=["bound", "control"])
def test_a_row_under_another_key_brings_no_counter_along(is_bound: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Moved, and in another row: edited or not. (Control: it would, were the key no part of what is signed.)"""
    if not is_bound:
        true = Said.undotted.fget  # type: ignore[attr-defined]  # a property of a class
        monkeypatch.setattr(Said, "undotted", property(lambda said: true(replace(said, namespace="", id=""))))
    ours = memory_version(versions.memory(), pair("ai:writer"), stamp({ALICE: 1}))
    for key in (("b", versions.ID), ("a", "another"), ("b", "another")):
        for changes in ({"updated_at": LATER}, {"updated_at": LATER, "content": "edited"}, {"tier": "mid"}, {}):
            found = judge(row(ours, namespace=key[0], **changes), key, [])
            assert isinstance(found, Version)
            if changes or key[0] == "b":  # in another row of the namespace it says all that was signed but for the id
                assert found.context.names(ours.dot) is not is_bound, (key, changes)


def test_a_row_that_moved_has_seen_what_the_daemon_had_under_its_new_key() -> None:
    """Such as the tombstone of a memory that was moved away from there before. Control: told nothing, it has not."""
    stone = tombstone_version(*KEY, AT, Unsigned("x"), stamp({ALICE: 1}))
    there = memory_version(versions.memory(namespace="b"), pair("ai:writer"), stamp({ALICE: 5}))
    back = row(there, namespace="a", updated_at=LATER)
    found = judge(back, KEY, [stone], Past.of(stone))
    assert isinstance(found, Version)
    assert set(found.context) == {stone.dot, seen_until(NOW + 9 * SECOND)}
    alone = judge(back, KEY, [stone])
    assert isinstance(alone, Version)
    assert alone.context.entries == (seen_until(NOW + 9 * SECOND),)


def test_what_nobody_signed_brings_along_what_is_kept_of_its_key_alone() -> None:
    """Nothing but a signature says for which key a counter was made. What daemons wrote has none."""
    ours = versions.version(stamp({ALICE: 1}))
    edit = row(ours, content="edited", updated_at=LATER)
    assert set(judged(edit, ours).context) == {ours.dot, seen_until(NOW + 9 * SECOND)}
    assert judged(edit).context.entries == (seen_until(NOW + 9 * SECOND),)
    assert judged(row(ours, tier="mid")).context.entries == (seen_until(NOW),)


def test_an_edit_within_the_microsecond_is_seen_by_its_text() -> None:
    """Its clock has nine digits, ours six: the text tells them apart, and its author still has seen ours."""
    ours = versions.version(stamp({ALICE: 3}))
    found = judged(row(ours, content="edited", updated_at=AT.replace("+", "789+")), ours)
    assert set(found.context) == {ours.dot, seen_until(NOW)}
    assert supersedes(found, ours)


def test_a_row_that_is_older_than_its_attestation_has_seen_nothing() -> None:
    """Its rules never make one; whoever does claims no knowledge by it."""
    ours = versions.version(stamp({ALICE: 3}), seconds=9)
    assert judged(row(ours, updated_at=AT, content="older"), ours).context.entries == (seen_until(NOW),)


def test_two_nodes_make_one_version_of_a_row() -> None:
    """Whatever they keep, and whatever its id is: what they tell each other of it is the same write."""
    found = row(updated_at="2027-01-15T09:00:00.123456789+01:00", metadata={"agent_id": "ai:x", "k": 1.5})
    one, other = judged(found), judged(found, versions.version(stamp({ALICE: 1}), content="else"))
    assert one.tag == other.tag
    assert (one.at, agent_of(one)) == ("2027-01-15T08:00:00.123456+00:00", "ai:x")
    assert agent_of(judged(row(metadata={}))) == NOBODY


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"content": "a\rb"}, "content: control character U+000D"),
        ({"source": "elsewhere"}, "source: 'elsewhere', one of"),
        ({"updated_at": "yesterday"}, "updated_at: 'yesterday', an RFC 3339 time expected"),
        ({"metadata": {"k": "x" * MAX_METADATA_BYTES}}, "metadata: "),
        ({"priority": 5.5}, "not a record"),
        ({"tier": "eternal"}, "not a record"),
    ],
)
def test_a_row_outside_the_limits_is_refused_by_name(changes: dict[str, Any], said: str) -> None:
    """Alone, with its id, and in words."""
    found = read_row(msgspec.json.encode(msgspec.to_builtins(versions.memory()) | changes))
    assert isinstance(found, Refused)
    assert (found.id, said in found.detail) == (versions.ID, True)


def test_a_time_beyond_every_counter_is_refused() -> None:
    """In the year 9999 a clock's counter would be over its limit; it is refused, not cut."""
    found = judge(row(updated_at="9999-12-31T23:59:59Z"), KEY, [])
    assert isinstance(found, Refused)
    assert found.reason == "limits"


def test_a_delete_that_it_tells_has_seen_what_was_exchanged() -> None:
    """It supersedes that, and leaves a conflict of what it cannot have seen."""
    ours, newer = versions.version(stamp({ALICE: 3})), versions.version(stamp({ALICE: 4}), seconds=1)
    stone = removed(KEY, Past.of(ours), NOW + 5 * SECOND)
    assert (stone.kind, stone.at, stone.key) == ("t", moment.text(NOW + 5 * SECOND), KEY)
    assert supersedes(stone, ours)
    assert not supersedes(stone, newer)


def test_a_move_there_leaves_a_tombstone_of_the_same_time() -> None:
    """Two nodes that read the moved row make one tombstone of it."""
    ours = versions.version(stamp({ALICE: 3}))
    moved = row(ours, namespace="b", updated_at=LATER)
    stone = left(KEY, Past.of(ours), moved)
    assert stone.tag == left(KEY, Past.of(ours), replace(moved, digest=b"")).tag
    assert set(stone.context) == {*ours.context, ours.dot, seen_until(NOW + 9 * SECOND)} - set(ours.context)


def test_a_row_that_moved_brings_nothing_of_what_it_was_under_its_old_key() -> None:
    """Its attestation names another namespace: what is signed does not hold there, and what is not is not believed."""
    ours = memory_version(versions.memory(), pair("ai:writer"), stamp({ALICE: 3}))
    for before in (ours, versions.version(stamp({ALICE: 3}))):
        found = judge(row(before, namespace="b", updated_at=LATER), ("b", versions.ID), [])
        assert isinstance(found, Version)
        assert (found.namespace, found.context.entries) == ("b", (seen_until(NOW + 9 * SECOND),))


def test_who_first_wrote_a_memory_stays_whoever_edits_it_there() -> None:
    """The daemon puts whoever wrote its row last in that place; here it is no part of the edit."""
    ours = versions.version(stamp({ALICE: 3}), metadata={"agent_id": "ai:first"})
    metadata = msgspec.to_builtins(load(ours.doc))["metadata"] | {"agent_id": "ai:last"}
    edited = judged(row(ours, content="edited", updated_at=LATER, metadata=metadata), ours)
    assert load(edited.doc).metadata["agent_id"] == "ai:first"
    assert agent_of(edited) == "ai:last"
    same = judge(row(ours, metadata=metadata), KEY, [ours])
    assert same == Echo(ours)


def test_what_is_brought_back_has_seen_its_tombstone() -> None:
    """A restore there is a write of now, over all that is kept."""
    ours = versions.version(stamp({ALICE: 3}))
    stone = removed(KEY, Past.of(ours), NOW + SECOND)
    back = brought_back(KEY, load(ours.doc), [stone], NOW + 2 * SECOND)
    assert supersedes(back, stone)
    assert back.at == moment.text(NOW + 2 * SECOND)
    assert content_digest(load(back.doc)) == content_digest(load(ours.doc))


def test_a_row_beside_a_kept_delete_is_judged_as_any_other() -> None:
    """A tombstone says nothing that a row could be an echo of."""
    ours = versions.version(stamp({ALICE: 3}))
    for stone in (versions.stone({BOB: 1}, seconds=20), versions.stone(over(ours, actor=BOB), seconds=20)):
        assert judged(row(), stone).context.entries == (seen_until(NOW),)
        edited = judged(row(ours, content="edited", updated_at=LATER), stone)
        assert (edited.at, load(edited.doc).content) == (LATER, "edited")


def test_who_first_wrote_a_memory_is_known_from_what_has_seen_it() -> None:
    """The daemon overwrites that with whoever wrote its row last; no other version of the key is asked."""
    ours = versions.version(stamp({ALICE: 3}), metadata={"agent_id": "ai:ann"})
    edited = versions.version(over(ours, actor=BOB), metadata={"agent_id": "ai:ann"}, content="later", seconds=1)
    other = versions.version(stamp({CAROL: 1}), metadata={"agent_id": "ai:ben"})
    metadata = msgspec.to_builtins(load(ours.doc))["metadata"] | {"agent_id": "ai:last"}
    theirs = row(ours, content="edited", updated_at=LATER, metadata=metadata)
    for kept in ((other, ours), (other, edited)):
        found = judged(theirs, *kept)
        assert (found.at, load(found.doc).content) == (LATER, "edited"), "it is an edit, and no echo of one"
        assert load(found.doc).metadata["agent_id"] == "ai:ann"


def test_what_was_written_over_daemons_rows_alone_is_ordered_by_time_alone() -> None:
    """Depth and dots say nothing then."""
    before = judged(row())
    after = written([Past.of(before)], NOW + 9 * SECOND)
    assert (after.context.entries, after.depth) == ((seen_until(NOW + 9 * SECOND),), 1)
