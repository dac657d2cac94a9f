"""How commands speak: one JSON value, errors as one JSON object, exit codes as the table has them, and quietly."""

import errno
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import pytest
from commands import PATIENCE, PROGRAM, clean_environment, edit, finished, run
from keys import pair

from node.cli import backend, main
from node.cli.output import EXIT_CODES, CommandError, translated
from node.config import ConfigError
from node.home import Home, Running, lock_of
from node.opening import Patience
from node.passphrase import from_file
from node.store import Store
from node.store.errors import StoreError, StoreLocked, WrongPassphrase
from sync.errors import LocalError, RemoteError
from sync.keyline import key_text
from tls.errors import IdentityError

HEX = "a" * 64

# Every command once, in an order in which each finds what it needs. ID stands for the first memory.
EACH: dict[str, tuple[str, ...]] = {
    "init": ("init", "--home", "OTHER"),
    "mesh init": ("mesh", "init", "MESH", "--node", "a=a.mesh:1", "--node", "b=b.mesh:1"),
    "mesh renew": ("mesh", "renew", "MESH", "b"),
    "fingerprint": ("fingerprint",),
    "allowlist check": ("allowlist", "check"),
    "allowlist add": ("allowlist", "add", HEX),
    "allowlist list": ("allowlist", "list"),
    "allowlist remove": ("allowlist", "remove", HEX),
    "keyring check": ("keyring", "check"),
    "keyring list": ("keyring", "list"),
    "peer add": ("peer", "add", "desk", "--fingerprint", HEX),
    "peer list": ("peer", "list"),
    "peer remove": ("peer", "remove", "desk"),
    "store": ("store", "title", "content"),
    "link": ("link", "ID", "TARGET"),
    "links": ("links", "ID"),
    "unlink": ("unlink", "ID", "TARGET"),
    "get": ("get", "ID"),
    "list": ("list",),
    "search": ("search", "content"),
    "update": ("update", "ID", "--content", "other"),
    "promote": ("promote", "ID"),
    "verify": ("verify", "ID"),
    "identity generate": ("identity", "generate", "ai:x"),
    "api-key rotate": ("api-key", "rotate"),
    "token add": ("token", "add", "ai:x", "--read", "**"),
    "token list": ("token", "list"),
    "token revoke": ("token", "revoke", "ai:x"),
    "identity list": ("identity", "list"),
    "identity export": ("identity", "export", "ai:x", "--to", "KEY"),
    "identity import": ("identity", "import", "ai:x", "KEY"),
    "identity enroll": ("identity", "enroll", key_text(pair("ai:y").key), "ai:y"),
    "identity rotate": ("identity", "rotate", "ai:x"),
    "identity revoke": ("identity", "revoke", "ai:y"),
    "conflicts list": ("conflicts", "list"),
    "settle": ("settle", "--future"),
    "stats": ("stats",),
    "backup": ("backup", "FILE"),
    "restore": ("restore", "FILE"),
    "delete": ("delete", "ID"),
}
ELSEWHERE = {"serve", "demo", "sync status", "import", "conflicts show", "conflicts resolve", "verify-release"}
"""Tested with real nodes, somebody else's files, or what others wrote, each in its own module."""


def leaves(group: click.Group = main, words: tuple[str, ...] = ()) -> Iterator[str]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from leaves(command, (*words, name))
        else:
            yield " ".join((*words, name))


def test_every_command_prints_one_json_value(home: Home, tmp_path: Path) -> None:
    """Exactly one on standard output, nothing on standard error, exit code 0; and text without --json is none."""
    assert set(EACH) | ELSEWHERE == set(leaves())
    names = {
        "OTHER": str(tmp_path / "other"),
        "FILE": str(tmp_path / "copy.db"),
        "MESH": str(tmp_path / "mesh"),
        "KEY": str(tmp_path / "key"),
    }
    for name, words in EACH.items():
        ran = run(*(names.get(word, word) for word in words), "--json", home=home)
        assert (ran.code, ran.err) == (0, ""), name
        assert ran.out.count("\n") == 1, name
        assert isinstance(ran.json, dict | list), name
        if name == "store":
            names["ID"] = ran.json["id"]
            names["TARGET"] = run("store", "other title", "content", "--json", home=home).json["id"]


@pytest.mark.parametrize("name", sorted(set(EACH) - {"init", "mesh init", "mesh renew", "allowlist check"}))
def test_every_command_says_that_there_is_no_node(name: str, tmp_path: Path) -> None:
    """In a folder without a configuration: a usage error, as one JSON object and as one line."""
    nowhere = Home(tmp_path / "nowhere")
    ran = run(*EACH[name], "--json", home=nowhere)
    assert (ran.code, ran.error["code"]) == (2, "config")
    plain = run(*EACH[name], home=nowhere)
    assert (
        plain.err
        == f"ai-memory: {nowhere.config}: No such file or directory; run `ai-memory init` first, or name"
        + (" the right --home\n")
    )
    assert not nowhere.path.exists()


@pytest.mark.parametrize("words", [("peer", "add", "x"), ("no-such-command",), ("sync", "status", "--all"), ("get",)])
def test_wrong_usage_is_one_json_object_too(words: tuple[str, ...]) -> None:
    """A program that asked for JSON gets it, whatever was wrong; a person gets the usage."""
    ran = run(*words, "--json")
    assert (ran.code, ran.error["code"]) == (2, "usage")
    plain = run(*words)
    assert plain.code == 2
    assert plain.err.startswith("Usage: ai-memory ")
    assert ran.error["error"] in " ".join(plain.err.split())


def test_options_that_exclude_each_other_are_refused(home: Home) -> None:
    """An option that would be ignored is an error."""
    for words, expected in (
        (("init", "--ca-cert", "x"), "--ca-cert and --ca-key belong together"),
        (("serve", "--key-type", "rsa"), "--key-type is for --ephemeral"),
        (("serve", "--ephemeral", "--db", "x"), "--ephemeral has a store of its own"),
    ):
        ran = run(*words, "--json", home=home)
        assert (ran.code, ran.error["code"]) == (2, "usage")
        assert ran.error["error"].startswith(expected)


# --- the table


TRANSLATED = {
    "a command's own": (CommandError(3, "x", "text"), 3, "x"),
    "configuration": (ConfigError(["text"]), 2, "config"),
    "certificates": (IdentityError("text", "next"), 2, "tls"),
    "a store in use": (StoreLocked("text", "next"), 3, "store_locked"),
    "a wrong passphrase": (WrongPassphrase("text", "next"), 4, "store"),
    "any other trouble of the store": (StoreError("text", "next"), 4, "store"),
    "not found": (RemoteError("not_found", "text"), 1, "not_found"),
    "a full disk": (OSError(errno.ENOSPC, "No space left on device"), 2, "file"),
    "a full share of the disk": (OSError(errno.EDQUOT, "Disk quota exceeded"), 2, "file"),
    "two begin so": (RemoteError("ambiguous_id", "text"), 1, "ambiguous_id"),
    "a conflict that has changed": (RemoteError("conflict_changed", "text"), 1, "conflict_changed"),
    "a title that is taken": (RemoteError("title_taken", "text"), 1, "title_taken"),
    "input that is not valid": (RemoteError("limits", "text"), 5, "limits"),
    "a file": (PermissionError(13, "Permission denied", "/x"), 2, "file"),
}


@pytest.mark.parametrize("case", TRANSLATED)
def test_an_error_has_its_exit_code(case: str) -> None:
    """What each room raises, as the table has it."""
    error, exit_code, code = TRANSLATED[case]
    known = translated(error)
    assert known is not None
    assert (known.exit_code, known.code) == (exit_code, code)
    assert exit_code in EXIT_CODES


@pytest.mark.parametrize("error", [ValueError("x"), LocalError("x"), BrokenPipeError(32, "Broken pipe"), KeyError("x")])
def test_a_bug_is_not_dressed_up(error: Exception) -> None:
    """What nobody foresaw shows its trace, and a reader that went away is no error of the node's."""
    assert translated(error) is None


def test_a_store_in_use_is_told(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """By another process than a node, for longer than anybody waits: nobody can be asked."""
    monkeypatch.setattr(Patience.__init__, "__defaults__", (0.0,))
    store = Store.open(home.path / "store.db", from_file(home.passphrase), create=True, readers=1)
    try:
        ran = run("stats", "--json", home=home)
        assert (ran.code, ran.error["code"]) == (3, "store_locked")
    finally:
        store.close()
    assert run("stats", home=home).code == 0  # control


def test_a_wrong_passphrase_is_told(home: Home) -> None:
    """The store cannot be opened; the passphrase is not repeated."""
    assert run("stats", home=home).code == 0
    ran = run("stats", home=home, env={"AI_MEMORY_DB_KEY": "hunter2"})
    assert (ran.code, ran.out) == (4, "")
    assert ran.err.startswith("ai-memory: PRAGMA key failed (wrong passphrase or unencrypted DB?)")
    assert ran.err.count("\n") == 1
    assert "hunter2" not in ran.err


def test_a_folder_that_is_a_file_is_told(tmp_path: Path) -> None:
    """One line for what the system refuses, too."""
    path = tmp_path / "file"
    path.write_text("")
    ran = run("init", env={"AI_MEMORY_HOME": str(path)})
    assert (ran.code, ran.err) == (2, f"ai-memory: {path}: file exists\n")


@contextmanager
def answering(home: Home, data: bytes) -> Iterator[None]:
    """Something that proves itself as the node of this folder, and answers whatever comes next with these bytes."""
    store = home.path / "store.db"
    with socket.create_server(("127.0.0.1", 0)) as door, lock_of(store).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        note = Running(os.getpid(), f"http://127.0.0.1:{door.getsockname()[1]}", None, str(store), "5e" * 32)
        home.write_run(note)

        def answer() -> None:
            while True:
                try:
                    connection, _ = door.accept()
                except OSError:
                    return
                with connection:
                    connection.settimeout(PATIENCE)
                    nonce = connection.recv(65_536).partition(b"nonce=")[2][:64].decode()
                    connection.sendall(response(200, json.dumps({"proof": note.proof(nonce)})))
                    if connection.recv(65_536):  # who only looks whether it is the node sends no more
                        connection.sendall(data)

        thread = threading.Thread(target=answer)
        thread.start()
        try:
            yield
        finally:
            door.shutdown(socket.SHUT_RDWR)
            thread.join(PATIENCE)


def response(status: int, body: str) -> bytes:
    return f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


ANSWERS = {
    "nothing": (b"", 3, "unreachable"),
    "no HTTP": (b"SSH-2.0-x\r\n", 3, "unreachable"),
    "no JSON": (response(200, "<html>"), 3, "unreachable"),
    "half of an answer": (response(200, "{}x").replace(b"3", b"9"), 3, "unreachable"),
    "a full disk": (response(507, '{"error": "full", "code": "store_full"}'), 4, "store_full"),
    "a mistake": (response(500, '{"error": "oops", "code": "internal"}'), 4, "internal"),
    "an error of another form": (response(404, '{"detail": "x"}'), 1, "error"),
}


@pytest.mark.parametrize("case", ANSWERS)
def test_a_node_that_does_not_answer_well_is_told(home: Home, case: str) -> None:
    """Whatever comes back, one line and an exit code."""
    data, exit_code, code = ANSWERS[case]
    with answering(home, data):
        ran = run("stats", "--json", home=home)
    assert (ran.code, ran.error["code"]) == (exit_code, code)


# --- quietly


def test_ctrl_c_is_quiet(home: Home) -> None:
    """While a program is asked for the passphrase, say: no trace, no word, and the exit code of an interruption."""
    code = "import os, signal, time; os.kill(os.getppid(), signal.SIGINT); time.sleep(30)"
    edit(home, "store", "passphrase_command", json.dumps([sys.executable, "-c", code]))
    # Of tests that run in a shell's background it is ignored, and what they start would inherit that.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        ran = finished(("stats", "--home", str(home.path)))
    finally:
        signal.signal(signal.SIGINT, before)
    assert (ran.code, ran.out, ran.err) == (130, "", "")


def test_an_interrupted_command_closes_the_store(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in the middle of the work: the next command finds the store free."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(backend.StoreBackend, "stats", interrupted)
    assert run("stats", home=home).code == 130
    monkeypatch.undo()
    assert run("stats", home=home).code == 0


@pytest.mark.parametrize("words", [("list", "--json"), ("--help",), ("allowlist", "list"), ("get", "x" * 10)])
def test_a_reader_that_went_away_is_no_error(home: Home, words: tuple[str, ...]) -> None:
    """`ai-memory list | head` ends without a trace."""
    reading, writing = os.pipe()
    os.close(reading)
    environment = clean_environment() | {"AI_MEMORY_HOME": str(home.path)}
    try:
        ran = subprocess.run(
            [*PROGRAM, *words], env=environment, stdout=writing, stderr=subprocess.PIPE, check=False, timeout=PATIENCE
        )
    finally:
        os.close(writing)
    assert b"Traceback" not in ran.stderr
    assert b"Exception ignored" not in ran.stderr
    assert b"Errno" not in ran.stderr
