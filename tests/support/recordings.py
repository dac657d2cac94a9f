"""Recorded exchanges with the real older daemon, and the comparison of an answer with one of them.

What a node makes up itself cannot be equal in two runs. Three kinds of it are told apart, wherever in a text they are:

    ids         a UUID of the recording stands for one UUID of this run, the same one everywhere
    anonymous   `anonymous:req-<8 hex>`, likewise
    times       a time that no request holds may stand for another such one; what was sent comes back as it was

Everything else must be equal. Positions in the deserialiser's sentences are cut off, and so is what it says of a syntax
error. Ids under `potential_contradictions` are compared without their order, which is that of a full-text ranking, and
`score` and `tokens_used` of a recall not at all.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent.parent / "recordings"
RANKED = ("score", "tokens_used")
"""Numbers of a recall that its ranking and its tokenizer make."""
COMPARED_HEADERS = ("content-type", "vary", "allow", "retry-after", "x-quota-reset-at", "x-quota-limit")
_UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)"
_MADE_UP = re.compile(rf"({_UUID}|anonymous:req-[0-9a-f]{{8}}|{_TIME})")
_IS_TIME = re.compile(_TIME)
_PREFIX = re.compile(r"(?<=/memories/)[0-9a-f]{8}$")
_TRUNCATED = 1500
"""Bodies of requests were recorded up to so many characters."""


@dataclass(frozen=True)
class Recorded:
    """One exchange."""

    label: str
    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    status: int
    answer_headers: dict[str, str]
    answer: str

    @property
    def at(self) -> str:
        """The second in which it was answered, as RFC 3339."""
        return parsedate_to_datetime(self.answer_headers["date"]).isoformat()


def raw(version: str, name: str) -> list[Any]:
    """A file as it is."""
    return list(json.loads((FOLDER / version / f"{name}.json").read_text()))


def load(version: str, name: str) -> list[Recorded]:
    """The exchanges of a file; bodies that were recorded in part are made whole by what their label says."""
    return [_recorded(one) for one in raw(version, name)]


def _recorded(one: Any) -> Recorded:
    asked, told = one["request"], one["response"]
    headers = asked["headers"]
    pairs = headers.items() if isinstance(headers, dict) else headers
    text = asked["body"]["text"]
    label = one.get("label", "")
    body = text.encode()
    if len(text) == _TRUNCATED and asked["body_bytes"] > _TRUNCATED:
        body = _whole(label)
    # Header values were written down byte for byte as Latin-1.
    values = tuple((name, value.encode("latin-1").decode()) for name, value in pairs)
    target = asked.get("target") or asked["path"]
    told_headers = dict(told["headers"])
    return Recorded(label, asked["method"], target, values, body, told["status"], told_headers, told["body"]["text"])


def _whole(label: str) -> bytes:
    body: dict[str, Any] = {"sender_agent_id": "host:peer-x", "sender_clock": {"entries": {}}, "memories": []}
    at = "2026-11-24T07:25:49.967264+00:00"
    row: dict[str, Any] = {"tier": "mid", "namespace": "rec", "content": "x", "tags": ["a"], "priority": 5}
    row |= {"confidence": 1.0, "source": "api", "access_count": 0, "created_at": at, "updated_at": at, "metadata": {}}
    match label:
        case "1001-memories":
            body["memories"] = [{**row, "id": f"id-{n}", "title": f"T {n}"} for n in range(1001)]
        case "1001-deletions":
            body["deletions"] = [str(n) for n in range(1001)]
        case "1001-links":
            link = {"target_id": "z", "relation": "related_to", "created_at": at}
            body["links"] = [{"source_id": str(n), **link} for n in range(1001)]
        case "over-2MiB":
            body["memories"] = [{**row, "id": f"id-{n}", "title": f"T {n}", "content": "y" * 60_000} for n in range(36)]
        case _:
            raise LookupError(f"nobody says how the body of {label!r} went on")
    return json.dumps(body).encode()


@dataclass
class Comparison:
    """What stands for what in one run, learned as its exchanges go by."""

    stands_for: dict[str, str] = field(default_factory=dict)
    _stood_for: dict[str, str] = field(default_factory=dict)
    sent: set[str] = field(default_factory=set)
    """Times that requests of the recording hold: they come back as they went."""

    def asks(self, text: str) -> str:
        """A part of a recorded request, in this run's ids."""
        self.sent.update(_IS_TIME.findall(text.replace("%2B", "+").replace("%3A", ":")))
        text = _MADE_UP.sub(lambda found: self.stands_for.get(found[0], found[0]), text)
        return _PREFIX.sub(lambda found: self._prefixes().get(found[0], found[0]), text)

    def _prefixes(self) -> dict[str, str]:
        return {recorded[:8]: ours[:8] for recorded, ours in self.stands_for.items()}

    def differences(self, recorded: Any, got: Any, place: str = "") -> Iterator[str]:
        """In words; nothing where one may stand for the other."""
        if place.endswith(".potential_contradictions"):
            if sorted(self.stands_for.get(one, one) for one in recorded) != sorted(got):
                yield f"{place}: {got!r}, recorded {recorded!r}"
        elif isinstance(recorded, dict) and isinstance(got, dict):
            for name in sorted(recorded.keys() | got.keys()):
                if name not in recorded or name not in got:
                    yield f"{place}.{name}: {'not recorded' if name not in recorded else 'missing'}"
                else:
                    yield from self.differences(recorded[name], got[name], f"{place}.{name}")
        elif isinstance(recorded, list) and isinstance(got, list):
            if len(recorded) != len(got):
                yield f"{place}: {len(got)} items, {len(recorded)} recorded"
            for at, pair in enumerate(zip(recorded, got, strict=False)):
                yield from self.differences(*pair, f"{place}[{at}]")
        elif place.rpartition(".")[2] in RANKED and isinstance(got, int | float):
            return
        elif isinstance(recorded, str) and isinstance(got, str):
            if not self._same(recorded, got):
                yield f"{place}: {got!r}, recorded {recorded!r}"
        elif type(recorded) is not type(got) or recorded != got:
            yield f"{place}: {got!r}, recorded {recorded!r}"

    def _same(self, recorded: str, got: str) -> bool:
        ours, theirs = _MADE_UP.split(got), _MADE_UP.split(recorded)
        if len(ours) != len(theirs) or ours[::2] != theirs[::2]:
            return False
        return all(self._may_stand(*pair) for pair in zip(theirs[1::2], ours[1::2], strict=True))

    def _may_stand(self, recorded: str, got: str) -> bool:
        if _IS_TIME.fullmatch(recorded):
            return _IS_TIME.fullmatch(got) is not None and (recorded == got or not {recorded, got} & self.sent)
        if got[:9] == "anonymous" and recorded[:9] != "anonymous":
            return False
        meant = self.stands_for.setdefault(recorded, got), self._stood_for.setdefault(got, recorded)
        return meant == (got, recorded)

    def answer_differences(self, recorded: Recorded, status: int, headers: dict[str, str], body: str) -> Iterator[str]:
        """An answer against the recorded one: status, the headers that matter, the body."""
        if status != recorded.status:
            yield f"status {status}, recorded {recorded.status}: {body[:300]}"
            return
        for name in COMPARED_HEADERS:
            yield from self.differences(recorded.answer_headers.get(name), headers.get(name), f"header {name}")
        if recorded.answer[:1] in "{[" and recorded.answer:
            if not body.startswith(recorded.answer[:1]):
                yield f"{body!r}, recorded {recorded.answer!r}"
                return
            yield from self.differences(json.loads(recorded.answer), json.loads(body))
            if json.dumps(json.loads(body), sort_keys=True, separators=(",", ":"), ensure_ascii=False) != body:
                yield "keys are not in alphabetical order, or there are spaces"
        else:
            yield from self.differences(_cut(recorded.answer), _cut(body))


def _cut(text: str) -> str:
    if text.startswith("Failed to parse the request body as JSON"):
        return text.partition(":")[0]
    return re.sub(r" at line \d+ column \d+$", "", text)
