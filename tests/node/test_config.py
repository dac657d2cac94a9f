"""The configuration: every key documented, in the default file, and overridable from the environment."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from node import config as configuration
from node.config import OTHER_VARIABLES, Config, ConfigError, load, parse
from node.settings import PEER_SETTINGS, SETTINGS, Setting
from node.setup import default_config
from tls import ownership

HEX = "0123456789abcdef" * 4
OTHER = "fedcba9876543210" * 4
BY_NAME = {f"{one.section}.{one.key}": one for one in SETTINGS}

# What each setting can be changed to: as TOML, as the environment has it, and the value that both stand for.
CHANGED: dict[str, tuple[str, str, Any]] = {
    "node.name": ('"attic"', "attic", "attic"),
    "node.agent_id": ('"host:attic"', "host:attic", "host:attic"),
    "store.path": ('"other.db"', "other.db", "other.db"),
    "store.passphrase_file": ('"secret"', "secret", "secret"),
    "store.passphrase_command": ('["pass", "show"]', "pass,show", ["pass", "show"]),
    "store.readers": ("4", "4", 4),
    "federation.listen": ('"[::1]:1"', "[::1]:1", "[::1]:1"),
    "federation.handshake_timeout": ("2.5", "2.5", 2.5),
    "federation.max_handshakes": ("3", "3", 3),
    "federation.max_handshakes_per_address": ("2", "2", 2),
    "federation.max_connections": ("9", "9", 9),
    "federation.max_connections_per_peer": ("4", "4", 4),
    "federation.default_read": ('["a/**", "b"]', "a/**,b", ["a/**", "b"]),
    "federation.default_write": ('["c"]', "c", ["c"]),
    "federation.default_legacy": ("true", "yes", True),
    "federation.default_allow_unsigned": ("true", "yes", True),
    "local.listen": ('"localhost:80"', "localhost:80", "localhost:80"),
    "local.api_key_file": ('"key"', "key", "key"),
    "local.allow_non_loopback": ("true", "yes", True),
    "local.hosts": ('["node.example"]', "node.example", ["node.example"]),
    "local.max_body": ("2048", "2048", 2048),
    "tls.cert": ('"c.pem"', "c.pem", "c.pem"),
    "tls.key": ('"k.pem"', "k.pem", "k.pem"),
    "tls.ca": ('"a.pem"', "a.pem", "a.pem"),
    "tls.allowlist": ('"friends"', "friends", "friends"),
    "trust.keyring": ('"keys"', "keys", "keys"),
    "trust.policy": ('"enrolled"', "enrolled", "enrolled"),
    "sync.pull_interval": ("7", "7", 7.0),
    "sync.page_records": ("50", "50", 50),
    "sync.page_bytes": ("65536", "65536", 65_536),
    "sync.retry_first": ("0.5", "0.5", 0.5),
    "sync.retry_longest": ("90.0", "90", 90.0),
    "sync.request_timeout": ("5", "5", 5.0),
    "log.format": ('"json"', "json", "json"),
    "log.level": ('"debug"', "debug", "debug"),
}
KEY_FILE = {"AI_MEMORY_LOCAL_API_KEY_FILE": "key"}
"""What makes `allow_non_loopback` possible."""


def read(text: str, environment: Mapping[str, str] | None = None) -> Config:
    return parse(text, "config.toml", environment or {})


def peer(name: str = "desk", fingerprint: str = HEX, **more: str) -> str:
    keys = {"name": f'"{name}"', "fingerprint": f'"sha256:{fingerprint}"', **more}
    return "[[peer]]\n" + "".join(f"{key} = {value}\n" for key, value in keys.items())


# --- every setting


def test_the_table_of_changes_covers_every_setting() -> None:
    """A setting that is added must be added to these tests, too."""
    assert list(CHANGED) == list(BY_NAME)


@pytest.mark.parametrize("setting", [*SETTINGS, *PEER_SETTINGS], ids=lambda one: f"{one.section}.{one.key}")
def test_every_setting_is_explained_in_the_default_file(setting: Setting) -> None:
    """The file that `init` writes has each key, with its explanation in the line above."""
    assert len(setting.doc) > 5
    assert setting.doc.endswith(".")
    prefix = "# " if setting.section == "peer" else ""
    text = default_config("desk")
    section = text if setting.section == "peer" else text.split(f"\n[{setting.section}]\n")[1].split("\n[")[0]
    lines = section.splitlines()
    at = lines.index(f"{prefix}# {setting.doc}")
    assert lines[at + 1].removeprefix("# ").removeprefix("# ").startswith(f"{setting.key} = ")


def test_the_default_file_says_what_the_defaults_are() -> None:
    """Apart from the node's name, a file as `init` writes it changes nothing."""
    made, nothing = read(default_config("desk")), read("")
    assert made["node", "name"] == "desk"
    for setting in SETTINGS[1:]:
        assert made[setting.section, setting.key] == nothing[setting.section, setting.key] == setting.default


@pytest.mark.parametrize("name", list(BY_NAME)[1:])
def test_a_line_of_the_default_file_can_be_uncommented(name: str) -> None:
    """Each key works as it stands there once its # is taken away, and stands for its default where it has one."""
    section, key = name.split(".")
    head, body = default_config("desk").split(f"\n[{section}]\n")
    assert f"\n# {key} = " in body
    config = read(f"{head}\n[{section}]\n{body.replace(f'# {key} = ', f'{key} = ', 1)}", KEY_FILE)
    default = BY_NAME[name].default
    assert config[section, key] == default if default is not None else config[section, key]


def test_the_example_of_a_peer_can_be_uncommented() -> None:
    """With the # before its lines taken away and a fingerprint put in, the example is a peer."""
    head, example = default_config("desk").split("# [[peer]]\n")
    lines = ["[[peer]]", *(line.removeprefix("# ") for line in example.splitlines())]
    config = read(head + "\n".join(lines).replace("sha256:…", f"sha256:{HEX}"))
    assert [(one.name, one.fingerprint.hex, one.direction) for one in config.peers] == [("desk", HEX, "both")]


@pytest.mark.parametrize("name", CHANGED)
def test_a_setting_comes_from_the_file(name: str) -> None:
    """What the file says is the value."""
    section, key = name.split(".")
    toml, _, value = CHANGED[name]
    found = read(f"[{section}]\n{key} = {toml}\n", KEY_FILE if name == "local.allow_non_loopback" else None)
    assert found[section, key] == value
    assert type(found[section, key]) is BY_NAME[name].kind


@pytest.mark.parametrize("name", CHANGED)
def test_the_environment_overrides_the_file(name: str) -> None:
    """AI_MEMORY_<SECTION>_<KEY> wins over a different, valid value in the file."""
    section, key = name.split(".")
    _, text, value = CHANGED[name]
    setting = BY_NAME[name]
    assert setting.variable == f"AI_MEMORY_{section.upper()}_{key.upper()}"
    assert setting.variable not in OTHER_VARIABLES
    before = read(default_config("desk"), KEY_FILE)[section, key]
    found = read(default_config("desk"), KEY_FILE | {setting.variable: text})[section, key]
    assert found == value
    assert before != value or name == "local.api_key_file"


@pytest.mark.parametrize(
    ("text", "value"), [("true", True), ("1", True), ("YES", True), ("false", False), ("0", False), ("no", False)]
)
def test_a_switch_in_the_environment_has_several_spellings(text: str, value: bool) -> None:
    """Yes and no as people write them."""
    config = read("", KEY_FILE | {"AI_MEMORY_LOCAL_ALLOW_NON_LOOPBACK": text})
    assert config["local", "allow_non_loopback"] is value


def test_variables_of_other_programs_and_the_passphrase_are_no_settings() -> None:
    """Only names that begin as ours are looked at, and those that other parts of the program read are let be."""
    environment = dict.fromkeys(OTHER_VARIABLES, "x") | {"AI_MEMORYX": "x", "OTHER": "x"}
    assert read("", environment)["node", "name"] is None


# --- peers


def test_a_peer_has_defaults() -> None:
    """Name and fingerprint are enough: it calls here, both ways, everything."""
    (one,) = read(peer()).peers
    assert (one.name, one.url, one.fingerprint.hex) == ("desk", None, HEX)
    assert (one.direction, one.read, one.write) == ("both", ("**",), ("**",))


def test_a_peer_has_what_its_table_says() -> None:
    """All of it, and nothing of the peer before."""
    keys = {"url": '"https://[::1]:9443"', "direction": '"pull"', "read": '["a/*"]', "write": "[]"}
    first, second = read(peer(**keys) + peer("attic", OTHER)).peers
    assert (first.url, first.direction, first.read, first.write) == ("https://[::1]:9443", "pull", ("a/*",), ())
    assert (second.url, second.direction, second.read, second.write) == (None, "both", ("**",), ("**",))


# --- the file and what is made of it


def test_a_missing_file_says_what_to_do(tmp_path: Path) -> None:
    """The first thing that a newcomer meets."""
    with pytest.raises(ConfigError, match=r"no-such\.toml: No such file or directory; run `ai-memory init` first"):
        load(tmp_path / "no-such.toml", {})


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    """A file in Latin-1, say."""
    path = tmp_path / "config.toml"
    path.write_bytes(b'[node]\nname = "b\xfcro"\n')
    with pytest.raises(ConfigError, match=r"config\.toml: not UTF-8 text \(byte 16 is 0xfc\); save it as UTF-8"):
        load(path, {})


NOTHING = ["", "\n", " \t\r\n", "\ufeff", "# a comment\n", "[local]\n", default_config("desk").split("name =")[0]]


@pytest.mark.parametrize("text", NOTHING)
def test_a_file_that_sets_nothing_starts_no_node(tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut off by a full disk, it would open the local listener to everybody, whatever the environment sets.

    Control: without the look at it all is default.
    """
    path = tmp_path / "config.toml"
    path.write_text(text)
    for environment in ({}, {"AI_MEMORY_NODE_NAME": "desk"}):
        with pytest.raises(
            ConfigError, match=r"config\.toml: it (is empty|sets nothing), expected at least the \[node\]"
        ):
            load(path, environment)
    path.write_text(text + '\n[log]\nlevel = "debug"\n')
    assert load(path, {})["log", "level"] == "debug"
    path.write_text(text)
    monkeypatch.setattr(configuration, "_NOTHING", re.compile("nothing at all"))
    assert load(path, {})["local", "api_key_file"] is None


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-8"])
def test_a_byte_order_mark_is_taken(tmp_path: Path, encoding: str) -> None:
    """Editors of Windows write one. Places in errors count without it."""
    path = tmp_path / "config.toml"
    path.write_text('[node]\r\nname = "desk"\r\n', encoding=encoding)
    assert load(path, {}).name == "desk"
    path.write_text("node = = 1\n", encoding=encoding)
    with pytest.raises(ConfigError, match=r"config\.toml:1:8: "):
        load(path, {})


SHARED = {
    "the file": (".", "config.toml", 0o666, 0o644),
    "the file, for a group": (".", "config.toml", 0o664, 0o644),
    "its folder": (".", "", 0o777, 0o755),
    "its folder, sticky": (".", "", 0o1777, 0o1755),
    "the keyring": (".", "keyring", 0o646, 0o644),
    "a keyring elsewhere": ("elsewhere", "keys", 0o622, 0o600),
    "the store": (".", "store.db", 0o660, 0o600),
}


@pytest.mark.parametrize("case", SHARED)
def test_what_others_could_change_starts_no_node(tmp_path: Path, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever writes there decides over the node. Control: without the look at modes it is read."""
    monkeypatch.setattr(ownership, "is_alone", lambda user, group: False)
    folder, name, mode, expected = SHARED[case]
    home = tmp_path / "home"
    for made in (home, home / "elsewhere"):
        made.mkdir(0o700)
    (home / "config.toml").write_text(
        '[trust]\nkeyring = "elsewhere/keys"\n' if "elsewhere" in case else "[log]\nlevel = 'info'\n"
    )
    path = home / folder / name
    if not path.exists():
        path.touch()
    load(home / "config.toml", {})
    path.chmod(mode)
    with pytest.raises(ConfigError) as caught:
        load(home / "config.toml", {})
    (told,) = caught.value.problems
    assert told.startswith(f"{path}: mode is {mode:04o}, with which ")
    change = "600" if case == "the store" else "go-w"  # as `init` makes it
    assert told.endswith(
        f"expected {expected:04o}; look whether it still is as you left it, then run: chmod {change} {path}"
    )
    for module in (ownership, configuration):
        monkeypatch.setattr(module, "require_own", lambda path, found, made=None: None)
    load(home / "config.toml", {})


def test_whose_a_configuration_is_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it cannot be read: who owns it, and who this is."""
    path = tmp_path / "config.toml"
    path.write_text("")

    def denied(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(configuration, "read_own", denied)
    monkeypatch.setattr(ownership.os, "geteuid", lambda: 4_321)
    with pytest.raises(
        ConfigError, match=r"config\.toml: Permission denied; it belongs to user .*, and this is user 4321"
    ):
        load(path, {})


def test_the_real_environment_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without being told otherwise, `load` looks at the variables of this process."""
    path = tmp_path / "config.toml"
    path.write_text('[log]\nlevel = "info"\n')
    monkeypatch.setenv("AI_MEMORY_NODE_NAME", "from the environment")
    assert load(path)["node", "name"] == "from the environment"


@pytest.mark.parametrize(
    ("listen", "host", "port", "text"),
    [
        ("127.0.0.1:80", "127.0.0.1", 80, "127.0.0.1:80"),
        ("[::1]:0", "::1", 0, "[::1]:0"),
        ("::1:7", "::1", 7, "[::1]:7"),
    ],
)
def test_an_address_is_taken_apart(listen: str, host: str, port: int, text: str) -> None:
    """Brackets of an IPv6 address are no part of the host."""
    address = read(f"[local]\nlisten = '{listen}'").address("local")
    assert (address.host, address.port, address.text) == (host, port, text)


def test_a_node_without_a_name_has_the_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    """And an agent is made of the name, whatever is in it."""
    monkeypatch.setattr(configuration.socket, "gethostname", lambda: "büro 1")
    config = read("")
    assert (config.name, config.agent_id) == ("büro 1", "host:b-ro-1")
    assert read("[node]\nname = 'attic'\nagent_id = 'ai:me'").agent_id == "ai:me"


def test_a_changed_copy_leaves_the_original() -> None:
    """Command-line options make a copy; a configuration itself never changes."""
    config = read(peer())
    changed = config.with_values({("store", "path"): "other.db"})
    assert (config["store", "path"], changed["store", "path"]) == ("store.db", "other.db")
    assert changed.peers == config.peers
