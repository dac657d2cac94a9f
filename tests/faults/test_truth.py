"""What must be told of each fault; the table is checked from both ends of a link."""

from typing import Any

import pytest

from tests.faults.truth import RULES, World, truth

O, P = 0, 1  # noqa: E741 - the observer

# World, what the observer must say of its peer and what the peer must say of the observer; None: nothing in particular.
CASES: dict[str, tuple[World, Any, Any]] = {
    "nothing is wrong": (World(), None, None),
    "stopped": (World(stopped={P}), {"not_listening"}, None),
    "paused": (World(paused={P}), {"timeout"}, None),
    "cut in one direction": (World(cut={(P, O)}), {"timeout"}, {"timeout"}),
    "cut, and stopped behind the cut": (World(cut={(P, O)}, stopped={P}), {"timeout"}, None),
    "its cable": (World(unplugged={P}), {"timeout"}, {"timeout", "unreachable"}),
    "its disk": (World(full={P}), {"http_507"}, {"store_full"}),
    "its certificate": (World(rotated={P}), {"wrong_pin"}, {"refused"}),
    "taken off our list": (World(unlisted={(O, P)}), {"peer_unlisted"}, {"refused"}),
    "both keep each other out": (
        World(unlisted={(O, P)}, rotated={P}),
        {"refused", "wrong_pin", "peer_unlisted"},
        {"refused"},
    ),
    "its clock is ahead": (World(ahead={P}), {"clock_skew"}, {None}),
    "both clocks are ahead": (World(ahead={O, P}), None, None),
    "one ahead, one behind": (World(ahead={O}, behind={P}), {None}, {"clock_skew"}),
    "its list is empty": (World(closed={P}, unlisted={(P, O)}), {"not_listening"}, {"peer_unlisted"}),
    "its list is empty, and it is paused": (World(closed={P}, paused={P}), {"not_listening", "timeout"}, None),
    "a restart": (World(in_transition={P}), None, None),
    "a third node": (World(stopped={2}, full={2}, ahead={2}), None, None),
}


@pytest.mark.parametrize("case", CASES)
def test_what_must_be_told(case: str) -> None:
    """Of each fault, from both ends; what a cut hides cannot be told."""
    world, here, there = CASES[case]
    for observer, peer, codes in ((O, P, here), (P, O, there)):
        found = truth(world, observer, peer)
        assert (None if found is None else found[1].codes) == codes


def test_no_rule_is_idle() -> None:
    """Each is the first that applies in some case."""
    found = {
        next((name for name, applies, _ in RULES if applies(world, *pair)), None)
        for world, _, _ in (*CASES.values(), (World(full={O, P}), 0, 0), (World(unlisted={(O, P), (P, O)}), 0, 0))
        for pair in ((O, P), (P, O))
    }
    assert {name for name, _, _ in RULES} <= found


@pytest.mark.parametrize(
    ("entry", "is_told"),
    [
        ({"code": "refused", "reason": "ask … to add this line to its allowlist: sha256:ab  # a"}, True),
        ({"code": "refused", "reason": "ask … to add this line to its allowlist: sha256:cd  # a"}, False),
        ({"code": "timeout", "reason": "add this line to its allowlist: sha256:ab"}, False),
        ({"code": None, "reason": "everything was confirmed"}, False),
    ],
)
def test_code_and_words_must_both_be_right(entry: dict[str, object], is_told: bool) -> None:
    """The sentence has to name the very certificate that is refused."""
    found = truth(World(unlisted={(P, O)}), O, P)
    assert found is not None
    assert found[1].is_told(entry, "sha256:ab") is is_told
