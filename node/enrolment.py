"""Edits of the keyring: whose a key is, which key took over from it, and from when on it is nobody's any more."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from node import editing as edits
from node import keyfile
from node.config import Config, InvalidInput, NotThere
from node.editing import editing
from node.home import Home
from sync import keyline, keyring
from sync.keyline import Entry, Problem, key_text
from sync.keyring import Keyring

INTRODUCTION = """\
# Whose key is whose: one public key of an agent a line.
#
#   ed25519:<43 characters>  <agent id>   # what you call it
#
# The other operator gets the line with `ai-memory identity generate AGENT`, and sends it to you by a way that you
# trust. An agent that stands here may sign with no other key; `ai-memory identity revoke` ends one. The node notices an
# edit of this file by itself; a line that is wrong changes nothing, and the log says which (`ai-memory keyring check`).
"""


@dataclass(frozen=True, slots=True)
class Enrolment:
    """The keyring of a node, as its operator edits it. Every method raises KeyringError for a file that is broken."""

    path: Path
    folder: Path
    """The node's, whose edits come one after the other."""

    @classmethod
    def of(cls, home: Home, config: Config) -> "Enrolment":
        return cls(home.keyring(config), home.path)

    def read(self) -> Keyring:
        return keyfile.load(self.path)

    def enroll(self, entry: Entry) -> bool:
        """Add a line; False where the key stands there for that agent already. Makes the file where there is none."""
        with editing(self.folder):
            text = self._text()
            past = entry.succession
            if past is None:
                return self._write(text, keyring.add(text, entry.key, entry.agent, entry.label))
            known = self.read().find(entry.key)
            if known is not None and known.agent == entry.agent:
                return False
            return self._write(
                text,
                keyring.add_successor(text, entry.agent, entry.key, past.after, past.at, past.by, entry.label),
            )

    def revoke(self, who: bytes | str, at: str) -> Sequence[bytes]:
        """Revoke a key, or all keys of an agent that are not revoked since earlier, from a canonical time on.

        Raises NotThere where there is none.
        """
        with editing(self.folder):
            found = self.read()
            if isinstance(who, bytes):
                one = found.find(who)
                entries = [one] if one is not None else []
            else:
                entries = [one for one in found.of(who) if one.revoked is None or one.revoked > at]
            if not entries:
                name = key_text(who) if isinstance(who, bytes) else f"a key of {who} in force"
                raise NotThere([f"{self.path}: no line of {name}; `ai-memory keyring list` shows all"])
            text = after = self._text()
            for entry in entries:
                after = keyring.revoke(after, entry.key, at)
            self._write(text, after)
            return [entry.key for entry in entries]

    def standing(self, agent: str, key: bytes, found: Keyring) -> str:
        """What the keyring says of a key, in a word or two for a person."""
        entry = found.find(key)
        if entry is None:
            return "not enrolled"
        if entry.agent != agent:
            return f"enrolled for {entry.agent}"
        return "enrolled" if entry.revoked is None else f"revoked {entry.revoked}"

    def _text(self) -> str:
        if not self.path.exists():
            return INTRODUCTION
        text = keyfile.read(self.path)
        keyring.parse(text, str(self.path))  # so that an error names the file
        return text

    def _write(self, before: str, after: str) -> bool:
        if after == before:
            return False
        edits.write(self.folder, {self.path: after.encode()})
        return True


def entry_of(line: str) -> Entry:
    """What a line for a keyring says. Raises InvalidInput."""
    # A newline in it would end the line in the file, and begin another that nobody has looked at.
    found = keyline.read(line.strip(), "the line", 1) if len(line.strip().splitlines()) == 1 else None
    if isinstance(found, Entry):
        return found
    wanted = "one line, ed25519:<43 characters>  <agent id>  # label"
    raise InvalidInput([str(found) if isinstance(found, Problem) else f"found no key, expected {wanted}"])
