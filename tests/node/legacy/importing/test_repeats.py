"""A daemon that goes on living, imported again and again: what it last said is here, and nothing is in conflict."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rust_files import row
from versions import NOW, SECOND, Desk

from node.legacy.importing import run
from node.legacy.importing.rust_export import RustExport
from sync import merge, moment
from sync.adoption import Adopted
from sync.memory import Memory
from sync.record import load, read
from sync.version import Version


class Daemon:
    """What its rules make of its rows (its times have no clock beside them)."""

    def __init__(self, seed: int) -> None:
        self.rows: dict[str, dict[str, Any]] = {}
        self._random = random.Random(seed)
        self._now = NOW - 10**6 * SECOND

    def step(self, title: str, what: str) -> None:
        self._now += SECOND
        at = moment.text(self._now)
        one = self.rows.get(title)
        if what == "store" or one is None:
            text = f"text {self._random.randrange(3)}"
            identifier = one["id"] if one else f"{self._random.randrange(16**8):08x}-0000-4000-8000-000000000000"
            self.rows[title] = row(title=title, content=text, tier="mid", id=identifier, updated_at=at, created_at=at)
        elif what == "recall":  # alters expiry, count and priority, and no time
            later = moment.text(NOW + self._random.randrange(1, 100) * SECOND)
            one |= {"access_count": one["access_count"] + 1, "expires_at": later}
            one["priority"] = min(10, one["priority"] + 1)
        else:
            del self.rows[title]


def import_into(desk: Desk, rows: list[dict[str, Any]], path: Path) -> None:
    """One import of an export of these, through the reader, the judgement and the batches of the program."""
    path.write_text(json.dumps({"memories": rows}))

    def adopt(body: bytes) -> dict[str, Any]:
        versions = [read(json.dumps(one).encode(), "m") for one in json.loads(body)["memories"]]
        assert all(isinstance(one, Version) for one in versions)

        def verb(ledger: Any, now: int) -> Adopted:
            return desk.engine.adopt(ledger, versions, now)  # type: ignore[arg-type]

        return {"outcomes": [{"outcome": one} for one in desk.do(verb).outcomes], "alarms": []}

    report = run.run(RustExport(path), adopt, lambda _: None, lambda done, total: None, desk.now, dry_run=False)
    assert report.is_whole, report.value()


def said(memory: Memory) -> tuple[Any, ...]:
    return memory.title, memory.content, memory.updated_at


STEPS = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from(("store", "recall", "delete", "import"))), max_size=25
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("exports")


@settings(max_examples=50, deadline=None)
@given(STEPS, st.integers(0, 99))
def test_each_import_leaves_what_the_daemon_last_said(folder: Path, steps: list[tuple[str, str]], seed: int) -> None:
    """Whatever happened in between; a node that imports all states in another order keeps the same versions."""
    daemon, desk, states = Daemon(seed), Desk(1), []
    for title, what in (*steps, ("a", "import")):
        if what == "import":
            states.append([dict(one) for one in daemon.rows.values()])
            import_into(desk, states[-1], folder / "e.json")
        else:
            daemon.step(title, what)
    kept = [one for some in desk.store.everything().values() for one in some]
    assert len(kept) == len(desk.store.everything()), "a conflict"
    here = {memory.title: said(memory) for memory in (load(one.version.doc) for one in kept)}
    for title, fields in daemon.rows.items():
        assert here[title] == (title, fields["content"], fields["updated_at"])
    other = Desk(2)
    random.Random(seed).shuffle(states)
    for state in states:
        import_into(other, state, folder / "e.json")
    assert other.store.position().digest == desk.store.position().digest


def test_without_the_rule_of_the_merge_two_nodes_keep_different_copies(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Control: what the daemon alters without another time is what the property is about."""
    monkeypatch.setattr(merge, "_is_one_statement", lambda a, b: False)
    daemon, states = Daemon(1), []
    for what in ("store", "recall"):
        daemon.step("a", what)
        states.append([dict(one) for one in daemon.rows.values()])
    one, other = Desk(1), Desk(2)
    for desk, some in ((one, states), (other, states[::-1])):
        for state in some:
            import_into(desk, state, folder / "e.json")
    assert one.store.position().digest != other.store.position().digest
