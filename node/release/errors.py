"""What goes wrong with releases: ReleaseError where nothing could be decided, a finding where the answer is no."""

from dataclasses import dataclass

from node.release.locks import ReleaseError

__all__ = ["ReleaseError", "Finding", "Unfit"]

_SHOWN = 400
"""Characters of a finding that are shown: the rest is a stranger's text."""


class Unfit(ValueError):
    """What a stranger may have made is larger than anything of a release, or of another form; the text says in what."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One reason to say no: `about` is the file or the tag that it is about, `text` what was found and expected."""

    about: str
    text: str

    def __str__(self) -> str:
        return shown(f"{self.about}: {self.text}")


def shown(text: str) -> str:
    """For a terminal: no control character but line ends of our own, and not more than anybody reads."""
    safe = "".join(one if one.isprintable() or one == "\n" else ascii(one)[1:-1] for one in text[: _SHOWN + 1])
    return safe if len(text) <= _SHOWN else f"{safe[:_SHOWN]}… ({len(text)} characters)"
