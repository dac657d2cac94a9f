"""Reads JSON bodies into declared shapes as the daemon's deserialiser does, and refuses in its words.

What it refuses here fails the whole request, before any rule about a single memory is asked. Positions (`at line 1
column N`) and the member before a syntax error are not reproduced: this reader says column 0.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from rust_daemon.release import TIERS, Release

Read = Callable[[Any, str], Any]
REQUIRED = object()
I32, I64 = 2**31, 2**63


class Refused(Exception):
    """The whole body is refused: status 400 or 422, and the text. `missing`: the member that is not there."""

    def __init__(self, status: int, text: str, missing: str | None = None) -> None:
        super().__init__(text)
        self.status, self.text, self.missing = status, text, missing


def parsed(body: bytes) -> Any:
    """The JSON value in a body. Raises Refused."""

    def constant(name: str) -> NoReturn:
        raise ValueError(name)

    try:
        value = json.loads(body.decode(), parse_constant=constant)
        if b"\\u" in body:
            json.dumps(value, ensure_ascii=False).encode()  # half of a surrogate pair is no text
        return value
    except (ValueError, RecursionError):
        place = "EOF while parsing a value" if not body.strip() else "invalid JSON"
        raise Refused(400, f"Failed to parse the request body as JSON: {place} at line 1 column 0") from None


def _misfit(path: str, says: str, missing: str | None = None) -> NoReturn:
    where = f"{path}: " if path else ""
    lead = "Failed to deserialize the JSON body into the target type: "
    raise Refused(422, f"{lead}{where}{says} at line 1 column 0", missing)


def _shown(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return f"boolean `{str(value).lower()}`"
        case int():
            return f"integer `{value}`"
        case float():
            return f"floating point `{value!r}`"
        case str():
            return f'string "{value}"'
        case list():
            return "sequence"
        case _:
            return "map"


def _typed(kind: type, expected: str) -> Read:
    def read(value: Any, path: str) -> Any:
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            _misfit(path, f"invalid type: {_shown(value)}, expected {expected}")
        return value

    return read


string = _typed(str, "a string")
boolean = _typed(bool, "a boolean")


def anything(value: Any, path: str) -> Any:
    return value


def integer(name: str, bound: int) -> Read:
    inner = _typed(int, name)

    def read(value: Any, path: str) -> int:
        if not -bound <= inner(value, path) < bound:
            _misfit(path, f"invalid value: integer `{value}`, expected {name}")
        return int(value)

    return read


def real(value: Any, path: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        _misfit(path, f"invalid type: {_shown(value)}, expected f64")
    return float(value)


def one_of(variants: tuple[str, ...]) -> Read:
    def read(value: Any, path: str) -> str:
        if not isinstance(value, str):
            _misfit(path, f"invalid type: {_shown(value)}, expected string or map")
        if value not in variants:
            _misfit(path, f"unknown variant `{value}`, expected one of {', '.join(f'`{v}`' for v in variants)}")
        return value

    return read


def optional(inner: Read) -> Read:
    return lambda value, path: None if value is None else inner(value, path)


def sequence(inner: Read) -> Read:
    def read(value: Any, path: str) -> list[Any]:
        if not isinstance(value, list):
            _misfit(path, f"invalid type: {_shown(value)}, expected a sequence")
        return [inner(one, f"{path}[{at}]") for at, one in enumerate(value)]

    return read


@dataclass(frozen=True, slots=True)
class Shape:
    """A struct: each member's reader and default, REQUIRED where there is none. Unknown members are dropped."""

    name: str
    members: Mapping[str, tuple[Read, Any]] = field(default_factory=dict)
    count: int = 0
    """How many members an error about an array speaks of; 0: as many as are listed."""

    def __call__(self, value: Any, path: str = "") -> dict[str, Any]:
        if isinstance(value, list):
            count = self.count or len(self.members)
            _misfit(path, f"invalid length {len(value)}, expected struct {self.name} with {count} elements")
        if not isinstance(value, dict):
            _misfit(path, f"invalid type: {_shown(value)}, expected struct {self.name}")
        found = {}
        for name, one in value.items():  # in the order of the document: the first fault is the one that is told
            if name in self.members:
                found[name] = self.members[name][0](one, f"{path}.{name}" if path else name)
        for name, (_, default) in self.members.items():
            if name in found:
                continue
            if default is REQUIRED:
                _misfit(path, f"missing field `{name}`", name)
            found[name] = json.loads(json.dumps(default))  # a value of its own
        return found


def required(*names: str) -> dict[str, tuple[Read, Any]]:
    return dict.fromkeys(names, (string, REQUIRED))


def maybe(*names: str) -> dict[str, tuple[Read, Any]]:
    return dict.fromkeys(names, (optional(string), None))


_EXTRAS: dict[str, tuple[Read, Any]] = {
    "reflection_depth": (integer("i32", I32), 0),
    "memory_kind": (string, "observation"),
    "citations": (sequence(anything), []),
    "confidence_source": (string, "caller_provided"),
    "persona_version": (optional(integer("i32", I32)), None),
    "source_span": (anything, None),
    "confidence_signals": (anything, None),
    **maybe("entity_id", "source_uri", "confidence_decayed_at"),
}
EXTRA_FIELDS = tuple(_EXTRAS)


def memory_shape(release: Release) -> Shape:
    """A memory as it may arrive."""
    members = {
        **required("id", "namespace", "title", "content", "source", "created_at", "updated_at"),
        "tier": (one_of(TIERS), REQUIRED),
        "tags": (sequence(string), REQUIRED),
        "priority": (integer("i32", I32), REQUIRED),
        "confidence": (real, REQUIRED),
        "access_count": (integer("i64", I64), REQUIRED),
        **maybe("last_accessed_at", "expires_at"),
        "metadata": (anything, {}),
        **(_EXTRAS if release.extra_fields else {}),
    }
    return Shape("Memory", members)


def push_shape(release: Release) -> Shape:
    """The body of a push."""
    relation = string if release.push_relations is None else one_of(release.push_relations)
    link = {**required("source_id", "target_id", "created_at"), "relation": (relation, REQUIRED)}
    if release.extra_fields:
        link |= {"signature": (optional(sequence(integer("u8", 256))), None)}
        link |= maybe("observed_by", "valid_from", "valid_until")
    approval = Shape("Approval", required("agent_id", "approved_at"))
    pending = Shape(
        "PendingAction",
        {
            **required("id", "action_type", "namespace", "requested_by", "requested_at", "status"),
            **maybe("memory_id", "decided_by", "decided_at"),
            "payload": (anything, REQUIRED),
            "approvals": (sequence(approval), []),
        },
    )
    decision = Shape("PendingDecision", {**required("id", "decider"), "approved": (boolean, REQUIRED)})
    meta = Shape(
        "NamespaceMetaEntry",
        {**required("namespace", "standard_id"), **maybe("parent_namespace", "updated_at")},
    )
    ids: tuple[Read, Any] = (sequence(string), [])
    return Shape(
        "SyncPushBody",
        {
            "sender_agent_id": (string, REQUIRED),
            "sender_clock": (anything, {}),
            "memories": (sequence(memory_shape(release)), REQUIRED),
            "deletions": ids,
            "archives": ids,
            "restores": ids,
            "links": (sequence(Shape("MemoryLink", link)), []),
            "pendings": (sequence(pending), []),
            "pending_decisions": (sequence(decision), []),
            "namespace_meta": (sequence(meta), []),
            "namespace_meta_clears": ids,
            "dry_run": (boolean, False),
            **(maybe("sender_wall_clock") if release.push_members == 13 else {}),
        },
        release.push_members,
    )
