"""The older daemon's messages as they come in: what makes the whole unusable, and what refuses only itself."""

from typing import Any

import msgspec
import pytest
import versions

from sync.counted import MAX_RECORD
from sync.errors import RemoteError
from sync.legacy import messages
from sync.legacy.messages import MOST, MOST_REFUSED, decode_push, decode_since

ROW = msgspec.to_builtins(versions.memory())


def push(**fields: Any) -> bytes:
    return msgspec.json.encode({"sender_agent_id": "ai:them", "memories": [], **fields})


def since(**fields: Any) -> bytes:
    usual = {"count": 0, "limit": 100, "memories": [], "updated_since": None}
    return msgspec.json.encode({**usual, **fields})


WRONG: dict[str, tuple[bytes, str, str]] = {
    "no JSON": (b"{", "malformed", "the body is no JSON"),
    "deep": (b'{"memories":' + b"[" * 100_000, "malformed", "nested too deeply"),
    "no UTF-8": (b'{"sender_agent_id":"\xff","memories":[]}', "malformed", "the body is not UTF-8"),
    "another shape": (b"[]", "unprocessable", "the body is not what is expected here"),
    "no sender": (b'{"memories":[]}', "unprocessable", "the body is not what is expected here"),
    "a sender that is none": (push(sender_agent_id="a b"), "invalid", "sender_agent_id: 'a b'"),
    "no list": (push(memories={}), "unprocessable", "memories"),
    "ids that are none": (push(deletions=[7]), "unprocessable", "deletions"),
    "too many rows": (push(memories=[{}] * (MOST + 1)), "limits", "memories: "),
    "a push of the newer protocol": (push(life="a" * 16), "not_legacy", "the newer protocol"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_push_that_cannot_be_used_is_refused_by_its_code(case: str) -> None:
    """Its clients tell the codes apart."""
    body, code, words = WRONG[case]
    with pytest.raises(RemoteError, match=words) as caught:
        decode_push(body)
    assert caught.value.code == code


def test_a_life_of_null_is_none() -> None:
    """A daemon may send every member that it has heard of."""
    assert decode_push(push(life=None)).sender == "ai:them"
    assert decode_push(push()) == decode_push(push(life=None))


@pytest.mark.parametrize("count", [MOST_REFUSED, MOST_REFUSED + 3])
def test_a_row_that_is_wrong_only_refuses_itself(count: int) -> None:
    """So many are named, and the others counted, of rows and links together."""
    found = decode_push(push(memories=[ROW, *[{}] * count], links=[{}] * 2))
    assert [row.memory.id for row in found.rows] == [versions.ID]
    assert (len(found.refused), found.left_out) == (MOST_REFUSED, count + 2 - MOST_REFUSED)
    page = decode_since(since(memories=[ROW, *[{}] * count]))
    assert (len(page.rows), len(page.refused), page.left_out) == (1, MOST_REFUSED, count - MOST_REFUSED)
    assert page.times == (ROW["updated_at"],)


def test_a_row_of_too_many_bytes_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is looked at unread."""
    monkeypatch.setattr(messages, "read_row", None)
    (refused,) = decode_push(push(memories=[{"content": "x" * MAX_RECORD}])).refused
    assert refused.reason == "limits"


@pytest.mark.parametrize(("said", "status"), [(None, ""), ("partial", "partial"), ("x" * 99, "x" * 64)])
def test_what_a_page_says_of_its_scope_is_kept_short(said: str | None, status: str) -> None:
    """It may say nothing."""
    assert decode_since(since(scope_status=said)).scope_status == status
