"""What `sync status` of one node has to say of another while something is wrong: a table, and what it follows from."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(slots=True)
class World:
    """What is wrong right now. Nodes by their places, links as (from, to)."""

    stopped: set[int] = field(default_factory=set)
    paused: set[int] = field(default_factory=set)
    unplugged: set[int] = field(default_factory=set)
    full: set[int] = field(default_factory=set)
    ahead: set[int] = field(default_factory=set)
    behind: set[int] = field(default_factory=set)
    cut: set[tuple[int, int]] = field(default_factory=set)
    unlisted: set[tuple[int, int]] = field(default_factory=set)
    """(at, whom)."""
    closed: set[int] = field(default_factory=set)
    """Its list is empty: it does not listen for peers."""
    rotated: set[int] = field(default_factory=set)
    """Has a new certificate that nobody lists, and the old one is listed nowhere any more."""
    in_transition: set[int] = field(default_factory=set)
    """Something is changing there, and nothing in particular must be said of it: a restart, an announced rotation."""

    @property
    def is_calm(self) -> bool:
        return self == World()


@dataclass(frozen=True, slots=True)
class Truth:
    """What must be read: a code, and words in the sentence. `{own}` in the words is the observer's fingerprint."""

    codes: frozenset[str | None]
    words: str = ""

    def is_told(self, entry: dict[str, object], own: str) -> bool:
        words = self.words.replace("{own}", re.escape(own))
        return entry["code"] in self.codes and re.search(words, str(entry["reason"])) is not None


Rule = tuple[str, Callable[[World, int, int], bool], Truth | None]
"""Name, when it applies to (world, observer, peer), and what must be told; None: nothing can be asked of it."""

NO_ANSWER = Truth(frozenset(("timeout",)), "no answer in time")
RULES: tuple[Rule, ...] = (
    ("the observer is away", lambda w, o, p: o in w.stopped | w.paused, None),
    ("something is changing", lambda w, o, p: bool({o, p} & w.in_transition), None),
    ("our own cable", lambda w, o, p: o in w.unplugged, Truth(frozenset(("timeout", "unreachable")))),
    ("the way is cut", lambda w, o, p: p in w.unplugged or bool({(o, p), (p, o)} & w.cut), NO_ANSWER),
    ("it is stopped", lambda w, o, p: p in w.stopped, Truth(frozenset(("not_listening",)), "is the peer running")),
    ("its list is empty, and it is paused", lambda w, o, p: p in w.closed and p in w.paused,
     Truth(frozenset(("not_listening", "timeout")))),
    ("its list is empty", lambda w, o, p: p in w.closed, Truth(frozenset(("not_listening",)), "nobody listens")),
    ("it is paused", lambda w, o, p: p in w.paused, NO_ANSWER),
    # Two that each keep the other out: whose refusal comes first is a matter of chance.
    (
        "both keep each other out",
        lambda w, o, p: (o in w.rotated and p in w.rotated) or ((o, p) in w.unlisted and p in w.rotated)
        or ((p, o) in w.unlisted and p in w.rotated) or ((o, p) in w.unlisted and (p, o) in w.unlisted),
        Truth(frozenset(("refused", "wrong_pin", "peer_unlisted"))),
    ),
    ("its certificate is another", lambda w, o, p: p in w.rotated,
     Truth(frozenset(("wrong_pin",)), "found sha256:[0-9a-f]{64}, expected sha256:")),
    ("we took it off our list", lambda w, o, p: (o, p) in w.unlisted and o not in w.rotated,
     Truth(frozenset(("peer_unlisted",)), "not on our allowlist")),
    ("it does not know our certificate", lambda w, o, p: o in w.rotated or (p, o) in w.unlisted,
     Truth(frozenset(("refused",)), "add this line to its allowlist: {own}")),
    ("its disk is full", lambda w, o, p: p in w.full and o not in w.full,
     Truth(frozenset(("http_507",)), "disk is full")),
    ("our disk is full", lambda w, o, p: o in w.full and p not in w.full,
     Truth(frozenset(("store_full",)), "this node has a full disk")),
    ("both disks are full", lambda w, o, p: o in w.full and p in w.full,
     Truth(frozenset(("store_full", "http_507")), "disk is full|full disk")),
    ("our clock is ahead of its", lambda w, o, p: _offset(w, o) > _offset(w, p),
     Truth(frozenset((None,)), "the peer refuses .* now .*clock_skew: .* in the future")),
    ("its clock is ahead of ours", lambda w, o, p: _offset(w, p) > _offset(w, o),
     Truth(frozenset(("clock_skew",)), "ahead of this node's clock")),
)  # fmt: skip
"""The first that applies counts."""


def truth(world: World, observer: int, peer: int) -> tuple[str, Truth] | None:
    """Which rule applies and what must be told; None where nothing must."""
    for name, applies, told in RULES:
        if applies(world, observer, peer):
            return None if told is None else (name, told)
    return None


def _offset(world: World, node: int) -> int:
    return (node in world.ahead) - (node in world.behind)
