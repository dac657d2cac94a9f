"""A kept version judged anew: every bit of it that was altered is found."""

from collections.abc import Iterator
from dataclasses import fields, replace

import pytest
from keys import pair
from stamps import stamp
from versions import ALICE, BOB, ID, OTHER, memory

from sync.attest import is_genuine
from sync.link import link_version, unlink_version
from sync.recheck import Broken, Stored, recheck
from sync.record import memory_version, tombstone_version
from sync.version import Version

AT = "2027-01-15T08:00:00.000000+00:00"
WRITER = pair("ai:writer")
CLOCK = stamp({ALICE: 5 << 20, BOB: 3 << 20})
MADE = {
    "memory": memory_version(memory(tags=["t"], metadata={"x": [1.5, None, "é"]}), WRITER, CLOCK),
    "tombstone": tombstone_version("a", ID, AT, WRITER, CLOCK),
    "link": link_version("a", ID, OTHER, "related_to", AT, WRITER, CLOCK, valid_from=AT, observed_by="ai:x"),
    "unlink": unlink_version("a", ID, OTHER, "related_to", AT, WRITER, CLOCK),
}


def stored(version: Version) -> Stored:
    return Stored(
        version.namespace.encode(), version.id.encode(), version.kind.encode(), version.at.encode(),
        version.title.encode(), version.stamp, version.content,
        version.signature, version.tag, version.doc,
    )  # fmt: skip


def flipped(one: Stored) -> Iterator[tuple[str, Stored]]:
    """Every version that differs in one bit of one column: in the long document one bit of each byte."""
    for column in fields(Stored):
        value = getattr(one, column.name)
        for place in range(len(value)):
            for bit in (place % 8,) if column.name == "doc" else range(8):
                changed = value[:place] + bytes([value[place] ^ (1 << bit)]) + value[place + 1 :]
                yield f"{column.name}[{place}].{bit}", replace(one, **{column.name: changed})


@pytest.mark.parametrize("kind", MADE)
def test_what_is_as_it_was_written_is_found_so(kind: str) -> None:
    """Control: of every kind."""
    assert recheck(stored(MADE[kind])) == MADE[kind]


@pytest.mark.parametrize("kind", MADE)
def test_every_flipped_bit_is_found(kind: str) -> None:
    """In whatever column: by the columns that do not fit, or by the signature."""
    missed = []
    for place, one in flipped(stored(MADE[kind])):
        found = recheck(one)
        if isinstance(found, Version) and is_genuine(found):
            missed.append(place)
    assert missed == []


def test_without_the_comparison_most_columns_would_not_be_missed() -> None:
    """Control: the signature alone says nothing of a title in the store that is not the document's."""
    one = replace(stored(MADE["memory"]), title=b"another")
    assert recheck(one) == Broken("altered", "title: not what the document says")
    assert is_genuine(replace(MADE["memory"], title="another"))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"kind": b"x"}, "altered"),
        ({"kind": b"l"}, "malformed"),
        ({"doc": b"{"}, "malformed"),
        ({"doc": b"\xff"}, "malformed"),
        ({"doc": b"[" * 100_000}, "malformed"),
        ({"doc": MADE["memory"].doc.replace(b'"text"', b'"else"')}, "bad_attestation"),
        ({"doc": MADE["memory"].doc + b" "}, "altered"),
        ({"stamp": b"null"}, "altered"),
        ({"stamp": b"\xff"}, "altered"),
        ({"namespace": b"\xff"}, "altered"),
    ],
)
def test_what_is_wrong_is_said(changes: dict[str, bytes], reason: str) -> None:
    """By a stable reason; nothing that lies there makes it raise."""
    found = recheck(replace(stored(MADE["memory"]), **changes))
    assert isinstance(found, Broken)
    assert found.reason == reason
    assert found.detail
