"""Structured logs: one line an event, for people or as JSON. Neither a secret nor the text of a memory gets out.

What somebody else wrote is a value here, and stays one: escaped, bounded, and never a line of its own (`node.plain`).
Of an exception its kind and its places are told, and no message: what libraries say of a value that they cannot take
quotes it (docs/decisions/0051). A log that cannot be written is no reason to do anything else than without it.
"""

import asyncio
import contextlib
import json
import logging
import os
import re
import select
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator, MutableMapping
from pathlib import PurePath
from typing import Any, TextIO

import structlog

from node import plain

SECRET = re.compile(r"pass(phrase|word)?|secret|(api|db)[-_]?key|authorization|private|token|credential", re.IGNORECASE)
REDACTED = "[redacted]"
MOST_ITEMS = 20
"""Items of a list or a mapping that are told; of more the number."""
MOST_DEPTH = 4
MOST_EVENT = 80
MOST_FRAMES = 40
MOST_CAUSES = 8
PIPE = 512
"""Bytes that a pipe or terminal which is ready takes without keeping us waiting: POSIX's least PIPE_BUF."""

Event = MutableMapping[str, Any]


def redact(logger: Any, method: str, event: Event) -> Event:
    """Replace the value of every key that names a secret, however deep."""
    for key, value in event.items():
        if key != "event":
            event[key] = REDACTED if SECRET.search(key) else _redacted(value)
    return event


def _redacted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: REDACTED if SECRET.search(str(key)) else _redacted(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_redacted(item) for item in value]
    return value


def explain(logger: Any, method: str, event: Event) -> Event:
    """In place of an exception: its kind and its places."""
    given = event.pop("exc_info", None)
    error = sys.exc_info()[1] if given is True else given[1] if isinstance(given, tuple) else given
    if isinstance(error, BaseException):
        event["exception"] = "\n".join(trace_of(error))
    return event


def harmless(logger: Any, method: str, event: Event) -> Event:
    """Every value as what may stand in a line; the trace, which is ours, may have several."""
    for key, value in event.items():
        if key == "event":
            event[key] = plain.field(value, MOST_EVENT)
        elif key != "exception":
            event[key] = _harmless(value, MOST_DEPTH)
    return event


def _harmless(value: Any, depth: int) -> Any:
    match value:
        case int() if value.bit_length() > 64:
            return f"a number of {value.bit_length()} bits"
        case None | bool() | int() | float():
            return value
        case str() | PurePath():
            return plain.field(value)
        case dict() | list() | tuple() | set() | frozenset() if not depth:
            return f"{len(value)} items"
        case dict():
            told = {
                plain.field(key, MOST_EVENT): _harmless(item, depth - 1)
                for key, item in list(value.items())[:MOST_ITEMS]
            }
            return told | ({plain.MORE: f"{len(value) - MOST_ITEMS} more"} if len(value) > MOST_ITEMS else {})
        case list() | tuple() | set() | frozenset():
            told_of = [_harmless(item, depth - 1) for item in list(value)[:MOST_ITEMS]]
            return told_of + ([f"{len(value) - MOST_ITEMS} more"] if len(value) > MOST_ITEMS else [])
        case bytes():
            return f"{len(value)} bytes"
        case _:
            return f"<{_kind(type(value))}>"  # what it says of itself may quote anything


def trace_of(error: BaseException) -> list[str]:
    """Kinds and places of an exception and its causes, a line each; no message and no value, which may be anybody's."""
    lines: list[str] = []
    seen: set[int] = set()
    found: BaseException | None = error
    while found is not None and id(found) not in seen and len(seen) < MOST_CAUSES:
        seen.add(id(found))
        lines.append(f"{'because of ' if lines else ''}{_kind(type(found))}{_number(found)}")
        frames = traceback.extract_tb(found.__traceback__)
        lines += [f"  {frame.filename}:{frame.lineno} in {frame.name}" for frame in frames[-MOST_FRAMES:]]
        inner = found.exceptions[0] if isinstance(found, BaseExceptionGroup) else None
        found = inner or found.__cause__ or (None if found.__suppress_context__ else found.__context__)
    return [plain.line(line) for line in lines]


def _kind(kind: type) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _number(error: BaseException) -> str:
    """What an error says of itself in a word of a closed list: the system's, or SQLite's."""
    if isinstance(error, OSError) and error.errno is not None:
        return f" ({os.strerror(error.errno)})"
    name = getattr(error, "sqlite_errorname", None)
    return f" ({name})" if isinstance(name, str) else ""


class Sink:
    """Where lines go: to a stream's descriptor, unbuffered, and to nowhere for as long as that takes none.

    A full disk, a reader that went away and one that does not read are all alike: what cannot be written at once is
    counted, and the next line that can be is told how many are missing. Used by several threads.
    """

    def __init__(self, stream: TextIO | None, missing: Callable[[int], str]) -> None:
        """`missing`: the line that tells how many were lost."""
        self._stream = stream
        self._missing = missing
        self._lost = 0
        self._is_cut = False
        """Of the last line only a part went out: the next must not be run into it."""
        self._turn = threading.Lock()
        self._number: int | None = None
        self._poll: select.poll | None = None
        with contextlib.suppress(OSError, ValueError, AttributeError):  # no descriptor, or no stream at all
            self._number = stream.fileno() if stream is not None else None
        if self._number is not None:
            self._poll = select.poll()
            self._poll.register(self._number, select.POLLOUT)

    def write(self, text: str) -> int:
        """One line with its end, or nothing."""
        with self._turn:
            note = f"{self._missing(self._lost)}\n" if self._lost else ""
            if self._is_written("\n" * self._is_cut + note + text):
                self._lost = 0
            else:
                self._lost += 1
        return len(text)

    def flush(self) -> None:
        """Nothing is kept back."""

    def _is_written(self, text: str) -> bool:
        try:
            if self._number is None or self._poll is None:
                if self._stream is not None:
                    self._stream.write(text)
                    self._stream.flush()
                return True  # where there is no stream nobody misses a line
            encoding = getattr(self._stream, "encoding", None) or "utf-8"
            rest = memoryview(text.encode(encoding, "backslashreplace"))
            while rest and self._is_ready():
                rest = rest[os.write(self._number, rest[:PIPE]) :]
                self._is_cut = bool(rest)
            return not rest
        except (OSError, ValueError):
            return False

    def _is_ready(self) -> bool:
        assert self._poll is not None, "asked only where there is a descriptor"
        return any(what & select.POLLOUT for _, what in self._poll.poll(0))


def _missing(lost: int) -> str:
    return f"log.lost lines={lost}"


def _missing_json(lost: int) -> str:
    return json.dumps({"event": "log.lost", "level": "warning", "lines": lost})


def configure(style: str, level: str, stream: TextIO | None = None) -> None:
    """`style`: console or json. Logs go to standard error, so that standard output is only what was asked for."""
    out = stream or sys.stderr
    is_json = style == "json"
    renderer: Any = (
        structlog.processors.JSONRenderer(serializer=lambda event, **_: plain.as_json(event))
        if is_json
        else structlog.dev.ConsoleRenderer(
            colors=out is not None and out.isatty(), sort_keys=False, exception_formatter=structlog.dev.plain_traceback
        )
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            redact,
            explain,
            harmless,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.WriteLoggerFactory(Sink(out, _missing_json if is_json else _missing)),  # type: ignore[arg-type]  # it writes
        cache_logger_on_first_use=False,
    )


# --- what Python and its libraries would print by themselves

log = structlog.get_logger("python")


class _Bridge(logging.Handler):
    """Records of the standard library's `logging`: who, where and what kind, and of the text only the template."""

    def emit(self, record: logging.LogRecord) -> None:
        tell = log.error if record.levelno >= logging.ERROR else log.warning
        text = record.msg if record.args and isinstance(record.msg, str) else None
        where = f"{record.pathname}:{record.lineno}"
        error = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
        tell("library", logger=record.name, where=where, text=text, exc_info=error)


@contextlib.contextmanager
def everything() -> Iterator[None]:
    """Within, whatever Python or a library would print goes to the log, by its rules: threads, warnings, `logging`."""
    root, bridge = logging.getLogger(), _Bridge(logging.WARNING)
    handlers, hook, unraisable, show = root.handlers[:], threading.excepthook, sys.unraisablehook, warnings.showwarning
    root.handlers[:] = [bridge]
    threading.excepthook = lambda args: log.error(
        "thread.bug", thread=args.thread.name if args.thread else None, exc_info=args.exc_value
    )
    sys.unraisablehook = lambda args: log.error("python.unraisable", exc_info=args.exc_value)
    warnings.showwarning = lambda message, category, filename, lineno, file=None, line=None: log.warning(
        "python.warning", category=category.__name__, where=f"{filename}:{lineno}"
    )
    try:
        yield
    finally:
        root.handlers[:] = handlers
        threading.excepthook, sys.unraisablehook, warnings.showwarning = hook, unraisable, show


def of_loop(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """The event loop's handler for what nobody caught: its own would print callbacks and tasks with their values."""
    said = str(context.get("message", ""))
    log.error(
        "loop.bug", text=next((one for one in _LOOP if said.startswith(one)), None), exc_info=context.get("exception")
    )


_LOOP = (
    "Exception in callback",
    "Task exception was never retrieved",
    "Future exception was never retrieved",
    "Task was destroyed but it is pending",
    "Unhandled exception",
    "Fatal",
)
"""What event loops say first; what follows quotes arguments."""
