"""Who may speak for whom: the table of protocol section 5, what a receiver does by it, and what follows later."""

from collections.abc import Callable

import pytest
from keys import ANYBODY, KeyPair, pair
from stamps import stamp
from versions import ALICE, BOB, EVERYTHING, ID, NOW, OTHER, PEER, SECOND, Desk, memory, verified

from sync import keyring, moment, trust
from sync.attest import Author, Unsigned
from sync.keyring import EMPTY, Keyring, key_text, parse
from sync.link import link_version, unlink_version
from sync.policy import Policy
from sync.receive import Part, Taken, current_cursor
from sync.record import Refused, memory_version, tombstone_version
from sync.scope import Globs
from sync.trust import TABLE, Row, Trust, judge, standing_of
from sync.version import Version

AT = moment.text(NOW)
BEFORE, AFTER = moment.text(NOW - SECOND), moment.text(NOW + SECOND)
ANN = pair("ai:ann")
OTHERS = KeyPair.of("ai:ann", bytes(range(32)))
"""Another key of somebody who says that they are Ann."""
TO = f"{ALICE}.1.1.00112233445566aa.0123abcd"


def ring(*lines: str) -> Keyring:
    return parse("\n".join(lines), "ring")


def enrolled(one: KeyPair = ANN, agent: str = "", rest: str = "") -> str:
    return f"{key_text(one.key)} {agent or one.agent} {rest}"


MADE: dict[str, Callable[[Author], Version]] = {
    "memory": lambda by: memory_version(memory(), by, stamp({ALICE: 1})),
    "tombstone": lambda by: tombstone_version("a", ID, AT, by, stamp({ALICE: 1})),
    "link": lambda by: link_version("a", ID, OTHER, "related_to", AT, by, stamp({ALICE: 1})),
    "unlink": lambda by: unlink_version("a", ID, OTHER, "related_to", AT, by, stamp({ALICE: 1})),
}

RINGS = {
    "empty": EMPTY,
    "hers": ring(enrolled()),
    "hers and another": ring(enrolled(OTHERS), enrolled()),
    "her other key": ring(enrolled(OTHERS)),
    "her key, another agent": ring(enrolled(agent="ai:ben")),
    "somebody else": ring(enrolled(pair("ai:ben"))),
    "revoked before": ring(enrolled(rest=f"revoked={BEFORE}")),
    "revoked then": ring(enrolled(rest=f"revoked={AT}")),
    "revoked after": ring(enrolled(rest=f"revoked={AFTER}")),
}

# what is signed by Ann's key: (the keyring, the policy) to the level, or the reason of the refusal
SIGNED = {
    ("empty", "any"): "self_signed",
    ("empty", "enrolled"): "not_enrolled",
    ("hers", "any"): "attested",
    ("hers", "enrolled"): "attested",
    ("hers and another", "any"): "attested",
    ("her other key", "any"): "key_mismatch",
    ("her other key", "enrolled"): "key_mismatch",
    ("her key, another agent", "any"): "key_mismatch",
    ("her key, another agent", "enrolled"): "key_mismatch",
    ("somebody else", "any"): "self_signed",
    ("somebody else", "enrolled"): "not_enrolled",
    ("revoked before", "any"): "key_revoked",
    ("revoked then", "any"): "key_revoked",
    ("revoked then", "enrolled"): "key_revoked",
    ("revoked after", "any"): "attested",
}


def verdict(rules: Trust, version: Version) -> str:
    found = judge(rules, version)
    return found.reason if isinstance(found, Refused) else found


@pytest.mark.parametrize("kind", MADE)
@pytest.mark.parametrize(("name", "policy"), SIGNED)
@pytest.mark.parametrize("allow_unsigned", [False, True])
def test_what_is_signed_is_judged_by_whose_the_key_is(
    kind: str, name: str, policy: trust.KeyPolicy, allow_unsigned: bool
) -> None:
    """Whatever kind of record it is, and whether or not unsigned ones may come from there."""
    assert verdict(Trust(RINGS[name], policy, allow_unsigned), MADE[kind](ANN)) == SIGNED[name, policy]


@pytest.mark.parametrize("kind", MADE)
@pytest.mark.parametrize("name", RINGS)
@pytest.mark.parametrize("policy", ["any", "enrolled"])
@pytest.mark.parametrize("allow_unsigned", [False, True])
def test_what_is_unsigned_is_judged_by_whom_it_comes_from(
    kind: str, name: str, policy: trust.KeyPolicy, allow_unsigned: bool
) -> None:
    """No keyring says anything of a key that is not there."""
    expected = "unsigned" if allow_unsigned else "unsigned_refused"
    assert verdict(Trust(RINGS[name], policy, allow_unsigned), MADE[kind](Unsigned("ai:ann"))) == expected


def test_a_stolen_name_needs_a_key_of_its_own() -> None:
    """Who signs as Ann by a key of their own is found out where Ann is enrolled, and only there."""
    forged = MADE["memory"](OTHERS)
    assert verdict(Trust(RINGS["hers"]), forged) == "key_mismatch"
    assert verdict(Trust(), forged) == "self_signed"


def test_every_row_of_the_table_is_reached() -> None:
    """And each that may refuse says why."""
    reached = {standing_of(one, ANN.agent, key, AT) for one in RINGS.values() for key in (ANN.key, b"")}
    assert reached == TABLE.keys()
    assert all(row.reason and row.detail for name, row in TABLE.items() if name != "enrolled")
    assert {row.level for row in TABLE.values()} == {"unsigned", "self_signed", "attested", None}


# --- what a receiver does


def taken(desk: Desk, rules: Trust, *versions: Version, **page: object) -> Taken:
    """What a desk takes of a page under these rules; each signature counts as verified."""
    found: Taken = desk.do(
        desk.engine.receive, desk.page(**page), verified(versions), Policy(EVERYTHING, rules), Taken()
    )
    return found


# reason: (rules, who signs)
REFUSALS: dict[str, tuple[Trust, Author]] = {
    "unsigned_refused": (Trust(), Unsigned(ANN.agent)),
    "key_mismatch": (Trust(RINGS["hers"]), OTHERS),
    "key_revoked": (Trust(RINGS["revoked then"]), ANN),
    "not_enrolled": (Trust(EMPTY, "enrolled"), ANN),
}


@pytest.mark.parametrize("kind", MADE)
@pytest.mark.parametrize("reason", REFUSALS)
@pytest.mark.parametrize("is_guarded", [True, False], ids=["guarded", "control"])
def test_what_may_not_speak_is_refused_alone(
    kind: str, reason: str, is_guarded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By name; the one beside it is taken, and the cursor moves. Control: with a table that allows all, it is kept."""
    if not is_guarded:
        monkeypatch.setattr(trust, "TABLE", {name: Row("attested", lambda _: True) for name in TABLE})
    rules, author = REFUSALS[reason]
    desk = Desk()
    version = MADE[kind](author)
    good = memory_version(memory(id=OTHER, title="y", updated_at=BEFORE), ANN, stamp({BOB: 1}))
    if reason == "not_enrolled":
        good = memory_version(memory(id=OTHER, title="y"), pair("ai:ben"), stamp({BOB: 1}))
        rules = Trust(RINGS["somebody else"], "enrolled")
    found = taken(desk, rules, version, good, to=TO)
    if is_guarded:
        assert [(one.id, one.kind, one.reason) for one in found.refused] == [(version.shown, version.kind, reason)]
        assert (found.applied, found.moved, desk.kept(version.key)) == (1, True, ())
    else:
        assert (found.refused, found.applied, len(desk.kept(version.key))) == ((), 2, 1)
    assert desk.kept(good.key)


def test_what_is_kept_already_is_not_refused() -> None:
    """A key that was revoked since, a peer from which unsigned was allowed: what came before stays, and is no news."""
    desk = Desk()
    old, bare = MADE["memory"](ANN), memory_version(memory(id=OTHER), Unsigned("ai:old"), stamp({BOB: 1}))
    assert taken(desk, ANYBODY, old, bare).applied == 2
    again = taken(desk, Trust(RINGS["revoked then"]), old, bare)
    assert (again.refused, again.noop) == ((), 2)
    newer = memory_version(memory(content="later"), ANN, stamp({ALICE: 2}))
    assert [one.reason for one in taken(desk, Trust(RINGS["revoked then"]), newer).refused] == ["key_revoked"]
    assert desk.tags() == {old.tag}


def test_a_revoked_key_may_have_written_before() -> None:
    """What is dated earlier stays verifiable, and is taken even where it was never seen: its holder can back-date."""
    desk = Desk()
    rules = Trust(RINGS["revoked then"])
    assert taken(desk, rules, memory_version(memory(updated_at=BEFORE), ANN, stamp({ALICE: 1}))).applied == 1
    back_dated = memory_version(memory(id=OTHER, title="y", updated_at=BEFORE), ANN, stamp({ALICE: 2}))
    assert taken(desk, rules, back_dated).applied == 1
    removed = Trust(RINGS["somebody else"], "enrolled")
    assert [one.reason for one in taken(Desk(), removed, back_dated).refused] == ["not_enrolled"]


def test_a_chain_of_keys_speaks_for_one_agent() -> None:
    """A successor and its predecessor, which may still be in force."""
    text = keyring.add("", ANN.key, ANN.agent)
    signature = ANN.sign(keyring.successor_text(ANN.agent, OTHERS.key, ANN.key, BEFORE))
    text = keyring.add_successor(text, ANN.agent, OTHERS.key, ANN.key, BEFORE, signature)
    both, revoked = parse(text, "ring"), parse(keyring.revoke(text, ANN.key, AT), "ring")
    versions = [MADE["memory"](ANN), MADE["memory"](OTHERS)]
    assert [verdict(Trust(both, "enrolled"), one) for one in versions] == ["attested", "attested"]
    assert [verdict(Trust(revoked, "enrolled"), one) for one in versions] == ["key_revoked", "attested"]


# --- the tag, and what follows from it


def test_the_tag_differs_where_the_rules_differ() -> None:
    """Scope, keyring, policy and whether unsigned is allowed: each of them, and nothing else."""
    rules = [
        Policy(scope, Trust(one, policy, allowed))
        for scope in (EVERYTHING, Globs(("a",)))
        for one in (EMPTY, RINGS["hers"], RINGS["revoked then"], RINGS["revoked after"])
        for policy in trust.KeyPolicy.__args__
        for allowed in (False, True)
    ]
    assert len({one.tag for one in rules}) == len(rules)
    same = Policy(EVERYTHING, Trust(ring("# Ann's", enrolled(rest="# laptop"), "")))
    assert same.tag == Policy(EVERYTHING, Trust(RINGS["hers"])).tag


@pytest.mark.parametrize("reason", REFUSALS)
def test_what_was_refused_is_taken_once_the_rules_allow_it(reason: str) -> None:
    """Under other rules the cursor counts as none, so that the page comes again; control: under the same it counts."""
    rules, author = REFUSALS[reason]
    desk = Desk()
    version = MADE["memory"](author)
    assert taken(desk, rules, version, to=TO).moved
    assert current_cursor(desk.store.peer(PEER), ALICE, Policy(EVERYTHING, rules)) == TO
    assert current_cursor(desk.store.peer(PEER), ALICE, Policy(EVERYTHING, ANYBODY)) is None
    again = taken(desk, ANYBODY, version, to=TO)
    assert (again.applied, again.moved) == (1, True)


@pytest.mark.parametrize("reason", REFUSALS)
def test_what_waits_is_judged_again_when_it_is_due(reason: str) -> None:
    """By the rules of that day: a key may have been revoked since. Control: under the old rules it is taken."""
    for rules, expected in ((REFUSALS[reason][0], reason), (ANYBODY, None)):
        desk = Desk()
        late = memory_version(
            memory(updated_at=moment.text(NOW + 400 * SECOND)), REFUSALS[reason][1], stamp({ALICE: 1})
        )
        assert [one.reason for one in taken(desk, ANYBODY, late).refused] == ["clock_skew"]
        desk.now += 400 * SECOND
        found = desk.do(desk.engine.due, lambda _, rules=rules: Policy(EVERYTHING, rules))
        assert [one.reason for one in found.refused] == ([expected] if expected else [])
        assert (found.applied, bool(desk.kept())) == ((0, False) if expected else (1, True))


def test_a_forged_signature_is_refused_before_anybody_asks_whose_key_it_is() -> None:
    """Where unsigned is allowed too."""
    desk = Desk()
    part = Part((MADE["memory"](ANN),))
    found: Taken = desk.do(desk.engine.receive, desk.page(), part, Policy(EVERYTHING, ANYBODY), Taken())
    assert [one.reason for one in found.refused] == ["bad_signature"]
