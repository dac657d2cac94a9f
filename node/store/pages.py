"""Cutting a page of the feed: one range of the primary key, its documents joined by the database, never row by row."""

from collections.abc import Callable
from typing import Any

import msgspec

from sync.ports import FeedPage, PageRequest, Position

Execute = Callable[..., Any]

_AT_ONCE = """
SELECT count(*), max(number), sum(length(doc)), sum(others),
       CAST(group_concat(doc, ',') FILTER (WHERE kind = 'm' AND visible) AS BLOB),
       CAST(group_concat(doc, ',') FILTER (WHERE kind = 't' AND visible) AS BLOB),
       CAST(group_concat(doc, ',') FILTER (WHERE kind IN ('l', 'u') AND visible) AS BLOB),
       count(*) FILTER (WHERE visible), min(at) FILTER (WHERE visible), max(at) FILTER (WHERE visible)
FROM (
    SELECT number, kind, at, others, doc, ?1 IS NULL OR giver IS NOT ?1 AS visible
    FROM memory WHERE number > ?2 ORDER BY number LIMIT ?3
)
"""
_LAST_BY_COUNT = """
SELECT count(*), max(number), sum(size), sum(others)
FROM (SELECT number, {size} AS size, others FROM memory WHERE number > ? ORDER BY number LIMIT ?)
"""
_LAST_BY_BYTES = """
SELECT max(number), sum(others) FROM (
    SELECT number, others, sum({size}) OVER (ORDER BY number) AS total, row_number() OVER (ORDER BY number) AS nth
    FROM memory WHERE number > ? AND number <= ?
) WHERE total <= ? OR nth = 1
"""
_BESIDE = (
    " + CASE others WHEN 0 THEN 0 ELSE"
    " (SELECT sum({size}) FROM conflict c WHERE c.id = memory.id AND c.namespace = memory.namespace) END"
)
_SIZE = "length(doc)" + _BESIDE.format(size="length(c.doc)")
_SIZE_OFFERED = "CASE WHEN giver IS NULL THEN length(doc) ELSE 120 END" + _BESIDE.format(
    size="CASE WHEN c.giver IS NULL THEN length(c.doc) ELSE 120 END"
)
_DOCUMENTS = """
SELECT CAST(group_concat(doc, ',') FILTER (WHERE kind = 'm') AS BLOB),
       CAST(group_concat(doc, ',') FILTER (WHERE kind = 't') AS BLOB),
       CAST(group_concat(doc, ',') FILTER (WHERE kind IN ('l', 'u')) AS BLOB),
       count(*), min(at), max(at)
FROM (SELECT doc, kind, at FROM memory WHERE number > ? AND number <= ?{conditions} ORDER BY number)
"""
_OFFERS = """
SELECT CAST(group_concat(json_array(namespace, id, lower(hex(tag))), ',') AS BLOB)
FROM (SELECT namespace, id, tag FROM memory WHERE number > ? AND number <= ?{conditions} ORDER BY number)
"""
_CONFLICTS = """
SELECT c.kind, c.giver, c.at, c.tag, c.namespace, c.id, c.doc
FROM memory INDEXED BY memory_conflicting CROSS JOIN conflict c ON c.id = memory.id AND c.namespace = memory.namespace
WHERE memory.number > ? AND memory.number <= ? AND memory.others > 0{conditions}
"""


def cut_page(execute: Execute, position: Position, request: PageRequest) -> FeedPage:
    """The page that `request` describes, from the state that `position` stands for."""
    if not request.offer and _is_unrestricted(request) and _likely_fits(execute, position, request):
        page = _at_once(execute, position, request)
        if page is not None:
            return page
    after, top = request.after, position.number
    measure = _SIZE_OFFERED if request.offer else _SIZE
    count, last, size, others = execute(_LAST_BY_COUNT.format(size=measure), (after, request.limit)).fetchone()
    if not count:
        return FeedPage(b"", b"", b"", 0, b"", top, top, position.head, None, None)
    whole = count < request.limit
    if size > request.max_bytes:
        by_bytes = execute(_LAST_BY_BYTES.format(size=measure), (after, last, request.max_bytes))
        (last, others), whole = by_bytes.fetchone(), False
    span = (after, last)
    visible, values = _visible(execute, span, request)
    bodies, offered, room = _split(execute, span, visible, values, request)
    memories, tombstones, links, number, earliest, latest = execute(
        _DOCUMENTS.format(conditions=bodies[0]), (*span, *bodies[1])
    ).fetchone()
    lists = ([found] if found else [] for found in (memories, tombstones, links))
    parts = dict(zip(("m", "t", "l"), lists, strict=True))
    offers = []
    if offered is not None:
        found = execute(_OFFERS.format(conditions=offered[0]), (*span, *offered[1])).fetchone()[0]
        offers = [found] if found else []
    times = [time for time in (earliest, latest) if time is not None]
    if others:
        # All kept versions of a key go in one page, whatever its limits.
        for kind, giver, at, tag, namespace, record_id, doc in execute(
            _CONFLICTS.format(conditions=visible), (*span, *values)
        ):
            if request.offer and giver is not None:
                if tag not in request.wanted or not (len(doc) <= room or room == request.max_bytes):
                    offers.append(msgspec.json.encode((namespace, record_id, tag.hex())))
                    continue
                room -= len(doc)
            parts["l" if kind == "u" else kind].append(doc)
            times.append(at)
            number += 1
    return FeedPage(
        b",".join(parts["m"]), b",".join(parts["t"]), b",".join(parts["l"]), number, b",".join(offers),
        top if whole else last, top, position.head, min(times, default=None), max(times, default=None),
    )  # fmt: skip


def _is_unrestricted(request: PageRequest) -> bool:
    return request.scope is None or getattr(request.scope, "is_everything", False)


def _likely_fits(execute: Execute, position: Position, request: PageRequest) -> bool:
    """A guess from the size of the file. Where it is wrong only time is lost: the page is measured first after all."""
    pages = execute("PRAGMA page_count").fetchone()[0]
    return bool(pages * 4_096 // max(1, position.number) * request.limit <= 2 * request.max_bytes)


def _at_once(execute: Execute, position: Position, request: PageRequest) -> FeedPage | None:
    """A page that nothing but the number of its rows limits, measured and joined in one pass over the encrypted pages.

    None where it is over the limit of bytes, or some of its keys have conflicts.
    """
    count, last, size, others, memories, tombstones, links, visible, earliest, latest = execute(
        _AT_ONCE, (request.skip_giver or None, request.after, request.limit)
    ).fetchone()
    if (size or 0) > request.max_bytes or others:
        return None
    top = position.number
    last = top if count < request.limit else last
    return FeedPage(
        memories or b"", tombstones or b"", links or b"", visible, b"", last, top, position.head, earliest, latest
    )


Condition = tuple[str, list[Any]]


def _visible(execute: Execute, span: tuple[int, int], request: PageRequest) -> Condition:
    """What the peer may see, and has not given us itself."""
    text, values = "", list[Any]()
    if request.scope is not None and not _is_unrestricted(request):
        found = execute("SELECT DISTINCT namespace FROM memory WHERE number > ? AND number <= ?", span)
        allowed = [namespace for (namespace,) in found if request.scope.allows(namespace)]
        # NULL where nothing is allowed: `IN ()` leaves SQLite without a plan for the index of the conflicts.
        text += f" AND memory.namespace IN ({','.join('?' * len(allowed)) or 'NULL'})"
        values += allowed
    if request.skip_giver:
        text += " AND NOT (memory.others = 0 AND memory.giver IS ?)"
        values.append(request.skip_giver)
    return text, values


def _split(
    execute: Execute, span: tuple[int, int], visible: str, values: list[Any], request: PageRequest
) -> tuple[Condition, Condition | None, int]:
    """Conditions for what goes as documents, and for what goes as offers (None: nothing does).

    And the room that is left for documents that are wanted: one goes in any case.
    """
    room = request.max_bytes
    if not request.offer:
        return (visible, values), None, room
    chosen: list[int] = []
    if request.wanted:
        relayed = execute(
            "SELECT number, tag, length(doc) FROM memory WHERE number > ? AND number <= ? AND giver IS NOT NULL"
            f"{visible} ORDER BY number",
            (*span, *values),
        )
        for number, tag, size in relayed:
            if tag in request.wanted and (room >= size or not chosen):
                chosen.append(number)
                room -= size
    listed = ",".join("?" * len(chosen))
    bodies = (f"{visible} AND (memory.giver IS NULL OR number IN ({listed}))", [*values, *chosen])
    offers = (f"{visible} AND memory.giver IS NOT NULL AND number NOT IN ({listed})", [*values, *chosen])
    return bodies, offers, room
