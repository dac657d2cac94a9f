"""What an edit takes away ends at once, whatever the store does; what it gives is tried again until it is given."""

import asyncio
import errno
import json
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from certs import Mesh
from keys import pair as pair_of
from knocking import until
from nodes import QUIET, Place, events, eventually, federation, local, memory, peer, push, serving

from node import edits, tokens
from node.exchange import Exchange
from node.files import write_private
from node.home import Running
from node.peers import PeerBook
from node.standing import exit_code, lines
from node.store import lock
from node.store.errors import StoreReadOnly
from sync import moment
from sync.keyring import key_text
from tls.authority import Authority
from tls.fingerprint import Fingerprint

pytestmark = pytest.mark.usefixtures("brisk")
AT = 1_700_000_000 * moment.SECOND
OTHER = Fingerprint("ab" * 32)


@pytest.fixture
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was not done is tried again soon."""
    monkeypatch.setattr(edits, "READ_AGAIN", 0.05)
    monkeypatch.setattr(edits, "LONGEST_RETRY", 0.05)


class Stuck:
    """A store that makes nobody ready, for as long as it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
        self.is_over = asyncio.Event()
        self.asked = 0
        stuck = self

        async def prepare(self: Any, book: PeerBook) -> None:
            stuck.asked += 1
            if how == "waits":
                await stuck.is_over.wait()
            elif not stuck.is_over.is_set():
                raise RuntimeError("bug") if how == "bug" else StoreReadOnly("The store is busy.", "Wait.")

        monkeypatch.setattr("node.legacy.bridge.LegacyBridge.prepare", prepare)


@dataclass(frozen=True)
class Right:
    """A right of the peer `friend`: how its `[[peer]]` says it, how it is narrowed, and whether it is in force."""

    wide: dict[str, Any]
    narrow: dict[str, Any]
    has: Callable[[PeerBook, str], bool]


RIGHTS = {
    "read": Right({"read": ("**",)}, {"read": ("a",)}, lambda book, who: book.find(who).read.allows("b")),
    "write": Right({"write": ("**",)}, {"write": ("a",)}, lambda book, who: book.policy(who).scope.allows("b")),
    "direction: it takes": Right({"direction": "both"}, {"direction": "pull"}, lambda book, who: book.find(who).sends),
    "direction: it gives": Right(
        {"direction": "both"}, {"direction": "push"}, lambda book, who: book.find(who).receives
    ),
    "unsigned": Right(
        {"allow_unsigned": True}, {"allow_unsigned": False}, lambda book, who: book.policy(who).trust.allow_unsigned
    ),
    "legacy": Right({"legacy": True}, {"legacy": False}, lambda book, who: book.find(who).legacy),
}


async def _never_while_stuck(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch, how: str, right: Right, by_removal: bool = False
) -> None:
    place = Place(mesh, "a", QUIET)
    who = mesh.friend.fingerprint
    place.configure(peer("friend", who, **right.wide))
    place.list(who)
    async with place.serving() as daemon, local(daemon) as client:
        assert right.has(daemon.book, who.text)
        stuck = Stuck(monkeypatch, how)
        newcomer = peer("old one", OTHER, url="https://127.0.0.1:1", legacy=True)
        place.configure(newcomer) if by_removal else place.configure(peer("friend", who, **right.narrow), newcomer)
        await until(lambda: stuck.asked >= 1)
        assert not right.has(daemon.book, who.text)
        told = (await client("GET", "/sync/status")).json
        assert [one["what"] for one in told["edits"]] == ["peers"]
        assert exit_code(told) == 1
        assert not daemon.book.find(OTHER.text).sends  # nothing is given to whom nothing was made ready for
        stuck.is_over.set()
        await until(lambda: daemon.book.find(OTHER.text).sends)
        await until(lambda: not daemon.edits.status())
        assert not right.has(daemon.book, who.text)


@pytest.mark.parametrize("how", ["waits", "fails", "bug"])
@pytest.mark.parametrize("right", RIGHTS)
async def test_a_right_that_is_taken_away_ends_although_the_store_is_busy(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch, right: str, how: str
) -> None:
    """Whatever keeps the rest of the edit from being carried out; and the rest is carried out once it can be."""
    await _never_while_stuck(mesh, monkeypatch, how, RIGHTS[right])


async def test_a_peer_that_is_removed_loses_its_rights_although_the_store_is_busy(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is on the allowlist still, and has what a stranger has: nothing."""
    await _never_while_stuck(mesh, monkeypatch, "fails", RIGHTS["read"], by_removal=True)


@pytest.mark.parametrize("right", RIGHTS)
async def test_without_taking_away_first_the_old_rights_stay(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch, right: str
) -> None:
    """Control: where the new book waits for the store, so does the end of the old one."""
    monkeypatch.setattr(PeerBook, "held_back", lambda self, before: before)
    with pytest.raises(AssertionError):
        await _never_while_stuck(mesh, monkeypatch, "fails", RIGHTS[right])


STRANGERS = {
    "default_read": ('[federation]\ndefault_read = ["**"]', lambda b, w: b.find(w).read.allows("b")),
    "default_write": ('[federation]\ndefault_write = ["**"]', lambda b, w: b.policy(w).scope.allows("b")),
    "default_allow_unsigned": (
        "[federation]\ndefault_allow_unsigned = true", lambda b, w: b.policy(w).trust.allow_unsigned
    ),
    "policy": ('[trust]\npolicy = "any"', lambda b, w: b.policy(w).trust.policy == "any"),
}  # fmt: skip


@pytest.mark.parametrize("name", STRANGERS)
async def test_rights_of_strangers_end_without_a_restart(mesh: Mesh, name: str, logs: list[Any]) -> None:
    """What is no `[[peer]]` is narrowed by the same path, and nothing says that it waits for a start."""
    line, has = STRANGERS[name]
    place = Place(mesh, "a", {})
    who = mesh.friend.fingerprint
    place.list(who)
    bare = place.home.config.read_text().replace("[federation]\n", "").replace('listen = "127.0.0.1:0"', "")
    port = '[local]\nlisten = "127.0.0.1:0"\n[node]\nname = "a"\n'
    section, _, setting = line.partition("\n")
    listen = f'listen = "127.0.0.1:{place.port}"\n' if section == "[federation]" else ""
    rest = "" if listen else f'[federation]\nlisten = "127.0.0.1:{place.port}"\n'
    assert bare
    place.home.config.write_text(f"{port}{rest}{section}\n{listen}{setting}\n")
    async with place.serving() as daemon:
        assert has(daemon.book, who.text)
        narrow = 'policy = "enrolled"\n' if name == "policy" else ""
        place.home.config.write_text(f"{port}{rest}{section}\n{listen}{narrow}")
        await until(lambda: not has(daemon.book, who.text))
        assert events(logs, "config.restart_needed") == []
        assert daemon.edits._at_next_start(daemon.edits._written) == []


async def test_a_page_under_way_is_not_taken_further_once_its_right_is_gone(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a page that is applied in parts, the parts after the edit are judged by the new rules."""
    monkeypatch.setattr("node.exchange.SLICE", 10)
    monkeypatch.setattr("node.exchange.LONG_SLICE", 10)
    await _half_a_page(mesh, monkeypatch, lambda place, daemon: place.unlist(mesh.friend.fingerprint))
    await _half_a_page(
        mesh, monkeypatch, lambda place, daemon: place.configure(peer("friend", mesh.friend.fingerprint, write=("x",)))
    )


async def test_where_rules_are_asked_for_once_a_page_goes_on(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: with the rules of its beginning, all of the page is taken."""
    monkeypatch.setattr("node.exchange.SLICE", 10)
    monkeypatch.setattr("node.exchange.LONG_SLICE", 10)
    first: list[Any] = []

    def remembered(self: Exchange, who: str) -> Any:
        if self.book.find(who).name == "friend" and not first:
            first.append(self.book.policy(who))
        return first[0]

    monkeypatch.setattr(Exchange, "policy", remembered)
    with pytest.raises(AssertionError):
        await _half_a_page(mesh, monkeypatch, lambda place, daemon: place.unlist(mesh.friend.fingerprint))


_number = 0


async def _half_a_page(mesh: Mesh, monkeypatch: pytest.MonkeyPatch, narrow: Callable[[Place, Any], None]) -> None:
    global _number
    _number += 1
    place = Place(mesh, f"half{_number}-{id(narrow)}", QUIET)
    who = mesh.friend.fingerprint
    place.configure(peer("friend", who))
    place.list(who)
    async with place.serving() as daemon, federation(daemon, mesh, mesh.friend) as friend:
        run = daemon.store.writer.run
        parts = 0

        async def slow(task: Any, **options: Any) -> Any:
            nonlocal parts
            result = await run(task, **options)
            if getattr(task, "__name__", "") == "apply":  # a part of the page
                parts += 1
                if parts == 1:
                    book = daemon.book
                    narrow(place, daemon)
                    await until(lambda: daemon.book is not book or not daemon.gate.allowed(who))
            return result

        with monkeypatch.context() as patch:
            patch.setattr(type(daemon.store.writer), "run", lambda self, task, **options: slow(task, **options))
            page = push(*(memory(f"m{n}", at=AT, clock=n + 1) for n in range(30)))
            sent = asyncio.create_task(friend("POST", "/sync/push", page))
            await until(lambda: parts >= 3)
        await asyncio.gather(sent, return_exceptions=True)
        stored = await daemon.store.reader.run(lambda reader: reader.position().number)
        assert stored == 10


# --- files that cannot be taken in


def _deleted(place: Place, name: str) -> None:
    (place.home.path / name).unlink()


def _broken(place: Place, name: str) -> None:
    (place.home.path / name).write_text("oops = [\n")


FILES = {"allowlist": "allowlist", "keyring": "keyring", "identity": "ca.pem", "config": "config.toml"}


@pytest.mark.parametrize("harm", [_deleted, _broken], ids=["deleted", "broken"])
@pytest.mark.parametrize("what", FILES)
async def test_a_file_that_is_gone_or_broken_is_an_alarm_until_it_is_mended(
    mesh: Mesh, what: str, harm: Callable[[Place, str], None]
) -> None:
    """What was read last holds, `sync status` says so and exits with 1; both end with their cause."""
    place = Place(mesh, "a", QUIET)
    place.list(mesh.friend.fingerprint)
    keyring = place.home.path / "keyring"
    keyring.write_text(f"{key_text(pair_of('ai:ann').key)} ai:ann revoked=2026-01-01T00:00:00+00:00\n")
    path = place.home.path / FILES[what]
    async with serving(place) as [(daemon, client)]:
        good = path.read_bytes()
        entries, keys = len(daemon.gate.allowlist), len(daemon.book.keyring)
        assert (entries, keys) == (1, 1)
        harm(place, FILES[what])

        async def alarm() -> Any:
            told = (await client("GET", "/sync/status")).json
            return next(((told, one) for one in told["alarms"] if one["kind"] == "not_in_force"), None)

        told, found = await eventually(alarm)
        assert found["detail"].startswith(f"{what}: ") and "until then" in found["detail"]
        assert ".;" not in found["detail"] + "".join(one["reason"] for one in told["edits"])
        assert exit_code(told) == 1
        assert (len(daemon.gate.allowlist), len(daemon.book.keyring)) == (entries, keys)
        path.write_bytes(good)

        async def ended() -> bool:
            told = (await client("GET", "/sync/status")).json
            return exit_code(told) == 0 and not told["alarms"] and not told["edits"]

        await eventually(ended)


SHARED = {
    "the folder": (".", 0o777, "config"),
    "the store": ("store.db", 0o666, "config"),
    "the keyring": ("keyring", 0o666, "keyring"),
    "the configuration": ("config.toml", 0o666, "config"),
    "the allowlist": ("allowlist", 0o666, "allowlist"),
    "the folder of the certificate": ("shown", 0o777, "identity"),
    "the passphrase": ("passphrase", 0o640, "secrets"),
    "the API key": ("api-key", 0o644, "secrets"),
    "the key of the CA": ("ca.key", 0o604, "secrets"),
    "the certificate's key": ("shown/node.key", 0o640, "identity"),
}
"""What others of the machine are given rights to, and the subject that tells of it."""


async def _opened_to_others(mesh: Mesh, monkeypatch: pytest.MonkeyPatch, what: str, patience: float = 5.0) -> None:
    name, mode, subject = SHARED[what]
    looked: list[None] = []
    monkeypatch.setattr(edits.Edits, "unfinished", lambda self: looked.append(None))  # the last that is looked at
    shown = {
        ("tls", one): f"shown/{name}" for one, name in (("cert", "node.pem"), ("key", "node.key"), ("ca", "ca.pem"))
    }
    place = Place(mesh, "a", {**QUIET, **shown, ("local", "api_key_file"): "api-key"})
    folder = place.home.path
    (folder / "shown").mkdir(mode=0o700)
    for moved in shown.values():
        (folder / Path(moved).name).rename(folder / moved)
    for made in ("passphrase", "ca.key"):
        write_private(folder / made, b"0123456789abcdef")
    (folder / "keyring").touch(0o600)
    path = folder / name
    async with place.serving() as daemon:
        await until(lambda: bool(looked))  # once everything is looked at anyway
        before = path.stat().st_mode
        path.chmod(mode)
        await until(lambda: bool(daemon.edits.alarms()), patience)
        (alarm,) = daemon.edits.alarms()
        assert alarm.detail.startswith(f"{subject}: ") and f"{mode:04o}" in alarm.detail and "chmod" in alarm.detail
        path.chmod(before)
        await until(lambda: not daemon.edits.alarms())


@pytest.mark.parametrize("what", SHARED)
async def test_what_others_are_given_rights_to_is_an_alarm_until_it_is_taken_back(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """A start would refuse it; so a node that runs says so as well, and nobody is surprised by the next start."""
    await _opened_to_others(mesh, monkeypatch, what)


@pytest.mark.parametrize("what", ["the folder", "the store", "the folder of the certificate", "the passphrase"])
async def test_without_looking_at_modes_nothing_would_be_said(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Control: none of these files changes when its mode does, as far as a reader of its text could see."""
    monkeypatch.setattr("tls.watch._rights", lambda path: None)
    with pytest.raises(TimeoutError):
        await _opened_to_others(mesh, monkeypatch, what, 1.5)


async def test_a_file_that_could_not_be_read_for_a_moment_is_read_again(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch, logs: list[Any]
) -> None:
    """Nobody touches it again: the node looks by itself. It is told once, however often it is looked at."""
    await _read_later(mesh, monkeypatch, logs)


async def test_without_looking_again_the_old_list_would_stay(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch, logs: list[Any]
) -> None:
    """Control."""
    monkeypatch.setattr(edits.Edits, "_read_again", lambda self: None)
    monkeypatch.setattr("knocking.PATIENCE", 1.0, raising=False)
    with pytest.raises((TimeoutError, AssertionError)):
        await _read_later(mesh, monkeypatch, logs)


async def _read_later(mesh: Mesh, monkeypatch: pytest.MonkeyPatch, logs: list[Any]) -> None:
    place = Place(mesh, "a", {})
    place.list(mesh.friend.fingerprint)
    load = edits.load_allowlist
    attempts = 0

    def fails(path: Any) -> Any:
        nonlocal attempts
        attempts += 1
        if attempts <= 4:
            raise edits.AllowlistError([])
        return load(path)

    async with serving(place) as [(daemon, _)]:
        await until(lambda: bool(events(logs, "allowlist.loaded")))
        monkeypatch.setattr(edits, "load_allowlist", fails)
        place.unlist(mesh.friend.fingerprint)

        async def shut() -> bool:
            return not len(daemon.gate.allowlist)

        await eventually(shut, 3.0)


async def test_who_is_listed_anew_comes_with_the_rights_of_the_same_edit(mesh: Mesh) -> None:
    """Both files are written at once: at no time is the certificate listed with the scope that it had before."""
    await _listed_anew(mesh)


async def test_an_allowlist_that_is_taken_in_alone_lets_it_in_with_the_old_scope(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Control: what the other files take away has to come first."""
    monkeypatch.setattr(edits.Edits, "config", lambda self: None)
    with pytest.raises(AssertionError):
        await _listed_anew(mesh)


async def _listed_anew(mesh: Mesh) -> None:
    place = Place(mesh, "a", QUIET)
    who = mesh.friend.fingerprint
    place.configure(peer("friend", who))
    place.list(OTHER)
    async with place.serving() as daemon:
        place.configure(peer("friend", who, write=("narrow",)))
        place.list(who)
        daemon.edits.allowlist()
        assert daemon.gate.allowed(who)
        assert not daemon.exchange.policy(who.text).scope.allows("wide")


async def test_a_listener_that_cannot_open_is_an_alarm_and_is_tried_again(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A first line of the allowlist opens it; where somebody else has the port, that is said, and no other reason."""
    place = Place(mesh, "a", {})
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", place.port))
        taken.listen()
        async with serving(place) as [(daemon, client)]:
            place.list(mesh.friend.fingerprint)

            async def alarm() -> Any:
                told = (await client("GET", "/sync/status")).json
                return told if any("listener: [federation] listen" in one["detail"] for one in told["alarms"]) else None

            told = await eventually(alarm)
            assert exit_code(told) == 1
            assert not any("the allowlist is empty" in line for line in lines(told))
            taken.close()
            await until(lambda: daemon.federation_url is not None)
            await until(lambda: not daemon.edits.alarms())


async def test_a_ca_that_is_taken_out_of_the_bundle_ends_its_connections(mesh: Mesh, logs: list[Any]) -> None:
    """A connection that only that CA vouched for would live for ever otherwise."""
    place = Place(mesh, "a", QUIET)
    place.list(mesh.friend.fingerprint)
    bundle = place.home.path / "ca.pem"
    ours = bundle.read_bytes()
    bundle.write_bytes(ours + Authority.create("another").cert_pem)
    async with place.serving() as daemon, federation(daemon, mesh, mesh.friend) as friend:
        assert (await friend("GET", "/health")).status == 200
        await until(lambda: daemon.door.connections == 1)
        bundle.write_bytes(ours)
        await until(lambda: daemon.door.connections == 0)
        assert events(logs, "identity.loaded")[-1]["dropped"] == 1


# --- tokens, and the note by which commands find the node


async def _tokens_are_told(mesh: Mesh) -> None:
    place = Place(mesh, "a", QUIET)
    tokens.add(place.home.tokens, "ai:helper", ("a",), (), 0)
    good = place.home.tokens.read_bytes()
    async with serving(place) as [(_, client)]:

        async def said(code: int) -> Any:
            told = (await client("GET", "/sync/status")).json
            return told if exit_code(told) == code else None

        await eventually(lambda: said(0), 3.0)
        place.home.tokens.write_bytes(b"oops")
        told = await eventually(lambda: said(1), 3.0)
        (alarm,) = told["alarms"]
        assert alarm["kind"] == "not_in_force"
        assert alarm["detail"].startswith(f"tokens: {place.home.tokens}: not what `ai-memory token add` wrote")
        assert "no token lets anybody in until then" in alarm["detail"]
        assert any(line.startswith("NOT IN FORCE tokens failed") for line in lines(told))
        place.home.tokens.write_bytes(good)
        assert (await eventually(lambda: said(0), 3.0))["edits"] == []


async def test_broken_tokens_are_an_alarm_until_they_are_mended(mesh: Mesh) -> None:
    """As a broken allowlist is: no client need come for it to be told."""
    await _tokens_are_told(mesh)


async def test_without_looking_at_tokens_the_status_would_be_green(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: who lets clients in tells only the log."""
    monkeypatch.setattr(edits.Edits, "tokens", lambda self: None)
    with pytest.raises(TimeoutError):
        await _tokens_are_told(mesh)


async def test_a_node_without_tokens_has_no_alarm(mesh: Mesh) -> None:
    """No file is no fault: neither at the start nor when the last token's file is taken away on purpose."""
    place = Place(mesh, "a", QUIET)
    tokens.add(place.home.tokens, "ai:helper", ("a",), (), 0)
    async with place.serving() as daemon:
        place.home.tokens.unlink()
        daemon.edits.tokens()
        assert daemon.edits.status() == daemon.edits.alarms() == []


def _gone(run: Path) -> None:
    run.unlink()


def _of_a_dead_run(run: Path) -> None:
    write_private(run, json.dumps(json.loads(run.read_text()) | {"pid": 2**22 + 1}).encode())


def _no_json(run: Path) -> None:
    write_private(run, b"oops")


NOTES = [_gone, _of_a_dead_run, _no_json]


async def _noted_again(mesh: Mesh, harm: Callable[[Path], None]) -> None:
    place = Place(mesh, "a", QUIET)
    async with place.serving() as daemon:
        before = place.home.running()
        assert before is not None
        harm(place.home.run)
        assert place.home.running() is None
        await until(lambda: place.home.running() == before, 3.0)
        assert daemon.edits.alarms() == []
    assert not place.home.run.exists()


@pytest.mark.parametrize("harm", NOTES)
async def test_a_note_that_is_gone_is_written_again(mesh: Mesh, harm: Callable[[Path], None]) -> None:
    """Commands in the folder would say that no node runs. It is the same note, and it goes with the node."""
    await _noted_again(mesh, harm)


async def test_the_note_of_a_node_in_another_folder_is_replaced(mesh: Mesh) -> None:
    """It runs, and commands here would go there."""
    place, other = Place(mesh, "a", QUIET), Place(mesh, "b", QUIET)
    async with place.serving(), other.serving():
        mine = place.home.run.read_bytes()
        write_private(place.home.run, other.home.run.read_bytes())
        await until(lambda: place.home.run.read_bytes() == mine)


async def test_without_looking_at_the_note_no_command_would_find_the_node(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Control."""
    monkeypatch.setattr(edits.Edits, "note", lambda self: None)
    with pytest.raises(TimeoutError):
        await _noted_again(mesh, _gone)


async def test_the_note_of_another_node_that_runs_is_let_be(mesh: Mesh) -> None:
    """Two nodes with one folder and two stores must not write over each other's notes for ever."""
    place = Place(mesh, "a", QUIET)
    async with place.serving() as daemon:
        mine = place.home.run.read_bytes()
        other = Running(os.getppid(), "http://127.0.0.1:1", None, str(mesh.folder / "other.db"), "5e" * 32)
        with lock.take(mesh.folder / "other.db", lock.NODE):
            place.home.write_run(other)
            daemon.edits.note()
            assert place.home.running() == other
        daemon.edits.note()  # control: once that one has ended, the note is this node's again
        assert place.home.run.read_bytes() == mine


async def test_a_note_that_cannot_be_written_is_an_alarm_and_is_tried_again(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk, say: it ends by itself once there is room."""
    place = Place(mesh, "a", QUIET)
    async with place.serving() as daemon:
        true = daemon.tell_where

        def fails() -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(daemon, "tell_where", fails)
        place.home.run.unlink()
        await until(lambda: bool(daemon.edits.alarms()), 3.0)
        (alarm,) = daemon.edits.alarms()
        assert alarm.detail.startswith(f"note: {place.home.run} cannot be written: No space left")
        monkeypatch.setattr(daemon, "tell_where", true)
        await until(lambda: not daemon.edits.alarms() and place.home.running() is not None, 3.0)
