"""Events in moderation: strangers cannot fill a log, and what is kept back is counted."""

import asyncio
from collections.abc import Callable

import pytest
from certs import Mesh
from knocking import knock, on_loop, plain_client, until

from tls.address import account, shown
from tls.gate import Gate
from tls.listener import HandshakeEvent, Listener
from tls.ration import _REMEMBERED, Rationed


def _refused(address: str, kind: str = "refused") -> HandshakeEvent:
    return HandshakeEvent(kind, address, reason="not on the allowlist")


def _told(events: list[HandshakeEvent]) -> list[tuple[str, str, str]]:
    return [(event.kind, event.address, event.reason or "") for event in events]


async def test_the_first_few_of_an_address_are_told_and_the_rest_is_counted() -> None:
    """Five lines and one with the number, whether ten come or ten thousand."""
    told: list[HandshakeEvent] = []
    ration = Rationed(told.append, each=5)
    for _ in range(10_000):
        ration(_refused("192.0.2.1"))
    assert told == [_refused("192.0.2.1")] * 5
    ration.sum_up()
    assert _told(told[5:]) == [("refused", "192.0.2.1", "9995 more, from this")]


async def test_one_address_does_not_use_up_another_s_share() -> None:
    """A second stranger is told of while the first goes on; kinds are counted apart."""
    told: list[HandshakeEvent] = []
    ration = Rationed(told.append, each=2)
    for event in [_refused("192.0.2.1")] * 9 + [_refused("192.0.2.2"), _refused("192.0.2.1", "limit")]:
        ration(event)
    assert _told(told[2:]) == [
        ("refused", "192.0.2.2", "not on the allowlist"),
        ("limit", "192.0.2.1", "not on the allowlist"),
    ]


async def test_strangers_from_everywhere_share_one_bound() -> None:
    """A flood from twenty thousand addresses is as many lines as `total`, and one sum, in bounded memory."""
    told: list[HandshakeEvent] = []
    ration = Rationed(told.append, each=5, total=20)
    for number in range(20_000):
        ration(_refused(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"))
    assert len(told) == 20
    assert sum(len(addresses) for addresses in ration._kept.values()) == _REMEMBERED + 1
    ration.sum_up()
    assert _told(told[20:]) == [("refused", "elsewhere", f"19980 more, from this and {_REMEMBERED} other addresses")]


async def test_an_address_that_is_remembered_keeps_its_own_count() -> None:
    """Once no more addresses are remembered, those that are go on being counted by name; the sum names the worst."""
    told: list[HandshakeEvent] = []
    ration = Rationed(told.append, each=0)
    for number in range(_REMEMBERED):
        ration(_refused(f"10.0.{number >> 8}.{number & 255}"))
    for _ in range(7):
        ration(_refused("10.0.0.9"))
    ration(_refused("192.0.2.1"))
    ration.sum_up()
    reason = f"{_REMEMBERED + 8} more, from this and {_REMEMBERED} other addresses"
    assert _told(told) == [("refused", "10.0.0.9", reason)]


async def test_what_peers_cause_is_always_told() -> None:
    """Connections that came in and were dropped are never kept back: only the listed cause them."""
    told: list[HandshakeEvent] = []
    ration = Rationed(told.append, each=1, total=1)
    for kind in ("accepted", "dropped") * 50:
        ration(_refused("192.0.2.1", kind))
    assert len(told) == 100


async def test_a_window_ends_by_itself() -> None:
    """When it is over, the sum is told without another event having to come, and a new window begins."""
    told: list[HandshakeEvent] = []
    ration = Rationed(told.append, each=1, window=0.02)
    for _ in range(3):
        ration(_refused("192.0.2.1"))
    await until(lambda: len(told) == 2)
    assert told[1].reason == "2 more, from this"
    ration(_refused("192.0.2.1"))
    assert len(told) == 3
    await until(lambda: ration._timer is None)
    assert len(told) == 3, "nothing was kept back: there is nothing to say"


async def test_events_without_an_address_are_rationed_too() -> None:
    """A listener that cannot accept says so a few times a minute, not ten times a second."""
    told: list[HandshakeEvent] = []
    ration = Rationed(told.append, each=3)
    for _ in range(50):
        ration(HandshakeEvent("error", "", reason="no connection can be accepted"))
    assert len(told) == 3
    ration.sum_up()
    assert told[3].reason == "47 more, from this"


def test_a_real_stranger_who_keeps_knocking_is_three_lines(mesh: Mesh) -> None:
    """The listener's own events, through the ration."""
    told: list[HandshakeEvent] = []

    async def main() -> None:
        ration = Rationed(told.append, each=2)
        gate = Gate(mesh.node.files, mesh.listing(mesh.friend))
        listener = Listener(gate, asyncio.Protocol, "127.0.0.1", 0, on_event=ration)
        await listener.start()
        for _ in range(6):
            await knock(listener.port, plain_client(mesh, mesh.stranger))
        await until(lambda: not listener._porch.visits)
        await listener.close()
        ration.sum_up()

    on_loop("uvloop", main)
    assert [event.reason for event in told] == ["not on the allowlist"] * 2 + ["4 more, from this"]
    assert told[0].fingerprint == mesh.stranger.fingerprint


@pytest.mark.parametrize(
    ("host", "seen", "counted"),
    [
        ("192.0.2.1", "192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("fe80::1%eth0", "fe80::1%eth0", "fe80::1%eth0"),
        ("fe80::1%eth1", "fe80::1%eth1", "fe80::1%eth1"),
        ("::1", "::1", "::/64"),
    ],
)
def test_addresses_are_shown_and_counted(host: str, seen: str, counted: str) -> None:
    """IPv4 inside IPv6 is IPv4; whoever owns an IPv6 network has one share of it; a link's hosts have one each."""
    both: tuple[Callable[[str], str], ...] = (shown, account)
    assert tuple(function(host) for function in both) == (seen, counted)
