"""The existing daemon's database (schema 16 of v0.6.x, 42 of v0.7.x), encrypted or plain: rows, and what is left."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from node.legacy.importing.source import ARCHIVED, LINK, MEMORY, NAMESPACE, NotTaken, SourceError
from node.legacy.importing.sqlite_file import DatabaseError, SqliteFile, explained

REQUIRED = (
    "id", "namespace", "title", "content", "tier", "tags", "priority", "confidence", "source", "created_at",
    "updated_at",
)  # fmt: skip
OPTIONAL = ("expires_at", "metadata")
LINK_COLUMNS = (
    "source_id", "relation", "target_id", "created_at", "valid_from", "valid_until", "observed_by",
)  # fmt: skip
_JSON = {"tags": list[str], "metadata": dict[str, Any]}

EXTRA_FIELDS: dict[str, Any] = {
    "reflection_depth": 0, "memory_kind": "observation", "entity_id": None, "persona_version": None, "citations": "[]",
    "source_uri": None, "source_span": None, "confidence_source": "caller_provided", "confidence_signals": None,
    "confidence_decayed_at": None,
}  # fmt: skip
"""Fields that v0.7 has and this program has not, with the value that says nothing."""

TABLES: dict[str, tuple[str, bool]] = {
    "pending_actions": ("actions that wait for an approval: decide on them in the daemon", True),
    "subscriptions": ("webhooks: subscribe again", True),
    "entity_aliases": ("other names of entities: this version keeps none", True),
    "sync_state": ("how far the daemon had got with its peers: means nothing elsewhere", False),
}
"""What becomes of a table's rows, and whether that is a loss."""
_READ = ("memories", "memory_links", "namespace_meta", "archived_memories", "schema_version")


class RustDatabase:
    """An open database of the daemon. Raises SourceError from every method."""

    def __init__(self, path: Path, passphrase: Callable[[], str]) -> None:
        self._path = path
        self._file = SqliteFile(path, passphrase)
        try:
            self._tables = self._names(
                "SELECT name FROM sqlite_master WHERE type = 'table' AND sql LIKE 'CREATE TABLE%'"
            )
            self._columns = self._names("SELECT name FROM pragma_table_info('memories')")
            missing = [name for name in REQUIRED if name not in self._columns]
            if missing:
                raise SourceError(
                    "source_schema",
                    f"{path.name} is a database, but not the existing daemon's: its table memories "
                    + (f"lacks {', '.join(missing)}" if self._columns else "is not there"),
                )
            self.count = self._number("memories")
        except BaseException:
            self._file.close()
            raise

    @property
    def form(self) -> str:
        return "encrypted database" if self._file.is_encrypted else "plain, unencrypted database"

    def close(self) -> None:
        self._file.close()

    def memories(self) -> Iterator[dict[str, Any] | NotTaken]:
        names = [*REQUIRED, *(name for name in OPTIONAL if name in self._columns)]
        for values in self._rows(f"SELECT {', '.join(names)} FROM memories ORDER BY rowid"):  # noqa: S608  # names are ours
            yield _fields(dict(zip(names, values, strict=True)))

    def links(self) -> Iterator[dict[str, Any] | NotTaken]:
        if "memory_links" not in self._tables:
            return
        columns = self._names("SELECT name FROM pragma_table_info('memory_links')")
        names = [name for name in LINK_COLUMNS if name in columns]
        signed = "signature IS NOT NULL" if "signature" in columns else "0"
        statement = f"SELECT {signed}, {', '.join(names)} FROM memory_links"  # noqa: S608  # names are ours
        for is_signed, *values in self._rows(statement):
            try:
                yield {"signature": bool(is_signed)} | {
                    name: _decoded(value) for name, value in zip(names, values, strict=True)
                }
            except UnicodeDecodeError:
                yield NotTaken(LINK, "malformed", "not UTF-8 text", " ".join(_shown(value) for value in values[:3]))

    def rest(self) -> Iterator[NotTaken]:
        yield from self._namespaces()
        yield from self._archived()
        for name, default in EXTRA_FIELDS.items():
            if name in self._columns:
                count = self._number("memories", f'WHERE "{name}" IS NOT NULL AND "{name}" IS NOT ?', default)
                if count:
                    yield without_field(name, count)
        for table in sorted(self._tables):
            if table in _READ or table.startswith(("memories_fts", "sqlite_")):
                continue
            detail, is_loss = TABLES.get(table, ("this version keeps nothing of the kind", True))
            if count := self._number(table):
                yield NotTaken(table, "unsupported" if is_loss else "bookkeeping", detail, count=count, is_loss=is_loss)

    def _namespaces(self) -> Iterator[NotTaken]:
        if "namespace_meta" not in self._tables:
            return
        for values in self._rows("SELECT namespace, standard_id, parent_namespace FROM namespace_meta"):
            namespace, standard, parent = (_shown(value) for value in values)
            said = f"that memory {standard} is its standard" if standard else ""
            said += (" and " if said and parent else "") + (f"that its parent is {parent}" if parent else "")
            detail = f"{said or 'its entry'} is not kept: this version has no policies of namespaces"
            yield NotTaken(NAMESPACE, "unsupported", detail, namespace=namespace)

    def _archived(self) -> Iterator[NotTaken]:
        if "archived_memories" not in self._tables:
            return
        for values in self._rows("SELECT id, namespace, title FROM archived_memories"):
            detail = "it is in the archive, not alive: restore it in the daemon to take it along"
            record_id, namespace, title = (_shown(value) for value in values)
            yield NotTaken(ARCHIVED, "archived", detail, record_id, namespace, title)

    def _rows(self, statement: str, *values: Any) -> Iterator[tuple[Any, ...]]:
        try:
            yield from self._file.connection.execute(statement, values)
        except DatabaseError as error:
            raise explained(error, self._path) from None

    def _names(self, statement: str) -> frozenset[str]:
        return frozenset(_shown(name) for (name,) in self._rows(statement))

    def _number(self, table: str, where: str = "", *values: Any) -> int:
        quoted = table.replace('"', '""')
        ((count,),) = self._rows(f'SELECT count(*) FROM "{quoted}" {where}', *values)  # noqa: S608  # quoted
        return int(count)


def without_field(name: str, count: int) -> NotTaken:
    """What becomes of a field that this program has not."""
    return NotTaken(
        "field", "unsupported", f"{name}: this version has no such field; the memories are taken", count=count
    )


def _fields(row: dict[str, Any]) -> dict[str, Any] | NotTaken:
    """The row with its texts decoded and its JSON columns read."""
    try:
        fields = {name: _decoded(value) for name, value in row.items()}
    except UnicodeDecodeError:
        return _unreadable(row, "not UTF-8 text")
    if fields.get("metadata") is None:
        fields.pop("metadata", None)
    for name in _JSON.keys() & fields.keys():
        try:
            fields[name] = msgspec.json.decode(fields[name], type=_JSON[name])
        except (msgspec.DecodeError, RecursionError, TypeError) as error:
            return _unreadable(row, f"{name}: not JSON of the form expected ({error})")
    return fields


def _unreadable(row: dict[str, Any], detail: str) -> NotTaken:
    record_id, namespace, title = (_shown(row[name]) for name in ("id", "namespace", "title"))
    return NotTaken(MEMORY, "malformed", detail, record_id, namespace, title)


def _decoded(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value


def _shown(value: Any) -> str:
    """A value as text for a report, whatever it is."""
    text = value.decode(errors="replace") if isinstance(value, bytes) else "" if value is None else str(value)
    return text[:200]
