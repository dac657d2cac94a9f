"""The messages: what one node writes another reads, and what is wrong is refused by name, as narrowly as can be."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import versions
from hypothesis import given, settings
from hypothesis import strategies as st
from versions import ALICE, BOB, ID, PEER, Desk

from sync import record, wire
from sync.counted import MAX_RECORD
from sync.errors import RemoteError
from sync.link import MAX_LINK_ID_BYTES
from sync.memory import MAX_NAMESPACE
from sync.receive import Offer, Taken
from sync.record import Refused
from sync.standing import Standing
from sync.version import Version

MEMORY, STONE = versions.version({ALICE: 1}), versions.stone({BOB: 1})
CURSOR = f"{ALICE}.1.2.00112233445566aa.0123abcd"


def push(**fields: Any) -> bytes:
    """The body of a push with these fields beside its `life`."""
    return json.dumps({"life": ALICE, "memories": [], **fields}).encode()


def since(**fields: Any) -> bytes:
    """An answer to since with these fields changed."""
    return json.dumps({"life": ALICE, "cursor": CURSOR, "more": False, **fields}).encode()


def answer(**fields: Any) -> bytes:
    """An answer to a push with these fields changed."""
    return json.dumps({"life": ALICE, "have": None, **fields}).encode()


def read_push(body: bytes) -> wire.Incoming:
    return wire.decode_push(body, PEER)


def read_since(body: bytes) -> wire.Incoming:
    return wire.decode_since(body, PEER, None, BOB)


READERS: dict[str, tuple[Callable[[bytes], object], Callable[..., bytes]]] = {
    "push": (read_push, push),
    "since": (read_since, since),
    "answer": (wire.decode_answer, answer),
}


def full_desk() -> Desk:
    """A feed with two memories, one tombstone, and a version that came from elsewhere."""
    desk = Desk()
    gone = desk.write("gone")
    for title in ("x", "größer 😀"):
        desk.write(title)
    desk.delete(gone.version.key)
    desk.take(MEMORY)
    return desk


def all_tags(desk: Desk) -> list[bytes]:
    return sorted(one.version.tag for kept in desk.store.everything().values() for one in kept)


# --- round trips


def test_a_push_carries_the_feed_and_where_it_belongs() -> None:
    """What was cut arrives: all versions, the cursors, both lives, and no more than that."""
    desk = full_desk()
    cut = desk.cut(made_for=BOB, limit=2)
    incoming = read_push(wire.encode_push("node:desk", cut))
    page = incoming.page
    assert (page.peer, page.life, page.after, page.to, page.made_for) == (PEER, desk.life, None, cut.to, BOB)
    assert (page.reset, page.offers, incoming.refused, incoming.sender) == (True, (), (), "node:desk")
    rest = read_push(wire.encode_push("node:desk", desk.cut(cut.to, BOB)))
    assert (rest.page.after, rest.page.reset) == (cut.to, False)
    assert sorted(one.tag for one in (*incoming.versions, *rest.versions)) == all_tags(desk)


def test_what_is_merely_relayed_is_offered_by_key_and_tag() -> None:
    """A push names the version that came from elsewhere; asked for, it sends it."""
    desk = full_desk()
    incoming = read_push(wire.encode_push("node:desk", desk.cut(offer=True)))
    assert incoming.page.offers == (Offer(MEMORY.key, MEMORY.tag),)
    assert MEMORY.tag not in {one.tag for one in incoming.versions}
    wanted = read_push(wire.encode_push("node:desk", desk.cut(offer=True, wanted=frozenset((MEMORY.tag,)))))
    assert wanted.page.offers == ()
    assert MEMORY.tag in {one.tag for one in wanted.versions}


def test_an_answer_to_since_carries_the_same_page() -> None:
    """Versions, cursor, whether there is more, and counts and times that a person can read."""
    desk = full_desk()
    cut = desk.cut(made_for=BOB, limit=2)
    body = wire.encode_since(cut, 2, ("duplicate_identity",))
    incoming = wire.decode_since(body, PEER, CURSOR, BOB)
    assert (len(incoming.versions), incoming.more, incoming.page.to) == (2, True, cut.to)
    assert (incoming.page.after, incoming.page.made_for, incoming.page.life) == (CURSOR, BOB, desk.life)
    assert incoming.alarms == ("duplicate_identity",)
    said = json.loads(body)
    assert said["protocol"]["name"] == "ai-memory-sync"
    assert (said["count"], said["limit"], said["earliest_updated_at"]) == (2, 2, "2027-01-15T08:00:00.000000+00:00")


def test_an_empty_answer_to_since_says_so() -> None:
    """With nothing new there are no times, and the cursor stands where it stood."""
    desk = full_desk()
    cursor = desk.cut().to
    body = wire.encode_since(desk.cut(cursor), 100)
    said = json.loads(body)
    assert (said["count"], said["memories"], said["earliest_updated_at"], said["more"]) == (0, [], None, False)
    assert (said["cursor"], said["reset"]) == (cursor, False)
    assert len(body) < 1024


def test_the_answer_to_a_push_comes_back_whole() -> None:
    """`have`, life, what is wanted and what was refused; the counters are those of the existing daemon."""
    refused = Refused(ID, "m", "limits", "title: 513 characters, at most 512")
    taken = Taken(6, 4, 2, 1, (Refused("", "t", "scope", "no"),), (), False, (MEMORY.tag,), CURSOR, True, BOB)
    body = wire.encode_answer(taken, (refused,), ("duplicate_identity",))
    found = wire.decode_answer(body)
    assert (found.have, found.life, found.wanted) == (CURSOR, BOB, frozenset((MEMORY.tag,)))
    assert [(one.id, one.reason) for one in found.refused] == [(ID, "limits"), ("", "scope")]
    assert found.alarms == ("duplicate_identity",)
    said = json.loads(body)
    counters = ("applied", "deleted", "links_applied", "noop", "skipped")
    assert [said[name] for name in counters] == [3, 2, 1, 4, 2]


def test_nobody_is_put_off_for_long() -> None:
    """When to offer again is bounded, whatever a receiver says; an older one says nothing."""
    body = json.loads(wire.encode_answer(Taken(life=BOB, again=200_001), ()))
    assert body["again_ms"] == 201
    for said, expected in ((201, 0.201), (10**12, wire.MAX_AGAIN_MS / 1_000), (-5, 0.0)):
        assert wire.decode_answer(json.dumps({**body, "again_ms": said}).encode()).again == expected
    del body["again_ms"]
    assert wire.decode_answer(json.dumps(body).encode()).again == 0.0


def test_a_hello_is_a_push_of_nothing() -> None:
    """It moves no cursor and brings no record; a daemon that knows no cursors finds the field that it requires."""
    body = wire.encode_hello("node:desk", ALICE)
    incoming = read_push(body)
    assert (incoming.page.to, incoming.page.after, incoming.versions, incoming.page.offers) == (None, None, (), ())
    assert json.loads(body)["memories"] == []


# --- what is wrong with a whole message

DEEP = "[" * 10_000 + "]" * 10_000
UNREADABLE = {
    "nothing": b"",
    "no JSON": b'{"life":',
    "a list": b"[]",
    "null": b"null",
    "not UTF-8": b'{"life":"\xff"}',
    "10,000 levels": DEEP.encode(),
    "10,000 levels in a field that nobody reads": f'{{"x":{DEEP}}}'.encode(),
    "NaN": b'{"x":NaN}',
    "half a surrogate pair": b'{"life":"\\ud800"}',
    "two values": b"{}{}",
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("case", UNREADABLE)
def test_a_message_that_cannot_be_read_is_malformed(reader: str, case: str) -> None:
    """One error with a stable code and a sentence, whichever message it should have been."""
    with pytest.raises(RemoteError) as caught:
        READERS[reader][0](UNREADABLE[case])
    assert caught.value.code == "malformed"
    assert 0 < len(str(caught.value)) < 300


LONG = f"{ALICE}.{'1' * 17}.1.{ALICE}.0123abcd"
# what: (the messages that have the field, it, the code of the refusal)
WRONG_FIELDS: dict[str, tuple[str, dict[str, Any], str]] = {
    "life that is a number": ("push since answer", {"life": 7}, "malformed"),
    "life in capitals": ("push since answer", {"life": "A" * 16}, "malformed"),
    "life too short": ("push since answer", {"life": "abc"}, "malformed"),
    "life with a newline": ("push since answer", {"life": "a" * 15 + "\n"}, "malformed"),
    "alarms of numbers": ("since answer", {"alarms": [1]}, "malformed"),
    "memories that are no list": ("push since", {"memories": {}}, "malformed"),
    "a cursor of another form": ("push", {"to": "4711"}, "bad_cursor"),
    "a cursor too long": ("push", {"to": LONG}, "bad_cursor"),
    "an answer's cursor of another form": ("since", {"cursor": "4711"}, "bad_cursor"),
    "an answer without a cursor": ("since", {"cursor": None}, "malformed"),
    "a receiver's cursor too long": ("answer", {"have": LONG}, "bad_cursor"),
    "no truth in reset": ("push since", {"reset": "yes"}, "malformed"),
    "more that is a number": ("since", {"more": 1}, "malformed"),
    "wanted tag too short": ("answer", {"wanted": ["ab"]}, "malformed"),
    "wanted tag that is no hex": ("answer", {"wanted": ["x" * 32]}, "malformed"),
    "refusals without their fields": ("answer", {"refused": [{}]}, "malformed"),
    "offer of two parts": ("push", {"offers": [["a", "b"]]}, "malformed"),
    "offer with a short tag": ("push", {"offers": [["a", ID, "ab"]]}, "malformed"),
    "offer with a long namespace": ("push", {"offers": [["n" * 513, ID, "0" * 32]]}, "limits"),
    "offer with a long id": ("push", {"offers": [["a", "i" * 271, "0" * 32]]}, "limits"),
    "made for no life": ("push", {"for": "abc"}, "malformed"),
    "a dry run": ("push", {"dry_run": True}, "unsupported"),
    "no life": ("push", {"life": None}, "not_native"),
}


@pytest.mark.parametrize(
    ("case", "reader"), [(case, reader) for case, row in WRONG_FIELDS.items() for reader in row[0].split()]
)
def test_a_field_of_a_wrong_form_is_refused_by_its_code(case: str, reader: str) -> None:
    """Nothing of such a message is applied; the same message without the field is read."""
    read, make = READERS[reader]
    _, fields, code = WRONG_FIELDS[case]
    read(make())
    with pytest.raises(RemoteError) as caught:
        read(make(**fields))
    assert caught.value.code == code


@pytest.mark.parametrize(("count", "passes"), [(wire.MAX_OFFERS, True), (wire.MAX_OFFERS + 1, False)])
def test_only_so_many_offers_come_in_one_push(count: int, *, passes: bool) -> None:
    """One more is refused, and told with both numbers."""
    body = push(offers=[["a", ID, "0" * 32]] * count)
    if passes:
        assert len(read_push(body).page.offers) == count
    else:
        with pytest.raises(RemoteError, match=f"{count} found, at most {count - 1}") as caught:
            read_push(body)
        assert caught.value.code == "limits"


def test_unknown_fields_are_passed_over() -> None:
    """A later version may say more, and the existing daemon's own fields do no harm."""
    incoming = read_push(push(sender_clock={"entries": {}}, deletions=["x"], namespace_meta=[], later=1))
    assert (incoming.versions, incoming.refused) == ((), ())


def test_alarms_that_are_not_known_are_not_taken_in() -> None:
    """A peer cannot write its own words into our log."""
    assert read_since(since(alarms=["duplicate_identity", "<script>", "x" * 9_000])).alarms == ("duplicate_identity",)


# --- what is wrong with one record

BAD = {
    "no object": (b"7", "malformed"),
    "a field missing": (b'{"id":"bad"}', "malformed"),
    "over a limit": (MEMORY.doc.replace(b'"title":"x"', b'"title":""'), "limits"),
    "altered": (MEMORY.doc.replace(b'"content":"text"', b'"content":"other"', 1), "bad_attestation"),
    "NaN": (MEMORY.doc.replace(b'"confidence":1.0', b'"confidence":NaN'), "malformed"),
    "half a surrogate pair": (MEMORY.doc.replace(b'"title":"x"', b'"title":"\\ud800"'), "malformed"),
    "a number out of range": (MEMORY.doc.replace(b'"confidence":1.0', b'"confidence":1e999'), "malformed"),
    "invalid UTF-8": (MEMORY.doc.replace(b'"title":"x"', b'"title":"\xff"'), "malformed"),
    "10,000 levels": (MEMORY.doc.replace(b'"metadata":{', b'"metadata":{"k":%b,' % DEEP.encode()), "malformed"),
    "a tombstone among memories": (STONE.doc, "malformed"),
}


def batch(*documents: bytes) -> bytes:
    return b'{"life":"%b","to":"%b","memories":[%b]}' % (ALICE.encode(), CURSOR.encode(), b",".join(documents))


@pytest.mark.parametrize("case", BAD)
def test_one_bad_record_never_takes_its_batch_down(case: str) -> None:
    """It is refused by reason, alone; the records before and after it are read, and the page keeps its cursor."""
    bad, reason = BAD[case]
    good = [versions.version({BOB: n}, id=f"good {n}") for n in (1, 2)]
    incoming = read_push(batch(good[0].doc, bad, good[1].doc))
    assert [one.reason for one in incoming.refused] == [reason]
    assert [one.tag for one in incoming.versions] == [one.tag for one in good]
    assert incoming.page.to == CURSOR


def test_a_reader_that_gives_up_on_the_whole_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: with a reader of records that raises, the batch goes down."""

    def reading(raw: bytes, kind: str) -> Version | Refused:
        raise RemoteError("malformed", "no")

    monkeypatch.setattr(record, "read", reading)
    with pytest.raises(RemoteError):
        test_one_bad_record_never_takes_its_batch_down("over a limit")


LINK = versions.link({ALICE: 2})
BAD_LINKS = {
    "no object": (b"7", "", "malformed"),
    "no relation": (b'{"source_id":"one","target_id":"two"}', "one two", "malformed"),
    "an unknown relation": (LINK.doc.replace(b"related_to", b"likes"), f"{ID} likes {versions.OTHER}", "limits"),
    "an altered target": (LINK.doc.replace(b"000002", b"000003"), f"{ID} related_to {ID[:-1]}3", "bad_attestation"),
    "10,000 levels": (b'{"source_id":"a","x":%b}' % DEEP.encode(), "", "malformed"),
    "a memory among links": (MEMORY.doc, "", "malformed"),
}


@pytest.mark.parametrize("case", BAD_LINKS)
def test_one_bad_link_refuses_only_itself(case: str) -> None:
    """The links before and after it are read, an unlink among them; the bad one is named by its ends and relation."""
    bad, name, reason = BAD_LINKS[case]
    good = [LINK, versions.unlink({BOB: 2}, relation="contradicts")]
    body = b'{"life":"%b","memories":[],"links":[%b]}' % (ALICE.encode(), b",".join((good[0].doc, bad, good[1].doc)))
    incoming = read_push(body)
    assert incoming.versions == tuple(good)
    assert [(one.id, one.kind, one.reason) for one in incoming.refused] == [(name, "l", reason)]


def test_a_page_carries_links_and_unlinks_in_a_list_of_their_own() -> None:
    """Pushed and pulled alike; an offer of one is as long as the longest id of a link."""
    desk = full_desk()
    desk.write("y")
    for target in ("one", "two", "t" * 128):
        desk.link("y", target)
    desk.unlink("y", "two")
    for incoming in (
        read_push(wire.encode_push("node:desk", desk.cut())),
        read_since(wire.encode_since(desk.cut(), 100)),
    ):
        assert incoming.refused == ()
        assert sorted(one.tag for one in incoming.versions) == all_tags(desk)
        assert sorted(one.kind for one in incoming.versions if one.kind in "lu") == ["l", "l", "u"]
    longest = versions.link({ALICE: 3}, source_id="s" * 128, target_id="t" * 128, relation="derived_from")
    desk.take(longest)
    offered = read_push(wire.encode_push("node:desk", desk.cut(offer=True))).page.offers
    assert Offer(longest.key, longest.tag) in offered


def test_an_id_that_comes_twice_in_one_batch_is_two_versions_of_one_record() -> None:
    """The same version twice is applied once; two versions that did not see each other are both kept."""
    twin = versions.version({BOB: 1}, content="other")
    desk = Desk()
    incoming = read_push(batch(MEMORY.doc, MEMORY.doc, twin.doc))
    taken = desk.take(*incoming.versions)
    assert (taken.applied, taken.noop) == (2, 1)
    assert desk.tags() == {MEMORY.tag, twin.tag}
    assert desk.take(*incoming.versions).applied == 0


# --- whatever the bytes


@settings(max_examples=300)
@given(st.data())
def test_damage_to_a_message_is_the_senders_fault_and_no_exception_of_ours(data: st.DataObject) -> None:
    """Bytes cut out or put in anywhere give a message or a `RemoteError`."""
    name = data.draw(st.sampled_from(sorted(READERS)))
    read, make = READERS[name]
    body = make(**({"wanted": ["0" * 32]} if name == "answer" else {"memories": [json.loads(MEMORY.doc)]}))
    start = data.draw(st.integers(0, len(body)))
    end = data.draw(st.integers(start, min(len(body), start + 30)))
    try:
        read(body[:start] + data.draw(st.binary(max_size=8)) + body[end:])
    except RemoteError as error:
        assert error.code in {"malformed", "not_native", "bad_cursor", "limits", "unsupported"}


# --- just within a limit


def test_what_just_reaches_a_limit_is_taken() -> None:
    """Namespaces and ids of offers, a life of every digit there is, and as many refused records as are named."""
    longest = "n" * MAX_NAMESPACE, "i" * MAX_LINK_ID_BYTES
    offers = [[*longest, MEMORY.tag.hex()]]
    life = "0123456789abcdef"
    incoming = read_push(push(life=life, offers=offers, memories=[{}] * wire.MAX_REFUSED))
    assert (incoming.page.life, incoming.page.offers) == (life, (Offer(longest, MEMORY.tag),))
    assert (len(incoming.refused), incoming.left_out) == (wire.MAX_REFUSED, 0)


@pytest.mark.parametrize("place", [0, 1], ids=["namespace", "id"])
def test_an_offer_beyond_a_limit_is_refused(place: int) -> None:
    """By one character."""
    longest = ["n" * MAX_NAMESPACE, "i" * MAX_LINK_ID_BYTES, MEMORY.tag.hex()]
    longest[place] += "x"
    with pytest.raises(RemoteError, match="offers: a namespace or an id over its limit"):
        read_push(push(offers=[longest]))


def test_more_refused_records_than_are_named_are_counted() -> None:
    """Nothing is told of them but their number."""
    incoming = read_push(push(memories=[{}] * (wire.MAX_REFUSED + 3)))
    assert (len(incoming.refused), incoming.left_out) == (wire.MAX_REFUSED, 3)


def test_what_is_said_of_a_standing_has_a_most() -> None:
    """Longer text is not read."""
    standing = Standing(1, "0" * 32)
    told = wire.encode_standing(standing)
    assert wire.decode_standing(told.ljust(wire.MAX_STANDING)) == standing
    with pytest.raises(RemoteError, match=f"standing: {wire.MAX_STANDING + 1} characters, at most") as caught:
        wire.decode_standing(told.ljust(wire.MAX_STANDING + 1))
    assert caught.value.code == "malformed"


@pytest.mark.parametrize("name", wire.LISTS)
def test_a_record_of_too_many_bytes_is_refused_unread(name: str) -> None:
    """Though it were well-formed: nobody writes one that long."""
    version = {"memories": MEMORY, "tombstones": STONE, "links": versions.link({ALICE: 1})}[name]
    body = b'{"life":"%b","%b":[%b]}'
    for most, is_read in ((MAX_RECORD, True), (MAX_RECORD + 1, False)):
        raw = version.doc[:-1] + b" " * (most - len(version.doc)) + b"}"
        incoming = read_push(body % (ALICE.encode(), name.encode(), raw))
        assert incoming.versions == ((version,) if is_read else ())
        assert [one.reason for one in incoming.refused] == ([] if is_read else ["limits"])
