"""The three standard streams of a command: an answer that cannot be written is an error, a remark that cannot is none.

Python leaves both to whoever writes: a full disk is a trace and the exit code of "the answer is no", or, where what is
buffered fails at the very end, exit code 120. Here every write to standard output fails as one error of its own, and
standard error fails for nobody: what a command did and answers does not depend on who reads its log.
"""

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO, cast

from node import plain
from node.cli.output import OutputLost, fail

_STANDARD = (0, 1, 2)


class _Stream:
    """Passes everything on to a stream of Python's, which may be None where the system gave none."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def isatty(self) -> bool:
        return self._stream is not None and self._stream.isatty()

    @property
    def encoding(self) -> str:
        return getattr(self._stream, "encoding", None) or "utf-8"

    def _encodable(self, text: str) -> str:
        """What the stream's encoding cannot hold is shown by its escape."""
        return text if text.isascii() else plain.encodable(text, self.encoding)


class Answers(_Stream):
    """Standard output. Raises OutputLost where it cannot be written."""

    def write(self, text: str) -> int:
        try:
            if self._stream is None:
                raise OutputLost(None)
            self._stream.write(self._encodable(text))
            return len(text)
        except (OSError, ValueError) as error:
            raise OutputLost(error) from None

    def flush(self) -> None:
        try:
            if self._stream is not None:
                self._stream.flush()
        except (OSError, ValueError) as error:
            raise OutputLost(error) from None

    @property
    def buffer(self) -> "_Bytes":
        """For whoever has bytes to write, as click has for completion."""
        return _Bytes(self)


class _Bytes:
    """The binary side of `Answers`."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers

    def write(self, data: bytes) -> int:
        return self._answers.write(data.decode())

    def flush(self) -> None:
        self._answers.flush()


class Remarks(_Stream):
    """Standard error. What cannot be written is left out: there is nowhere else to say so, and no answer needs it."""

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError, ValueError, AttributeError):
            if self._stream is not None:
                try:
                    self._stream.write(self._encodable(text))
                except UnicodeError:  # there are encodings that take nothing at all; an error must be seen all the same
                    self._stream.buffer.write(text.encode("ascii", "backslashreplace"))
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            if self._stream is not None:
                self._stream.flush()


@contextlib.contextmanager
def guarded(*, as_json: bool) -> Iterator[None]:
    """Within, standard output is `Answers` and standard error `Remarks`. Leaves with an exit code where it failed."""
    _fill()
    answers, remarks = Answers(sys.stdout), Remarks(sys.stderr)
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = cast(TextIO, answers), cast(TextIO, remarks)  # all that a stream does is passed on
    try:
        try:
            yield
        finally:
            answers.flush()
    except OutputLost as lost:
        _forget(before[0])
        if lost.is_closed:
            raise SystemExit(lost.exit_code) from None
        fail(lost, as_json)
    finally:
        sys.stdout, sys.stderr = before
        _settle(before[1])


def _fill() -> None:
    """Give 0, 1 and 2 to nothing, where the system left them free: a store or a key must not be opened as one of them.

    They are opened the wrong way round, so that reading the first and writing the second still fails.
    """
    for number in _STANDARD:
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDONLY if number == 1 else os.O_WRONLY)
            assert opened == number, "the lowest free one is given"
            os.set_inheritable(number, True)


def _forget(stream: TextIO | None) -> None:
    """Let go of what is still buffered: Python would try once more at its end, and leave with exit code 120."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        number = stream.fileno()  # type: ignore[union-attr]  # AttributeError where there is none
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, number)
        os.close(nowhere)


def _settle(stream: TextIO | None) -> None:
    """As `_forget`, where standard error has something left that cannot be written."""
    try:
        if stream is not None:
            stream.flush()
    except (OSError, ValueError):
        _forget(stream)
