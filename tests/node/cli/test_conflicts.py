"""Commands about conflicts: the same answers from a running node, and from the store where none runs."""

import itertools
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from commands import WAYS, Ran, reached_by, run
from stamps import stamp

from node.cli import conflicts as module
from node.cli.backend import Backend, backend
from node.cli.context import Invocation
from node.home import Home
from sync import moment
from sync.attest import Unsigned
from sync.draft import Fields, new_memory
from sync.ids import memory_id
from sync.link import link_version
from sync.record import memory_version
from sync.version import Version

Command = Callable[..., Ran]
ONE, OTHER = "1a" * 8, "2b" * 8
X = Unsigned("ai:x")
_titles = (f"title {number}" for number in itertools.count(1))


@pytest.fixture(scope="module", params=WAYS)
def home(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """A folder where no node runs, and one where a node does."""
    with reached_by(request.param, tmp_path_factory.mktemp("conflicts")) as made:
        yield made


@pytest.fixture
def ai(home: Home) -> Command:
    def command(*arguments: str, **options: Any) -> Ran:
        return run("conflicts", *arguments, home=home, **options)

    return command


@pytest.fixture
def conflict(home: Home, ai: Command) -> Iterator[Version]:
    """A memory of which two versions are kept; the one returned wins. Settled at the end."""
    winner, loser = apart()
    adopt(home, winner, loser)
    yield winner
    ai("resolve", "--all", "--keep", "winner", "--yes")


def apart() -> tuple[Version, Version]:
    """Two versions of one new memory, the winner first."""
    title = next(_titles)
    winner = version(title, "first line\nof one", OTHER, 5, tags=["t"])
    return winner, version(title, "first line\nof other", ONE, 3)


def version(title: str, content: str, life: str, seconds: int, **fields: Any) -> Version:
    """A memory as another node, that has seen nothing of it, wrote it. `seconds`: its time, from a minute ago."""
    at = time.time_ns() // 1_000 + (seconds - 60) * 1_000_000
    asked = Fields(title=title, content=content, namespace="apart", tier="long", **fields)
    draft = new_memory(asked, memory_id("apart", title, 0), at)
    return memory_version(draft, Unsigned(f"ai:{life[:2]}"), stamp({life: next(_counters) << 20}))


_counters = itertools.count(1)


def adopt(home: Home, *some: Version, kind: str = "memories") -> None:
    """Have the store take in versions, as they are."""
    with backend(Invocation(home, True)) as node:
        take(node, *some, kind=kind)


def take(node: Backend, *some: Version, kind: str = "memories") -> None:
    asked: dict[str, Any] = {"memories": [], kind: [json.loads(one.doc) for one in some]}
    answer = node.adopt(json.dumps(asked).encode())
    assert [one["outcome"] for one in answer["outcomes"]] == ["taken"] * len(some), answer


def tags(ai: Command, record_id: str) -> list[str]:
    return [one["tag"] for one in ai("show", record_id, "--json").json["versions"]]


def is_settled(ai: Command, record_id: str) -> bool:
    return ai("show", record_id).code == 1


def content(home: Home, record_id: str) -> str:
    return str(run("get", record_id, "--json", home=home).json["memory"]["content"])


def test_a_list_names_each_with_all_that_is_kept(ai: Command, conflict: Version) -> None:
    """For people the winner and the others in a line each; as JSON whole records."""
    told = ai("list", "--json").json
    assert (set(told), told["count"]) == ({"conflicts", "shared_titles", "count"}, 1)
    assert told["conflicts"][0]["versions"][0]["record"]["content"] == "first line\nof one"
    head, first, second = ai("list").out.splitlines()
    assert head.split()[:2] == [conflict.id, "apart"]
    assert head.endswith(conflict.title)
    assert first.split()[:2] == ["wins", conflict.tag.hex()[:12]]
    assert second.split()[0] == "kept"
    assert first.endswith("first line of one") and second.endswith("first line of other")


def test_a_list_comes_in_pages(ai: Command, home: Home, conflict: Version) -> None:
    """And says how to go on."""
    adopt(home, *apart())
    ran = ai("list", "--limit", "1")
    assert ran.out.splitlines()[-1] == "1 of 2 conflicts; go on with --offset 1"
    rest = ai("list", "--limit", "1", "--offset", "1")
    assert conflict.id in rest.out and "go on" not in rest.out


def test_no_conflicts_is_an_answer(ai: Command) -> None:
    """In words; and settling all of none is done at once."""
    assert ai("list").out == "no conflicts\n"
    assert ai("resolve", "--all", "--keep", "winner").out == "no conflicts\n"


def test_one_is_shown_with_what_is_different_and_why_it_loses(ai: Command, conflict: Version) -> None:
    """Field by field, the content as a unified diff against the winner; and the command that settles it works."""
    out = ai("show", conflict.id[:8]).out
    lines = [line.strip() for line in out.splitlines()]
    assert "loses: an earlier time" in out
    assert 'tags: ["t"] → []' in lines
    assert "| -of one" in lines and "| +of other" in lines and "|  first line" in lines
    command = lines[-1].split()
    assert command[:3] == ["ai-memory", "conflicts", "resolve"]
    ran = ai(*command[2:])
    assert (ran.code, is_settled(ai, conflict.id)) == (0, True)


@pytest.mark.parametrize("way", ["winner", "the other", "a file", "standard input", "delete"])
def test_each_way_to_settle(ai: Command, home: Home, conflict: Version, way: str, tmp_path: Any) -> None:
    """After it one version is kept, with what was chosen."""
    text = tmp_path / "merged"
    text.write_text("merged ä")
    winner, other = tags(ai, conflict.id)
    options, wanted = {
        "winner": (("--keep", "winner"), "first line\nof one"),
        "the other": (("--keep", other[:8]), "first line\nof other"),
        "a file": (("--content", str(text)), "merged ä"),
        "standard input": (("--content", "-"), "typed"),
        "delete": (("--delete",), None),
    }[way]
    ran = ai("resolve", conflict.id, *options, "--yes", "--json", "--agent-id", "ai:me", stdin="typed")
    assert (ran.json["resolved"], ran.json["agent"], ran.json["let_go"]) == (True, "ai:me", [winner, other])
    assert is_settled(ai, conflict.id)
    if wanted is not None:
        assert content(home, conflict.id) == wanted
    else:
        assert run("get", conflict.id, home=home).code == 1


def test_a_person_is_asked_with_all_that_goes(ai: Command, home: Home, conflict: Version) -> None:
    """Whoever says no, or nothing, lets go of nothing."""
    for answer in ("n\n", ""):
        ran = ai("resolve", conflict.id, "--keep", "winner", stdin=answer)
        assert (ran.code, ran.out) == (1, "")
        assert "+of other" in ran.err and ran.err.endswith("ai-memory: nothing was settled\n")
    assert len(tags(ai, conflict.id)) == 2
    ran = ai("resolve", conflict.id, "--keep", "winner", stdin="y\n")
    assert (ran.code, is_settled(ai, conflict.id)) == (0, True)
    assert ran.out.endswith("in place of 2 versions\n")


def test_what_came_meanwhile_refuses_the_settling(ai: Command, home: Home, conflict: Version) -> None:
    """A third version that nobody has named: the answer is no, and all three stay."""
    seen = [option for tag in tags(ai, conflict.id) for option in ("--expected", tag[:12])]
    adopt(home, version(conflict.title, "first line\nof a third", "3c" * 8, 1))
    ran = ai("resolve", conflict.id, "--keep", "winner", *seen, "--json")
    assert (ran.code, ran.error["code"]) == (1, "conflict_changed")
    assert len(tags(ai, conflict.id)) == 3


def test_an_edit_lost_under_a_delete_is_shown_whole(ai: Command, home: Home, conflict: Version) -> None:
    """Its memory is no reader's any more; the words are there, and can be brought back."""
    run("delete", conflict.id, home=home)
    lost = version(conflict.title, "first line\nof a third", "3c" * 8, 1)
    adopt(home, lost)
    shown = ai("show", conflict.id[:8]).out
    assert "kind: tombstone → memory" in shown
    assert "| of a third" in shown
    assert "(deleted)" in ai("list").out
    assert ai("resolve", conflict.id[:8], "--keep", lost.tag.hex()[:8], "--yes").code == 0
    assert content(home, conflict.id) == "first line\nof a third"


def test_all_are_settled_at_once(ai: Command, home: Home, conflict: Version, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over several pages, with a count and a question."""
    monkeypatch.setattr(module, "PAGE", 2)
    others = [apart() for _ in range(4)]
    adopt(home, *(version for pair in others for version in pair))
    ran = ai("resolve", "--all", "--keep", "winner", stdin="n\n")
    assert (ran.code, len(ai("list", "--json").json["conflicts"])) == (1, 5)
    assert "5 conflicts: keep the winner of each, and let go of 5 versions?" in ran.err
    assert ai("resolve", "--all", "--keep", "winner", stdin="y\n").out.endswith("5 settled\n")
    assert ai("list", "--json").json["count"] == 0
    assert {content(home, one.id) for one, _ in others} == {"first line\nof one"}


def test_all_leaves_alone_what_has_changed_since_it_was_counted(
    ai: Command, home: Home, conflict: Version, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was not seen is not let go; the others are settled, and the answer is no."""
    winner, loser = apart()
    adopt(home, winner, loser)
    third = version(winner.title, "a third", "4d" * 8, 1)
    counted, opened = module._each, []

    def each(node: Any) -> Any:
        opened.append(node)
        return counted(node)

    monkeypatch.setattr(module, "_each", each)
    monkeypatch.setattr(module, "_ask", lambda question: take(opened[0], third))
    ran = ai("resolve", "--all", "--keep", "winner")
    assert (ran.code, ran.err) == (1, "ai-memory: 1 settled; 1 have changed meanwhile and are as they were\n")
    assert (len(tags(ai, winner.id)), is_settled(ai, conflict.id)) == (3, True)


def test_a_link_is_named_by_its_ends(ai: Command, home: Home, conflict: Version) -> None:
    """As the list shows it, or by its source alone where that is enough."""
    at = moment.text(time.time_ns() // 1_000)
    some = [
        link_version(
            "apart",
            "a source",
            "a target",
            "supersedes",
            at,
            Unsigned("ai:x"),
            stamp({life: 1 << 20}),
            valid_until=until,
        )
        for life, until in ((ONE, None), (OTHER, moment.text(0)))
    ]
    adopt(home, *some, kind="links")
    name = "a source supersedes a target"
    assert name in ai("list").out
    shown = ai("show", "a source").out
    assert shown.splitlines()[0] == f"{name}  apart"
    assert "valid_until: " in shown and "the same time and signature, a lesser content digest" in shown
    ran = ai("resolve", "a source", "--delete", "--yes")
    assert (ran.code, ran.out.startswith(f"{name}  settled: unlink ")) == (0, True)


def test_shared_titles_are_told_with_what_to_do(ai: Command, home: Home) -> None:
    """They are no versions of each other, so there is nothing to resolve."""
    run("store", "renamed", "text", "-n", "twins", home=home)
    renamed = memory_id("twins", "renamed", 0)
    draft = new_memory(Fields(title="renamed", content="other", namespace="twins"), "twin", time.time_ns() // 1_000)
    adopt(home, memory_version(draft, Unsigned("ai:x"), stamp({ONE: 9 << 20})))
    told = ai("list", "--json").json["shared_titles"]
    assert [(one["title"], set(one["ids"])) for one in told] == [("renamed", {"twin", renamed})]
    assert "rename one (update ID --title …) or delete it" in ai("list").out
    run("delete", "twin", home=home)
    assert ai("list").out == "no conflicts\n"


WRONG: dict[str, tuple[tuple[str, ...], int, str]] = {
    "no way": (("resolve", "ID"), 2, "exactly one of --keep, --delete and --content is needed"),
    "two ways": (("resolve", "ID", "--delete", "--keep", "winner"), 2, "exactly one of"),
    "no id": (("resolve", "--delete", "--yes"), 2, "one ID is needed, or --all"),
    "an id and all": (("resolve", "ID", "--all", "--keep", "winner", "--yes"), 2, "one ID is needed, or --all"),
    "all deleted": (("resolve", "--all", "--delete", "--yes"), 2, "--all goes with --keep winner"),
    "all of what was seen": (("resolve", "--all", "--keep", "winner", "--expected", "abcd"), 2, "--all goes with"),
    "nobody asked": (("resolve", "ID", "--delete"), 2, "--json does not ask"),
    "no file": (("resolve", "ID", "--content", "/nowhere/at/all", "--yes"), 2, "no such file"),
    "no text": (("resolve", "ID", "--content", "-", "--yes"), 5, "standard input is UTF-16 text, UTF-8 expected"),
    "a tag of nobody": (("resolve", "ID", "--keep", "f0f0f0f0f0", "--yes"), 5, "begins no tag of a kept version"),
    "nothing there": (("show", "00000000-0000"), 1, "no conflict under 00000000-0000: at most one version"),
    "another namespace": (("show", "ID", "-n", "other"), 1, "no conflict under"),
}


def test_what_is_wrong_is_told_and_nothing_is_settled(ai: Command, conflict: Version) -> None:
    """The same from a node and from the store; an option that would be ignored is an error."""
    for case, (words, code, sentence) in WRONG.items():
        asked = (conflict.id if word == "ID" else word for word in words)
        ran = ai(*asked, "--json", stdin=b"\xff\xfe")
        assert (ran.code, sentence in ran.error["error"]) == (code, True), (case, ran.err)
    assert len(tags(ai, conflict.id)) == 2
