"""The older daemon's known faults do not become ours (its behaviour is the fake's, as recorded)."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from certs import Mesh
from nodes import eventually
from older import Couple, couple
from rust_daemon import V063, V070, Answer, RustDaemon

from node.legacy import intake, replicator
from node.legacy.intake import Intake
from sync.legacy import paging


def time(after: float = 0.0, *, digits: int = 9) -> str:
    """Now, and so many seconds, as the daemon writes it."""
    at = (datetime.now(UTC) + timedelta(seconds=after)).strftime("%Y-%m-%dT%H:%M:%S.%f")
    return f"{at}{'123'[: digits - 6]}+00:00"


async def has(both: Couple, *titles: str) -> None:
    async def look() -> bool:
        return set(titles) <= (await both.ours()).keys()

    await eventually(look)


def rows_of_one_time(count: int) -> Any:
    def before(old: RustDaemon) -> None:
        at = time(-3600)
        for n in range(count):
            assert old.store.merge(row(f"row {n:02}", at))

    return before


def row(title: str, at: str, **fields: Any) -> dict[str, Any]:
    return Couple.row(None, title, at, **fields)  # type: ignore[arg-type]


async def test_a_page_cut_inside_one_time_is_asked_for_again(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    """30 rows with one time, pages of 10: it would never show the other 20 to one of its own kind."""
    monkeypatch.setattr(replicator, "USUAL", 10)
    async with couple(mesh, V063, before=rows_of_one_time(30)) as both:
        await has(both, *(f"row {n:02}" for n in range(30)))
        assert (await both.status())["notes"] == []


async def test_a_reader_that_goes_on_from_the_last_time_sees_ten_of_thirty(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Control: without leaving the last time of a full page for the next one, two thirds are missed."""
    monkeypatch.setattr(replicator, "USUAL", 10)

    def naive(since: str | None, limit: int, usual: int, times: Any, count: int) -> paging.Step:
        last = max(times, default=since)
        return paging.Step(last, last, usual, more=count >= limit)

    monkeypatch.setattr(paging, "step", naive)
    async with couple(mesh, V063, before=rows_of_one_time(30)) as both:
        await both.settled()
        assert len(await both.ours()) == 10


async def test_more_rows_of_one_time_than_it_shows_are_reported(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be read is said, and the rest is read."""
    monkeypatch.setattr(replicator, "USUAL", 10)
    monkeypatch.setattr(paging, "MAX_LIMIT", 20)
    async with couple(mesh, V063, before=rows_of_one_time(30)) as both:
        await both.write_there("later")
        await has(both, "later")
        assert "more than 20 memories have the time" in await both.notes()


async def test_rows_that_share_a_time_with_what_was_read_are_seen(mesh: Mesh) -> None:
    """It shows nothing at a reader's own watermark; ours looks some seconds back each time."""
    async with couple(mesh, V063) as both:
        at = time()
        both.old.store.merge(both.row("first", at))
        await has(both, "first")
        both.old.store.merge(both.row("second", at))
        await has(both, "first", "second")


async def test_a_row_that_came_there_late_is_found(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relay brings it a row from an hour ago: its own kind would never see it, ours reads everything, slowly."""
    monkeypatch.setattr(replicator, "SCAN_EVERY", 0.1)
    async with couple(mesh, V063) as both:
        await both.write_there("new")
        await has(both, "new")
        both.old.store.merge(both.row("late", time(-3600)))
        await has(both, "new", "late")


async def test_without_the_slow_reading_a_late_row_is_missed(mesh: Mesh) -> None:
    """Control: what is new alone does not show it."""
    async with couple(mesh, V063) as both:
        await both.write_there("new")
        await has(both, "new")
        both.old.store.merge(both.row("late", time(-3600)))
        await both.write_there("newer")
        await has(both, "newer")
        assert "late" not in await both.ours()


@pytest.mark.parametrize("at", [time(7_200), "9999-12-31T23:59:59.999999999+00:00"], ids=["two hours", "for ever"])
async def test_a_fast_clock_there_hides_nothing(mesh: Mesh, at: str) -> None:
    """Its row waits here (or is refused), and what is written after it is read as if it were not there."""
    async with couple(mesh, V063) as both:
        both.old.store.merge(both.row("of the future", at))
        await both.write_there("of now")
        await has(both, "of now")
        ours = await both.write("ours")
        await both.settled()
        await both.write_there("and later")
        await has(both, "and later")
        assert "of the future" not in await both.ours()
        assert both.theirs()["ours"]["id"] == ours

        async def is_told() -> bool:
            return bool((await both.status())["refused"] == 1)

        await eventually(is_told)
        # It is shown again with each reading of the last seconds: still waiting, it is refused still.
        await both.settled()
        await both.write_there("last")
        await has(both, "last")
        assert await is_told()


async def test_a_delete_that_it_did_not_hear_is_told_until_it_did(mesh: Mesh) -> None:
    """It was down: what is still to be told is in the store, and is told when it is back."""
    async with couple(mesh, V063) as both:
        ours = await both.write("ours")
        await both.same("ours")
        await both.settled()
        both.old.instead = [Answer(503)] * 5
        await both.delete(ours)
        await both.same()


async def test_a_deleted_row_that_comes_back_there_is_deleted_again(mesh: Mesh) -> None:
    """An old copy, from a daemon that missed the delete: it knows no tombstones and lets it in; here it stays dead."""
    async with couple(mesh, V063) as both:
        ours = await both.write("ours")
        await both.same("ours")
        copy = both.theirs()["ours"]
        await both.delete(ours)
        await both.same()
        both.old.store.merge(copy)
        assert "ours" in both.theirs()
        await both.same()
        # And under an id of its own, with no word of ours in it.
        both.old.store.merge(both.row("ours", copy["updated_at"], content=copy["content"]))
        await both.same()


async def test_a_delete_that_we_did_not_hear_is_reported(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    """No row there, and nobody says why: it stays here, is not sent back, and the operator is told."""
    monkeypatch.setattr(replicator, "SCAN_EVERY", 0.1)
    async with couple(mesh, V063) as both:
        theirs = await both.write_there("theirs")
        await both.same("theirs")
        both.old.fanout.peers = []
        await both.there("DELETE", f"/memories/{theirs}")

        async def told() -> bool:
            return "1 memories are gone there" in await both.notes()

        await eventually(told)
        assert both.theirs() == {}
        assert "theirs" in await both.ours()
        await both.change((await both.ours())["theirs"]["id"], content="wanted after all")
        await both.same("theirs")
        await both.settled()
        assert (await both.status())["notes"] == []


@pytest.mark.parametrize("reads_first", [True, False])
async def test_an_edit_that_we_have_not_read_outlives_our_delete(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch, *, reads_first: bool
) -> None:
    """Its row goes with a delete: so what is newer there is read before one is sent. (Control: else it is lost.)"""
    async with couple(mesh, V063, settings={("sync", "pull_interval"): 3_600.0}) as both:
        ours = await both.write("ours")
        await both.same("ours")
        await both.settled()
        both.old.fanout.peers = []
        both.old.clock.offset = 60.0
        await both.change_there(ours, content="newer than the delete")
        both.old.clock.offset = 0.0
        if not reads_first:

            async def nothing(_: object) -> None:
                return

            monkeypatch.setattr(replicator.LegacyReplicator, "_read_new", nothing)
        await both.delete(ours)
        if reads_first:
            await has(both, "ours")
            await both.settled()
            assert both.theirs()["ours"]["content"] == "newer than the delete"
        else:
            await both.same()


async def test_what_it_only_raises_is_reported(mesh: Mesh) -> None:
    """Priority and tier never fall there: the rest is the same, and status says what is not."""
    async with couple(mesh, V063) as both:
        ours = await both.write("ours", priority=9, tier="long")
        await both.same("ours")
        await both.change(ours, priority=2, content="less")
        await both.same("ours")

        async def told() -> bool:
            return "1 memories are not quite the same there (team/ours" in await both.notes()

        await eventually(told)
        assert (both.theirs()["ours"]["priority"], (await both.ours())["ours"]["priority"]) == (9, 2)
        assert both.old.complaints == []


async def test_a_later_row_there_that_lost_here_is_reported_and_not_fought(mesh: Mesh) -> None:
    """Two writes of one microsecond: it keeps the first it had, whatever we send; so nothing is sent."""
    async with couple(mesh, V063, direction="both") as both:
        ours = await both.write("ours")
        await both.same("ours")
        await both.settled()
        here = (await both.ours())["ours"]
        row = both.theirs()["ours"] | {"metadata": {}, "content": "other", "id": ours}
        both.old.store.delete(ours)
        both.old.store.merge(row)
        pushed = len(both.old.pushes)

        async def judged() -> bool:
            content = (await both.ours())["ours"]["content"]
            return bool(content == "other" or "another version there" in await both.notes())

        await eventually(judged)
        await both.settled()
        assert len(both.old.pushes) == pushed
        assert (await both.ours())["ours"]["updated_at"] == here["updated_at"]


async def test_a_used_up_quota_is_waited_out(mesh: Mesh) -> None:
    """429: what it took is known, the rest is sent once its day is over, and in between nobody asks."""
    async with couple(mesh, V070, before=lambda old: old.quota.__setattr__("per_day", 3)) as both:
        for n in range(5):
            await both.write(f"memory {n}")

        async def refused() -> bool:
            return bool((await both.status())["code"] == "quota")

        await eventually(refused)
        asked = len(both.old.pushes)
        await both.write_there("theirs", agent_id="ai:another")
        await has(both, "theirs")  # reading goes on
        await both.write("one more")
        told = await both.status()
        assert told["state"] == "behind"
        assert "the daily quota of host:ours is used up there; nothing is sent until" in told["reason"]
        assert len(both.old.pushes) == asked
        assert len(both.theirs()) == 4


async def test_a_row_that_it_skips_is_named_and_the_rest_arrives(mesh: Mesh, logs: list[Any]) -> None:
    """200 with `skipped` is a failure: halves find the row, the log names it, status counts it."""
    async with couple(mesh, V063, settings={("sync", "pull_interval"): 3_600.0}) as both:
        await both.settled()
        # Its row of this id has another title, and nothing that we have read says so.
        bodies = [{"title": f"memory {n}", "content": "c", "namespace": "team"} for n in range(6)]
        made = (await both.local("POST", "/memories/bulk", bodies)).json["ids"]
        await both.settled()
        both.old.store.change("DELETE FROM memories")
        both.old.store.merge(both.row("in the way", time(-60), id=made[3]))
        for n, record_id in enumerate(made):
            await both.change(record_id, content=f"again {n}")
        await both.settled()
        titles = {f"memory {n}" for n in range(6)} - {"memory 3"}
        assert titles | {"in the way"} == both.theirs().keys()
        assert "1 memories are not on it (team/memory 3: it skipped it" in await both.notes()
        named = [entry for entry in logs if entry["event"] == "sync.refused"]
        assert [(one["id"], one["code"]) for one in named] == [(made[3], "not_taken")]


@pytest.mark.parametrize("is_careful", [True, False])
async def test_an_id_that_it_never_used_misleads_nobody(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch, *, is_careful: bool
) -> None:
    """A bulk over titles that it has is told with fresh ids, under which nothing can be deleted there.

    (Control: were they believed, and not seen to be of the same title, the rows that it has would be taken for what is
    left of a rename, and deleted.)
    """
    if not is_careful:
        believing = Intake.rows
        monkeypatch.setattr(Intake, "rows", lambda self, rows, are_shown: believing(self, rows, are_shown=True))
        monkeypatch.setattr(intake, "_is_one_row", lambda row, old: False)
    async with couple(mesh, V063, settings={("sync", "pull_interval"): 3_600.0}) as both:
        first, second = await both.write_there("first"), await both.write_there("second")
        await both.same("first", "second")
        bodies = [{"title": title, "content": "again", "namespace": "team"} for title in ("first", "second")]
        await both.there("POST", "/memories/bulk", bodies)
        if not is_careful:

            async def lost() -> bool:
                return not both.theirs()

            await eventually(lost)
            return
        await both.same("first", "second")
        here = await both.ours()
        assert {here[title]["content"] for title in here} == {"again"}
        await both.there("DELETE", f"/memories/{first}")
        assert (await both.ours()).keys() == {"second"}
        assert second in {row["id"] for row in both.old.store.all()}
        await both.delete(here["second"]["id"])
        await both.same()


@pytest.mark.parametrize(("count", "size"), [(250, 10), (60, 60_000)], ids=["by count", "by bytes"])
async def test_what_is_sent_is_cut_to_what_it_takes(mesh: Mesh, count: int, size: int) -> None:
    """At most 100 rows and 2 MiB a request; the fake complains about more, and about anything that it skips."""
    async with couple(mesh, V063) as both:
        for start in range(0, count, 50):
            numbers = range(start, min(start + 50, count))
            bodies = [{"title": f"m {n}", "content": "y" * size, "namespace": "team"} for n in numbers]
            assert (await both.local("POST", "/memories/bulk", bodies)).json["errors"] == []
        await both.settled()
        assert len(both.theirs()) == count
        assert both.old.complaints == []
        assert max(len(body["memories"]) for body in both.old.pushes) <= 100


async def test_a_scope_that_hides_everything_is_reported(mesh: Mesh) -> None:
    """0.7.0 answers a node that it was not told of with nothing, and 200."""
    from rust_daemon import Trust

    def strict(old: RustDaemon) -> None:
        old.trust = Trust(sync_trust_peer=False)

    async with couple(mesh, V070, before=strict) as both:
        await both.write_there("theirs")
        await both.settled()
        assert "AI_MEMORY_FED_SYNC_TRUST_PEER=1" in await both.notes()


async def test_two_of_our_memories_with_one_title_are_one_row_there(mesh: Mesh) -> None:
    """It keeps one row a title: the one that a look-up here answers is sent, and status says so of the other."""
    async with couple(mesh, V063) as both:
        first = await both.write("one", "first")
        await both.same("one")
        await both.change(first, title="other")
        second = await both.write("one", "second")
        await both.same("one", "other")
        assert {both.theirs()["one"]["id"], both.theirs()["other"]["id"]} == {first, second}
        await both.settled()
        assert both.old.complaints == []


async def test_a_row_that_ours_went_into_is_not_a_second_one(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    """A late row that was not read yet takes in what is sent under its title, and keeps its id: it is the only one."""
    monkeypatch.setattr(replicator, "SCAN_EVERY", 0.1)
    async with couple(mesh, V063) as both:
        await both.write_there("new")
        await both.same("new")
        await both.settled()
        both.old.store.merge(both.row("shared", "2026-01-01T00:00:00.123456789+00:00"))
        ours = await both.write("shared", "ours")
        await both.same("new", "shared")

        async def is_read() -> bool:
            """It is known here under the daemon's own id: a delete finds it."""
            reader = both.daemon.exchange._store.reader
            found = await reader.run(lambda one: one.execute("SELECT theirs FROM legacy_record").fetchall())
            return ("id-of-shared",) in found

        await eventually(is_read)
        await both.same("new", "shared")
        await both.delete(ours)
        await both.same("new")
