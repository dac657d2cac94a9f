"""Commands about memories: the same answers from a running node, and from the store where none runs."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from commands import Ran, edit, new_home, run, serving
from stamps import stamp

from node.cli.backend import backend
from node.cli.context import Invocation
from node.home import Home, Running
from sync.attest import Unsigned
from sync.draft import Fields, new_memory
from sync.ids import memory_id
from sync.record import memory_version

Command = Callable[..., Ran]
KEY = "a key that clients must send"


@pytest.fixture(scope="module", params=["the store", "a node"])
def ai(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Command]:
    """Runs commands in a folder where no node runs, and then in one where a node with an API key does."""
    home = new_home(tmp_path_factory.mktemp("memory"))
    key = home.path / "api-key"
    key.write_text(KEY + "\n")
    key.chmod(0o600)
    edit(home, "local", "api_key_file", '"api-key"')

    def command(*arguments: str, **options: Any) -> Ran:
        return run(*arguments, home=home, **options)

    command.home = home  # type: ignore[attr-defined]  # for tests that bring what a peer wrote

    if request.param == "the store":
        yield command
        return
    with serving(home):
        yield command


def stored(ai: Command, title: str, content: str = "some text", *options: str) -> str:
    """The id of a new memory."""
    return str(ai("store", title, content, "--json", *options).json["id"])


def memory(ai: Command, record_id: str) -> dict[str, Any]:
    return dict(ai("get", record_id, "--json").json["memory"])


def colliding(namespace: str) -> tuple[str, str]:
    """Two titles whose ids begin with the same four characters."""
    seen: dict[str, str] = {}
    for number in range(100_000):
        title = f"collision {number}"
        prefix = memory_id(namespace, title, 0)[:4]
        if prefix in seen:
            return seen[prefix], title
        seen[prefix] = title
    raise AssertionError("ids are not what they were")


# --- what they do


def test_a_memory_lives_through_all_its_commands(ai: Command) -> None:
    """Stored, read, found, changed, promoted, deleted: each answer for a person, and each as JSON."""
    ran = ai(
        "store", "Deploy key", "rotated on Monday", "-n", "ops", "--tag", "keys", "--tag", "prod", "--tier", "short"
    )
    record_id = ran.out.split()[0]
    first, tier = ran.out.splitlines()
    assert first == f"{record_id}  ops  Deploy key"
    assert tier.startswith("short: it expires at 20")
    shown = ai("get", record_id).out
    for words in ("Deploy key", "short", "keys, prod", "expires_at", "\n\nrotated on Monday\n"):
        assert words in shown
    assert record_id in ai("list", "-n", "ops").out
    assert ai("search", "rotated", "monday").out == ai("list", "-n", "ops").out
    changed = ai("update", record_id, "--content", "rotated on Tuesday", "--tag", "new", "--priority", "9")
    assert "rotated on Tuesday" in changed.out
    assert ai("promote", record_id).out == f"{record_id} is long-lived now\n"
    found = memory(ai, record_id)
    assert (found["title"], found["tags"], found["priority"]) == ("Deploy key", ["new"], 9)
    assert (found["tier"], found["source"]) == ("long", "cli")
    assert ai("delete", record_id).out == "deleted\n"
    assert ai("get", record_id).code == 1
    assert ai("search", "rotated").out == "nothing found\n"


def test_memories_are_linked_and_unlinked(ai: Command) -> None:
    """By shortened ids; shown from both ends, and with the memory; what is not linked cannot be unlinked."""
    one, two = stored(ai, "newer", "text", "-n", "linked"), stored(ai, "older", "text", "-n", "linked")
    line = f"{one}  supersedes    {two}\n"
    assert ai("link", one[:8], two[:8], "--relation", "supersedes", "--agent-id", "ai:alice").out == line
    assert ai("links", one[:8]).out == ai("links", two).out == line
    assert ai("get", two).out.endswith(f"\n\ntext\n\n{line}")
    (found,) = ai("links", one, "--json").json["links"]
    assert (found["observed_by"], found["relation"]) == ("ai:alice", "supersedes")
    assert ai("get", one, "--json").json["links"] == [found]
    assert ai("stats", "--json").json["links_count"] == 1
    ai("delete", two)
    assert ai("links", one).out == f"{line[:-1]}  (the second is not here)\n"
    missed = ai("unlink", one, two)
    assert missed.code == 1
    assert missed.err.startswith("ai-memory: there is no such link; `ai-memory links ID` shows")
    assert ai("unlink", one[:8], two, "-r", "supersedes").out == "unlinked\n"
    assert ai("links", one).out == "no links\n"
    assert ai("unlink", one, two, "-r", "supersedes", "--json").code == 1
    for arguments, code in (((one, one), 5), ((one, two), 1), ((one, one[:6]), 5), ((one, two, "-r", "likes"), 2)):
        assert ai("link", *arguments).code == code


def test_the_answers_have_one_form(ai: Command) -> None:
    """The keys of every JSON answer, the same from a node and from the store."""
    record_id = stored(ai, "form", "words to be found", "-n", "form")
    assert set(ai("store", "form", "again", "-n", "form", "--json").json) >= {"id", "namespace", "title", "tier"}
    assert set(ai("get", record_id, "--json").json) == {"memory", "links"}
    assert ai("list", "-n", "form", "--json").json["count"] == 1
    assert [one["id"] for one in ai("search", "again", "-n", "form", "--json").json["results"]] == [record_id]
    assert ai("update", record_id, "--title", "new form", "--json").json["title"] == "new form"
    assert ai("promote", record_id, "--json").json == {"id": record_id, "promoted": True, "tier": "long"}
    assert set(ai("conflicts", "list", "--json").json) == {"conflicts", "shared_titles", "count"}
    stats = ai("stats", "--json").json
    assert {"namespace": "form", "count": 1} in stats["by_namespace"]
    assert ai("delete", record_id, "--json").json == {"deleted": True}
    assert ai("stats", "--json").json["tombstones"] > stats["tombstones"]


def test_a_title_is_stored_once(ai: Command) -> None:
    """Storing it again updates the memory that has it."""
    assert stored(ai, "once", "first", "-n", "once") == stored(ai, "once", "second", "-n", "once")
    assert ai("list", "-n", "once", "--json").json["memories"][0]["content"] == "second"


def test_content_comes_from_standard_input(ai: Command) -> None:
    """For long texts, and for texts of other programs."""
    record_id = str(ai("store", "piped", "-", "--json", stdin="first line\nбв 机\n").json["id"])
    assert memory(ai, record_id)["content"] == "first line\nбв 机\n"
    ai("update", record_id, "--content", "-", stdin="other")
    assert memory(ai, record_id)["content"] == "other"


def test_other_alphabets_are_printed_as_they_are(ai: Command) -> None:
    """For people and as JSON alike."""
    record_id = stored(ai, "Ключ 机", "ü", "-n", "büro/机")
    for ran in (ai("list", "-n", "büro/机"), ai("list", "-n", "büro/机", "--json"), ai("get", record_id)):
        assert "Ключ 机" in ran.out


def test_an_id_may_be_shortened(ai: Command) -> None:
    """As long as only one memory's begins so."""
    record_id = stored(ai, "shortened", "text", "-n", "short")
    assert memory(ai, record_id[:8])["id"] == record_id


def test_a_list_is_narrowed_and_paged(ai: Command) -> None:
    """By namespace, tier and tag; from an offset, up to a limit."""
    for number in range(3):
        stored(
            ai, f"page {number}", "text", "-n", "pages", "--tag", f"t{number}", "--tier", "long" if number else "mid"
        )
    newest_first = ["page 2", "page 1", "page 0"]

    def titles(*options: str) -> list[str]:
        return [one["title"] for one in ai("list", "-n", "pages", "--json", *options).json["memories"]]

    assert titles() == newest_first
    assert titles("--limit", "1", "--offset", "1") == ["page 1"]
    assert titles("--tier", "mid") == ["page 0"]
    assert titles("--tag", "t2") == ["page 2"]


def test_who_writes_is_recorded(ai: Command) -> None:
    """By option, by variable, else the node itself; who wrote first stays the first."""
    for options, env, expected in (
        (("--agent-id", "ai:option"), {"AI_MEMORY_AGENT_ID": "ai:variable"}, "ai:option"),
        ((), {"AI_MEMORY_AGENT_ID": "ai:variable"}, "ai:variable"),
        ((), {}, "host:desk"),
    ):
        ran = ai("store", f"by {expected}", "text", "--json", *options, env=env)
        assert memory(ai, ran.json["id"])["metadata"]["agent_id"] == expected


def test_nothing_to_settle_is_an_answer(ai: Command) -> None:
    """Where no memory lies in the future, none is written again; and the switch says what is meant."""
    assert ai("settle", "--future").out == "0 settled\n"
    assert ai("settle", "--json").error["code"] == "usage"


def test_the_count_of_what_is_held_is_readable(ai: Command) -> None:
    """One line a figure, and the namespaces below."""
    stored(ai, "counted", "text", "-n", "counted")
    text = ai("stats").out
    for word in ("total", "conflicts", "tombstones", "digest", "  counted"):
        assert f"\n{word}" in f"\n{text}"


# --- what they refuse: exit code, and code of the error


UNKNOWN = "00000000-0000-5000-8000-000000000000"
REFUSALS: dict[str, tuple[tuple[str, ...], int, str]] = {
    "get what is not there": (("get", UNKNOWN), 1, "not_found"),
    "update what is not there": (("update", UNKNOWN, "--title", "x"), 1, "not_found"),
    "delete what is not there": (("delete", UNKNOWN), 1, "not_found"),
    "promote what is not there": (("promote", UNKNOWN), 1, "not_found"),
    "an id with a slash in it": (("get", "../stats"), 1, "not_found"),
    "no title": (("store", "", "text"), 5, "invalid"),
    "a title that is too long": (("store", "x" * 513, "text"), 5, "invalid"),
    "a control character": (("store", "x", "a\x07b"), 5, "invalid"),
    "a namespace that is none": (("store", "x", "text", "-n", "a//b"), 5, "invalid"),
    "a priority of 11": (("store", "x", "text", "--priority", "11"), 5, "invalid"),
    "an agent with a space": (("store", "x", "text", "--agent-id", "a b"), 5, "invalid"),
    "a negative offset": (("list", "--offset", "-1"), 5, "bad_query"),
    "a search for nothing": (("search", ""), 5, "bad_query"),
    "nothing to change": (("update", UNKNOWN), 5, "invalid"),
    "bytes that are no text": (("search", "\udcff"), 5, "invalid"),
    "bytes in an id": (("get", "\udcff"), 5, "invalid"),
    "bytes in a tag": (("store", "x", "text", "--tag", "\udcff"), 5, "invalid"),
    "an unknown tier": (("list", "--tier", "forever"), 2, "usage"),
    "a word for a number": (("list", "--limit", "many"), 2, "usage"),
    "no id": (("get",), 2, "usage"),
    "an unknown option": (("stats", "--all"), 2, "usage"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_a_refusal_has_an_exit_code_and_a_code(ai: Command, case: str) -> None:
    """The same from a node and from the store; as JSON one object on standard error, else a line for people."""
    arguments, exit_code, code = REFUSALS[case]
    as_json = ai(*arguments, "--json")
    assert (as_json.code, as_json.error["code"]) == (exit_code, code)
    plain = ai(*arguments)
    assert (plain.code, plain.out) == (exit_code, "")
    assert as_json.error["error"] in plain.err
    if exit_code != 2:  # the usage has a few lines
        assert plain.err == f"ai-memory: {as_json.error['error']}\n"


def test_an_ambiguous_id_is_told(ai: Command) -> None:
    """The answer is no, and the reason is that there are two."""
    one, other = (stored(ai, title, "text", "-n", "same") for title in colliding("same"))
    assert one[:4] == other[:4]
    ran = ai("get", one[:4], "--json")
    assert (ran.code, ran.error["code"]) == (1, "ambiguous_id")


def test_an_id_in_two_namespaces_is_said_with_its_namespace(ai: Command) -> None:
    """A look shows one of them and says so; a change asks which."""
    draft = new_memory(Fields(title="of two", content="theirs", namespace="theirs"), "of-two-places", 10**15)
    other = new_memory(Fields(title="of two", content="others", namespace="others"), "of-two-places", 10**15)
    for number, one in enumerate((draft, other), 1):
        record = json.loads(memory_version(one, Unsigned("ai:x"), stamp({"ab" * 8: number << 20})).doc)
        with backend(Invocation(ai.home, True)) as node:  # type: ignore[attr-defined]  # set above
            node.adopt(json.dumps({"memories": [record]}).encode())
    looked = ai("get", "of-two-places")
    assert "this id is in " in looked.err and "see --namespace" in looked.err
    assert "theirs" in ai("get", "of-two-places", "-n", "theirs").out
    for asked in (("delete",), ("promote",), ("update", "--content", "mine")):
        ran = ai(asked[0], "of-two-places", *asked[1:], "--json")
        assert (ran.code, ran.error["code"]) == (1, "ambiguous_id")
    assert ai("update", "of-two-places", "--in", "theirs", "--content", "changed").code == 0
    assert ai("promote", "of-two-places", "-n", "theirs").code == 0
    assert ai("delete", "of-two-places", "-n", "theirs").code == 0
    assert "others" in ai("get", "of-two-places").out


@pytest.mark.parametrize("verb", ["get", "delete", "promote", "links"])
def test_what_is_not_there_is_named(ai: Command, verb: str) -> None:
    """With what to do next."""
    assert ai(verb, "nothing").err == (
        "ai-memory: no memory here has the id nothing, nor one that begins so; `ai-memory list` shows ids\n"
    )
    assert "of an id at least 4 characters are needed" in ai(verb, "no").err


def test_a_taken_title_is_told(ai: Command) -> None:
    """The answer is no, with the id of the memory that has the title."""
    taken, other = stored(ai, "taken", "text", "-n", "t"), stored(ai, "other", "text", "-n", "t")
    ran = ai("update", other, "--title", "taken", "--json")
    assert (ran.code, ran.error["code"]) == (1, "title_taken")
    assert taken in ran.error["error"]


def test_standard_input_that_is_no_text_is_refused(ai: Command) -> None:
    """A picture, say."""
    ran = ai("store", "picture", "-", stdin=b"\x89PNG\xff", env={"PYTHONIOENCODING": "utf-8"})
    assert ran.code == 5
    assert ran.err.startswith("ai-memory: standard input is not UTF-8 text: byte 0 is 0x89; if it is Latin-1, convert")


# --- where they find a node, or a store


def test_what_was_written_without_a_node_is_there_with_one(tmp_path: Path) -> None:
    """And the other way round: both write the same store."""
    home = new_home(tmp_path)
    run("store", "before", "text", home=home)
    with serving(home):
        assert "before" in run("list", home=home).out
        run("store", "during", "text", home=home)
    titles = {one["title"] for one in run("list", "--json", home=home).json["memories"]}
    assert titles == {"before", "during"}


def test_a_wrong_key_is_told(ai: Command, tmp_path: Path) -> None:
    """A node that asks for a key gets another one: a fault of the configuration. The store asks for none."""
    key = tmp_path / "key"
    key.write_text("wrong")
    key.chmod(0o600)
    ran = ai("stats", "--json", env={"AI_MEMORY_LOCAL_API_KEY_FILE": str(key)})
    if ran.code:
        assert (ran.code, ran.error["code"]) == (2, "unauthorized")
        assert KEY not in ran.err
    else:
        assert "total" in ran.json


def test_a_note_of_a_dead_node_is_passed_over(home: Home) -> None:
    """After a kill -9 the commands work on."""
    home.write_run(Running(2**22 + 1, "http://127.0.0.1:1", None, str(home.path / "store.db"), "5e" * 32))
    assert run("stats", home=home).code == 0
