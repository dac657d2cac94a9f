"""Edits of the keyring: a line for a key, for a successor, and a time from which on a key is nobody's."""

from pathlib import Path

import pytest
from keys import pair

from node.config import ConfigError
from node.enrolment import INTRODUCTION, Enrolment, entry_of
from sync import keyring
from sync.attest import KeyPair
from sync.keyline import Entry, Succession, key_text, successor_text, written
from sync.keyring import KeyringError

AT, LATER = "2026-05-02T12:00:00.000000+00:00", "2026-06-02T12:00:00.000000+00:00"
ALICE, BOB = pair("ai:alice"), pair("ai:bob")
NEW = KeyPair.of("ai:alice", bytes(range(32)))
SUCCESSOR = Entry(
    NEW.key, "ai:alice", None,
    Succession(ALICE.key, AT, ALICE.sign(successor_text("ai:alice", NEW.key, ALICE.key, AT))), "laptop",
)  # fmt: skip


@pytest.fixture
def ring(tmp_path: Path) -> Enrolment:
    return Enrolment(tmp_path / "keyring", tmp_path)


def test_the_file_is_made_with_an_explanation(ring: Enrolment) -> None:
    """Every line of which is a comment; the key stands behind it, once."""
    assert ring.enroll(Entry(ALICE.key, "ai:alice", label="laptop"))
    assert ring.path.read_text() == f"{INTRODUCTION}{key_text(ALICE.key)}  ai:alice  # laptop\n"
    assert len(keyring.parse(INTRODUCTION, "x")) == 0
    assert not ring.enroll(Entry(ALICE.key, "ai:alice", label="again"))
    assert len(ring.read()) == 1


def test_other_lines_stay_as_they_are(ring: Enrolment) -> None:
    """Byte for byte, whatever is added or revoked."""
    before = f"# mine\r\n  {key_text(BOB.key)}\tai:bob # desk\r\n".encode()
    ring.path.write_bytes(before)
    ring.enroll(Entry(ALICE.key, "ai:alice"))
    ring.revoke("ai:alice", AT)
    assert ring.path.read_bytes().startswith(before)


def test_a_successor_needs_its_predecessor(ring: Enrolment) -> None:
    """Control: with it the line is taken, and the same again changes nothing."""
    with pytest.raises(KeyringError, match="not listed"):
        ring.enroll(SUCCESSOR)
    ring.enroll(Entry(ALICE.key, "ai:alice"))
    assert ring.enroll(SUCCESSOR)
    assert not ring.enroll(SUCCESSOR)
    assert ring.read().find(NEW.key) is not None


def test_a_key_of_two_agents_is_refused(ring: Enrolment) -> None:
    """And nothing is written."""
    ring.enroll(Entry(ALICE.key, "ai:alice"))
    before = ring.path.read_bytes()
    with pytest.raises(KeyringError, match="one agent for a key"):
        ring.enroll(Entry(ALICE.key, "ai:bob"))
    assert ring.path.read_bytes() == before


def test_a_key_or_all_of_an_agent_is_revoked(ring: Enrolment) -> None:
    """From the time that was said; what was revoked before that stays so."""
    for entry in (Entry(ALICE.key, "ai:alice"), SUCCESSOR, Entry(BOB.key, "ai:bob")):
        ring.enroll(entry)
    assert ring.revoke(ALICE.key, AT) == [ALICE.key]
    assert ring.revoke("ai:alice", LATER) == [NEW.key]
    revoked = {one.key: one.revoked for one in ring.read().entries}
    assert revoked == {ALICE.key: AT, NEW.key: LATER, BOB.key: None}


@pytest.mark.parametrize("who", [ALICE.key, "ai:alice"])
def test_what_is_not_there_cannot_be_revoked(ring: Enrolment, who: bytes | str) -> None:
    """Neither in a file without it, nor without a file, which is not made."""
    with pytest.raises(ConfigError, match="no line of"):
        ring.revoke(who, AT)
    assert not ring.path.exists()


def test_a_broken_file_is_not_edited(ring: Enrolment) -> None:
    """The error names the file and the place."""
    ring.path.write_text("ed25519:oops ai:x\n")
    for edit in (lambda: ring.enroll(Entry(ALICE.key, "ai:alice")), lambda: ring.revoke("ai:x", AT)):
        with pytest.raises(KeyringError, match="keyring:1:9"):
            edit()
    assert ring.path.read_text() == "ed25519:oops ai:x\n"


def test_a_line_is_read_as_it_was_printed() -> None:
    """With its label and its succession."""
    for entry in (Entry(ALICE.key, "ai:alice", label="a b"), SUCCESSOR):
        assert entry_of(f" {written(entry)}\n").meaning == entry.meaning


@pytest.mark.parametrize("line", ["", "# only", "x", f"{key_text(ALICE.key)}", f"ed25519:{'A' * 43} ai:x"])
def test_what_is_no_line_is_refused(line: str) -> None:
    """Nothing, a comment, no key, no agent, and a key of small order."""
    with pytest.raises(ConfigError):
        entry_of(line)


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n", "\x85", "\u2028"])
def test_no_second_line_is_smuggled_in(end: str) -> None:
    """Behind one that looks good, as it might be in what somebody pastes. (Control: a space is none.)"""
    first, second = written(Entry(ALICE.key, "ai:alice", label="x")), written(Entry(BOB.key, "ai:bob"))
    with pytest.raises(ConfigError, match="expected one line"):
        entry_of(f"{first}{end}{second}")
    assert entry_of(f"{first} {second}").key == ALICE.key


def test_a_label_makes_no_second_line(ring: Enrolment) -> None:
    """Whatever is in it."""
    ring.enroll(Entry(ALICE.key, "ai:alice", label=f"x\n{key_text(BOB.key)} ai:bob"))
    assert ring.read().agents == {"ai:alice"}
