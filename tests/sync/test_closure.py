"""What a node writes, every peer takes: over each verb, whatever the versions say that the write replaces."""

from collections.abc import Callable
from typing import Any

import pytest
from keys import Signing, pair
from versions import ALICE, ID, NOW, OTHER, SECOND, Desk, memory

from sync import context, link, lives, moment, record, wire, writes
from sync.attest import MAX_DEPTH, Stamp
from sync.context import MAX_ENTRIES, NOTHING, Context
from sync.dot import MAC_BITS, MAX_COUNTER, Dot, seen_until
from sync.link import LinkFields, link_id, link_version, unlink_version
from sync.memory import MAX_CONTENT_BYTES, MAX_METADATA_BYTES, MAX_TAG_BYTES, MAX_TAGS, MAX_TITLE
from sync.merge import MAX_KEPT
from sync.record import Refused, memory_version, tombstone_version
from sync.settle import Delete, Keep, Replace
from sync.version import Key, Version

X = ("a", ID)
LINK = ("a", link_id(ID, OTHER, "related_to"))
LATE = moment.text(NOW + 299 * SECOND)
MAKE: dict[str, Callable[[int, Stamp], Version]] = {
    "m": lambda n, by: memory_version(memory(content=f"{n}", updated_at=LATE), pair("ai:liar"), by),
    "t": lambda n, by: tombstone_version(*X, LATE, pair("ai:liar"), by),
    "l": lambda n, by: link_version("a", ID, OTHER, "related_to", LATE, pair("ai:liar"), by, observed_by=f"ai:{n}"),
    "u": lambda n, by: unlink_version("a", ID, OTHER, "related_to", LATE, pair("ai:liar"), by),
}


def hostile(desk: Desk, kind: str, number: int) -> Version:
    """As bad as a reader takes it: full of actors that nobody is, of lies about this desk and the greatest values."""
    about_us = Dot(desk.life, MAX_COUNTER, "0" * 24)
    until = seen_until(moment.microseconds(LATE))
    room = MAX_ENTRIES - 2
    invented = [Dot(f"{number:08x}{n:08x}", MAX_COUNTER, "0" * 24) for n in range(room)]
    actor = f"f{number:015x}"
    stamp = Stamp(Context([about_us, until, *invented]), MAX_DEPTH, lambda check: Dot(actor, 1 << MAC_BITS, check))
    return MAKE[kind](number, stamp)


def crowded(kind: str = "m", count: int = MAX_KEPT, *, ahead: int = 0) -> Desk:
    """A desk that keeps as many of those as it can, of one key."""
    desk = Desk()
    desk.engine.keys = Signing()
    desk.now += ahead * SECOND
    if kind in "lu":
        desk.take(memory_version(memory(), pair("ai:x"), Stamp(NOTHING, 1, lambda check: Dot(ALICE, 1, check))))
    desk.take(*(hostile(desk, kind, number) for number in range(count)))
    desk.now -= ahead * SECOND
    return desk


def keep_own(desk: Desk) -> Key:
    """Something of its own beside them, which a lie would hide."""
    return desk.write("own").version.key


def lie_about(desk: Desk) -> None:
    key = keep_own(desk)
    claim = Dot(desk.life, MAX_COUNTER, "0" * 24)
    stamp = Stamp(Context([claim]), MAX_DEPTH, lambda check: Dot("e" * 16, 1, check))
    desk.take(memory_version(memory(id=key[1], title="own", content="lie"), pair("ai:liar"), stamp))


def from_the_future() -> Desk:
    """Its own write lies ahead, beside those."""
    desk = crowded(count=MAX_KEPT - 1, ahead=600)
    desk.now += 600 * SECOND
    desk.update(X, content="mine")
    desk.now -= 600 * SECOND
    return desk


def rewound() -> Desk:
    """What it keeps lies in its future, now that its clock is right."""
    desk = crowded()
    desk.now -= 600 * SECOND
    return desk


def settle(desk: Desk, choice: Any, key: Key = X) -> Any:
    return desk.do(desk.engine.resolve, key, choice, desk.tags(key), "agent:judge")


def adopt(desk: Desk, *some: Version) -> None:
    desk.store.transaction(lambda ledger: desk.engine.adopt(ledger, some, desk.now))


VERBS: dict[str, tuple[Callable[[], Desk], Callable[[Desk], Any]]] = {
    "store": (crowded, lambda desk: desk.write("x", "mine")),
    "update": (crowded, lambda desk: desk.update(X, content="mine")),
    "promote": (crowded, lambda desk: desk.update(X, tier="mid")),
    "delete": (crowded, lambda desk: desk.delete(X)),
    "move": (crowded, lambda desk: desk.update(X, namespace="b")),
    "move back": (
        crowded, lambda desk: (desk.update(X, namespace="b"), desk.update(("b", ID), namespace="a")),
    ),
    "store over deletes": (lambda: crowded("t"), lambda desk: desk.write("x", "mine")),
    "link": (lambda: crowded("l"), lambda desk: desk.do(desk.engine.link, "a", LinkFields(
        source_id=ID, target_id=OTHER, valid_until=moment.text(NOW)), "agent:desk")),
    "link over unlinks": (lambda: crowded("u"), lambda desk: desk.do(
        desk.engine.link, "a", LinkFields(source_id=ID, target_id=OTHER), "agent:desk")),
    "unlink": (lambda: crowded("l"), lambda desk: desk.do(desk.engine.unlink, (LINK,), "agent:desk")),
    "a memory moves with its links": (lambda: crowded("l"), lambda desk: desk.update(X, namespace="b")),
    "settle: keep": (crowded, lambda desk: settle(desk, Keep())),
    "settle: delete": (crowded, lambda desk: settle(desk, Delete())),
    "settle: replace": (crowded, lambda desk: settle(desk, Replace("all of them"))),
    "settle a link": (lambda: crowded("l"), lambda desk: settle(desk, Keep(), LINK)),
    "settled by itself": (crowded, lambda desk: desk.take(hostile(desk, "m", 99))),
    "settled by itself, a link": (lambda: crowded("l"), lambda desk: desk.take(hostile(desk, "l", 99))),
    "settled by itself, deletes": (lambda: crowded("t"), lambda desk: desk.take(hostile(desk, "t", 99))),
    "adopt": (crowded, lambda desk: adopt(desk, hostile(desk, "m", 99))),
    "settled in the future": (rewound, lambda desk: desk.do(desk.engine.settle_future)),
    "written again at a start": (from_the_future, lambda desk: desk.begin(lives.START)),
    "written again at a lie": (crowded, lie_about),
}  # fmt: skip


def read(version: Version) -> Version | Refused:
    return (
        link.read(version.doc)
        if version.kind in "lu"
        else record.read(version.doc, "m" if version.kind == "m" else "t")
    )


def written(desk: Desk, before: set[bytes]) -> list[Version]:
    kept = [one for some in desk.store.everything().values() for one in some]
    return [one.version for one in kept if one.giver is None and one.version.tag not in before]


@pytest.mark.parametrize("verb", VERBS)
def test_what_is_written_a_reader_takes(verb: str) -> None:
    """Not refused for its context, its depth or anything else, and read as what it is."""
    make, act = VERBS[verb]
    desk = make()
    before = {one.version.tag for some in desk.store.everything().values() for one in some}
    act(desk)
    made = written(desk, before)
    assert made
    for version in made:
        assert read(version) == version


ORDERED = [verb for verb in VERBS if verb not in ("written again at a lie", "move back", "settled in the future")]
"""Where what is written comes after all that it replaces. Nothing of now comes after the greatest depth of tomorrow."""


@pytest.mark.parametrize("verb", ORDERED)
def test_what_is_written_replaces_what_it_replaced_on_every_node(verb: str) -> None:
    """However full its context: a peer that gets it keeps none of what is kept here no more."""
    make, act = VERBS[verb]
    here, there = make(), make()
    before = {one.version.tag for some in here.store.everything().values() for one in some}
    act(here)
    there.take(*written(here, before))
    for key, kept in here.store.everything().items():
        gone = before - {one.version.tag for one in kept}
        assert not there.tags(key) & gone or verb.startswith("written again")


@pytest.mark.parametrize("verb", ["update", "delete", "settle: keep", "settled by itself", "link"])
def test_without_the_bound_where_it_is_made_a_reader_refuses(verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: a limit at reading alone is not closed."""
    true = context.join

    def unbounded(pasts: Any, latest: int) -> Context:
        with pytest.MonkeyPatch.context() as meanwhile:
            meanwhile.setattr(context, "MAX_ENTRIES", 10**6)
            return true(pasts, latest)

    make, act = VERBS[verb]
    desk = make()
    before = {one.version.tag for some in desk.store.everything().values() for one in some}
    monkeypatch.setattr(writes, "join", unbounded)
    act(desk)
    found = [read(version) for version in written(desk, before)]
    assert any(isinstance(one, Refused) and "at most 256" in one.detail for one in found)


def largest(number: int) -> Version:
    """As many bytes as the limits let a memory have, carried on by a node."""
    fields: dict[str, Any] = {
        "title": "\U0001f600" * MAX_TITLE, "content": '"' * MAX_CONTENT_BYTES, "tags": ['"' * MAX_TAG_BYTES] * MAX_TAGS,
        "metadata": {"k": "x" * (MAX_METADATA_BYTES - 8)}, "namespace": "/".join(["\U0001f600" * 63] * 8),
    }  # fmt: skip
    entries = [Dot(f"{number:08x}{n:08x}", MAX_COUNTER, "0" * 24) for n in range(MAX_ENTRIES)]
    by = Stamp(Context(entries), MAX_DEPTH, lambda check: Dot(f"f{number:015x}", MAX_COUNTER, check))
    first = memory_version(memory(**fields), pair("ai:first"), by)
    again = Stamp(by.context, MAX_DEPTH, by.dot, writes.first_of(first))
    return memory_version(memory(**fields), pair("node:desk"), again)


def test_all_that_a_node_may_keep_of_a_key_fits_what_a_peer_takes() -> None:
    """A key goes whole, even over the smallest page that can be configured; so all of it is less than a body may be."""
    one = largest(1)
    assert record.read(one.doc, "m") == one
    assert (MAX_KEPT + 1) * len(one.doc) + 65_536 < wire.MAX_BODY


def test_the_largest_memory_is_as_large_as_it_can_be() -> None:
    """Control: one byte more of any part is refused."""
    assert len(largest(1).doc) > 200_000
    for name, value in {"content": '"' * (MAX_CONTENT_BYTES + 1), "title": "x" * (MAX_TITLE + 1)}.items():
        by = Stamp(NOTHING, 1, lambda check: Dot(ALICE, 1, check))
        made = memory_version(memory(**{name: value}), pair("ai:x"), by)
        assert isinstance(record.read(made.doc, "m"), Refused)
