"""Those at the gate who have not passed yet: who has to go when it is crowded, whose turn it is, how long each has.

Values and decisions: nothing here knows a socket, and the time is an argument (docs/decisions/0046).
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tls.address import MOST_NETWORKS, Network
from tls.fingerprint import Fingerprint

GUARANTEED = 4
"""One place in so many is kept for addresses from which a listed certificate came lately, one for all others."""
HURRY = 5.0
"""So many times less time than in peace has a handshake where every place is taken."""
RECENT = 10.0
"""Seconds for which a network's handshakes count against its next."""
LATELY = 86_400.0
"""Seconds for which the address of a listed certificate is known."""
REMEMBERED = 1_024
"""Addresses that are known at one time."""


@dataclass(frozen=True, slots=True)
class Visitor:
    """A connection that has not passed the gate."""

    number: int
    """Its place in the order of arrival."""
    networks: tuple[Network, ...]
    """The widest first; the last is its address."""
    is_known: bool
    """A listed certificate came from its address lately."""
    since: float
    """When it came: seconds of any clock that only goes forward."""
    is_refused: bool = False
    """Its alert is on the way, and it is only waited for until it hangs up."""


@dataclass(frozen=True, slots=True)
class Room:
    """How many find place."""

    most: int
    """In all."""
    each: int
    """Of one address; a network that is wider has a multiple of it."""

    @property
    def guaranteed(self) -> int:
        """Places that those of known addresses, and those of others, have for themselves."""
        return self.most // GUARANTEED


class Crowd:
    """The visitors of one room, counted by their networks; those of known addresses apart from all others."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._visitors: dict[bool, dict[str, dict[int, Visitor]]] = {False: {}, True: {}}
        """Whether known, and address, to those who came from it, the oldest first."""
        self._counts: dict[bool, Counter[str]] = {False: Counter(), True: Counter()}
        self._sizes = {False: 0, True: 0}

    def __len__(self) -> int:
        return self._sizes[False] + self._sizes[True]

    @property
    def is_empty(self) -> bool:
        """Nobody is left, and nothing that was counted."""
        return not (len(self) or any(self._visitors.values()) or any(self._counts.values()))

    @property
    def load(self) -> float:
        """From 0 to 1: how much of what either kind may have is taken."""
        return max(self._sizes.values()) / (self._room.most - self._room.guaranteed)

    def __iter__(self) -> Iterator[Visitor]:
        for addresses in self._visitors.values():
            for members in addresses.values():
                yield from members.values()

    def add(self, visitor: Visitor) -> None:
        address = visitor.networks[-1].name
        self._visitors[visitor.is_known].setdefault(address, {})[visitor.number] = visitor
        self._counts[visitor.is_known].update(network.name for network in visitor.networks)
        self._sizes[visitor.is_known] += 1

    def replace(self, visitor: Visitor) -> None:
        """The same visitor, of whom something else is known by now."""
        self._visitors[visitor.is_known][visitor.networks[-1].name][visitor.number] = visitor

    def remove(self, visitor: Visitor) -> None:
        address, known = visitor.networks[-1].name, visitor.is_known
        members = self._visitors[known][address]
        del members[visitor.number]
        if not members:
            del self._visitors[known][address]
        counts = self._counts[known]
        for network in visitor.networks:
            counts[network.name] -= 1
            if not counts[network.name]:
                del counts[network.name]
        self._sizes[known] -= 1

    def to_go(self, newest: Visitor) -> tuple[Visitor, str] | None:
        """Who has to go now that `newest` was added, and why; None: there is room for all.

        It is never `newest` for as long as there is another in its place.
        """
        counts, room = self._counts[newest.is_known], self._room
        for network in reversed(newest.networks):
            if counts[network.name] > network.share * room.each:
                what = "address" if network is newest.networks[-1] else f"network ({network.name})"
                return self._heaviest(
                    newest.is_known, network
                ), f"{counts[network.name] - 1} of this {what} are pending"
        full = f"{len(self) - 1} are pending"
        if self._sizes[newest.is_known] > room.most - room.guaranteed:
            return self._heaviest(newest.is_known), full
        if len(self) > room.most:
            # Neither kind has more than it may; so strangers have more than is guaranteed to them.
            return self._heaviest(known=False), full
        return None

    def _heaviest(self, known: bool, within: Network | None = None) -> Visitor:
        addresses = self._visitors[known]
        firsts = (next(iter(members.values())) for members in addresses.values())
        if within is not None:
            firsts = (visitor for visitor in firsts if within in visitor.networks)
        chosen = max(firsts, key=lambda visitor: (weight(visitor, self._counts[known]), -visitor.number))
        members = addresses[chosen.networks[-1].name].values()
        return next((visitor for visitor in members if visitor.is_refused), chosen)


def weight(visitor: Visitor, counts: Mapping[str, int]) -> tuple[float, ...]:
    """How much of its share each of its networks has, the worst first: whoever is alone in a bad one goes last there.

    As many figures for each visitor: who has fewer networks is not lighter for that.
    """
    shares = [counts.get(one.name, 0) / one.share for one in visitor.networks]
    return tuple(sorted(shares + shares[-1:] * (MOST_NETWORKS - len(shares)), reverse=True))


def patience(longest: float, load: float) -> float:
    """Seconds that a handshake may take: `longest` up to half a house, and from there less and less."""
    crowded = min(1.0, max(0.0, 2 * load - 1))
    return longest * (1 - crowded * (1 - 1 / HURRY))


class Turns:
    """Which hello is answered next, and when: so many a second, whoever had the fewest lately first.

    Answering costs a signature and two key exchanges, and nobody has shown a certificate yet.
    """

    def __init__(self, rate: float, now: float) -> None:
        self._rate = rate
        self._left, self._at = self._burst, now
        self._lately: Counter[str] = Counter()
        """Turns that networks had in this period and the one before it."""
        self._now: Counter[str] = Counter()
        """In this period."""
        self._period = now
        self._waiting: dict[str, dict[int, Visitor]] = {}
        """Address to those who wait there, in order."""

    @property
    def _burst(self) -> float:
        return max(1.0, 2 * self._rate)

    @property
    def is_wanted(self) -> bool:
        """Somebody waits."""
        return bool(self._waiting)

    def wait(self, visitor: Visitor) -> None:
        self._waiting.setdefault(visitor.networks[-1].name, {})[visitor.number] = visitor

    def leave(self, visitor: Visitor) -> None:
        """Does not wait any more; nothing where it does not wait."""
        address = visitor.networks[-1].name
        members = self._waiting.get(address, {})
        members.pop(visitor.number, None)
        if not members:
            self._waiting.pop(address, None)

    def next(self, now: float) -> Visitor | float:
        """Whose turn it is, who waits no longer then; or in how many seconds somebody's is. Only while one waits."""
        self._left = min(self._burst, self._left + (now - self._at) * self._rate)
        self._at = now
        if self._left < 1:
            return (1 - self._left) / self._rate
        if now - self._period >= RECENT:
            self._lately = Counter(self._now) if now - self._period < 2 * RECENT else Counter()
            self._now, self._period = Counter(), now
        firsts = (next(iter(members.values())) for members in self._waiting.values())
        chosen = min(firsts, key=lambda visitor: (weight(visitor, self._lately), visitor.number))
        self._left -= 1
        for counted in (self._lately, self._now):
            counted.update(network.name for network in chosen.networks)
        self.leave(chosen)
        return chosen


class Known:
    """The addresses from which a certificate came lately that was listed, the last to come last."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[Fingerprint, float]] = {}

    def came(self, address: str, fingerprint: Fingerprint, now: float) -> None:
        self._seen.pop(address, None)
        self._seen[address] = fingerprint, now
        if len(self._seen) > REMEMBERED:
            del self._seen[next(iter(self._seen))]

    def whose(self, address: str, now: float) -> Fingerprint | None:
        """The certificate that came from there last."""
        fingerprint, at = self._seen.get(address, (None, now))
        return fingerprint if now - at < LATELY else None


def to_yield(newcomer: Fingerprint, held: Mapping[Fingerprint, int], most: int, each: int) -> Fingerprint | str | None:
    """Whether a listed peer gets one more connection: None: yes; a peer: yes, in place of one of that; text: why not.

    `held`: the connections of each peer.
    """
    own = held.get(newcomer, 0)
    if own >= each:
        return f"{each} connections of this peer are open"
    if sum(held.values()) < most:
        return None
    heaviest = max(held, key=lambda peer: held[peer])
    return heaviest if held[heaviest] > own + 1 else f"{most} connections are open"
