"""What the engine remembers in memory: whom it believed, whose cursor it saw confirmed, which lives take turns."""

from typing import Any

import pytest
import versions
from keys import Nobody
from versions import ALICE, BOB, CAROL, EVERYTHING, PEER, SECOND, Desk

from sync import engine, lives
from sync.engine import Engine
from sync.errors import RemoteError
from sync.feed import Cursor
from sync.receive import Taken
from sync.serve import Cut, RolledBack

HOUR = 3600 * SECOND
TO = f"{ALICE}.1.1.00112233445566aa.0123abcd"
FOREIGN = f"{'d' * 16}.5.5.00112233445566aa.{EVERYTHING.tag}"


# --- a peer says that we were rolled back


def test_a_cursor_that_proves_a_rollback_asks_for_a_new_life_first() -> None:
    """Then the page is cut from the start, under the new life, and no cursor of ours is trusted any more."""
    desk = Desk()
    desk.take(versions.version(), to=TO)
    assert desk.cut(FOREIGN) == RolledBack()
    (alarm,) = desk.do(desk.engine.rolled_back, PEER)
    assert (alarm.kind, alarm.peer) == ("rolled_back", PEER)
    assert desk.store.lives()[-1].reason == lives.ROLLED_BACK
    assert desk.store.peer(PEER).held == ()
    cut = desk.cut(FOREIGN)
    assert isinstance(cut, Cut)
    assert (cut.reset, cut.life, cut.page.count) == (True, desk.life, 1)


@pytest.mark.parametrize(("later", "is_believed"), [(0, False), (HOUR - 1, False), (HOUR, True), (-1, True)])
def test_a_peer_is_believed_once_an_hour(later: int, *, is_believed: bool) -> None:
    """In between it is served from the start; a clock that went back does not lock it out."""
    desk = Desk()
    desk.do(desk.engine.rolled_back, PEER)
    desk.now += later
    assert isinstance(desk.cut(FOREIGN), RolledBack if is_believed else Cut)
    assert bool(desk.do(desk.engine.rolled_back, PEER)) is is_believed
    assert len(desk.store.lives()) == (3 if is_believed else 2)


def test_each_peer_is_believed_for_itself() -> None:
    """One that was believed takes nothing from another."""
    desk = Desk()
    desk.do(desk.engine.rolled_back, PEER)
    assert desk.cut(FOREIGN, peer="another") == RolledBack()


def test_without_the_hour_a_peer_begins_a_life_with_each_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: it is the interval that stops it."""
    monkeypatch.setattr(engine, "ROLLBACK_INTERVAL", 0)
    desk = Desk()
    for _ in range(3):
        assert desk.cut(FOREIGN) == RolledBack()
        assert desk.do(desk.engine.rolled_back, PEER)


# --- two lives behind one certificate


def alternations(*turns: str, peer: str = PEER) -> list[str]:
    """The lives in whose page the alarm was raised."""
    desk = Desk()
    return [life for life in turns if [alarm.kind for alarm in desk.take(life=life, peer=peer).alarms]]


@pytest.mark.parametrize(
    ("turns", "alarmed"),
    [
        ((ALICE, ALICE, ALICE), []),
        ((ALICE, BOB, CAROL), []),
        ((ALICE, BOB, BOB), []),
        ((ALICE, BOB, ALICE, BOB, ALICE, BOB), []),
        ((ALICE, BOB) * 4, [ALICE, BOB]),
        ((ALICE, ALICE, BOB, BOB) * 4, [ALICE, BOB]),
        ((ALICE, BOB, CAROL, ALICE, CAROL, ALICE, CAROL, ALICE), [ALICE]),
    ],
    ids=[
        "one life",
        "restarts",
        "a restart",
        "two pages were still on their way",
        "turn and turn about",
        "two pages a turn",
        "after two restarts",
    ],
)
def test_lives_that_take_turns_are_a_cloned_node(turns: tuple[str, ...], alarmed: list[str]) -> None:
    """A life that was followed by another speaks at most twice more: a page of it on each lane may be on its way."""
    assert alternations(*turns) == alarmed


def test_the_alarm_names_the_peer_and_both_lives() -> None:
    """`duplicate_identity`, by name, for the status of both sides."""
    desk = Desk()
    for life in (ALICE, BOB) * 3:
        desk.take(life=life)
    (alarm,) = desk.take(life=ALICE).alarms
    assert (alarm.kind, alarm.peer) == ("duplicate_identity", PEER)
    assert ALICE in alarm.detail
    assert BOB in alarm.detail


def test_two_peers_are_no_clones_of_each_other() -> None:
    """Lives are remembered for each certificate."""
    desk = Desk()
    for peer, life in (("one", ALICE), ("two", BOB), ("one", ALICE), ("two", BOB)):
        assert desk.take(life=life, peer=peer).alarms == ()


def test_what_is_remembered_of_lives_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer that invents a life with each page fills no memory."""
    monkeypatch.setattr(engine, "MAX_LIVES_SEEN", 3)
    desk = Desk()
    for n in range(50):
        desk.take(life=f"{n:016x}")
    assert [len(seen) for seen in desk.engine._lives_seen.values()] == [3]


# --- what a restart forgets


def test_a_new_process_goes_on_from_what_is_stored() -> None:
    """Nothing that is only in memory is needed: feed and cursors are those of before."""
    desk = Desk()
    written = desk.write("x").version
    desk.take(versions.version(), to=TO)
    cursor = desk.cut().to
    desk.engine = Engine("node:desk", lambda count: b"r" * count, Nobody())
    desk.begin(lives.START)
    cut = desk.cut(cursor)
    assert (cut.reset, cut.page.count, cut.number) == (False, 0, 2)
    assert desk.store.peer(PEER).held[0].cursor == TO
    assert desk.tags(written.key) == {written.tag}


@pytest.mark.parametrize("cursor", ["", "4711", "x" * 1000])
def test_a_cursor_that_is_none_is_the_peers_error(cursor: str) -> None:
    """It is told so, and nothing is cut."""
    with pytest.raises(RemoteError) as caught:
        Desk().cut(cursor)
    assert caught.value.code == "bad_cursor"


# --- pages out


def feed_of(*titles: str) -> Desk:
    desk = Desk()
    for title in titles:
        desk.write(title)
    return desk


def read_all(desk: Desk, **fields: Any) -> list[Cut]:
    """All pages from the start, each asked for with the cursor of the one before."""
    pages = [desk.cut(**fields)]
    while pages[-1].page.more:
        pages.append(desk.cut(pages[-1].to, **fields))
        assert len(pages) < 50
    return pages


@pytest.mark.parametrize(("limit", "sizes"), [(1, [1] * 5), (2, [2, 2, 1]), (5, [5]), (100, [5])])
def test_a_feed_is_read_in_pages_of_at_most_the_limit(limit: int, sizes: list[int]) -> None:
    """Each goes on where the one before ended; only the first is a start, and the last cursor stands at the top."""
    pages = read_all(feed_of(*"abcde"), limit=limit)
    assert [cut.page.count for cut in pages] == sizes
    assert [cut.reset for cut in pages] == [True] + [False] * (len(sizes) - 1)
    assert sum(cut.span for cut in pages) == 5
    last = Cursor.parse(pages[-1].to)
    assert (last.number, last.top, last.filter) == (5, 5, EVERYTHING.tag)


def test_a_page_is_cut_by_bytes_too_but_never_empty() -> None:
    """A record over the limit goes alone."""
    pages = read_all(feed_of(*"abc"), max_bytes=10)
    assert [cut.page.count for cut in pages] == [1, 1, 1]


def test_all_versions_of_a_record_are_in_one_page() -> None:
    """Conflicts included, even over the limit: half of a record would be taken for all of it."""
    desk = Desk()
    desk.take(versions.version({ALICE: 1}), versions.version({BOB: 1}), versions.stone({CAROL: 1}))
    (cut,) = read_all(desk, limit=1)
    assert cut.page.count == 3


def test_a_page_read_while_the_feed_grows_misses_nothing() -> None:
    """A record that changed behind the cursor comes again at its new number."""
    desk = feed_of(*"abc")
    first = desk.cut(limit=2)
    changed = desk.write("a", "changed").version
    rest = desk.cut(first.to)
    assert (rest.reset, rest.page.count) == (False, 2)
    assert changed.doc in rest.page.memories


def test_the_cursor_advances_past_what_a_scope_hides() -> None:
    """The peer learns nothing of it, and is not asked to read it again."""
    desk = feed_of("a")
    desk.write("hidden", namespace="secret")
    narrow = versions.Globs(("a",))
    cut = desk.cut(scope=narrow)
    assert (cut.page.count, cut.page.more, cut.number) == (1, False, 2)
    assert b"hidden" not in cut.page.memories
    assert desk.cut(cut.to, scope=narrow).page.is_empty
    assert desk.cut(cut.to).reset


# --- pages that were applied


def test_only_a_cursor_that_moved_is_remembered() -> None:
    """What a page names and did not reach is no place of ours in that feed."""
    desk = Desk()
    page = desk.page(to=TO)
    desk.engine.received(page, Taken(), desk.now)
    assert desk.engine._confirmed == {}
    desk.engine.received(page, Taken(moved=True), desk.now)
    assert desk.engine._confirmed == {(PEER, ALICE): TO}
