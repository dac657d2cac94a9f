"""What a daemon of the older protocol writes: it has no lives, and its row carries what it was sent with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sync.attest import Unsigned
from sync.draft import Fields, new_memory
from sync.ids import memory_id
from sync.legacy.judge import NOBODY
from sync.legacy.past import Past, written
from sync.receive import Page
from sync.record import memory_version

if TYPE_CHECKING:
    from tests.simulation.world import World

CERTIFICATE = "cert-daemon"
NO_LIFE = "0" * 16


def write(world: World, at: str, namespace: str, title: str, has_seen: bool) -> None:
    """A row of a daemon comes to a node. `has_seen`: its author edited what that node shows, and had nothing else.

    Its clock is right, whatever the node's is: nobody would write again what a daemon dates into the future, and it
    would go on waiting when all else has come to rest (`ai-memory settle --future`).
    """
    node = world.nodes[at]
    key = (namespace, memory_id(namespace, title, 0))
    seen = [one.version for one in node.store.everything().get(key, ())][:1] if has_seen else []
    now = world.now
    fields = Fields(namespace=namespace, title=title, content=f"a row of {now} {world.random.random()}")
    stamp = written(map(Past.of, seen), now)
    version = memory_version(new_memory(fields, key[1], now), Unsigned(NOBODY), stamp)
    if version.tag in world.oracle.versions:
        return
    world.oracle.by_daemon(version, [one.tag for one in seen])
    page = Page(CERTIFICATE, NO_LIFE, None, None, None, reset=False)
    world.apply(node, page, (version,), world.policy_for(node, "daemon"))
