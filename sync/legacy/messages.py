"""The older daemon's messages: its push and our answer, its answer to our push, and `since` both ways."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import msgspec

from sync.errors import RemoteError
from sync.legacy.link import TheirLink, read_link
from sync.legacy.row import Row, read_row
from sync.memory import agent_fault
from sync.record import Refused

MOST = 1_000
"""Entries of each list in one push; links are not capped."""
MAX_BODY = 2 * 2**20
"""Bytes of one body that it takes."""
NOT_DONE = ("pendings", "pending_decisions", "namespace_meta", "namespace_meta_clears")
"""What a peer may ask for and never gets: it would set policies here, or execute what somebody stored."""
_encode = msgspec.json.Encoder().encode


class _Push(msgspec.Struct):
    sender_agent_id: str
    memories: list[msgspec.Raw]
    deletions: list[str] = []
    archives: list[str] = []
    restores: list[str] = []
    links: list[msgspec.Raw] = []
    pendings: list[msgspec.Raw] = []
    pending_decisions: list[msgspec.Raw] = []
    namespace_meta: list[msgspec.Raw] = []
    namespace_meta_clears: list[msgspec.Raw] = []
    dry_run: bool = False
    life: Any = None


@dataclass(frozen=True, slots=True)
class Pushed:
    """A push of the daemon."""

    sender: str
    """A claim, recorded and never believed."""
    rows: tuple[Row, ...]
    refused: tuple[Refused, ...]
    """Rows and links that could not be read."""
    deletions: tuple[str, ...] = ()
    archives: tuple[str, ...] = ()
    restores: tuple[str, ...] = ()
    links: tuple[TheirLink, ...] = ()
    not_done: Mapping[str, int] = field(default_factory=dict)
    """How many of each of `NOT_DONE`."""
    dry_run: bool = False


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
    times: tuple[str, ...]
    """`updated_at` of every row, those that were refused too, where it could be read."""
    count: int
    """How many rows the page had, those included that its scope hid from this node."""
    hidden: int
    scope_status: str


_push = msgspec.json.Decoder(_Push)


def decode_push(body: bytes) -> Pushed:
    """Raises RemoteError: `malformed` (no JSON), `unprocessable` (another shape), `limits`, `invalid`, `not_legacy`."""
    push: _Push = _decoded(_push, body)
    if push.life is not None:
        raise RemoteError(
            "not_legacy",
            "this is a push of the newer protocol, and you are configured here as a daemon of the older one; "
            "the operator of this node has to take `legacy = true` away",
        )
    if fault := agent_fault(push.sender_agent_id):
        raise RemoteError("invalid", f"sender_{fault}")
    for name in ("memories", "deletions", "archives", "restores", *NOT_DONE):
        if len(getattr(push, name)) > MOST:
            raise RemoteError("limits", f"{name}: {len(getattr(push, name))} found, at most {MOST} in one request")
    rows, refused = _read(push.memories)
    links = [read_link(bytes(raw)) for raw in push.links]
    return Pushed(
        push.sender_agent_id,
        rows,
        (*refused, *(one for one in links if isinstance(one, Refused))),
        tuple(push.deletions),
        tuple(push.archives),
        tuple(push.restores),
        tuple(one for one in links if isinstance(one, TheirLink)),
        {name: len(getattr(push, name)) for name in NOT_DONE if getattr(push, name)},
        push.dry_run,
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
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Quota()


class _Since(msgspec.Struct):
    count: int
    limit: int
    memories: list[msgspec.Raw]
    excluded_for_scope: int = 0
    scope_status: str | None = None


_since = msgspec.json.Decoder(_Since)


def decode_since(body: bytes) -> Rows:
    """Raises RemoteError `malformed`, `unprocessable`; a row that is wrong only refuses itself."""
    answer: _Since = _decoded(_since, body)
    rows, refused = _read(answer.memories)
    hidden = max(0, answer.excluded_for_scope)
    count = len(answer.memories) + hidden
    return Rows(rows, refused, tuple(_times(answer.memories)), count, hidden, answer.scope_status or "")


def encode_since(rows: Sequence[bytes], since: str | None, limit: int, first: str | None, last: str | None) -> bytes:
    """The answer to its `since`. `first`, `last`: times of the page's ends."""
    return (
        b'{"count":%d,"earliest_updated_at":%b,"latest_updated_at":%b,"limit":%d,"memories":[%b],"updated_since":%b}'
    ) % (len(rows), _encode(first), _encode(last), limit, b",".join(rows), _encode(since))


def _read(raws: Sequence[msgspec.Raw]) -> tuple[tuple[Row, ...], tuple[Refused, ...]]:
    read = [read_row(bytes(raw)) for raw in raws]
    return (
        tuple(one for one in read if isinstance(one, Row)),
        tuple(one for one in read if isinstance(one, Refused)),
    )


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
        raise RemoteError("unprocessable", f"the body is not what is expected here: {error}") from None
    except msgspec.DecodeError as error:
        raise RemoteError("malformed", f"the body is no JSON: {error}") from None
