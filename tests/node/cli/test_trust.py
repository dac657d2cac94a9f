"""Commands about who may connect."""

import hashlib
import ssl
from pathlib import Path

import pytest
from commands import Ran, run

from node import config as configuration
from node.home import Home
from tls import allowlist
from tls.authority import Authority

A, B = "a" * 64, "b" * 64
COLONS = ":".join(["AA"] * 32)


def fingerprints(home: Home) -> list[str]:
    return [one.fingerprint.hex for one in allowlist.load(home.path / "allowlist").entries]


def refused(ran: Ran, code: int, *words: str) -> None:
    """A refusal in one line, without a trace."""
    assert (ran.code, ran.out) == (code, "")
    assert ran.err.count("\n") == 1
    for word in ("ai-memory: ", *words):
        assert word in ran.err


# --- fingerprint


def test_the_fingerprint_is_that_of_the_certificate(home: Home) -> None:
    """As the standard library computes it from the file, and as a line for another operator's allowlist."""
    der = ssl.PEM_cert_to_DER_cert((home.path / "node.pem").read_text())
    expected = f"sha256:{hashlib.sha256(der).hexdigest()}"
    ran = run("fingerprint", home=home)
    assert (ran.code, ran.out) == (0, f"{expected}  # desk\n")
    (entry,) = allowlist.parse(ran.out, "printed").entries
    assert (entry.fingerprint.text, entry.label) == (expected, "desk")
    assert run("fingerprint", "--json", home=home).json == {"fingerprint": expected, "name": "desk"}


def test_a_key_of_another_certificate_has_no_fingerprint(home: Home) -> None:
    """Nobody is told a fingerprint that this node could not show."""
    (home.path / "node.key").write_bytes(Authority.create("x").issue("x").key_pem)
    refused(run("fingerprint", home=home), 2, f"{home.path / 'node.key'} does not belong to {home.path / 'node.pem'}")


# --- allowlist


def test_the_allowlist_is_edited_line_by_line(home: Home) -> None:
    """Add, list, remove: and the file is as it was."""
    path = home.path / "allowlist"
    before = path.read_bytes()
    assert run("allowlist", "list", home=home).out == "nobody\n"
    assert run("allowlist", "add", f"sha256:{COLONS}", "--label", "the desk", home=home).code == 0
    assert run("allowlist", "add", B, home=home).code == 0
    assert run("allowlist", "list", home=home).out == f"sha256:{A}  # the desk\nsha256:{B}  # \n"
    last = before.count(b"\n")
    assert run("allowlist", "list", "--json", home=home).json == [
        {"fingerprint": f"sha256:{A}", "label": "the desk", "line": last + 1},
        {"fingerprint": f"sha256:{B}", "label": "", "line": last + 2},
    ]
    assert run("allowlist", "remove", A.upper(), "--json", home=home).json == {"removed": f"sha256:{A}"}
    assert fingerprints(home) == [B]
    assert run("allowlist", "remove", B, home=home).code == 0
    assert path.read_bytes() == before


def test_adding_twice_lists_once(home: Home) -> None:
    """In whatever spelling."""
    for spelling in (A, f"sha256:{A}", COLONS, f"SHA256:{COLONS}"):
        assert run("allowlist", "add", spelling, "--label", spelling[:3], home=home).code == 0
    assert fingerprints(home) == [A]


def test_what_is_not_listed_cannot_be_removed(home: Home) -> None:
    """The answer is no."""
    refused(run("allowlist", "remove", A, home=home), 1, f"sha256:{A} is not on the allowlist")


@pytest.mark.parametrize("command", ["add", "remove"])
def test_what_is_no_fingerprint_is_refused(home: Home, command: str) -> None:
    """Before the file is looked at."""
    refused(run("allowlist", command, "sha256:beef", home=home), 2, "'sha256:beef' is no fingerprint")


def test_a_good_allowlist_is_told_so(home: Home, tmp_path: Path) -> None:
    """The node's own, or any file; duplicates are a warning, no error."""
    own = run("allowlist", "check", home=home)
    assert (own.code, own.out) == (0, f"{home.path / 'allowlist'}: 0 entries, no error\n")
    other = tmp_path / "other"
    other.write_text(f"{A}  # first\n{COLONS}\n")
    ran = run("allowlist", "check", str(other))
    assert (ran.code, ran.out) == (
        0,
        f"{other}:2: the same fingerprint as in line 1 (first)\n{other}: 1 entries, no error\n",
    )
    assert run("allowlist", "check", str(other), "--json").json["entries"] == 1


def test_every_broken_line_of_an_allowlist_is_told(tmp_path: Path) -> None:
    """File, line, column, what was found and what was expected; the answer is no."""
    path = tmp_path / "broken"
    path.write_text(f"# friends\n{A}\nsha256:xyz\n\n  {A[:10]}\n")
    ran = run("allowlist", "check", str(path))
    assert (ran.code, ran.out) == (1, "")
    first, second = ran.err.removeprefix("ai-memory: ").splitlines()
    assert first.startswith(f"{path}:3:8: found 'x', expected a hex digit")
    assert second.startswith(f"{path}:5:3: found 10 hex digits, expected exactly 64")
    assert run("allowlist", "check", str(path), "--json").error["code"] == "allowlist"


@pytest.mark.parametrize(
    "words", [("list",), ("add", A), ("remove", A)], ids=lambda words: words[0] if isinstance(words, tuple) else words
)
def test_a_broken_allowlist_is_not_edited(home: Home, words: tuple[str, ...]) -> None:
    """It stays as it is, and the error has its name and the place."""
    path = home.path / "allowlist"
    path.write_text("oops\n")
    refused(run("allowlist", *words, home=home), 2, f"{path}:1:1: found 'o'")
    assert path.read_text() == "oops\n"


def test_a_missing_allowlist_is_told(tmp_path: Path) -> None:
    """With its name."""
    refused(run("allowlist", "check", str(tmp_path / "no-such")), 1, "no-such:1:1: found no such file or directory")


# --- peers


def test_a_peer_is_added_listed_and_removed(home: Home, tmp_path: Path) -> None:
    """With the allowlist line and the CA that belong to it."""
    ca = tmp_path / "attic-ca.pem"
    ca.write_bytes(Authority.create("attic").cert_pem)
    options = ("--fingerprint", f"sha256:{A}", "--ca", str(ca), "--direction", "push", "--read", "a/**", "--write", "b")
    ran = run("peer", "add", "attic", "https://attic:9443", *options, home=home)
    assert (ran.code, ran.out) == (0, "attic is a peer\n")
    (told,) = run("peer", "list", "--json", home=home).json
    assert told == {
        "name": "attic", "url": "https://attic:9443", "fingerprint": f"sha256:{A}", "direction": "push",
        "read": ["a/**"], "write": ["b"], "legacy": False,
    }  # fmt: skip
    assert fingerprints(home) == [A]
    assert ca.read_bytes() in (home.path / "ca.pem").read_bytes()
    assert A in run("peer", "list", home=home).out
    assert run("peer", "remove", "attic", home=home).out == "attic is no peer any more\n"
    assert run("peer", "list", home=home).out == "no peers\n"
    assert fingerprints(home) == []


def test_a_peer_without_an_address_calls_here(home: Home) -> None:
    """Name and fingerprint are enough; the options have the defaults of the file."""
    assert run("peer", "add", "phone", "--fingerprint", COLONS, "--json", home=home).json == {
        "name": "phone", "url": None, "fingerprint": f"sha256:{A}", "direction": "both", "legacy": False,
    }  # fmt: skip
    (one,) = configuration.load(home.config, {}).peers
    assert (one.url, one.direction, one.read, one.write) == (None, "both", ("**",), ("**",))
    assert "(calls here)" in run("peer", "list", home=home).out


WRONG = {
    "an address without https": (("x", "http://x:1", "--fingerprint", A), "expected https://host:port"),
    "a pattern that is none": (("x", "--fingerprint", A, "--read", "a//b"), "'a//b' is no namespace pattern"),
    "a name of two lines": (("x\ny", "--fingerprint", A), "expected 1 to 64 printable characters"),
    "no name": (("", "--fingerprint", A), "expected 1 to 64 printable characters"),
    "half a fingerprint": (("x", "--fingerprint", A[:32]), "is no fingerprint"),
    "a CA that is not there": (("x", "--fingerprint", A, "--ca", "/no/such/ca.pem"), "/no/such/ca.pem: no such file"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_peer_is_refused(home: Home, case: str) -> None:
    """In one line, and no file is changed."""
    before = {path: path.read_bytes() for path in home.path.iterdir()}
    arguments, expected = WRONG[case]
    refused(run("peer", "add", *arguments, home=home), 2, expected)
    assert {path: path.read_bytes() for path in home.path.iterdir()} == before


def test_a_peer_that_is_not_there_cannot_be_removed(home: Home) -> None:
    """With the names that are."""
    refused(run("peer", "remove", "x", home=home), 1, "there is no peer 'x'; known are: none")
