"""The configuration: one TOML file and the environment, checked as a whole, refused with file and line.

Unknown keys, impossible values and wrong types are all reported at once; nothing is ever silently ignored.
"""

import contextlib
import difflib
import os
import re
import socket
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

from node import bridge
from node.places import Places
from node.settings import PEER_SETTINGS, SETTINGS, Setting
from tls.fingerprint import Fingerprint
from tls.ownership import SharedFileError, advice, read_own, require_own

BOM = "\ufeff"
"""The mark that some editors, those of Windows above all, write before the text of a file."""
_DECIDING: Mapping[tuple[str, str], int | None] = {("trust", "keyring"): None, ("store", "path"): 0o600}
"""Files that decide over a node too, with the mode that a private one is made with. The allowlist, certificate and CAs
are judged wherever they are read."""
PREFIX = "AI_MEMORY_"
OTHER_VARIABLES = frozenset(("AI_MEMORY_HOME", "AI_MEMORY_DB_KEY", "AI_MEMORY_DB_PASSPHRASE", "AI_MEMORY_AGENT_ID"))
"""Variables of ours that are no setting of the file."""
_NOTHING = re.compile(r"\s*([#\[].*)?")
"""A line that sets nothing."""
NO_BRIDGE = "is true, but this program was built without the bridge to the older protocol (node/legacy)"


class ConfigError(Exception):
    """The configuration cannot be used. `problems`: one line each, with place, what was found and what is expected."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(problems))


class InvalidInput(ConfigError):
    """What a command was given is not valid; nothing of the node is at fault, and nothing was changed."""


class NotThere(ConfigError):
    """What a command was to change, or to use, is not there."""


@dataclass(frozen=True, slots=True)
class PeerConfig:
    """One `[[peer]]`."""

    name: str
    url: str | None
    fingerprint: Fingerprint
    direction: str
    read: tuple[str, ...]
    write: tuple[str, ...]
    legacy: bool = False
    api_key_file: str | None = None
    allow_unsigned: bool | None = None
    """None: as `legacy`."""


@dataclass(frozen=True, slots=True)
class Address:
    """host and port of a listener."""

    host: str
    port: int

    @property
    def text(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def from_here(self, port: int) -> "Address":
        """Where a client on this machine reaches it: "all addresses" is none that anybody can be at."""
        return Address({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host), port)  # noqa: S104 - compared


class Config:
    """A checked configuration. `config["section", "key"]` is the value of a setting; all are listed in `SETTINGS`."""

    def __init__(
        self,
        values: Mapping[tuple[str, str], Any],
        peers: tuple[PeerConfig, ...],
        environment: Mapping[str, str],
        as_written: "Config | None" = None,
    ) -> None:
        self._values = MappingProxyType(dict(values))
        self.peers = peers
        self.environment = environment
        """Where variables were looked for; an edited file is read with the same."""
        self.as_written = as_written or self
        """Without what the command line replaced."""

    def __getitem__(self, name: tuple[str, str]) -> Any:
        return self._values[name]

    def address(self, section: str) -> Address:
        """The `listen` of a section."""
        host, _, port = str(self[section, "listen"]).rpartition(":")
        return Address(host.removeprefix("[").removesuffix("]"), int(port))

    @property
    def name(self) -> str:
        return str(self["node", "name"] or socket.gethostname())

    @property
    def agent_id(self) -> str:
        plain = re.sub(r"[^A-Za-z0-9_\-.]", "-", self.name)[:100]
        return str(self["node", "agent_id"] or f"host:{plain}")

    def differences(self, other: "Config") -> list[tuple[str, str]]:
        """The settings (peers aside) that have another value there."""
        return [name for name, value in self._values.items() if other[name] != value]

    def with_values(self, changes: Mapping[tuple[str, str], Any]) -> "Config":
        """A copy with some settings replaced (command-line options)."""
        return Config({**self._values, **changes}, self.peers, self.environment, self.as_written)


def load(path: Path, environment: Mapping[str, str] | None = None) -> Config:
    """Read and check. A missing file is an error, and so is one that sets nothing. Raises ConfigError.

    So is one that others could change, the folder that it lies in, or a keyring or a store that it names
    (docs/decisions/0055).
    """
    try:
        text = read_own(path).decode().replace("\r\n", "\n").replace("\r", "\n")
    except OSError as error:
        raise ConfigError([f"{path}: {error.strerror}; {_what_to_do(path, error)}"]) from None
    except UnicodeDecodeError as error:
        found = f"byte {error.start} is 0x{error.object[error.start]:02x}"
        raise ConfigError([f"{path}: not UTF-8 text ({found}); save it as UTF-8 in your editor"]) from None
    except SharedFileError as error:
        raise ConfigError([str(error)]) from None
    if all(_NOTHING.fullmatch(line) for line in text.removeprefix(BOM).split("\n")):
        was = "it is empty" if not text.strip() else "it sets nothing"
        expected = "expected at least the [node] name that `ai-memory init` writes; was the file cut off?"
        raise ConfigError([f"{path}: {was}, {expected} Put it back from a backup, or write it anew"])
    config = parse(text, str(path), os.environ if environment is None else environment)
    named = [(path.parent / Path(config[name]).expanduser(), made) for name, made in _DECIDING.items()]
    if faults := [fault for one, made in ((path.parent, None), *named) if (fault := _shared_fault(one, made))]:
        raise ConfigError(faults)
    return config


def _what_to_do(path: Path, error: OSError) -> str:
    if not isinstance(error, FileNotFoundError):
        return advice(error, path) or "look what lies there"
    if (path.parent / "node.key").exists():
        return "there was a node in this folder: put the file back, from a backup or written anew"
    return "run `ai-memory init` first, or name the right --home"


def _shared_fault(path: Path, made: int | None) -> str | None:
    try:
        require_own(path, path.stat(), made)
    except SharedFileError as error:
        return str(error)
    except OSError:
        return None  # not there, or not to be looked at: whoever needs it will say so
    return None


def parse(text: str, source: str, environment: Mapping[str, str]) -> Config:
    """Check the text of a configuration. Raises ConfigError with every problem in it."""
    text = text.removeprefix(BOM)
    try:
        document = tomllib.loads(text)
    except ValueError as error:  # TOMLDecodeError, or a number that Python will not read
        raise ConfigError([_syntax(str(error), text, source)]) from None
    places = Places(text, source)
    problems: list[str] = []
    values = {(setting.section, setting.key): setting.default for setting in SETTINGS}
    sections = {setting.section for setting in SETTINGS}
    for section, table in document.items():
        if section == "peer":
            continue
        if not isinstance(table, dict):
            problems.append(f"{places.section(section)}: {section} stands in no section, expected it below a [section]")
            continue
        if section not in sections:
            like = _like(section, {*sections, "peer"})
            problems.append(f"{places.section(section)}: section [{section}] is not known{like}")
            continue
        for key, value in table.items():
            setting = _find(SETTINGS, section, key)
            place = places.key(section, key)
            if setting is None:
                known = {one.key for one in SETTINGS if one.section == section}
                problems.append(f"{place}: [{section}] {key} is not known{_like(key, known)}")
            else:
                values[section, key] = _checked(setting, value, f"{place}: [{section}] {key}", problems)
    problems.extend(_environment(environment, values))
    peers = _peers(document.get("peer", []), places, problems)
    for section, keys, problem in _impossible(values):
        problems.append(f"{_origin(section, keys, document, environment, places)}: [{section}] {problem}")
    if problems:
        raise ConfigError(problems)
    return Config(values, tuple(peers), environment)


def _syntax(message: str, text: str, source: str) -> str:
    """The parser's sentence, its place put where every other problem has it."""
    found = re.fullmatch(r"(.*) \(at line (\d+), column (\d+)\)", message, re.DOTALL)
    if found:
        return f"{source}:{found[2]}:{found[3]}: {found[1]}"
    if message.endswith("(at end of document)"):
        return f"{source}:{text.count(chr(10)) + 1}: {message}"
    return f"{source}: {message}"


def _origin(
    section: str,
    keys: Sequence[str],
    document: Mapping[str, Any],
    environment: Mapping[str, str],
    places: Places,
) -> str:
    """Where the value of a setting came from: of several, the first that anybody set."""
    for key in keys:
        setting = _find(SETTINGS, section, key)
        if setting is not None and setting.variable in environment:
            return f"environment: {setting.variable}"
        table = document.get(section)
        if isinstance(table, dict) and key in table:
            return places.key(section, key)
    return places.section(section)


def _environment(environment: Mapping[str, str], values: dict[tuple[str, str], Any]) -> Iterator[str]:
    by_name = {setting.variable: setting for setting in SETTINGS}
    for name, text in environment.items():
        if not name.startswith(PREFIX) or name in OTHER_VARIABLES:
            continue
        setting = by_name.get(name)
        if setting is None:
            yield f"environment: {name} is not known{_like(name, by_name.keys() | OTHER_VARIABLES)}"
            continue
        problems: list[str] = []
        value = _from_text(setting, text)
        values[setting.section, setting.key] = _checked(setting, value, f"environment: {name}", problems)
        yield from problems


def _from_text(setting: Setting, text: str) -> Any:
    if setting.kind is bool:
        return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}.get(text.lower(), text)
    if setting.kind is list:
        return [part for part in text.split(",") if part]
    if setting.kind in (int, float):
        try:
            return setting.kind(text)
        except ValueError:
            return text
    return text


def _checked(setting: Setting, value: Any, what: str, problems: list[str]) -> Any:
    if setting.kind is float and type(value) is int:
        value = float(value)
    items = value if isinstance(value, list) else []
    if type(value) is not setting.kind or not all(isinstance(item, str) for item in items):
        names = {str: "text", int: "a whole number", float: "a number", bool: "true or false", list: "a list of texts"}
        problems.append(f"{what} is {value!r}, expected {names[setting.kind]}")
        return setting.default
    if setting.kind is str and not value:
        problems.append(f"{what} is empty, expected some text (leave the key out for the default)")
        return setting.default
    fault = setting.check(value) if setting.check is not None else None
    if fault is not None:
        problems.append(f"{what}: {fault}")
        return setting.default
    return value


def _peers(tables: object, places: Places, problems: list[str]) -> list[PeerConfig]:
    if not isinstance(tables, list):
        problems.append(f"{places.section('peer')}: peers are written [[peer]], with two brackets")
        return []
    found: list[PeerConfig] = []
    seen: set[str | Fingerprint] = set()
    for index, table in enumerate(tables):
        if not isinstance(table, dict):
            problems.append(f"{places.section('peer')}: peer {table!r}, expected a table below [[peer]]")
            continue
        one = _peer(table, index, places, problems)
        if one is not None:
            found.append(one)
        for key, value in _identifiers(table):
            if value in seen:
                problems.append(f"{places.peer(index, key)}: [[peer]] {key} {table[key]!r} is used by a peer above")
            seen.add(value)
    return found


def _identifiers(table: Mapping[str, Any]) -> Iterator[tuple[str, str | Fingerprint]]:
    """What no two peers may share; a fingerprint counts, however it is spelt."""
    if isinstance(table.get("name"), str):
        yield "name", table["name"]
    with contextlib.suppress(ValueError):
        yield "fingerprint", Fingerprint.parse(str(table.get("fingerprint")))


def _peer(table: Mapping[str, Any], index: int, places: Places, problems: list[str]) -> PeerConfig | None:
    before = len(problems)
    values = {setting.key: setting.default for setting in PEER_SETTINGS}
    for key, value in table.items():
        place = places.peer(index, key)
        setting = _find(PEER_SETTINGS, "peer", key)
        if setting is None:
            problems.append(f"{place}: [[peer]] {key} is not known{_like(key, values.keys())}")
        else:
            values[key] = _checked(setting, value, f"{place}: [[peer]] {key}", problems)
    place = places.peer(index, None)
    problems.extend(f"{place}: [[peer]] has no {key}" for key in ("name", "fingerprint") if key not in table)
    if len(problems) > before:
        return None
    try:
        fingerprint = Fingerprint.parse(values["fingerprint"])
    except ValueError as error:
        problems.append(f"{places.peer(index, 'fingerprint')}: [[peer]] fingerprint: {error}")
        return None
    problems.extend(f"{places.peer(index, key)}: [[peer]] {fault}" for key, fault in _peer_faults(values))
    if len(problems) > before:
        return None
    return PeerConfig(
        values["name"], values["url"], fingerprint, values["direction"], tuple(values["read"]), tuple(values["write"]),
        values["legacy"], values["api_key_file"], values["allow_unsigned"],
    )  # fmt: skip


def _peer_faults(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if values["url"] is not None:
        fault = url_fault(values["url"])
        if fault:
            yield "url", fault
    if values["api_key_file"] and not (values["legacy"] and values["url"]):
        yield "api_key_file", "api_key_file is for a daemon that this node calls: expected legacy = true and a url"
    if values["legacy"] and not bridge.is_there():
        yield "legacy", f"legacy {NO_BRIDGE}"


def url_fault(url: str) -> str | None:
    """What is wrong with a peer's address."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return f"url {url!r} is no URL, expected https://host:port"
    if parts.scheme != "https" or not parts.hostname or parts.username or parts.query or parts.fragment:
        return f"url {url!r}, expected https://host:port and nothing else"
    if parts.path not in ("", "/"):
        return f"url {url!r} has a path, expected https://host:port"
    return None if port is None or port > 0 else f"url {url!r} has port 0"


def typed_url_fault(url: str) -> str | None:
    """The same for one that somebody types: with the port, which is hardly ever that of web pages."""
    fault = url_fault(url)
    if fault is None and urlsplit(url).port is None:
        host = url.rstrip("/")
        fault = f"url {url!r} has no port, expected https://host:port: {host}:9443, or {host}:443 if that is meant"
    return fault


def _impossible(values: Mapping[tuple[str, str], Any]) -> Iterator[tuple[str, tuple[str, ...], str]]:
    """What is wrong only in combination: section, the keys that make it so, and what is wrong."""
    if values["local", "allow_non_loopback"] and not values["local", "api_key_file"]:
        text = "allow_non_loopback needs api_key_file: without it anyone on the network could read the store"
        yield "local", ("allow_non_loopback",), text
    host = str(values["local", "listen"]).rpartition(":")[0]
    if host not in ("127.0.0.1", "localhost", "[::1]", "::1") and not values["local", "allow_non_loopback"]:
        text = f"listen is on {host!r}, expected 127.0.0.1, localhost or [::1] (or allow_non_loopback and a key)"
        yield "local", ("listen",), text
    if values["federation", "default_legacy"] and not bridge.is_there():
        yield "federation", ("default_legacy",), f"default_legacy {NO_BRIDGE}"
    first, longest = values["sync", "retry_first"], values["sync", "retry_longest"]
    if first > longest:
        text = f"retry_first is {first:g}, expected no more than retry_longest ({longest:g})"
        yield "sync", ("retry_first", "retry_longest"), text


def _find(settings: Sequence[Setting], section: str, key: str) -> Setting | None:
    return next((one for one in settings if (one.section, one.key) == (section, key)), None)


def _like(name: str, known: Any) -> str:
    close = difflib.get_close_matches(name, sorted(known), 1)
    return f"; did you mean {close[0]}?" if close else f"; known are {', '.join(sorted(known))}"
