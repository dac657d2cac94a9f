"""`ai-memory verify`: what is stored is proven anew, for people and for scripts."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from commands import WAYS, Ran, reached_by, run

from node import passphrase
from node.cli import verify as module
from node.cli.context import Invocation
from node.home import Home
from node.store.connection import connect
from node.store.key import derive, salt_of

Command = Callable[..., Ran]


@pytest.fixture(params=WAYS)
def home(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """A folder where no node runs, and one where a node does."""
    with reached_by(request.param, tmp_path_factory.mktemp("verify")) as made:
        yield made


@pytest.fixture
def ai(home: Home) -> Command:
    def command(*arguments: str) -> Ran:
        return run("verify", *arguments, home=home)

    return command


def stored(home: Home, title: str) -> str:
    return str(run("store", title, "text", "--json", home=home).json["id"])


def alter(home: Home, statement: str, *values: Any) -> None:
    """Run a statement over the store beside whoever has it open, as who has the passphrase can."""
    config = Invocation(home, False).config()
    path = home.store(config)
    connection = connect(path, derive(passphrase.find(config, home, {}), salt_of(path)), writer=False)
    try:
        assert connection.execute(statement, values).rowcount == 1
    finally:
        connection.close()


def test_one_memory_is_proven(home: Home, ai: Command) -> None:
    """By id or its beginning: level, kind, time, agent, key and way, and exit code 0."""
    record_id = stored(home, "one")
    ran = ai(record_id[:8])
    assert ran.code == 0
    assert record_id in ran.out
    for word in ("self_signed", "memory", "host:desk", "ed25519:", "written on this node"):
        assert word in ran.out
    (version,) = ai(record_id, "--json").json["records"][0]["versions"]
    assert (version["level"], version["agent"], version["came"]["by"]) == ("self_signed", "host:desk", "own")


def test_everything_is_proven(home: Home, ai: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Deleted ones and links too, page by page; a line for each key where scripts ask."""
    monkeypatch.setattr(module, "PAGE", 2)
    first, second, third = (stored(home, title) for title in ("first", "second", "third"))
    run("link", first, second, home=home)
    run("delete", third, home=home)
    ran = ai("--all")
    assert (ran.code, ran.out, ran.err) == (0, "4 keys: 4 self_signed\n", "")
    *records, told = map(json.loads, ai("--all", "--json").out.splitlines())
    assert {one["versions"][0]["kind"] for one in records} == {"memory", "tombstone", "link"}
    assert (told["keys"], told["levels"]["self_signed"], told["short"], told["faults"]) == (4, 4, 0, 0)
    named = ai(f"{first} related_to {second}")
    assert (named.code, "link" in named.out) == (0, True)


def test_an_empty_store_is_whole(ai: Command) -> None:
    """There is nothing that could be wrong."""
    assert (ai("--all").code, ai("--all").out) == (0, "0 keys: nothing\n")


def test_a_flipped_bit_is_found_and_named(home: Home, ai: Command) -> None:
    """By the memory's id, with exit code 1. (Control: before that all is well.)"""
    victim, other = stored(home, "victim"), stored(home, "other")
    assert ai("--all").code == 0
    alter(
        home, "UPDATE memory SET doc = CAST(replace(CAST(doc AS TEXT), '\"text\"', '\"tezt\"') AS BLOB) WHERE id = ?",
        victim,
    )  # fmt: skip
    ran = ai("--all")
    assert ran.code == 1
    assert (victim in ran.out, other in ran.out) == (True, False)
    assert "broken" in ran.out
    assert "bad_attestation" in ran.out
    assert "1 versions are below unsigned" in ran.err
    assert (ai(victim).code, ai(other).code) == (1, 0)
    *_, told = map(json.loads, ai("--all", "--json").out.splitlines())
    assert (told["levels"]["broken"], told["short"]) == (1, 1)


def test_a_level_may_be_required(home: Home, ai: Command) -> None:
    """What is below it is shown, and the exit code is 1."""
    record_id = stored(home, "one")
    assert ai("--all", "--require", "self_signed").code == 0
    ran = ai("--all", "--require", "attested")
    assert ran.code == 1
    assert record_id in ran.out
    assert "below attested" in ran.err
    assert ai(record_id, "--require", "attested").code == 1


@pytest.mark.parametrize("arguments", [(), ("1234", "--all"), ("--all", "-n", "a"), ("x", "--require", "broken")])
def test_what_makes_no_sense_is_refused(ai: Command, arguments: tuple[str, ...]) -> None:
    """Wrong usage, before the store is looked at."""
    assert ai(*arguments).code == 2


def test_what_is_not_there_is_not_found(ai: Command) -> None:
    """Exit code 1, as for every look-up."""
    told = ai("none at all", "--json")
    assert (told.code, told.error["code"]) == (1, "not_found")


def test_only_a_terminal_sees_progress(home: Home, ai: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """On standard error, in one line that is written over; a pipe gets none of it."""
    stored(home, "one")
    assert ai("--all").err == ""
    monkeypatch.setattr(module, "_is_terminal", lambda: True)
    ran = ai("--all")
    assert "\r1 verified, number 1 of 1" in ran.err
    assert ran.err.endswith("\r")
    assert ai("--all", "--json").err == ""
