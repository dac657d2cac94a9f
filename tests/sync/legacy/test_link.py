"""A link as the older daemon tells it, and the version that it is."""

from typing import Any

import msgspec
import pytest
from keys import agent_of
from versions import ID, NOW, OTHER

from sync import link as ours
from sync import moment
from sync.dot import MAX_COUNTER
from sync.legacy.judge import NOBODY
from sync.legacy.link import TheirLink, read_link, version_of
from sync.record import Refused

AT = moment.text(NOW)
TOLD = {"source_id": ID, "target_id": OTHER, "relation": "related_to", "created_at": AT}


def told(**fields: Any) -> TheirLink | Refused:
    return read_link(msgspec.json.encode({**TOLD, **fields}))


def test_a_link_is_read_as_it_was_told() -> None:
    """What it leaves out says nothing; times are written in one form."""
    assert told() == TheirLink(ID, OTHER, "related_to", AT)
    full = told(valid_from="2027-01-15T09:00:00+01:00", valid_until=None, observed_by="ai:x", signature="abc")
    assert full == TheirLink(ID, OTHER, "related_to", AT, AT, None, "ai:x", True)


REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "to itself": ({"target_id": ID}, "limits", "target_id: a memory cannot be linked to itself"),
    "relation": ({"relation": "likes"}, "limits", "relation: 'likes'"),
    "no time of making": ({"created_at": "soon"}, "limits", "created_at: 'soon', an RFC 3339 time expected"),
    "no time of validity": ({"valid_from": "soon"}, "limits", "valid_from: 'soon', an RFC 3339 time expected"),
    "no end of validity": ({"valid_until": "soon"}, "limits", "valid_until: 'soon', an RFC 3339 time expected"),
    "made before there was a clock": ({"created_at": "1969-12-31T00:00:00Z"}, "limits", "created_at: 1969-12-31"),
    "observer": ({"observed_by": "a b"}, "limits", "observed_by: 'a b', an agent id expected"),
    "observer of nothing": ({"observed_by": ""}, "limits", "observed_by: '', an agent id expected"),
    "no text": ({"source_id": 7}, "malformed", "not a link: Expected"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_link_that_is_none_is_refused_by_name(case: str) -> None:
    """With what was found; the same link without the fault is read."""
    fields, reason, detail = REFUSED[case]
    found = told(**fields)
    assert isinstance(found, Refused)
    assert (found.kind, found.reason) == ("l", reason)
    assert found.detail.startswith(detail)


def test_every_node_makes_the_same_version_of_it() -> None:
    """By whoever observed it, or by nobody; and every node reads it back."""
    for observer, writer in (("ai:x", "ai:x"), (None, NOBODY)):
        link = told(observed_by=observer)
        assert isinstance(link, TheirLink)
        version = version_of(link, ("a", ID), OTHER)
        assert not isinstance(version, Refused)
        assert agent_of(version) == writer
        assert ours.read(version.doc) == version
        assert version.dot.counter <= MAX_COUNTER
        assert version_of(link, ("a", ID), OTHER) == version


def test_a_link_between_two_that_are_one_here_is_refused() -> None:
    """It says nothing."""
    link = told()
    assert isinstance(link, TheirLink)
    found = version_of(link, ("a", ID), ID)
    assert isinstance(found, Refused)
    assert (found.id, found.reason) == (link.shown, "limits")
