"""Commands about the keyring: what is wrong with the file, and whose key is whose."""

from pathlib import Path

from commands import run
from keys import pair

from node.home import Home
from sync import keyring
from sync.attest import base64url
from sync.keyring import key_text, successor_text

ANN, BEN, NEW = pair("ai:ann"), pair("ai:ben"), pair("ann's next key")
AT = "2026-01-31T12:00:00.000000+00:00"
SIGNED = ANN.sign(successor_text("ai:ann", NEW.key, ANN.key, AT))


def text() -> str:
    made = keyring.add("# mine\n", ANN.key, "ai:ann", "laptop")
    made = keyring.add_successor(made, "ai:ann", NEW.key, ANN.key, AT, SIGNED)
    return keyring.revoke(keyring.add(made, BEN.key, "ai:ben"), BEN.key, AT)


def test_no_file_is_an_empty_keyring(home: Home) -> None:
    """And no error: a node needs none."""
    assert run("keyring", "list", home=home).out == "nobody is enrolled\n"
    told = run("keyring", "check", "--json", home=home).json
    assert (told["keys"], told["agents"], told["warnings"]) == (0, 0, [])


def test_the_keyring_is_listed(home: Home) -> None:
    """Every member as JSON, and a line for each key for a person; one agent's alone where one is named."""
    (home.path / "keyring").write_text(text())
    listed = run("keyring", "list", "--json", home=home).json
    first, second, third = listed
    nothing = {"revoked": None, "after": None, "at": None, "by": None}
    assert first == {"key": key_text(ANN.key), "agent": "ai:ann", **nothing, "label": "laptop", "line": 2}
    assert (second["after"], second["at"], second["by"]) == (key_text(ANN.key), AT, base64url(SIGNED))
    assert (third["agent"], third["revoked"]) == ("ai:ben", AT)
    lines = run("keyring", "list", home=home).out.splitlines()
    assert lines == [
        f"{key_text(ANN.key)}  ai:ann  # laptop",
        f"{key_text(NEW.key)}  ai:ann  after {key_text(ANN.key)}",
        f"{key_text(BEN.key)}  ai:ben  revoked {AT}",
    ]
    assert run("keyring", "list", "--agent", "ai:ben", "--json", home=home).json == [third]


def test_the_check_names_every_wrong_line(home: Home, tmp_path: Path) -> None:
    """Exit code 1, with file, line and column of each; the node's own file or the one that is named."""
    path = home.path / "keyring"
    path.write_text(f"oops\n{key_text(ANN.key)}\n")
    ran = run("keyring", "check", home=home)
    assert (ran.code, ran.out) == (1, "")
    assert f"{path}:1:1: found 'oops'" in ran.err
    assert f"{path}:2:52: found no more" in ran.err
    assert run("keyring", "list", "--json", home=home).error["code"] == "keyring"
    other = tmp_path / "other"
    other.write_text(text() + f"{key_text(BEN.key)} ai:ben revoked={AT}\n")
    good = run("keyring", "check", str(other), home=home)
    assert good.code == 0
    assert good.out.splitlines() == [
        f"{other}:5: the same key as in line 4 (no label)",
        f"{other}: 3 keys of 2 agents, no error",
    ]


def test_a_file_that_cannot_be_read_is_told_with_its_place(home: Home, tmp_path: Path) -> None:
    """One that is named has to be there; a byte that is no UTF-8 is named with its column."""
    missing = tmp_path / "missing"
    assert f"{missing}:1:1: found no such file or directory" in run("keyring", "check", str(missing), home=home).err
    (home.path / "keyring").write_bytes("# é".encode() + b"\xe9\n")
    assert "keyring:1:4: found the byte 0xe9, expected text in UTF-8" in run("keyring", "check", home=home).err
