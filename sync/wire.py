"""The messages: a push and its answer, an answer to since (protocol sections 6 and 7). Bytes in, values out, and back.

Encoding splices the feed's documents in as they are stored, so a page is never decoded to be sent. Decoding takes the
envelope first and each record on its own, so one bad record is refused by name and the rest goes on.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from sync import apart, link, record
from sync.errors import RemoteError
from sync.feed import Cursor
from sync.link import MAX_LINK_ID_BYTES
from sync.memory import MAX_NAMESPACE
from sync.receive import Offer, Page, Taken
from sync.record import Refused
from sync.serve import Cut
from sync.version import TAG_BYTES, Version

NAME = "ai-memory-sync"
VERSION = 1
FEATURES = ("tombstones", "offers", "links")
ALARMS = frozenset(("duplicate_identity",))
"""Alarms that one node raises about another and tells it; names that are not known are not taken in."""
MAX_BODY = 16 * 2**20
"""Bytes of one body, decompressed; larger ones are refused before they are buffered."""
MAX_OFFERS = 20_000
"""Of one push: a page of 2,000 keys, most of them with conflicts."""
MAX_AGAIN_MS = 10_000
"""No receiver can put a sender off for longer."""
_PROTOCOL = msgspec.json.encode({"name": NAME, "version": VERSION, "features": FEATURES, "max_body": MAX_BODY})
_encode = msgspec.json.Encoder().encode


class _Push(msgspec.Struct):
    sender_agent_id: str = ""
    memories: list[msgspec.Raw] = []
    tombstones: list[msgspec.Raw] = []
    links: list[msgspec.Raw] = []
    offers: list[tuple[str, str, str]] = []
    life: str | None = None
    after: str | None = None
    to: str | None = None
    made_for: str | None = msgspec.field(name="for", default=None)
    reset: bool = False
    dry_run: bool = False


class _Answer(msgspec.Struct):
    life: str
    have: str | None
    wanted: list[str] = []
    again_ms: int = 0
    refused: list["RefusedEntry"] = []
    alarms: list[str] = []
    applied: int = 0


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
    memories: list[msgspec.Raw] = []
    tombstones: list[msgspec.Raw] = []
    links: list[msgspec.Raw] = []
    alarms: list[str] = []


@dataclass(frozen=True, slots=True)
class Incoming:
    """A page as it came in: what to apply, and what was refused while reading it."""

    page: Page
    versions: tuple[Version, ...]
    refused: tuple[Refused, ...]
    more: bool
    alarms: tuple[str, ...]
    """Names of alarms, of `ALARMS`, that the other side raised about us."""
    sender: str = ""
    """What the sender calls itself: a claim, recorded and never believed."""


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


_push = msgspec.json.Decoder(_Push)
_answer = msgspec.json.Decoder(_Answer)
_since = msgspec.json.Decoder(_Since)


def encode_hello(sender: str, life: str) -> bytes:
    """A push of nothing: it asks for the receiver's cursor and life."""
    return b'{"sender_agent_id":%b,"memories":[],"life":%b}' % (_encode(sender), _encode(life))


def encode_push(sender: str, cut: Cut) -> bytes:
    """The body of `POST /api/v1/sync/push`."""
    return (
        b'{"sender_agent_id":%b,"sender_clock":{"entries":{}},"life":%b,"after":%b,"to":%b,"for":%b,"reset":%b,'
        b'"memories":[%b],"tombstones":[%b],"links":[%b],"offers":[%b],"dry_run":false}'
    ) % (
        _encode(sender), _encode(cut.life), _encode(cut.after), _encode(cut.to), _encode(cut.made_for),
        _encode(cut.reset), cut.page.memories, cut.page.tombstones, cut.page.links, cut.page.offers,
    )  # fmt: skip


def decode_push(body: bytes, peer: str) -> Incoming:
    """A push from `peer`. Raises RemoteError `malformed`, `not_native`, `limits`; a bad record only refuses itself."""
    push = _page(_push, body)
    if push.life is None:
        raise RemoteError(
            "not_native", f"no `life` in the body; this node speaks {NAME} version {VERSION} to its peers"
        )
    if push.dry_run:
        raise RemoteError("unsupported", "dry_run is not supported; leave it out or send false")
    if len(push.offers) > MAX_OFFERS:
        raise RemoteError("limits", f"offers: {len(push.offers)} found, at most {MAX_OFFERS}")
    _check_place(push.life, push.to, push.made_for)
    offers = tuple(_offer(*offer) for offer in push.offers)
    page = Page(peer, push.life, push.after, push.to, push.made_for, push.reset, offers)
    versions, refused = _records(push.memories, push.tombstones, push.links)
    return Incoming(page, versions, refused, more=False, alarms=(), sender=push.sender_agent_id[:128])


def encode_answer(taken: Taken, refused: Sequence[Refused], alarms: Sequence[str] = ()) -> bytes:
    """The answer to a push: all counters of the existing daemon, and ours."""
    refusals = [RefusedEntry(one.id, one.kind, one.reason, one.detail) for one in (*refused, *taken.refused)]
    return _encode(
        {
            "applied": taken.applied - taken.deleted - taken.links, "deleted": taken.deleted, "noop": taken.noop,
            "skipped": len(refusals), "archived": 0, "restored": 0, "links_applied": taken.links, "pendings_applied": 0,
            "pending_decisions_applied": 0, "namespace_meta_applied": 0, "namespace_meta_cleared": 0,
            "dry_run": False, "receiver_clock": {"entries": {}},
            "have": taken.have, "life": taken.life, "wanted": [tag.hex() for tag in taken.wanted],
            "again_ms": -(-taken.again // 1_000),
            "refused": refusals, "alarms": list(alarms),
        }
    )  # fmt: skip


def decode_answer(body: bytes) -> PushAnswer:
    """What a peer answered to our push. Raises RemoteError `malformed`."""
    answer = _decoded(_answer, body)
    _check_place(answer.life, answer.have, None)
    wanted = frozenset(_tag(text) for text in answer.wanted)
    again = min(max(0, answer.again_ms), MAX_AGAIN_MS) / 1_000
    alarms = _known(answer.alarms)
    return PushAnswer(answer.life, answer.have, wanted, tuple(answer.refused), alarms, answer.applied, again)


def encode_since(cut: Cut, limit: int, alarms: Sequence[str] = ()) -> bytes:
    """The answer to `GET /api/v1/sync/since`."""
    page = cut.page
    return (
        b'{"protocol":%b,"count":%d,"limit":%d,"updated_since":null,"earliest_updated_at":%b,"latest_updated_at":%b,'
        b'"memories":[%b],"tombstones":[%b],"links":[%b],"cursor":%b,"more":%b,"reset":%b,"life":%b,"for":%b,"alarms":%b}'
    ) % (
        _PROTOCOL, page.count, limit, _encode(page.earliest), _encode(page.latest), page.memories, page.tombstones,
        page.links, _encode(cut.to), _encode(page.more), _encode(cut.reset), _encode(cut.life), _encode(cut.made_for),
        _encode(alarms),
    )  # fmt: skip


def decode_since(body: bytes, peer: str, asked_with: str | None, our_life: str) -> Incoming:
    """A peer's answer to our since, asked with this cursor by this life of ours. Raises RemoteError `malformed`."""
    answer = _page(_since, body)
    _check_place(answer.life, answer.cursor, None)
    page = Page(peer, answer.life, asked_with, answer.cursor, our_life, answer.reset)
    versions, refused = _records(answer.memories, answer.tombstones, answer.links)
    return Incoming(page, versions, refused, answer.more, _known(answer.alarms))


T = TypeVar("T")


def _decoded(decoder: "msgspec.json.Decoder[T]", body: bytes) -> T:
    try:
        return decoder.decode(body)
    except RecursionError:
        raise RemoteError("malformed", "the body is nested too deeply to be read") from None
    except UnicodeDecodeError:
        raise RemoteError("malformed", "the body is not UTF-8") from None
    except msgspec.DecodeError as error:
        raise RemoteError("malformed", f"the body is not what is expected here: {error}") from None


Records = TypeVar("Records", _Push, _Since)


def _page(decoder: "msgspec.json.Decoder[Records]", body: bytes) -> Records:
    """A message with records. One that makes the whole unreadable is left to `record.read`, which refuses it alone."""
    try:
        return _decoded(decoder, body)
    except RemoteError:
        parts = apart.lists(body, ("memories", "tombstones", "links"))
        if parts is None:
            raise
    envelope, records = parts
    page = _decoded(decoder, envelope)
    for name, some in records.items():
        setattr(page, name, [msgspec.Raw(one) for one in some])
    return page


def _records(
    memories: Iterable[msgspec.Raw], tombstones: Iterable[msgspec.Raw], links: Iterable[msgspec.Raw]
) -> tuple[tuple[Version, ...], tuple[Refused, ...]]:
    read = [record.read(bytes(raw), "m") for raw in memories]
    read.extend(record.read(bytes(raw), "t") for raw in tombstones)
    read.extend(link.read(bytes(raw)) for raw in links)
    refused = tuple(one for one in read if isinstance(one, Refused))
    return tuple(one for one in read if isinstance(one, Version)), refused


def _known(alarms: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(ALARMS.intersection(alarms)))


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
