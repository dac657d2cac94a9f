"""What an agent can do with memories, however it asks: the one service under the HTTP API and the commands.

Results are JSON values in the existing daemon's shapes; times, limits and errors are `sync`'s.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from node import adoption
from node.store import Reader, Store
from node.store.linked import Linked
from node.store.queries import ListFilter
from node.store.search import SearchFilter
from sync import apart, moment
from sync.draft import Fields, Unset
from sync.engine import Engine
from sync.errors import RemoteError
from sync.memory import TIERS, agent_fault
from sync.ports import Kept, Ledger
from sync.version import Version
from sync.writes import Missing, TitleTaken, Written

MAX_BULK = 1_000
DEFAULT_LIST = 20
MAX_LIST = 1_000
MAX_QUERY = 2_000
"""Characters of a search."""
MIN_PREFIX = 4
SOON = 3_600 * moment.SECOND
"""What expires within an hour is counted as expiring soon."""

T = TypeVar("T")
_fields = msgspec.json.Decoder(Fields)
_bulk = msgspec.json.Decoder(list[msgspec.Raw])
_any = msgspec.json.Decoder()


class Memories:
    """Reads and writes for local clients.

    `now`: microseconds since 1970. `before_write`: looks at the clocks, as a machine that was rolled back must begin a
    new life before it writes (protocol section 4, *Actor*).
    """

    def __init__(
        self,
        store: Store,
        engine: Engine,
        now: Callable[[], int],
        before_write: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._store = store
        self._engine = engine
        self._now = now
        self._before_write = before_write

    # --- writes

    async def create(self, body: bytes, agent: str | None) -> dict[str, Any]:
        """Store under a title: a new memory, or a change of the one that has it."""
        fields = decoded(_fields, body)
        writer = self.writer(fields.agent_id, agent)
        written = await self._write(lambda ledger: self._engine.store(ledger, fields, writer, self._now()))
        return _summary(written.version)

    async def create_many(self, body: bytes, agent: str | None) -> dict[str, Any]:
        """Store up to 1,000 at once. One that is wrong is named by its place; the others are stored."""
        raws = _listed(body)
        if len(raws) > MAX_BULK:
            raise RemoteError("limits", f"{len(raws)} memories, at most {MAX_BULK} in one request")
        errors: dict[int, RemoteError] = {}
        drafts: dict[int, tuple[Fields, str]] = {}
        for index, raw in enumerate(raws):
            try:
                fields = decoded(_fields, bytes(raw))
                drafts[index] = (fields, self.writer(fields.agent_id, agent))
            except RemoteError as error:
                errors[index] = error
        written: list[Written] = []
        places = list(drafts)
        for start in range(0, len(places), 100):  # in slices, so that single writes get in between
            some = places[start : start + 100]

            def write(ledger: Ledger, some: list[int] = some) -> list[Written | RemoteError]:
                return self._engine.store_many(ledger, [drafts[index] for index in some], self._now())

            for index, result in zip(some, await self._write(write, bulk=True), strict=True):
                if isinstance(result, RemoteError):
                    errors[index] = result
                else:
                    written.append(result)
        return {
            "created": len(written),
            "ids": [one.version.id for one in written],
            "errors": [f"{index}: {errors[index]}" for index in sorted(errors)],
        }

    async def update(self, record_id: str, body: bytes, agent: str | None, namespace: str | None) -> dict[str, Any]:
        """Change fields of a memory; returns it as it is then."""
        fields = decoded(_fields, body)
        return await self._change(record_id, fields, self.writer(fields.agent_id, agent), namespace)

    async def promote(self, record_id: str, agent: str | None, namespace: str | None) -> dict[str, Any]:
        """Make a memory long-lived."""
        fields = Fields(tier="long", expires_at=None)
        changed = await self._change(record_id, fields, self.writer(fields.agent_id, agent), namespace)
        return {"id": changed["id"], "promoted": True, "tier": changed["tier"]}

    async def _change(self, record_id: str, fields: Fields, agent: str, namespace: str | None) -> dict[str, Any]:
        key = (await self.found(record_id, namespace)).key
        result = await self._write(lambda ledger: self._engine.update(ledger, key, fields, agent, self._now()))
        if isinstance(result, Missing):
            raise RemoteError("not_found", "not found")
        if isinstance(result, TitleTaken):
            raise RemoteError("title_taken", f"the title is taken in that namespace by memory {result.id}")
        return _document(result.version)

    async def delete(self, record_id: str, agent: str | None, namespace: str | None) -> dict[str, Any]:
        """Delete a memory, here and on every peer."""
        key = (await self.found(record_id, namespace)).key
        writer = self.writer(None, agent)
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
        for part in adoption.parts(body):

            def adopt(ledger: Ledger, part: adoption.Part = part) -> adoption.Told:
                return part.adopt(self._engine, ledger, self._now())

            told.append(await self._write(adopt, bulk=True))
        return adoption.answer(told)

    async def write(self, work: Callable[[Engine, Ledger, int], T]) -> T:
        """Have the writer run `work` with the engine, its ledger and the time then."""
        return await self._write(lambda ledger: work(self._engine, ledger, self._now()))

    async def _write(self, work: Callable[[Ledger], T], *, bulk: bool = False) -> T:
        if self._before_write is not None:
            await self._before_write()
        return await self._store.writer.run(work, bulk=bulk)

    def writer(self, given: str | Unset | None, claimed: str | None) -> str:
        """Who writes: the agent that the body names, or the one that the caller claims to be, or the node."""
        agent = given if isinstance(given, str) else claimed or self._engine.agent
        if fault := agent_fault(agent):
            raise RemoteError("invalid", fault)
        return agent

    # --- reads

    async def get(self, record_id: str, namespace: str | None) -> bytes:
        """`{"memory": …, "links": […]}` as JSON. An id may be shortened to a prefix that only one memory has."""
        now = self._text()

        def read(reader: Reader) -> tuple[list[Kept], list[Linked]]:
            found = _look_up(reader, record_id, now, namespace)
            return found, reader.links(found[0].version.id, now, MAX_LIST) if found else []

        found, links = await self.look_up(read)
        return b'{"memory":%b,"links":[%b]}' % (_only(found, record_id).doc, joined(links))

    async def found(self, record_id: str, namespace: str | None) -> Version:
        """The memory with this id, or with the only id that begins so. Raises `not_found`, `ambiguous_id`."""
        now = self._text()
        return _only(await self.look_up(lambda reader: _look_up(reader, record_id, now, namespace)), record_id)

    async def links(self, record_id: str, limit: int, offset: int) -> list[Linked]:
        """The links of a memory, given its whole id."""
        now = self._text()
        return await self.look_up(lambda reader: reader.links(record_id, now, limit, offset))

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
            whole(query, "limit", DEFAULT_LIST, MAX_LIST),
            whole(query, "offset", 0, 10**9),
            query.get("namespace"),
            _tier(query),
            query.get("tags") or query.get("tag"),
            query.get("agent_id"),
            _time(query, "since"),
            _time(query, "until"),
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
            whole(query, "limit", DEFAULT_LIST, MAX_LIST),
            query.get("namespace"),
            _tier(query),
            query.get("tags") or query.get("tag"),
            query.get("agent_id"),
        )
        found = await self._store.reader.run(lambda reader: reader.search(wanted))
        joined = b",".join(found.documents)
        return b'{"results":[%b],"count":%d,"query":%b}' % (joined, len(found.documents), msgspec.json.encode(text))

    async def namespaces(self) -> dict[str, Any]:
        now = self._text()
        found = await self._store.reader.run(lambda reader: reader.namespaces(now))
        return {"namespaces": _counted(found, "namespace")}

    async def stats(self) -> dict[str, Any]:
        """Counts over the store, and its digest: equal on two nodes that keep the same."""
        now = self._text()
        soon = moment.text(self._now() + SOON)
        found = await self._store.reader.run(lambda reader: reader.stats(now, soon))
        position = self._store.position
        return {
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
            "digest": f"{position.digest:032x}",
        }

    def _text(self) -> str:
        return moment.text(self._now())


def joined(links: Iterable[Linked]) -> bytes:
    """Links as the elements of a JSON list; `missing` names the end whose memory is not here."""
    return b",".join(
        one.doc if one.missing is None else b'%b,"missing":"%b"}' % (one.doc[:-1], one.missing.encode())
        for one in links
    )


def _only(found: Sequence[Kept], record_id: str) -> Version:
    if not found:
        raise RemoteError("not_found", "not found")
    if len({one.version.id for one in found}) > 1:
        raise RemoteError("ambiguous_id", f"{record_id!r} begins more than one id; give more of it")
    return found[0].version


def _look_up(reader: Reader, record_id: str, now: str, namespace: str | None) -> list[Kept]:
    """One statement: a whole id is the first of those that begin with it."""
    if len(record_id) < MIN_PREFIX:
        return reader.by_id(record_id, now, namespace)
    found = reader.by_prefix(record_id, now, namespace)
    return [one for one in found if one.version.id == record_id] or found


def decoded(decoder: "msgspec.json.Decoder[T]", body: bytes) -> T:
    """What a client's body says. Raises RemoteError `invalid` or `malformed`."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise RemoteError("invalid", f"{error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RemoteError("malformed", f"the body is no JSON object: {_why(error)}") from None


def _listed(body: bytes) -> Sequence[bytes | msgspec.Raw]:
    try:
        return _bulk.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        parts = apart.elements(body)  # so that one that cannot be read at all refuses only itself
        if parts is None:
            raise RemoteError("malformed", f"the body is no list of memories: {_why(error)}") from None
        return parts


def _why(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8"
    return str(error)


def _summary(version: Version) -> dict[str, Any]:
    document = _document(version)
    return {key: document[key] for key in ("id", "tier", "namespace", "title")} | {
        "agent_id": document["metadata"].get("agent_id"),
        "updated_at": version.at,
    }


def _document(version: Version) -> dict[str, Any]:
    document: dict[str, Any] = _any.decode(version.doc)
    return document


def _counted(found: Iterable[tuple[str, int]], name: str) -> list[dict[str, Any]]:
    return [{name: value, "count": count} for value, count in found]


def whole(query: Mapping[str, str], name: str, default: int, most: int) -> int:
    """A number in a query. Raises RemoteError `bad_query`."""
    text = query.get(name)
    if text is None or text == "":
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 11):
        raise RemoteError("bad_query", f"{name}: {text[:20]!r}, a number from 0 to {most} expected")
    return min(int(text), most)


def _tier(query: Mapping[str, str]) -> str | None:
    tier = query.get("tier") or None
    if tier is not None and tier not in TIERS:
        raise RemoteError("bad_query", f"tier: {tier[:20]!r}, one of {', '.join(TIERS)} expected")
    return tier


def _time(query: Mapping[str, str], name: str) -> str | None:
    text = query.get(name)
    if not text:
        return None
    found = moment.canonical(text)
    if found is None:
        raise RemoteError("bad_query", f"{name}: {text[:40]!r}, an RFC 3339 time expected (write + as %2B)")
    return found
