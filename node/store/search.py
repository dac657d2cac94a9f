"""Full-text search over what the index holds and over the tail that it does not hold yet.

What is in the tail is read into a full-text table of the connection's own, in memory, with the same tokenizer: so a
search always finds what was acknowledged before it. An overwritten or deleted memory has no row any more and drops out
of the join.

A word that very many memories have cannot tell them apart: of more than 10,000 matches the newest 10,000 are ranked,
and the older ones follow, newest first, where a filter left too few of those
(docs/decisions/0010: exact ranking of a common word at 100,000 memories costs 58 ms, this costs 17).
"""

import re
from dataclasses import dataclass
from typing import Any

from node.store.connection import Connection
from node.store.scoping import within
from node.store.textindex import PLACE_MARK
from sync.scope import Globs

MOST_RANKED = 10_000
SLACK, FILTERED_SLACK = 4, 32
"""Matches that are ranked beyond those wanted: without a filter only what expired or was just overwritten drops out."""
_TAIL = "CREATE VIRTUAL TABLE temp.tail USING fts5(title, content, tags, content='', contentless_delete=1)"
_TERM = re.compile(r'"([^"]*)"|(\S+)')


@dataclass(frozen=True, slots=True)
class SearchFilter:
    """What to look for. All words must occur; words in double quotes must follow each other."""

    text: str
    now: str
    """Canonical time: what expired before it is left out."""
    limit: int
    namespace: str | None = None
    tier: str | None = None
    tag: str | None = None
    agent_id: str | None = None
    scope: Globs | None = None
    """What the client may see; None: everything."""


@dataclass(frozen=True, slots=True)
class _Hits:
    """How many matches are to be ranked, and the row after which they lie."""

    count: int
    after: int


@dataclass(frozen=True, slots=True)
class Found:
    """Documents, the best match first."""

    documents: list[bytes]


def expression(text: str) -> str:
    """An FTS5 query that means the words of `text` and can be no syntax error; empty where there is no word in it."""
    terms = []
    text = text.encode(errors="replace").decode()  # half of a surrogate pair is nothing that SQLite takes
    for phrase, word in _TERM.findall(text):
        term = (phrase or word).replace('"', " ").replace("\0", " ")
        if any(character.isalnum() for character in term):
            terms.append(f'"{term}"')
    if PLACE_MARK in text:  # no word of a text; without it only texts can match
        return "{title content tags} : (" + " ".join(terms) + ")" if terms else ""
    return " ".join(terms)


class TextSearch:
    """Search over one reader's connection."""

    def __init__(self, connection: Connection) -> None:
        self._execute = connection.execute
        self._execute(_TAIL)
        self._tail_to = 0

    def forget_tail(self) -> None:
        """After a transaction that was rolled back, which took back what it did to the connection's own table."""
        self._execute("DELETE FROM temp.tail")
        self._tail_to = 0

    def search(self, wanted: SearchFilter) -> Found:
        match = expression(wanted.text)
        if not match:
            return Found([])
        conditions, values = _conditions(wanted)
        found: list[bytes] = []
        if self._refresh_tail():
            hits = self._newest("temp.tail", match)
            found = self._in("temp.tail", match, hits, conditions, values, wanted.limit)
        if len(found) < wanted.limit:
            hits = self._newest("text", match)
            found += self._in("text", match, hits, conditions, values, wanted.limit - len(found))
            if hits.after and len(found) < wanted.limit:
                found += self._older(match, hits.after, conditions, values, wanted.limit - len(found))
        return Found(found)

    def _in(self, table: str, match: str, hits: _Hits, conditions: str, values: list[Any], limit: int) -> list[bytes]:
        """The best of one table. Rows are joined after ranking: few are read, and more where many drop out."""
        if not hits.count:
            return []
        name = table.rpartition(".")[2]
        ranked = limit + (FILTERED_SLACK if len(values) > 1 else SLACK)
        while True:
            rows = self._execute(
                f"SELECT m.doc FROM (SELECT rowid AS number, rank FROM {table} WHERE {name} MATCH ? AND rowid > ?"
                f" ORDER BY rank LIMIT ?) AS hit CROSS JOIN memory m ON m.number = hit.number"
                f" WHERE {conditions} ORDER BY hit.rank LIMIT ?",
                (match, hits.after, ranked, *values, limit),
            ).fetchall()
            if len(rows) == limit or ranked >= hits.count:
                return [doc for (doc,) in rows]
            ranked = min(MOST_RANKED, ranked * 16)

    def _older(self, match: str, floor: int, conditions: str, values: list[Any], limit: int) -> list[bytes]:
        """Matches up to `floor`, unranked: only as many are read as it takes."""
        rows = self._execute(
            "SELECT m.doc FROM text CROSS JOIN memory m ON m.number = text.rowid"
            f" WHERE text MATCH ? AND text.rowid <= ? AND {conditions} ORDER BY text.rowid DESC LIMIT ?",
            (match, floor, *values, limit),
        )
        return [doc for (doc,) in rows]

    def _newest(self, table: str, match: str) -> _Hits:
        """The newest `MOST_RANKED` matches. To count them costs a tenth of ranking them."""
        name = table.rpartition(".")[2]
        count, last = self._execute(
            f"SELECT count(*), min(rowid) FROM (SELECT rowid FROM {table} WHERE {name} MATCH ?"
            " ORDER BY rowid DESC LIMIT ?)",
            (match, MOST_RANKED + 1),
        ).fetchone()
        return _Hits(MOST_RANKED, int(last)) if count > MOST_RANKED else _Hits(int(count), 0)

    def _refresh_tail(self) -> bool:
        """Bring the connection's own table in step with this state of the store; False where nothing is in it."""
        indexed = int(self._execute("SELECT number FROM indexed").fetchone()[0])
        last = int(self._execute("SELECT max(number) FROM head").fetchone()[0])
        if last <= indexed:
            return False
        if self._tail_to > last:  # a store that was replaced
            self.forget_tail()
        self._execute("DELETE FROM temp.tail WHERE rowid <= ?", (indexed,))
        if self._tail_to < last:
            self._execute(
                "INSERT INTO temp.tail(rowid, title, content, tags) SELECT number, title,"
                " CAST(doc AS TEXT) ->> 'content', CAST(doc AS TEXT) ->> 'tags' FROM memory"
                " WHERE number > ? AND kind = 'm' ORDER BY number",
                (max(indexed, self._tail_to),),
            )
            self._tail_to = last
        return True


def _conditions(wanted: SearchFilter) -> tuple[str, list[Any]]:
    conditions, values = ["(m.expires_at IS NULL OR m.expires_at > ?)"], [wanted.now]
    table = (
        ("m.namespace = ?", wanted.namespace),
        ("CAST(m.doc AS TEXT) ->> 'tier' = ?", wanted.tier),
        ("EXISTS(SELECT 1 FROM json_each(CAST(m.doc AS TEXT), '$.tags') WHERE value = ?)", wanted.tag),
        ("CAST(m.doc AS TEXT) ->> '$.metadata.agent_id' = ?", wanted.agent_id),
    )
    for condition, value in table:
        if value is not None:
            conditions.append(condition)
            values.append(value)
    visible, scopes = within(wanted.scope, "m.namespace")
    return " AND ".join(conditions) + visible, [*values, *scopes]
