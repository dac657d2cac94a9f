"""Text that a command is given by a file or a pipe: taken as UTF-8, or refused with a word about what it is instead."""

import codecs
import sys
from pathlib import Path
from typing import Any, BinaryIO

import click

from node.cli.output import REFUSED, CommandError
from sync.memory import MAX_CONTENT_BYTES

_MARKS = (
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)
MOST_BYTES = 1 << 20
"""As many are read. A text that may be stored is far shorter, however its lines end."""
STANDARD_INPUT = "standard input"


class Place(click.Path):
    """A path that a command is given. What cannot be read there is said by who reads it, with what to do about it."""

    def __init__(self, *, file_okay: bool = True, dir_okay: bool = True, allow_dash: bool = False) -> None:
        # Without `readable` click does not look: of a file that is denied it knows neither whose it is nor what to do.
        super().__init__(path_type=Path, file_okay=file_okay, dir_okay=dir_okay, allow_dash=allow_dash, readable=False)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """A `Path`. Wrong usage where it is empty, which every program takes for the folder that one is in."""
        if value == "":
            what = "folder" if not self.file_okay else "file" if not self.dir_okay else "path"
            self.fail(f"it is empty, expected the name of a {what}", param, ctx)
        return super().convert(value, param, ctx)


def standard_input() -> str:
    """All of it. Raises CommandError `invalid`."""
    if sys.stdin is None:
        raise CommandError(REFUSED, "invalid", f"{STANDARD_INPUT} is closed, UTF-8 text expected")
    try:
        return decoded(_bounded(sys.stdin.buffer, STANDARD_INPUT), STANDARD_INPUT)
    except OSError as error:
        why = (error.strerror or "").lower()
        raise CommandError(REFUSED, "invalid", f"{STANDARD_INPUT} cannot be read: {why}") from None


def of_file(path: Path) -> str:
    """All of a file. Raises CommandError `invalid`, OSError."""
    with path.open("rb") as file:
        return decoded(_bounded(file, str(path)), str(path))


def _bounded(file: BinaryIO, name: str) -> bytes:
    data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise CommandError(
            REFUSED,
            "invalid",
            f"{name} has more than {MOST_BYTES} bytes; a memory's text has at most {MAX_CONTENT_BYTES}",
        )
    return data


def decoded(data: bytes, name: str) -> str:
    """The text of these bytes: without a mark of its encoding, its lines ended by LF alone, as memories have them.

    Raises CommandError `invalid`, which says what was found in `name`.
    """
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            raise _refused(name, f"{encoding} text", encoding)
    data = data.removeprefix(codecs.BOM_UTF8)
    if (place := data.find(b"\0")) >= 0:
        every_other = data[1::2].count(0) * 4 > len(data) or data[::2].count(0) * 4 > len(data)
        if every_other:
            raise _refused(name, "UTF-16 text", "UTF-16LE")
        raise CommandError(REFUSED, "invalid", f"{name} is not text: byte {place} is NUL; UTF-8 text expected")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise CommandError(
            REFUSED,
            "invalid",
            f"{name} is not UTF-8 text: byte {error.start} is 0x{data[error.start]:02x}; if it is Latin-1, convert it:"
            " iconv -f LATIN1 -t UTF-8",
        ) from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _refused(name: str, found: str, encoding: str) -> CommandError:
    return CommandError(
        REFUSED, "invalid", f"{name} is {found}, UTF-8 expected; convert it: iconv -f {encoding} -t UTF-8"
    )
