"""Who goes where it is crowded, whose turn comes, how long each has: decisions about values, without a socket."""

import random
from collections import Counter
from collections.abc import Iterable

import pytest

from tls import address as address_module
from tls import crowd as crowd_module
from tls.address import networks
from tls.crowd import LATELY, RECENT, REMEMBERED, Crowd, Known, Room, Turns, Visitor, patience, to_yield
from tls.fingerprint import Fingerprint

SEED = 20_260_202
ROOM = Room(64, 8)
PEER = "198.51.100.7"


def _came(addresses: Iterable[str], known: frozenset[str] = frozenset(), first: int = 0) -> list[Visitor]:
    networks.cache_clear()
    return [
        Visitor(number, networks(one), one in known, float(number)) for number, one in enumerate(addresses, start=first)
    ]


def _played(visitors: Iterable[Visitor], room: Room = ROOM) -> tuple[Crowd, list[Visitor]]:
    """All of them come in this order: who is left, and who had to go."""
    crowd, gone = Crowd(room), []
    for visitor in visitors:
        crowd.add(visitor)
        going = crowd.to_go(visitor)
        if going is not None:
            crowd.remove(going[0])
            gone.append(going[0])
    return crowd, gone


FLOODS = {
    "64 of 8 addresses": [f"203.0.{last}.1" for last in range(8)] * 8,
    "64 of 8 networks of one subscriber": [f"2001:db8:1:{last:x}::1" for last in range(8)] * 8,
    "one of each of 256 networks of one site": [f"2001:db8:1:{last * 256:x}::1" for last in range(256)],
    "one of each host of a /24": [f"203.0.113.{last}" for last in range(256)],
    "the peer's own /24": [f"198.51.100.{last}" for last in range(100, 116)] * 16,
    "the peer's own subscriber, IPv6": [f"2001:db8:1:{last:x}::1" for last in range(4)] * 64,
}
"""All silent, and all there before the peer comes."""


@pytest.mark.parametrize("flood", FLOODS)
def test_the_peer_stays_and_the_flood_makes_room(flood: str) -> None:
    """It comes into a full house, and forty more of the flood come after it: it is still there."""
    peer = "2001:db8:1:ff::7" if "IPv6" in flood else PEER
    crowd, gone = _played(_came([*FLOODS[flood], peer, *FLOODS[flood][:40]]))
    assert any(visitor.networks == networks(peer) for visitor in crowd)
    assert len(crowd) <= ROOM.most - ROOM.guaranteed
    assert len({visitor.number for visitor in gone}) == len(gone)


def test_eight_networks_of_one_subscriber_have_one_share() -> None:
    """64 connections of eight /64s that lie in one /56: eight stay."""
    crowd, _ = _played(_came(FLOODS["64 of 8 networks of one subscriber"]))
    assert len(crowd) == 8


def test_counted_by_64_bits_they_would_have_eight(monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: where wider networks are not counted, the subscriber takes all there is for strangers."""
    monkeypatch.setitem(address_module.SHARES, 6, {64: 1})
    crowd, _ = _played(_came(FLOODS["64 of 8 networks of one subscriber"]))
    networks.cache_clear()
    assert len(crowd) == 48


@pytest.mark.parametrize("flood", FLOODS)
def test_where_the_newest_goes_the_peer_is_locked_out(flood: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: whoever is there first keeps the place, as it was before."""
    if "/24" in flood or "site" in flood or "IPv6" in flood:  # only its whole network's share is used up there
        monkeypatch.setitem(address_module.SHARES, 4, {24: 1, 32: 1})
        monkeypatch.setitem(address_module.SHARES, 6, {48: 1, 64: 1})
    monkeypatch.setattr(Crowd, "_heaviest", lambda crowd, known, within=None: max(crowd, key=lambda one: one.number))
    peer = "2001:db8:1:ff::7" if "IPv6" in flood else PEER
    crowd, _ = _played(_came([*FLOODS[flood] * 2, peer]), Room(8, 8))
    networks.cache_clear()
    assert not any(visitor.networks == networks(peer) for visitor in crowd)


def test_the_oldest_of_the_heaviest_goes() -> None:
    """One address has four places of ten, others one each: the first of the four makes room."""
    crowded = ["203.0.113.1"] * 4 + [f"192.0.{number}.1" for number in range(4)]
    crowd, gone = _played(_came([*crowded, PEER]), Room(10, 8))
    assert [visitor.number for visitor in gone] == [0]
    assert len(crowd) == 8, "two of the ten are kept for those who are known"


def test_a_heavy_address_goes_before_a_network_of_many_lonely_ones() -> None:
    """Thirty hosts of one /24 with one connection each do not pay for one host with eight."""
    _, gone = _played(_came([*(f"203.0.113.{number}" for number in range(30)), *[PEER] * 8, "192.0.2.1"]), Room(50, 8))
    assert [visitor.networks[-1].name for visitor in gone] == [PEER]


def test_who_was_refused_and_does_not_hang_up_goes_first() -> None:
    """Its alert is sent: of one address it makes room before those that may still pass, however old."""
    visitors = _came(["203.0.113.1"] * 9)
    crowd = Crowd(ROOM)
    for visitor in visitors:
        crowd.add(visitor)
    refused = Visitor(5, visitors[5].networks, False, 5.0, is_refused=True)
    crowd.replace(refused)
    going = crowd.to_go(visitors[8])
    assert going is not None
    assert going[0] == refused


@pytest.mark.parametrize(("before", "of_strangers"), [(0, 48), (16, 48), (30, 34), (48, 16), (60, 16)])
def test_places_are_kept_for_those_who_are_known_and_for_those_who_are_not(before: int, of_strangers: int) -> None:
    """However many strangers come, the known keep what they have; the other way round a quarter is the strangers'."""
    known = [f"198.51.{number}.7" for number in range(before)]
    strangers = [f"203.{number}.113.1" for number in range(200)]
    crowd, _ = _played(_came([*known, *strangers], frozenset(known)))
    counts = Counter(visitor.is_known for visitor in crowd)
    assert counts == Counter({True: min(before, 48), False: of_strangers})
    latecomers = _came((f"198.{number}.99.7" for number in range(100)), frozenset(), 1_000)
    for one in latecomers:
        late = Visitor(one.number, one.networks, True, one.since)
        crowd.add(late)
        if (going := crowd.to_go(late)) is not None:
            crowd.remove(going[0])
    assert Counter(visitor.is_known for visitor in crowd) == Counter({True: 48, False: 16})


def test_nothing_is_guaranteed_without_the_reserve(monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: with nothing kept for them, those who are known find strangers in every place."""
    monkeypatch.setattr(crowd_module, "GUARANTEED", 10**9)
    strangers = [f"203.{number}.113.1" for number in range(200)]
    crowd, _ = _played(_came(strangers))
    assert Counter(visitor.is_known for visitor in crowd) == Counter({False: 64})


def test_whatever_comes_the_room_is_never_overfull_and_the_newest_is_never_turned_away() -> None:
    """Arrivals and departures of every kind of address, in rooms of every size; the counts end at nothing."""
    chance = random.Random(SEED)
    places = [f"{a}.0.{c}.{d}" for a in (1, 2) for c in (1, 2) for d in (1, 2, 3)]
    places += [f"2001:db8:{a:x}:{b:x}::1" for a in (1, 2) for b in (1, 2, 256, 257)] + ["fe80::1%a", "fe80::2%a"]
    for _ in range(12):
        room = Room(chance.randrange(1, 40), chance.randrange(1, 6))
        crowd, inside = Crowd(room), {}
        for number in range(120):
            here = networks(chance.choice(places))
            newest = Visitor(number, here, here[-1].name < "2", float(number))
            crowd.add(newest)
            inside[number] = newest
            if (going := crowd.to_go(newest)) is not None:  # one is always enough
                others = [one for one in crowd if one is not newest and one.is_known is newest.is_known]
                assert going[0] is not newest or not others
                crowd.remove(inside.pop(going[0].number))
            assert set(crowd) == set(inside.values())
            assert len(crowd) <= room.most
            for network in {one for visitor in crowd for one in visitor.networks}:
                for known in (False, True):
                    held = sum(network in visitor.networks for visitor in crowd if visitor.is_known is known)
                    assert held <= network.share * room.each
            if inside and chance.random() < 0.3:
                crowd.remove(inside.pop(chance.choice(list(inside))))
        for visitor in inside.values():
            crowd.remove(visitor)
        assert crowd.is_empty


@pytest.mark.parametrize(("load", "seconds"), [(0, 5), (0.25, 5), (0.5, 5), (0.75, 3), (1, 1), (1.2, 1)])
def test_time_shrinks_where_it_is_crowded(load: float, seconds: float) -> None:
    """Up to half a house nobody is hurried; in a full one a fifth of the time is left."""
    assert patience(5.0, load) == pytest.approx(seconds)


# --- turns


def _served(turns: Turns, visitors: Iterable[Visitor], now: float) -> list[str]:
    for visitor in visitors:
        turns.wait(visitor)
    served = []
    while turns.is_wanted and isinstance(chosen := turns.next(now), Visitor):
        served.append(chosen.networks[-1].name)
    return served


def test_no_more_than_the_rate_is_begun() -> None:
    """A thousand hellos at once: what was saved up, and from then on so many a second."""
    turns = Turns(100, 0.0)
    assert len(_served(turns, _came(["203.0.113.1"] * 1_000), 0.0)) == 200
    assert turns.next(0.0) == pytest.approx(0.01)
    assert len(_served(turns, [], 0.5)) == 50
    assert len(_served(turns, [], 60.0)) == 200, "more than two seconds' worth is never saved up"


def test_who_had_the_fewest_lately_comes_next() -> None:
    """A newcomer waits for one turn, not for all who came before; its neighbour in the network that floods does too."""
    turns = Turns(100, 0.0)
    _served(turns, _came([f"203.0.113.{last}" for last in range(1, 17)] * 50), 0.0)
    late = _came([PEER, "203.0.113.99"], first=10_000)
    assert _served(turns, late, 0.021) == [PEER, "203.0.113.99"]


def test_without_the_count_it_is_first_come_first_served(monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: where nothing is remembered, the newcomer waits behind the whole flood."""
    turns = Turns(100, 0.0)
    monkeypatch.setattr(crowd_module, "weight", lambda visitor, counts: ())
    _served(turns, _came([f"203.0.113.{last}" for last in range(1, 17)] * 50), 0.0)
    assert PEER not in _served(turns, _came([PEER], first=10_000), 0.021)


def test_what_was_had_is_forgotten() -> None:
    """Two periods later a flood counts for nothing, and takes no memory."""
    turns = Turns(100, 0.0)
    _served(turns, _came([f"203.{number}.0.1" for number in range(200)]), 0.0)
    for number in range(1, 4):
        _served(turns, _came([PEER]), number * RECENT)
    assert set(turns._lately) == {one.name for one in networks(PEER)}


def test_who_leaves_has_no_turn() -> None:
    """A visitor that went away while it waited is not chosen; leaving twice is leaving once."""
    turns = Turns(100, 0.0)
    one, other = _came(["203.0.113.1", "203.0.113.1"])
    for visitor in (one, other):
        turns.wait(visitor)
    turns.leave(one)
    turns.leave(one)
    assert turns.next(0.0) == other
    assert not turns.is_wanted


# --- who is known, and connections of peers


def _print(number: int) -> Fingerprint:
    return Fingerprint(f"{number:064x}")


def test_an_address_is_known_for_a_day() -> None:
    """From its last listed certificate on; then it is anybody's."""
    known = Known()
    known.came(PEER, _print(1), 0.0)
    assert known.whose(PEER, LATELY - 1) == _print(1)
    assert known.whose(PEER, LATELY + 1) is None
    assert known.whose("203.0.113.1", 0.0) is None


def test_only_so_many_are_known() -> None:
    """The one that has not come for longest is forgotten."""
    known = Known()
    for number in range(REMEMBERED):
        known.came(str(number), _print(1), 0.0)
    known.came("0", _print(1), 1.0)
    known.came("new", _print(1), 1.0)
    assert [known.whose(name, 2.0) is not None for name in ("0", "1", "2", "new")] == [True, False, True, True]


@pytest.mark.parametrize(
    ("held", "answer"),
    [
        ({}, None),
        ({1: 3}, None),
        ({0: 3, 1: 4}, None),
        ({0: 4}, "4 connections of this peer are open"),
        ({1: 4, 2: 4}, 1),
        ({1: 1, 2: 4, 3: 3}, 2),
        ({0: 1, 1: 3, 2: 2, 3: 2}, 1),
        ({0: 2, 1: 3, 2: 3}, "8 connections are open"),
        (dict.fromkeys(range(1, 9), 1), "8 connections are open"),
    ],
)
def test_one_more_connection(held: dict[int, int], answer: int | str | None) -> None:
    """Eight in all and four of a peer: whoever holds the most makes room for one that would hold fewer even then."""
    got = to_yield(_print(0), {_print(peer): count for peer, count in held.items()}, 8, 4)
    assert got == (_print(answer) if isinstance(answer, int) else answer)


def test_a_period_ends_where_it_ends() -> None:
    """Exactly one period later what was had is of the period before; exactly two later it is nothing."""
    turns = Turns(100, 0.0)
    _served(turns, _came(["203.0.113.1"]), 0.0)
    _served(turns, _came([PEER], first=1), RECENT)
    assert (turns._lately["203.0.113.1"], turns._now["203.0.113.1"]) == (1, 0)
    _served(turns, _came([PEER], first=2), 3 * RECENT)
    assert (turns._lately[PEER], turns._lately["203.0.113.1"]) == (1, 0)


def test_a_day_is_over_at_its_end() -> None:
    """An address is anybody's as soon as the day is over, not a moment later."""
    known = Known()
    known.came(PEER, _print(1), 0.0)
    assert known.whose(PEER, LATELY) is None
