"""Runs an import: reads, translates, and hands over in batches; whatever ends it, run again it ends the same."""

import codecs
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from node.legacy.importing import links, row
from node.legacy.importing.links import Ends, Here
from node.legacy.importing.report import Report
from node.legacy.importing.rust_database import RustDatabase
from node.legacy.importing.rust_export import RustExport
from node.legacy.importing.source import LINK, MEMORY, SIGNATURE, NotTaken, Source
from sync.version import Version

BATCH = 300
BATCH_BYTES = 800_000
"""Documents of one request; a node takes at least one of the greatest memory."""
UNSIGNED = "made over other bytes, by keys of that daemon: links are taken without them, and are unsigned here"

Adopt = Callable[[bytes], dict[str, Any]]
"""`POST /sync/versions` of the node, or the same on its store."""
Progress = Callable[[int, int], None]
"""Memories done, and all."""


def opened(path: Path, passphrase: Callable[[], str]) -> Source:
    """The file, by what is in it. Raises SourceError, OSError."""
    with path.open("rb") as file:
        head = file.read(64)
    return RustExport(path) if _is_object(head) else RustDatabase(path, passphrase)


def _is_object(head: bytes) -> bool:
    """True where a file begins as a JSON object does.

    Some encrypted files begin with a brace, or white space and a brace, too; but that all of it is UTF-8 is no chance.
    """
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(head.removeprefix(codecs.BOM_UTF8))
    except UnicodeDecodeError:
        return False
    return text.lstrip()[:1] == "{"


def run(source: Source, adopt: Adopt, here: Here, progress: Progress, now: int, *, dry_run: bool) -> Report:
    """Import everything that `source` has. `now`: microseconds since 1970.

    Raises SourceError, and what `adopt` and `here` raise; what was taken until then stays.
    """
    report = Report(source.form, dry_run)
    began = time.monotonic()
    ends = Ends(here)
    for batch in _batches(_memories(source, report, ends, now)):
        refused = {id(one) for one in _handed_over(batch, MEMORY, adopt, report)}
        for one in batch:
            if id(one) in refused:
                ends.lose(one.fields)
            else:
                ends.take(str(one.fields["id"]), one.version.key)
        progress(report.taken[MEMORY] + report.unchanged[MEMORY] + report.refused[MEMORY], source.count)
    for batch in _batches(_links(source, report, ends)):
        _handed_over(batch, LINK, adopt, report)
    for left in source.rest():
        report.refuse(left)
    report.seconds = time.monotonic() - began
    return report


@dataclass(frozen=True, slots=True)
class _Made:
    """A version, and what it was made of."""

    version: Version
    fields: dict[str, Any]
    names: tuple[str, str, str]
    """Id, namespace and title in the file, for a report."""


def _handed_over(batch: list[_Made], kind: str, adopt: Adopt, report: Report) -> list[_Made]:
    """Those of a batch that were refused."""
    documents = b",".join(one.version.doc for one in batch)
    memories, some_links = (documents, b"") if kind == MEMORY else (b"", documents)
    answer = adopt(
        b'{"dry_run":%b,"links":[%b],"memories":[%b]}' % (msgspec.json.encode(report.dry_run), some_links, memories)
    )
    refused = []
    for one, told in zip(batch, answer["outcomes"], strict=True):
        if told["outcome"] == "refused":
            report.refuse(NotTaken(kind, told["reason"], told["detail"], *one.names))
            refused.append(one)
        else:
            report.taken[kind] += told["outcome"] == "taken"
            report.unchanged[kind] += told["outcome"] == "unchanged"
    report.alarms += answer["alarms"]
    return refused


def _memories(source: Source, report: Report, ends: Ends, now: int) -> Iterator[_Made]:
    for found in source.memories():
        report.found[MEMORY] += 1
        made = found if isinstance(found, NotTaken) else row.version(found, now)
        if isinstance(made, NotTaken):
            report.refuse(made)
            ends.lose(found if isinstance(found, dict) else {"id": made.id})
        else:
            assert isinstance(found, dict), "a version is made of a row"
            yield _Made(made, found, (str(found["id"])[:200], made.namespace, made.title))


def _links(source: Source, report: Report, ends: Ends) -> Iterator[_Made]:
    signed = 0
    for found in source.links():
        report.found[LINK] += 1
        read = found if isinstance(found, NotTaken) else links.read(found)
        made = read if isinstance(read, NotTaken) else links.version(read, ends)
        if isinstance(made, NotTaken):
            report.refuse(made)
        else:
            assert isinstance(found, dict) and not isinstance(read, NotTaken), "a version is made of a link"
            signed += read.is_signed
            yield _Made(made, found, (read.shown[:400], "", ""))
    if signed:
        report.refuse(NotTaken(SIGNATURE, "unsupported", UNSIGNED, count=signed, is_loss=False))


def _batches(some: Iterable[_Made]) -> Iterator[list[_Made]]:
    batch: list[_Made] = []
    size = 0
    for one in some:
        if batch and (len(batch) >= BATCH or size + len(one.version.doc) > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(one)
        size += len(one.version.doc)
    if batch:
        yield batch
