"""A faithful fake of the older `ai-memory` daemon, 0.6.3 and 0.7.0, checked against recordings of the real one.

Serving, for whoever pushes to it, pulls from it, or writes to it as a client of the daemon would:

    daemon = RustDaemon(V063, name="rust")          # or V070, the default
    async with daemon.serving(mesh.node, [mesh.friend.fingerprint]):
        ...                                          # https://localhost:{daemon.port}, TLS 1.2 or 1.3

`serving(own, listed)`: `own` is a `certs.Visitor`; whoever presents a listed certificate gets in, whatever signed it.
`await daemon.handle(Request(...))` answers without a network.

What a test may set, at any time: `daemon.clock.offset` (seconds; a fast clock), `daemon.clock.freeze(at)`,
`daemon.clock.advance(seconds)`, `daemon.row_delay` (seconds a row, the one lock held: 0.131 in an encrypted 0.7.0),
`daemon.trust` (`Trust(scopes={peer_id: Scope(senders, namespaces)}, sync_trust_peer, trust_body_agent_id)`),
`daemon.quota.per_day`, `daemon.api_key`, `daemon.instead` (answers to the next requests in place of its own:
`daemon.instead = [Answer(500), Answer(429, {})]`). A daemon that was left can serve again, with the same store and, as
`serving(..., port=daemon.port)`, at the same place.

What a test may ask: `daemon.store.all()` (rows), `.get(id)`, `.titled(title, namespace)`, `.links(id)`, `.archived()`,
`.watermarks()`; `daemon.log` (`Exchange(request, answer)` for all that came), `daemon.pushes` (bodies of pushes);
`daemon.complaints`: what a peer that means well never does (a push whose status is not 200 or that has skipped items, a
row that the daemon had exactly so, one that came before and changes nothing, a body over 2 MiB, more than 100 rows).
Assert that it is empty.

Its own clients, each step on demand and over real mutual TLS:

    peer = Caller("https://localhost:9077", client_context(visitor, verify=True))   # `sync-daemon` verifies nothing
    daemon.fanout.peers, daemon.fanout.quorum = [peer], Quorum(writes=2)             # then client writes fan out
    await catch_up(daemon, peer, index=0)                                            # one step of `serve`'s loop
    await SyncDaemon(daemon, agent="host:rust:sync").cycle(peer)                     # one pull, one push

Not in it: webhooks, signatures, capabilities, metrics, export, the ranking of search and recall. Without a recording,
and as the source has it: refunds of the quota, the expiry of a restored row in 0.7.0, rows without an author, the order
of the checks of a push. This fake's own: how fields that are new in 0.7.0 merge (as content does), and the words of
rule errors other than those of title, agent id and self-link.
"""

from rust_daemon.calling import Caller, Heard
from rust_daemon.daemon import Exchange, RustDaemon
from rust_daemon.fanout import Quorum
from rust_daemon.listening import client_context
from rust_daemon.messages import Answer, Request
from rust_daemon.moment import Clock
from rust_daemon.pulling import Cycle, Pulled, SyncDaemon, catch_up
from rust_daemon.release import V063, V070, Release
from rust_daemon.trust import Scope, Trust

__all__ = [
    "Answer",
    "Caller",
    "Clock",
    "Cycle",
    "Exchange",
    "Heard",
    "Pulled",
    "Quorum",
    "Release",
    "Request",
    "RustDaemon",
    "Scope",
    "SyncDaemon",
    "Trust",
    "V063",
    "V070",
    "catch_up",
    "client_context",
]
