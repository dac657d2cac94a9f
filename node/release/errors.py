"""What goes wrong with releases: ReleaseError where nothing could be decided, a finding where the answer is no."""

from dataclasses import dataclass

from node.release.locks import ReleaseError

__all__ = ["ReleaseError", "Finding"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One reason to say no: `about` is the file or the tag that it is about, `text` what was found and expected."""

    about: str
    text: str

    def __str__(self) -> str:
        return f"{self.about}: {self.text}"
