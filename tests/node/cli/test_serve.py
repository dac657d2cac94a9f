"""`serve`: what it tells, how it ends, and the many reasons for which it does not start, each in one line."""

import json
import socket
import sqlite3
from collections.abc import Callable
from pathlib import Path
from urllib.request import urlopen

import pytest
from commands import edit, ended, run, serving

from node import setup
from node.config import PeerConfig
from node.home import Home
from tls.authority import Authority
from tls.fingerprint import Fingerprint

PASSPHRASE = "a passphrase that no log may hold"


def test_a_node_logs_json_and_never_its_passphrase(home: Home) -> None:
    """Started with --json and the lowest level: each line one object, the passphrase in none, nothing on the output."""
    environment = {"AI_MEMORY_DB_KEY": PASSPHRASE, "AI_MEMORY_LOG_LEVEL": "debug"}
    no_store(home)
    assert run("init", "--store", home=home, env=environment).code == 0
    setup.add_peer(
        home, PeerConfig("attic", "https://127.0.0.1:1", Fingerprint("a" * 64), "both", ("**",), ("**",)), None
    )
    with serving(home, "--json", env=environment) as started:
        run("store", "title", "content", home=home)
        code, out, err = ended(started)
    assert (code, out) == (0, "")
    events = [json.loads(line) for line in err.splitlines()]
    told = [event["event"] for event in events]
    assert {"node.ready", "federation.open", "node.stopping"} <= set(told)
    ready = events[told.index("node.ready")]
    assert ready["home"] == str(home.path)
    assert ready["local"].startswith("http://127.0.0.1:")
    assert ready["federation"].startswith("https://127.0.0.1:")
    assert PASSPHRASE not in err
    assert home.running() is None


def test_a_node_logs_lines_for_people(home: Home) -> None:
    """As configured: no JSON, and still only on standard error. Its store may be another than the configured one."""
    other = (home.path / "store.db").rename(home.path / "other.db")
    with serving(home, "--db", str(other)) as started:
        running = home.running()
        assert running is not None
        with urlopen(f"{running.local_url}/api/v1/health", timeout=20) as answer:
            assert json.load(answer)["status"] == "ok"
        code, out, err = ended(started)
    assert (code, out) == (0, "")
    assert "node.ready" in err
    assert not err.startswith("{")
    assert other.exists()
    assert not (home.path / "store.db").exists()


def test_the_home_folder_comes_from_option_before_variable(home: Home, tmp_path: Path) -> None:
    """--home wins over AI_MEMORY_HOME."""
    elsewhere = Home(tmp_path / "elsewhere")
    assert run("fingerprint", "--home", str(home.path), home=elsewhere).code == 0
    assert run("fingerprint", home=elsewhere).code == 2


# --- what keeps it from starting


def listed(home: Home) -> None:
    """Somebody on the allowlist, so that the federation listener would open."""
    assert run("allowlist", "add", "a" * 64, home=home).code == 0


def taken(home: Home, section: str) -> None:
    """A listener's port is in use, until the process ends."""
    door = socket.create_server(("127.0.0.1", 0))
    held.append(door)
    edit(home, section, "listen", json.dumps(f"127.0.0.1:{door.getsockname()[1]}"))


held: list[socket.socket] = []


def wrong_passphrase(home: Home) -> None:
    no_store(home)
    assert run("init", "--store", home=home, env={"AI_MEMORY_DB_KEY": "another"}).code == 0


def plain_database(home: Home) -> None:
    no_store(home)
    connection = sqlite3.connect(home.path / "store.db")
    connection.execute("CREATE TABLE memory (id)")
    connection.close()


def open_key(home: Home) -> None:
    (home.path / "api-key").write_text("key")
    (home.path / "api-key").chmod(0o644)
    edit(home, "local", "api_key_file", '"api-key"')


def other_key(home: Home) -> None:
    (home.path / "node.key").write_bytes(Authority.create("x").issue("x").key_pem)


def taken_federation(home: Home) -> None:
    listed(home)
    taken(home, "federation")


def no_store(home: Home) -> None:
    (home.path / "store.db").unlink()


IN_USE = ": address already in use; name another address"
REASONS: dict[str, tuple[Callable[[Home], object], int, str, str]] = {
    "no configuration": (
        lambda home: home.config.unlink(),
        2,
        "config",
        "config.toml: No such file or directory; there was a node in this folder: put the file back",
    ),
    "no node": (
        lambda home: [path.unlink() for path in (home.config, home.path / "node.key")],
        2,
        "config",
        "config.toml: No such file or directory; run `ai-memory init`",
    ),
    "a broken configuration": (lambda home: home.config.write_text("x"), 2, "config", "config.toml:1"),
    "an impossible value": (
        lambda home: edit(home, "store", "readers", "99"),
        2,
        "config",
        "readers: 99, expected 1 to 16",
    ),
    "a broken allowlist": (
        lambda home: (home.path / "allowlist").write_text("sha256:oops\n"),
        1,
        "allowlist",
        "allowlist:1:8: found 'o', expected a hex digit",
    ),
    "a configuration that was cut off before its API key": (
        lambda home: home.config.write_text('[node]\nname = "desk"\n'),
        2,
        "config",
        "names no [local] api_key_file: was that file cut off? Put api_key_file",
    ),
    "no allowlist": (
        lambda home: (home.path / "allowlist").unlink(),
        1,
        "allowlist",
        "allowlist:1:1: found no such file",
    ),
    "a broken keyring": (
        lambda home: (home.path / "keyring").write_text("oops\n"),
        1,
        "keyring",
        "expected ed25519: and a public key in base64url. Correct the line, or put a # before it.",
    ),
    "no passphrase": (lambda home: home.passphrase.unlink(), 2, "config", "no passphrase for the store: expected"),
    "a passphrase for all": (
        lambda home: home.passphrase.chmod(0o644),
        2,
        "config",
        "mode is 0644, expected 0600; run:",
    ),
    "a wrong passphrase": (wrong_passphrase, 4, "store", "PRAGMA key failed (wrong passphrase or unencrypted DB?)"),
    "a plain database": (plain_database, 4, "store", "store.db is a plain, unencrypted SQLite database."),
    "an emptied store": (
        lambda home: (home.path / "store.db").write_bytes(b""),
        4,
        "store",
        "store.db is empty (0 bytes).",
    ),
    "no store": (no_store, 4, "store", "store.db, where this node's is expected. Is its disk mounted?"),
    "neither store nor passphrase": (
        lambda home: (no_store(home), home.passphrase.unlink()),
        4,
        "store",
        "there is no store at",
    ),
    "a folder in the store's place": (
        lambda home: (no_store(home), (home.path / "store.db").mkdir()),
        4,
        "store",
        "store.db is a folder, the store's file expected.",
    ),
    "no certificate": (
        lambda home: (home.path / "node.pem").unlink(),
        2,
        "tls",
        "node.pem cannot be read: No such file",
    ),
    "another's key": (other_key, 2, "tls", "node.key does not belong to"),
    "a broken CA bundle": (
        lambda home: (home.path / "ca.pem").write_text("x"),
        2,
        "tls",
        "ca.pem holds no usable certificate, PEM expected",
    ),
    "the local port is taken": (lambda home: taken(home, "local"), 2, "config", IN_USE),
    "the federation's port is taken": (taken_federation, 2, "config", IN_USE),
    "no such address": (
        lambda home: (
            edit(home, "local", "listen", '"127.0.0.1:1"')
            or edit(home, "federation", "listen", '"192.0.2.1:1"')
            or listed(home)
        ),
        2,
        "config",
        "[federation] listen 192.0.2.1:1: cannot assign requested address; name another address",
    ),
    "an API key for all": (open_key, 2, "config", "api-key: mode is 0644, expected 0600; run:"),
}


@pytest.mark.parametrize("case", REASONS)
def test_a_node_that_cannot_start_says_why(home: Home, case: str) -> None:
    """Exit code and one line that names the thing; no trace, no passphrase, and nothing that looks like a node."""
    spoil, exit_code, code, expected = REASONS[case]
    secret = home.passphrase.read_text().strip()
    spoil(home)
    try:
        for json_option in ((), ("--json",)):
            ran = run("serve", *json_option, home=home)
            *logged, last = ran.err.splitlines()
            assert (ran.code, ran.out) == (exit_code, "")
            assert expected in last
            assert secret not in ran.err
            assert "Traceback" not in ran.err
            if json_option:
                assert json.loads(last)["code"] == code
                assert all(json.loads(line)["event"] for line in logged)
            else:
                assert last.startswith("ai-memory: ")
        assert home.running() is None
        assert not home.run.exists()
    finally:
        while held:
            held.pop().close()


def test_a_second_node_in_the_same_folder_does_not_start(home: Home) -> None:
    """The first one's store is in use; the first one goes on."""
    with serving(home):
        ran = run("serve", home=home)
        assert ran.code == 3
        assert "is in use by another process" in ran.err
        assert run("stats", home=home).code == 0
