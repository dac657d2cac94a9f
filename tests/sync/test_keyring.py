"""The keyring file: what it may say, what is wrong with it and where, and edits that leave the rest alone."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keys import pair

from sync import ed25519, keyline, keyring
from sync.attest import KeyPair, base64url
from sync.keyring import EMPTY, Keyring, KeyringError, Succession, key_text, parse, successor_text

ANN, BEN = "ai:ann", "host:ben"
AT = "2026-01-31T12:00:00.000000+00:00"
LATER = "2026-02-01T00:00:00.000000+00:00"
BOM = "\ufeff"


def numbered(n: int) -> KeyPair:
    return pair(f"key {n}")


A, B, C = (key_text(numbered(n).key) for n in range(3))
SMALL = "ed25519:" + base64url(bytes.fromhex("01" + "00" * 31))
POINTLESS = "ed25519:" + base64url(b"\x02" + bytes(31))


def heir(new: int, old: int, agent: str = ANN, at: str = AT, rest: str = "") -> str:
    """The line of a key that took over from another."""
    before, after = numbered(old), numbered(new)
    signature = base64url(before.sign(successor_text(agent, after.key, before.key, at)))
    return f"{key_text(after.key)} {agent} after={key_text(before.key)} at={at} by={signature}{rest}"


def said(text: str) -> list[tuple[str, str, str | None, str]]:
    return [(key_text(one.key), one.agent, one.revoked, one.label) for one in parse(text, "ring").entries]


def problems(text: str) -> list[tuple[int, int, str, str]]:
    with pytest.raises(KeyringError) as caught:
        parse(text, "some/keyring")
    assert all(one.file == "some/keyring" for one in caught.value.problems)
    assert "#" in caught.value.next_step
    return [(one.line, one.column, one.found, one.expected) for one in caught.value.problems]


# --- the grammar


@pytest.mark.parametrize(
    ("text", "found"),
    [
        pytest.param("", [], id="empty"),
        pytest.param("\n\r\n \t\n# nobody\n  # yet", [], id="blank lines and comments"),
        pytest.param(f"{A} {ANN}", [(A, ANN, None, "")], id="no final newline"),
        pytest.param(f"\t{A} \t {ANN}  #  Ann's  laptop \r\n", [(A, ANN, None, "Ann's laptop")], id="blanks, CRLF"),
        pytest.param(f"{BOM}{A} {ANN}#x # y\n", [(A, ANN, None, "x # y")], id="byte order mark, a # in the label"),
        pytest.param(f"{A} {ANN} revoked={AT}\n", [(A, ANN, AT, "")], id="revoked"),
        pytest.param(f"{A} {ANN} revoked=2026-01-31T12:00:00Z\n", [(A, ANN, AT, "")], id="a time with Z"),
        pytest.param(f"{A} {ANN} revoked=2026-01-31T13:00:00+01:00", [(A, ANN, AT, "")], id="a time with an offset"),
        pytest.param(f"{A} {ANN}\n{B} {BEN} # ben\n", [(A, ANN, None, ""), (B, BEN, None, "ben")], id="two agents"),
        pytest.param(f"{A} {ANN}\n{B} {ANN}\n", [(A, ANN, None, ""), (B, ANN, None, "")], id="two keys"),
        pytest.param(f"{heir(1, 0)}\n{A} {ANN}\n", [(B, ANN, None, ""), (A, ANN, None, "")], id="the heir first"),
    ],
)
def test_the_grammar_accepts(text: str, found: list[tuple[str, str, str | None, str]]) -> None:
    """Each form that the grammar allows gives these keys, agents, times and labels."""
    assert said(text) == found


def test_a_succession_is_read() -> None:
    """Options come in any order; the time may be written with Z, signed is its canonical form."""
    ring = parse(f"{A} {ANN}\n{heir(1, 0, rest=f' revoked={LATER} # new')}\n", "ring")
    one = ring.find(numbered(1).key)
    assert one is not None
    assert (one.revoked, one.label, one.line) == (LATER, "new", 2)
    assert one.succession is not None
    assert (one.succession.after, one.succession.at) == (numbered(0).key, AT)
    words = heir(1, 0).split(" ")
    turned = " ".join((*words[:2], *reversed(words[2:]))).replace(AT, "2026-01-31T12:00:00Z")
    assert parse(f"{A} {ANN}\n{turned}", "ring").entries[1].succession == one.succession


_SIG = base64url(bytes(64))


@pytest.mark.parametrize(
    ("line", "column", "found", "expected"),
    [
        pytest.param("hello", 1, "'hello'", "ed25519: and a public key", id="a word"),
        pytest.param(A[8:] + " x", 1, f"'{A[8:47]}…'", "ed25519: and", id="no prefix"),
        pytest.param(A.upper(), 1, "'ED25519:", "ed25519: and", id="upper case"),
        pytest.param("ed25519: x", 9, "0 characters", "exactly 43", id="only the prefix"),
        pytest.param(A[:-1] + " x", 9, "42 characters", "exactly 43", id="42 characters"),
        pytest.param(f" {A}A x", 10, "44 characters", "exactly 43", id="44 characters"),
        pytest.param(A + "= x", 52, "'='", "a character of base64url", id="padding"),
        pytest.param(A[:20] + "+" + A[21:] + " x", 21, "'+'", "a character of base64url", id="plain base64"),
        pytest.param(A[:20] + "\u00a0" + A[21:] + " x", 21, "U+00A0", "a character of base64url", id="no-break space"),
        pytest.param(A[:-1] + "B x", 51, "'B'", "the last character of 32 bytes", id="bits behind the end"),
        pytest.param(f"{SMALL} x", 9, "a point of small order", "a key generator made", id="small order"),
        pytest.param(f"{POINTLESS} x", 9, "not a point", "a key generator made", id="no point"),
        pytest.param(f"{A}  # Ann", 52, "no more", "the id of the agent", id="no agent"),
        pytest.param(f"{A} a+b", 54, "'+'", "an agent id", id="a character that no id has"),
        pytest.param(f"{A} {'x' * 129}", 53, "129 characters", "an agent id", id="a long id"),
        pytest.param(f"{A} revoked={AT}", 60, "'='", "an agent id", id="an option for an agent"),
        pytest.param(f"{'x' * 40} x", 1, f"'{'x' * 40}'", "ed25519: and", id="a word of 40 characters"),
        pytest.param(f"{'x' * 41} x", 1, f"'{'x' * 39}…'", "ed25519: and", id="a word of 41 characters"),
        pytest.param(f"{A} {ANN} Ann", 60, "'Ann'", "one of revoked=, after=", id="a label without #"),
        pytest.param(f"{A} {ANN} Revoked={AT}", 60, "'Revoked=", "one of revoked=", id="an option in upper case"),
        pytest.param(f"{A} {ANN} revoked", 60, "'revoked'", "one of revoked=", id="an option without a value"),
        pytest.param(f"{A} {ANN} revoked=", 68, "''", "a time such as", id="no time"),
        pytest.param(f"{A} {ANN} revoked=yesterday", 68, "'yesterday'", "a time such as", id="no time, a word"),
        pytest.param(f"{A} {ANN} revoked=2026-02-30T00:00:00Z", 68, "'2026-02-30", "a time such as", id="no date"),
        pytest.param(f"{A} {ANN} revoked={AT} revoked={AT}", 101, "revoked= again", "revoked= once", id="twice"),
        pytest.param(f"{A} {ANN} after={B} at={AT}", 153, "no by=", "after=, at= and by= together", id="no signature"),
        pytest.param(f"{A} {ANN} by={_SIG}", 149, "no after=", "after=, at= and by= together", id="no predecessor"),
        pytest.param(f"{A} {ANN} after={B} at=x by={_SIG}", 121, "'x'", "a time such as", id="no time of succession"),
        pytest.param(f"{A} {ANN} after={B} at={AT} by=x", 157, "1 characters", "exactly 86", id="a short signature"),
        pytest.param(f"{A} {ANN} after={A} at={AT} by={_SIG}", 66, "the key itself", "took over from", id="itself"),
        pytest.param(f"{A} {ANN}\r{B} {BEN}", 59, "U+000D", "an agent id", id="a carriage return inside"),
        pytest.param(f"{BOM}{A} {ANN}", 1, "'\\ufeff", "ed25519: and", id="a second byte order mark"),
    ],
)
def test_anything_else_is_an_error_with_its_place(line: str, column: int, found: str, expected: str) -> None:
    """File, line, column, what was found and what was expected; the column counts characters."""
    ((at_line, at_column, was_found, was_expected),) = problems(f"{BOM}# first\n{line}\n")
    assert (at_line, at_column) == (2, column)
    assert was_found.startswith(found)
    assert expected in was_expected


def test_all_broken_lines_are_reported_at_once() -> None:
    """Every wrong line is named in one go, and nobody is enrolled."""
    found = problems(f"one\n{A} {ANN}\n\n{B}\n{C} {BEN}\nx\n")
    assert [(line, column) for line, column, *_ in found] == [(1, 1), (4, 52), (6, 1)]
    with pytest.raises(KeyringError, match="ring:1:1: found 'one', expected ed25519: and"):
        parse("one\n", "ring")


# --- successions


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(heir(1, 0).replace(ANN, BEN), id="another agent"),
        pytest.param(heir(1, 0).replace(B, C), id="another new key"),
        pytest.param(heir(1, 0).replace(A, C), id="another old key"),
        pytest.param(heir(1, 0).replace(AT, LATER), id="another time"),
        pytest.param(heir(1, 0)[: heir(1, 0).index("by=")] + f"by={_SIG}", id="another signature"),
    ],
)
def test_a_succession_that_its_predecessor_did_not_sign_is_an_error(
    wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever of it was altered. Control: without the check of the signature each of them is taken."""
    text = f"{A} {BEN if BEN in wrong else ANN}\n{C} {ANN}\n{wrong}\n"
    text = text if C not in wrong.split()[0] else text.replace(f"{C} {ANN}\n", "", 1)
    ((line, column, found, _),) = problems(text)
    assert (line, column, found) == (
        text.split("\n").index(wrong) + 1,
        wrong.index("by=") + 4,
        "a signature that does not verify",
    )
    monkeypatch.setattr(ed25519, "verifies", lambda *_: True)
    assert parse(text, "ring")


def test_the_text_of_a_succession() -> None:
    """Byte for byte, so that any language can make one."""
    text = successor_text(ANN, numbered(1).key, numbered(0).key, AT).decode()
    assert text == f"ai-memory/successor/v1\nagent {ANN}\nkey {B}\nafter {A}\nat {AT}\n"


def test_a_predecessor_has_to_be_listed() -> None:
    """Else a line that was taken out would come back through its successor."""
    ((line, _, found, expected),) = problems(f"{C} {ANN}\n{heir(1, 0)}\n")
    assert line == 2
    assert A in found
    assert "without after, at and by" in expected


def test_a_predecessor_is_of_the_same_agent() -> None:
    """Nobody hands an agent over to another."""
    ((line, _, found, expected),) = problems(f"{A} {BEN}\n{heir(1, 0)}\n")
    assert (line, found, expected) == (2, f"a key of {BEN} (line 1) as the key before", f"one of {ANN}")


def test_a_circle_is_an_error() -> None:
    """Keys that vouch for each other, and for nobody else: told once, whatever hangs on it."""
    text = f"{heir(0, 1)}\n{heir(1, 2)}\n{heir(2, 0)}\n{heir(3, 0)}\n"
    ((line, _, found, expected),) = problems(text)
    assert line == 1
    assert "(lines 1, 2, 3)" in found
    assert expected == "a first key"


# --- what two lines say together


def test_a_key_belongs_to_one_agent() -> None:
    """Two agents for one key are an error that names both lines."""
    ((line, _, found, expected),) = problems(f"{A} {ANN}\n\n{A} {BEN}\n")
    assert (line, found, expected) == (3, f"a key of {ANN} (line 1) for {BEN}", "one agent for a key")


def test_a_duplicate_is_one_entry_and_a_warning() -> None:
    """Where both lines say the same; the first label stays."""
    ring = parse(f"{A} {ANN} # desk\n{A}  {ANN} # again\n", "ring")
    assert [one.label for one in ring.entries] == ["desk"]
    assert ring.warnings == ("ring:2: the same key as in line 1 (desk)",)
    assert parse(f"{A} {ANN}\n{A} {ANN}\n", "ring").warnings == ("ring:2: the same key as in line 1 (no label)",)


def test_a_second_line_with_another_word_is_an_error() -> None:
    """A revocation in a second line for a key is never lost."""
    ((line, _, found, expected),) = problems(f"{A} {ANN}\n{A} {ANN} revoked={AT}\n")
    assert (line, found, expected) == (2, "a key that line 1 says something else of", "one line for a key")


@pytest.mark.parametrize(
    ("text", "warned"),
    [
        pytest.param(f"{A} {ANN}\n{heir(1, 0)}\n{heir(2, 1)}\n", [], id="a chain"),
        pytest.param(f"{A} {ANN}\n{B} {ANN}\n", ["ring:2: another key of ai:ann"], id="side by side"),
        pytest.param(f"{A} {ANN}\n{heir(1, 0)}\n{heir(2, 0)}\n", ["ring:3: another successor of line 1"], id="a fork"),
        pytest.param(f"{A} {ANN} revoked={AT}\n{heir(1, 0)}\n", [], id="revoked with the hand-over"),
        pytest.param(
            f"{A} {ANN} revoked={AT}\n{heir(1, 0, at=LATER)}\n",
            ["ring:2: signed at"],
            id="revoked before the hand-over",
        ),
    ],
)
def test_what_may_be_a_mistake_is_a_warning(text: str, warned: list[str]) -> None:
    """Several keys of an agent are told of, unless each was handed over by the one before."""
    found = parse(text, "ring").warnings
    assert len(found) == len(warned)
    assert all(one.startswith(start) for one, start in zip(found, warned, strict=True))


def test_a_ring_is_asked_by_key_and_by_agent() -> None:
    """All keys of an agent, and whose a key is."""
    ring = parse(f"{A} {ANN}\n{B} {ANN} revoked={AT}\n{C} {BEN}\n", "ring")
    assert [key_text(one.key) for one in ring.of(ANN)] == [A, B]
    found = ring.find(numbered(2).key)
    assert found is not None
    assert found.agent == BEN
    assert ring.find(numbered(3).key) is None
    assert ring.of("nobody") == EMPTY.of(ANN) == ()
    assert (len(ring), len(EMPTY), ring.agents) == (3, 0, {ANN, BEN})


def test_the_tag_is_of_the_meaning() -> None:
    """The same for another order, other comments and line ends; another one for anything that is believed otherwise."""
    plain = parse(f"{A} {ANN}\n{B} {BEN}\n", "ring").tag
    same = (f"# x\r\n{B} {BEN} # ben\r\n{A} {ANN}\r\n", f"{BOM}{A}\t{ANN}\n{B} {BEN}\n{B} {BEN}\n")
    assert {parse(text, "ring").tag for text in same} == {plain}
    others = (
        f"{A} {ANN}\n", f"{A} {ANN}\n{B} {ANN}\n", f"{A} {ANN}\n{C} {BEN}\n", f"{A} {ANN}\n{B} {BEN} revoked={AT}\n",
        f"{A} {ANN}\n{B} {BEN} revoked={LATER}\n", "",
    )  # fmt: skip
    assert len({plain, *(parse(text, "ring").tag for text in others)}) == len(others) + 1
    assert EMPTY.tag == parse("# nobody", "ring").tag == Keyring().tag


# --- keys by themselves


def test_a_key_by_itself() -> None:
    """As a command takes it from its user."""
    assert keyline.parse_key(f" {A}\n") == numbered(0).key
    with pytest.raises(ValueError, match="42 characters, expected exactly 43"):
        keyline.parse_key(A[:-1])
    with pytest.raises(ValueError, match="small order"):
        keyline.parse_key(SMALL)


# --- edits


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param("", f"{B}  {BEN}  # lap top\n", id="empty"),
        pytest.param(f"{A}\t{ANN} # x", f"{A}\t{ANN} # x\n{B}  {BEN}  # lap top\n", id="no final newline"),
        pytest.param(f"{A} {ANN}\r\n", f"{A} {ANN}\r\n{B}  {BEN}  # lap top\r\n", id="CRLF"),
        pytest.param(BOM, f"{BOM}{B}  {BEN}  # lap top\n", id="only a byte order mark"),
        pytest.param(f"{B} {BEN} # old\n", f"{B} {BEN} # old\n", id="listed already"),
    ],
)
def test_adding(before: str, after: str) -> None:
    """One line more, in the file's own line ends; a label cannot begin a line of its own."""
    assert keyring.add(before, numbered(1).key, BEN, "lap\n top ") == after


def test_adding_what_cannot_be() -> None:
    """A key that is another agent's, or a file that is broken."""
    with pytest.raises(KeyringError, match="one agent for a key"):
        keyring.add(f"{A} {ANN}\n", numbered(0).key, BEN)
    with pytest.raises(KeyringError):
        keyring.add("oops\n", numbered(0).key, ANN)


def test_adding_a_successor() -> None:
    """What is written is read back; a second time nothing changes."""
    old, new = numbered(0), numbered(1)
    signature = old.sign(successor_text(ANN, new.key, old.key, AT))
    before = f"# mine\r\n{A} {ANN}\r\n"
    after = keyring.add_successor(before, ANN, new.key, old.key, AT, signature, "new")
    assert after.startswith(before)
    assert after.endswith("  # new\r\n")
    found = parse(after, "ring").find(new.key)
    assert found is not None
    assert found.succession == Succession(old.key, AT, signature)
    assert keyring.add_successor(after, ANN, new.key, old.key, AT, signature, "other") == after
    with pytest.raises(KeyringError, match="does not verify"):
        keyring.add_successor(before, ANN, new.key, old.key, LATER, signature)
    with pytest.raises(KeyringError, match="which is not listed"):
        keyring.add_successor("", ANN, new.key, old.key, AT, signature)
    with pytest.raises(KeyringError, match="something else"):
        keyring.add_successor(before + f"{B} {ANN}\n", ANN, new.key, old.key, AT, signature)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(f"{A}\t {ANN}  # x\n", f"{A}\t {ANN}  revoked={AT}  # x\n", id="behind the agent"),
        pytest.param(f"{A} {ANN}", f"{A} {ANN}  revoked={AT}", id="at the end"),
        pytest.param(f"{A} {ANN} revoked={LATER}# x\r\n", f"{A} {ANN} revoked={AT}# x\r\n", id="another time"),
        pytest.param(
            f"{BOM}{B} {BEN}\n {A} {ANN}\n{A} {ANN}\n",
            f"{BOM}{B} {BEN}\n {A} {ANN}  revoked={AT}\n{A} {ANN}  revoked={AT}\n",
            id="every line of it",
        ),
    ],
)
def test_revoking(before: str, after: str) -> None:
    """The time stands behind the agent, or in place of the one that was there; no other byte changes."""
    assert keyring.revoke(before, numbered(0).key, AT) == after
    assert keyring.revoke(after, numbered(0).key, AT) == after


def test_revoking_what_is_not_listed_is_an_error() -> None:
    """It would change nothing, and look as if it had."""
    with pytest.raises(KeyringError, match="expected the key that is to be revoked"):
        keyring.revoke(f"{A} {ANN}\n", numbered(1).key, AT)


def test_removing() -> None:
    """Every line of the key goes; a key that another took over from cannot go alone."""
    assert keyring.remove(f"{BOM}{A} {ANN}\r\n# {A}\r\n{A} {ANN}", numbered(0).key) == f"{BOM}# {A}\r\n"
    with pytest.raises(KeyringError, match="which is not listed"):
        keyring.remove(f"{A} {ANN}\n{heir(1, 0)}\n", numbered(0).key)


_label = st.text(st.characters(exclude_characters="\n\r", exclude_categories=["Cs"]), max_size=12)
_entry = st.builds(
    lambda n, agent, revoked, label: f"{key_text(numbered(n).key)} {agent}{n}{revoked}{label}",
    st.integers(0, 9),
    st.just("agent-"),
    st.sampled_from(["", "", f" revoked={AT}", "  revoked=2026-01-31T12:00:00Z "]),
    st.one_of(st.just(""), _label.map(lambda label: f"#{label}")),
)
_files = st.builds(
    lambda bom, lines, newline: bom + "".join(line + newline for line in lines),
    st.sampled_from(["", BOM]),
    st.lists(
        st.one_of(_entry, _label.map(lambda label: f"#{label}"), st.just("")), max_size=6, unique_by=lambda x: x[:51]
    ),
    st.sampled_from(["\n", "\r\n"]),
)


@settings(max_examples=150, deadline=None)
@given(_files, st.integers(0, 9), _label)
def test_edits_leave_all_other_lines_alone(text: str, n: int, label: str) -> None:
    """Adding, revoking and removing a key change what is said of that key, and nothing else."""
    key, agent = numbered(n).key, f"agent-{n}"
    before = {one.key: one for one in parse(text, "ring").entries}
    added = keyring.add(text, key, agent, label)
    assert added.startswith(text)
    revoked = keyring.revoke(added, key, LATER)
    for edited in (added, revoked):
        found = {one.key: one for one in parse(edited, "ring").entries}
        assert {k: one for k, one in found.items() if k != key} == {k: v for k, v in before.items() if k != key}
        assert found[key].agent == agent
    again = parse(revoked, "ring").find(key)
    assert again is not None
    assert again.revoked == LATER
    gone = keyring.remove(revoked, key)
    assert [replace(one, line=0) for one in parse(gone, "ring").entries] == [
        replace(one, line=0) for one in before.values() if one.key != key
    ]


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(max_size=200), st.text(max_size=60).map(lambda rest: f"{A} {ANN} {rest}")))
def test_no_text_is_anything_but_a_ring_or_a_keyring_error(text: str) -> None:
    """Whatever the file says, parsing ends in a keyring or in the one documented error."""
    try:
        parse(text, "ring")
    except KeyringError as error:
        assert error.problems
        assert all(problem.line >= 1 and problem.column >= 1 for problem in error.problems)
