"""Links of a foreign file: translated, the same versions wherever and how often they come, and each refusal named."""

import random
from pathlib import Path
from typing import Any

import pytest
from commands import new_home
from commands import run as command
from rust_files import row, write_database, write_export
from versions import Desk

from node import adoption
from node.legacy.importing import run
from node.legacy.importing.report import Report
from node.legacy.importing.rust_export import RustExport
from sync import merge, moment
from sync.dot import seen_until
from sync.ids import memory_id
from sync.link import link_id, load
from sync.version import Key, Version

AT = "2026-05-03T12:00:00.123456789+00:00"
NOW = moment.microseconds("2026-06-01T00:00:00.000000+00:00")
KEY: Key = ("moved", link_id(memory_id("moved", "title 1", 0), memory_id("moved", "title 2", 0), "supersedes"))


def link(source: int = 1, target: int = 2, **fields: Any) -> dict[str, Any]:
    """A link of the file, between two of its rows."""
    ends = {"source_id": row(source)["id"], "target_id": row(target)["id"]}
    return ends | {"relation": "supersedes", "created_at": AT} | fields


def take(desk: Desk, path: Path, rows: list[Any], links: list[Any], *, dry_run: bool = False, cut: int = 9) -> Report:
    """One import of an export, through what a node does with it; it is cut off before the `cut`th request."""
    write_export(path, rows, links=links)
    left = cut

    def adopt(body: bytes) -> dict[str, Any]:
        nonlocal left
        left -= 1
        if left < 0:
            raise ConnectionError("cut off")

        def verb(ledger: Any, part: adoption.Part, now: int) -> adoption.Told:
            return part.adopt(desk.engine, ledger, now)

        return adoption.answer([desk.do(verb, part) for part in adoption.parts(body)])

    def here(record_id: str) -> str | None:
        found = [key[0] for key, kept in desk.store.everything().items() if key[1] == record_id and kept]
        return found[0] if len(found) == 1 else None

    desk.now = NOW
    return run.run(RustExport(path), adopt, here, lambda done, total: None, NOW, dry_run=dry_run)


def counts(report: Report) -> tuple[int, int, int, int]:
    told = report.value()["counts"]["link"]
    return told["found"], told["taken"], told["unchanged"], told["not_taken"]


def kept(desk: Desk, key: Key = KEY) -> list[Version]:
    return [one.version for one in desk.store.everything().get(key, ())]


def test_a_link_comes_under_our_ids_with_its_time(tmp_path: Path) -> None:
    """In the namespace of its source; a dry run counts it and keeps nothing; the second time it is here."""
    desk, rows = Desk(1), [row(1), row(2)]
    said = link(valid_from="2026-05-01T00:00:00Z", observed_by="ai:them", signature=[1] * 64)
    dry = take(desk, tmp_path / "e", rows, [said], dry_run=True)
    assert (counts(dry), desk.store.everything()) == ((1, 1, 0, 0), {})
    report = take(desk, tmp_path / "e", rows, [said])
    assert counts(report) == (1, 1, 0, 0)
    [one] = kept(desk)
    found = load(one.doc)
    assert (found.created_at, found.valid_from) == (
        "2026-05-03T12:00:00.123456+00:00",
        "2026-05-01T00:00:00.000000+00:00",
    )
    assert found.observed_by == "ai:them"
    assert one.context.entries == (seen_until(moment.microseconds(found.created_at)),)
    assert counts(take(desk, tmp_path / "e", rows, [said])) == (1, 0, 1, 0)
    [signatures] = [one for one in report.not_taken if one.kind == "signature"]
    assert (signatures.count, report.is_whole, " ".join(report.lines()).count("are unsigned here")) == (1, True, 1)


def test_without_signatures_nothing_is_said_of_them(tmp_path: Path) -> None:
    """v0.6.3 has none."""
    report = take(Desk(1), tmp_path / "e", [row(1), row(2)], [link(signature=None), link(2, 1)])
    assert (counts(report), report.not_taken) == ((2, 2, 0, 0), [])


@pytest.mark.parametrize(
    ("said", "reason", "detail"),
    [
        (link(target=9), "missing_memory", "is not in the file"),
        (link(source=3), "missing_memory", "was not taken"),
        (link(relation="likes"), "limits", "relation: 'likes'"),
        (link(target=1), "limits", "linked to itself"),
        (link(created_at="yesterday"), "limits", "created_at: 'yesterday'"),
        (link(created_at="1969-01-01T00:00:00Z"), "limits", "created_at"),
        (link(created_at="2100-01-01T00:00:00Z"), "clock_skew", "in the future"),
        (link(valid_until="soon"), "limits", "valid_until: 'soon'"),
        (link(observed_by="a b"), "limits", "observed_by"),
        ({"source_id": "x"}, "malformed", "not a link"),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_what_cannot_be_taken_is_listed_with_its_reason(
    tmp_path: Path, said: dict[str, Any], reason: str, detail: str
) -> None:
    """And the others are taken."""
    expired = row(3, tier="mid", expires_at="2026-05-30T00:00:00Z")
    report = take(Desk(1), tmp_path / "e", [row(1), row(2), expired], [said, link()])
    assert (counts(report), report.is_whole) == ((2, 1, 0, 1), False)
    [one] = [one for one in report.not_taken if one.kind == "link"]
    assert one.reason == reason
    assert detail in one.detail


def test_an_end_that_is_here_already_need_not_be_taken_from_the_file(tmp_path: Path) -> None:
    """It expired in the file and lives here, or has an id that a node gave and is no row of the file."""
    desk = Desk(1)
    take(desk, tmp_path / "e", [row(2), row(3)], [])
    expired = row(2, tier="mid", expires_at="2026-05-30T00:00:00Z")
    native = link(target_id=memory_id("moved", "title 3", 0))
    assert counts(take(desk, tmp_path / "e", [row(1), expired], [link(), native])) == (2, 2, 0, 0)
    stranger = link(target_id=memory_id("moved", "title 4", 0))
    assert counts(take(desk, tmp_path / "e", [row(1)], [stranger])) == (1, 0, 0, 1)


def test_repeated_cut_off_or_on_two_nodes_it_ends_the_same(tmp_path: Path) -> None:
    """Whatever the order of three daemons' files, of which one invalidated the link; no conflict, one digest."""
    rows = [row(n) for n in range(1, 6)]
    pairs = [(n, m) for n in range(1, 6) for m in range(1, 6) if n != m]
    early = [link(*pair) for pair in pairs]
    late = [one | {"created_at": "2026-05-04T00:00:00Z"} for one in early[:9]]
    ended = [one | {"valid_until": "2026-05-05T00:00:00Z", "observed_by": "daemon"} for one in early[5:15]]
    digests = set()
    for seed in range(6):
        desk, files = Desk(seed), [early, late, ended]
        random.Random(seed).shuffle(files)
        if seed % 2:
            with pytest.raises(ConnectionError):
                take(desk, tmp_path / "e", rows, files[0], cut=1)
        for links in (*files, files[0]):
            take(desk, tmp_path / "e", rows, links)
        everything = desk.store.everything()
        assert len(everything) == 5 + len(pairs)
        assert all(len(some) == 1 for some in everything.values()), "a conflict"
        digests.add(desk.store.position().digest)
    assert len(digests) == 1


def test_without_the_rule_of_the_merge_what_a_push_leaves_out_is_a_conflict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Control: one making of one link, told with and without its validity."""
    monkeypatch.setattr(merge, "_is_one_statement", lambda a, b: False)
    desk = Desk(1)
    for said in (link(), link(valid_until="2026-05-05T00:00:00Z")):
        take(desk, tmp_path / "e", [row(1), row(2)], [said])
    assert len(kept(desk)) == 2


def test_a_link_made_here_is_told_back_without_a_conflict(tmp_path: Path) -> None:
    """A daemon that was sent it has it under a time of its own; what says more of its validity is no echo."""
    desk, rows = Desk(1), [row(1), row(2)]
    take(desk, tmp_path / "e", rows, [])
    desk.link("title 1", memory_id("moved", "title 2", 0), namespace="moved", relation="supersedes")
    [ours] = kept(desk)
    assert counts(take(desk, tmp_path / "e", rows, [link(created_at="2026-05-31T00:00:00Z")])) == (1, 0, 1, 0)
    assert kept(desk) == [ours]
    assert counts(take(desk, tmp_path / "e", rows, [link(valid_until=AT)])) == (1, 1, 0, 0)
    assert len(kept(desk)) == 2


def test_without_the_echo_it_is_a_conflict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control."""
    monkeypatch.setattr("sync.adoption.is_echo", lambda version, kept: False)
    desk, rows = Desk(1), [row(1), row(2)]
    take(desk, tmp_path / "e", rows, [])
    desk.link("title 1", memory_id("moved", "title 2", 0), namespace="moved", relation="supersedes")
    take(desk, tmp_path / "e", rows, [link()])
    assert len(kept(desk)) == 2


def test_an_unlink_made_here_stays(tmp_path: Path) -> None:
    """The same file once more does not bring the link back."""
    desk, rows = Desk(1), [row(1), row(2)]
    take(desk, tmp_path / "e", rows, [link()])
    assert desk.unlink("title 1", memory_id("moved", "title 2", 0), "supersedes", namespace="moved") == 1
    assert counts(take(desk, tmp_path / "e", rows, [link()])) == (1, 0, 1, 0)
    assert [one.kind for one in kept(desk)] == ["u"]


def test_the_command_takes_links_and_says_so(tmp_path: Path) -> None:
    """By itself, from a database; an end that is missing is asked for at the node."""
    home, path = new_home(tmp_path), tmp_path / "plain.db"
    ends = row(1)["id"], row(2)["id"]
    script = f"""INSERT INTO memory_links VALUES ('{ends[0]}', '{ends[1]}', 'supersedes', '{AT}'),
        ('{ends[0]}', '{memory_id("moved", "title 7", 0)}', 'related_to', '{AT}');"""
    write_database(path, [row(1), row(2)], None, script=script)
    ran = command("import", "--from-rust", str(path), "--json", home=home)
    assert ran.err == ""
    assert (ran.code, ran.json["counts"]["link"]) == (1, {"found": 2, "taken": 1, "unchanged": 0, "not_taken": 1})
    assert [one["reason"] for one in ran.json["not_taken"]] == ["missing_memory"]
    [found] = command("links", memory_id("moved", "title 2", 0), "--json", home=home).json["links"]
    assert (found["source_id"], found["relation"]) == (memory_id("moved", "title 1", 0), "supersedes")
    write_database(path, [row(7)], None)
    again = command("import", "--from-rust", str(path), home=home)
    assert again.code == 0
    assert "1 taken, 1 here already" in next(line for line in again.out.splitlines() if line.startswith("link"))
