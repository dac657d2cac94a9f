"""Links beside a daemon of the older protocol: taken from its pushes, sent to it once, and the rest is noted."""

import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from bridged import EVERYTHING, Bridged
from rust_daemon import V063, V070, Answer, Release

from node.legacy import desk, intake, linksender, linktables, outbox, tables
from node.linking import Linking
from node.peers import PeerBook, Strangers
from node.store import Reader
from sync import moment
from sync.legacy.link import FOUR_RELATIONS
from sync.link import RELATIONS
from sync.scope import Globs

FOUR = sorted(FOUR_RELATIONS)
BOTH = pytest.mark.parametrize("release", [V063, V070], ids=["v063", "v070"])
Triple = tuple[str, str, str]


class Linked(Bridged):
    """Both sides, and their links by the titles of the memories at their ends."""

    async def link(self, source: str, target: str, relation: str = "supersedes") -> None:
        self.tick()
        body = {"source_id": await self.id(source), "target_id": await self.id(target), "relation": relation}
        await Linking(self.memories).create(json.dumps(body).encode(), None, None)

    async def unlink(self, source: str, target: str, relation: str = "supersedes") -> None:
        self.tick()
        body = {"source_id": await self.id(source), "target_id": await self.id(target), "relation": relation}
        assert await Linking(self.memories).delete(json.dumps(body).encode(), {}, None) == {"deleted": True}

    async def link_there(self, source: str, target: str, relation: str = "supersedes", *, told: bool = True) -> Any:
        """A client of the daemon links two of its memories; its fan-out tells us. The answer to that."""
        ends = {"source_id": self.there_id(source), "target_id": self.there_id(target), "relation": relation}
        assert await self.there("POST", "/links", ends, told=False) == 201
        link = {**ends, "created_at": self.old.clock.now()}
        return await self.push([], links=[link]) if told else link

    async def id(self, title: str) -> str:
        [found] = [str(one["id"]) for one in await self.ours() if one["title"] == title]
        return found

    def there_id(self, title: str) -> str:
        [found] = [str(one["id"]) for one in self.theirs() if one["title"] == title]
        return found

    async def links(self) -> set[Triple]:
        """Ours."""
        titles = {one["id"]: one["title"] for one in await self.ours()}
        found = set()
        for record_id in titles:
            answer = json.loads(await Linking(self.memories).listed(record_id, {}))
            found |= {
                (titles[one["source_id"]], titles[one["target_id"]], one["relation"])
                for one in answer["links"]
                if "missing" not in one
            }
        return found

    def links_there(self) -> set[Triple]:
        titles = {one["id"]: one["title"] for one in self.theirs()}
        links = [one for record_id in titles for one in self.old.store.links(record_id)]
        return {(titles[one["source_id"]], titles[one["target_id"]], one["relation"]) for one in links}

    def sent(self) -> list[int]:
        """How many links each push to it had that had any."""
        return [len(body["links"]) for body in self.old.pushes if body.get("links")]

    async def conflicts(self) -> int:
        return await self.store.reader.run(lambda reader: reader.conflict_count())

    async def notes(self) -> str:
        return "\n".join(await self.desk.notes(self.peer))

    async def states(self) -> list[str]:
        def read(reader: Reader) -> list[str]:
            return [state for (state,) in reader.execute("SELECT state FROM legacy_link ORDER BY state")]

        return await self.store.reader.run(read)


@asynccontextmanager
async def world(path: Path, release: Release = V070, *titles: str, seed: int = 1) -> AsyncIterator[Linked]:
    """Memories of these titles on both sides."""
    both = Linked(path / f"{seed}.db", release, seed)
    try:
        await both.start()
        for title in titles:
            await both.write(title, "a", "text")
        await both.send()
        yield both
    finally:
        both.close()


async def store_there(both: Linked, title: str, *, told: bool = True) -> None:
    body = {"title": title, "content": "text", "namespace": "a", "tier": "long"}
    assert await both.there("POST", "/memories", body, told=told) == 201


# --- from it


@BOTH
async def test_its_links_become_ours_under_our_ids(tmp_path: Path, release: Release) -> None:
    """Once, however often it tells them, and they are not sent back to it."""
    async with world(tmp_path, release, "ours") as both:
        await store_there(both, "theirs")
        told = await both.link_there("theirs", "ours")
        assert (told["links_applied"], told["skipped"]) == (1, 0)
        told = await both.link_there("theirs", "ours")
        assert (told["links_applied"], told["skipped"]) == (1, 0)
        await both.read()
        await both.send()
        assert await both.links() == both.links_there() == {("theirs", "ours", "supersedes")}
        assert (both.sent(), both.old.complaints, await both.conflicts()) == ([], [], 0)


async def test_what_is_not_remembered_would_be_sent_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control."""
    monkeypatch.setattr(linktables, "has", lambda *said: None)
    async with world(tmp_path, V070, "one", "two") as both:
        await both.link_there("one", "two")
        await both.send()
        assert both.sent() == [1]


async def test_a_link_that_we_told_it_comes_back_without_a_conflict(tmp_path: Path) -> None:
    """Somebody makes it there once more: it says the same, under a time of its own."""
    async with world(tmp_path, V070, "one", "two") as both:
        await both.link("one", "two")
        await both.send()
        assert (await both.link_there("one", "two"))["links_applied"] == 1
        assert await both.conflicts() == 0


async def test_without_the_echo_it_would_be_a_conflict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control."""
    monkeypatch.setattr(intake, "is_echo", lambda version, kept: False)
    async with world(tmp_path, V070, "one", "two") as both:
        await both.link("one", "two")
        await both.send()
        await both.link_there("one", "two")
        assert await both.conflicts() == 1


async def test_a_link_before_its_memories_is_held_until_they_come(tmp_path: Path) -> None:
    """It counts as skipped, as with them, which drop it; both ends have to come, pushed or read."""
    async with world(tmp_path) as both:
        await store_there(both, "one", told=False)
        await store_there(both, "two", told=False)
        told = await both.link_there("one", "two")
        assert (told["links_applied"], told["skipped"]) == (0, 1)
        assert "1 of its links came before their memories" in await both.notes()
        await both.push([one for one in both.theirs() if one["title"] == "one"])
        assert "1 of its links came before their memories" in await both.notes()
        await both.read()
        assert await both.links() == {("one", "two", "supersedes")}
        assert "came before" not in await both.notes()
        await both.send()
        assert both.sent() == []


async def test_links_that_find_no_room_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that are held already stay, and may come again."""
    monkeypatch.setattr(linktables, "MAX_HELD", 2)
    async with world(tmp_path, V070, "here") as both:
        links = [
            {"source_id": f"s{n}", "target_id": "t", "relation": "related_to", "created_at": "2026-01-01T00:00:00Z"}
            for n in range(3)
        ]
        for _ in range(2):
            told = await both.push([], links=links)
            assert (told["links_applied"], told["skipped"]) == (0, 3)
        assert "2 of its links" in await both.notes()
        assert "more of them are lost" in await both.notes()
        assert both.desk.refused[both.peer.fingerprint] == {"s2 related_to t"}


async def test_a_link_that_is_wrong_refuses_itself(tmp_path: Path) -> None:
    """And not the others of its push; a signature is passed over."""
    async with world(tmp_path, V070, "one", "two") as both:
        ends = {"source_id": both.there_id("one"), "target_id": both.there_id("two")}
        good = {**ends, "relation": "supersedes", "created_at": "2026-01-01T00:00:00.123456789Z", "signature": [7] * 64}
        wrong = [{"relation": "likes"}, {"created_at": "now"}, {"target_id": ends["source_id"]}, {"source_id": 5}]
        told = await both.push([], links=[*({**good, **one} for one in wrong), good])
        assert (told["links_applied"], told["skipped"]) == (1, 4)
        assert await both.links() == {("one", "two", "supersedes")}


async def test_what_it_may_not_write_is_refused(tmp_path: Path) -> None:
    """A link is in the namespace of its source; it is counted as skipped, and nothing is kept."""
    async with world(tmp_path, V070, "one", "two") as both:
        narrow = replace(both.peer, write=Globs(("b/**",)))
        both.exchange.book = PeerBook([narrow], Strangers(EVERYTHING, EVERYTHING))
        told = await both.link_there("one", "two")
        assert (told["links_applied"], told["skipped"]) == (0, 1)
        assert await both.links() == set()
        both.exchange.book = PeerBook([both.peer], Strangers(EVERYTHING, EVERYTHING))
        assert (await both.link_there("one", "two"))["links_applied"] == 1


async def test_a_link_from_the_future_waits_for_its_time(tmp_path: Path) -> None:
    """As any version does; it has it, so it is not sent to it then."""
    async with world(tmp_path, V070, "one", "two") as both:
        at = moment.text(both.now + 1_000 * moment.SECOND)
        ends = {"source_id": both.there_id("one"), "target_id": both.there_id("two")}
        told = await both.push([], links=[{**ends, "relation": "supersedes", "created_at": at}])
        assert (told["links_applied"], told["skipped"], await both.links()) == (0, 1, set())
        both.tick(1_000)
        await both.exchange.retry_waiting()
        assert await both.links() == {("one", "two", "supersedes")}
        await both.send()
        assert both.sent() == []


# --- to it


@BOTH
async def test_our_links_are_sent_once_after_their_memories(tmp_path: Path, release: Release) -> None:
    """Under its names for both, whichever side made the memory; a second sending has nothing to do."""
    async with world(tmp_path, release) as both:
        await store_there(both, "theirs")
        await both.write("ours", "a", "text")
        await both.link("ours", "theirs")
        for _ in range(3):
            await both.send()
        assert both.links_there() == {("ours", "theirs", "supersedes")}
        assert (both.sent(), both.old.complaints) == ([1], [])


async def test_what_was_sent_is_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: else each change of the link would send it again."""
    monkeypatch.setattr(desk.Desk, "links_are", _forgets)
    async with world(tmp_path, V070, "one", "two") as both:
        await both.link("one", "two")
        for _ in range(2):
            await both.send()
        assert both.sent() == [1, 1]


async def _forgets(*said: Any) -> None:
    return


async def test_a_link_waits_for_its_memory_to_be_there(tmp_path: Path) -> None:
    """It is never sent to be skipped: the daemon would drop it for ever."""
    async with world(tmp_path, V070, "one") as both:
        await both.write("two", "a", "text")
        await both.link("one", "two")
        await both.delete(await both.id("one"))
        await both.send()
        assert (both.sent(), await both.states()) == ([], ["waits"])
        await both.write("one", "a", "again")
        await both.send()
        assert both.links_there() == {("one", "two", "supersedes")}
        assert both.old.complaints == []


async def test_its_links_go_with_a_memory_and_are_sent_again_with_it(tmp_path: Path) -> None:
    """Deleted by us, by it, or gone without a word; when the memory is there again, so is the link."""
    async with world(tmp_path, V070, "one", "two") as both:
        await both.link("one", "two")
        await both.send()
        await both.delete(await both.id("two"))
        await both.send()
        assert both.links_there() == set()
        await both.write("two", "a", "again")
        await both.send()
        assert both.links_there() == {("one", "two", "supersedes")}
        await both.there("DELETE", f"/memories/{both.there_id('one')}")
        await both.send()
        await both.write("one", "a", "once more")
        await both.send()
        assert both.links_there() == {("one", "two", "supersedes")}
        await both.there("DELETE", f"/memories/{both.there_id('one')}", told=False)
        await both.scan()
        await both.scan()
        await both.change(await both.id("one"), content="edited, which sends it")
        await both.send()
        assert both.links_there() == {("one", "two", "supersedes")}
        assert both.old.complaints == []


@BOTH
async def test_a_relation_that_it_does_not_know_is_not_sent(tmp_path: Path, release: Release) -> None:
    """v0.6.3 takes four, v0.7.0 all; the operator is told, and the others are sent."""
    async with world(tmp_path, release, "one", "two") as both:
        for relation in RELATIONS:
            await both.link("one", "two", relation)
        await both.send()
        takes = FOUR if release is V063 else RELATIONS
        assert {relation for _, _, relation in both.links_there()} == set(takes)
        notes = await both.notes()
        assert ("links are not on it" in notes) == (release is V063)
        assert both.old.complaints == []


async def test_a_relation_that_is_sent_all_the_same_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control; and what it skips is found among others, named, and never sent again until something changes."""
    monkeypatch.setattr(linksender, "FOUR_RELATIONS", frozenset(RELATIONS))
    async with world(tmp_path, V063, "one", "two") as both:
        for relation in RELATIONS:
            await both.link("one", "two", relation)
        await both.send()
        assert {relation for _, _, relation in both.links_there()} == set(FOUR)
        assert both.old.complaints
        before = both.sent()
        await both.send()
        assert both.sent() == before
        assert "it skipped it" in await both.notes()


async def test_a_newer_daemon_is_known_by_its_answers(tmp_path: Path) -> None:
    """What was held back from it before is sent then, once."""
    async with world(tmp_path, V070) as both:
        await store_there(both, "one")
        await store_there(both, "two")
        await both.link("one", "two", "reflects_on")
        await both.send()
        assert both.sent() == []
        await both.read()
        await both.send()
        assert (both.links_there(), both.sent()) == ({("one", "two", "reflects_on")}, [1])


async def test_a_body_that_it_cannot_take_is_cut_in_halves(tmp_path: Path) -> None:
    """Whichever link is at fault is named; what failed for another reason is sent again."""
    async with world(tmp_path, V070, "one", "two", "three") as both:
        await both.link("one", "two")
        await both.link("two", "three")
        await both.read()
        nothing_new = Answer(200, {"count": 0, "limit": 500, "memories": []})
        both.old.instead = [nothing_new, Answer(422, "no"), Answer(422, "no")]
        await both.send()
        assert len(both.links_there()) == 1
        assert "1 links are not on it" in await both.notes()
        await both.link("one", "three")
        both.old.instead = [nothing_new, Answer(503, "later")]
        with pytest.raises(Exception, match="503"):
            await both.send()
        await both.send()
        assert len(both.links_there()) == 2


async def test_an_unlink_cannot_be_told_and_is_reported(tmp_path: Path) -> None:
    """Until the link is made again, or its memory goes there; one that it never had needs no word."""
    async with world(tmp_path, V070, "one", "two") as both:
        await both.link("two", "one")
        await both.unlink("two", "one")
        await both.link("one", "two")
        await both.send()
        await both.unlink("one", "two")
        await both.send()
        assert both.links_there() == {("one", "two", "supersedes")}
        assert "1 links were taken back here and are still on it" in await both.notes()
        await both.link("one", "two")
        await both.send()
        assert "taken back" not in await both.notes()
        assert both.sent() == [1]
        await both.unlink("one", "two")
        await both.delete(await both.id("two"))
        await both.send()
        assert (await both.states(), "taken back" in await both.notes()) == ([], False)


async def test_links_made_before_this_was_known_are_sent(tmp_path: Path) -> None:
    """A store whose bridge passed over the links of its feed."""
    async with world(tmp_path, V070, "one", "two") as both:
        await both.link("one", "two")
        await both.store.writer.run(_as_before)
        assert both.sent() == []
        await both.desk.make_tables()
        await both.send()
        assert both.links_there() == {("one", "two", "supersedes")}
        assert both.old.complaints == []


def _as_before(ledger: Any) -> None:
    execute = tables.executing(ledger)
    for table in linktables.TABLES:
        execute(f"DROP TABLE {table}")
    execute("UPDATE legacy_peer SET reached = 1000")


async def test_a_forgotten_daemon_is_sent_them_anew(tmp_path: Path) -> None:
    """What was known of its links goes with all else."""
    async with world(tmp_path, V070, "one", "two") as both:
        await both.link("one", "two")
        await both.send()
        await both.desk.keep_only([])
        assert await both.states() == []


async def test_links_hold_nothing_up(tmp_path: Path) -> None:
    """The memories before and after them are sent, and shown to one that asks; its `since` has no links."""
    async with world(tmp_path, V063, "one", "two") as both:
        await both.link("one", "two")
        await both.write("three", "a", "text")
        await both.send()
        page = json.loads(await both.endpoint.since(both.peer, {}))
        assert [one["title"] for one in page["memories"]] == ["one", "two", "three"]
        assert sorted(one["title"] for one in both.theirs()) == ["one", "three", "two"]


async def test_a_link_that_is_taken_for_a_memory_would_hold_everything_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Control: without looking at the key, the first link ends the sending."""
    monkeypatch.setattr(outbox, "is_link", lambda key: False)
    async with world(tmp_path, V063, "one", "two") as both:
        await both.link("one", "two")
        with pytest.raises(Exception, match="missing required field"):
            await both.send()


# --- whatever happens


@pytest.mark.parametrize("seed", range(24))
async def test_whatever_happened_both_sides_end_with_the_same_links(tmp_path: Path, seed: int) -> None:
    """Writes, deletes and links on both sides, pushes that get lost or come early: at the end, but for links that were
    taken back here and links of which no push told us, the links between memories that both have are the same."""
    choice = random.Random(seed)
    async with world(tmp_path, choice.choice((V063, V070)), seed=seed) as both:
        lost: set[Triple] = set()
        undone: set[Triple] = set()
        titles = ["one", "two", "three", "four"]

        async def step() -> None:
            what, title, other = choice.randrange(9), *choice.sample(titles, 2)
            here = {one["title"] for one in await both.ours()}
            there = {one["title"] for one in both.theirs()}
            relation = choice.choice(FOUR)
            if what == 0:
                await both.write(title, "a", f"text {choice.random()}")
            elif what == 1 and title not in there:
                await store_there(both, title, told=choice.random() < 0.5)
            elif what == 2 and title in here and choice.random() < 0.4:
                await both.delete(await both.id(title))
            elif what in (3, 4) and {title, other} <= here:
                await both.link(title, other, relation)
                undone.discard((title, other, relation))
            elif what in (5, 6) and {title, other} <= there:
                is_told = choice.random() < 0.8
                await both.link_there(title, other, relation, told=is_told)
                if not is_told:
                    lost.add((title, other, relation))
            elif what == 7 and (ours := await both.links()):
                triple = choice.choice(sorted(ours))
                await both.unlink(*triple)
                undone.add(triple)
            elif choice.random() < 0.5:
                await both.read()
            else:
                await both.send()

        for _ in range(60):
            await step()
        for _ in range(3):
            await both.scan()
            await both.read()
            await both.send()
        common = {one["title"] for one in await both.ours()} & {one["title"] for one in both.theirs()}
        ours = {one for one in await both.links() if {*one[:2]} <= common}
        theirs = {one for one in both.links_there() if {*one[:2]} <= common}
        assert ours - theirs == set()
        assert theirs - ours <= lost | undone
