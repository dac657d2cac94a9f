"""Lock files: every pin with its version, its environment and its digests, and not one line of anything else."""

import re
from dataclasses import dataclass

PIN = re.compile(r"(?P<name>[A-Za-z0-9._-]+)==(?P<version>[A-Za-z0-9.!+_-]+)(?: ; (?P<marker>[^\\]+?))?")
DIGEST = re.compile(r"--hash=sha256:(?P<digest>[0-9a-f]{64})")


class ReleaseError(Exception):
    """What a release is made of is not as it has to be; the text says what to do."""


@dataclass(frozen=True, slots=True)
class Pin:
    """One package of a lock."""

    name: str
    """Normalised, PEP 503."""
    version: str
    marker: str
    """PEP 508: where it is installed; empty means everywhere."""
    digests: tuple[str, ...]
    """SHA-256 of every file that may be installed for it, in hex, ascending."""


def normalised(name: str) -> str:
    """A package's name as an index compares it, PEP 503."""
    return re.sub(r"[-_.]+", "-", name).lower()


def parse(text: str, of: str = "the lock") -> dict[str, Pin]:
    """The pins of a lock by name, in its order.

    Raises ReleaseError for a line that is no pin with digests: an address, an option, a range, a pin without a digest.
    """
    pins: dict[str, Pin] = {}
    for number, words in _statements(text):
        head = PIN.fullmatch(words[0])
        if head is None:
            raise ReleaseError(f"{of}, line {number}: expected name==version, found {words[0]!r}: run `make lock`")
        digests = [DIGEST.fullmatch(word) for word in words[1:]]
        if not digests or None in digests:
            raise ReleaseError(f"{of}, line {number}: {words[0]} needs SHA-256 digests, no more: run `make lock`")
        name = normalised(head["name"])
        if name in pins:
            raise ReleaseError(f"{of}, line {number}: {name} is pinned twice: run `make lock`")
        found = tuple(sorted({one["digest"] for one in digests if one is not None}))
        pins[name] = Pin(name, head["version"], head["marker"] or "", found)
    if not pins:
        raise ReleaseError(f"{of} pins nothing: run `make lock`")
    return pins


def _statements(text: str) -> list[tuple[int, list[str]]]:
    """Lines joined at their backslashes, with the number of the first, comments and empty ones left out."""
    statements: list[tuple[int, list[str]]] = []
    continued = False
    for number, line in enumerate(text.splitlines(), 1):
        word = line.removesuffix("\\").strip()
        if word and not word.startswith("#"):
            if continued:
                statements[-1][1].append(word)
            else:
                statements.append((number, [word]))
        continued = line.endswith("\\")
    return statements
