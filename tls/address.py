"""Addresses of those who knock: how they are shown, and whom they are counted with."""

import functools
import ipaddress
from dataclasses import dataclass

SHARES = {4: {24: 4, 32: 1}, 6: {48: 4, 56: 1, 64: 1}}
"""Version and prefix length to how many addresses' worth of room such a network has: a subscriber of IPv6 gets 56 or 64
bits (RFC 6177), a site 48; an IPv4 /24 is the least that is routed by itself."""

MOST_NETWORKS = 3
"""That one address is counted with."""
LINK = "fe80::/10"


@dataclass(frozen=True, slots=True)
class Network:
    """What shares one limit."""

    name: str
    share: int
    """In addresses' worth."""


def shown(host: str) -> str:
    """An IPv4 address that came through an IPv6 socket is shown as what it is."""
    mapped = _mapped(host)
    return str(mapped) if mapped is not None else host


def account(host: str) -> str:
    """What is one address: an IPv4 address, or an IPv6 network of 64 bits, since one host may choose freely in that.

    Link-local addresses are counted one by one: they are all of one network of 64 bits.
    """
    return networks(host)[-1].name


@functools.lru_cache(maxsize=4_096)
def networks(host: str) -> tuple[Network, ...]:
    """All that an address is counted with, the widest first; the last is its account."""
    plain = ipaddress.ip_address(shown(host))
    if plain.is_link_local:
        return Network(LINK, 4), Network(shown(host), 1)
    shares = SHARES[plain.version]
    return tuple(Network(_name(plain, length), share) for length, share in shares.items())


def _name(plain: ipaddress.IPv4Address | ipaddress.IPv6Address, length: int) -> str:
    if length == plain.max_prefixlen:
        return str(plain)
    return str(ipaddress.ip_network((int(plain), length), strict=False))


def _mapped(host: str) -> ipaddress.IPv4Address | None:
    plain = ipaddress.ip_address(host)
    return plain.ipv4_mapped if isinstance(plain, ipaddress.IPv6Address) else None
