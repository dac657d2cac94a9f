"""Advisories from a file, in the format of OSV, for machines that cannot reach the public source.

The file is one record, a list of records, or `{"vulns": [...]}` as JSON; or a ZIP archive with one record a file, as
OSV publishes them for each ecosystem. `serve` answers the queries of OSV's API from it on loopback, so that the program
which asks is the same as online. Format: OSV schema 1.x.
"""

import io
import json
import threading
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from packaging.version import InvalidVersion, Version

from node.release import bounded
from node.release.errors import Unfit
from node.release.locks import ReleaseError, normalised

ECOSYSTEM = "PyPI"
MAX_QUERY = 1 << 16
MAX_FILE = 64 << 20
"""Bytes of the file as it lies there."""
MAX_RECORDS = 100_000
MAX_RECORD, MAX_UNPACKED = 4 << 20, 512 << 20
"""Bytes of one record of an archive, and of all that are read from it. Those of the whole ecosystem have a fifth."""
MAX_VALUES, MAX_DEPTH = 5_000_000, 64
"""Of all JSON in the file."""
LONGEST = 30
"""Seconds that a query may take to arrive."""

Records = Sequence[Mapping[str, Any]]


def load(path: Path) -> Records:
    """The records of a file that concern this ecosystem.

    Raises ReleaseError where the file cannot be read, has a record that is none, or has none for this ecosystem: a file
    in which nothing can be found is no audit.
    """
    try:
        records = [record for text in _texts(path) for record in _records(bounded.parsed(text, MAX_VALUES, MAX_DEPTH))]
    except (OSError, ValueError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError) as error:
        raise ReleaseError(f"{path.name} holds no advisories ({error}): expected OSV records, JSON or ZIP") from error
    for record in records:
        if fault := _fault(record):
            raise ReleaseError(f"{path.name}: {fault}: expected OSV records of schema 1.x")
    ours = [record for record in records if any(_ecosystem(one) == ECOSYSTEM for one in record["affected"])]
    if not ours:
        raise ReleaseError(f"{path.name} has no advisory for {ECOSYSTEM}, so nothing can be found in it")
    return ours


def matching(records: Records, name: str, version: str) -> list[Mapping[str, Any]]:
    """The records that a version of a package is affected by, those that were withdrawn left out."""
    return [
        record
        for record in records
        if not record.get("withdrawn")
        and any(
            _ecosystem(one) == ECOSYSTEM and normalised(one["package"]["name"]) == name and affects(one, version)
            for one in record["affected"]
        )
    ]


def affects(affected: Mapping[str, Any], version: str) -> bool:
    """Whether a version is in an `affected` entry: by its list or its ranges (OSV schema, "evaluation").

    What cannot be decided, for want of both or by a version that is none (PEP 440), counts as affected.
    """
    ranges = [one["events"] for one in affected.get("ranges", ()) if one.get("type") == "ECOSYSTEM"]
    versions = affected.get("versions", ())
    if version in versions or not (ranges or versions):
        return True
    try:
        return any(_in_range(events, Version(version)) for events in ranges)
    except InvalidVersion:
        return True


def _in_range(events: Sequence[Mapping[str, str]], version: Version) -> bool:
    # At one version, what ends comes before what begins.
    order = {"fixed": 0, "last_affected": 1, "introduced": 2}
    steps = [(kind, text) for event in events for kind, text in event.items() if kind in order]
    placed = sorted((Version("0.dev0" if text == "0" else text), order[kind], kind) for kind, text in steps)
    inside = False
    for at, _, kind in placed:
        if kind == "introduced" and version >= at:
            inside = True
        elif (kind == "fixed" and version >= at) or (kind == "last_affected" and version > at):
            inside = False
    return inside


def _texts(path: Path) -> Iterator[bytes]:
    text = bounded.data(path, MAX_FILE)
    if not text.startswith(b"PK"):
        yield text
        return
    left = MAX_UNPACKED
    with zipfile.ZipFile(io.BytesIO(text)) as archive:
        entries = [one for one in archive.infolist() if one.filename.endswith(".json")]
        if len(entries) > MAX_RECORDS:
            raise Unfit(f"{len(entries)} records, at most {MAX_RECORDS} are read")
        for entry in entries:
            with archive.open(entry) as file:  # what it says of its own size is not believed
                record = file.read(min(MAX_RECORD, left) + 1)
            left -= len(record)
            if len(record) > MAX_RECORD or left < 0:
                raise Unfit(f"more than {MAX_RECORD} bytes in {entry.filename[:80]!r}, or {MAX_UNPACKED} in all")
            yield record


def _records(document: Any) -> list[Any]:
    if isinstance(document, list):
        return document
    if isinstance(document, dict) and isinstance(document.get("vulns"), list):
        return list(document["vulns"])
    return [document]


def _fault(record: Any) -> str | None:
    """Why this is no record that can be judged."""
    if not isinstance(record, dict) or not isinstance(record.get("id"), str):
        return "a record without an id"
    if str(record.get("schema_version", "1.0.0")).partition(".")[0] != "1":
        return f"{record['id']} is of schema {record['schema_version']}"
    affected = record.get("affected")
    if record.get("withdrawn") is None and not affected:
        return f"{record['id']} affects nothing"
    record.setdefault("affected", [])
    return None


def _ecosystem(affected: Mapping[str, Any]) -> str:
    return str(affected.get("package", {}).get("ecosystem", ""))


@contextmanager
def serve(records: Records) -> Iterator[str]:
    """OSV's query on loopback while the context lasts; yields its URL."""

    class Answer(BaseHTTPRequestHandler):
        timeout = LONGEST

        def do_POST(self) -> None:
            said = self.headers.get("Content-Length", "")
            if not (said.isascii() and said.isdigit() and len(said) < 8 and int(said) <= MAX_QUERY):
                self.send_error(413)
                return
            try:
                asked = bounded.parsed(self.rfile.read(int(said)))
                name, version = normalised(asked["package"]["name"]), str(asked["version"])
            except (ValueError, TypeError, KeyError):
                self.send_error(400)
                return
            found = matching(records, name, version)
            body = json.dumps({"vulns": found} if found else {}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: Any) -> None:
            """The program that asks says what there is to say."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/v1/query"
        finally:
            server.shutdown()
            thread.join()
