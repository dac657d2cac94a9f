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


@pytest.mark.parametrize(("label", "had"), [("the desk", "with the label the desk"), ("", "without a label")])
def test_a_label_that_is_not_taken_over_is_told(home: Home, label: str, had: str) -> None:
    """The line of a certificate that is listed stays as it is, and whoever asked for another label hears of it."""
    first = run("allowlist", "add", A, "--label", label, "--json", home=home).json
    assert first == {"added": f"sha256:{A}", "label": label, "was_listed": False}
    before = (home.path / "allowlist").read_bytes()
    ran = run("allowlist", "add", A, "--label", "attic", home=home)
    assert ran.out == (
        f"sha256:{A} may connect; it was on the allowlist already, {had}, which was left as it is"
        " (edit that line to change it)\n"
    )
    told = run("allowlist", "add", A, "--label", "attic", "--json", home=home).json
    assert told == {"added": f"sha256:{A}", "label": label, "was_listed": True}
    ran = run("peer", "add", "attic", "--fingerprint", A, home=home)
    assert ran.out.startswith(f"attic is a peer; it was on the allowlist already, {had}, which was left as it is")
    assert run("peer", "add", "attic", "--fingerprint", A, "--json", home=home).json["label"] == label
    assert (home.path / "allowlist").read_bytes() == before


def test_a_label_that_was_not_asked_for_is_not_spoken_of(home: Home) -> None:
    """Control: the same label again, or none."""
    assert run("allowlist", "add", A, "--label", "desk", home=home).code == 0
    for words in (("--label", "desk"), ()):
        assert run("allowlist", "add", A, *words, home=home).out == f"sha256:{A} may connect\n"
    assert run("peer", "add", "desk", "--fingerprint", A, home=home).out == "desk is a peer\n"


def test_an_allowlist_that_is_gone_is_told_in_one_sentence(home: Home) -> None:
    """What was found, what is expected, and what to do about the file; nothing about a line of it."""
    path = home.path / "allowlist"
    path.unlink()
    for words in (("list",), ("add", A), ("remove", A)):
        refused(
            run("allowlist", *words, home=home), 1,
            f"{path}:1:1: found no such file or directory, expected a readable file; put it back from a backup, or make"
            " an empty file there, which lets nobody in\n",
        )  # fmt: skip


def test_what_is_not_listed_cannot_be_removed(home: Home) -> None:
    """The answer is no."""
    refused(run("allowlist", "remove", A, home=home), 1, f"sha256:{A} is not on the allowlist")


@pytest.mark.parametrize("command", ["add", "remove"])
def test_what_is_no_fingerprint_is_refused(home: Home, command: str) -> None:
    """Before the file is looked at."""
    refused(run("allowlist", command, "sha256:beef", home=home), 5, "'sha256:beef' is no fingerprint")


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


def test_the_check_compares_with_the_peers_both_ways(home: Home) -> None:
    """A peer that is not listed cannot come: the answer is no. Who is listed and no peer has the default scope."""
    assert run("peer", "add", "attic", "https://attic:9443", "--fingerprint", A, home=home).code == 0
    path = home.path / "allowlist"
    assert run("allowlist", "check", home=home).code == 0
    path.write_text(f"{B}  # somebody\n")
    ran = run("allowlist", "check", home=home)
    assert ran.code == 1
    assert f"line 1: sha256:{B} (somebody): listed, and no [[peer]]: it may connect, read nothing and write" in ran.out
    assert f"peer attic (sha256:{A}) is configured and not on the list" in ran.out
    assert f"allowlist add sha256:{A} --label attic" in ran.out
    told = run("allowlist", "check", "--json", home=home).json
    assert (len(told["unlisted_peers"]), len(told["no_peers"])) == (1, 1)
    assert run("allowlist", "add", A, "--label", "attic", home=home).code == 0
    assert run("allowlist", "check", home=home).code == 0


def test_the_printed_line_can_be_pasted_everywhere(home: Home) -> None:
    """All that `fingerprint` prints: label and all, into `peer add`, `allowlist add` and `allowlist remove`."""
    line = f"sha256:{A}  # the attic"
    assert run("peer", "add", "attic", "--fingerprint", line, home=home).code == 0
    assert fingerprints(home) == [A]
    assert run("allowlist", "remove", line, home=home).code == 0
    assert run("allowlist", "add", line, home=home).code == 0
    (entry,) = allowlist.load(home.path / "allowlist").entries
    assert (entry.fingerprint.hex, entry.label) == (A, "the attic")


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
    refused(run("allowlist", *words, home=home), 1, f"{path}:1:1: found 'o'")
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
        "label": "phone",
    }  # fmt: skip
    (one,) = configuration.load(home.config, {}).peers
    assert (one.url, one.direction, one.read, one.write) == (None, "both", ("**",), ("**",))
    assert "(calls here)" in run("peer", "list", home=home).out


WRONG = {
    "an address without https": (("x", "http://x:1", "--fingerprint", A), "expected https://host:port"),
    "an address without a port": (
        ("x", "https://x", "--fingerprint", A),
        "url 'https://x' has no port, expected https://host:port: https://x:9443, or https://x:443 if that is meant",
    ),
    "a pattern of other programs": (
        ("x", "--fingerprint", A, "--read", "["),
        "'[' is no namespace pattern ('[' stands for nothing else here, expected *",
    ),
    "such a pattern, to write": (
        ("x", "--fingerprint", A, "--write", "a?"),
        "'a?' is no namespace pattern ('?' stands",
    ),
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
    refused(run("peer", "add", *arguments, home=home), 2 if case == "a CA that is not there" else 5, expected)
    assert {path: path.read_bytes() for path in home.path.iterdir()} == before


def test_what_a_file_may_say_is_taken_there(home: Home) -> None:
    """Control: an address of web pages' port, and a namespace that has such a character, stand in the configuration."""
    assert run("peer", "add", "x", "https://x:443", "--fingerprint", A, "--read", "a*", home=home).code == 0
    text = home.config.read_text()
    home.config.write_text(text.replace("https://x:443", "https://x").replace('"a*"', '"a[1]"'))
    (one,) = run("peer", "list", "--json", home=home).json
    assert (one["url"], one["read"]) == ("https://x", ["a[1]"])


def test_a_peer_that_is_not_there_cannot_be_removed(home: Home) -> None:
    """With the names that are."""
    refused(run("peer", "remove", "x", home=home), 1, "there is no peer 'x'; known are: none")


def test_a_peer_is_not_added_by_a_command_that_says_it_failed(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether a node runs is asked before anything is changed. Control: where that is no question, it is added."""
    words = ("peer", "add", "attic", "https://attic:9443", "--fingerprint", A)
    home.run.write_text("{}")
    home.run.chmod(0o644)
    before = home.config.read_bytes(), (home.path / "allowlist").read_bytes()
    refused(run(*words, home=home), 2, f"{home.run}: mode is 0644, expected 0600")
    assert (home.config.read_bytes(), (home.path / "allowlist").read_bytes()) == before
    monkeypatch.setattr(Home, "running", lambda self: None)
    assert run(*words, home=home).code == 0
    assert fingerprints(home) == [A]
