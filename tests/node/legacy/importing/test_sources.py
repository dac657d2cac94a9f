"""The two forms of a source: what of a database and of an export is read, and what is left behind and why."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import rust_files
from rust_files import row, write_database, write_export

from node.legacy.importing.run import opened
from node.legacy.importing.rust_database import TABLES
from node.legacy.importing.rust_export import RustExport
from node.legacy.importing.source import NotTaken, Source, SourceError

# Recorded from `GET /api/v1/export`: v0.6.3 as it came, v0.7.0 with what its rows have in addition.
V063 = (
    '{"count":2,"exported_at":"2026-11-24T07:25:50.051720120+00:00","links":[{"created_at":"2026-11-24T07:25:50+00:00",'
    '"relation":"related_to","source_id":"f2f99498-0b95-4593-9ba4-71ec0e34eb6d",'
    '"target_id":"4c2b63c4-41dd-41ed-9e6b-7f3193bc3a23"}],"memories":[{"access_count":0,"confidence":1.0,'
    '"content":"hello from a peer","created_at":"2026-05-01T12:00:00Z","id":"f2f99498-0b95-4593-9ba4-71ec0e34eb6d",'
    '"metadata":{"agent_id":"ai:peer","scope":"collective"},"namespace":"rec","priority":5,"source":"api","tags":["a"],'
    '"tier":"mid","title":"T 34c32bf7","updated_at":"2026-05-01T12:00:00Z"},{"access_count":0,"confidence":1.0,'
    '"content":"other id","created_at":"2026-11-24T07:25:44.919307+00:00","id":"4c2b63c4-41dd-41ed-9e6b-7f3193bc3a23",'
    '"metadata":{"agent_id":"ai:peer","scope":"collective"},"namespace":"rec","priority":5,"source":"api","tags":["a"],'
    '"tier":"mid","title":"T a281a8dd","updated_at":"2026-11-24T07:25:49.924638+00:00"}]}'
)
V070 = (
    '{"count":1,"exported_at":"2026-11-24T06:47:40.205022212+00:00","links":[],"memories":[{"access_count":0,'
    '"citations":[],"confidence":1.0,"confidence_source":"caller_provided","content":"hello from a peer",'
    '"created_at":"2026-05-01T12:00:00Z","id":"a023c6af-a896-4bd8-92f8-daee875ca56c","memory_kind":"observation",'
    '"metadata":{"agent_id":"ai:peer","scope":"collective"},"namespace":"rec","priority":5,"reflection_depth":0,'
    '"source":"api","tags":["a"],"tier":"mid","title":"T 3b64128e","updated_at":"2026-05-01T12:00:00Z"}]}'
)


def no_passphrase() -> str:
    raise AssertionError("a plain file needs none")


def source(path: Path) -> Source:
    return opened(path, no_passphrase)


def database(path: Path, *rows: dict[str, Any], script: str = "") -> Source:
    write_database(path / "memory.db", rows, None, script)
    return source(path / "memory.db")


def rest(one: Source) -> dict[str, NotTaken]:
    """What is left, by kind and name; after the memories, as an import asks for it."""
    list(one.memories())
    return {f"{left.kind} {left.title or left.namespace or left.detail.partition(':')[0]}": left for left in one.rest()}


# --- the database


def test_rows_have_the_names_and_types_of_the_wire(tmp_path: Path) -> None:
    """The JSON columns are read; columns that are only the daemon's own are left out."""
    [found] = database(tmp_path, row(1, expires_at="2027-01-01T00:00:00Z", embedding=b"\0\1")).memories()
    assert found == {name: value for name, value in row(1).items() if name != "access_count"} | {
        "expires_at": "2027-01-01T00:00:00Z"
    }


@pytest.mark.parametrize(
    ("changes", "detail"),
    [
        ({"tags": "[nope"}, "tags: not JSON"),
        ({"tags": '{"a": 1}'}, "tags: not JSON of the form"),
        ({"tags": "[1]"}, "tags: not JSON of the form"),
        ({"metadata": "[]"}, "metadata: not JSON of the form"),
        ({"metadata": '{"a": NaN}'}, "metadata: not JSON"),
        ({"metadata": '{"a":' * 5_000}, "metadata: not JSON"),
        ({"tags": 5}, "tags: not JSON"),
        ({"content": b"\xff\xfe"}, "not UTF-8"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_column_that_cannot_be_read_refuses_its_row_alone(
    tmp_path: Path, changes: dict[str, Any], detail: str
) -> None:
    """The row is named, and the next one is read."""
    bad, good = database(tmp_path, row(1, **changes), row(2)).memories()
    assert isinstance(bad, NotTaken)
    assert (bad.reason, bad.id, bad.title) == ("malformed", row(1)["id"], "title 1")
    assert detail in bad.detail
    assert isinstance(good, dict)


def test_links_are_read(tmp_path: Path) -> None:
    """And one that is no text refuses itself."""
    script = "INSERT INTO memory_links VALUES ('a', 'b', 'related_to', ''), ('c', x'ff', 'supersedes', '');"
    good, bad = database(tmp_path, script=script).links()
    assert good == {
        "source_id": "a", "relation": "related_to", "target_id": "b", "created_at": "", "signature": False,
    }  # fmt: skip
    assert isinstance(bad, NotTaken)


def test_links_of_v07_are_read_with_what_it_says_of_them(tmp_path: Path) -> None:
    """Its validity, its observer, and that it is signed; the signature itself is not read."""
    script = """
        ALTER TABLE memory_links ADD COLUMN valid_from TEXT;
        ALTER TABLE memory_links ADD COLUMN valid_until TEXT;
        ALTER TABLE memory_links ADD COLUMN observed_by TEXT;
        ALTER TABLE memory_links ADD COLUMN signature BLOB;
        INSERT INTO memory_links VALUES ('a', 'b', 'supersedes', 'now', 'from', NULL, 'daemon', x'01');
    """
    [one] = database(tmp_path, script=script).links()
    assert one == {
        "source_id": "a", "relation": "supersedes", "target_id": "b", "created_at": "now", "signature": True,
        "valid_from": "from", "valid_until": None, "observed_by": "daemon",
    }  # fmt: skip


def test_each_table_that_is_left_says_why(tmp_path: Path) -> None:
    """Standards and parents one by one, the archive one by one, the others by their number; an empty one not at all."""
    script = """
        INSERT INTO namespace_meta VALUES ('n', 'id-1', '', 'p'), ('m', NULL, '', 'q'), ('l', NULL, '', NULL);
        INSERT INTO archived_memories VALUES ('id-2', 'n', 'old', 'c', '', 'ttl');
        INSERT INTO pending_actions VALUES ('1', 'store');
        INSERT INTO subscriptions VALUES ('1', 'https://x');
        INSERT INTO entity_aliases VALUES ('1', 'a', '');
        INSERT INTO sync_state VALUES ('1', '2', ''), ('1', '3', '');
    """
    found = rest(database(tmp_path, script=script))
    assert {name.split()[0] for name in found} == {"namespace", "archived_memory", *TABLES}
    assert "memory id-1 is its standard and that its parent is p" in found["namespace n"].detail
    assert "its parent is q" in found["namespace m"].detail
    assert "standard" not in found["namespace m"].detail
    assert (found["archived_memory old"].id, found["archived_memory old"].reason) == ("id-2", "archived")
    [state] = (one for one in found.values() if one.kind == "sync_state")
    assert (state.count, state.is_loss) == (2, False)
    assert all(one.is_loss for one in found.values() if one is not state)
    (tmp_path / "empty").mkdir()
    assert rest(database(tmp_path / "empty")) == {}


def test_what_a_later_version_has_is_counted(tmp_path: Path) -> None:
    """Fields that say something, and tables that this program has never heard of."""
    script = rust_files.SCHEMA_OF_V07 + "INSERT INTO signed_events VALUES ('1'), ('2');"
    write_database(tmp_path / "memory.db", [row(1)], None, script)
    write_database(tmp_path / "memory.db", [row(2, memory_kind="reflection")], None)
    found = rest(source(tmp_path / "memory.db"))
    assert {name: one.count for name, one in found.items()} == {
        "field memory_kind": 1,
        "signed_events this version keeps nothing of the kind": 2,
    }


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("CREATE TABLE notes (id TEXT);", "table memories is not there"),
        ("CREATE TABLE memories (id TEXT, title TEXT);", "lacks namespace, content, tier"),
    ],
)
def test_another_programs_database_is_told_apart(tmp_path: Path, script: str, said: str) -> None:
    """By its tables, with what is missing."""
    connection = rust_files._connected(tmp_path / "memory.db", None)
    connection.executescript(script)
    connection.close()
    with pytest.raises(SourceError, match=said) as raised:
        source(tmp_path / "memory.db")
    assert raised.value.code == "source_schema"


# --- the export


@pytest.mark.parametrize(("body", "count", "links"), [(V063, 2, 1), (V070, 1, 0)], ids=["v0.6.3", "v0.7.0"])
def test_a_recorded_export_is_read(tmp_path: Path, body: str, count: int, links: int) -> None:
    """Rows and links as they stand in it, and nothing is left behind."""
    path = tmp_path / "export"  # the form is known by the content, not by the name
    path.write_text(body)
    one = source(path)
    assert one.form == "JSON export"
    assert one.count == count
    assert list(one.memories()) == json.loads(body)["memories"]
    assert len(list(one.links())) == links
    assert rest(one) == {}


def test_a_row_or_link_that_is_none_refuses_itself(tmp_path: Path) -> None:
    """Wherever it stands among good ones."""
    write_export(tmp_path / "e.json", [5, row(1), [], None], links=[[], 7])
    one = source(tmp_path / "e.json")
    assert [isinstance(found, dict) for found in one.memories()] == [False, True, False, False]
    assert all(isinstance(found, NotTaken) for found in one.links())


def test_what_an_export_has_beside_memories_and_links_is_counted(tmp_path: Path) -> None:
    """Lists that this program does not know, and fields of later versions where they say something."""
    rows = [row(1, memory_kind="reflection", citations=["x"]), row(2, memory_kind="observation", citations=[])]
    write_export(tmp_path / "e.json", rows, archived=[1, 2], pending=[])
    found = rest(source(tmp_path / "e.json"))
    assert {name.split(" this")[0]: one.count for name, one in found.items()} == {
        "field citations": 1, "field memory_kind": 1, "archived": 2,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (V063[:-30], "source_damaged"),
        ('{"memories": 5}', "source_damaged"),
        ('{"memories": [' + "[" * 100_000, "source_damaged"),
        ("{}", "source_schema"),
        ("{ not json", "source_damaged"),
    ],
    ids=["cut short", "no list", "too deep", "no memories", "no JSON"],
)
def test_a_broken_export_is_told_apart(tmp_path: Path, body: str, code: str) -> None:
    """As a whole it is refused, with the name of the file."""
    (tmp_path / "e.json").write_text(body)
    with pytest.raises(SourceError, match=r"e\.json") as raised:
        source(tmp_path / "e.json")
    assert raised.value.code == code


def test_a_byte_order_mark_is_no_part_of_it(tmp_path: Path) -> None:
    """Editors put one there."""
    (tmp_path / "e.json").write_bytes(b"\xef\xbb\xbf\n" + V063.encode())
    assert source(tmp_path / "e.json").count == 2


@pytest.mark.parametrize("beginning", [b"{", b" {", b"\n\t{", b"\xef\xbb\xbf{"])
def test_an_encrypted_file_that_begins_like_an_export_is_none(beginning: bytes, tmp_path: Path) -> None:
    """One file in some 250 begins with a brace: it is opened with its passphrase, and not read as JSON."""
    path = tmp_path / "memories.db"
    path.write_bytes((beginning + hashlib.shake_256(b"ciphertext").digest(8_192))[:8_192])
    with pytest.raises(SourceError) as raised:
        opened(path, lambda: "a passphrase")
    assert raised.value.code == "source_passphrase"
    text = '{"memories": [], "note": "' + "ü" * 40 + '"}'
    (tmp_path / "export").write_bytes(beginning.removesuffix(b"{") + text.encode())  # control: text goes to the other
    assert isinstance(opened(tmp_path / "export", no_passphrase), RustExport)
