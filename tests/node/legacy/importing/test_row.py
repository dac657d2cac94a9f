"""From a row to a version: the same everywhere, its times kept, what it may not be listed with the reason."""

from typing import Any

import msgspec
import pytest
from keys import pair
from rust_files import row as fields
from stamps import stamp

from node.legacy.importing import row
from node.legacy.importing.source import NotTaken
from sync import moment
from sync.attest import Unsigned
from sync.dot import seen_until
from sync.ids import memory_id
from sync.legacy.judge import NOBODY
from sync.merge import supersedes
from sync.record import load, memory_version, read
from sync.version import Version

NOW = moment.microseconds("2026-11-25T12:00:00.000000+00:00")
AT = "2026-05-02T12:00:00.500000+00:00"


def made(**changes: Any) -> Version:
    found = row.version(fields(**changes), NOW)
    assert isinstance(found, Version), found
    return found


def refused(**changes: Any) -> NotTaken:
    found = row.version(fields(**changes), NOW)
    assert isinstance(found, NotTaken), found
    return found


def test_all_that_a_memory_says_is_kept() -> None:
    """Every field, the times to the microsecond, and the first writer; how often it was read is not."""
    version = made(priority=9, confidence=0.25, source="hook", tier="mid", expires_at="2027-01-01T00:00:00+02:00")
    memory = load(version.doc)
    assert memory.metadata.pop("attestation")["agent"] == "ai:them"
    assert msgspec.to_builtins(memory) == fields() | {
        "id": memory_id("moved", "title 1", 0), "priority": 9, "confidence": 0.25, "source": "hook", "tier": "mid",
        "access_count": 0, "created_at": "2026-05-01T12:00:00.123456+00:00", "updated_at": AT,
        "expires_at": "2026-12-31T22:00:00.000000+00:00",
    }  # fmt: skip


def test_its_time_is_all_that_it_knows() -> None:
    """As for a row that comes from that daemon over the wire."""
    assert made().context.entries == (seen_until(moment.microseconds(AT)),)


def test_a_peer_reads_the_same_version() -> None:
    """The document passes the check of whatever comes from a peer, and has the same tag."""
    version = made()
    assert read(version.doc, "m") == version


@pytest.mark.parametrize(
    "changes",
    [
        {"id": "ffffffff-0000-4000-8000-000000000000"},
        {"id": "not a uuid"},
        {"access_count": 77, "last_accessed_at": "2026-06-01T00:00:00Z"},
        {"updated_at": "2026-05-02T14:00:00.5000004+02:00"},
        {"embedding": None, "memory_kind": "observation"},
    ],
    ids=["another id", "an id that is no UUID", "read more often", "the time in other words", "more columns"],
)
def test_what_differs_between_two_copies_of_a_memory_makes_no_difference(changes: dict[str, Any]) -> None:
    """Two daemons have two ids for one title; reading counts; a time has several texts: one version all the same."""
    assert made(**changes).tag == made().tag


@pytest.mark.parametrize(
    "changes",
    [{"content": "x"}, {"title": "x"}, {"namespace": "x"}, {"priority": 6}, {"updated_at": "2026-05-02T12:00:00Z"}],
    ids=lambda changes: next(iter(changes)),
)
def test_what_it_says_makes_a_difference(changes: dict[str, Any]) -> None:
    """Control: the tag is that of the content, the key and the time."""
    assert made(**changes).tag != made().tag


def test_an_id_that_a_node_like_this_one_computed_stays() -> None:
    """A memory that was renamed before that daemon got it keeps the id that it has on its own node."""
    computed = memory_id("moved", "an earlier title", 0)
    assert made(id=computed).id == computed


def test_a_version_of_a_node_like_this_one_is_taken_as_it_is() -> None:
    """Carried through by that daemon unaltered, it has its own clock; it is no edit of that daemon's."""
    native = memory_version(load(made().doc), Unsigned("agent:native"), stamp({"ab" * 8: 7}))
    document = msgspec.json.decode(native.doc)
    assert made(**document) == native


@pytest.mark.parametrize(
    ("changes", "is_edit"),
    [({"priority": 9}, False), ({"updated_at": "2026-06-01T00:00:00Z", "content": "x"}, True)],
    ids=["priority", "content and time"],
)
def test_an_altered_one_is_what_it_is_over_the_wire(changes: dict[str, Any], *, is_edit: bool) -> None:
    """With its old time nobody has edited it; with a newer one somebody has, who had seen it."""
    native = memory_version(load(made().doc), pair("agent:native"), stamp({"ab" * 8: 1}))
    version = made(**{**msgspec.json.decode(native.doc), **changes})
    edit = {seen_until(moment.microseconds(version.at))} if is_edit else set()
    assert set(version.context) == {native.dot} | edit
    assert supersedes(version, native) is is_edit
    assert supersedes(native, version) is not is_edit


def deep(levels: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(levels):
        value = {"a": value}
    return value


@pytest.mark.parametrize("name", ["attestation", "other"])
@pytest.mark.parametrize("levels", [40, 300, 2_000])
def test_nothing_is_nested_too_deeply_to_be_judged(name: str, levels: int) -> None:
    """What is our own key and no attestation is left out; anything else is refused, and neither stops the import."""
    found = row.version(fields(metadata={name: deep(levels)}), NOW)
    if name == "other" or levels == 2_000:
        assert isinstance(found, NotTaken)
    else:
        assert isinstance(found, Version)


def test_a_memory_without_a_writer_gets_a_name_for_it() -> None:
    """The same one everywhere."""
    memory = load(made(metadata={}).doc)
    assert memory.metadata["agent_id"] == memory.metadata["attestation"]["agent"] == NOBODY


NOT_TAKEN = {
    "expired": ({"expires_at": "2026-11-25T12:00:00Z"}, "expired", "expired at 2026-11-25T12:00:00"),
    "from the future": ({"updated_at": "2026-11-25T12:05:00.000001+00:00"}, "clock_skew", "in the future"),
    "from year 9999": ({"updated_at": "9999-12-31T23:59:59+00:00"}, "clock_skew", "in the future"),
    "before 1970": ({"updated_at": "1969-12-31T23:59:59+00:00"}, "limits", "updated_at"),
    "no time": ({"updated_at": "yesterday"}, "limits", "updated_at: 'yesterday', an RFC 3339 time"),
    "no time of creation": ({"created_at": ""}, "limits", "created_at"),
    "no time of expiry": ({"expires_at": "never"}, "limits", "expires_at"),
    "a long title": ({"title": "x" * 513}, "limits", "title: 513 characters, at most 512"),
    "a carriage return": ({"content": "a\rb"}, "limits", "content: control character U+000D"),
    "a source of its own": ({"source": "rumour"}, "limits", "source"),
    "a strange agent": ({"metadata": {"agent_id": "a b"}}, "limits", "agent_id"),
    "an unknown tier": ({"tier": "archived"}, "malformed", "tier"),
    "no content": ({"content": None}, "malformed", "content"),
    "text for a number": ({"priority": "high"}, "malformed", "priority"),
    "a number for a title": ({"title": 5}, "malformed", "title"),
}


@pytest.mark.parametrize(("changes", "reason", "detail"), NOT_TAKEN.values(), ids=NOT_TAKEN)
def test_what_is_not_taken_says_why(changes: dict[str, Any], reason: str, detail: str) -> None:
    """With the id and the place that it has in the file, so that one finds it there."""
    one = refused(**changes)
    assert (one.kind, one.reason, one.id) == ("memory", reason, fields()["id"])
    assert detail in one.detail
    assert one.is_loss
    assert len(one.title) <= 200


def test_at_the_bounds_it_is_taken() -> None:
    """Control: 300 s ahead, the first microsecond of 1970, an expiry just ahead."""
    made(updated_at="2026-11-25T12:05:00+00:00")
    made(updated_at="1970-01-01T00:00:00.000001+00:00")
    made(expires_at="2026-11-25T12:00:00.000001Z")
