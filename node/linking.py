"""Links between memories, as agents ask for them: make, take back, list. JSON in the existing daemon's shapes."""

from collections.abc import Awaitable, Mapping
from typing import Any

import msgspec

from node.inputs import decoded, whole
from node.memories import MAX_LIST, Memories, joined
from sync.errors import RemoteError
from sync.link import RELATIONS, LinkFields, ends, link_id
from sync.version import Key, Version
from sync.writes import Missing

_fields = msgspec.json.Decoder(LinkFields)


class Linking:
    """Reads and writes for local clients, beside those of `Memories`."""

    def __init__(self, memories: Memories) -> None:
        self._memories = memories

    async def create(self, body: bytes, agent: str | None, namespace: str | None) -> dict[str, Any]:
        """Link two memories that are here; ids may be shortened. `namespace`: of the first, where its id has several.

        A link that exists is changed where the body says something else of it, and stays as it is otherwise.
        """
        fields = _known(decoded(_fields, body))
        writer = self._memories.writer(fields.agent_id, agent)
        source = await self._end("source_id", self._memories.only(fields.source_id, namespace), fields.source_id)
        target = await self._end("target_id", self._memories.found(fields.target_id, None), fields.target_id)
        self._memories.rights.require_write(source.namespace)
        wanted = msgspec.structs.replace(fields, source_id=source.id, target_id=target.id)
        result = await self._memories.write(
            lambda engine, ledger, now: engine.link(ledger, source.namespace, wanted, writer, now)
        )
        if isinstance(result, Missing):
            raise RemoteError("not_found", f"source_id: memory {source.id} was deleted in this moment")
        return {"linked": True, "attest_level": "self_signed", **_triple(wanted)}

    async def delete(self, body: bytes | None, query: Mapping[str, str], agent: str | None) -> dict[str, Any]:
        """Take a link back, here and on every peer. `{"deleted": false}` where there is none.

        Its memories need not be here any more: then their ids must be whole. Where it is in several namespaces it is
        taken back in all that the client may write, or in the one that the query names.
        """
        asked = body if body is not None else msgspec.json.encode(dict(query))
        fields = _known(decoded(_fields, asked))
        writer = self._memories.writer(fields.agent_id, agent)
        namespace = query.get("namespace")
        keys = await self._keys(fields.source_id, fields.target_id, fields.relation, namespace)
        if not keys:
            source_id, target_id = [await self._whole_id(one) for one in (fields.source_id, fields.target_id)]
            keys = await self._keys(source_id, target_id, fields.relation, namespace)
        keys = await self._writable(keys)
        if not keys:
            return {"deleted": False}
        taken = await self._memories.write(lambda engine, ledger, now: engine.unlink(ledger, keys, writer, now))
        return {"deleted": bool(taken)}

    async def listed(self, record_id: str, query: Mapping[str, str]) -> bytes:
        """`{"links": […]}`: what begins at a memory or leads to it, newest change first.

        `missing` names the end whose memory is not here. Of a memory that is not here itself the id must be whole.
        """
        limit, offset = whole(query, "limit", MAX_LIST, MAX_LIST), whole(query, "offset", 0, 10**9)
        whole_id = await self._whole_id(record_id)
        links = await self._memories.links(whole_id, limit, offset)
        if not links and whole_id == record_id:
            await self._memories.found(record_id, query.get("namespace"))  # neither a memory nor anybody's other end?
        return b'{"links":[%b]}' % joined(links)

    async def _writable(self, keys: list[Key]) -> list[Key]:
        """Those that the client may take back. Raises RemoteError `forbidden` where it sees links, and may none."""
        rights = self._memories.rights
        seen = [key for key in keys if rights.may_read(key[0])]
        if seen and rights.scope is not None and not await self._memories.are_here(*ends(seen[0][1])[:2]):
            return []  # as for one that leads to nothing: see `links_within`
        found = [key for key in seen if rights.write.allows(key[0])]
        if seen and not found:
            rights.require_write(seen[0][0])
        return found

    async def _end(self, name: str, sought: Awaitable[Version], record_id: str) -> Version:
        try:
            return await sought
        except RemoteError as error:
            found = "no memory here has this id" if error.code == "not_found" else str(error)
            raise RemoteError(error.code, f"{name}: {record_id[:128]!r}: {found}") from None

    async def _whole_id(self, record_id: str) -> str:
        try:
            return (await self._memories.found(record_id, None)).id
        except RemoteError as error:
            if error.code != "not_found":
                raise
            return record_id

    async def _keys(self, source_id: str, target_id: str, relation: str, namespace: str | None) -> list[Key]:
        wanted = link_id(source_id, target_id, relation)
        return await self._memories.look_up(lambda reader: reader.link_keys(wanted, namespace))


def _known(fields: LinkFields) -> LinkFields:
    """The fields, if what they say is possible before anything is looked up. Raises RemoteError `invalid`."""
    if fields.relation not in RELATIONS:
        raise RemoteError("invalid", f"relation: {fields.relation[:40]!r}, one of {', '.join(RELATIONS)} expected")
    if fields.source_id == fields.target_id:
        raise RemoteError("invalid", "cannot link a memory to itself: source_id and target_id are the same")
    return fields


def _triple(fields: LinkFields) -> dict[str, str]:
    return {name: getattr(fields, name) for name in ("source_id", "target_id", "relation")}
