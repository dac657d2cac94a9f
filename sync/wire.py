"""The messages: a push and its answer, an answer to since (protocol sections 6 and 7). Bytes in, values out, and back.

Encoding splices the feed's documents in as they are stored, so a page is never decoded to be sent. Decoding takes the
envelope first, counts what its lists hold, and reads each record on its own, so one bad record is refused by name and
the rest goes on.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from sync import apart, counted, link, record
from sync.counted import EMPTY
from sync.errors import RemoteError
from sync.feed import Cursor
from sync.link import MAX_LINK_ID_BYTES
from sync.memory import MAX_NAMESPACE
from sync.receive import MAX_WANTED, Offer, Page, Taken
from sync.record import Refused
from sync.serve import Cut
from sync.standing import Standing, checked
from sync.version import TAG_BYTES, Kind, Version

NAME = "ai-memory-sync"
VERSION = 1
FEATURES = ("tombstones", "offers", "links")
ALARMS = frozenset(("duplicate_identity",))
"""Alarms that one node raises about another and tells it; names that are not known are not taken in."""
MAX_BODY = 16 * 2**20
"""Bytes of one body, decompressed; larger ones are refused before they are buffered."""
MAX_RECORDS = 50_000
"""Of one page, in all its lists: more than the largest page of the smallest records has."""
MAX_OFFERS = 20_000
"""Of one push: a page of 2,000 keys, most of them with conflicts."""
MAX_REFUSED = 100
"""Refused records that an answer names; of more it says how many."""
MAX_NAMES = 1_000
"""Of any other list in a message that is taken in."""
MAX_ID = 300
"""Characters of an id in a report: a link's, whose three parts are joined for people."""
MAX_STANDING = 2_000
"""Characters of what the query of a since says of where the asker stands."""
MAX_AGAIN_MS = 10_000
"""No receiver can put a sender off for longer."""
LISTS = ("memories", "tombstones", "links")
"""Of a page."""
KINDS: tuple[Kind, ...] = ("m", "t", "l")
"""What each of them holds; a link may be an unlink."""
_PROTOCOL = msgspec.json.encode({"name": NAME, "version": VERSION, "features": FEATURES, "max_body": MAX_BODY})
_encode = msgspec.json.Encoder().encode


class _Push(msgspec.Struct):
    sender_agent_id: str = ""
    memories: msgspec.Raw = EMPTY
    tombstones: msgspec.Raw = EMPTY
    links: msgspec.Raw = EMPTY
    offers: msgspec.Raw = EMPTY
    life: str | None = None
    after: str | None = None
    to: str | None = None
    made_for: str | None = msgspec.field(name="for", default=None)
    reset: bool = False
    dry_run: bool = False
    standing: Standing | None = None


class _Answer(msgspec.Struct):
    life: str
    have: str | None
    wanted: msgspec.Raw = EMPTY
    again_ms: int = 0
    refused: msgspec.Raw = EMPTY
    refused_more: int = 0
    alarms: msgspec.Raw = EMPTY
    applied: int = 0
    standing: Standing | None = None


class RefusedEntry(msgspec.Struct):
    """One refused record, as the receiver names it to the sender."""

    id: str
    kind: str
    reason: str
    detail: str


class _Since(msgspec.Struct):
    life: str
    cursor: str
    more: bool
    reset: bool = False
    made_for: str | None = msgspec.field(name="for", default=None)
    memories: msgspec.Raw = EMPTY
    tombstones: msgspec.Raw = EMPTY
    links: msgspec.Raw = EMPTY
    alarms: msgspec.Raw = EMPTY
    standing: Standing | None = None


@dataclass(frozen=True, slots=True)
class Incoming:
    """A page as it came in: what to apply, and what was refused while reading it."""

    page: Page
    versions: tuple[Version, ...]
    refused: tuple[Refused, ...]
    """At most `MAX_REFUSED`."""
    more: bool
    alarms: tuple[str, ...]
    """Names of alarms, of `ALARMS`, that the other side raised about us."""
    sender: str = ""
    """What the sender calls itself: a claim, recorded and never believed."""
    left_out: int = 0
    """Refused while reading, beside those in `refused`."""
    standing: Standing | None = None
    """Where the sender says that it stands."""


@dataclass(frozen=True, slots=True)
class PushAnswer:
    """What a receiver said to our push."""

    life: str
    have: str | None
    wanted: frozenset[bytes]
    refused: tuple[RefusedEntry, ...]
    alarms: tuple[str, ...]
    applied: int
    again: float = 0.0
    """Seconds after which it wants to be offered again what it lacks and did not ask for; 0: nothing."""
    left_out: int = 0
    """Refused, and not named in `refused`."""
    standing: Standing | None = None
    """Where it says that it stands, after this push."""


_push = msgspec.json.Decoder(_Push)
_answer = msgspec.json.Decoder(_Answer)
_since = msgspec.json.Decoder(_Since)
_offers = msgspec.json.Decoder(list[tuple[str, str, str]])
_names = msgspec.json.Decoder(list[str])
_refused = msgspec.json.Decoder(list[RefusedEntry])
_standing = msgspec.json.Decoder(Standing)


def encode_hello(sender: str, life: str, standing: Standing | None = None) -> bytes:
    """A push of nothing: it asks for the receiver's cursor and life."""
    return b'{"sender_agent_id":%b,"memories":[],"life":%b,"standing":%b}' % (
        _encode(sender), _encode(life), _encode(standing),
    )  # fmt: skip


def encode_push(sender: str, cut: Cut, standing: Standing | None = None) -> bytes:
    """The body of `POST /api/v1/sync/push`."""
    return (
        b'{"sender_agent_id":%b,"sender_clock":{"entries":{}},"life":%b,"after":%b,"to":%b,"for":%b,"reset":%b,'
        b'"memories":[%b],"tombstones":[%b],"links":[%b],"offers":[%b],"dry_run":false,"standing":%b}'
    ) % (
        _encode(sender), _encode(cut.life), _encode(cut.after), _encode(cut.to), _encode(cut.made_for),
        _encode(cut.reset), cut.page.memories, cut.page.tombstones, cut.page.links, cut.page.offers, _encode(standing),
    )  # fmt: skip


def decode_push(body: bytes, peer: str) -> Incoming:
    """A push from `peer`. Raises RemoteError `malformed`, `not_native`, `limits`; a bad record only refuses itself."""
    push, listed = _page(_push, body)
    if push.life is None:
        raise RemoteError(
            "not_native", f"no `life` in the body; this node speaks {NAME} version {VERSION} to its peers"
        )
    if push.dry_run:
        raise RemoteError("unsupported", "dry_run is not supported; leave it out or send false")
    _check_place(push.life, push.to, push.made_for)
    offers = tuple(_offer(*offer) for offer in counted.elements("offers", push.offers, MAX_OFFERS, _offers))
    page = Page(peer, push.life, push.after, push.to, push.made_for, push.reset, offers)
    versions, refused, left_out = _records(listed)
    sender = push.sender_agent_id[:128]
    return Incoming(
        page,
        versions,
        refused,
        more=False,
        alarms=(),
        sender=sender,
        left_out=left_out,
        standing=checked(push.standing),
    )


def encode_answer(
    taken: Taken,
    refused: Sequence[Refused],
    alarms: Sequence[str] = (),
    standing: Standing | None = None,
    left_out: int = 0,
) -> bytes:
    """The answer to a push: all counters of the existing daemon, and ours.

    `left_out`: how many were refused beside these. Of all that were, the first `MAX_REFUSED` are named.
    """
    every = len(refused) + left_out + len(taken.refused)
    named = (*refused, *taken.refused[:MAX_REFUSED])[:MAX_REFUSED]
    refusals = [RefusedEntry(one.id[:MAX_ID], one.kind, one.reason, counted.cut(one.detail)) for one in named]
    return _encode(
        {
            "applied": taken.applied - taken.deleted - taken.links, "deleted": taken.deleted, "noop": taken.noop,
            "skipped": every, "archived": 0, "restored": 0, "links_applied": taken.links, "pendings_applied": 0,
            "pending_decisions_applied": 0, "namespace_meta_applied": 0, "namespace_meta_cleared": 0,
            "dry_run": False, "receiver_clock": {"entries": {}},
            "have": taken.have, "life": taken.life, "wanted": [tag.hex() for tag in taken.wanted],
            "again_ms": -(-taken.again // 1_000),
            "refused": refusals, "refused_more": every - len(refusals), "alarms": list(alarms),
            "standing": standing,
        }
    )  # fmt: skip


def decode_answer(body: bytes) -> PushAnswer:
    """What a peer answered to our push. Raises RemoteError `malformed`, `limits`."""
    answer = counted.decoded(_answer, body)
    _check_place(answer.life, answer.have, None)
    wanted = frozenset(_tag(text) for text in counted.elements("wanted", answer.wanted, MAX_WANTED, _names))
    again = min(max(0, answer.again_ms), MAX_AGAIN_MS) / 1_000
    refused = [
        RefusedEntry(one.id[:MAX_ID], one.kind[:8], one.reason[:40], counted.cut(one.detail))
        for one in counted.elements("refused", answer.refused, MAX_NAMES, _refused)
    ]
    left_out = max(0, answer.refused_more)
    return PushAnswer(
        answer.life,
        answer.have,
        wanted,
        tuple(refused),
        _known(answer.alarms),
        answer.applied,
        again,
        left_out,
        checked(answer.standing),
    )


def encode_since(cut: Cut, limit: int, alarms: Sequence[str] = (), standing: Standing | None = None) -> bytes:
    """The answer to `GET /api/v1/sync/since`."""
    page = cut.page
    return (
        b'{"protocol":%b,"count":%d,"limit":%d,"updated_since":null,"earliest_updated_at":%b,"latest_updated_at":%b,'
        b'"memories":[%b],"tombstones":[%b],"links":[%b],"cursor":%b,"more":%b,"reset":%b,"life":%b,"for":%b,"alarms":%b,'
        b'"standing":%b}'
    ) % (
        _PROTOCOL, page.count, limit, _encode(page.earliest), _encode(page.latest), page.memories, page.tombstones,
        page.links, _encode(cut.to), _encode(page.more), _encode(cut.reset), _encode(cut.life), _encode(cut.made_for),
        _encode(alarms), _encode(standing),
    )  # fmt: skip


def decode_since(body: bytes, peer: str, asked_with: str | None, our_life: str) -> Incoming:
    """A peer's answer to our since, asked with this cursor by this life of ours. Raises as `decode_push`."""
    answer, listed = _page(_since, body)
    _check_place(answer.life, answer.cursor, None)
    page = Page(peer, answer.life, asked_with, answer.cursor, our_life, answer.reset)
    versions, refused, left_out = _records(listed)
    standing, alarms = checked(answer.standing), _known(answer.alarms)
    return Incoming(page, versions, refused, answer.more, alarms, left_out=left_out, standing=standing)


def encode_standing(told: Standing) -> str:
    """For the query of a since."""
    return _encode(told).decode()


def decode_standing(text: str) -> Standing | None:
    """What stands in the query of a since. Raises RemoteError `malformed`."""
    if len(text) > MAX_STANDING:
        raise RemoteError("malformed", f"standing: {len(text)} characters, at most {MAX_STANDING}")
    return checked(counted.decoded(_standing, text.encode("utf-8", "replace")))


Records = TypeVar("Records", _Push, _Since)
Listed = Sequence[Sequence[bytes | msgspec.Raw]]
"""Memories, tombstones and links of a message, each as it was sent."""


def _page(decoder: "msgspec.json.Decoder[Records]", body: bytes) -> tuple[Records, Listed]:
    """A message with records. One that makes the whole unreadable is left to `record.read`, which refuses it alone."""
    try:
        page = counted.decoded(decoder, body)
    except RemoteError:
        parts = apart.lists(body, LISTS, MAX_RECORDS)
        if parts is None:
            raise
        envelope, records = parts
        return counted.decoded(decoder, envelope), [records.get(name, []) for name in LISTS]
    return page, counted.all_raws([(name, getattr(page, name)) for name in LISTS], MAX_RECORDS)


def _records(listed: Listed) -> tuple[tuple[Version, ...], tuple[Refused, ...], int]:
    """What was read, what was refused of it, and how many more were."""
    versions: list[Version] = []
    refused: list[Refused] = []
    left_out = 0
    for kind, raws in zip(KINDS, listed, strict=True):
        for raw in raws:
            one = _read(kind, bytes(raw))
            if isinstance(one, Version):
                versions.append(one)
            elif len(refused) < MAX_REFUSED:
                refused.append(one)
            else:
                left_out += 1
    return tuple(versions), tuple(refused), left_out


def _read(kind: Kind, raw: bytes) -> Version | Refused:
    if fault := counted.size_fault(raw):
        return Refused("", kind, "limits", fault)
    if kind == "m" or kind == "t":
        return record.read(raw, kind)
    return link.read(raw)


def _known(alarms: msgspec.Raw) -> tuple[str, ...]:
    named = counted.elements("alarms", alarms, MAX_NAMES, _names)
    return tuple(sorted(ALARMS.intersection(named)))


def _offer(namespace: str, record_id: str, tag: str) -> Offer:
    if len(namespace) > MAX_NAMESPACE or len(record_id) > MAX_LINK_ID_BYTES:
        raise RemoteError("limits", "offers: a namespace or an id over its limit")
    return Offer((namespace, record_id), _tag(tag))


def _tag(text: str) -> bytes:
    try:
        tag = bytes.fromhex(text)
    except ValueError:
        tag = b""
    if len(tag) != TAG_BYTES:
        raise RemoteError("malformed", f"a version's tag is {2 * TAG_BYTES} hex digits, found {text[:40]!r}")
    return tag


def _check_place(life: str, cursor: str | None, made_for: str | None) -> None:
    for value in (life, made_for):
        if value is not None and not (len(value) == 16 and set(value) <= set("0123456789abcdef")):
            raise RemoteError("malformed", f"a life is 16 hex digits, found {value[:40]!r}")
    if cursor is not None:
        Cursor.parse(cursor)
