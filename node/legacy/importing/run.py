"""Runs an import: reads, translates, and hands over in batches; whatever ends it, run again it ends the same."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from node.legacy.importing import links, row
from node.legacy.importing.report import Report
from node.legacy.importing.rust_database import RustDatabase
from node.legacy.importing.rust_export import RustExport
from node.legacy.importing.source import LINK, MEMORY, NotTaken, Source
from sync.version import Version

BATCH = 300
BATCH_BYTES = 800_000
"""Documents of one request; a node takes at least one of the greatest memory."""

Adopt = Callable[[bytes], dict[str, Any]]
"""`POST /sync/versions` of the node, or the same on its store."""
Progress = Callable[[int, int], None]
"""Memories done, and all."""


def opened(path: Path, passphrase: Callable[[], str]) -> Source:
    """The file, by what is in it. Raises SourceError, OSError."""
    with path.open("rb") as file:
        head = file.read(64)
    if head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"{":
        return RustExport(path)
    return RustDatabase(path, passphrase)


def run(source: Source, adopt: Adopt, progress: Progress, now: int, *, dry_run: bool) -> Report:
    """Import everything that `source` has. `now`: microseconds since 1970.

    Raises SourceError, and what `adopt` raises; what was taken until then stays.
    """
    report = Report(source.form, dry_run)
    began = time.monotonic()
    for batch in _batches(source, report, now):
        body = b'{"dry_run":%b,"memories":[%b]}' % (
            msgspec.json.encode(dry_run),
            b",".join(one.doc for one, _ in batch),
        )
        answer = adopt(body)
        for (_, named), told in zip(batch, answer["outcomes"], strict=True):
            if told["outcome"] == "refused":
                report.refuse(NotTaken(MEMORY, told["reason"], told["detail"], *named))
            else:
                report.taken += told["outcome"] == "taken"
                report.unchanged += told["outcome"] == "unchanged"
        report.alarms += answer["alarms"]
        progress(report.taken + report.unchanged + report.refused[MEMORY], source.count)
    for link in source.links():
        report.found[LINK] += 1
        report.refuse(link if isinstance(link, NotTaken) else links.take(link))
    for one in source.rest():
        report.refuse(one)
    report.seconds = time.monotonic() - began
    return report


Named = tuple[str, str, str]
"""Id, namespace and title in the file."""


def _batches(source: Source, report: Report, now: int) -> Iterator[list[tuple[Version, Named]]]:
    batch: list[tuple[Version, Named]] = []
    size = 0
    for found in source.memories():
        report.found[MEMORY] += 1
        made = found if isinstance(found, NotTaken) else row.version(found, now)
        if isinstance(made, NotTaken):
            report.refuse(made)
            continue
        assert isinstance(found, dict), "a version is made of a row"
        if batch and (len(batch) >= BATCH or size + len(made.doc) > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append((made, (str(found["id"])[:200], made.namespace, made.title)))
        size += len(made.doc)
    if batch:
        yield batch
