"""What a row of the older daemon is: a version, an echo, or an edit; and what becomes of a delete that it tells."""

from dataclasses import replace
from typing import Any

import msgspec
import pytest
import versions
from keys import agent_of, pair
from versions import ALICE, BOB, NOW, SECOND

from sync import ed25519, moment
from sync.attest import is_genuine
from sync.canonical import content_digest
from sync.clock import covers, dominates
from sync.legacy.judge import ACTOR, NOBODY, Echo, brought_back, judge, left, removed
from sync.legacy.row import Row, read_row
from sync.memory import MAX_METADATA_BYTES
from sync.record import Refused, load, memory_version, read
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
    ours = versions.version({ALICE: 3})
    assert judged(row(ours)).tag == ours.tag
    assert judged(row(ours, id="its own id", access_count=7, last_accessed_at=AT), ours).tag == ours.tag


def test_a_signed_version_comes_back_signed() -> None:
    """Case 1, through a daemon that knows nothing of signatures: it verifies behind it."""
    ours = memory_version(versions.memory(), pair("ai:writer"), {ALICE: 3})
    back = judged(row(ours, id="its own id", access_count=7))
    assert back.tag == ours.tag
    assert is_genuine(back)


@pytest.mark.parametrize("is_verified", [True, False], ids=["verified", "control"])
def test_a_signature_that_is_not_over_the_attestation_proves_nothing(
    is_verified: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Case 4: then it is what that daemon says, unsigned, and has seen nothing. (Control: it would have our clock.)"""
    if not is_verified:
        monkeypatch.setattr(ed25519, "verifies", lambda key, text, signature: True)
    ours = memory_version(versions.memory(), pair("ai:writer"), {ALICE: 3})
    metadata = msgspec.to_builtins(load(ours.doc))["metadata"]
    metadata["attestation"]["clock"] = {ALICE: 9}
    found = judge(row(ours, metadata=metadata), KEY, [])
    assert isinstance(found, Version)
    assert found.clock == ({ACTOR: NOW} if is_verified else {ALICE: 9})
    assert (found.signature == b"") is is_verified


@pytest.mark.parametrize(
    "altered",
    [{"tier": "long", "priority": 9}, {"priority": 9}, {"expires_at": LATER}, {"created_at": LATER}],
    ids=["tier", "priority", "expiry", "creation"],
)
def test_a_row_that_it_altered_is_no_edit(altered: dict[str, Any]) -> None:
    """Case 2: an echo where the version is covered; else that version, as far as it is still there, unsigned."""
    ours = versions.version({ALICE: 3}, tier="mid")
    later = versions.version({ALICE: 4}, seconds=5, content="new")
    assert judge(row(ours, **altered), KEY, [ours]) == Echo(ours)
    assert judge(row(ours, **altered), KEY, [later]) == Echo(later)
    alone = judged(row(ours, **altered))
    assert (alone.clock, alone.at, alone.signature) == (ours.clock, ours.at, b"")
    assert alone.tag != ours.tag


def test_another_text_under_the_same_time_and_attestation_is_an_edit() -> None:
    """It holds the clock of a version that says something else: nobody has seen what it says."""
    ours = versions.version({ALICE: 3})
    found = judged(row(ours, content="forged"), ours)
    assert found.clock == {ACTOR: NOW}


@pytest.mark.parametrize("metadata", [{}, {"attestation": {"v": 1}}, {"attestation": "x"}, {"attestation": None}])
def test_a_row_without_our_word_that_says_what_we_keep_is_an_echo(metadata: dict[str, Any]) -> None:
    """Case 3: the four fields that travel together are the same, and it is not newer."""
    ours = versions.version({ALICE: 3})
    assert judge(row(ours, metadata=metadata, tier="mid"), KEY, [ours]) == Echo(ours)
    newer = row(ours, metadata=metadata, updated_at=LATER, tier="mid")
    assert judged(newer, ours).clock == {ACTOR: NOW + 9 * SECOND}
    other = row(ours, metadata=metadata, content="other")
    assert judged(other, ours).clock == {ACTOR: NOW}


def test_an_edit_there_has_seen_what_it_edits() -> None:
    """Case 4: a newer row with our attestation still in it supersedes that version, and no concurrent one."""
    ours, concurrent = versions.version({ALICE: 3}), versions.version({BOB: 1}, seconds=3)
    found = judged(row(ours, content="edited", updated_at=LATER), ours, concurrent)
    assert found.clock == {ALICE: 3, ACTOR: NOW + 9 * SECOND}
    assert dominates(found.clock, ours.clock)
    assert not covers(found.clock, concurrent.clock)
    assert (found.at, agent_of(found)) == (LATER, "agent:other")


def test_an_edit_within_the_microsecond_is_seen_by_its_text() -> None:
    """Its clock has nine digits, ours six: the text tells them apart, and the clock still has seen ours."""
    ours = versions.version({ALICE: 3})
    found = judged(row(ours, content="edited", updated_at=AT.replace("+", "789+")), ours)
    assert found.clock == {ALICE: 3, ACTOR: NOW}


def test_a_row_that_is_older_than_its_attestation_has_seen_nothing() -> None:
    """Its rules never make one; whoever does claims no knowledge by it."""
    ours = versions.version({ALICE: 3}, seconds=9)
    assert judged(row(ours, updated_at=AT, content="older"), ours).clock == {ACTOR: NOW}


def test_two_nodes_make_one_version_of_a_row() -> None:
    """Whatever they keep, and whatever its id is: what they tell each other of it is the same write."""
    found = row(updated_at="2027-01-15T09:00:00.123456789+01:00", metadata={"agent_id": "ai:x", "k": 1.5})
    one, other = judged(found), judged(found, versions.version({ALICE: 1}, content="else"))
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
    ours, newer = versions.version({ALICE: 3}), versions.version({ALICE: 4}, seconds=1)
    stone = removed(KEY, ours.clock, NOW + 5 * SECOND)
    assert (stone.kind, stone.at, stone.key) == ("t", moment.text(NOW + 5 * SECOND), KEY)
    assert dominates(stone.clock, ours.clock)
    assert not covers(stone.clock, newer.clock)


def test_a_move_there_leaves_a_tombstone_of_the_same_time() -> None:
    """Two nodes that read the moved row make one tombstone of it."""
    moved = row(versions.version({ALICE: 3}), namespace="b", updated_at=LATER)
    assert left(KEY, {ALICE: 3}, moved).tag == left(KEY, {ALICE: 3}, replace(moved, digest=b"")).tag
    assert left(KEY, {ALICE: 3}, moved).clock == {ALICE: 3, ACTOR: NOW + 9 * SECOND}


def test_what_is_brought_back_has_seen_its_tombstone() -> None:
    """A restore there is a write of now, over all that is kept."""
    ours = versions.version({ALICE: 3})
    stone = removed(KEY, ours.clock, NOW + SECOND)
    back = brought_back(KEY, load(ours.doc), stone.clock, NOW + 2 * SECOND)
    assert dominates(back.clock, stone.clock)
    assert back.at == moment.text(NOW + 2 * SECOND)
    assert content_digest(load(back.doc)) == content_digest(load(ours.doc))
