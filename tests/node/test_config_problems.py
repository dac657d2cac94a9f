"""A wrong configuration is refused: every problem at once, each with its place, what was found and what is expected."""

from collections.abc import Mapping

import pytest

from node import config as configuration
from node.config import ConfigError, parse

HEX = "0123456789abcdef" * 4
OTHER = "fedcba9876543210" * 4


def problems(text: str, environment: Mapping[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(text, "config.toml", environment or {})
    return list(caught.value.problems)


def peer(name: str = "desk", fingerprint: str = HEX, **more: str) -> str:
    keys = {"name": f'"{name}"', "fingerprint": f'"sha256:{fingerprint}"', **more}
    return "[[peer]]\n" + "".join(f"{key} = {value}\n" for key, value in keys.items())


# --- what is refused

WRONG = {
    "an unknown section": ("[stor]\npath = 'x'", "config.toml:1: section [stor] is not known; did you mean store?"),
    "an unknown key": ("[log]\nlevle = 'x'", "config.toml:2: [log] levle is not known; did you mean level?"),
    "a key of another section": (
        "[log]\n\npath = 'x'",
        "config.toml:3: [log] path is not known; known are format, level",
    ),
    "a key before any section": (
        "# first\nname = 'x'",
        "config.toml:2: name stands in no section, expected it below a [section]",
    ),
    "an unknown dotted key": ("\nlog.levle = 'x'", "config.toml:2: [log] levle is not known; did you mean level?"),
    "an unknown key in an inline table": (
        "\n\nlog = {levle = 'x'}",
        "config.toml:3: [log] levle is not known; did you mean level?",
    ),
    "an unknown key in quotes": ('[log]\n"levle" = 1', "config.toml:2: [log] levle is not known; did you mean level?"),
    "text for a number": ("[store]\nreaders = '2'", "config.toml:2: [store] readers is '2', expected a whole number"),
    "a switch for a number": (
        "[store]\nreaders = true",
        "config.toml:2: [store] readers is True, expected a whole number",
    ),
    "a fraction for a whole number": (
        "[store]\nreaders = 2.0",
        "config.toml:2: [store] readers is 2.0, expected a whole number",
    ),
    "a number for text": ("[store]\npath = 5", "config.toml:2: [store] path is 5, expected text"),
    "a number for a switch": (
        "[local]\nallow_non_loopback = 1",
        "config.toml:2: [local] allow_non_loopback is 1, expected true or false",
    ),
    "text for a list": (
        "[store]\npassphrase_command = 'pass'",
        "config.toml:2: [store] passphrase_command is 'pass', expected a list of texts",
    ),
    "a list of numbers": (
        "[federation]\ndefault_read = [1]",
        "config.toml:2: [federation] default_read is [1], expected a list of texts",
    ),
    "empty text": (
        "[store]\npath = ''",
        "config.toml:2: [store] path is empty, expected some text (leave the key out for the default)",
    ),
    "a number below its limit": ("[store]\nreaders = 0", "config.toml:2: [store] readers: 0, expected 1 to 16"),
    "a number above its limit": ("[store]\nreaders = 17", "config.toml:2: [store] readers: 17, expected 1 to 16"),
    "no number at all": (
        "[sync]\nretry_first = nan",
        "config.toml:2: [sync] retry_first: nan, expected 0.01 to 60",
    ),
    "no end at all": (
        "[sync]\npull_interval = inf",
        "config.toml:2: [sync] pull_interval: inf, expected 0.1 to 86400",
    ),
    "a level that does not exist": (
        "[log]\nlevel = 'trace'",
        "config.toml:2: [log] level: 'trace', expected one of debug, info, warning, error",
    ),
    "an address without a port": (
        "[local]\nlisten = 'localhost'",
        "config.toml:2: [local] listen: 'localhost', expected host:port with a port from 0 to 65535",
    ),
    "an address without a host": (
        "[local]\nlisten = ':80'",
        "config.toml:2: [local] listen: ':80', expected host:port with a port from 0 to 65535",
    ),
    "a port that is too large": (
        "[local]\nlisten = 'localhost:65536'",
        "config.toml:2: [local] listen: 'localhost:65536', expected host:port with a port from 0 to 65535",
    ),
    "a port in digits of another script": (
        "[local]\nlisten = 'localhost:²'",
        "config.toml:2: [local] listen: 'localhost:²', expected host:port with a port from 0 to 65535",
    ),
    "an agent with a space": (
        "[node]\nagent_id = 'a b'",
        "config.toml:2: [node] agent_id: agent_id: 'a b', expected 1 to 128 of A-Z a-z 0-9 _ - : @ . /",
    ),
    "a name of two lines": (
        "[node]\nname = 'a\\n'".replace("'", '"'),
        "config.toml:2: [node] name: 'a\\n', expected 1 to 64 printable characters without #, no space at either end",
    ),
    "a pattern that matches no namespace": (
        "[federation]\ndefault_write = ['a//b']",
        "config.toml:2: [federation] default_write: 'a//b' is no namespace pattern (namespace: segment '', expected ",
    ),
    "peers in one bracket": ("\n[peer]\nname = 'x'", "config.toml:2: peers are written [[peer]], with two brackets"),
    "a peer that is no table": ("\npeer = [1]", "config.toml:2: peer 1, expected a table below [[peer]]"),
    "a syntax error": (
        "[log]\nlevel = \n",
        "config.toml:2:9: Invalid value",
    ),
    "a key given twice": ("[log]\nlevel = 'info'\nlevel = 'info'", "config.toml:3"),
    "a text that does not end": ("[log]\nlevel = 'info", "config.toml:2"),
    "a number of 5,000 digits": ("[store]\nreaders = " + "1" * 5_000, "config.toml: Exceeds the limit"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_refused_with_its_place(case: str) -> None:
    """File, line, what was found and what is expected, in one line; nothing is guessed or ignored."""
    text, expected = WRONG[case]
    found = problems(text)
    assert len(found) == 1
    assert found[0].startswith(expected)
    assert "\n" not in found[0]


WRONG_VARIABLES = {
    "an unknown one": (
        {"AI_MEMORY_LOG_LEVLE": "info"},
        "environment: AI_MEMORY_LOG_LEVLE is not known; did you mean AI_MEMORY_LOG_LEVEL?",
    ),
    "nearly the passphrase's": (
        {"AI_MEMORY_DBKEY": "hunter2"},
        "environment: AI_MEMORY_DBKEY is not known; did you mean AI_MEMORY_DB_KEY?",
    ),
    "text for a number": (
        {"AI_MEMORY_STORE_READERS": "two"},
        "environment: AI_MEMORY_STORE_READERS is 'two', expected a whole number",
    ),
    "maybe for a switch": (
        {"AI_MEMORY_LOCAL_ALLOW_NON_LOOPBACK": "maybe"},
        "environment: AI_MEMORY_LOCAL_ALLOW_NON_LOOPBACK is 'maybe', expected true or false",
    ),
    "an empty one": (
        {"AI_MEMORY_STORE_PATH": ""},
        "environment: AI_MEMORY_STORE_PATH is empty, expected some text (leave the key out for the default)",
    ),
    "a number beyond its limit": (
        {"AI_MEMORY_STORE_READERS": "99"},
        "environment: AI_MEMORY_STORE_READERS: 99, expected 1 to 16",
    ),
}


@pytest.mark.parametrize("case", WRONG_VARIABLES)
def test_a_wrong_variable_is_refused_by_name(case: str) -> None:
    """A misspelt variable of ours would otherwise be a setting that silently does nothing."""
    environment, expected = WRONG_VARIABLES[case]
    assert problems("", environment) == [expected]


COMBINATIONS = {
    "open to the network without a key": (
        "[local]\n# so that the tablet reaches it\nallow_non_loopback = true\n",
        {},
        "config.toml:3: [local] allow_non_loopback needs api_key_file: without it anyone on the network could read the"
        " store",
    ),
    "the same, by the environment": (
        "[local]\n",
        {"AI_MEMORY_LOCAL_ALLOW_NON_LOOPBACK": "true"},
        "environment: AI_MEMORY_LOCAL_ALLOW_NON_LOOPBACK: [local] allow_non_loopback needs api_key_file: without it"
        " anyone on the network could read the store",
    ),
    "an address of the network": (
        "[log]\nlevel = 'info'\n[local]\nlisten = '0.0.0.0:80'\n",
        {},
        "config.toml:4: [local] listen is on '0.0.0.0', expected 127.0.0.1, localhost or [::1] (or allow_non_loopback"
        " and a key)",
    ),
    "the same, by the environment, over a good one": (
        "[local]\nlisten = '127.0.0.1:80'\n",
        {"AI_MEMORY_LOCAL_LISTEN": "0.0.0.0:80"},
        "environment: AI_MEMORY_LOCAL_LISTEN: [local] listen is on '0.0.0.0', expected 127.0.0.1, localhost or [::1]"
        " (or allow_non_loopback and a key)",
    ),
    "a first wait longer than the longest": (
        "[sync]\nretry_longest = 2\nretry_first = 3\n",
        {},
        "config.toml:3: [sync] retry_first is 3, expected no more than retry_longest (2)",
    ),
    "a longest wait shorter than the usual first": (
        "\n[sync]\nretry_longest = 0.2\n",
        {},
        "config.toml:3: [sync] retry_first is 0.25, expected no more than retry_longest (0.2)",
    ),
    "a longest wait by the environment, shorter than the usual first": (
        "sync = 5\n",
        {"AI_MEMORY_SYNC_RETRY_LONGEST": "0.2"},
        "environment: AI_MEMORY_SYNC_RETRY_LONGEST: [sync] retry_first is 0.25, expected no more than"
        " retry_longest (0.2)",
    ),
    "a first wait in an inline table": (
        "\nsync = {retry_first = 3, retry_longest = 2}\n",
        {},
        "config.toml:2: [sync] retry_first is 3, expected no more than retry_longest (2)",
    ),
}


@pytest.mark.parametrize("case", COMBINATIONS)
def test_an_impossible_combination_names_the_line_that_makes_it_so(case: str) -> None:
    """Each value is possible, together they are not; the place is where somebody set it."""
    text, environment, expected = COMBINATIONS[case]
    assert problems(text, environment)[-1] == expected


def test_without_the_check_a_combination_would_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: each value by itself is taken, so it is this check that refuses them together."""
    monkeypatch.setattr(configuration, "_impossible", lambda values: iter(()))
    for text, environment, _ in COMBINATIONS.values():
        parse(text.replace("sync = 5", ""), "config.toml", environment)


def test_a_possible_combination_is_taken() -> None:
    """Control: with a key, the same address is allowed."""
    text = "[local]\nlisten = '0.0.0.0:80'\nallow_non_loopback = true\napi_key_file = 'key'\n"
    config = parse(text, "config.toml", {})
    assert config.address("local").text == "0.0.0.0:80"


def test_all_problems_are_reported_at_once() -> None:
    """An operator corrects a file once, not once for each mistake."""
    text = (
        "[log]\nlevel = 'loud'\ncolour = true\n[lgo]\n[sync]\nretry_first = 5\nretry_longest = 1\n"
        "[[peer]]\nname = 'a'\n[[peer]]\nnaem = 'b'\n"
    )
    found = problems(text, {"AI_MEMORY_STORE_READERS": "x"})
    places = sorted(one.removeprefix("config.toml:").split(":")[0] for one in found)
    assert places == ["10", "10", "11", "2", "3", "4", "6", "8", "environment"]


def test_text_that_looks_like_a_key_does_not_mislead_the_places() -> None:
    """Lines are counted as TOML counts them: a form feed or a Unicode line separator in a text ends none."""
    assert problems("[node]\nname = 'a\u2028b'\n[log]\nlevel = 1")[-1].startswith("config.toml:4: ")


# --- peers


WRONG_PEERS = {
    "no name": (f"[[peer]]\nfingerprint = '{HEX}'", ":1: [[peer]] has no name"),
    "no fingerprint": ("[[peer]]\nname = 'a'", ":1: [[peer]] has no fingerprint"),
    "an unknown key": (peer(ulr='"x"'), ":4: [[peer]] ulr is not known; did you mean url?"),
    "a number for a name": (f"[[peer]]\nname = 1\nfingerprint = '{HEX}'", ":2: [[peer]] name is 1, expected text"),
    "a name that would hide in a comment": (peer("a # b"), ":2: [[peer]] name: 'a # b', expected 1 to 64 printable"),
    "half a fingerprint": (
        peer(fingerprint=HEX[:32]),
        f":3: [[peer]] fingerprint: 'sha256:{HEX[:32]}' is no fingerprint",
    ),
    "another direction": (peer(direction='"up"'), ":4: [[peer]] direction: 'up', expected one of push, pull, both"),
    "a pattern with a space": (peer(read='["a b"]'), ":4: [[peer]] read: 'a b' is no namespace pattern"),
    "another protocol than two": (peer(legacy='"v0.6"'), ":4: [[peer]] legacy is 'v0.6', expected true or false"),
    "some unsigned memories": (
        peer(allow_unsigned='"some"'),
        ":4: [[peer]] allow_unsigned is 'some', expected true or false",
    ),
    "the same name": (peer() + peer(fingerprint=OTHER), ":5: [[peer]] name 'desk' is used by a peer above"),
    "the same fingerprint": (
        peer() + peer("attic"),
        f":6: [[peer]] fingerprint 'sha256:{HEX}' is used by a peer above",
    ),
    "the same fingerprint, spelt otherwise": (
        peer() + peer("attic", ":".join(HEX[at : at + 2].upper() for at in range(0, 64, 2))),
        ":6: [[peer]] fingerprint 'sha256:01:23:45",
    ),
    "a wrong key after a table of another name": (
        "[[pear]]\n" + peer(direction='"up"'),
        ":5: [[peer]] direction: 'up'",
    ),
}


@pytest.mark.parametrize("case", WRONG_PEERS)
def test_a_wrong_peer_is_refused_with_its_line(case: str) -> None:
    """The line of the key, or of the table where a key is missing."""
    text, expected = WRONG_PEERS[case]
    assert problems(text)[-1].startswith(f"config.toml{expected}")


@pytest.mark.parametrize(
    "url",
    [
        "http://desk:9443",
        "desk:9443",
        "https://",
        "https://desk:0",
        "https://desk:99999",
        "https://desk:9443/api",
        "https://desk:9443?a=b",
        "https://desk:9443#a",
        "https://me@desk:9443",
        "https://[::1:9443",
    ],
)
def test_an_address_that_is_no_peers_is_refused(url: str) -> None:
    """https, a host, a port, and nothing else."""
    (found,) = problems(peer(url=f'"{url}"'))
    assert found.startswith("config.toml:4: [[peer]] url ")


@pytest.mark.parametrize(
    "url", ["https://desk.local:9443", "https://desk/", "https://10.0.0.1:1", "https://[fe80::1]:9"]
)
def test_an_address_that_is_a_peers_is_taken(url: str) -> None:
    """Control for the refusals."""
    assert parse(peer(url=f'"{url}"'), "config.toml", {}).peers[0].url == url
