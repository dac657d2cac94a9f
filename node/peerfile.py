"""Editing a configuration line by line, its `[[peer]]` tables or one setting: every other byte stays as it was.

A TOML library would rewrite the document; a comment that stands between two peers would go with the first of them.
The caller reads the result again and compares: a form that these few rules do not understand is never written.
"""

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import tomlkit

from node.config import PeerConfig

_HEADER = re.compile(r"\s*\[")
_PEER = re.compile(r"\s*\[\[\s*peer\s*\]\]")
_NOTHING = re.compile(r"\s*(#.*)?")


@dataclass(frozen=True, slots=True)
class _Block:
    """The lines of one peer, from its header to its last key."""

    start: int
    stop: int
    name: str


def with_peer(text: str, peer: PeerConfig) -> str:
    """The text with this peer: in place of the one of that name, or at the end."""
    newline = "\r\n" if "\r\n" in text else "\n"
    table = [line + newline for line in _table(peer)]
    lines = _lines(text)
    old = next((block for block in _blocks(lines) if block.name == peer.name), None)
    if old is not None:
        return "".join((*lines[: old.start], *table, *lines[old.stop :]))
    if lines and not lines[-1].endswith("\n"):
        lines[-1] += newline
    return "".join((*lines, newline, *table))


def without_peer(text: str, name: str) -> str:
    """The text without the peer of this name; unchanged where no table of it is found."""
    lines = _lines(text)
    old = next((block for block in _blocks(lines) if block.name == name), None)
    if old is None:
        return text
    start, rest = old.start, lines[old.stop :]
    if start and not lines[start - 1].strip() and (not rest or not rest[0].strip()):
        start -= 1  # the blank line that `with_peer` put before it
    return "".join((*lines[:start], *rest))


def with_setting(text: str, section: str, key: str, value: str) -> str:
    """The text with this setting: in place of its commented line, else below its section's header, else at the end."""
    newline = "\r\n" if "\r\n" in text else "\n"
    line, lines = f"{key} = {toml(value)}{newline}", _lines(text)
    header = re.compile(rf"\s*\[\s*{section}\s*\]\s*(#.*)?")
    start = next((n for n, one in enumerate(lines) if header.fullmatch(one.rstrip("\r\n"))), None)
    if start is None:
        if lines and not lines[-1].endswith("\n"):
            lines[-1] += newline
        return "".join((*lines, newline, f"[{section}]{newline}", line))
    for number in range(start + 1, len(lines)):
        if _HEADER.match(lines[number]):
            break
        if re.match(rf"#\s*{key}\s*=", lines[number]):
            return "".join((*lines[:number], line, *lines[number + 1 :]))
    return "".join((*lines[: start + 1], line, *lines[start + 1 :]))


def toml(value: Any) -> str:
    """A value as TOML writes it."""
    return str(tomlkit.item(value).as_string())


def _table(peer: PeerConfig) -> Iterator[str]:
    yield "[[peer]]"
    yield f"name = {toml(peer.name)}"
    if peer.url is not None:
        yield f"url = {toml(peer.url)}"
    yield f"fingerprint = {toml(peer.fingerprint.text)}"
    if peer.direction != "both":
        yield f"direction = {toml(peer.direction)}"
    for key, patterns in (("read", peer.read), ("write", peer.write)):
        if patterns != ("**",):
            yield f"{key} = {toml(list(patterns))}"
    if peer.legacy:
        yield "legacy = true"
    if peer.api_key_file is not None:
        yield f"api_key_file = {toml(peer.api_key_file)}"
    if peer.allow_unsigned is not None:
        yield f"allow_unsigned = {toml(peer.allow_unsigned)}"


def _lines(text: str) -> list[str]:
    # Not str.splitlines, which also breaks at characters that are no line's end in TOML.
    # A byte order mark is a line of its own here, so that what stands behind it begins as any other line does.
    return re.findall(r"^\ufeff|[^\n]*\n|[^\n]+", text)


def _blocks(lines: list[str]) -> Iterator[_Block]:
    for start, line in enumerate(lines):
        if not _PEER.match(line):
            continue
        stop = start + 1
        for number in range(start + 1, len(lines)):
            if _HEADER.match(lines[number]):
                break
            if not _NOTHING.fullmatch(lines[number].rstrip("\r\n")):
                stop = number + 1
        try:
            name = tomllib.loads("".join(lines[start:stop]))["peer"][0]["name"]
        except (tomllib.TOMLDecodeError, LookupError):
            continue
        yield _Block(start, stop, name)
