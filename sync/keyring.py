"""The keyring: which public key belongs to which agent. Parse, explain, edit (protocol section 5).

A text file, one key a line (`sync.keyline`); anything from `#` on is its label. A broken line is an error with its
place, never a guess, and all broken lines are reported at once. Editing keeps every other byte of the file.
"""

import hashlib
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from sync import keyline
from sync.errors import SyncError
from sync.keyline import Entry, Problem, Succession, key_text, successor_text

__all__ = (
    "EMPTY", "Entry", "Keyring", "KeyringError", "Problem", "Succession", "add", "add_successor", "key_text", "parse",
    "remove", "revoke", "successor_text",
)  # fmt: skip

_BOM = "\ufeff"
_NAME = "the keyring"


class KeyringError(SyncError):
    """The file cannot be used; `problems` has each broken line."""

    next_step = "Correct the line, or put a # before it."

    def __init__(self, problems: Sequence[Problem], *, is_whole: bool = False) -> None:
        """`is_whole`: it is about the file, not about a line of it; then each problem says what to do."""
        self.problems, self.is_whole = tuple(problems), is_whole
        super().__init__("\n".join(map(str, problems)))

    @property
    def lines(self) -> tuple[str, ...]:
        """The problems, each a line of its own; the last says what to do."""
        told = tuple(map(str, self.problems))
        return told if self.is_whole or not told else (*told[:-1], f"{told[-1]}. {self.next_step}")


@dataclass(frozen=True, slots=True)
class Keyring:
    """A parsed file. Empty knows nobody."""

    entries: tuple[Entry, ...] = ()
    warnings: tuple[str, ...] = ()
    tag: str = field(init=False, compare=False)
    """16 hex digits that differ where something else is believed; comments, order and hand-overs are no difference."""
    _by_key: Mapping[bytes, Entry] = field(init=False, repr=False, compare=False)
    _by_agent: Mapping[str, tuple[Entry, ...]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        by_agent: defaultdict[str, list[Entry]] = defaultdict(list)
        for one in self.entries:
            by_agent[one.agent].append(one)
        said = sorted(f"{key_text(one.key)} {one.agent} {one.revoked or ''}" for one in self.entries)
        object.__setattr__(self, "tag", hashlib.sha256("\n".join(said).encode()).hexdigest()[:16])
        object.__setattr__(self, "_by_key", MappingProxyType({one.key: one for one in self.entries}))
        found = {agent: tuple(entries) for agent, entries in by_agent.items()}
        object.__setattr__(self, "_by_agent", MappingProxyType(found))

    def find(self, key: bytes) -> Entry | None:
        """The entry of a key; None where nobody is enrolled with it."""
        return self._by_key.get(key)

    def of(self, agent: str) -> tuple[Entry, ...]:
        """The keys of an agent, revoked ones too; empty where it is not enrolled."""
        return self._by_agent.get(agent, ())

    @property
    def agents(self) -> frozenset[str]:
        return frozenset(self._by_agent)

    def __len__(self) -> int:
        return len(self.entries)


EMPTY = Keyring()


def parse(text: str, source: str) -> Keyring:
    """The keyring in `text`; `source` names it in errors. Raises KeyringError."""
    entries: dict[bytes, Entry] = {}
    problems: list[Problem] = []
    warnings: list[str] = []
    for number, line in enumerate(text.removeprefix(_BOM).split("\n"), 1):
        found = keyline.read(line.removesuffix("\r"), source, number)
        if isinstance(found, Problem):
            problems.append(found)
        elif found is not None:
            first = entries.setdefault(found.key, found)
            if first is not found:
                twice = _twice(first, found, source)
                if isinstance(twice, Problem):
                    problems.append(twice)
                else:
                    warnings.append(twice)
    if not problems:  # what a broken line would have said is not known
        problems.extend(_succession_faults(entries, source))
    if problems:
        raise KeyringError(sorted(problems, key=lambda one: (one.line, one.column)))
    warnings.extend(_doubtful(entries, source))
    return Keyring(tuple(entries.values()), tuple(warnings))


def add(text: str, key: bytes, agent: str, label: str = "") -> str:
    """The file's text with one more key; unchanged where it is listed for that agent already. Raises KeyringError."""
    found = parse(text, _NAME).find(key)
    if found is not None and found.agent == agent:
        return text
    return _with(text, Entry(key, agent, label=label))


def add_successor(text: str, agent: str, new: bytes, old: bytes, at: str, signature: bytes, label: str = "") -> str:
    """The file's text with the key that took over from another; `at` is canonical. Raises KeyringError.

    `signature`: by the old key, over `successor_text`. Where the new key is listed in just that way, nothing changes;
    where it is listed without a predecessor, its line is not touched and the file is refused.
    """
    entry = Entry(new, agent, None, Succession(old, at, signature), label)
    found = parse(text, _NAME).find(new)
    if found is not None and found.meaning == entry.meaning:
        return text
    return _with(text, entry)


def revoke(text: str, key: bytes, at: str) -> str:
    """The file's text with this key revoked from `at` (canonical) on, whatever it said before. Raises KeyringError."""
    if parse(text, _NAME).find(key) is None:
        raise KeyringError([Problem(_NAME, 1, 1, f"no line of {key_text(key)}", "the key that is to be revoked")])
    return _checked(_edited(text, key, lambda line: keyline.with_revoked(line, at)))


def remove(text: str, key: bytes) -> str:
    """The file's text without any line of this key. Raises KeyringError where another line names it as predecessor."""
    parse(text, _NAME)
    return _checked(_edited(text, key, lambda _: None))


def _with(text: str, entry: Entry) -> str:
    newline = "\r\n" if "\r\n" in text else "\n"
    start = text if text.endswith(("\n", _BOM)) or not text else text + newline
    return _checked(f"{start}{keyline.written(entry)}{newline}")


def _edited(text: str, key: bytes, edit: Callable[[str], str | None]) -> str:
    """The text with the lines of a key put through `edit`; None takes a line out."""
    content = text.removeprefix(_BOM)
    kept = [text[: len(text) - len(content)]]
    for line in re.findall(r"[^\n]*\n|[^\n]+", content):
        body = line.removesuffix("\n").removesuffix("\r")
        found = keyline.read(body, _NAME, 1)
        if isinstance(found, Entry) and found.key == key:
            changed = edit(body)
            line = "" if changed is None else changed + line[len(body) :]
        kept.append(line)
    return "".join(kept)


def _checked(text: str) -> str:
    parse(text, _NAME)
    return text


def _twice(first: Entry, again: Entry, source: str) -> Problem | str:
    """A key that is listed a second time: told where both lines say the same, refused where one of them is wrong."""
    if first.meaning == again.meaning:
        return f"{source}:{again.line}: the same key as in line {first.line} ({first.label or 'no label'})"
    if first.agent != again.agent:
        return Problem(
            source,
            again.line,
            1,
            f"a key of {first.agent} (line {first.line}) for {again.agent}",
            "one agent for a key",
        )
    return Problem(source, again.line, 1, f"a key that line {first.line} says something else of", "one line for a key")


def _succession_faults(entries: Mapping[bytes, Entry], source: str) -> Iterator[Problem]:
    for one in entries.values():
        if one.succession is None:
            continue
        before = entries.get(one.succession.after)
        if before is None:
            found = f"{key_text(one.succession.after)} as the key before, which is not listed"
            yield Problem(
                source, one.line, 1, found, f"a line of that key for {one.agent}, or this one without after, at and by"
            )
        elif before.agent != one.agent:
            found = f"a key of {before.agent} (line {before.line}) as the key before"
            yield Problem(source, one.line, 1, found, f"one of {one.agent}")
    for circle in _circles(entries):
        lines = ", ".join(str(one.line) for one in circle)
        found = f"keys that took over from each other in a circle (lines {lines})"
        yield Problem(source, circle[0].line, 1, found, "a first key")


def _circles(entries: Mapping[bytes, Entry]) -> Iterator[list[Entry]]:
    """Each chain of successors that has no first key, once, its entries in the file's order."""
    done: set[bytes] = set()
    for entry in entries.values():
        path: list[Entry] = []
        one: Entry | None = entry
        while one is not None and one.key not in done:
            done.add(one.key)
            path.append(one)
            one = entries.get(one.succession.after) if one.succession is not None else None
        if one is not None and one in path:
            yield sorted(path[path.index(one) :], key=lambda entry: entry.line)


def _doubtful(entries: Mapping[bytes, Entry], source: str) -> Iterator[str]:
    """What is allowed and may be a mistake: keys side by side, and a hand-over by a key that was revoked already."""
    firsts: dict[str, Entry] = {}
    heirs: dict[bytes, Entry] = {}
    for one in _in_order(entries.values()):
        if one.succession is None:
            first = firsts.setdefault(one.agent, one)
            if first is not one:
                yield (
                    f"{source}:{one.line}: another key of {one.agent}, which has that of line {first.line}, and no "
                    "word of either for the other"
                )
            continue
        before = entries[one.succession.after]
        heir = heirs.setdefault(before.key, one)
        if heir is not one:
            yield f"{source}:{one.line}: another successor of line {before.line}, which has that of line {heir.line}"
        if before.revoked is not None and before.revoked < one.succession.at:
            yield (
                f"{source}:{one.line}: signed at {one.succession.at} by the key of line {before.line}, revoked since "
                f"{before.revoked}: whoever stole that key may have signed this"
            )


def _in_order(entries: Iterable[Entry]) -> list[Entry]:
    return sorted(entries, key=lambda one: one.line)
