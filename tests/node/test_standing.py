"""How a node stands with each peer: identical, within the scope, refusing, behind, unreachable; and until when."""

from types import MappingProxyType
from typing import Any

import pytest
from certs import Mesh
from knocking import until
from lines import Caller
from nodes import (
    BRISK,
    QUIET,
    Place,
    eventually,
    federation,
    has,
    memory,
    pair,
    peer,
    push,
    serving,
    standing_is,
    status_of,
    write,
)

from node import daemon as daemons
from node.exchange import Exchange
from node.refusals import THEIRS, Heard, Refusals
from node.standing import STANDINGS, Facts, as_listed, exit_code, judged, line, since
from node.told import Told
from sync import moment
from sync.errors import RemoteError
from sync.keyring import key_text
from sync.receive import Alarm
from sync.record import Refused
from sync.standing import Standing, checked

AT = 1_700_000_000 * moment.SECOND
OURS, OTHER = "0a" * 16, "0b" * 16


def entry(state: str = "in_step", code: str | None = None, **more: Any) -> dict[str, Any]:
    """As `Links.status` has it."""
    return {"peer": "c", "fingerprint": "sha256:cc", "url": "https://c", "state": state, "code": code, "behind": 0,
            "reason": "as it was", "for_seconds": 1.0, "refused": 0, "attempts": 0, "waiting": 0, **more}  # fmt: skip


def facts(
    digest: str = OURS, whole: bool = True, feed: int = 7, refusing: Any = MappingProxyType({}), **more: Any
) -> Facts:
    """A peer that told this digest; our feed stands at 5 and we have read its feed up to 7."""
    heard = Heard(Standing(feed, digest, whole, dict(refusing)), 5, 0.0)
    usual: dict[str, Any] = {"number": 5, "digest": OURS, "whole": True, "reached": 7, "here": {}, "said": {}}
    return Facts(**{**usual, "there": refusing, "heard": heard, **more})


CASES: dict[str, tuple[dict[str, Any], Facts, str, str]] = {
    "equal digests": (entry(), facts(), "identical", "its digest was this node's"),
    "equal digests, within a scope": (entry(), facts(whole=False), "identical", ""),
    "its rules are narrow": (entry(), facts(OTHER, whole=False), "in_scope", "its rules for this node"),
    "nobody's rules are narrow": (entry(), facts(OTHER), "differs", "reads its feed once more"),
    "we wrote since": (entry(), facts(OTHER, number=6), "in_step", "before the last change here"),
    "it wrote since": (entry(), facts(OTHER, feed=9), "behind", "gone on by 2"),
    "nothing was told": (entry(), facts(heard=None), "in_step", "told no digest"),
    "we refuse": (entry(), facts(here={"scope": 2}), "refusing", "this node refuses 2 records now (scope 2)"),
    "it refuses": (entry(), facts(refusing={"key_revoked": 1}), "refusing", "the peer refuses 1 record now"),
    "equal digests, and yet it refuses": (entry(), facts(refusing={"scope": 1}), "refusing", "scope 1"),
    "other rules since": (entry(), facts(here={"scope": 2}, rules_changed=True), "behind", "rules"),
    "starting": (entry("starting"), facts(), "starting", "as it was"),
    "behind": (entry("behind"), facts(), "behind", "as it was"),
    "behind and refused": (entry("behind"), facts(here={"scope": 2}), "behind", "refuses 2"),
    "it called long ago": (entry(url=None, for_seconds=400.0), facts(), "unreachable", "look whether it runs"),
    "it called lately, and asked for nothing more": (
        entry("behind", url=None, behind=3, for_seconds=40.0),
        facts(),
        "identical",
        "",
    ),
    "it called lately, and lacks something": (
        entry("behind", url=None, behind=3, for_seconds=40.0),
        facts(OTHER),
        "behind",
        "",
    ),
    "it called lately": (entry(url=None, for_seconds=40.0), facts(), "identical", ""),
    "no way": (entry("failing", "timeout"), facts(), "unreachable", "as it was"),
    "not let in": (entry("failing", "refused"), facts(), "refused", "as it was"),
    "takes nothing": (entry("failing", "http_403"), facts(), "refused", "as it was"),
    "another certificate": (entry("failing", "wrong_pin"), facts(), "distrusted", "as it was"),
    "a full disk": (entry("failing", "store_full"), facts(), "failing", "as it was"),
    "an older daemon that took not all": (entry(refused=3), facts(heard=None), "refusing", "as it was"),
}


@pytest.mark.parametrize("case", CASES)
def test_each_standing_is_told_apart(case: str) -> None:
    """By a word, a sentence and an exit code of the table."""
    said, known, standing, words = CASES[case]
    told = judged(said, known)
    assert (told["standing"], words in told["reason"]) == (standing, True)
    assert "everything was confirmed" not in told["reason"]
    assert exit_code({"peers": [told], "alarms": [], "edits": []}) == STANDINGS[standing].exit_code
    assert line(told).startswith(f"c{'':15}{STANDINGS[standing].words} for")


def test_since_when_is_of_the_standing_and_not_of_the_lanes() -> None:
    """In step for nine hours and identical for a moment is not identical for nine hours. A failure knows since when."""
    equal = judged(entry(for_seconds=32_400.0), facts())
    assert since(equal, None, 50_000.0) == ("identical", 50_000.0)
    assert since(equal, ("identical", 49_000.0), 50_000.0) == ("identical", 49_000.0)
    assert since(equal, ("refusing", 49_000.0), 50_000.0) == ("identical", 50_000.0)
    failed = judged(entry("failing", "timeout", for_seconds=30.0), facts())
    assert since(failed, None, 50_000.0) == ("unreachable", 49_970.0)


@pytest.mark.parametrize("state", ["starting", "in_step", "behind"])
def test_whom_we_do_not_list_is_not_in_step_whatever_the_lanes_say(state: str) -> None:
    """It is said with what to do, and not for as long as it was in step. Control: listed, it stands as it stood."""
    said = entry(state, peer="the desk", for_seconds=32_400.0)
    told = judged(as_listed(said, False), facts())
    assert (told["standing"], told["code"]) == ("distrusted", "peer_unlisted")
    assert "ai-memory allowlist add sha256:cc --label 'the desk'" in told["reason"]
    assert since(told, ("identical", 1.0), 50_000.0) == ("distrusted", 50_000.0)
    assert judged(as_listed(said, True), facts())["standing"] != "distrusted"


def test_what_failed_for_a_reason_of_its_own_keeps_that_reason() -> None:
    """Who cannot be reached is not called reachable because it is not listed either."""
    failed = entry("failing", "wrong_pin")
    assert as_listed(failed, False) == as_listed(failed, True) == failed


def test_whom_we_list_since_a_moment_is_not_told_to_be_unlisted() -> None:
    """Before the next answer nothing is known but that. Control: while it is not listed, the failure stays as it is."""
    failed = entry("failing", "peer_unlisted", reason="let it in")
    told = judged(as_listed(failed, True), facts())
    assert (told["standing"], told["code"], "let it in" in told["reason"]) == ("starting", None, False)
    assert as_listed(failed, False) == failed


def test_our_narrow_rules_are_no_difference() -> None:
    """Where this node leaves something out, other digests are what is to be expected."""
    narrow = facts(OTHER)
    told = judged(entry(), Facts(**{**{name: getattr(narrow, name) for name in narrow.__slots__}, "whole": False}))
    assert (told["standing"], "this node's rules" in told["reason"]) == ("in_scope", True)


def test_the_heaviest_decides_about_the_exit_code() -> None:
    """An alarm or an edit that is not in force comes before all peers; so does a setting that waits for a start."""
    two = [judged(entry(), facts()), judged(entry("failing", "timeout"), facts())]
    assert exit_code({"peers": two, "alarms": [], "edits": []}) == 13
    assert exit_code({"peers": two, "alarms": [{}], "edits": []}) == 1
    for state in ("failed", "pending", "restart"):
        assert exit_code({"peers": two[:1], "alarms": [], "edits": [{"state": state}]}) == 1
    assert exit_code({"peers": two[:1], "alarms": [], "edits": []}) == 0  # control: it is the edit that decides
    assert exit_code({"peers": [], "alarms": [], "edits": []}) == 0


@pytest.mark.parametrize("text", ["a\nserver          identical for 9 h: fine", "\x1b]0;title\x07", "\u202eabc", "\r"])
def test_what_a_peer_says_stays_in_its_line(text: str) -> None:
    """A sentence of a peer can neither begin a line of its own nor say anything to the terminal."""
    told = judged(entry(), facts(refusing={"scope": 1}, said={THEIRS: ("scope", text)}))
    assert text not in line(told)
    assert line(told).isprintable()


# --- the table of refusals


def refused(name: str, reason: str = "scope") -> Refused:
    return Refused(name, "m", reason, f"detail of {name}")


async def test_a_refusal_ends_when_the_record_is_taken_or_the_rules_change() -> None:
    """And when the feed is read from its start, as all of them are told again then."""
    table = Refusals(Told())
    table.judged_under("p", "rules")
    for name in ("one", "two"):
        table.note("p", "peer", "this node", refused(name))
    assert table.here("p") == {"scope": 2}
    table.taken("p", ["one", "other"])
    table.judged_under("p", "rules")
    assert table.here("p") == {"scope": 1}
    table.judged_under("p", "other rules")
    assert table.here("p") == {}
    table.note("p", "peer", "this node", refused("two"))
    table.begun_anew("p")
    assert table.here("p") == {}


async def test_what_a_peer_refuses_is_its_last_word() -> None:
    """Whatever it named before."""
    table = Refusals(Told())
    table.note("p", "peer", THEIRS, refused("one"))
    assert table.there("p") == {"scope": 1}
    table.heard("p", Standing(1, OURS, True, {"scope": 4, "key_revoked": 1}), 1)
    assert table.there("p") == {"scope": 4, "key_revoked": 1}
    table.heard("p", Standing(1, OURS, True), 1)
    assert (table.there("p"), table.said("p", THEIRS)) == ({}, None)


async def test_a_message_that_was_overtaken_is_not_the_last_word() -> None:
    """Two requests are under way at a time; a clock that was set back by an hour says new things all the same."""
    table = Refusals(Told())
    table.heard("p", Standing(1, OURS, True, {"scope": 1}, 7_200 * moment.SECOND), 1)
    table.heard("p", Standing(1, OURS, True, {}, 7_199 * moment.SECOND), 1)
    assert table.there("p") == {"scope": 1}
    table.heard("p", Standing(1, OURS, True, {}, 3_600 * moment.SECOND), 1)
    assert table.there("p") == {}


@pytest.mark.parametrize(
    "told",
    [
        Standing(1, "xyz"),
        Standing(1, OURS.upper()),
        Standing(-1, OURS),
        Standing(2**60, OURS),
        Standing(1, OURS, at=-1),
    ],
    ids=str,
)
def test_a_standing_that_cannot_be_is_malformed(told: Standing) -> None:
    """With what was found and what is expected."""
    with pytest.raises(RemoteError, match=r"standing: .*found"):
        checked(told)


def test_a_standing_has_few_reasons() -> None:
    """Whatever a peer counts: names of another form, counts below 1 and more than 16 reasons are not taken in."""
    many = {f"reason_{chr(97 + number)}": 2**60 for number in range(26)}
    told = checked(Standing(1, OURS, refusing={"Bad Name": 1, "\n": 1, "none": 0, "less": -1, **many}))
    assert told is not None and len(told.refusing) == 16
    assert set(told.refusing.values()) == {2**53}


async def test_the_table_is_bounded() -> None:
    """Of more records than are remembered by name only the number is."""
    table = Refusals(Told())
    for number in range(2_500):
        table.note("p", "peer", "this node", refused(str(number)))
    assert table.here("p") == {"scope": 2_500}
    assert len(table._peers["p"].ours) == 1_000


async def test_reasons_that_a_peer_invents_are_not_counted_here() -> None:
    """One for each of its answers would fill this table; what it refuses is its last word, and no more."""
    table = Refusals(Told())
    for number in range(2_500):
        table.note("p", "peer", THEIRS, Refused(str(number), "m", f"invented {number}", "x"))
    assert table.here("p") == {}
    kept = table._peers["p"]
    assert (len(kept.theirs), len(kept.more)) == (1_000, 0)


# --- real nodes


async def exits(caller: Caller) -> int:
    return exit_code((await caller("GET", "/sync/status")).json)


async def test_two_nodes_that_keep_the_same_are_identical(mesh: Mesh) -> None:
    """Also the one that is only called: each tells its digest with what it sends and with what it answers."""
    place_a, place_b = pair(mesh, BRISK)
    place_b.configure(place_a.as_peer(url=None))
    async with serving(place_a, place_b) as [(_, a), (_, b)]:
        await write(a, "one", "two")
        await eventually(has(b, "one", "two"))
        for caller, name in ((a, "b"), (b, "a")):
            told = await eventually(standing_is(caller, name, "identical"))
            assert told["digest"] == (await caller("GET", "/stats")).json["digest"]
            assert await exits(caller) == 0


async def test_a_peer_that_tells_no_digest_is_not_called_identical(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: without the word of the peer nothing is proved, and nothing is claimed."""
    monkeypatch.setattr(Exchange, "heard", lambda *_: None)
    async with serving(*pair(mesh, BRISK)) as [(_, a), (_, b)]:
        await write(a, "one")
        await eventually(has(b, "one"))
        await eventually(standing_is(a, "b", "in_step"))


@pytest.mark.parametrize(
    "changes", [{"read": ("n",)}, {"write": ("n",)}, {"direction": "push"}, {"direction": "pull"}], ids=str
)
async def test_within_a_scope_no_more_is_said_than_that(mesh: Mesh, changes: dict[str, Any]) -> None:
    """Where the rules of either side leave something out, what lies outside is not said to agree."""
    place_a, place_b = pair(mesh, BRISK)
    other = {"push": "pull", "pull": "push"}
    place_a.configure(place_b.as_peer(**changes))
    if "direction" in changes:
        place_b.configure(place_a.as_peer(url=None, direction=other[changes["direction"]]))
    async with serving(place_a, place_b) as [(_, a), (_, b)]:
        for caller in (b, a):  # so that b has something of its own when a first tells where it stands
            body = {"title": f"in m {caller is a}", "content": "text", "namespace": "m"}
            assert (await caller("POST", "/memories", body)).status == 201
        told = await eventually(standing_is(a, "b", "in_scope", "refusing"))
        assert "everything" not in told["reason"]


async def test_what_the_other_side_refuses_is_told_for_as_long_as_it_does(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By number and reason, on both sides; and ends on both once the other side takes it."""
    await _refused_there(mesh)


async def test_without_the_peers_word_its_refusals_would_stay_for_ever(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Control: what it named once is all that would be known."""
    monkeypatch.setattr(Exchange, "heard", lambda *_: None)
    monkeypatch.setattr("nodes.eventually.__defaults__", (3.0,))
    with pytest.raises(TimeoutError):
        await _refused_there(mesh)


async def _refused_there(mesh: Mesh) -> None:
    place_a, place_b = pair(mesh, BRISK)
    place_b.configure(place_a.as_peer(write=("other",)))
    async with serving(place_a, place_b) as [(_, a), (_, b)]:
        await write(a, "one", "two", "three")
        told = await eventually(standing_is(a, "b", "refusing"))
        assert told["refused_there"] == {"scope": 3} and "scope" in told["reason"]
        assert await exits(a) == 10
        here = await eventually(standing_is(b, "a", "refusing"))
        assert here["refused_here"] == {"scope": 3}
        place_b.configure(place_a.as_peer())
        await eventually(has(b, "one", "two", "three"))
        for caller, name in ((a, "b"), (b, "a")):
            told = await eventually(standing_is(caller, name, "identical"))
            assert (told["refused"], told["refused_here"], told["refused_there"]) == (0, {}, {})


async def test_a_side_that_refuses_everything_is_not_in_step(mesh: Mesh) -> None:
    """One that takes nothing by its direction says so to every push."""
    place_a, place_b = pair(mesh, BRISK)
    place_b.configure(place_a.as_peer(direction="push"))
    async with serving(place_a, place_b) as [(_, a), _]:
        await write(a, "one")
        told = await eventually(standing_is(a, "b", "refused"))
        assert "takes nothing from you" in told["reason"]
        assert await exits(a) == 14


async def test_a_record_that_comes_again_whole_ends_its_refusal(mesh: Mesh) -> None:
    """Refused alone for its limits, it is corrected by its author: nothing is refused now."""
    place = Place(mesh, "a", QUIET)
    place.configure(peer("friend", mesh.friend.fingerprint))
    place.list(mesh.friend.fingerprint)
    async with serving(place) as [(daemon, client)], federation(daemon, mesh, mesh.friend) as friend:
        bad = memory("one", at=AT)
        bad["metadata"]["attestation"]["content"] = "00" * 32
        answer = (await friend("POST", "/sync/push", push(bad))).json
        assert answer["standing"]["refusing"] == {answer["refused"][0]["reason"]: 1}
        assert (await status_of(client, "friend"))["refused"] == 1
        answer = (await friend("POST", "/sync/push", push(memory("one", at=AT + 1, clock=2)))).json
        assert (answer["refused"], answer["standing"]["refusing"]) == ([], {})
        assert (await status_of(client, "friend"))["refused"] == 0


async def test_what_was_refused_before_a_restart_is_found_again(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table is gone with the process; the digests differ, and the peer's feed is read once more to say why."""
    await _found_again(mesh, monkeypatch)


async def test_without_reading_again_only_the_difference_is_known(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control."""
    monkeypatch.setattr("node.links.Links.read_all", lambda *_: None)
    monkeypatch.setattr("nodes.eventually.__defaults__", (3.0,))
    with pytest.raises(TimeoutError):
        await _found_again(mesh, monkeypatch)


async def _found_again(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemons, "RETRY_WAITING", 0.1)
    place_a, place_b = pair(mesh, BRISK)
    async with serving(place_a) as [(daemon_a, a)]:
        await write(a, *(f"title {number}" for number in range(5)))
        key = key_text(daemon_a.store.keys.author(daemon_a.engine.agent).key)
        keyring = place_b.home.path / "keyring"
        keyring.write_text(f"{key} {daemon_a.engine.agent} revoked=2020-01-01T00:00:00Z\n")
        async with serving(place_b) as [(_, b)]:
            told = await eventually(standing_is(b, "a", "refusing"))
            assert told["refused_here"] == {"key_revoked": 5}
        async with serving(place_b) as [(_, b)]:
            told = await eventually(standing_is(b, "a", "refusing"))
            assert told["refused_here"] == {"key_revoked": 5}
            assert (await eventually(standing_is(a, "b", "refusing")))["refused_there"] == {"key_revoked": 5}


# --- hearsay


async def test_what_a_peer_reports_about_us_is_no_finding_and_ends_with_it(mesh: Mesh) -> None:
    """It is shown as that peer's word, told to nobody, and gone as soon as the peer says so no more."""
    await _reported(mesh)


async def test_hearsay_that_becomes_a_finding_bounces(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: kept under the key of what this node found, it goes back to whoever said it."""

    def believed(self: Exchange, who: str, names: tuple[str, ...]) -> None:
        self.note(who, tuple(Alarm(name, who, "reported by that peer about this node") for name in names))

    monkeypatch.setattr(Exchange, "heard_of_us", believed)
    monkeypatch.setattr("nodes.eventually.__defaults__", (2.0,))
    with pytest.raises((TimeoutError, AssertionError)):
        await _reported(mesh)


async def _reported(mesh: Mesh) -> None:
    async with serving(*pair(mesh, {**BRISK, ("sync", "pull_interval"): 0.1})) as [(node_a, a), (node_b, b)]:
        about_a = node_a.gate.own_fingerprint.text
        node_b.exchange.note(about_a, (Alarm("duplicate_identity", about_a, "found by b"),))

        async def heard() -> bool:
            return any("take turns" in note for note in (await status_of(a, "b"))["notes"])

        await eventually(heard)
        told = (await a("GET", "/sync/status")).json
        assert told["alarms"] == [] and node_a.exchange.found_about(node_b.gate.own_fingerprint.text) == []
        del node_b.exchange.alarms["duplicate_identity", about_a]

        async def over() -> bool:
            return not (await status_of(a, "b"))["notes"]

        await eventually(over)
        for caller in (a, b):
            assert (await caller("GET", "/sync/status")).json["alarms"] == []


async def test_a_report_ends_when_its_reporter_is_gone(mesh: Mesh) -> None:
    """Whom nobody can ask any more says nothing."""
    place_a, place_b = pair(mesh, {**BRISK, ("sync", "pull_interval"): 0.1})
    async with serving(place_a) as [(node_a, a)]:
        async with serving(place_b) as [(node_b, _)]:
            about_a = node_a.gate.own_fingerprint.text
            node_b.exchange.note(about_a, (Alarm("duplicate_identity", about_a, "found by b"),))
            await until(lambda: bool(node_a.exchange.reported))
        await eventually(standing_is(a, "b", "unreachable"))
        assert node_a.exchange.reported == {}


async def test_a_finding_ends_when_it_is_not_seen_any_more(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two lives behind one certificate are a state: once one of them is gone, so is the alarm. A lie is an event."""
    async with serving(*pair(mesh, QUIET)) as [(node_a, a), _]:
        for kind in ("duplicate_identity", "forged_claim"):
            node_a.exchange.note("sha256:" + "cc" * 32, (Alarm(kind, "", "seen"),))
        assert len((await a("GET", "/sync/status")).json["alarms"]) == 2
        monkeypatch.setattr("node.exchange.ALARM_LASTS", -1)
        assert [one["kind"] for one in (await a("GET", "/sync/status")).json["alarms"]] == ["forged_claim"]
