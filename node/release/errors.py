"""What goes wrong with releases: an error where nothing could be decided, a finding where the answer is no."""

from dataclasses import dataclass


class ReleaseError(Exception):
    """What is needed is not there or cannot be read, so nothing was decided. The text says what to do next."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One reason to say no: `about` is the file or the tag that it is about, `text` what was found and expected."""

    about: str
    text: str

    def __str__(self) -> str:
        return f"{self.about}: {self.text}"
