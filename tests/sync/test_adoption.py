"""Versions that no page brought: merged as any other, without a giver, without waiting, and without echoes."""

from dataclasses import replace
from typing import Any

import msgspec
import pytest
import versions
from hypothesis import given
from hypothesis import strategies as st
from keys import pair
from stamps import over
from versions import ALICE, BOB, ID, NOW, SECOND, Desk

from sync import adoption, moment
from sync.adoption import Adopted
from sync.attest import base64url
from sync.dot import LEGACY, Dot
from sync.record import Refused, read
from sync.version import Version

KEY = ("a", ID)


def legacy(seconds: float = 0, **fields: Any) -> Version:
    """A version as an import makes it of a row: its time is all that it knows."""
    at = NOW + round(seconds * SECOND)
    return versions.version({LEGACY: at}, updated_at=moment.text(at), **fields)


def adopt(desk: Desk, *some: Version, dry_run: bool = False) -> Adopted:
    def verb(ledger: Any, now: int) -> Adopted:
        return desk.engine.adopt(ledger, some, now, dry_run=dry_run)

    adopted: Adopted = desk.do(verb)
    return adopted


def test_a_version_is_taken_once() -> None:
    """The second time it is there already, and the feed does not move."""
    desk = Desk()
    assert adopt(desk, legacy()).outcomes == ("taken",)
    before = desk.store.position()
    assert adopt(desk, legacy()).outcomes == ("unchanged",)
    assert desk.store.position() == before


def test_it_has_no_giver_and_is_not_of_this_nodes_writing() -> None:
    """So it is sent to every peer, as something relayed: offered, not pressed upon a peer that imported the same."""
    desk = Desk()
    adopt(desk, legacy())
    assert [one.giver for one in desk.kept(KEY)] == [0]
    page = desk.cut(offer=True).page
    assert (page.count, bool(page.offers)) == (0, True)


@pytest.mark.parametrize("is_looked_at", [True, False], ids=["looked at", "control"])
def test_a_forged_one_is_refused_by_name(is_looked_at: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever brings a file vouches for nobody in it. (Control: not looked at, it would be taken.)"""
    if not is_looked_at:
        monkeypatch.setattr(adoption, "is_genuine", lambda version: True)
    forged, beside = versions.version({ALICE: 1}, signature=bytes(64)), legacy(id=versions.OTHER)
    first, second = adopt(Desk(), replace(forged, doc=signed_by_another(forged)), beside).outcomes
    assert second == "taken"
    if is_looked_at:
        assert isinstance(first, Refused)
        assert (first.id, first.reason) == (ID, "bad_signature")
    else:
        assert first == "taken"


def signed_by_another(version: Version) -> bytes:
    """The document with a key and a signature in it that are not over it."""
    document = msgspec.json.decode(version.doc)
    other = base64url(pair("agent:another").key)
    document["metadata"]["attestation"] |= {"key": other, "sig": base64url(version.signature)}
    return msgspec.json.encode(document)


def test_a_newer_version_supersedes_and_an_older_one_changes_nothing() -> None:
    """What no clock orders is ordered by time, as the daemon that wrote it orders it."""
    desk = Desk()
    old, new = legacy(0, content="old"), legacy(1, content="new")
    assert adopt(desk, old, new, old).outcomes == ("taken", "taken", "unchanged")
    assert desk.tags() == {new.tag}


def test_a_later_local_write_is_not_undone() -> None:
    """It has seen the import; the same file once more is stale, a change made there since then is a conflict."""
    desk = Desk()
    adopt(desk, legacy())
    desk.now += SECOND
    desk.update(KEY, content="edited here")
    assert adopt(desk, legacy()).outcomes == ("unchanged",)
    desk.delete(KEY)
    assert adopt(desk, legacy()).outcomes == ("unchanged",)
    assert adopt(desk, legacy(30, content="edited there")).outcomes == ("taken",)
    assert len(desk.kept(KEY)) == 2


def test_the_future_is_refused_and_does_not_wait() -> None:
    """Nothing is put aside for whoever can bring it again; at the bound it is believed."""
    desk = Desk()
    [refused, at_the_bound] = adopt(desk, legacy(301), legacy(300)).outcomes
    assert isinstance(refused, Refused)
    assert (refused.reason, at_the_bound) == ("clock_skew", "taken")
    assert "301 s in the future" in refused.detail
    assert list(desk.store.waiting([KEY])) == []


ECHOES = {
    "another expiry": {"expires_at": moment.text(NOW + 9 * SECOND)},
    "another priority": {"priority": 6},
    "an older time": {"seconds": -5, "priority": 6},
}


@pytest.mark.parametrize("fields", ECHOES.values(), ids=ECHOES)
def test_an_echo_changes_nothing(fields: dict[str, Any]) -> None:
    """A row that was merely read there, or passed around, says nothing that is not kept."""
    desk = Desk()
    desk.write()
    kept = desk.tags(desk_key := next(iter(desk.store.everything())))
    echo = legacy(**{"id": desk_key[1], **fields})
    assert adopt(desk, echo).outcomes == ("unchanged",)
    assert desk.tags(desk_key) == kept


@pytest.mark.parametrize(
    "fields",
    [{"content": "other"}, {"title": "other"}, {"tags": ["t"]}, {"source": "cli"}, {"seconds": 1, "priority": 6}],
    ids=["content", "title", "tags", "source", "newer"],
)
def test_what_says_something_else_is_no_echo(fields: dict[str, Any]) -> None:
    """Each of the four fields counts, and so does a newer time."""
    desk = Desk()
    desk.write()
    key = next(iter(desk.store.everything()))
    assert adopt(desk, legacy(**{"id": key[1], **fields})).outcomes == ("taken",)


def test_without_the_rule_an_echo_is_a_conflict(monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: it is the rule that keeps what came back altered from being in conflict with itself."""
    monkeypatch.setattr(adoption, "_is_echo", lambda version, kept: False)
    desk = Desk()
    key = desk.write().version.key
    assert adopt(desk, legacy(id=key[1], priority=6)).outcomes == ("taken",)
    assert len(desk.kept(key)) == 2


def test_two_looks_at_one_row_end_the_same_in_either_order() -> None:
    """Altered there without another time: equal clocks, of which the merge keeps one."""
    looks = legacy(), legacy(priority=6, expires_at=moment.text(NOW + 9 * SECOND))
    desks = Desk(1), Desk(2)
    adopt(desks[0], *looks)
    adopt(desks[1], *reversed(looks))
    assert desks[0].tags() == desks[1].tags() == {looks[1].tag}


def test_a_dry_run_says_the_same_and_keeps_nothing() -> None:
    """The outcomes are those that a run would have."""
    desk = Desk()
    some = (legacy(0), legacy(1, content="new"), legacy(400))
    before = desk.store.position(), desk.store.everything()
    dry = adopt(desk, *some, dry_run=True)
    assert (desk.store.position(), desk.store.everything()) == before
    assert adopt(desk, *some) == dry


def test_a_lie_about_this_nodes_own_writes_is_survived() -> None:
    """A file's version that claims what this node never wrote raises the alarm that a peer's would."""
    desk = Desk()
    written = desk.write().version
    claim = Dot(desk.life, written.dot.counter + 1, written.dot.check)
    lie = versions.version(over(actor=ALICE, depth=9, lies=(claim,)), id=written.id, content="lie")
    adopted = adopt(desk, lie)
    assert [alarm.kind for alarm in adopted.alarms] == ["forged_claim"]
    assert {one.version.content for one in desk.kept(written.key)} == {written.content, lie.content}


def test_a_native_peer_takes_such_a_version() -> None:
    """The actor `legacy` passes the check of what a peer sends, and arrives with the same tag."""
    version = legacy()
    read_back = read(version.doc, "m")
    assert read_back == version
    desk = Desk()
    assert desk.take(version).applied == 1


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2), st.sampled_from("xy")), max_size=12), st.randoms())
def test_twice_is_once_in_any_order(rows: list[tuple[int, int, str]], random: Any) -> None:
    """Rows of a few titles at a few times: imported again, or elsewhere in another order, they leave the same."""
    made = {(title, at): legacy(at, id=f"id-{title}", title=f"t{title}", content=text) for title, at, text in rows}
    some = list(made.values())  # one file has one row for a title at a time
    once, twice, elsewhere = Desk(1), Desk(2), Desk(3)
    adopt(once, *some)
    for _ in range(2):
        adopt(twice, *some)
    random.shuffle(some)
    for one in some:
        adopt(elsewhere, one)
    digests = {desk.store.position().digest for desk in (once, twice, elsewhere)}
    assert len(digests) == 1
    assert all(len(kept) == 1 for kept in once.store.everything().values())


def test_a_delete_older_than_the_memory_says_something_else_than_it() -> None:
    """Only what says the same is an echo."""
    desk = Desk()
    desk.take(versions.version({ALICE: 1}, seconds=9))
    assert adopt(desk, versions.stone({BOB: 1})).outcomes == ("taken",)
    assert [one.version.kind for one in desk.kept(KEY)] == ["m", "t"]


def test_a_link_that_says_no_more_than_the_kept_one_is_an_echo() -> None:
    """With a time of its own, as a daemon that was given ours tells it."""
    desk = Desk()
    ours = versions.link({ALICE: 1})
    desk.take(ours)
    again = versions.link({LEGACY: NOW + SECOND}, seconds=1)
    assert adopt(desk, again).outcomes == ("unchanged",)
    assert desk.tags(ours.key) == {ours.tag}
