"""Commands and the key: used without a word, and sent to nobody but the node of this folder, which has to prove it."""

import contextlib
import fcntl
import json
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from commands import PATIENCE, edit, ended, finished, new_home, run, serving

from node import config as configuration
from node.cli import backend
from node.home import Home, Running, lock_of
from node.opening import Patience
from node.passphrase import from_file

SAID = "what nobody else may hear"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return new_home(tmp_path)


def asked(home: Home, path: str, key: str | None = None, body: Any = None, **headers: str) -> tuple[int, Any]:
    """A request of a client that is no command."""
    running = home.running()
    assert running is not None
    named = {"X-Api-Key": key} if key is not None else {}
    data = None if body is None else json.dumps(body).encode()
    request = Request(
        running.local_url + "/api/v1" + path, data, {"Content-Type": "application/json", **named, **headers}
    )
    try:
        with urlopen(request, timeout=PATIENCE) as answer:
            return answer.status, json.loads(answer.read())
    except HTTPError as error:
        return error.code, json.loads(error.read())


# --- what `init` makes of it


def test_a_new_node_asks_for_a_key_and_commands_have_it(home: Home) -> None:
    """Other users of the machine get nothing; who runs commands in the folder notices nothing."""
    assert home.api_key.stat().st_mode & 0o777 == 0o600
    assert len(from_file(home.api_key)) >= 43
    with serving(home):
        assert run("store", "title", SAID, home=home).code == 0
        assert asked(home, "/memories")[0] == 401
        status, told = asked(home, "/memories", from_file(home.api_key))
        assert (status, told["count"]) == (200, 1)
        assert run("sync", "status", home=home).code == 0


def test_a_node_without_a_key_is_made_by_asking_for_it(tmp_path: Path) -> None:
    """The old way: no file, nothing in the configuration, everybody is served."""
    home = Home(tmp_path / "node")
    assert run("init", "--no-api-key", home=home).code == 0
    edit(home, "local", "listen", '"127.0.0.1:0"')
    edit(home, "federation", "listen", '"127.0.0.1:0"')
    assert not home.api_key.exists()
    assert configuration.load(home.config, {})["local", "api_key_file"] is None
    with serving(home):
        assert asked(home, "/memories")[0] == 200
        ran = run("token", "add", "ai:x", "--read", "a/**", "--json", home=home)
        assert ran.json["guarded"] is False
        assert "asks for no API key" in run("token", "add", "ai:x", home=home).out
        assert asked(home, "/sync/status", ran.json["token"])[0] == 403


def test_a_key_is_changed_while_the_node_runs(home: Home) -> None:
    """The old one is refused from the next request on; commands go on without a word."""
    with serving(home):
        old = from_file(home.api_key)
        told = run("api-key", "rotate", "--json", home=home).json
        assert told == {"file": str(home.api_key), "restart_needed": False}
        assert asked(home, "/stats", old)[0] == 401
        assert asked(home, "/stats", from_file(home.api_key))[0] == 200
        assert run("stats", home=home).code == 0


def without_its_section(text: str) -> str:
    start = text.index("[local]")
    return text[:start] + text[text.index("\n[", start) + 1 :]


@pytest.mark.parametrize(
    "change",
    [str, without_its_section, lambda text: text.replace('# api_key_file = "api-key"\n', "", 1)],
    ids=["its line is there", "no section", "no line"],
)
def test_a_node_that_asked_for_no_key_gets_its_first(tmp_path: Path, change: Callable[[str], str]) -> None:
    """Whatever its configuration looks like; every other line of it stays."""
    home = new_home(tmp_path, api_key=False)
    before = change(home.config.read_text())
    home.config.write_text(before)
    with serving(home, env=FREE):
        told = run("api-key", "rotate", "--json", home=home).json
        assert told == {"file": str(home.api_key), "restart_needed": True}
    after = home.config.read_text()
    assert configuration.load(home.config, {})["local", "api_key_file"] == "api-key"
    assert [line for line in before.splitlines() if line not in after.splitlines()] in (
        [], ['# api_key_file = "api-key"'],
    )  # fmt: skip
    with serving(home, env=FREE):
        assert asked(home, "/stats")[0] == 401
        assert run("stats", home=home).code == 0


FREE = {"AI_MEMORY_LOCAL_LISTEN": "127.0.0.1:0", "AI_MEMORY_FEDERATION_LISTEN": "127.0.0.1:0"}


# --- tokens


def test_a_token_is_shown_once_and_works_until_it_is_revoked(home: Home) -> None:
    """Added, used, listed and revoked while the node runs."""
    with serving(home):
        made = run("token", "add", "ai:helper", "--read", "team/**", "--write", "team/notes", "--json", home=home).json
        token = made["token"]
        body = {"title": "t", "content": "c", "namespace": "team/notes"}
        status, told = asked(home, "/memories", token, body)
        assert (status, told["agent_id"]) == (201, "ai:helper")
        assert asked(home, "/memories", token, body | {"namespace": "team/plans"})[0] == 403
        assert asked(home, "/memories", token, body, **{"X-Agent-Id": "ai:else"})[1]["code"] == "forbidden"
        listed = run("token", "list", home=home)
        assert token not in listed.out
        assert f"{made['id']}  ai:helper  sees team/**; writes team/notes; made " in listed.out
        assert run("token", "revoke", made["id"][:6], home=home).code == 0
        assert asked(home, "/memories", token)[0] == 401
    assert run("token", "list", "--json", home=home).json == []
    gone = run("token", "revoke", made["id"], "--json", home=home)
    assert (gone.code, gone.error["code"]) == (1, "not_found")


@pytest.mark.parametrize(
    "words", [("a b",), ("ai:x", "--read", "a//b"), ("ai:x", "--write", ""), ("ai:x", "--read", "a\nb")]
)
def test_a_token_for_nothing_that_exists_is_refused(home: Home, words: tuple[str, ...]) -> None:
    """An agent or a pattern that is none."""
    ran = run("token", "add", *words, "--json", home=home)
    assert (ran.code, ran.error["code"]) == (5, "invalid")
    assert not home.tokens.exists()


def test_what_would_revoke_more_than_was_meant_is_refused(home: Home) -> None:
    """No name at all is no beginning of every id."""
    run("token", "add", "ai:x", home=home)
    for name in ("", "a", "abc"):
        assert run("token", "revoke", name, home=home).code == 1
    assert len(run("token", "list", "--json", home=home).json) == 1


def test_tokens_that_are_added_at_one_time_are_all_kept(home: Home) -> None:
    """Two that read the same file would lose what the first wrote."""
    threads = [
        threading.Thread(target=finished, args=(("token", "add", f"ai:{n}", "--home", str(home.path)),))
        for n in range(4)
    ]
    for one in threads:
        one.start()
    for one in threads:
        one.join(PATIENCE)
    assert {one["agent"] for one in run("token", "list", "--json", home=home).json} == {f"ai:{n}" for n in range(4)}


# --- whom commands speak to


@contextmanager
def listening(answers: Callable[[bytes], bytes], port: int = 0) -> Iterator[tuple[str, list[bytes]]]:
    """Somebody else, who keeps what is sent, and answers as `answers` says; where it listens, and what it heard."""
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", port)) as door:

        def listen() -> None:
            while True:
                try:
                    connection, _ = door.accept()
                except OSError:
                    return
                with connection, contextlib.suppress(OSError):
                    connection.settimeout(PATIENCE)
                    while data := connection.recv(65_536):
                        heard.append(data)
                        answer = answers(data)
                        if not answer:
                            break
                        connection.sendall(answer)

        thread = threading.Thread(target=listen)
        thread.start()
        try:
            yield f"http://127.0.0.1:{door.getsockname()[1]}", heard
        finally:
            door.shutdown(socket.SHUT_RDWR)
            thread.join(PATIENCE)


def response(body: str) -> bytes:
    return f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


STRANGERS: dict[str, Callable[[bytes], bytes]] = {
    "says nothing": lambda data: b"",
    "no HTTP": lambda data: b"SSH-2.0-x\r\n",
    "a web server": lambda data: response("<html>"),
    "a node of another folder": lambda data: response(json.dumps({"status": "ok", "proof": "00" * 32})),
    "no text for a proof": lambda data: response('{"proof": null}'),
    "a list": lambda data: response("[]"),
    "hands the nonce back": lambda data: response(json.dumps({"proof": data.partition(b"nonce=")[2][:64].decode()})),
    "an answer without end": lambda data: response("x" * 100_000),
}


@contextmanager
def noted(home: Home, url: str) -> Iterator[None]:
    """A folder in which a process, this one, has the store, and the note names an address."""
    store = home.path / "store.db"
    with lock_of(store).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        home.write_run(Running(os.getpid(), url, None, str(store), "5e" * 32))
        yield


def check_nothing_came(home: Home, heard: list[bytes]) -> None:
    sent = b"".join(heard)
    assert SAID.encode() not in sent
    assert from_file(home.api_key).encode() not in sent


WORDS = [("store", "title", SAID), ("list",), ("sync", "status"), ("identity", "generate", "ai:x")]


@pytest.mark.parametrize("stranger", STRANGERS)
@pytest.mark.parametrize("words", WORDS, ids=" ".join)
def test_nothing_is_sent_to_whoever_else_listens(home: Home, stranger: str, words: tuple[str, ...]) -> None:
    """The store is in use, and another program has the address that the note names: nothing of ours goes there."""
    with listening(STRANGERS[stranger]) as (url, heard), noted(home, url):
        ran = run(*words, "--json", home=home)
    assert (ran.code, ran.error["code"]) == (3, "not_proven")
    assert ran.error["error"].startswith(f"what listens at {url} is not the node of this folder")
    assert b"".join(heard).startswith(b"GET /api/v1/health?nonce=")
    check_nothing_came(home, heard)


def test_nobody_hands_the_question_on(home: Home) -> None:
    """A stranger that asks the true node for the proof gets it for that node's address, and not for its own."""
    with serving(home):
        true = home.running()
        assert true is not None
        port = int(true.local_url.rpartition(":")[2])

        def relayed(data: bytes) -> bytes:
            with socket.create_connection(("127.0.0.1", port), PATIENCE) as node:
                node.sendall(data.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1))
                return b"".join(iter(lambda: node.recv(65_536), b""))

        with listening(relayed) as (url, heard):
            home.write_run(replace(true, local_url=url))
            ran = run("store", "title", SAID, "--json", home=home)
        assert (ran.code, ran.error["code"]) == (3, "not_proven")
        check_nothing_came(home, heard)


@pytest.mark.parametrize("reused", [False, True], ids=["its process is gone", "its number is another's"])
def test_after_a_kill_the_port_is_anybodys(home: Home, reused: bool) -> None:
    """The lock of the store ended with the node: the command opens the store, and does not ask at the port at all."""
    with serving(home) as process:
        true = home.running()
        assert true is not None
        assert run("store", "before", "content", home=home).code == 0
        ended(process, signal.SIGKILL)
    if reused:
        home.write_run(replace(true, pid=os.getpid()))
    with listening(STRANGERS["a web server"], int(true.local_url.rpartition(":")[2])) as (_, heard):
        assert run("store", "title", SAID, home=home).code == 0
        assert {one["title"] for one in run("list", "--json", home=home).json["memories"]} == {"before", "title"}
    assert heard == []


def test_a_port_where_nobody_listens_is_no_node(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a node begins or ends: its store says that it is in use, to whoever waited for it in vain."""
    monkeypatch.setattr(Patience.__init__, "__defaults__", (0.0,))
    with socket.create_server(("127.0.0.1", 0)) as one:
        url = f"http://127.0.0.1:{one.getsockname()[1]}"
    with noted(home, url):
        ran = run("list", "--json", home=home)
    assert (ran.code, ran.error["code"]) == (3, "store_locked")


def test_a_listener_that_changes_after_its_proof_hears_no_more(home: Home) -> None:
    """What follows goes over the connection that was proven, and over no other."""
    notes: list[Running] = []

    def proven_once(data: bytes) -> bytes:
        nonce = data.partition(b"nonce=")[2][:64].decode()
        return response(json.dumps({"proof": notes[0].proof(nonce)})).replace(
            b"OK\r\n", b"OK\r\nConnection: close\r\n", 1
        )

    with listening(proven_once) as (url, heard), noted(home, url):
        found = home.running()
        assert found is not None
        notes.append(found)
        ran = run("store", "title", SAID, "--json", home=home)
    assert (ran.code, ran.error["code"]) == (3, "unreachable")
    check_nothing_came(home, heard)


def test_without_its_proof_a_stranger_would_get_everything(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: a command that takes whoever listens sends both, the key and the memory."""
    monkeypatch.setattr(backend.HttpBackend, "_proven", lambda self, connection: connection.connect())
    stored = response(json.dumps({"id": "x", "namespace": "global", "title": "title", "tier": "long"}))
    with listening(lambda data: stored) as (url, heard), noted(home, url):
        assert run("store", "title", SAID, home=home).code == 0
    sent = b"".join(heard)
    assert SAID.encode() in sent
    assert from_file(home.api_key).encode() in sent


# --- and nowhere else


def test_the_key_is_in_no_process_and_no_log(home: Home) -> None:
    """Not among the arguments or the environment of the node or its children, not in what it logs, not in an error."""
    key = from_file(home.api_key).encode()
    with serving(home, env={"AI_MEMORY_LOG_LEVEL": "debug"}) as process:
        wrong = key.decode()[:-1]
        assert asked(home, "/stats", wrong)[0] == 401
        assert asked(home, "/stats", key.decode())[0] == 200
        assert run("store", "title", SAID, home=home).code == 0
        if Path("/proc/self/cmdline").exists():
            for name in ("cmdline", "environ") if os.geteuid() == 0 else ("cmdline",):  # it is not dumpable
                assert key not in Path(f"/proc/{process.pid}/{name}").read_bytes()
        _, out, err = ended(process)
    assert key.decode()[:20] not in out + err
