"""The bridge to daemons of the older protocol, as `node.bridge` asks for one."""

from node.bridge import Call, Calling, Parts
from node.legacy.desk import Desk
from node.legacy.endpoint import Endpoint
from node.legacy.replicator import MIN_TIMEOUT, LegacyReplicator
from node.peers import Peer, PeerBook


class LegacyBridge:
    """One for the node."""

    def __init__(self, parts: Parts) -> None:
        self._agent = parts.agent
        self.desk = Desk(parts.store, parts.engine, parts.exchange, parts.clock)
        self.endpoint = Endpoint(parts.store, self.desk, parts.agent)
        self.push = self.endpoint.push
        self.since = self.endpoint.since
        self.notes = self.desk.notes

    async def prepare(self, book: PeerBook) -> None:
        """Make the tables where there is a daemon in this book, or any stranger may be one."""
        if book.default_legacy or any(peer.legacy for peer in book.peers):
            await self.desk.make_tables()

    async def forget(self, book: PeerBook) -> None:
        """Forget the daemons that are not in this book."""
        if not book.default_legacy:
            await self.desk.keep_only([peer.fingerprint for peer in book.peers if peer.legacy])

    def calling(self, peer: Peer, call: Call) -> Calling:
        # A newer daemon asks for both headers, and that the second is the sender that the body names.
        headers = {"X-Agent-Id": self._agent, "X-Peer-Id": self._agent}
        if call.api_key is not None:
            headers["X-Api-Key"] = call.api_key
        dialer = call.dialer(headers, MIN_TIMEOUT)
        return LegacyReplicator(peer, self.desk, dialer, self._agent, call.pace, call.explain)


def build(parts: Parts) -> LegacyBridge:
    return LegacyBridge(parts)
