"""The lives of a store: when one begins, what it may claim, and what a start does about times that lie ahead."""

import random

import pytest
import versions
from keys import agent_of
from versions import ALICE, BOB, ID, NOW, PEER, SECOND, Desk

from sync import lives, moment, writes
from sync.attest import signer_of
from sync.dot import Dot, counter
from sync.lives import issued_by, last_rollback, minting
from sync.ports import Life
from sync.record import load

LIFE = Life(ALICE, 0, b"s" * 32, lives.START)
LATER = Life(BOB, 10, b"t" * 32, lives.START)
KEY = ("a", ID)


CHECK = "0123456789abcdef01234567"


def true_dot(life: Life, number: int) -> Dot:
    return Dot(life.actor, counter(life.secret, *KEY, CHECK, number), CHECK)


def test_each_life_has_an_actor_and_a_secret_of_its_own() -> None:
    """64 and 256 random bits, fresh for each, whatever the reason."""
    mint = minting(random.Random(1).randbytes)
    made = [mint(n, lives.START) for n in range(100)]
    assert len({life.actor for life in made}) == len({life.secret for life in made}) == 100
    assert all(len(life.actor) == 16 and len(life.secret) == 32 for life in made)
    assert [life.began_after for life in made] == list(range(100))


@pytest.mark.parametrize("reason", [lives.START, lives.CLOCK_JUMP])
def test_a_life_begins_after_the_last_number(reason: str) -> None:
    """Old lives stay in the list; the next write is the new one's."""
    desk = Desk()
    first = desk.life
    written = desk.write("x")
    assert written.version.dot.actor == first
    desk.begin(reason)
    again = desk.write("x", "other")
    assert again.version.dot.actor == desk.life
    assert again.version.context.entries == (written.version.dot,)
    assert [(life.began_after, life.reason) for life in desk.store.lives()] == [(0, lives.START), (1, reason)]


def test_a_restored_store_never_issues_a_counter_twice() -> None:
    """A write lost to a restore and the write made in its place are concurrent, whatever numbers they took."""
    desk = Desk()
    old = desk.store.copy()
    lost = desk.write("x", "lost").version
    desk.store.restore(old)
    desk.begin(lives.START)
    made = desk.write("x", "made").version
    assert lost.key == made.key
    assert lost.dot.actor != made.dot.actor
    desk.take(lost)
    assert desk.tags(lost.key) == {lost.tag, made.tag}


# --- whose counter it is


def test_a_life_knows_its_own_counters_from_invented_ones() -> None:
    """The MAC is over the life's secret, the key, the content and the number."""
    true = true_dot(LIFE, 7)
    assert issued_by(LIFE, KEY, true)
    assert not issued_by(LIFE, KEY, true._replace(counter=true.counter ^ 1))
    assert not issued_by(LIFE, KEY, true._replace(check=CHECK[::-1]))
    assert not issued_by(LIFE, ("a", "another"), true)
    assert not issued_by(LATER, KEY, true)


@pytest.mark.parametrize(
    ("reasons", "expected"),
    [
        ((lives.START,), 0),
        ((lives.START, lives.START), 0),
        ((lives.START, lives.ROLLED_BACK), 1),
        ((lives.START, lives.ROLLED_BACK, lives.START, lives.START), 1),
        ((lives.START, lives.ROLLED_BACK, lives.ROLLED_BACK, lives.CLOCK_JUMP), 2),
    ],
)
def test_the_last_proven_rollback_is_found(reasons: tuple[str, ...], expected: int) -> None:
    """What older lives are said to have issued proves only what is known already."""
    assert last_rollback([Life(ALICE, 0, b"", reason) for reason in reasons]) == expected


# --- what a start does


def held(desk: Desk) -> str:
    """Let the desk reach a cursor on a peer."""
    cursor = f"{ALICE}.1.1.00112233445566aa.0123abcd"
    assert desk.take(versions.version(), to=cursor).moved
    return cursor


def test_a_start_keeps_cursors_and_a_clock_jump_forgets_them() -> None:
    """What was received between a jump and its discovery came under the old life: it is read again."""
    desk = Desk()
    cursor = held(desk)
    desk.begin(lives.START)
    assert desk.store.peer(PEER).held[0].cursor == cursor
    before = desk.store.peer(PEER).generation
    desk.begin(lives.CLOCK_JUMP)
    assert desk.store.peer(PEER).held == ()
    assert desk.store.peer(PEER).generation > before


def test_a_start_writes_again_what_it_keeps_of_its_own_from_the_future() -> None:
    """Same content, the time of now and a new dot; what is within 300 s, and what others wrote, stays as it is."""
    desk = Desk()
    near, far = desk.write("near").version, None
    desk.now += 301 * SECOND
    far = desk.write("far").version
    gone = desk.write("gone").version
    desk.delete(gone.key)
    desk.take(versions.version(id="theirs", seconds=500))
    desk.now = NOW
    assert desk.begin(lives.CLOCK_JUMP) == 2
    (again,) = desk.kept(far.key)
    assert again.version.at == moment.text(NOW)
    assert (again.version.content, again.giver) == (far.content, None)
    assert (again.version.context.entries, again.version.depth) == ((far.dot,), far.depth + 1)
    assert desk.kept(gone.key)[0].version.kind == "t"
    assert desk.kept(gone.key)[0].version.at == moment.text(NOW)
    assert desk.tags(near.key) == {near.tag}
    assert desk.tags(("a", "theirs")) == {versions.version(id="theirs", seconds=500).tag}
    assert desk.begin(lives.START) == 0


def a_conflict_whose_own_half_lies_in_the_future() -> Desk:
    """What is kept of `x` then: our version from 400 s ahead, and one that we had not seen when we wrote it."""
    desk = Desk()
    desk.now += 400 * SECOND
    own = desk.write("x").version
    desk.take(versions.version({BOB: 1}, id=own.id, namespace=own.namespace, title="x", content="from another"))
    desk.now = NOW
    assert desk.begin(lives.CLOCK_JUMP) == 1
    return desk


def contents(desk: Desk) -> list[str]:
    (key,) = desk.store.everything()
    return sorted(load(one.version.doc).content for one in desk.kept(key))


def test_what_is_written_again_settles_no_conflict() -> None:
    """Nobody saw the other version and decided: it stays beside ours, which has the time of now."""
    desk = a_conflict_whose_own_half_lies_in_the_future()
    assert contents(desk) == ["from another", "text"]
    (key,) = desk.store.everything()
    assert desk.kept(key)[0].version.at == moment.text(NOW + 1), "just after the other, so that it stays the winner"


def test_with_all_seen_it_would_be_settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: written again as an ordinary write would, it makes the other version vanish everywhere."""
    monkeypatch.setattr(
        writes,
        "restate_future",
        lambda batch, key, keys, horizon, now: writes.restate(batch, key, keys.author("node:desk"), now),
    )
    assert len(contents(a_conflict_whose_own_half_lies_in_the_future())) == 1


def test_an_operator_can_settle_what_a_dead_author_left_in_the_future() -> None:
    """Written on for now, in its author's name, deletes included; what is near, and what waits, is let be."""
    desk = Desk()
    desk.now += 400 * SECOND
    far = versions.version(id="far", title="far", seconds=500)
    desk.take(far, versions.stone({BOB: 1}, seconds=600), versions.version(id="near", title="near", seconds=200))
    desk.now = NOW
    desk.take(versions.version(id="waits", title="waits", seconds=700))
    assert desk.do(desk.engine.settle_future) == 2
    (settled,), (stone,) = desk.kept(("a", "far")), desk.kept()
    assert settled.version.content == far.content
    assert (settled.version.at, stone.version.at) == (moment.text(NOW), moment.text(NOW))
    assert agent_of(settled.version) == "agent:other"
    assert signer_of(settled.version) == desk.engine.agent
    assert settled.version.context.names(far.dot)
    assert stone.version.kind == "t"
    assert desk.kept(("a", "near"))[0].version.at == moment.text(NOW + 200 * SECOND)
    assert [one.version.id for one in desk.store.waiting_all()] == ["waits"]
    assert desk.do(desk.engine.settle_future) == 0
