"""One line of the keyring: whose a public key is, since when not any more, and which key it took over from.

    ed25519:<key>  <agent id>  [revoked=<time>]  [after=ed25519:<key> at=<time> by=<signature>]  # label

Key and signature are base64url without padding, 43 and 86 characters. `after`, `at` and `by` belong together: the key
that this one succeeds has signed `successor_text`. A line that is wrong in any way is a `Problem` with its place.
"""

import re
from dataclasses import dataclass

from sync import ed25519, moment
from sync.attest import base64url, from_base64url
from sync.memory import agent_fault

PREFIX = "ed25519:"
_BLANK = " \t"
_TOKEN = re.compile("[^ \t]+")
_BASE64URL = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
_TIME = "a time such as 2026-01-31T12:00:00Z"
OPTIONS = ("revoked", "after", "at", "by")
"""What may follow the agent, each at most once, in any order."""
_SUCCESSION = ("after", "at", "by")
_OPTION = f"one of {', '.join(f'{name}=' for name in OPTIONS)} or a # before the label"


@dataclass(frozen=True, slots=True)
class Succession:
    """That a key took over from another, in that other's words."""

    after: bytes
    """The predecessor's key."""
    at: str
    """Canonical time."""
    by: bytes
    """The predecessor's signature over `successor_text`."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What one line says."""

    key: bytes
    agent: str
    revoked: str | None = None
    """Canonical time from which on it may not have signed; None for a key in force."""
    succession: Succession | None = None
    label: str = ""
    """The comment behind it; empty where there is none."""
    line: int = 0
    """1 for the first."""

    @property
    def meaning(self) -> tuple[bytes, str, str | None, Succession | None]:
        """All that two lines have to agree in to say the same."""
        return self.key, self.agent, self.revoked, self.succession


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong at one place of the file. As the allowlist's, whose room this one may not look into."""

    file: str
    line: int
    column: int
    """1 for the first character of the line."""
    found: str
    expected: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}: found {self.found}, expected {self.expected}"


class _Wrong(Exception):
    """Column (from 0), what was found and what was expected."""


@dataclass(frozen=True, slots=True)
class _Token:
    text: str
    start: int
    """Column of its first character, from 0."""


def successor_text(agent: str, new: bytes, old: bytes, at: str) -> bytes:
    """What a key signs to hand over to its successor, UTF-8. `at`: canonical time."""
    lines = (
        "ai-memory/successor/v1", f"agent {agent}", f"key {key_text(new)}", f"after {key_text(old)}", f"at {at}", ""
    )  # fmt: skip
    return "\n".join(lines).encode()


def key_text(key: bytes) -> str:
    """`ed25519:` and 43 characters."""
    return f"{PREFIX}{base64url(key)}"


def parse_key(text: str) -> bytes:
    """The key that `key_text` writes. Raises ValueError with a sentence for a person."""
    stripped = text.strip()
    try:
        return _key(_Token(stripped, 0))
    except _Wrong as error:
        _, found, expected = error.args
        raise ValueError(f"found {found}, expected {expected}") from None


def read(line: str, source: str, number: int) -> Entry | Problem | None:
    """The entry of a line, what is wrong with it, or None for a line that says nothing. `number`: 1 for the first."""
    body, _, comment = line.partition("#")
    tokens = tokens_of(body)
    if not tokens:
        return None
    try:
        return _entry(tokens, len(body.rstrip(_BLANK)), " ".join(comment.split()), number)
    except _Wrong as error:
        column, found, expected = error.args
        return Problem(source, number, column + 1, found, expected)


def written(entry: Entry) -> str:
    """The entry as a line, without a newline."""
    parts = [key_text(entry.key), f" {entry.agent}"]
    if entry.revoked is not None:
        parts.append(f" revoked={entry.revoked}")
    if entry.succession is not None:
        past = entry.succession
        parts.append(f" after={key_text(past.after)} at={past.at} by={base64url(past.by)}")
    label = " ".join(entry.label.split())
    return " ".join(parts) + (f"  # {label}" if label else "")


def with_revoked(line: str, at: str) -> str:
    """A good line of a key, with this time in place of its own, or behind the agent; every other byte stays."""
    tokens = tokens_of(line.partition("#")[0])
    said = f"revoked={at}"
    for token in tokens[2:]:
        if token.text.startswith("revoked="):
            return f"{line[: token.start]}{said}{line[token.start + len(token.text) :]}"
    end = tokens[1].start + len(tokens[1].text)
    return f"{line[:end]}  {said}{line[end:]}"


def tokens_of(body: str) -> list[_Token]:
    """The words of a line in front of its comment."""
    return [_Token(found[0], found.start()) for found in _TOKEN.finditer(body)]


def _entry(tokens: list[_Token], end: int, label: str, number: int) -> Entry:
    key = _key(tokens[0])
    if len(tokens) == 1:
        raise _Wrong(end, "no more", "the id of the agent whose key it is")
    agent = tokens[1]
    if agent_fault(agent.text):
        raise _no_agent(agent)
    options = _options(tokens[2:])
    revoked = _time(options["revoked"]) if "revoked" in options else None
    return Entry(key, agent.text, revoked, _succession(options, agent.text, key, end), label, number)


def _options(tokens: list[_Token]) -> dict[str, _Token]:
    found: dict[str, _Token] = {}
    for token in tokens:
        name, equals, value = token.text.partition("=")
        if not equals or name not in OPTIONS:
            raise _Wrong(token.start, _shown(token.text), _OPTION)
        if name in found:
            raise _Wrong(token.start, f"{name}= again", f"{name}= once")
        found[name] = _Token(value, token.start + len(name) + 1)
    return found


def _succession(options: dict[str, _Token], agent: str, key: bytes, end: int) -> Succession | None:
    missing = [name for name in _SUCCESSION if name not in options]
    if len(missing) == len(_SUCCESSION):
        return None
    if missing:
        raise _Wrong(end, f"no {missing[0]}=", "after=, at= and by= together")
    after, at = _key(options["after"]), _time(options["at"])
    by = options["by"]
    signature = _base64url(by, ed25519.SIGNATURE_BYTES, "a signature")
    if after == key:
        raise _Wrong(options["after"].start, "the key itself", "the key that it took over from")
    if not ed25519.verifies(after, successor_text(agent, key, after, at), signature):
        raise _Wrong(
            by.start,
            "a signature that does not verify",
            f"that of {key_text(after)} over this key, this agent and this time",
        )
    return Succession(after, at, signature)


def _key(token: _Token) -> bytes:
    if not token.text.startswith(PREFIX):
        raise _Wrong(token.start, _shown(token.text), f"{PREFIX} and a public key in base64url")
    digits = _Token(token.text[len(PREFIX) :], token.start + len(PREFIX))
    key = _base64url(digits, ed25519.PUBLIC_BYTES, "a public key")
    if fault := ed25519.key_fault(key):
        raise _Wrong(digits.start, fault, "a public key that a key generator made")
    return key


def _base64url(token: _Token, size: int, what: str) -> bytes:
    wanted = -(-size * 8 // 6)
    for place, character in enumerate(token.text):
        if character not in _BASE64URL:
            raise _Wrong(token.start + place, _shown(character), "a character of base64url (A-Z a-z 0-9 - _)")
    if len(token.text) != wanted:
        raise _Wrong(token.start, f"{len(token.text)} characters", f"exactly {wanted} ({what} in base64url)")
    data = from_base64url(token.text, size)
    if data is None:
        last = token.start + wanted - 1
        raise _Wrong(last, _shown(token.text[-1]), f"the last character of {size} bytes in base64url")
    return data


def _time(token: _Token) -> str:
    found = moment.canonical(token.text)
    if found is None:
        raise _Wrong(token.start, _shown(token.text), _TIME)
    return found


def _no_agent(token: _Token) -> _Wrong:
    """Where an agent id is wrong: at its first character that none may have, or as a whole."""
    column, found = token.start, f"{len(token.text)} characters"
    for place, character in enumerate(token.text):
        if agent_fault(character):
            column, found = token.start + place, _shown(character)
            break
    return _Wrong(column, found, "an agent id: 1 to 128 of A-Z a-z 0-9 _ - : @ . /")


def _shown(text: str) -> str:
    if len(text) == 1 and not text.isprintable():
        return f"U+{ord(text):04X}"
    return repr(text if len(text) <= 40 else text[:39] + "…")
