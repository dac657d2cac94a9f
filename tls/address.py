"""Addresses of those who knock: how they are shown, and whom they are counted with."""

import ipaddress


def shown(host: str) -> str:
    """An IPv4 address that came through an IPv6 socket is shown as what it is."""
    mapped = _mapped(host)
    return str(mapped) if mapped is not None else host


def account(host: str) -> str:
    """What shares one limit: an IPv4 address, or an IPv6 network of 64 bits, since one host may choose freely in that.

    Link-local addresses are counted one by one: they are all of one network.
    """
    plain = ipaddress.ip_address(shown(host))
    if plain.version == 4 or plain.is_link_local:
        return shown(host)
    return str(ipaddress.ip_network((int(plain), 64), strict=False))


def _mapped(host: str) -> ipaddress.IPv4Address | None:
    plain = ipaddress.ip_address(host)
    return plain.ipv4_mapped if isinstance(plain, ipaddress.IPv6Address) else None
