"""What a daemon of the older protocol asks of us: its push and its `since`, answered as one of its own kind would.

Its clients read the status, and of the body hardly anything; so the counters tell the truth. What it asks to have
executed here (pending actions, decisions, policies of namespaces) is never done: it is counted as skipped, and the
operator is told.
"""

import asyncio
from collections.abc import Mapping

from node.legacy import ours, tables
from node.legacy.desk import Desk
from node.peers import Peer
from node.replicator import is_inline
from node.store import Reader, Store
from sync import moment
from sync.errors import RemoteError
from sync.legacy.messages import Counted, Pushed, decode_push, encode_answer, encode_since
from sync.legacy.outgoing import other_name
from sync.legacy.paging import MAX_LIMIT
from sync.legacy.row import row_of, unfit
from sync.memory import agent_fault
from sync.scope import Globs
from sync.version import Key, Version

DEFAULT_LIMIT = 500
CHUNK = 500
MAX_PAGE_BYTES = 8 * 2**20
"""Bytes of one answer to `since`; a run of equal times goes whole, even over it."""


class Endpoint:
    """Handlers for the federation listener, without HTTP. `agent`: what this node calls itself."""

    def __init__(self, store: Store, desk: Desk, agent: str) -> None:
        self._store = store
        self._desk = desk
        self._agent = agent

    # --- push

    async def push(self, peer: Peer, headers: Mapping[str, str], body: bytes) -> bytes:
        """The answer to a push. Raises RemoteError as `decode_push`, and `invalid` for a malformed claim."""
        for name in ("X-Agent-Id", "X-Peer-Id"):
            if (claim := headers.get(name)) is not None and (fault := agent_fault(claim)):
                raise RemoteError("invalid", f"{name.lower()}: {fault}")
        pushed = decode_push(body) if is_inline(body) else await asyncio.to_thread(decode_push, body)
        for one in pushed.refused:
            self._desk.tell_refused(peer, one.id, one.reason, one.detail)
        self._desk.tell_more(peer, pushed.left_out)
        counted = await self._tried(pushed) if pushed.dry_run else await self._done(peer, pushed)
        times = [row.at for row in pushed.rows]
        clock = {pushed.sender: max(times)} if times else {}
        return encode_answer(counted, self._agent, clock, pushed.dry_run)

    async def _tried(self, pushed: Pushed) -> Counted:
        """A dry run: what is valid is counted, and nothing is done."""
        others = len(pushed.deletions) + len(pushed.archives) + len(pushed.restores) + len(pushed.links)
        return Counted(noop=len(pushed.rows) + others, skipped=len(pushed.refused) + pushed.left_out)

    async def _done(self, peer: Peer, pushed: Pushed) -> Counted:
        """In the daemon's own order: memories, deletions, archives, restores, links."""
        refused = await self._desk.rows(peer, pushed.rows)
        deleted, archived = await self._desk.remove(peer, pushed.deletions, pushed.archives)
        restored = await self._desk.restore(peer, pushed.restores)
        links = await self._desk.links(peer, pushed.links)
        for name in pushed.not_done:
            text = f"it asks for {name.replace('_', ' ')} to be taken over: a peer may not set or execute that here"
            self._desk.tell(peer, name, text)
        failed = sum(len(came.refused) for came in (deleted, archived, restored, links))
        # A link that is held for its memories counts as theirs does, which drops it.
        undone = sum(pushed.not_done.values())
        return Counted(
            applied=len(pushed.rows) - len(refused),
            noop=deleted.noop + archived.noop + restored.noop,
            skipped=len(pushed.refused) + pushed.left_out + len(refused) + failed + links.noop + undone,
            deleted=deleted.done,
            archived=archived.done,
            restored=restored.done,
            links_applied=links.done,
        )

    # --- since

    async def since(self, peer: Peer, query: Mapping[str, str]) -> bytes:
        """A page by time: strictly greater as text, ascending, whole to the end of a run of equal times.

        Raises RemoteError `bad_query`.
        """
        since, limit = query.get("since") or "", _limit(query.get("limit"))
        if since and moment.canonical(since) is None:
            raise RemoteError(
                "bad_query", f"since: {since[:40]!r}, an RFC 3339 time expected (a + is written %2B in a query)"
            )
        scope = peer.read if peer.sends else Globs(())

        def read(reader: Reader) -> tuple[int, list[tuple[str, bytes]]]:
            return reader.position().number, page(reader, peer.fingerprint, scope, since, limit)

        top, rows = await self._store.reader.run(read)
        if peer.url is None:
            await self._desk.asked(peer, since, top)
        times = [at for at, _ in rows]
        return encode_since(
            [row for _, row in rows],
            query.get("since"),
            limit,
            times[0] if times else None,
            times[-1] if times else None,
        )


def page(reader: Reader, peer: str, scope: Globs, since: str, limit: int) -> list[tuple[str, bytes]]:
    """(time, row) of a page for a daemon."""
    found: list[tuple[str, bytes]] = []
    start = size = 0
    while limit:
        some = ours.later_than(reader.execute, since, start, CHUNK)
        start += len(some)
        rows = _rows(reader, peer, scope, [key for _, _, key in some])
        for at, _, key in some:
            if found and at != found[-1][0] and (len(found) >= limit or size >= MAX_PAGE_BYTES):
                return found
            if key in rows:
                found.append((at, rows[key]))
                size += len(rows[key])
        if len(some) < CHUNK:
            break
    return found


def _rows(reader: Reader, peer: str, scope: Globs, keys: list[Key]) -> dict[Key, bytes]:
    """Those of these memories that the daemon may see and can take, under its own names for them."""
    winners = ours.winners(reader, (key for key in keys if scope.allows(key[0])))
    odd = ours.oddly_titled(reader.execute, ((one.namespace, one.title) for one in winners.values()))
    known = tables.by_keys(reader.execute, peer, winners)
    shared = ours.shared_ids(reader, (key[1] for key in winners))
    rows = {}
    for key, winner in winners.items():
        if unfit(winner) is None and not _is_twin(reader, winner, odd):
            theirs = known[key].known.theirs if key in known else ""
            rows[key] = row_of(winner, theirs or (other_name(key) if key[1] in shared else key[1]))
    return rows


def _is_twin(reader: Reader, winner: Version, odd: set[tuple[str, str]]) -> bool:
    if (winner.namespace, winner.title) not in odd:
        return False
    return reader.by_title(winner.namespace, winner.title)[0].version.key != winner.key


def _limit(text: str | None) -> int:
    if not text:
        return DEFAULT_LIMIT
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise RemoteError("bad_query", f"limit: {text[:20]!r}, a number from 0 to {MAX_LIMIT} expected")
    return min(int(text), MAX_LIMIT)
