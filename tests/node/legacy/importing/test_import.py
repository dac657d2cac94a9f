"""`ai-memory import` as a person runs it: repeatable, cut off anywhere, with a node that runs or not, on two nodes."""

import asyncio
import json
import os
import pty
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from certs import Mesh
from commands import PATIENCE, PROGRAM, Ran, clean_environment, finished, new_home, process, run, serving
from marker import MARKER
from nodes import PASSPHRASE as NODES_PASSPHRASE
from nodes import QUIET, eventually, in_step, pair
from nodes import serving as running
from rust_files import PASSPHRASE, daemon_on, folder_state, row, write_database, write_export

from node.home import Home
from node.legacy.importing import command as importing
from sync.ids import memory_id

SECRET = {"AI_MEMORY_DB_PASSPHRASE": PASSPHRASE}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A node that does not run."""
    return new_home(tmp_path)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """An encrypted database of three memories."""
    path = tmp_path / "theirs" / "memory.db"
    path.parent.mkdir()
    write_database(path, [row(n, content=f"content {n} {MARKER}") for n in (1, 2, 3)])
    return path


def take(home: Home, file: Path, *options: str, env: Mapping[str, str] = SECRET) -> Ran:
    return run("import", "--from-rust", str(file), *options, home=home, env=env)


def counts(ran: Ran) -> tuple[int, int, int, int]:
    """Found, taken, unchanged, not taken."""
    told = ran.json["counts"]["memory"]
    return told["found"], told["taken"], told["unchanged"], told["not_taken"]


def stats(home: Home) -> Any:
    return run("stats", "--json", home=home).json


def test_all_is_taken_and_nothing_the_second_time(home: Home, file: Path) -> None:
    """Exit code 0, the same digest, no conflict, and their file as it was."""
    before = folder_state(file)
    first = take(home, file, "--json")
    assert (first.code, counts(first), first.err) == (0, (3, 3, 0, 0), "")
    digest = stats(home)["digest"]
    second = take(home, file, "--json")
    assert (second.code, counts(second)) == (0, (3, 0, 3, 0))
    assert second.json["complete"] is True
    assert (stats(home)["digest"], stats(home)["conflicts"], stats(home)["total"]) == (digest, 0, 3)
    assert folder_state(file) == before


def test_memories_are_found_by_what_they_say(home: Home, file: Path) -> None:
    """With their own times: an import is not now."""
    take(home, file)
    [found] = run("search", "title 2", "--json", home=home).json["results"]
    assert found["id"] == memory_id("moved", "title 2", 0)
    assert (found["created_at"], found["updated_at"]) == (
        "2026-05-01T12:00:00.123456+00:00",
        "2026-05-02T12:00:00.500000+00:00",
    )
    assert found["metadata"]["agent_id"] == "ai:them"


def test_what_changed_since_is_an_edit(home: Home, file: Path) -> None:
    """A newer text replaces the older one; what reading alone has altered there is no conflict."""
    take(home, file)
    write_database(
        file,
        [
            row(1, content="edited there", updated_at="2026-06-01T00:00:00+00:00"),
            row(2, content=f"content 2 {MARKER}", priority=6, access_count=99, expires_at="2099-01-01T00:00:00Z"),
        ],
    )
    again = take(home, file, "--json")
    assert counts(again) == (3, 2, 1, 0)
    assert stats(home)["conflicts"] == 0
    assert run("get", memory_id("moved", "title 1", 0), home=home).out.rstrip().endswith("edited there")


def test_an_edit_and_a_delete_made_here_stay(home: Home, file: Path) -> None:
    """The same file once more does not undo them."""
    take(home, file)
    one, two = (memory_id("moved", f"title {n}", 0) for n in (1, 2))
    assert run("update", one, "--content", "edited here", home=home).code == 0
    assert run("delete", two, home=home).code == 0
    assert counts(take(home, file, "--json")) == (3, 0, 3, 0)
    assert run("get", one, home=home).out.rstrip().endswith("edited here")
    assert run("get", two, home=home).code == 1


def test_a_dry_run_says_what_a_run_will_do(home: Home, file: Path) -> None:
    """And keeps nothing."""
    dry = take(home, file, "--json", "--dry-run")
    assert (counts(dry), dry.json["dry_run"], stats(home)["total"]) == ((3, 3, 0, 0), True, 0)
    assert counts(take(home, file, "--json")) == counts(dry)


def test_what_is_not_taken_is_listed_and_the_exit_code_says_so(home: Home, file: Path) -> None:
    """By name and reason; the others are taken."""
    script = "INSERT INTO memory_links VALUES ('a', 'b', 'related_to', '');"
    bad = [
        row(4, expires_at="2026-06-01T00:00:00Z", tier="mid"),
        row(5, updated_at="2999-01-01T00:00:00Z"),
        row(6, tags="[nope"),
        row(7, title="x" * 513),
    ]
    write_database(file, bad, script=script)
    ran = take(home, file, "--json")
    assert (ran.code, counts(ran), ran.json["complete"]) == (1, (7, 3, 0, 4), False)
    assert {one["reason"] for one in ran.json["not_taken"]} == {
        "expired", "clock_skew", "malformed", "limits",
    }  # fmt: skip
    text = take(home, file)
    assert text.code == 1
    assert "memory moved 'title 4': it expired" in text.out
    assert "link a related_to b: created_at: ''" in text.out


def test_bookkeeping_alone_does_not_change_the_exit_code(home: Home, file: Path) -> None:
    """It is listed all the same."""
    write_database(file, [], script="INSERT INTO sync_state VALUES ('a', 'b', 'c');")
    ran = take(home, file)
    assert ran.code == 0
    assert "sync_state" in ran.out


def test_an_export_and_a_database_make_the_same_versions(tmp_path: Path, home: Home, file: Path) -> None:
    """Whichever came first."""
    write_export(tmp_path / "export.json", [row(n, content=f"content {n}") for n in (1, 2, 3)])
    write_database(tmp_path / "plain.db", [row(n, content=f"content {n}") for n in (1, 2, 3)], None)
    assert counts(take(home, tmp_path / "export.json", "--json", env={})) == (3, 3, 0, 0)
    assert counts(take(home, tmp_path / "plain.db", "--json", env={})) == (3, 0, 3, 0)


def test_without_a_node_it_says_so_first(tmp_path: Path, file: Path) -> None:
    """Before it asks for a passphrase; there is no folder afterwards."""
    nowhere = Home(tmp_path / "nowhere")
    ran = take(nowhere, file, "--json", env={})
    assert (ran.code, ran.error["code"]) == (2, "config")
    assert not nowhere.path.exists()


# --- the passphrase, and what cannot be read


def test_the_passphrase_comes_from_a_private_file(tmp_path: Path, home: Home, file: Path) -> None:
    """Its newline is no part of it; one that others can read is refused with what to do."""
    secret = tmp_path / "old"
    secret.write_text(f"{PASSPHRASE}\r\n")
    secret.chmod(0o644)
    open_to_all = take(home, file, "--passphrase-file", str(secret), "--json", env={})
    assert (open_to_all.code, "chmod 600" in open_to_all.error["error"]) == (2, True)
    secret.chmod(0o600)
    assert take(home, file, "--passphrase-file", str(secret), env={}).code == 0


def test_a_person_is_asked_for_the_passphrase(home: Home, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At a terminal, where it is given in no other way; it is not shown, and the result stands alone on its output."""
    monkeypatch.setattr(importing, "_is_at_terminal", lambda: True)
    ran = run("import", "--from-rust", str(file), "--json", home=home, stdin=f"{PASSPHRASE}\n")
    assert (ran.code, counts(ran)) == (0, (3, 3, 0, 0))
    assert "Passphrase of that file" in ran.err
    assert PASSPHRASE not in ran.out + ran.err


@pytest.mark.parametrize(
    ("content", "env", "exit_code", "code"),
    [
        (None, {}, 2, "source_passphrase"),
        (None, {"AI_MEMORY_DB_PASSPHRASE": "wrong"}, 5, "source_passphrase"),
        (b"hello\n" * 1_000, {}, 5, "source_not_a_database"),
        (b'{"count": 1', {}, 5, "source_damaged"),
        (b"{}", {}, 5, "source_schema"),
    ],
    ids=["no passphrase", "a wrong one", "no database", "half an export", "other JSON"],
)
def test_a_file_that_cannot_be_read_says_why(
    home: Home, file: Path, content: bytes | None, env: dict[str, str], exit_code: int, code: str
) -> None:
    """Each with a code of its own, and without the secret."""
    if content is not None:
        file.write_bytes(content)
    before = home.under("store.db").read_bytes()
    ran = take(home, file, "--json", env=env)
    assert (ran.code, ran.error["code"]) == (exit_code, code)
    assert PASSPHRASE not in ran.err
    assert home.under("store.db").read_bytes() == before


def test_a_file_that_is_not_there_is_named(home: Home, tmp_path: Path) -> None:
    """As a wrong argument."""
    ran = take(home, tmp_path / "none.db", "--json")
    assert (ran.code, "none.db" in ran.error["error"]) == (2, True)


# --- a running node, a terminal, a kill


def test_a_running_node_takes_it_over_its_local_listener(home: Home, file: Path) -> None:
    """While their daemon runs too, and what stands only in its log is taken."""
    with daemon_on(file, [row(4)]), serving(home):
        ran = take(home, file, "--json")
        assert (ran.code, counts(ran)) == (0, (4, 4, 0, 0))
        assert counts(take(home, file, "--json")) == (4, 0, 4, 0)
        assert stats(home)["total"] == 4


def test_more_than_one_batch_arrives(home: Home, tmp_path: Path) -> None:
    """By number and by size: great memories are sent in requests that a node takes."""
    rows = [row(n) for n in range(700)] + [
        row(1_000 + n, content="x" * 65_000, metadata={"a": "y" * 60_000}) for n in range(20)
    ]
    write_database(tmp_path / "plain.db", rows, None)
    with serving(home):
        assert counts(take(home, tmp_path / "plain.db", "--json")) == (720, 720, 0, 0)


def test_a_bar_on_a_terminal_and_nothing_on_a_pipe(home: Home, tmp_path: Path) -> None:
    """The result is the same either way."""
    write_database(tmp_path / "plain.db", [row(n) for n in range(700)], None)
    command = ("import", "--from-rust", str(tmp_path / "plain.db"), "--home", str(home.path))
    mine, theirs = pty.openpty()
    with subprocess.Popen(
        [*PROGRAM, *command], stdout=subprocess.PIPE, stderr=theirs, stdin=subprocess.DEVNULL,
        env=clean_environment() | {"TERM": "xterm", "COLUMNS": "80"},
    ) as started:  # fmt: skip
        os.close(theirs)
        drawn = b""
        try:
            while part := os.read(mine, 65_536):
                drawn += part
        except OSError:  # the other end is closed
            pass
        assert started.stdout is not None
        out = started.stdout.read()
    os.close(mine)
    assert b"importing" in drawn and b"700/700" in drawn
    assert b"700 taken" in out
    piped = finished(command)
    assert (piped.code, piped.err) == (0, "")
    assert "700 here already" in piped.out


@pytest.mark.parametrize("node_runs", [False, True], ids=["by itself", "through a node"])
def test_killed_in_the_middle_and_run_again_it_ends_the_same(tmp_path: Path, *, node_runs: bool) -> None:
    """SIGKILL once some are on disk and some are not: the second run takes the rest; the digest is that of one run."""
    path = tmp_path / "plain.db"
    write_database(path, [row(n, content=f"content {n} " * 40) for n in range(4_000)], None)
    whole = new_home(tmp_path, "whole")
    assert take(whole, path).code == 0
    cut = new_home(tmp_path, "cut")
    if node_runs:
        with serving(cut):
            _kill_in_the_middle(cut, path)
            between = stats(cut)["total"]
            again = take(cut, path, "--json")
    else:
        _kill_in_the_middle(cut, path)
        between = stats(cut)["total"]
        again = take(cut, path, "--json")
    assert 0 < between < 4_000
    assert again.code == 0
    assert counts(again) == (4_000, 4_000 - between, between, 0)
    assert [stats(cut)[name] for name in ("digest", "total", "conflicts")] == [stats(whole)["digest"], 4_000, 0]


def _kill_in_the_middle(home: Home, path: Path) -> None:
    """Begin an import, and kill it once some batches are in the store's log, which has its length before."""
    log = home.path / "store.db-wal"

    def is_written() -> bool:
        if not log.exists():
            return False
        with log.open("rb") as file:
            file.seek(400_000)
            return any(file.read(64))

    with process("import", "--from-rust", str(path), "--home", str(home.path)) as started:
        end = time.monotonic() + PATIENCE
        while not is_written():
            assert started.poll() is None and time.monotonic() < end, "it was over before it could be killed"
            time.sleep(0.005)
        started.send_signal(signal.SIGKILL)
        started.wait(PATIENCE)


async def test_two_nodes_that_import_the_same_file_are_in_step_without_a_conflict(mesh: Mesh, tmp_path: Path) -> None:
    """Each by itself, one of them twice; then they meet: the same digest as before, and nothing to settle."""
    write_database(tmp_path / "memory.db", [row(n) for n in range(50)])
    places = pair(mesh, QUIET)
    env = SECRET | {"AI_MEMORY_DB_KEY": NODES_PASSPHRASE}
    for place, times in zip(places, (1, 2), strict=True):
        for _ in range(times):
            assert (await asyncio.to_thread(take, place.home, tmp_path / "memory.db", env=env)).code == 0
    async with running(*places) as [(_, a), (_, b)]:
        before = [(await one("GET", "/stats")).json["digest"] for one in (a, b)]
        await eventually(in_step(a, "b"))
        await eventually(in_step(b, "a"))
        for one in (a, b):
            told = (await one("GET", "/stats")).json
            assert (told["total"], told["conflicts"], told["digest"]) == (50, 0, before[0])
    assert before[0] == before[1]


async def test_the_stores_of_two_daemons_that_were_in_step_are_no_conflict(mesh: Mesh, tmp_path: Path) -> None:
    """Each has ids of its own, and expiry and priority as it was read there; a newer write had reached one alone."""
    theirs = [row(n, tier="mid", expires_at="2099-01-01T00:00:00Z", priority=1 + n % 9) for n in range(30)]
    write_database(tmp_path / "a.db", theirs)
    others = [
        row(n, tier="mid", expires_at=f"2099-01-0{1 + n % 7}T00:00:00Z", id=f"of-b-{n}", access_count=n, priority=5)
        for n in range(29)
    ]
    newer = row(29, content="newer", updated_at="2026-05-03T00:00:00Z", tier="mid", id="of-b-29")
    write_database(tmp_path / "b.db", [*others, newer])
    places = pair(mesh, QUIET, allow_unsigned=True)  # no agent has signed what an import brings
    env = SECRET | {"AI_MEMORY_DB_KEY": NODES_PASSPHRASE}
    for place, name in zip(places, ("a.db", "b.db"), strict=True):
        assert (await asyncio.to_thread(take, place.home, tmp_path / name, env=env)).code == 0
    async with running(*places) as [(_, a), (_, b)]:
        await eventually(in_step(a, "b"))
        await eventually(in_step(b, "a"))
        told = [(await one("GET", "/stats")).json for one in (a, b)]
        assert [(one["total"], one["conflicts"]) for one in told] == [(30, 0), (30, 0)]
        assert told[0]["digest"] == told[1]["digest"]
        [found] = (await a("GET", "/search?q=newer")).json["results"]
        assert found["title"] == "title 29"


async def test_what_one_node_imported_reaches_the_other(mesh: Mesh, tmp_path: Path) -> None:
    """A native peer takes versions of the actor `legacy`, and an import there finds them unchanged."""
    write_database(tmp_path / "memory.db", [row(n) for n in range(50)])
    places = pair(mesh, QUIET, allow_unsigned=True)  # no agent has signed what an import brings
    env = SECRET | {"AI_MEMORY_DB_KEY": NODES_PASSPHRASE}
    assert (await asyncio.to_thread(take, places[0].home, tmp_path / "memory.db", env=env)).code == 0
    async with running(*places) as [(_, a), (_, b)]:
        await eventually(in_step(a, "b"))
        await eventually(in_step(b, "a"))
        assert (await b("GET", "/stats")).json["total"] == 50
    again = await asyncio.to_thread(take, places[1].home, tmp_path / "memory.db", "--json", env=env)
    assert counts(again) == (50, 0, 50, 0)


def test_the_list_of_what_was_not_taken_is_one_json_object(home: Home, file: Path) -> None:
    """On standard output, and nothing else with it."""
    told = json.loads(take(home, file, "--json").out)
    assert set(told) == {
        "source", "dry_run", "complete", "counts", "reasons", "not_taken", "not_taken_total", "alarms", "seconds",
    }  # fmt: skip
