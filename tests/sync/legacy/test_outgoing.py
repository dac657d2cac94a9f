"""What an older daemon is sent of a memory, and what is only said to the operator."""

from dataclasses import replace
from typing import Any

import msgspec
import pytest
import versions
from versions import ALICE, NOW, SECOND

from sync import moment
from sync.legacy.outgoing import TWIN, Delete, Keep, Known, Put, decide, holds, takes
from sync.legacy.past import Past
from sync.legacy.row import Row, read_row, row_of, unfit
from sync.record import load
from sync.version import Version

OURS = versions.version({ALICE: 3}, seconds=1)
STONE = versions.stone({ALICE: 4}, seconds=2)


def known(version: Version | None = None, **changes: Any) -> Known:
    """What is known of a daemon that has this version (or something older of its own)."""
    has = version if version is not None else versions.version({ALICE: 1})
    found = Known("theirs", has.title, has.at, has.tag if version is not None else b"", Past.of(has))
    return replace(found, **changes)


NOTHING: dict[str, Any] = {"at": "", "tag": b""}


@pytest.mark.parametrize(
    ("winner", "of_it", "expected"),
    [
        (OURS, None, Put(OURS.id)),
        (OURS, known(), Put("theirs")),
        (OURS, known(OURS), Keep()),
        (OURS, known(**NOTHING), Put("theirs")),
        (OURS, known(**NOTHING, title="older title"), Put("theirs")),
        (OURS, known(**NOTHING, theirs=""), Put(OURS.id)),
        (OURS, known(title="older title"), Put("theirs", replaces=True)),
        (STONE, None, Delete(STONE.id)),
        (STONE, known(), Delete("theirs")),
        (STONE, known(STONE, **NOTHING), Keep()),
        (STONE, known(**NOTHING), Keep()),
    ],
    ids=[
        "new to it", "older there", "it has it", "deleted there before", "deleted there under another title",
        "never there", "renamed", "delete of what it may have",
        "delete", "delete that it was told", "delete of what it has not",
    ],
)  # fmt: skip
def test_what_is_sent(winner: Version, of_it: Known | None, expected: object) -> None:
    """Under its name, never what it has, and a rename only after a delete."""
    assert decide(winner, of_it, twin=False) == expected


@pytest.mark.parametrize("at", [OURS.at, moment.text(NOW + 9 * SECOND), OURS.at.replace("+", "1+")])
def test_a_row_that_is_not_older_is_left_and_reported(at: str) -> None:
    """It would keep its own, whatever is sent: so nothing is, each time anew."""
    found = decide(OURS, known(at=at), twin=False)
    assert isinstance(found, Keep)
    assert (found.state, at in found.why) == ("held", True)


def test_its_order_is_that_of_text() -> None:
    """Times of other forms sort as they are written: a Z after every digit, an offset not at all."""
    assert takes("2027-01-15T08:00:00.000001+00:00", "2027-01-15T08:00:00.000000999+00:00")
    assert not takes("2027-01-15T08:00:00.500000+00:00", "2027-01-15T08:00:00Z")
    assert not takes("2027-01-15T13:00:00.000000+00:00", "2027-01-15T14:00:00+02:00")


def test_the_second_of_two_with_one_title_is_not_sent() -> None:
    """It keeps one row a title."""
    assert decide(OURS, None, twin=True) == Keep("refused", TWIN)
    assert decide(STONE, known(), twin=True) == Delete("theirs")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"content": "a\rb"}, "control character U+000D"),
        ({"source": "elsewhere"}, "source: 'elsewhere'"),
        ({"metadata": {"k": "x" * 65_400}}, "bytes with its attestation, at most 65536"),
        ({"priority": 11}, "priority: 11"),
    ],
)
def test_what_it_would_skip_in_silence_is_reported_and_not_sent(fields: dict[str, Any], said: str) -> None:
    """Its limits are looked at before it is asked: it answers 200, and says nothing of which row it left out."""
    version = versions.version({ALICE: 3}, **fields)
    found = decide(version, None, twin=False)
    assert isinstance(found, Keep)
    assert (found.state, said in found.why) == ("refused", True)
    assert unfit(OURS) is None


def shown(version: Version, **changes: Any) -> Row:
    found = read_row(msgspec.json.encode(msgspec.json.decode(row_of(version, "theirs")) | changes))
    assert isinstance(found, Row)
    return found


def test_a_row_goes_out_under_its_name_and_comes_back_as_it_was() -> None:
    """Every member that its clients must find, and the time as we write it."""
    raw = msgspec.json.decode(row_of(OURS, "theirs"))
    assert (raw["id"], raw["updated_at"], raw["access_count"]) == ("theirs", OURS.at, 0)
    assert {"tier", "namespace", "title", "content", "tags", "priority", "confidence", "source"} <= raw.keys()
    assert {"created_at", "metadata"} <= raw.keys()
    assert type(raw["priority"]) is int
    assert "expires_at" not in raw
    assert holds(shown(OURS), OURS) == "same"


def test_whether_it_has_our_winner() -> None:
    """The same, altered by rules of its own, or something else that ours can still overwrite."""
    assert holds(shown(OURS, priority=9), OURS) == "altered"
    assert holds(shown(OURS, content="else"), OURS) is None
    assert holds(shown(OURS), STONE) is None
    older = shown(OURS, updated_at=moment.text(NOW), tier="mid")
    assert holds(older, OURS) is None, "our change of the tier has not reached it"
    assert load(OURS.doc).tier == "long"
