"""How this node stands with each peer, in one word and one sentence, for `sync status`, the API and the log alike.

"In step" is said of what was confirmed; "identical" only where the peer's digest is this node's. Whatever else is known
to keep the two apart comes before both, and is said for exactly as long as it lasts.
"""

import shlex
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from node import plain
from node.refusals import OURS, THEIRS, Heard

SILENCE = 300.0
"""Seconds after which a peer that only calls here counts as gone: ten of its usual periods."""


@dataclass(frozen=True, slots=True)
class Row:
    """What is said of one standing."""

    exit_code: int
    weight: int
    """Of several peers the one that weighs most decides about the exit code."""
    words: str
    meaning: str


STANDINGS: dict[str, Row] = {
    "identical": Row(0, 0, "identical", "its digest is this node's: both keep the same"),
    "in_scope": Row(0, 1, "in step within the scope", "what the rules let through was confirmed; no more is compared"),
    "in_step": Row(0, 2, "in step", "everything was confirmed; no digest has been compared yet"),
    "refusing": Row(10, 3, "in step, but not with everything", "records are refused now, here or there"),
    "differs": Row(11, 4, "confirmed, and yet different", "all was confirmed, none refused, and the digests differ"),
    "starting": Row(12, 5, "starting", "no answer yet since this node or the peer was started"),
    "behind": Row(12, 6, "behind", "changes are on their way, or wait for their time"),
    "unreachable": Row(13, 7, "unreachable", "no answer: network, address, TLS, or silence"),
    "refused": Row(14, 8, "refused by it", "it does not let this node in, or takes nothing from it"),
    "distrusted": Row(15, 9, "not trusted here", "this node does not accept the certificate that it shows"),
    "failing": Row(16, 10, "failing", "another failure, of this node or of the peer; the sentence says which"),
}  # fmt: skip
"""By name: `standing` of a peer in the API."""
CLOCKS_DIFFER = 60.0
"""Seconds between two clocks from which on it is told."""
ATTENTION = 1
"""Exit code where this node itself has an alarm, or an edit that is not in force: one that waits for a start, too."""

_REFUSED = frozenset((
    "refused", "expired", "not_yet_valid", "unknown_ca", "wrong_purpose", "bad_certificate", "no_certificate",
    "http_403", "http_401",
))  # fmt: skip
_DISTRUSTED = frozenset((
    "wrong_pin", "peer_unlisted", "peer_unknown_ca", "peer_expired", "peer_not_yet_valid", "peer_untrusted", "clock",
    "own_address",
))  # fmt: skip
_UNREACHABLE = frozenset((
    "unknown_host", "not_listening", "timeout", "disconnected", "unreachable", "not_tls", "tls", "tls_version",
))  # fmt: skip


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of one link beyond the state of its two lanes."""

    number: int
    """Where our feed stands."""
    digest: str
    whole: bool
    """Our rules for the peer leave nothing out."""
    reached: int | None
    """The number of its feed that our cursor goes on from; None where we hold none."""
    here: Mapping[str, int]
    there: Mapping[str, int]
    said: Mapping[str, tuple[str, str]]
    """By who: the last reason and sentence."""
    heard: Heard | None
    rules_changed: bool = False
    """What was refused was judged by other rules than those of now, and comes again."""


def judged(entry: Mapping[str, Any], facts: Facts) -> dict[str, Any]:
    """A peer's entry of `Links.status`, with `standing`, its sentence, and what is refused by which side."""
    name, reason = _standing(entry, facts)
    heard = facts.heard
    return {
        **entry,
        "standing": name,
        "behind": 0 if name == "identical" else entry["behind"],
        "reason": reason,
        "refused": max(entry["refused"], sum(facts.here.values()) + sum(facts.there.values())),
        "refused_here": dict(facts.here),
        "refused_there": dict(facts.there),
        "digest": None if heard is None else heard.standing.digest,
        "heard_seconds": None if heard is None else round(time.monotonic() - heard.at, 1),
    }


def since(entry: Mapping[str, Any], before: tuple[str, float] | None, now: float) -> tuple[str, float]:
    """The standing, and the monotonic second since when it is that, as far as anybody looked."""
    if entry["state"] == "failing" and entry["for_seconds"] is not None:
        return entry["standing"], now - entry["for_seconds"]
    if before is not None and before[0] == entry["standing"]:
        return before
    return entry["standing"], now


def _standing(entry: Mapping[str, Any], facts: Facts) -> tuple[str, str]:
    code, reason = entry["code"], str(entry["reason"])
    if entry["state"] == "failing":
        return _of_failure(str(code)), reason
    is_silent = entry["url"] is None and entry["for_seconds"] is not None and entry["for_seconds"] > SILENCE
    if is_silent:
        return "unreachable", f"{reason}, and has no address here: look whether it runs, or give it a url"
    is_equal = facts.heard is not None and facts.heard.standing.digest == facts.digest
    if entry["state"] == "behind" and entry["url"] is None and entry["code"] is None and is_equal:
        entry = {**entry, "state": "in_step"}  # it has not asked for more since, and needs nothing more
    if entry["state"] in ("starting", "behind"):
        return str(entry["state"]), _with_refusals(reason, facts)
    if facts.rules_changed and facts.here:
        return "behind", "this node's rules for it have changed: what was refused is judged again when it comes again"
    if facts.here or facts.there or entry["refused"]:
        return "refusing", _with_refusals(reason, facts)
    heard = facts.heard
    if heard is None:
        return ("in_step" if facts.whole else "in_scope"), f"{reason}; it has told no digest"
    ago = f"{time.monotonic() - heard.at:.0f} s ago"
    if is_equal:
        return "identical", f"its digest was this node's {ago}"
    if not facts.whole or not heard.standing.whole:
        whose = "this node's rules for it" if not facts.whole else "its rules for this node"
        return "in_scope", f"{reason}; {whose} leave namespaces or a direction out, which are not compared"
    if heard.number != facts.number:
        return "in_step", f"{reason}; its digest of {ago} is from before the last change here"
    if facts.reached is None or facts.reached < heard.standing.feed:
        ahead = heard.standing.feed - (facts.reached or 0)
        return "behind", f"its feed has gone on by {ahead} since this node last read it, and its digest is another"
    return "differs", (
        f"{reason}, and yet its digest is {heard.standing.digest} and this node's {facts.digest}: one of the two does"
        " not take what the other keeps, and was started anew since it said so. This node reads its feed once more from"
        " the start, to name what it does not take; the peer's own `sync status` names the rest"
    )


def as_listed(entry: Mapping[str, Any], is_listed: bool) -> dict[str, Any]:
    """A peer's entry of `Links.status`, as this node's allowlist has it now: the lanes know how the last request ended.

    Who is not listed gets through on neither side, whatever was confirmed before; what fails for another reason keeps
    that reason. Who failed for that alone, and is listed since, is being called.
    """
    if is_listed and entry["code"] == "peer_unlisted":
        reason = "its certificate is on our allowlist now; waiting for its first answer since"
        return {**entry, "state": "starting", "code": None, "reason": reason, "for_seconds": None}
    if is_listed or entry["state"] == "failing":
        return dict(entry)
    who, name = entry["fingerprint"], shlex.quote(entry["peer"])
    reason = (
        f"the peer's certificate ({who}) is not on our allowlist; let it in: `ai-memory allowlist add {who} --label"
        f" {name}`, or end it: `ai-memory peer remove {name}`"
    )
    return {**entry, "state": "failing", "code": "peer_unlisted", "reason": reason, "for_seconds": None}


def _of_failure(code: str) -> str:
    for name, codes in (("refused", _REFUSED), ("distrusted", _DISTRUSTED), ("unreachable", _UNREACHABLE)):
        if code in codes:
            return name
    return "failing"


def _with_refusals(reason: str, facts: Facts) -> str:
    parts = []
    for who, counts in ((OURS, facts.here), (THEIRS, facts.there)):
        if not counts:
            continue
        total = sum(counts.values())
        by_reason = ", ".join(f"{reason} {count}" for reason, count in sorted(counts.items()))
        text = f"{who} refuses {total} {'record' if total == 1 else 'records'} now ({by_reason})"
        if who in facts.said:
            text += "; {} said {}: {}".format(who, *facts.said[who])
        parts.append(text)
    return plain.clauses((*parts, reason))


def clock_notes(ahead: float | None) -> list[str]:
    """What is to be said of a peer's clock. `ahead`: seconds, of this node's."""
    if ahead is None or abs(ahead) < CLOCKS_DIFFER:
        return []
    side = "ahead of" if ahead > 0 else "behind"
    return [f"its clock is {duration(abs(ahead))} {side} this node's: set the one that is wrong (`date -u` on both)"]


# --- as text


def exit_code(told: Mapping[str, Any]) -> int:
    """Of `sync status`: of the heaviest that there is to say."""
    if told["alarms"] or told["edits"]:
        return ATTENTION
    rows = [STANDINGS[peer["standing"]] for peer in told["peers"]]
    return max(rows, key=lambda row: row.weight).exit_code if rows else 0


def lines(told: Mapping[str, Any]) -> Iterator[str]:
    """A status for people, a line each."""
    yield shown(f"{told['node']}  feed {told['feed']}  digest {told['digest']}  conflicts {told['conflicts']}")
    unwell = [alarm["detail"] for alarm in told["alarms"] if alarm["kind"] == "unwell"]
    if told["federation_url"] is None and not any("federation listener" in detail for detail in unwell):
        yield "the federation listener is closed: the allowlist is empty"
    for one in told["edits"]:
        lasting = f" for {duration(one['for_seconds'])}" if one["for_seconds"] is not None else ""
        yield shown(f"NOT IN FORCE {one['what']} {one['state']}{lasting}: {_field(one['reason'])}")
    for peer in told["peers"]:
        yield line(peer)
        for note in peer["notes"]:
            yield shown(f"{'':16}{_field(note)}")
    for alarm in told["alarms"]:
        kind, peer, detail = (_field(alarm[name] or "") for name in ("kind", "peer", "detail"))
        yield shown(f"ALARM {kind} {peer}: {detail}")


def line(peer: Mapping[str, Any]) -> str:
    """One peer."""
    lasting = f" for {duration(peer['for_seconds'])}" if peer["for_seconds"] is not None else ""
    behind = f", {peer['behind']} behind" if peer["behind"] else ""
    return shown(f"{peer['peer']:16}{STANDINGS[peer['standing']].words}{lasting}{behind}: {_field(peer['reason'])}")


def shown(text: str) -> str:
    """One line, whatever a peer has put into it. All that a status shows of others goes through here."""
    return plain.line(text)


def _field(text: str) -> str:
    """A sentence inside a line, without the blanks that push what follows to where a terminal begins a new row."""
    return plain.field(text, plain.MOST_LINE)


def duration(seconds: float) -> str:
    """Two figures are enough for a person."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
