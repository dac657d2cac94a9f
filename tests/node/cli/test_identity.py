"""Commands about agents' keys: the same from a running node, and from the store where none runs."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from commands import WAYS, Ran, new_home, reached_by, run

from node.home import Home
from sync import keyline
from sync.keyline import Entry

Command = Callable[..., Ran]
NAMES = ("../x", "a/b", "/etc/passwd", "..", "a//b", "./.")
"""Agents whose ids would lead somewhere, if they were ever taken for paths."""


@pytest.fixture(scope="module", params=WAYS)
def home(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """A folder where no node runs, and one where a node does."""
    with reached_by(request.param, tmp_path_factory.mktemp("identity")) as made:
        yield made


@pytest.fixture
def ai(home: Home) -> Command:
    def command(*arguments: str) -> Ran:
        return run("identity", *arguments, home=home)

    return command


def wrote(home: Home, agent: str, title: str) -> str:
    """The key that a new memory of an agent is signed with."""
    made = run("store", title, "text", "--agent-id", agent, "--json", home=home).json
    found = run("get", made["id"], "--json", home=home).json["memory"]
    return f"ed25519:{found['metadata']['attestation']['key']}"


def keys_of(home: Home, agent: str) -> list[str]:
    """The keys of an agent, the current one first."""
    told = run("identity", "list", "--json", home=home).json["identities"]
    return [key["key"] for one in told if one["agent"] == agent for key in one["keys"]]


def entry(line: str) -> Entry:
    found = keyline.read(line.rstrip("\n"), "a line", 1)
    assert isinstance(found, Entry), found
    return found


def test_a_key_is_told_as_a_line_for_the_keyring(home: Home, ai: Command) -> None:
    """With the node's name behind it, or what was asked for; it is the key that the agent signs with."""
    line = entry(ai("generate", "ai:new").out)
    assert (line.agent, line.label, line.succession) == ("ai:new", "desk", None)
    assert entry(ai("generate", "ai:new", "--label", "mine").out).label == "mine"
    told = ai("generate", "ai:new", "--json").json
    assert told["key"] == keyline.key_text(line.key) == wrote(home, "ai:new", "by a new agent")
    assert keys_of(home, "ai:new") == [told["key"]]


def test_a_rotated_key_signs_at_once(home: Home, ai: Command) -> None:
    """The running node too; the line says which key signed it."""
    old = wrote(home, "ai:rotates", "before")
    line = entry(ai("rotate", "ai:rotates").out)
    assert line.succession is not None
    assert keyline.key_text(line.succession.after) == old
    assert wrote(home, "ai:rotates", "after") == keyline.key_text(line.key) != old
    assert keys_of(home, "ai:rotates") == [keyline.key_text(line.key), old]
    again = entry(ai("generate", "ai:rotates").out)
    assert (again.key, again.succession) == (line.key, line.succession)


def test_one_agent_has_one_key_on_two_machines(home: Home, ai: Command, tmp_path: Path) -> None:
    """Carried in an encrypted file; each signs with it at once."""
    secret = tmp_path / "secret"
    secret.touch(0o600)
    secret.write_text("of the file")
    file, other = tmp_path / "key.pem", new_home(tmp_path, "laptop")
    ours = wrote(home, "ai:both", "here")
    options = ("--passphrase-file", str(secret))
    assert ai("export", "ai:both", "--to", str(file), *options).code == 0
    assert wrote(other, "ai:both", "there, before") != ours
    told = run("identity", "import", "ai:both", str(file), *options, "--json", home=other).json
    assert (told["key"], told["origin"], told["changed"]) == (ours, "imported", True)
    assert wrote(other, "ai:both", "there, after") == ours
    assert not run("identity", "import", "ai:both", str(file), *options, "--json", home=other).json["changed"]


def test_an_imported_key_signs_at_once(home: Home, ai: Command, tmp_path: Path) -> None:
    """On this node, whether it runs or not."""
    other = new_home(tmp_path, "laptop")
    theirs = wrote(other, "ai:comes", "there")
    run("identity", "export", "ai:comes", "--to", str(tmp_path / "key.pem"), home=other)
    before = wrote(home, "ai:comes", "here, before")
    assert ai("import", "ai:comes", str(tmp_path / "key.pem")).code == 0
    assert wrote(home, "ai:comes", "here, after") == theirs != before
    assert keys_of(home, "ai:comes") == [theirs, before]


@pytest.mark.parametrize("agent", NAMES)
def test_an_agents_id_leads_to_no_file(home: Home, ai: Command, tmp_path: Path, agent: str) -> None:
    """Only the file that was named is written, whatever the agent is called."""
    folder = tmp_path / "in" / "here"
    folder.mkdir(parents=True)
    before = set(home.path.parent.rglob("*"))
    assert ai("generate", agent).code == ai("rotate", agent).code == 0
    assert ai("export", agent, "--to", str(folder / "key")).code == 0
    assert ai("import", agent, str(folder / "key")).code == 0
    assert set(home.path.parent.rglob("*")) - before <= {Path(f"{home.path}/store.db{x}") for x in ("-wal", "-shm")}
    assert set(tmp_path.rglob("*")) == {tmp_path / "in", folder, folder / "key"}


@pytest.mark.parametrize("agent", ["a\0b", "", "a b", "..\\x", "x" * 129])
@pytest.mark.parametrize("words", [("generate",), ("rotate",), ("export", "--to", "key"), ("import", "key")])
def test_what_is_no_agent_id_is_refused(
    ai: Command, agent: str, words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By every command, before anything is done."""
    monkeypatch.chdir(tmp_path)
    name, *rest = words
    told = ai(name, "--json", *(rest if name == "export" else ()), "--", agent, *(rest if name == "import" else ()))
    assert (told.code, told.error["code"]) == (5, "invalid")
    assert "agent_id" in told.error["error"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", [("rotate",), ("export", "--to", "key")])
def test_an_agent_that_has_no_key_gets_none_by_a_slip(
    home: Home, ai: Command, words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told what agents there are. (Control: tests/node/test_identities.py, within a process.)"""
    monkeypatch.chdir(tmp_path)
    wrote(home, "ai:alice", "by her")
    before = run("identity", "list", "--json", home=home).json
    name, *rest = words
    told = ai(name, "ai:alcie", *rest, "--json")
    assert (told.code, told.error["code"]) == (1, "not_found")
    text = told.error["error"]
    assert text.startswith("agent ai:alcie has no key here; did you mean ai:alice? there are: ")
    assert text.endswith(". `ai-memory identity generate ai:alcie` makes it one")
    assert run("identity", "list", "--json", home=home).json == before
    assert not (tmp_path / "key").exists()


def test_who_wrote_or_is_the_node_has_a_key(home: Home, ai: Command, tmp_path: Path) -> None:
    """Though no row of the store names the key yet."""
    wrote(home, "ai:writes", "by a writer")
    for agent in ("ai:writes", "host:desk"):
        assert ai("export", agent, "--to", str(tmp_path / agent.replace(":", "-"))).code == 0
        assert ai("rotate", agent).code == 0


def test_a_file_with_a_key_is_never_overwritten(ai: Command, tmp_path: Path) -> None:
    """And a wide one never read."""
    file = tmp_path / "key"
    assert ai("generate", "ai:once").code == ai("generate", "ai:twice").code == 0
    assert ai("export", "ai:once", "--to", str(file)).code == 0
    before = file.read_bytes()
    told = ai("export", "ai:twice", "--to", str(file), "--json")
    assert (told.code, file.read_bytes()) == (2, before)
    assert "a new file expected" in told.error["error"]
    file.chmod(0o640)
    assert "mode is 0640" in ai("import", "ai:once", str(file), "--json").error["error"]


def test_another_agents_key_is_refused(ai: Command, tmp_path: Path) -> None:
    """Its keyring line would be the second one for that key."""
    assert ai("generate", "ai:owner").code == 0
    assert ai("export", "ai:owner", "--to", str(tmp_path / "key")).code == 0
    told = ai("import", "ai:thief", str(tmp_path / "key"), "--json")
    assert told.code == 5
    assert "the key of ai:owner here" in told.error["error"]


def test_no_private_key_is_printed(home: Home, ai: Command, tmp_path: Path) -> None:
    """By no command, in neither form. (Control: the file that was asked for has it.)"""
    file = tmp_path / "key"
    ran = [ai("generate", "ai:quiet"), ai("rotate", "ai:quiet", "--json"), ai("export", "ai:quiet", "--to", str(file))]
    ran += [ai("import", "ai:quiet", str(file)), ai("list"), ai("list", "--json")]
    secret = file.read_text().splitlines()[1]
    told = "".join(one.out + one.err for one in ran)
    assert secret[-43:] not in told
    assert "PRIVATE" not in told
    assert len(secret) == 64
    assert json.loads(ran[-1].out)["identities"]


def test_a_running_node_is_not_held_up(home: Home, tmp_path: Path) -> None:
    """Keys are taken in beside it while it writes, and none of its writes is refused."""
    other = new_home(tmp_path, "laptop")
    assert run("identity", "generate", "ai:busy", home=other).code == 0
    assert run("identity", "export", "ai:busy", "--to", str(tmp_path / "key"), home=other).code == 0
    for number in range(10):
        assert run("store", f"busy {number}", "text", home=home).code == 0
        assert run("identity", "import", "ai:busy", str(tmp_path / "key"), home=home).code == 0


@pytest.fixture
def keyring(home: Home) -> Iterator[Path]:
    """The node's keyring file, which is not there yet, and gone at the end."""
    path = home.path / "keyring"
    yield path
    path.unlink(missing_ok=True)


def test_a_line_of_another_operator_is_enrolled(home: Home, ai: Command, keyring: Path, tmp_path: Path) -> None:
    """As it was printed, or as key and agent; then `list` and `verify` know it."""
    wrote(home, "ai:known", "by a known agent")
    line = ai("generate", "ai:known").out
    assert ai("enroll", line).code == 0
    assert keyring.read_text().endswith(line)
    told = next(one for one in ai("list", "--json").json["identities"] if one["agent"] == "ai:known")
    assert [one["keyring"] for one in told["keys"]] == ["enrolled"]
    key = told["keys"][0]["key"]
    assert not ai("enroll", key, "ai:known", "--json").json["changed"]
    made = run("store", "attested", "text", "--agent-id", "ai:known", "--json", home=home).json["id"]
    if home.running() is None:
        assert run("verify", made, "--require", "attested", home=home).code == 0


def test_a_rotation_is_written_into_the_keyring(home: Home, ai: Command, keyring: Path) -> None:
    """Where the key before stands there; control: of an agent that does not, nothing is written."""
    ai("enroll", ai("generate", "ai:ring").out)
    told = ai("rotate", "ai:ring", "--json").json
    assert told["enrolled"]
    assert keyring.read_text().splitlines()[-1] == told["line"]
    before = keyring.read_bytes()
    assert ai("generate", "ai:nobody").code == 0
    assert not ai("rotate", "ai:nobody", "--json").json["enrolled"]
    assert keyring.read_bytes() == before


def test_a_broken_keyring_stops_a_rotation(home: Home, ai: Command, keyring: Path) -> None:
    """Before the agent has another key. (Control: without the file it gets one.)"""
    key = ai("generate", "ai:careful", "--json").json["key"]
    keyring.write_text("oops\n")
    told = ai("rotate", "ai:careful", "--json")
    assert (told.code, told.error["code"]) == (1, "keyring")
    assert "keyring:1:1" in told.error["error"]
    assert ai("generate", "ai:careful", "--json").json["key"] == key
    keyring.unlink()
    assert ai("rotate", "ai:careful", "--json").json["key"] != key


def test_a_stolen_key_is_revoked(home: Home, ai: Command, keyring: Path) -> None:
    """By its agent's id or by itself, from now or from a time on."""
    ai("enroll", ai("generate", "ai:stolen").out)
    told = ai("revoke", "ai:stolen", "--at", "2026-01-31T12:00:00+01:00", "--json").json
    assert told["at"] == "2026-01-31T11:00:00.000000+00:00"
    assert "revoked=2026-01-31T11:00:00.000000+00:00" in keyring.read_text()
    again = ai("revoke", told["revoked"][0], "--json").json
    assert again["revoked"] == told["revoked"]
    assert ai("revoke", "ai:stolen", "--at", "soon").code == 5
    unheard = ai("revoke", "ai:unheard-of", "--json")
    assert (unheard.code, unheard.error["code"]) == (1, "not_found")
    assert "no line of" in unheard.error["error"]


@pytest.mark.parametrize("words", [("oops",), ("ed25519:oops", "ai:x"), (f"ed25519:{'A' * 43}", "ai:x")])
def test_what_is_no_key_is_not_enrolled(ai: Command, keyring: Path, words: tuple[str, ...]) -> None:
    """No key, too short a one, and one of small order, under which anything could be signed."""
    assert ai("enroll", *words).code == 5
    assert not keyring.exists()
