"""The one place where another protocol can be hooked in: what a bridge to it does, and whether there is one.

The program is whole without any. `node.legacy` is one: deleting that package leaves a node with its own protocol.
"""

import importlib
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:  # whoever only asks whether there is a bridge need not load all of this
    import click

    from node.dialer import Dialer
    from node.exchange import Exchange
    from node.peers import Peer, PeerBook
    from node.store import Store
    from node.timekeeper import Timekeeper
    from sync.engine import Engine
    from sync.peer import Pace

LEGACY = "node.legacy.bridge"
LEGACY_COMMANDS = "node.legacy.importing.command"


class Calling(Protocol):
    """Keeps one peer in step that we call."""

    @property
    def peer(self) -> "Peer": ...

    def start(self) -> None: ...

    def stop(self) -> None:
        """Do nothing more, and end what is under way; `close` waits for the end of it."""

    async def close(self) -> None: ...

    def committed(self, number: int) -> None: ...

    def heard_from(self) -> None: ...

    def read_again(self) -> None: ...

    def look(self) -> None:
        """See whether the peer has closed its connections, and then ask at once whether it is there."""

    async def hang_up(self) -> None: ...

    def status(self) -> dict[str, Any]: ...


@dataclass(frozen=True, slots=True)
class Parts:
    """What of the node a bridge works with. `agent`: what the node calls itself."""

    store: "Store"
    engine: "Engine"
    exchange: "Exchange"
    clock: "Timekeeper"
    agent: str


@dataclass(frozen=True, slots=True)
class Call:
    """How a peer is called. `dialer` makes one with these headers, whose requests may take so many seconds at least."""

    dialer: "Callable[[Mapping[str, str], float], Dialer]"
    pace: "Pace"
    explain: Callable[[BaseException], tuple[str, str]]
    api_key: str | None = field(default=None, repr=False)


class Bridge(Protocol):
    """Speaks another protocol with the peers that are configured for it."""

    async def prepare(self, book: "PeerBook") -> None:
        """These will be the peers."""

    async def forget(self, book: "PeerBook") -> None:
        """These are the peers, and nobody speaks with others any more."""

    def calling(self, peer: "Peer", call: Call) -> Calling: ...

    async def push(self, peer: "Peer", headers: Mapping[str, str], body: bytes) -> bytes:
        """The answer to a push of such a peer. Raises RemoteError."""

    async def since(self, peer: "Peer", query: Mapping[str, str]) -> bytes:
        """The answer to a `since` of such a peer. Raises RemoteError."""

    async def notes(self, peer: "Peer") -> list[str]:
        """Why this node and that peer cannot agree, in words; empty where they can."""


def is_there(name: str = LEGACY) -> bool:
    """True where the bridge is part of this program."""
    package = name.rpartition(".")[0]
    return importlib.util.find_spec(package) is not None and importlib.util.find_spec(name) is not None


def commands(name: str = LEGACY_COMMANDS) -> "Sequence[click.Command]":
    """What the bridge adds to the command line; nothing where this program has none."""
    if not is_there():
        return ()
    found: Sequence[click.Command] = importlib.import_module(name).COMMANDS
    return found


def build(parts: Parts, name: str = LEGACY) -> Bridge | None:
    """The bridge to daemons of the older protocol, or None where this program has none."""
    if not is_there(name):
        return None
    made: Bridge = importlib.import_module(name).build(parts)
    return made
