"""Which namespaces a peer may read or write: `*` is one segment, `**` any depth, and nothing is allowed by default."""

import re
from collections.abc import Sequence
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sync import scope
from sync.scope import Globs

# pattern: (namespaces that it allows, namespaces that it does not)
TABLE = {
    "a": ("a", "a/b b aa A"),
    "a/b": ("a/b", "a b a/b/c a/bc"),
    "*": ("a ab global", "a/b"),
    "a/*": ("a/b a/xyz", "a a/b/c ab/c"),
    "*/s": ("a/s bc/s", "s a/b/s a/ss"),
    "a/*/c": ("a/b/c", "a/c a/b/b/c"),
    "**": ("a a/b a/b/c/d/e/f/g/h", ""),
    "a/**": ("a a/b a/b/c", "ab b b/a"),
    "a/b/**": ("a/b a/b/c a/b/c/d", "a a/bc"),
    "**/x": ("x a/x a/b/x", "ax x/a a/xx"),
    "**/x/**": ("x a/x x/a a/b/x/c/d", "ax a"),
    "a/**/z": ("a/z a/b/z a/b/c/z", "a z az a/zz"),
    "*/**": ("a a/b a/b/c", ""),
    "**/*": ("a a/b a/b/c", ""),
    "**/**": ("a a/b a/b/c", ""),
    "*/*/**": ("a/b a/b/c", "a"),
    "team-*": ("team-a team-", "team team-a/b ateam-"),
    "*-team": ("a-team -team", "team a-team/b"),
    "a*c": ("ac abc abbc", "a c a/c"),
    "a**c": ("ac abc", "a/c a/b/c"),
    "***": ("a abc", "a/b"),
    "a//b": ("", "a/b a/x/b"),
    "a.b": ("a.b", "axb"),
    "a+(b)[c]": ("a+(b)[c]", "aab a+b"),
    "ä/*": ("ä/ö", "a/ö"),
}


@pytest.mark.parametrize("pattern", TABLE)
def test_a_pattern_allows_what_it_says_and_nothing_else(pattern: str) -> None:
    """One row for each form that a pattern can take."""
    allowed, denied = (text.split() for text in TABLE[pattern])
    globs = Globs((pattern,))
    assert [one for one in allowed if not globs.allows(one)] == []
    assert [one for one in denied if globs.allows(one)] == []


def test_no_pattern_allows_nothing() -> None:
    """An empty list is no way to say everything."""
    assert not any(Globs(()).allows(one) for one in ("a", "global", "a/b"))
    assert not Globs(()).is_everything


def test_everything_is_every_namespace() -> None:
    """And says so of itself, so that nothing needs to be filtered."""
    assert Globs.everything().is_everything
    assert Globs.everything().allows("a/b/c")


def test_several_patterns_allow_what_any_of_them_allows() -> None:
    """They add up; none takes away."""
    globs = Globs(("a/*", "b"))
    assert [one for one in ("a", "a/x", "b", "b/x") if globs.allows(one)] == ["a/x", "b"]


# --- the same, by the definition

SEGMENTS = st.text("ab*", min_size=1, max_size=3)
PATTERNS = st.lists(st.one_of(st.just("**"), SEGMENTS), min_size=1, max_size=4).map("/".join)
NAMESPACES = st.lists(st.text("ab", min_size=1, max_size=2), min_size=1, max_size=4).map("/".join)


def matches(pattern: Sequence[str], namespace: Sequence[str]) -> bool:
    """Segment by segment: `**` takes none, or one and goes on."""
    if not pattern:
        return not namespace
    if pattern[0] == "**":
        return matches(pattern[1:], namespace) or (bool(namespace) and matches(pattern, namespace[1:]))
    if not namespace:
        return False
    one = re.fullmatch("".join("[^/]*" if c == "*" else re.escape(c) for c in pattern[0]), namespace[0])
    return bool(one) and matches(pattern[1:], namespace[1:])


@settings(max_examples=500)
@given(PATTERNS, NAMESPACES)
def test_globs_agree_with_their_definition(pattern: str, namespace: str) -> None:
    """For all patterns of few letters, the compiled form answers as the definition does."""
    assert Globs((pattern,)).allows(namespace) == matches(pattern.split("/"), namespace.split("/"))


# --- tags


def test_tags_differ_where_rules_differ() -> None:
    """A cursor reached under other rules must not be taken for one reached under these."""
    some = [(), ("a",), ("b",), ("a", "b"), ("ab",), ("a/b",), ("a/*",), ("a/**",), ("*",), ("**",)]
    tags = [Globs(patterns).tag for patterns in some]
    assert all(a != b for a, b in combinations(tags, 2))
    assert all(re.fullmatch("[0-9a-f]{8}", tag) for tag in tags)


def test_the_order_of_patterns_is_no_difference() -> None:
    """Sorting the lines of a configuration causes no resync."""
    assert Globs(("a", "b/*")).tag == Globs(("b/*", "a")).tag


def test_a_filter_that_lets_all_through_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: the table has something to deny."""
    monkeypatch.setattr(scope, "_allows", lambda *_: True)
    with pytest.raises(AssertionError):
        test_a_pattern_allows_what_it_says_and_nothing_else("a/*")
