"""A hostile text in every field that a command shows, one after the other: nothing of it commands the terminal.

What commands show comes from a node (which has it from its peers), from files that somebody else wrote, and from names.
A listener here answers as a node would, with the text wherever a text may stand; every command is run against it.
"""

import http.server
import json
import os
import re
import threading
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from commands import Ran, new_home, run
from keys import pair

from node import config, plain
from node.cli.context import Invocation
from node.home import Home, Running
from node.store import lock
from sync.keyline import key_text
from sync.version import LINK_SEPARATOR

FORGED = "FORGED  ops  in step for 9 h: everything was confirmed"
EVIL = "".join(
    f"{end}{FORGED}" for end in ("x", "\n", "\r\n", "\r", "\u0085", "\u2028", "\u2029", "\x0b", "\x0c", "\x1c")
) + (
    "\x1b]0;owned\x07\x1b[2J\x9b1A\x7f\x00\u202e\u2066\u200e\u061c\u200b\ufeff\U000e0041[bold]\ud800"
    + " " * 300
    + FORGED
)
SENT = EVIL.replace("\ud800", "")
"""What may stand in JSON that is UTF-8."""
KEY = key_text(pair("ai:y").key)
ATTESTED = {"attestation": {"agent": SENT}, "agent_id": SENT}


def obeyed(text: str) -> list[str]:
    """The characters of an output that a terminal would obey or hide, but for the ends of our own lines."""
    return [one for one in text if one != "\n" and unicodedata.category(one) in ("Cc", "Cf", "Zl", "Zp", "Cs")]


def forged(text: str) -> list[str]:
    """Lines of an output, as whoever reads it may count them, that are not ours."""
    return [line for line in text.splitlines() if line.lstrip().startswith("FORGED")]


def pushed(text: str) -> bool:
    """Whether blanks push a text to where a terminal begins a new row."""
    return " " * 80 + FORGED in text


# --- what a node may answer


def memory(**fields: Any) -> dict[str, Any]:
    return {
        "id": SENT,
        "namespace": SENT,
        "title": SENT,
        "tier": SENT,
        "content": SENT,
        "tags": [SENT, SENT],
        "priority": SENT,
        "confidence": SENT,
        "source": SENT,
        "created_at": SENT,
        "updated_at": SENT,
        "expires_at": SENT,
        "metadata": ATTESTED,
        "agent_id": SENT,
    } | fields


def version(**fields: Any) -> dict[str, Any]:
    return {
        "kind": "memory",
        "at": SENT,
        "tag": SENT,
        "agent": SENT,
        "wins": True,
        "lost_by": None,
        "differs": [],
        "record": memory(),
    } | fields


LINK = {"source_id": SENT, "target_id": SENT, "relation": SENT, "missing": SENT}
CONFLICT = {
    "id": LINK_SEPARATOR.join((SENT, SENT, SENT)),
    "namespace": SENT,
    "versions": [
        version(),
        version(wins=False, lost_by="time", differs=["content", SENT], record=memory(content=f"other{SENT}")),
        version(wins=False, lost_by="tag", differs=[], record=memory(content=SENT + "\n")),
        version(wins=False, lost_by="time", differs=["kind"], kind="tombstone"),
    ],
}
PROVEN = {
    "id": SENT,
    "namespace": SENT,
    "fault": SENT,
    "versions": [
        {
            "level": "refused",
            "kind": SENT,
            "at": SENT,
            "agent": SENT,
            "wins": False,
            "reason": SENT,
            "detail": SENT,
            "key": SENT,
            "came": {"by": "peer", "peer": SENT, "fingerprint": SENT},
        },
    ],
}
STATUS = {
    "node": SENT,
    "feed": SENT,
    "digest": SENT,
    "conflicts": SENT,
    "federation_url": SENT,
    "connections": 1,
    "fingerprint": SENT,
    "certificate_days_left": 1,
    "edits": [{"what": "config", "state": "failed", "reason": SENT, "for_seconds": 9}],
    "peers": [
        {
            "peer": SENT,
            "state": SENT,
            "standing": "failing",
            "for_seconds": 9,
            "behind": 3,
            "reason": SENT,
            "notes": [SENT],
            "waiting": 1,
            "code": SENT,
            "url": SENT,
            "fingerprint": SENT,
            "attempts": 1,
            "refused": 1,
        },
    ],
    "alarms": [{"kind": SENT, "peer": SENT, "detail": SENT, "at": 1}],
}
COUNTS = ("total", "links_count", "conflicts", "tombstones", "waiting", "expired", "digest")
RESOLVED = {"id": SENT, "kind": SENT, "tag": SENT, "let_go": [SENT]}
GENERATED = {"key": KEY, "agent": SENT, "by": None, "after": KEY, "since": SENT}

ASKED: dict[str, tuple[tuple[str, ...], Any]] = {
    "store": (("store", "t", "c"), memory()),
    "get": (("get", "abcd"), {"memory": memory(content="one line"), "links": [LINK]}),
    "list": (("list",), {"memories": [memory(), memory()], "count": 2}),
    "search": (("search", "x"), {"results": [memory()], "count": 1}),
    "update": (("update", "abcd", "--title", "x"), memory(content="one line")),
    "delete": (("delete", "abcd"), {"deleted": True}),
    "promote": (("promote", "abcd"), {"id": SENT, "tier": SENT}),
    "link": (("link", "a", "b"), LINK),
    "links": (("links", "a"), {"links": [LINK]}),
    "unlink": (("unlink", "a", "b"), {"deleted": True}),
    "settle": (("settle", "--future"), {"settled": SENT}),
    "stats": (("stats",), dict.fromkeys(COUNTS, SENT) | {"by_namespace": [{"namespace": SENT, "count": SENT}]}),
    "conflicts list": (
        ("conflicts", "list"),
        {"conflicts": [CONFLICT], "shared_titles": [{"title": SENT, "namespace": SENT, "ids": [SENT]}], "count": 9},
    ),
    "conflicts show": (("conflicts", "show", "a"), CONFLICT),
    "conflicts resolve": (("conflicts", "resolve", "a", "--keep", "x", "--expected", "x"), RESOLVED),
    "conflicts resolve, asked": (("conflicts", "resolve", "a", "--keep", "x"), CONFLICT | RESOLVED),
    "verify": (("verify", "a"), {"records": [PROVEN], "faults": 1}),
    "verify all": (
        ("verify", "--all"),
        {"records": [PROVEN], "levels": {"refused": 1}, "faults": 1, "feed": 1, "next": None},
    ),
    "identity list": (
        ("identity", "list"),
        {
            "identities": [
                {"agent": SENT, "keys": [{"key": KEY, "current": True, "origin": SENT, "since": SENT, "signed": SENT}]}
            ]
        },
    ),
    "identity generate": (("identity", "generate", "ai:x"), GENERATED),
    "sync status": (("sync", "status"), STATUS),
}


@contextmanager
def answering(home: Home, status: int, answer: Any) -> Iterator[None]:
    """The node of this folder: it proves that it is, and gives every other request one answer."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # the requests follow on the connection that was proven

        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            asked = urlsplit(self.path)
            if asked.path == "/api/v1/health":
                self.give(200, {"proof": node.proof(parse_qs(asked.query)["nonce"][0])})
            else:
                self.give(status, answer)

        def give(self, status: int, value: Any) -> None:
            body = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PUT = do_DELETE = answer

        def log_message(self, *_: Any) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    store = home.path / "store.db"
    node = Running(os.getpid(), f"http://127.0.0.1:{server.server_port}", None, str(store), "5e" * 32)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        with lock.take(store, lock.NODE):
            home.write_run(node)
            yield
    finally:
        home.clear_run()
        server.shutdown()
        thread.join(20)
        server.server_close()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return new_home(tmp_path_factory.mktemp("hostile"))


def asked(home: Home, status: int, answer: Any, *words: str) -> Ran:
    """A command, where the node says this."""
    with answering(home, status, answer):
        return run(*words, home=home, stdin="y\n")


def is_harmless(ran: Ran, *, shows: bool = True) -> None:
    """Both outputs; and the text was shown at all, so that the check saw it."""
    for text in (ran.out, ran.err):
        assert not obeyed(text)
        assert not forged(text)
    assert not shows or "FORGED" in ran.out + ran.err


SAYS_NOTHING = {"delete", "unlink"}
MADE_ANEW = {"verify all", "identity list", "identity generate"}
"""Whose JSON is more than the node's answer."""


@pytest.mark.parametrize("name", ASKED)
def test_no_answer_of_a_node_commands_the_terminal(shared: Home, name: str) -> None:
    """Each command, for people and as JSON; as JSON the value is exact."""
    words, answer = ASKED[name]
    ran = asked(shared, 200, answer, *words)
    assert ran.code in (0, 1)
    is_harmless(ran, shows=name not in SAYS_NOTHING)
    assert max(map(len, (ran.out + ran.err).splitlines())) < plain.MOST_LINE + 3_000
    if "asked" in name:
        return  # --json does not ask
    ran = asked(shared, 200, answer, *words, "--json")
    assert not obeyed(ran.out + ran.err)
    assert all(json.loads(line) for line in ran.out.splitlines())
    if name not in MADE_ANEW:
        assert json.loads(ran.out) == answer


@pytest.mark.parametrize("name", ASKED)
def test_no_error_of_a_node_commands_the_terminal(shared: Home, name: str) -> None:
    """The sentence and the code of an error, and an answer that is no error's."""
    words, _ = ASKED[name]
    for answer in ({"error": SENT, "code": SENT}, {"detail": SENT}):
        for options in ((), ("--json",)) if "asked" not in name else ((),):
            ran = asked(shared, 400, answer, *words, *options)
            assert ran.code == 5
            is_harmless(ran)


SENTENCES = STATUS | {
    "node": "desk",
    "feed": 7,
    "digest": "5e",
    "conflicts": 0,
    "peers": [STATUS["peers"][0] | {"peer": "attic"}],
}
"""A status in which only sentences are hostile: the rest is this node's own."""


def test_no_sentence_in_a_status_is_pushed_to_a_row_of_its_own(shared: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a peer, an alarm or an edit: blanks do not push what follows to where a terminal begins a new row."""
    ran = asked(shared, 200, SENTENCES, "sync", "status")
    assert [line.split()[0] for line in ran.out.splitlines()] == ["desk", "NOT", "attic", SHOWN, "ALARM"]
    assert not pushed(ran.out)
    monkeypatch.setattr(plain, "_BLANKS", re.compile("(?!)"))
    pushing = asked(shared, 200, SENTENCES, "sync", "status").out.splitlines()[1:]
    assert all(map(pushed, pushing))  # control


SHOWN = "xFORGED"
"""How the text begins where it stands first in a line."""


# --- files and names


def labelled(home: Home, tmp_path: Path) -> list[tuple[str, ...]]:
    label = "".join(SENT.replace("\ud800", "").splitlines())
    home.allowlist(_config(home)).write_text(f"sha256:{'a' * 64}  # {label}\n")
    home.keyring(_config(home)).write_text(f"{KEY}  ai:alice  # {label}\n")
    return [("allowlist", "list"), ("allowlist", "check"), ("keyring", "list"), ("keyring", "check")]


def broken_lines(home: Home, tmp_path: Path) -> list[tuple[str, ...]]:
    line = "".join(SENT.replace("\ud800", "").splitlines())
    home.allowlist(_config(home)).write_text(f"{line}\n")
    home.keyring(_config(home)).write_text(f"{KEY}  {line}\n")
    return [
        ("allowlist", "list"),
        ("allowlist", "check"),
        ("keyring", "list"),
        ("keyring", "check"),
        ("identity", "list"),
        ("serve",),
    ]


def broken_configuration(home: Home, tmp_path: Path) -> list[tuple[str, ...]]:
    home.config.write_text(f"[node]\nname = {json.dumps(SENT)}\n{json.dumps('k' + SENT)} = 1\n")
    return [("stats",), ("serve",), ("peer", "list")]


NAME = SENT.replace("\0", "")[:80]


def names(home: Home, tmp_path: Path) -> list[tuple[str, ...]]:
    folder = tmp_path / NAME
    folder.mkdir()
    (folder / "file").write_text("x")
    return [
        ("allowlist", "check", str(folder / NAME)),
        ("keyring", "check", str(folder / "file")),
        ("backup", str(folder / "b")),
        ("import", "--from-rust", str(folder / "file")),
        ("verify-release", str(folder)),
        ("stats", "--home", str(folder)),
        ("mesh", "renew", str(folder), NAME),
        ("mesh", "init", str(folder / "m"), "--node", NAME),
        ("identity", "export", "ai:x", "--to", str(folder / "file")),
        ("identity", "import", "ai:x", str(folder / "file")),
        ("conflicts", "resolve", "a", "--content", str(folder / NAME), "--yes"),
        ("peer", "add", "desk", "https://x:1", "--fingerprint", "a" * 64, "--ca", str(folder / "file")),
    ]


def arguments(home: Home, tmp_path: Path) -> list[tuple[str, ...]]:
    text = SENT.replace("\0", "").replace("\ud800", "")
    return [
        (text,),
        ("stats", f"--{text}"),
        ("stats", text),
        ("sync", text),
        ("list", "--limit", text),
        ("list", "--tier", text),
        ("fingerprint", f"--home={text}", text),
        ("allowlist", "add", text),
        ("peer", "add", text, "--fingerprint", text),
        ("peer", "remove", text),
        ("identity", "enroll", text),
        ("identity", "revoke", text),
        ("identity", "generate", text),
        ("token", "add", text),
        ("token", "add", "ai:x", "--read", text),
        ("token", "add", "ai:x", "--write", "".join(text.splitlines())),
        ("token", "list"),
        ("token", "revoke", text),
        ("store", text, "c", "--tier", text),
        ("store", "t", "c", "-n", text),
        ("store", "t", "c", "--agent-id", text),
        ("link", "abcd", "abce", "-r", text),
        ("identity", "revoke", "ai:x", "--at", text),
        ("get", text),
        ("search", text, "--tag", text),
        ("init", "--host", text, "--name", text, "--home", str(tmp_path / "i")),
        ("store", text, "c"),
        ("settle", text),
    ]


def imported(home: Home, tmp_path: Path) -> list[tuple[str, ...]]:
    row = memory(source="api", tier="long", priority=5, confidence=1.0, access_count=0, metadata={}, expires_at=None)
    file = tmp_path / "export.json"
    rows = [row, row | {"id": "a", "namespace": "n", "title": f"t{FORGED}\n{FORGED}", "content": "x\x1b"}]
    file.write_text(json.dumps({"memories": rows, "links": [LINK | {"created_at": SENT}], "count": 2, SENT: []}))
    return [("import", "--from-rust", str(file)), ("import", "--from-rust", str(file), "--dry-run")]


def _config(home: Home) -> Any:
    return config.load(home.config, {})


PLACES: list[Callable[[Home, Path], list[tuple[str, ...]]]] = [
    labelled,
    broken_lines,
    broken_configuration,
    names,
    arguments,
    imported,
]


QUOTE_LITTLE = (broken_lines, broken_configuration)
"""The errors name the place, and a few characters at most."""


@pytest.mark.parametrize("place", PLACES)
def test_no_file_and_no_name_commands_the_terminal(
    home: Home, tmp_path: Path, place: Callable[[Home, Path], list[tuple[str, ...]]]
) -> None:
    """Labels, broken lines, names of files and folders, arguments, and what an import is given."""
    shown = 0
    for words in place(home, tmp_path):
        for options in ((), ("--json",)):
            ran = run(*words, *options, home=home)
            is_harmless(ran, shows=False)
            shown += "FORGED" in ran.out + ran.err
    assert shown >= 2 or place in QUOTE_LITTLE, "the text is shown somewhere, so that the check saw it"


@pytest.mark.parametrize("as_json", [False, True])
def test_what_a_command_waits_for_does_not_command_the_terminal(
    as_json: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """It names the store, which lies where somebody chose: however long the name, as JSON the value is exact."""
    text = SENT + "\x7f" + "x" * plain.MOST_LINE
    Invocation(Home(Path()), as_json).tell(text)
    out, err = capsys.readouterr()
    assert out == "" and "FORGED" in err
    assert not obeyed(err) and not forged(err)
    assert err.count("\n") == 1
    if as_json:
        assert json.loads(err) == {"waiting": text}


# --- controls


def test_the_checks_see_what_is_shown_as_it_is(shared: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: without the table of characters the terminal is commanded and lines are forged, whoever wrote them."""
    monkeypatch.setattr(plain, "_HOSTILE", re.compile("(?!)"))
    monkeypatch.setattr(plain, "_BLANKS", re.compile("(?!)"))
    for name in ("list", "sync status", "conflicts show", "verify"):
        words, answer = ASKED[name]
        ran = asked(shared, 200, answer, *words)
        assert obeyed(ran.out) and forged(ran.out), name
    ran = asked(shared, 400, {"error": SENT, "code": "x"}, "list")
    assert obeyed(ran.err) and forged(ran.err)
