"""The allowlist file: parse, explain, edit (protocol section 2).

One fingerprint a line; anything from `#` on is its label. A broken line is an error with its place, never a guess, and
all broken lines are reported at once. Editing keeps every other byte of the file as the operator wrote it.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tls.errors import TlsError
from tls.fingerprint import Fingerprint
from tls.ownership import SharedFileError, read_own
from tls.ownership import advice as owner_advice

_PREFIX = re.compile("sha256:", re.IGNORECASE | re.ASCII)  # else a long s would pass for an s
_HEX = frozenset("0123456789abcdefABCDEF")
_DIGITS = 64
_BLANK = " \t"
_BOM = "\ufeff"
_BETWEEN = "a hex digit, or one : between hex digits"


@dataclass(frozen=True, slots=True)
class Entry:
    """One allowed certificate."""

    fingerprint: Fingerprint
    label: str
    """The comment behind it; empty where there is none."""
    line: int
    """1 for the first."""


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong at one place of the file."""

    file: str
    line: int
    column: int
    """1 for the first character of the line."""
    found: str
    expected: str
    advice: str = ""
    """What to do about the whole file; empty where a line is to be corrected."""

    def __str__(self) -> str:
        told = f"{self.file}:{self.line}:{self.column}: found {self.found}, expected {self.expected}"
        return f"{told}; {self.advice}" if self.advice else told


class AllowlistError(TlsError):
    """The file cannot be used; `problems` has each broken line."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        self.is_whole = any(one.advice for one in problems)
        """Whether it is about the file, not about a line of it; then each problem says what to do."""
        told = "\n".join(map(str, problems))
        if self.is_whole:
            last = problems[-1].advice
            super().__init__(told.removesuffix(f" {last}"), last)
        else:
            super().__init__(f"{told}.", "Correct the line, or put a # before it.")

    @property
    def lines(self) -> tuple[str, ...]:
        """The problems, each a line of its own; the last says what to do."""
        told = tuple(map(str, self.problems))
        return told if self.is_whole or not told else (*told[:-1], f"{told[-1]}. {self.next_step}")


@dataclass(frozen=True, slots=True)
class Allowlist:
    """A parsed file. Empty means nobody."""

    entries: tuple[Entry, ...]
    warnings: tuple[str, ...] = ()
    labels: dict[Fingerprint, str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", {entry.fingerprint: entry.label for entry in self.entries})

    @property
    def fingerprints(self) -> frozenset[Fingerprint]:
        return frozenset(self.labels)

    def label_of(self, fingerprint: Fingerprint) -> str | None:
        """The operator's name for it; None where it is not listed."""
        return self.labels.get(fingerprint)

    def __contains__(self, fingerprint: object) -> bool:
        return fingerprint in self.labels

    def __len__(self) -> int:
        return len(self.entries)


EMPTY = Allowlist(())


def parse(text: str, source: str) -> Allowlist:
    """The allowlist in `text`; `source` names it in errors. Raises AllowlistError."""
    entries: dict[Fingerprint, Entry] = {}
    problems: list[Problem] = []
    warnings: list[str] = []
    for number, line in _lines(text):
        body, _, comment = line.partition("#")
        if not body.strip(_BLANK):
            continue
        found = _fingerprint(body, source, number)
        if isinstance(found, Problem):
            problems.append(found)
        elif found in entries:
            first = entries[found]
            warnings.append(
                f"{source}:{number}: the same fingerprint as in line {first.line} ({first.label or 'no label'})"
            )
        else:
            entries[found] = Entry(found, comment.strip(), number)
    if problems:
        raise AllowlistError(problems)
    return Allowlist(tuple(entries.values()), tuple(warnings))


def load(path: Path) -> Allowlist:
    """The allowlist in a file. Raises AllowlistError, also where it cannot be read."""
    return parse(read(path), str(path))


def read(path: Path) -> str:
    """The file's text. Raises AllowlistError where it is missing, unreadable, not UTF-8, or others can change it."""
    try:
        return read_own(path).decode("utf-8")
    except OSError as error:
        reason = error.strerror or "an error"
        do = owner_advice(error, path) or "look what lies there"
        if isinstance(error, FileNotFoundError):
            do = "put it back from a backup, or make an empty file there, which lets nobody in"
        raise AllowlistError([Problem(str(path), 1, 1, reason.lower(), "a readable file", do)]) from None
    except SharedFileError as error:
        raise AllowlistError([Problem(str(path), 1, 1, f"mode {error.fault}", error.expected, error.advice)]) from None
    except UnicodeDecodeError as error:
        before = error.object[: error.start]
        line = before.count(b"\n") + 1
        column = len(before.rpartition(b"\n")[2].decode("utf-8").removeprefix(_BOM)) + 1
        found = f"the byte 0x{error.object[error.start]:02x}"
        raise AllowlistError([Problem(str(path), line, column, found, "text in UTF-8")]) from None


def add(text: str, fingerprint: Fingerprint, label: str) -> str:
    """The file's text with one more entry; unchanged where the fingerprint is listed already."""
    if fingerprint in parse(text, "the allowlist"):
        return text
    newline = "\r\n" if "\r\n" in text else "\n"
    start = text if text.endswith(("\n", _BOM)) or not text else text + newline
    comment = f"  # {' '.join(label.split())}" if label.strip() else ""
    return f"{start}{fingerprint.text}{comment}{newline}"


def remove(text: str, fingerprint: Fingerprint) -> str:
    """The file's text without any line of this fingerprint."""
    content = text.removeprefix(_BOM)
    kept = [text[: len(text) - len(content)]]
    for line in re.findall(r"[^\n]*\n|[^\n]+", content):
        body = line.removesuffix("\n").removesuffix("\r").partition("#")[0]
        if _fingerprint(body, "", 0) != fingerprint:
            kept.append(line)
    return "".join(kept)


def _lines(text: str) -> Iterator[tuple[int, str]]:
    # Not str.splitlines: a form feed or a Unicode line separator is no line's end, it is a wrong character.
    for number, line in enumerate(text.removeprefix(_BOM).split("\n"), 1):
        yield number, line.removesuffix("\r")


def _fingerprint(body: str, source: str, line: int) -> Fingerprint | Problem:
    stripped = body.strip(_BLANK)
    start = len(body) - len(body.lstrip(_BLANK))
    prefix = _PREFIX.match(stripped)
    first = start + (prefix.end() if prefix else 0)
    digits, colon = "", 0
    for position, character in enumerate(body[first : start + len(stripped)], first):
        if character in _HEX:
            digits, colon = digits + character, 0
        elif character == ":" and digits and not colon:
            colon = position + 1
        else:
            expected = _BETWEEN if digits else "a hex digit" if prefix else "sha256: or a hex digit"
            return Problem(source, line, position + 1, _shown(character), expected)
    if colon:
        return Problem(source, line, colon, _shown(":"), _BETWEEN)
    if len(digits) != _DIGITS:
        return Problem(source, line, start + 1, f"{len(digits)} hex digits", f"exactly {_DIGITS} (a SHA-256)")
    return Fingerprint(digits.lower())


def _shown(character: str) -> str:
    return repr(character) if character.isprintable() else f"U+{ord(character):04X}"
