"""Commands killed with -9, at each of their steps and at random moments: the old or the new, never half, nothing lost.

`KILLS` says how many random moments each command is killed at, and `KILL_STEPS` at how many of its steps:
`make test-kills` takes all of them, and `make test` leaves it out.
"""

import os
import random
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from commands import edit, new_home, run
from forks import Forks, forks

from node import config as configuration
from node import editing
from node.home import Home
from sync.attest import KeyPair
from sync.keyline import key_text
from tls import allowlist

KILLS = int(os.environ.get("KILLS", "1"))
STEPS = int(os.environ.get("KILL_STEPS", "2"))
SEED = int(os.environ.get("KILL_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)
LISTED, OTHER = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"
KEY = key_text(KeyPair.of("ai:bob", bytes(range(32))).key)
HOLDING = ("one", "two")


class Half(AssertionError):
    """Neither the old nor the new."""


@dataclass(frozen=True)
class Case:
    """A command that is killed."""

    arguments: tuple[str, ...]
    look: Callable[[Home], str]
    """"old" or "new"; anything else is half. By commands alone, as an operator looks."""
    prepare: Callable[[Home], None] = lambda home: None
    again: str | None = None
    """What the command says where it had been done already; None: it is simply done again."""
    is_made: bool = True
    """Whether there is a node to begin with."""


def said(home: Home, *arguments: str) -> object:
    ran = run(*arguments, "--json", home=home)
    assert ran.code == 0, (arguments, ran.err)
    return ran.json


def titles(home: Home) -> set[str]:
    told = said(home, "list")
    assert isinstance(told, dict)
    return {one["title"] for one in told["memories"]}


def one_of(found: object, old: object, new: object) -> str:
    if found == old:
        return "old"
    if found == new:
        return "new"
    raise Half(found)


def stored(home: Home) -> None:
    """Two memories, the second of them written after the backup."""
    assert run("store", "one", "in the backup", home=home).code == 0
    assert run("backup", str(home.path / "backup.db"), home=home).code == 0
    assert run("store", "two", "after the backup", home=home).code == 0


def backed_up(home: Home) -> str:
    """A file that is not there, or a whole store in which everything is."""
    file = home.path / "new.db"
    if not file.exists():
        return "old"
    copy = Home(home.path.parent / f"{home.path.name}-of-backup")
    shutil.copytree(home.path, copy.path, ignore=shutil.ignore_patterns("store.db*", ".*"))
    try:
        assert file.stat().st_mode & 0o777 == 0o600
        assert run("restore", str(file), home=copy).code == 0
        if titles(copy) != {*HOLDING}:
            raise Half(titles(copy))
    finally:
        shutil.rmtree(copy.path)
    return "new"


def restored(home: Home) -> str:
    """Both memories, or that of the backup; then the old store lies aside, whole."""
    found = one_of(titles(home), {*HOLDING}, {"one"})
    kept = sorted(home.path.glob("store.db.before-*"))
    if found == "new":
        for suffix in ("", "-wal"):
            if (kept[0] / f"store.db{suffix}").exists():
                shutil.copy(kept[0] / f"store.db{suffix}", home.path / f"old.db{suffix}")
        aside = run("list", "--json", home=home, env={"AI_MEMORY_STORE_PATH": "old.db"})
        assert {one["title"] for one in aside.json["memories"]} == {*HOLDING}
        for path in home.path.glob("old.db*"):
            path.unlink()
    return found


def made(home: Home) -> str:
    """No node, or one that works."""
    if not home.config.exists():
        return "old"
    assert titles(home) == set()
    assert said(home, "fingerprint")
    return "new"


def paired(home: Home) -> str:
    """The peer in the configuration and on the allowlist, or in neither."""
    said(home, "peer", "list")  # whatever command comes next carries out what is left
    peers = {one.name for one in configuration.load(home.config, {}).peers}
    listed = {one.fingerprint.text for one in allowlist.load(home.path / "allowlist").entries}
    return one_of((peers, listed), (set(), {OTHER}), ({"desk"}, {OTHER, LISTED}))


def unpaired(home: Home) -> str:
    return "new" if paired(home) == "old" else "old"


def listed(home: Home) -> str:
    found = said(home, "allowlist", "list")
    assert isinstance(found, list)
    return one_of({one["fingerprint"] for one in found}, {OTHER}, {OTHER, LISTED})


def unlisted(home: Home) -> str:
    found = said(home, "allowlist", "list")
    assert isinstance(found, list)
    return one_of({one["fingerprint"] for one in found}, {OTHER}, set())


def enrolled(home: Home) -> list[dict[str, object]]:
    found = said(home, "keyring", "list")
    assert isinstance(found, list)
    return found


def was_enrolled(home: Home) -> str:
    return one_of([one["key"] for one in enrolled(home)], [], [KEY])


def was_revoked(home: Home) -> str:
    return one_of([bool(one["revoked"]) for one in enrolled(home)], [False], [True])


def own_key(home: Home) -> None:
    line = run("identity", "generate", "ai:bob", home=home).out.strip()
    assert run("identity", "enroll", line, home=home).code == 0


def rotated(home: Home) -> str:
    """A key of the agent signs, and every key that did is in the keyring, or will be with the next change."""
    told = said(home, "identity", "list")
    assert isinstance(told, dict)
    keys = next(one["keys"] for one in told["identities"] if one["agent"] == "ai:bob")
    known = {one["key"] for one in enrolled(home)}
    current = next(one["key"] for one in keys if one["current"])
    return "new" if len(keys) > 1 and current in known else "old"


def peer_add(home: Home) -> None:
    assert run("peer", "add", "desk", "https://desk.local:9443", "--fingerprint", LISTED, home=home).code == 0


def someone(home: Home) -> None:
    assert run("allowlist", "add", OTHER, "--label", "other", home=home).code == 0


def exported(home: Home) -> str:
    file = home.path / "bob.pem"
    if not file.exists():
        return "old"
    assert run("identity", "import", "ai:bob", str(file), home=home).code == 0
    return "new"


def no_store(home: Home) -> None:
    for path in home.path.glob("store.db*"):
        path.unlink()


def has_store(home: Home) -> str:
    if not (home.path / "store.db").exists():
        return "old"
    assert titles(home) == set()
    return "new"


def meshed(home: Home) -> str:
    """All folders paired, or a run that the next one completes: no node of it that is whole knows nobody."""
    note = home.path / "ca" / "members.json"
    if not note.exists():
        return "old"
    for name, other in (("a", "b"), ("b", "a")):
        member = Home(home.path / name)
        assert [one.name for one in configuration.load(member.config, {}).peers] == [other]
        assert len(allowlist.load(member.path / "allowlist")) == 1
        assert titles(member) == set()
    return "new"


PEER = ("peer", "add", "desk", "https://desk.local:9443", "--fingerprint", LISTED)
CASES = {
    "backup": Case(("backup", "{home}/new.db"), backed_up, stored, again="exists already"),
    "restore": Case(("restore", "{home}/backup.db"), restored, stored),
    "init": Case(("init", "--name", "desk"), made, again="there is a node in this folder already", is_made=False),
    "init --store": Case(("init", "--store"), has_store, no_store, again="there is a store already"),
    "mesh init": Case(
        ("mesh", "init", "{home}", "--node=a=a.mesh:9443", "--node=b=b.mesh:9443"), meshed, is_made=False
    ),
    "peer add": Case(PEER, paired, someone),
    "peer remove": Case(("peer", "remove", "desk"), unpaired, lambda home: (someone(home), peer_add(home))[0],
                        again="there is no peer"),
    "allowlist add": Case(("allowlist", "add", LISTED), listed, someone),
    "allowlist remove": Case(("allowlist", "remove", OTHER), unlisted, someone, again="is not on the allowlist"),
    "identity enroll": Case(("identity", "enroll", KEY, "ai:bob"), was_enrolled),
    "identity revoke": Case(("identity", "revoke", "ai:bob"), was_revoked, own_key, again="no line of"),
    "identity rotate": Case(("identity", "rotate", "ai:bob"), rotated, own_key),
    "identity export": Case(("identity", "export", "ai:bob", "--to", "{home}/bob.pem"), exported, own_key,
                            again="there is something already"),
}  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    with forks(tmp_path_factory.mktemp("said")) as made:
        yield made


@pytest.mark.parametrize("name", CASES)
def test_killed_anywhere_it_leaves_the_old_or_the_new(name: str, server: Forks, tmp_path: Path) -> None:
    """And the same command, run again, gets there; of what the killed one had begun nothing is left behind."""
    case = CASES[name]
    first = begun(case, tmp_path)
    whole = copied(first, "whole")
    started = time.monotonic()
    forked = server.begin(arguments(case, whole))
    assert forked.wait() == 0, forked.said
    took, steps = time.monotonic() - started, forked.steps
    assert case.look(whole) == "new"
    assert steps > 3
    chance = random.Random(f"{SEED} {name}")
    some = range(steps) if steps <= STEPS else sorted(chance.sample(range(steps), STEPS))
    found = [killed(case, copied(first, f"step-{step}"), server, step) for step in some]
    for moment in range(KILLS):
        found.append(killed(case, copied(first, f"moment-{moment}"), server, None, chance.uniform(0, took)))
    print(f"{name}: {len(found)} kills, {steps} steps, {found.count('new')} new, KILL_SEED={SEED}")


def begun(case: Case, folder: Path) -> Home:
    """What the command finds. Paths in a node's folder are relative, so it can be copied."""
    if not case.is_made:
        return Home(folder / "home-desk")
    home = new_home(folder)
    edit(home, "local", "listen", '"127.0.0.1:0"')
    case.prepare(home)
    return home


def copied(home: Home, name: str) -> Home:
    copy = Home(home.path.with_name(name))
    if home.path.exists():
        shutil.copytree(home.path, copy.path)
    return copy


def arguments(case: Case, home: Home) -> list[str]:
    given = [one.format(home=home.path) for one in case.arguments]
    return given if given[0] == "mesh" else [*given, "--home", str(home.path)]


def killed(case: Case, home: Home, server: Forks, step: int | None, moment: float = 0.0) -> str:
    """Kill it there, look, run it again, and look again."""
    forked = server.begin(arguments(case, home), kill_at=step)
    if step is None:
        time.sleep(moment)  # the moment is what is tested
        forked.kill()
    status = forked.wait()
    assert status in (-9, 0), forked.said
    try:
        found = case.look(home)
    except Half as half:
        raise AssertionError(f"KILL_SEED={SEED}, step {step}, {moment:.4f} s: half of it: {half}") from None
    again = server.begin(arguments(case, home))
    code = again.wait()
    if found == "new" and case.again is not None:
        assert code != 0, again.said
        assert case.again in again.said, again.said
    else:
        assert code == 0, again.said
    assert case.look(home) == "new"
    left = [one.name for one in home.path.rglob(".*") if one.name.endswith((".new", ".restoring"))]
    assert left == [] or found == "new", left
    assert not (home.path / editing.JOURNAL).exists()
    shutil.rmtree(home.path)
    return found


WITHOUT = {
    "peer add": """
import node.editing
def one_by_one(folder, changes):
    for path, data in changes.items():
        node.editing.write_kept(path, data)
node.editing.write = one_by_one
""",
    "allowlist add": """
import node.editing
def in_place(path, data):
    for part in (data[: len(data) // 2], data[len(data) // 2 :]):
        with open(path, "wb" if part == data[: len(data) // 2] else "ab") as file:
            file.write(part)
node.editing.write_kept = in_place
""",
    "backup": """
import node.store.backup
def in_parts(finished, target):
    data = finished.read_bytes()
    for part in (data[:4096], data[4096:]):
        with open(target, "ab") as file:
            file.write(part)
    target.chmod(0o600)
node.store.backup.publish = in_parts
""",
    "restore": """
import os, shutil
import node.restoring
def over(fresh, path):
    aside = path.with_name(path.name + ".before-x")
    aside.mkdir()
    os.rename(path, aside / path.name)
    shutil.copy(fresh, path)
    return aside
node.restoring.restore.put = over
""",
}
"""Code that takes the guard of a command away."""


@pytest.mark.parametrize("name", WITHOUT)
def test_without_its_guard_a_kill_leaves_half(name: str, tmp_path: Path) -> None:
    """Control: killed at each step in turn, one of them is found out."""
    case = CASES[name]
    first = begun(case, tmp_path)
    with forks(tmp_path / "said", WITHOUT[name]) as server:
        forked = server.begin(arguments(case, copied(first, "whole")))
        assert forked.wait() == 0, forked.said
        with pytest.raises((AssertionError, OSError)):
            for step in reversed(range(forked.steps)):
                killed(case, copied(first, f"step-{step}"), server, step)
