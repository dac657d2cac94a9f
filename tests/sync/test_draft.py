"""What a client asks for: defaults, expiry and metadata of new and edited memories; refusals name the field."""

from typing import Any

import pytest
import versions
from versions import NOW, SECOND

from sync import moment
from sync.draft import MAX_TTL_SECS, Fields, edited, new_memory, says_the_same
from sync.errors import RemoteError
from sync.memory import Memory

HOUR, DAY = 3_600 * SECOND, 86_400 * SECOND


def made(**fields: Any) -> Memory:
    return new_memory(Fields(**{"title": "x", "content": "text", **fields}), "an id", NOW)


def test_a_title_and_a_content_make_a_memory() -> None:
    """All else has the existing daemon's defaults."""
    one = made()
    assert (one.id, one.namespace, one.tier, one.tags) == ("an id", "global", "long", [])
    assert (one.priority, one.confidence, one.source, one.metadata) == (5, 1.0, "api", {})
    assert one.created_at == one.updated_at == moment.text(NOW)


def test_null_is_the_same_as_left_out() -> None:
    """A client may send every key."""
    names = ("namespace", "tier", "tags", "priority", "confidence", "source", "metadata", "scope", "ttl_secs")
    assert made(**dict.fromkeys(names)) == made()


EXPIRY = {
    "short": ({"tier": "short"}, 6 * HOUR),
    "mid": ({"tier": "mid"}, 7 * DAY),
    "long": ({"tier": "long"}, None),
    "in a second": ({"ttl_secs": 1}, SECOND),
    "long, with a time to live": ({"tier": "long", "ttl_secs": 60}, 60 * SECOND),
    "never": ({"expires_at": None}, None),
    "in another offset": ({"expires_at": "2027-01-15T10:00:00+01:00"}, HOUR),
    "a time before a time to live": ({"expires_at": "2027-01-15T09:00:00Z", "ttl_secs": 1}, HOUR),
    "in the past": ({"expires_at": "2027-01-15T07:00:00Z"}, -HOUR),
    "in a hundred years": ({"ttl_secs": MAX_TTL_SECS}, MAX_TTL_SECS * SECOND),
}


@pytest.mark.parametrize("case", EXPIRY)
def test_a_memory_expires_by_its_tier_or_as_it_is_told(case: str) -> None:
    """A time wins over a time to live, and both over the tier's."""
    fields, ahead = EXPIRY[case]
    assert made(**fields).expires_at == (None if ahead is None else moment.text(NOW + ahead))


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no title": ({"title": Fields().title}, "title: missing, some text expected"),
    "no content": ({"content": Fields().content}, "content: missing, some text expected"),
    "an empty title": ({"title": ""}, "title: empty, some text expected"),
    "an unknown tier": ({"tier": "eternal"}, "tier: 'eternal', one of short, mid, long expected"),
    "an expiry that is no time": ({"expires_at": "soon"}, "expires_at: 'soon', an RFC 3339 time expected"),
    "no time to live": ({"ttl_secs": 0}, f"ttl_secs: 0, 1 to {MAX_TTL_SECS} expected"),
    "a time to live backwards": ({"ttl_secs": -1}, f"ttl_secs: -1, 1 to {MAX_TTL_SECS} expected"),
    "too long a life": ({"ttl_secs": MAX_TTL_SECS + 1}, f"1 to {MAX_TTL_SECS} expected"),
    "a priority over its limit": ({"priority": 11}, "priority: 11, 1 to 10 expected"),
    "a namespace of another form": ({"namespace": "a//b"}, "namespace: segment ''"),
    "tags over their limit": ({"tags": ["t"] * 51}, "tags: 51 found, at most 50"),
    "metadata too deep": ({"metadata": {"a": [[[]]] * 9, "n": 2**53 + 1}}, "metadata: integer"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_field_that_is_wrong_is_named(case: str) -> None:
    """The limits are those of a peer's records, for a new memory and for an edit."""
    fields, sentence = REFUSED[case]
    with pytest.raises(RemoteError) as caught:
        made(**fields)
    assert caught.value.code == "invalid"
    assert sentence in str(caught.value)
    if "missing" not in sentence:
        with pytest.raises(RemoteError) as caught:
            edited(versions.memory(), Fields(**fields), NOW)
        assert sentence in str(caught.value)


# --- edits


def test_an_edit_changes_what_it_names_and_nothing_else() -> None:
    """Id, creation time and everything left out stay."""
    before = versions.memory(tags=["t"], metadata={"k": 1}, created_at="2020-01-01T00:00:00.000000+00:00")
    after = edited(before, Fields(content="other", priority=7), NOW)
    assert (after.content, after.priority) == ("other", 7)
    assert edited(after, Fields(content=before.content, priority=before.priority), NOW) == before


@pytest.mark.parametrize(
    ("fields", "ahead"),
    [
        ({"content": "other"}, DAY),
        ({"tier": "mid"}, DAY),
        ({"tier": "short"}, 6 * HOUR),
        ({"tier": "long"}, None),
        ({"expires_at": None}, None),
        ({"ttl_secs": 60}, 60 * SECOND),
        ({"tier": "long", "ttl_secs": 60}, 60 * SECOND),
    ],
    ids=["untouched", "same tier", "shorter", "for ever", "no expiry", "a time to live", "both"],
)
def test_an_edit_moves_the_expiry_only_where_it_speaks_of_it(fields: dict[str, Any], ahead: int | None) -> None:
    """Naming the tier that it has leaves the expiry alone; another tier brings that tier's."""
    before = versions.memory(tier="mid", expires_at=moment.text(NOW + DAY))
    assert edited(before, Fields(**fields), NOW).expires_at == (None if ahead is None else moment.text(NOW + ahead))


def test_what_is_stored_again_keeps_its_tier_unless_it_had_expired() -> None:
    """Whoever stores under the title of a memory that is over sees none, and gets what a new one would get."""
    for left, tier, expires in ((1, "mid", moment.text(NOW + 7 * DAY)), (0, "long", None), (-DAY, "long", None)):
        before = versions.memory(tier="mid", expires_at=moment.text(NOW + left))
        again = edited(before, Fields(content="other"), NOW, renewed=True)
        assert (again.tier, again.expires_at) == (tier, expires)
    assert edited(before, Fields(content="other"), NOW).tier == "mid"  # an update is of what is there
    assert edited(before, Fields(tier="short"), NOW, renewed=True).tier == "short"


def test_the_first_writer_stays_whatever_a_client_sends() -> None:
    """`agent_id` and `attestation` are ours to define: in a client's metadata they are passed over."""
    before = versions.memory(metadata={"agent_id": "first", "attestation": {"v": 1}, "old": 1})
    sent = {"agent_id": "second", "attestation": "forged", "new": 2}
    assert edited(before, Fields(metadata=sent), NOW).metadata == {"agent_id": "first", "new": 2}
    assert made(metadata=sent).metadata == {"new": 2}
    assert edited(before, Fields(), NOW).metadata == {"agent_id": "first", "old": 1}


def test_a_scope_is_kept_in_the_metadata() -> None:
    """Beside what is there, or in place of an older one."""
    assert made(scope="team", metadata={"k": 1}).metadata == {"k": 1, "scope": "team"}
    assert edited(versions.memory(metadata={"scope": "team"}), Fields(scope="unit"), NOW).metadata == {"scope": "unit"}


def test_saying_the_same_is_about_content_and_not_about_time_or_bookkeeping() -> None:
    """Times, access counts and our own keys make no difference; anything that is signed does."""
    plain = versions.memory()
    assert says_the_same(plain, versions.memory(updated_at="2027-01-15T09:00:00.000000+00:00", access_count=7))
    assert says_the_same(plain, versions.memory(expires_at=None, metadata={"agent_id": "x", "attestation": {}}))
    for fields in ({"content": "y"}, {"tags": ["t"]}, {"metadata": {"k": 1}}, {"tier": "mid"}, {"priority": 6}):
        assert not says_the_same(plain, versions.memory(**fields))


def test_what_lives_for_ever_does_so_when_it_is_stored_again() -> None:
    """Whatever its tier: somebody said so."""
    before = versions.memory(tier="mid")
    again = edited(before, Fields(content="other"), NOW, renewed=True)
    assert (again.tier, again.expires_at) == ("mid", before.expires_at)
