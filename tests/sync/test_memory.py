"""The limits of a record: each field at its limit passes, and one step over it is refused by name."""

from typing import Any

import pytest
from versions import memory

from sync import memory as rules
from sync.memory import agent_fault, memory_fault


def nested(levels: int) -> Any:
    """A value of this many levels, the number at the bottom among them."""
    return {"a": nested(levels - 1)} if levels > 1 else 1


def sized(size: int) -> dict[str, str]:
    """Metadata of this many bytes as JSON."""
    return {"k": "x" * (size - len('{"k":""}'))}


# field: (value, ...): at the limit
AT_THE_LIMIT: dict[str, dict[str, Any]] = {
    "id of 128 bytes": {"id": "i" * 128},
    "id of 64 letters of two bytes": {"id": "é" * 64},
    "namespace of 512 characters": {"namespace": "n" * 512},
    "namespace of 8 segments": {"namespace": "a/b/c/d/e/f/g/h"},
    "namespace beyond ASCII": {"namespace": "größe/日本/😀"},
    "title of 512 characters": {"title": "t" * 512},
    "title of 512 letters of four bytes": {"title": "😀" * 512},
    "content of 65,536 bytes": {"content": "c" * 65_536},
    "content of 32,768 letters of two bytes": {"content": "é" * 32_768},
    "content with newline and tab": {"content": "a\n\tb"},
    "50 tags": {"tags": ["t"] * 50},
    "tag of 128 bytes": {"tags": ["t" * 128]},
    "least priority": {"priority": 1},
    "greatest priority": {"priority": 10},
    "least confidence": {"confidence": 0.0},
    "greatest confidence": {"confidence": 1.0},
    "the existing daemon's own source": {"source": "consolidation"},
    "metadata of 65,536 bytes": {"metadata": sized(65_536)},
    "metadata of 32 levels": {"metadata": nested(32)},
    "metadata with the greatest integer": {"metadata": {"n": 2**53 - 1}},
    "metadata with the least integer": {"metadata": {"n": 1 - 2**53}},
    "metadata with our own keys over it": {"metadata": sized(65_536) | {"attestation": {"context": "x" * 9_000}}},
    "agent id of 128 characters": {"metadata": {"agent_id": "a" * 128}},
    "expiry in the past": {"expires_at": "1970-01-01T00:00:00.000000+00:00"},
    "no expiry": {"expires_at": None},
}


@pytest.mark.parametrize("case", AT_THE_LIMIT)
def test_a_record_at_its_limit_passes(case: str) -> None:
    """The limits are those that the message names, no smaller."""
    assert memory_fault(memory(**AT_THE_LIMIT[case])) is None


# field: (value, ...): over it, and what the sentence says: field, what was found, what is allowed
OVER: dict[str, tuple[dict[str, Any], str]] = {
    "id of 129 bytes": ({"id": "i" * 129}, "id: 129 bytes, at most 128"),
    "id of 129 bytes in 65 letters": ({"id": "é" * 64 + "i"}, "id: 129 bytes, at most 128"),
    "no id": ({"id": ""}, "id: empty, some text expected"),
    "id of blanks": ({"id": "  "}, "id: empty, some text expected"),
    "id with a line's end": ({"id": "a\nb"}, "id: control character U+000A at 1, none expected"),
    "id with a control character": ({"id": "a\x00"}, "id: control character U+0000 at 1"),
    "namespace of 513 characters": ({"namespace": "n" * 513}, "namespace: 513 characters, at most 512"),
    "namespace of 9 segments": ({"namespace": "a/b/c/d/e/f/g/h/i"}, "namespace: 9 segments, at most 8"),
    "no namespace": ({"namespace": ""}, "namespace: segment '', expected text"),
    "namespace with a slash before it": ({"namespace": "/a"}, "namespace: segment '', expected text"),
    "namespace with a slash after it": ({"namespace": "a/"}, "namespace: segment '', expected text"),
    "namespace with an empty segment": ({"namespace": "a//b"}, "namespace: segment '', expected text"),
    "namespace with a dot": ({"namespace": "a/."}, "namespace: segment '.', expected text"),
    "namespace with two dots": ({"namespace": "../a"}, "namespace: segment '..', expected text"),
    "namespace with a blank": ({"namespace": "a b"}, "namespace: segment 'a b', expected text without spaces"),
    "namespace with a backslash": ({"namespace": "a\\b"}, "expected text without spaces, control characters or back"),
    "namespace with a newline": ({"namespace": "a\n"}, "namespace: segment 'a\\n', expected text without spaces"),
    "namespace with a wide blank": ({"namespace": "a\u3000b"}, "expected text without spaces"),
    "title of 513 characters": ({"title": "t" * 513}, "title: 513 characters, at most 512"),
    "no title": ({"title": ""}, "title: empty, some text expected"),
    "title of a wide blank": ({"title": "\u3000"}, "title: empty, some text expected"),
    "title with a carriage return": ({"title": "ab\r"}, "title: control character U+000D at 2, only newline and tab"),
    "content of 65,537 bytes": ({"content": "c" * 65_537}, "content: 65537 bytes, at most 65536"),
    "content of 65,537 bytes in letters": ({"content": "é" * 32_768 + "c"}, "content: 65537 bytes, at most 65536"),
    "no content": ({"content": ""}, "content: empty, some text expected"),
    "content with a carriage return": ({"content": "a\r\nb"}, "content: control character U+000D at 1"),
    "content with a C1 character": ({"content": "\x85"}, "content: "),
    "51 tags": ({"tags": ["t"] * 51}, "tags: 51 found, at most 50"),
    "tag of 129 bytes": ({"tags": ["a", "t" * 129]}, "tags: 129 bytes, at most 128"),
    "empty tag": ({"tags": ["a", ""]}, "tags: empty, some text expected"),
    "priority 0": ({"priority": 0}, "priority: 0, 1 to 10 expected"),
    "priority 11": ({"priority": 11}, "priority: 11, 1 to 10 expected"),
    "confidence below 0": ({"confidence": -0.01}, "confidence: -0.01, 0.0 to 1.0 expected"),
    "confidence over 1": ({"confidence": 1.01}, "confidence: 1.01, 0.0 to 1.0 expected"),
    "confidence that is no number": ({"confidence": float("nan")}, "confidence: nan, 0.0 to 1.0 expected"),
    "unknown source": ({"source": "elsewhere"}, "source: 'elsewhere', one of ['api', "),
    "creation time in another form": ({"created_at": "2026-01-31T12:00:00Z"}, "created_at: '2026-01-31T12:00:00Z'"),
    "change time that does not exist": (
        {"updated_at": "2026-02-30T12:00:00.000000+00:00"},
        "updated_at: '2026-02-30T12:00:00.000000+00:00', expected the form 2026-01-31T12:00:00.000000+00:00",
    ),
    "expiry that is no time": ({"expires_at": "soon"}, "expires_at: 'soon', expected the form"),
    "metadata of 65,537 bytes": ({"metadata": sized(65_537)}, "metadata: 65537 bytes, at most 65536"),
    "metadata of 33 levels": ({"metadata": nested(33)}, "metadata: nested more than 32 deep"),
    "metadata of 33 levels of lists": ({"metadata": {"a": [nested(31)]}}, "metadata: nested more than 32 deep"),
    "metadata with too great an integer": (
        {"metadata": {"n": 2**53 + 1}},
        f"metadata: integer {2**53 + 1}, at most 2^53 - 1",
    ),
    "metadata with too small an integer": (
        {"metadata": {"n": [-(2**53) - 1]}},
        f"metadata: integer {-(2**53) - 1}, at most",
    ),
    "agent id of 129 characters": ({"metadata": {"agent_id": "a" * 129}}, "metadata.agent_id: 'aaaa"),
    "agent id with a blank": ({"metadata": {"agent_id": "a b"}}, "metadata.agent_id: 'a b', expected 1 to 128 of"),
    "agent id that is no text": ({"metadata": {"agent_id": 7}}, "metadata.agent_id: 7, expected 1 to 128 of"),
}


@pytest.mark.parametrize("case", OVER)
def test_a_record_over_its_limit_is_refused_by_name(case: str) -> None:
    """The sentence begins with the field and says what was found and what is allowed."""
    fields, sentence = OVER[case]
    (field,) = fields
    fault = memory_fault(memory(**fields))
    assert fault is not None
    assert fault.startswith(field)
    assert sentence in fault


def test_a_message_never_repeats_a_whole_record() -> None:
    """What was found is cut short: a refusal goes into logs and over the wire."""
    for fields in ({"source": "s" * 70_000}, {"expires_at": "e" * 70_000}, {"namespace": "a b" * 170}):
        fault = memory_fault(memory(**fields))
        assert fault is not None
        assert len(fault) < 300


@pytest.mark.parametrize(
    ("constant", "case"),
    [
        ("MAX_ID_BYTES", "id of 129 bytes"),
        ("MAX_NAMESPACE", "namespace of 513 characters"),
        ("MAX_DEPTH", "namespace of 9 segments"),
        ("MAX_TITLE", "title of 513 characters"),
        ("MAX_CONTENT_BYTES", "content of 65,537 bytes"),
        ("MAX_TAGS", "51 tags"),
        ("MAX_TAG_BYTES", "tag of 129 bytes"),
        ("MAX_METADATA_BYTES", "metadata of 65,537 bytes"),
        ("MAX_METADATA_DEPTH", "metadata of 33 levels"),
        ("MAX_SAFE_INTEGER", "metadata with too great an integer"),
    ],
)
def test_with_a_greater_limit_the_same_record_passes(constant: str, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: each record over a limit is refused for that limit alone."""
    monkeypatch.setattr(rules, constant, getattr(rules, constant) + 2)
    assert memory_fault(memory(**OVER[case][0])) is None


@pytest.mark.parametrize(
    ("agent", "is_one"),
    [
        ("a", True), ("host:node-a:pid-41", True), ("ai:claude@desk.local/x_y", True), ("a" * 128, True),
        ("", False), ("a b", False), ("a" * 129, False), ("ä", False), ("a\n", False), ("<script>", False),
    ],
)  # fmt: skip
def test_agent_ids_are_of_few_letters(agent: str, *, is_one: bool) -> None:
    """1 to 128 of letters, digits and _ - : @ . /: fit for logs, headers and signed text as they are."""
    assert (agent_fault(agent) is None) is is_one


def test_what_is_quoted_is_cut_where_it_is_long() -> None:
    """A refusal says what was found, and no more of it than a person reads."""
    for length, quoted in ((58, repr("x" * 58)), (59, "'" + "x" * 56 + "…")):
        fault = agent_fault("!" + "x" * (length - 1))
        assert fault is not None
        assert fault.startswith(f"agent_id: {quoted.replace('x', '!', 1)}, expected")
