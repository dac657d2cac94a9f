"""What an agent can do with memories, however it asks: the one service under the HTTP API and the commands.

Results are JSON values in the existing daemon's shapes; times, limits and errors are `sync`'s.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from node import adoption, inputs
from node.rights import OWNER, Rights
from node.store import Reader, Store
from node.store.errors import PartlyStored, StoreError
from node.store.linked import Linked
from node.store.queries import MOST_PLACES, ListFilter
from node.store.search import SearchFilter
from sync import moment
from sync.draft import Fields, Unset
from sync.engine import Engine
from sync.errors import RemoteError
from sync.ids import memory_id
from sync.memory import DEFAULT_NAMESPACE, agent_fault
from sync.ports import Kept, Ledger
from sync.scope import Globs
from sync.version import Version
from sync.writes import Missing, TitleTaken, Written

DEFAULT_LIST = 20
MAX_LIST = 1_000
MAX_QUERY = 2_000
"""Characters of a search."""
MIN_PREFIX = 4
MOST_NAMED = 8
"""Namespaces in one sentence."""
SOON = 3_600 * moment.SECOND
"""What expires within an hour is counted as expiring soon."""

OF_THE_WHOLE = ("waiting", "links_count", "db_size_bytes", "unindexed", "feed", "digest")
"""Counts of `stats` that change with what a client may not see."""

T = TypeVar("T")
_fields = msgspec.json.Decoder(Fields)
_any = msgspec.json.Decoder()


class Memories:
    """Reads and writes for local clients.

    `now`: microseconds since 1970. `before_write`: looks at the clocks, as a machine that was rolled back must begin a
    new life before it writes (protocol section 4, *Actor*). `rights`: the client's; what it may not see is not there.
    """

    def __init__(
        self,
        store: Store,
        engine: Engine,
        now: Callable[[], int],
        before_write: Callable[[], Awaitable[None]] | None = None,
        rights: Rights = OWNER,
    ) -> None:
        self._store = store
        self._engine = engine
        self._now = now
        self._before_write = before_write
        self.rights = rights

    def under(self, rights: Rights) -> "Memories":
        """The same memories, for a client with these rights."""
        return Memories(self._store, self._engine, self._now, self._before_write, rights)

    # --- writes

    async def create(self, body: bytes, agent: str | None) -> dict[str, Any]:
        """Store under a title: a new memory, or a change of the one that has it and that the client may see."""
        fields = inputs.decoded(_fields, body)
        writer = self.writer(fields.agent_id, agent)
        self.rights.require_write(_place(fields))
        blind = not self.rights.may_read(_place(fields))
        written = await self._write(lambda ledger: self._engine.store(ledger, fields, writer, self._now(), blind=blind))
        if blind:
            return self._unseen(fields, writer)
        return _summary(written.version)

    async def create_many(self, body: bytes, agent: str | None) -> dict[str, Any]:
        """Store up to 1,000 at once. One that is wrong is named by its place; the others are stored."""
        raws = inputs.elements(body)
        errors: dict[int, RemoteError] = {}
        drafts: dict[int, tuple[Fields, str]] = {}
        for index, raw in enumerate(raws):
            try:
                fields = inputs.decoded(_fields, bytes(raw))
                drafts[index] = (fields, self.writer(fields.agent_id, agent))
                self.rights.require_write(_place(fields))
            except RemoteError as error:
                drafts.pop(index, None)
                errors[index] = error
        written: list[str] = []
        places = list(drafts)
        for start in range(0, len(places), 100):  # in slices, so that single writes get in between
            some = places[start : start + 100]

            def write(ledger: Ledger, some: list[int] = some) -> list[Written | RemoteError]:
                wanted = [drafts[index] for index in some]
                blind = {n for n, (fields, _) in enumerate(wanted) if not self.rights.may_read(_place(fields))}
                return self._engine.store_many(ledger, wanted, self._now(), blind)

            try:
                results = await self._write(write, bulk=True)
            except StoreError as error:
                if not written:
                    raise
                errors |= dict.fromkeys(places[start:], RemoteError("store", "not stored: the store failed before it"))
                raise PartlyStored(error, len(written), len(raws), _bulk_told(written, errors)) from error
            for index, result in zip(some, results, strict=True):
                if isinstance(result, RemoteError):
                    errors[index] = result
                else:
                    fields = drafts[index][0]
                    seen = self.rights.may_read(_place(fields))
                    written.append(result.version.id if seen else _id_of(fields))
        return _bulk_told(written, errors)

    async def update(self, record_id: str, body: bytes, agent: str | None, namespace: str | None) -> dict[str, Any]:
        """Change fields of a memory; returns it as it is then."""
        fields = inputs.decoded(_fields, body)
        return await self._change(record_id, fields, self.writer(fields.agent_id, agent), namespace)

    async def promote(self, record_id: str, agent: str | None, namespace: str | None) -> dict[str, Any]:
        """Make a memory long-lived."""
        fields = Fields(tier="long", expires_at=None)
        changed = await self._change(record_id, fields, self.writer(fields.agent_id, agent), namespace)
        return {"id": changed["id"], "promoted": True, "tier": changed["tier"]}

    async def _change(self, record_id: str, fields: Fields, agent: str, namespace: str | None) -> dict[str, Any]:
        key = (await self.only(record_id, namespace)).key
        self.rights.require_write(key[0])
        if isinstance(fields.namespace, str) and fields.namespace != key[0]:
            self._require_move(fields.namespace)
        result = await self._write(lambda ledger: self._engine.update(ledger, key, fields, agent, self._now()))
        if isinstance(result, Missing):
            raise RemoteError("not_found", "not found")
        if isinstance(result, TitleTaken):
            raise RemoteError("title_taken", f"the title is taken in that namespace by memory {result.id}")
        return _document(result.version)

    def _require_move(self, namespace: str) -> None:
        self.rights.require_write(namespace)
        if not self.rights.may_read(namespace):  # where its title is taken, the answer would say so
            raise RemoteError("forbidden", f"this token may not read the namespace {namespace[:80]!r}, nor move there")

    def _unseen(self, fields: Fields, writer: str) -> dict[str, Any]:
        """What a client hears that may write where it may not read: nothing but what it said itself."""
        told = {"id": _id_of(fields), "tier": None, "namespace": _place(fields), "title": fields.title}
        return told | {"agent_id": writer, "updated_at": None}

    async def delete(self, record_id: str, agent: str | None, namespace: str | None) -> dict[str, Any]:
        """Delete a memory, here and on every peer."""
        writer = self.writer(None, agent)
        key = (await self.only(record_id, namespace)).key
        self.rights.require_write(key[0])
        result = await self._write(lambda ledger: self._engine.delete(ledger, key, writer, self._now()))
        if isinstance(result, Missing):
            raise RemoteError("not_found", "not found")
        return {"deleted": True}

    async def settle_future(self) -> dict[str, Any]:
        """Write again, for now, what is kept from the future of this node's clock. Returns how many."""
        settled = await self._write(lambda ledger: self._engine.settle_future(ledger, self._now()))
        return {"settled": settled}

    async def adopt(self, body: bytes) -> dict[str, Any]:
        """Take in versions that were made elsewhere, as they are; what became of each, in their order."""
        told: list[adoption.Told] = []
        parts = adoption.parts(body)
        for part in parts:

            def adopt(ledger: Ledger, part: adoption.Part = part) -> adoption.Told:
                return part.adopt(self._engine, ledger, self._now())

            try:
                told.append(await self._write(adopt, bulk=True))
            except StoreError as error:
                if not told:
                    raise
                left = len(part.found) + sum(len(later.found) for later in parts)
                done = sum(len(one.outcomes) for one in told)
                raise PartlyStored(error, done, done + left, adoption.answer(told, left)) from error
        return adoption.answer(told)

    async def write(self, work: Callable[[Engine, Ledger, int], T]) -> T:
        """Have the writer run `work` with the engine, its ledger and the time then."""
        return await self._write(lambda ledger: work(self._engine, ledger, self._now()))

    async def _write(self, work: Callable[[Ledger], T], *, bulk: bool = False) -> T:
        if self._before_write is not None:
            await self._before_write()
        return await self._store.writer.run(work, bulk=bulk)

    def writer(self, given: str | Unset | None, claimed: str | None) -> str:
        """Who writes: the agent that the body names, or the one that the caller claims to be, or the node.

        A client with a token is its agent. Raises RemoteError `forbidden` where it names another, and `invalid`.
        """
        for named in (given, claimed):
            self.rights.require_agent(named if isinstance(named, str) else None)
        agent = given if isinstance(given, str) else claimed or self.rights.agent or self._engine.agent
        if fault := agent_fault(agent):
            raise RemoteError("invalid", fault)
        return agent

    # --- reads

    async def get(self, record_id: str, namespace: str | None) -> bytes:
        """`{"memory": …, "links": […]}` as JSON. An id may be shortened to a prefix that only one memory has.

        Where the id is in several namespaces and none is named, the winner; `also_in` names the others.
        """
        now = self._text()

        def read(reader: Reader) -> tuple[list[Kept], list[Linked]]:
            found = _look_up(reader, record_id, now, namespace, self.rights.scope)
            links = reader.links(found[0].version.id, now, MAX_LIST, scope=self.rights.scope) if found else []
            return found, links

        found, links = await self.look_up(read)
        told = b'{"memory":%b,"links":[%b]' % (_required(found, record_id)[0].version.doc, joined(links))
        if len(found) == 1:
            return told + b"}"
        return b'%b,"also_in":%b}' % (told, msgspec.json.encode([one.version.namespace for one in found[1:]]))

    async def found(self, record_id: str, namespace: str | None) -> Version:
        """The memory with this id, or with the only id that begins so. Raises `not_found`, `ambiguous_id`.

        Where the id is in several namespaces the winner: for who needs no more than the id.
        """
        return (await self._found(record_id, namespace))[0].version

    async def only(self, record_id: str, namespace: str | None) -> Version:
        """The memory that a client means to change. Raises `ambiguous_id` also where several namespaces have its id.

        Who may write in one of them would else choose, by a version of that id that wins, what is changed by others.
        """
        return _one_place(await self._found(record_id, namespace), record_id)

    async def _found(self, record_id: str, namespace: str | None) -> list[Kept]:
        now, scope = self._text(), self.rights.scope
        found = await self.look_up(lambda reader: _look_up(reader, record_id, now, namespace, scope))
        return _required(found, record_id)

    async def links(self, record_id: str, limit: int, offset: int) -> list[Linked]:
        """The links of a memory, given its whole id."""
        now, scope = self._text(), self.rights.scope
        return await self.look_up(lambda reader: reader.links(record_id, now, limit, offset, scope))

    async def are_here(self, *ids: str) -> bool:
        """Whether each of these whole ids is one of a memory that the client sees."""
        now, scope = self._text(), self.rights.scope
        return await self.read(lambda reader: reader.are_here(ids, now, scope))

    async def look_up(self, task: Callable[[Reader], T]) -> T:
        """Ask the store, each statement over one state of it."""
        return await self._store.reader.look_up(task)

    async def read(self, task: Callable[[Reader], T]) -> T:
        """Ask the store, all statements over one state of it."""
        return await self._store.reader.run(task)

    async def listed(self, query: Mapping[str, str]) -> bytes:
        """`{"memories": […], "count": n}`, newest change first."""
        wanted = ListFilter(
            self._text(),
            inputs.whole(query, "limit", DEFAULT_LIST, MAX_LIST),
            inputs.whole(query, "offset", 0, 10**9),
            query.get("namespace"),
            inputs.tier(query),
            query.get("tags") or query.get("tag"),
            query.get("agent_id"),
            inputs.time(query, "since"),
            inputs.time(query, "until"),
            self.rights.scope,
        )
        documents = await self._store.reader.run(lambda reader: reader.listed(wanted))
        return b'{"memories":[%b],"count":%d}' % (b",".join(documents), len(documents))

    async def search(self, query: Mapping[str, str]) -> bytes:
        """`{"results": […], "count": n, "query": …}`, the best match first."""
        text = query.get("q", "")
        if not text.strip():
            raise RemoteError("bad_query", "query is required: q=<words>")
        if len(text) > MAX_QUERY:
            raise RemoteError("bad_query", f"q: {len(text)} characters, at most {MAX_QUERY}")
        wanted = SearchFilter(
            text,
            self._text(),
            inputs.whole(query, "limit", DEFAULT_LIST, MAX_LIST),
            query.get("namespace"),
            inputs.tier(query),
            query.get("tags") or query.get("tag"),
            query.get("agent_id"),
            self.rights.scope,
        )
        found = await self._store.reader.run(lambda reader: reader.search(wanted))
        joined = b",".join(found.documents)
        return b'{"results":[%b],"count":%d,"query":%b}' % (joined, len(found.documents), msgspec.json.encode(text))

    async def namespaces(self) -> dict[str, Any]:
        now = self._text()
        found = await self._store.reader.run(lambda reader: reader.namespaces(now, self.rights.scope))
        return {"namespaces": _counted(found, "namespace")}

    async def stats(self) -> dict[str, Any]:
        """Counts over the store, and its digest: equal on two nodes that keep the same.

        For who sees a part of it: counts over that part, and null for what is of the whole.
        """
        now = self._text()
        soon = moment.text(self._now() + SOON)
        found = await self._store.reader.run(lambda reader: reader.stats(now, soon, self.rights.scope))
        position = self._store.position
        told = {
            "total": found.total,
            "by_namespace": _counted(found.by_namespace, "namespace"),
            "by_tier": _counted(found.by_tier, "tier"),
            "tombstones": found.tombstones,
            "conflicts": found.conflicts,
            "waiting": found.waiting,
            "expired": found.expired,
            "expiring_soon": found.expiring_soon,
            "links_count": found.links,
            "db_size_bytes": found.bytes,
            "unindexed": found.unindexed,
            "feed": position.number,
            "digest": position.digest,
        }
        return told if self.rights.scope is None else told | dict.fromkeys(OF_THE_WHOLE)

    def _text(self) -> str:
        return moment.text(self._now())


def _bulk_told(ids: Sequence[str], errors: Mapping[int, RemoteError]) -> dict[str, Any]:
    return {
        "created": len(ids),
        "ids": list(ids),
        "errors": [f"{index}: {errors[index]}" for index in sorted(errors)],
    }


def joined(links: Iterable[Linked]) -> bytes:
    """Links as the elements of a JSON list; `missing` names the end whose memory is not here."""
    return b",".join(
        one.doc if one.missing is None else b'%b,"missing":"%b"}' % (one.doc[:-1], one.missing.encode())
        for one in links
    )


def _required(found: list[Kept], record_id: str) -> list[Kept]:
    if not found:
        raise RemoteError("not_found", "not found")
    return found


def _one_place(found: list[Kept], record_id: str) -> Version:
    if len(found) > 1:
        named = ", ".join(repr(one.version.namespace[:80]) for one in found[:MOST_NAMED])
        named += ", …" if len(found) > MOST_NAMED else ""
        count = len(found) if len(found) < MOST_PLACES else f"{MOST_PLACES} or more"
        raise RemoteError("ambiguous_id", f"{record_id[:128]!r} is in {count} namespaces: {named}; say which")
    return found[0].version


def _look_up(reader: Reader, record_id: str, now: str, namespace: str | None, scope: Globs | None) -> list[Kept]:
    """A whole id is found by itself: whoever makes many that begin as it does holds up nobody."""
    found = reader.by_id(record_id, now, namespace, scope)
    if found or len(record_id) < MIN_PREFIX:
        return found
    ids = reader.ids_beginning(record_id, now, namespace, scope)
    if len(ids) > 1:
        raise RemoteError("ambiguous_id", f"{record_id[:128]!r} begins more than one id; give more of it")
    return reader.by_id(ids[0], now, namespace, scope) if ids else []


def _place(fields: Fields) -> str:
    """The namespace that a memory would be stored in."""
    return fields.namespace if isinstance(fields.namespace, str) else DEFAULT_NAMESPACE


def _id_of(fields: Fields) -> str:
    """The id that the title of a memory gives, whatever is there."""
    return memory_id(_place(fields), str(fields.title), 0)


def _summary(version: Version) -> dict[str, Any]:
    document = _document(version)
    return {key: document[key] for key in ("id", "tier", "namespace", "title")} | {
        "expires_at": document.get("expires_at"),
        "agent_id": document["metadata"].get("agent_id"),
        "updated_at": version.at,
    }


def _document(version: Version) -> dict[str, Any]:
    document: dict[str, Any] = _any.decode(version.doc)
    return document


def _counted(found: Iterable[tuple[str, int]], name: str) -> list[dict[str, Any]]:
    return [{name: value, "count": count} for value, count in found]
