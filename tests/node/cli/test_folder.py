"""Commands about a node's folder: making one, backing up its store, and asking how it stands."""

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from commands import Ran, edit, ended, new_home, run, serving

from node.home import Home
from node.passphrase import from_file
from node.store import Store, backup
from node.store.queries import ListFilter
from tls.authority import Authority

# --- init


def test_init_tells_what_the_operator_needs_next(tmp_path: Path) -> None:
    """The line for others, the CA for others, and that the passphrase wants a backup."""
    home = Home(tmp_path / "node")
    ran = run("init", "--name", "desk", home=home)
    assert (ran.code, ran.err) == (0, "")
    line = run("fingerprint", home=home).out.strip()
    assert f"\n  {line}\n" in ran.out
    for words in (f"a node in {home.path}\n", str(home.path / "ca.pem"), f"{home.passphrase}: back it up"):
        assert words in ran.out
    assert home.passphrase.read_text().strip() not in ran.out


def test_init_takes_its_options(tmp_path: Path) -> None:
    """A CA that is given, another kind of key, names, and no passphrase file."""
    authority = Authority.create("mesh")
    cert, key = tmp_path / "ca.pem", tmp_path / "ca.key"
    cert.write_bytes(authority.cert_pem)
    key.touch(0o600)
    key.write_bytes(authority.key_pem)
    home = Home(tmp_path / "node")
    ran = run(
        *("init", "--name", "büro 1", "--ca-cert", str(cert), "--ca-key", str(key), "--key-type", "ed25519", "--json"),
        *("--host", "desk.local", "--host", "10.0.0.1", "--no-passphrase-file"),
        home=home,
    )
    assert set(ran.json) == {"home", "name", "fingerprint", "ca"}
    assert (ran.json["name"], ran.json["home"]) == ("büro 1", str(home.path))
    assert sorted(path.name for path in home.path.iterdir()) == [
        "allowlist", "api-key", "ca.pem", "config.toml", "edit.lock", "node.key", "node.pem",
    ]  # fmt: skip
    refused = run("init", "--store", home=home)
    assert refused.err.startswith("ai-memory: no passphrase for the store: expected the variable")
    assert run("init", "--store", home=home, env={"AI_MEMORY_DB_KEY": "x"}).code == 0
    assert run("stats", home=home).err.startswith("ai-memory: no passphrase for the store: expected the variable")
    assert run("stats", home=home, env={"AI_MEMORY_DB_KEY": "x"}).code == 0


def test_init_works_wherever_the_host_has_an_odd_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host's name that is no DNS name is left out of the certificate, and is the node's name all the same."""
    monkeypatch.setattr("socket.gethostname", lambda: "büro_1")
    assert run("init", "--json", home=Home(tmp_path / "node")).json["name"] == "büro_1"


@pytest.mark.parametrize(
    ("options", "code", "expected"),
    [
        (("--ca-cert", "/no/such", "--ca-key", "/no/such"), 2, "/no/such: no such file or directory"),
        (("--name", "a#b"), 5, "expected 1 to 64 printable characters"),
        (("--host", "a b"), 5, "host 'a b', expected a DNS name"),
    ],
)
def test_a_failed_init_can_be_repeated(tmp_path: Path, options: tuple[str, ...], code: int, expected: str) -> None:
    """One line, nothing made; without the mistake it works."""
    home = Home(tmp_path / "node")
    ran = run("init", *options, home=home)
    assert (ran.code, ran.out, ran.err.count("\n")) == (code, "", 1)
    assert expected in ran.err
    assert run("init", home=home).code == 0
    again = run("init", home=home)
    assert again.code == 2
    assert "there is a node in this folder already" in again.err


# --- backup


def test_a_backup_opens_with_the_same_passphrase(home: Home, tmp_path: Path) -> None:
    """It holds what the store held, encrypted, for its owner alone."""
    run("store", "kept title", "a content that only the store may hold", home=home)
    copy = tmp_path / "copy.db"
    ran = run("backup", str(copy), "--json", home=home)
    assert ran.json == {"file": str(copy), "bytes": copy.stat().st_size}
    assert copy.stat().st_mode & 0o777 == 0o600
    assert b"only the store" not in copy.read_bytes()
    edit(home, "store", "path", json.dumps(str(copy)))
    assert "kept title" in run("list", home=home).out
    Store.open(copy, from_file(home.passphrase)).close()


def refused_backup(home: Home, file: Path, code: int, expected: str) -> None:
    ran = run("backup", str(file), home=home)
    assert (ran.code, ran.out, ran.err.count("\n")) == (code, "", 1)
    assert expected in ran.err


def test_a_backup_that_cannot_be_made_is_told(home: Home, tmp_path: Path) -> None:
    """No store, no such folder, a file that is there: each in one line, and nothing is overwritten."""
    away = (home.path / "store.db").rename(tmp_path / "away.db")
    refused_backup(home, tmp_path / "copy.db", 4, f"there is no store at {home.path / 'store.db'}")
    away.rename(home.path / "store.db")
    refused_backup(home, tmp_path / "no" / "copy.db", 2, str(tmp_path / "no"))
    there = tmp_path / "there"
    there.write_text("precious")
    refused_backup(home, there, 2, f"{there} exists already")
    assert there.read_text() == "precious"


def test_a_backup_whose_path_is_no_text_is_refused(home: Home, tmp_path: Path) -> None:
    """SQLite takes UTF-8 alone; one sentence, nothing is made, and as JSON one object."""
    for name in (b"b\xff.db", b"\xe9/b.db"):
        file = tmp_path / os.fsdecode(name)
        file.parent.mkdir(exist_ok=True)
        refused_backup(
            home, file, 2, "is not UTF-8 text. Name a file whose whole path is UTF-8, and move it afterwards."
        )
        assert run("backup", str(file), "--json", home=home).error["code"] == "file"
        assert list(file.parent.iterdir()) == ([] if b"/" in name else [home.path])


def test_without_the_look_at_its_path_it_would_be_a_bug(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Control."""
    monkeypatch.setattr(backup, "_require_text", lambda target: None)
    with pytest.raises(UnicodeEncodeError):
        run("backup", str(tmp_path / os.fsdecode(b"b\xff.db")), home=home)


# --- a node that runs, and has a peer that does not


@pytest.fixture(scope="module")
def lonely(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """A running node with one peer, where nobody listens."""
    home = new_home(tmp_path_factory.mktemp("lonely"))
    run("peer", "add", "attic", "https://127.0.0.1:1", "--fingerprint", "a" * 64, home=home)
    with serving(home) as started:
        yield home
        code, out, _ = ended(started)
        assert (code, out) == (0, "")
    assert home.running() is None


def test_a_backup_is_made_beside_a_running_node(lonely: Home, tmp_path: Path) -> None:
    """It holds all that was acknowledged before, the node goes on, and the copy opens by itself."""
    run("store", "before the backup", "kept", home=lonely)
    copy = tmp_path / "copy.db"
    assert run("backup", str(copy), home=lonely).code == 0
    assert run("store", "after the backup", "kept", home=lonely).code == 0
    store = Store.open(copy, from_file(lonely.passphrase))
    found = store.reader.call(lambda reader: reader.listed(ListFilter("2000", 10)))
    store.close()
    assert [json.loads(document)["title"] for document in found] == ["before the backup"]


def test_the_status_says_why_a_peer_is_not_in_step(lonely: Home) -> None:
    """The answer is no; the reason is in the same line, and in the JSON."""
    ran = run("sync", "status", home=lonely)
    assert (ran.code, ran.err) == (13, "")
    node, peer = ran.out.splitlines()
    assert node.startswith("desk  feed ")
    assert peer.startswith("attic ")
    as_json = run("sync", "status", "--json", home=lonely)
    assert as_json.code == 13
    (told,) = as_json.json["peers"]
    assert told["peer"] == "attic"
    assert told["state"] != "in_step"
    assert told["reason"]
    assert as_json.json["federation_url"].startswith("https://127.0.0.1:")


@pytest.mark.parametrize("name", ["allowlist", "config.toml"])
def test_a_file_that_is_gone_or_broken_is_told_by_the_status_with_exit_1(lonely: Home, name: str) -> None:
    """Also where the file is the one that commands read too: the node that runs knows how it is."""
    path = lonely.path / name
    good = path.read_bytes()
    try:
        path.unlink() if name == "allowlist" else path.write_bytes(good + b"oops = [\n")
        ran = until(lambda: run("sync", "status", home=lonely), lambda ran: ran.code == 1)
        assert f"ALARM not_in_force : {name.partition('.')[0]}: " in ran.out
        assert "hold until then" in ran.out
    finally:
        path.write_bytes(good)
    ran = until(lambda: run("sync", "status", home=lonely), lambda ran: ran.code != 1)
    assert (ran.code, "ALARM" in ran.out) == (13, False)


def until(look: Callable[[], Ran], is_it: Callable[[Ran], bool]) -> Ran:
    """What a command says, once it says that; commands take their time, so a number of looks is a bound."""
    for _ in range(40):
        if is_it(ran := look()):
            return ran
        time.sleep(0.1)
    raise AssertionError(f"never: {ran}")


def test_without_a_node_there_is_no_status(home: Home) -> None:
    """It cannot be reached, and how to start it."""
    ran: Ran = run("sync", "status", home=home)
    assert (ran.code, ran.out) == (3, "")
    assert ran.err == "ai-memory: no node runs here; start it with `ai-memory serve`\n"
    assert run("sync", "status", "--json", home=home).error["code"] == "not_running"


def test_a_node_without_peers_is_in_step(home: Home) -> None:
    """Control: nobody to differ from, so the answer is yes; and that nobody can enter is told."""
    with serving(home):
        ran = run("sync", "status", home=home)
    assert ran.code == 0
    assert "the federation listener is closed: the allowlist is empty" in ran.out
