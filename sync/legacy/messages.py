"""The older daemon's messages: its push and our answer, its answer to our push, and `since` both ways."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

import msgspec

from sync import counted
from sync.counted import EMPTY
from sync.errors import RemoteError
from sync.legacy.link import TheirLink, read_link
from sync.legacy.row import Row, read_row
from sync.memory import agent_fault
from sync.record import Refused

MOST = 1_000
"""Entries of each list in one push, links apart, as it has it."""
MOST_LINKS = 20_000
"""It does not cap them; in a body of a size that it sends itself there are fewer."""
MOST_ROWS = 20_000
"""Of its answer to `since`: a run of equal times goes whole."""
MOST_REFUSED = 100
"""Refused rows and links of a message that are named; the others are counted."""
MAX_BODY = 2 * 2**20
"""Bytes of one body that it takes."""
NOT_DONE = ("pendings", "pending_decisions", "namespace_meta", "namespace_meta_clears")
"""What a peer may ask for and never gets: it would set policies here, or execute what somebody stored."""
_encode = msgspec.json.Encoder().encode


class _Push(msgspec.Struct):
    sender_agent_id: str
    memories: msgspec.Raw
    deletions: msgspec.Raw = EMPTY
    archives: msgspec.Raw = EMPTY
    restores: msgspec.Raw = EMPTY
    links: msgspec.Raw = EMPTY
    pendings: msgspec.Raw = EMPTY
    pending_decisions: msgspec.Raw = EMPTY
    namespace_meta: msgspec.Raw = EMPTY
    namespace_meta_clears: msgspec.Raw = EMPTY
    dry_run: bool = False
    life: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


@dataclass(frozen=True, slots=True)
class Pushed:
    """A push of the daemon."""

    sender: str
    """A claim, recorded and never believed."""
    rows: tuple[Row, ...]
    refused: tuple[Refused, ...]
    """Rows and links that could not be read, at most `MOST_REFUSED`."""
    deletions: tuple[str, ...] = ()
    archives: tuple[str, ...] = ()
    restores: tuple[str, ...] = ()
    links: tuple[TheirLink, ...] = ()
    not_done: Mapping[str, int] = field(default_factory=dict)
    """How many of each of `NOT_DONE`."""
    dry_run: bool = False
    left_out: int = 0
    """Could not be read either, beside those in `refused`."""


@dataclass(frozen=True, slots=True)
class Counted:
    """What came of a push, in the daemon's counters: `applied` is every memory that was not refused."""

    applied: int = 0
    noop: int = 0
    skipped: int = 0
    deleted: int = 0
    archived: int = 0
    restored: int = 0
    links_applied: int = 0


@dataclass(frozen=True, slots=True)
class Rows:
    """A page of the daemon's `since`."""

    rows: tuple[Row, ...]
    refused: tuple[Refused, ...]
    """At most `MOST_REFUSED`."""
    times: tuple[str, ...]
    """`updated_at` of every row, those that were refused too, where it could be read."""
    count: int
    """How many rows the page had, those included that its scope hid from this node."""
    hidden: int
    scope_status: str
    left_out: int = 0
    """Refused, beside those in `refused`."""


_push = msgspec.json.Decoder(_Push)
_ids = msgspec.json.Decoder(list[str])


def decode_push(body: bytes) -> Pushed:
    """Raises RemoteError: `malformed` (no JSON), `unprocessable` (another shape), `limits`, `invalid`, `not_legacy`."""
    push: _Push = _decoded(_push, body)
    if push.life is not msgspec.UNSET and bytes(push.life) != b"null":
        raise RemoteError(
            "not_legacy",
            "this is a push of the newer protocol, and you are configured here as a daemon of the older one; "
            "the operator of this node has to take `legacy = true` away",
        )
    if fault := agent_fault(push.sender_agent_id):
        raise RemoteError("invalid", f"sender_{fault}")
    memories = _elements("memories", push.memories, MOST)
    ids = {name: tuple(_ids_of(name, getattr(push, name))) for name in ("deletions", "archives", "restores")}
    not_done = {name: len(_elements(name, getattr(push, name), MOST)) for name in NOT_DONE}
    links = _elements("links", push.links, MOST_LINKS)
    read, refused, more = _read(read_row, memories)
    read_links, refused_links, more_links = _read(read_link, links)
    named = (*refused, *refused_links)
    return Pushed(
        push.sender_agent_id,
        tuple(read),
        named[:MOST_REFUSED],
        **ids,
        links=tuple(read_links),
        not_done={name: count for name, count in not_done.items() if count},
        dry_run=push.dry_run,
        left_out=more + more_links + len(named[MOST_REFUSED:]),
    )


def encode_answer(counted: Counted, receiver: str, clock: Mapping[str, str], dry_run: bool) -> bytes:
    """The answer to a push: every counter that any release of the daemon has."""
    counters = asdict(counted)
    return _encode(
        counters
        | dict.fromkeys(
            ("pendings_applied", "pending_decisions_applied", "namespace_meta_applied", "namespace_meta_cleared"), 0
        )
        | {"quota_refused": 0, "dry_run": dry_run, "receiver_agent_id": receiver, "receiver_clock": {"entries": clock}}
    )


def encode_push(
    sender: str, rows: Sequence[bytes] = (), deletions: Sequence[str] = (), links: Sequence[bytes] = ()
) -> bytes:
    """A push for the daemon: rows and links as JSON, ids as it knows them."""
    return (
        b'{"deletions":%b,"dry_run":false,"links":[%b],"memories":[%b],"sender_agent_id":%b,'
        b'"sender_clock":{"entries":{}}}'
    ) % (_encode(deletions), b",".join(links), b",".join(rows), _encode(sender))


class Answer(msgspec.Struct):
    """What the daemon said to our push. It counts a row that lost as applied."""

    applied: int = 0
    deleted: int = 0
    noop: int = 0
    skipped: int = 0
    quota_refused: int | None = None
    """v0.6.3 has no quota, and does not say so."""


class Quota(msgspec.Struct):
    """Its refusal once an agent's quota of the day is used up."""

    agent_id: str = ""
    limit: str = ""
    applied_before_refusal: int = 0
    reset_at: str = ""


_answer = msgspec.json.Decoder(Answer)
_quota = msgspec.json.Decoder(Quota)


def decode_answer(body: bytes) -> Answer:
    """Raises RemoteError `malformed`, `unprocessable`."""
    answer: Answer = _decoded(_answer, body)
    return answer


def decode_quota(body: bytes) -> Quota:
    """The body of its 429; empty where it cannot be read."""
    try:
        return _quota.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Quota()


class _Since(msgspec.Struct):
    count: int
    limit: int
    memories: msgspec.Raw
    excluded_for_scope: int = 0
    scope_status: str | None = None


_since = msgspec.json.Decoder(_Since)


def decode_since(body: bytes) -> Rows:
    """Raises RemoteError `malformed`, `unprocessable`; a row that is wrong only refuses itself."""
    answer: _Since = _decoded(_since, body)
    raws = _elements("memories", answer.memories, MOST_ROWS)
    rows, refused, left_out = _read(read_row, raws)
    hidden = max(0, answer.excluded_for_scope)
    count = len(raws) + hidden
    return Rows(
        tuple(rows), tuple(refused), tuple(_times(raws)), count, hidden, (answer.scope_status or "")[:64], left_out
    )


def encode_since(rows: Sequence[bytes], since: str | None, limit: int, first: str | None, last: str | None) -> bytes:
    """The answer to its `since`. `first`, `last`: times of the page's ends."""
    return (
        b'{"count":%d,"earliest_updated_at":%b,"latest_updated_at":%b,"limit":%d,"memories":[%b],"updated_since":%b}'
    ) % (len(rows), _encode(first), _encode(last), limit, b",".join(rows), _encode(since))


T = TypeVar("T")


def _elements(name: str, listed: msgspec.Raw, most: int) -> list[msgspec.Raw]:
    return _shaped(lambda: counted.raws(name, listed, most))


def _ids_of(name: str, listed: msgspec.Raw) -> list[str]:
    return _shaped(lambda: counted.elements(name, listed, MOST, _ids))


def _shaped(elements: Callable[[], T]) -> T:
    """What is JSON and not what is expected is `unprocessable` to the daemon's clients."""
    try:
        return elements()
    except RemoteError as error:
        if error.code != "malformed":
            raise
        raise RemoteError("unprocessable", str(error)) from None


def _read(reader: Callable[[bytes], T | Refused], raws: Sequence[msgspec.Raw]) -> tuple[list[T], list[Refused], int]:
    """What was read, what was refused of it, and how many more were."""
    read: list[T] = []
    refused: list[Refused] = []
    left_out = 0
    for raw in raws:
        fault = counted.size_fault(raw)
        one = Refused("", "m", "limits", fault) if fault else reader(bytes(raw))
        if not isinstance(one, Refused):
            read.append(one)
        elif len(refused) < MOST_REFUSED:
            refused.append(one)
        else:
            left_out += 1
    return read, refused, left_out


class _Timed(msgspec.Struct):
    updated_at: str


def _times(raws: Sequence[msgspec.Raw]) -> list[str]:
    found = []
    for raw in raws:
        try:
            found.append(msgspec.json.decode(raw, type=_Timed).updated_at)
        except (msgspec.DecodeError, RecursionError):
            continue  # it is among the refused; a row without a time moves no cursor
    return found


def _decoded(decoder: Any, body: bytes) -> Any:
    try:
        return decoder.decode(body)
    except RecursionError:
        raise RemoteError("malformed", "the body is nested too deeply to be read") from None
    except UnicodeDecodeError:
        raise RemoteError("malformed", "the body is not UTF-8") from None
    except msgspec.ValidationError as error:
        raise RemoteError("unprocessable", counted.cut(f"the body is not what is expected here: {error}")) from None
    except msgspec.DecodeError as error:
        raise RemoteError("malformed", f"the body is no JSON: {error}") from None
