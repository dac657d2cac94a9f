"""Who sends a request, by what a browser adds to it: no page but one of this very listener has business here.

It is plain HTTP on loopback. A page that resolves its own name to 127.0.0.1 (DNS rebinding) still sends its own `Host`;
a page elsewhere sends its `Origin`, and `Sec-Fetch-Site` even where it sends no Origin, as for an image. That page
could not read an answer, but see whether there is one, and ids are computed from titles.
"""

import re
from collections.abc import Collection

from aiohttp import web

from node.api.errors import ApiError

LOOPBACK_NAMES = frozenset(("localhost", "127.0.0.1", "::1"))
SAFE_METHODS = frozenset(("GET", "HEAD"))
SCHEMES = frozenset(("http", "https"))
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""Headers of every answer: a browser neither guesses what it is, nor hands it to another page, nor keeps it."""
_HOST = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<name>[A-Za-z0-9._-]+))(?::[0-9]{1,5})?")


class Senders:
    """`hosts`: names besides those of loopback. `any_host`: whatever name, as the key is the guard there."""

    def __init__(self, hosts: Collection[str] = (), *, any_host: bool = False) -> None:
        self._hosts = frozenset(map(str.lower, hosts))
        self._any_host = any_host

    def check(self, request: web.BaseRequest) -> None:
        """Raises ApiError `forbidden_host`, `forbidden_site`."""
        if not self._any_host:
            self._check_host(request)
        self._check_site(request)

    def _check_host(self, request: web.BaseRequest) -> None:
        hosts = request.headers.getall("Host", ())
        host = _host(hosts[0]) if len(hosts) == 1 else None
        if not self._is_ours(host):
            found = " and ".join(repr(one[:60]) for one in hosts[:2]) or "missing"
            raise ApiError("forbidden_host", f"Host is {found}, expected localhost or 127.0.0.1")
        for origin in request.headers.getall("Origin", ()):
            if not self._is_ours(_origin(origin)):
                raise ApiError("forbidden_host", f"Origin is {origin[:60]!r}, expected none, or one on this machine")

    def _is_ours(self, name: str | None) -> bool:
        return name in LOOPBACK_NAMES or name in self._hosts

    def _check_site(self, request: web.BaseRequest) -> None:
        # W3C Fetch Metadata. `none` is what a person typed or opened: no page can send it, and it only reads.
        allowed = ("same-origin", "none") if request.method in SAFE_METHODS else ("same-origin",)
        for site in request.headers.getall("Sec-Fetch-Site", ()):
            if site not in allowed:
                raise ApiError(
                    "forbidden_site", f"Sec-Fetch-Site is {site[:40]!r}: no page of another address is served here"
                )


def _host(text: str) -> str | None:
    """The name in a `Host`, in lower case, an IPv6 address without its brackets; None where it is none.

    Any port: the listener may be published on another one.
    """
    found = _HOST.fullmatch(text)
    return (found["six"] or found["name"]).lower() if found is not None else None


def _origin(text: str) -> str | None:
    """The name in an `Origin`; None where it is none, or opaque."""
    scheme, _, host = text.partition("://")
    return _host(host) if scheme in SCHEMES else None
