"""Logs: one line an event, for people or as JSON, and no secret in any of them."""

import asyncio
import gc
import io
import json
import logging
import os
import re
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest
import structlog

from node import logs
from node.logs import REDACTED, Sink

SECRET = "hunter2"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Other tests find structlog as it was."""
    yield
    structlog.reset_defaults()


def told(style: str = "json", level: str = "debug", stream: io.StringIO | None = None) -> tuple[Any, io.StringIO]:
    stream = stream or io.StringIO()
    logs.configure(style, level, stream)
    return structlog.get_logger("test"), stream


def test_a_json_line_is_one_object() -> None:
    """Event, level, time and what was given; text with line breaks stays in its line."""
    log, out = told()
    log.info("peer.failing", peer="büro", reason="two\nlines", behind=3)
    log.warning("next")
    first, second = map(json.loads, out.getvalue().splitlines())
    assert first.pop("timestamp").endswith("Z")
    assert first == {"event": "peer.failing", "level": "info", "peer": "büro", "reason": "two\\nlines", "behind": 3}
    assert (second["event"], second["level"]) == ("next", "warning")


def test_a_console_line_is_for_people() -> None:
    """One line with event and values, coloured only on a terminal."""
    log, out = told("console")
    log.info("peer.failing", peer="desk", reason="it refused us")
    assert out.getvalue().count("\n") == 1
    assert "peer.failing" in out.getvalue()
    assert "peer=desk" in out.getvalue()
    assert "\x1b" not in out.getvalue()
    log, out = told("console", stream=Terminal())
    log.info("peer.failing")
    assert "\x1b" in out.getvalue()


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        ("debug", ["debug", "info", "warning", "error"]),
        ("info", ["info", "warning", "error"]),
        ("warning", ["warning", "error"]),
        ("error", ["error"]),
    ],
)
def test_a_level_leaves_out_what_is_below(level: str, expected: list[str]) -> None:
    """The level of the configuration is the least that is told."""
    log, out = told(level=level)
    for name in ("debug", "info", "warning", "error"):
        getattr(log, name)("event")
    assert [json.loads(line)["level"] for line in out.getvalue().splitlines()] == expected


@pytest.mark.parametrize("style", ["json", "console"])
def test_an_error_brings_its_trace(style: str) -> None:
    """`exception` shows kind and place, for a cause as well; as JSON it is one value of the one object."""
    log, out = told(style)
    try:
        try:
            raise FileNotFoundError(2, "what happened", "/a/file")
        except OSError as cause:
            raise ValueError("what happened") from cause
    except ValueError:
        log.exception("http.bug")
    trace = json.loads(out.getvalue())["exception"] if style == "json" else out.getvalue()
    for part in (
        "ValueError",
        "because of FileNotFoundError (No such file or directory)",
        f"{__file__}:",
        " in test_an_",
    ):
        assert part in trace
    assert "what happened" not in trace
    assert "/a/file" not in trace


# --- what memories say

TITLE, CONTENT = "The quiet plan", "to be told to nobody at all"


class Quoting:
    """Something that says of itself what it holds, as a struct does."""

    def __repr__(self) -> str:
        return CONTENT


def fail_over(title: str, content: str) -> None:
    """Fails as libraries do: the value stands in a local variable, in the message, and in the cause's."""
    held = {"title": title, "content": content}
    try:
        msgspec.convert({"tier": content}, type=Tier)
    except msgspec.ValidationError as error:
        raise ValueError(f"{held!r}", Quoting()) from error


class Tier(msgspec.Struct):
    """Whose decoder quotes what it does not know."""

    tier: Literal["long"]


def in_a_handler(log: Any) -> None:
    try:
        fail_over(TITLE, CONTENT)
    except ValueError:
        log.exception("http.bug")


def as_an_argument(log: Any) -> None:
    try:
        fail_over(TITLE, CONTENT)
    except ValueError as error:
        log.error("sync.bug", exc_info=error)


def as_a_value(log: Any) -> None:
    log.error("event", error=ValueError(CONTENT), memory=Quoting(), body=CONTENT.encode(), deep={"x": [Quoting()]})


def in_a_group(log: Any) -> None:
    try:
        raise ExceptionGroup(TITLE, [ValueError(CONTENT)])
    except ExceptionGroup as error:
        log.error("group", exc_info=error)


def by_a_library(log: Any) -> None:
    try:
        fail_over(TITLE, CONTENT)
    except ValueError:
        logging.getLogger("aiohttp.server").exception("Error handling %s", CONTENT)
    logging.getLogger("other").warning(f"it says {CONTENT}")  # as libraries do


def by_the_event_loop(log: Any) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(logs.of_loop)
        loop.call_soon(fail_over, TITLE, CONTENT)
        task = loop.create_task(asyncio.to_thread(fail_over, TITLE, CONTENT), name="nobody waits")
        await asyncio.wait([task])
        del task
        gc.collect()

    asyncio.run(main())


def by_a_thread(log: Any) -> None:
    thread = threading.Thread(target=fail_over, args=(TITLE, CONTENT))
    thread.start()
    thread.join(20)


def by_a_warning(log: Any) -> None:
    warnings.showwarning(UserWarning(CONTENT), UserWarning, "file.py", 1)  # as Python calls it


def in_a_destructor(log: Any) -> None:
    class Ending:
        def __del__(self) -> None:
            fail_over(TITLE, CONTENT)

    one = Ending()
    del one
    gc.collect()


WAYS = [
    in_a_handler, as_an_argument, as_a_value, in_a_group, by_a_library, by_the_event_loop, by_a_thread, by_a_warning,
    in_a_destructor,
]  # fmt: skip


@pytest.mark.parametrize("style", ["json", "console"])
@pytest.mark.parametrize("way", WAYS)
def test_what_a_memory_says_is_in_no_trace(
    way: Callable[[Any], None], style: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """Neither from a message nor from a local variable nor from what an object says of itself, whoever logs it."""
    log, out = told(style, stream=Terminal() if style == "console" else None)
    with logs.everything():
        way(log)
    printed = capfd.readouterr()
    said = out.getvalue()
    assert said.count("error") + said.count("warning") >= 1, "it is told that something happened"
    for text in (said, printed.out, printed.err):
        assert TITLE not in text
        assert CONTENT not in text


def rich_traces(monkeypatch: pytest.MonkeyPatch) -> None:
    """As structlog does it by itself."""
    monkeypatch.setattr(logs, "explain", lambda logger, method, event: event)
    monkeypatch.setattr(structlog.dev, "plain_traceback", structlog.dev.RichTracebackFormatter(show_locals=True))


def test_without_the_rules_memories_would_be_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: structlog's own traces have the locals where `rich` is there, and what a value says is told."""
    rich_traces(monkeypatch)
    log, out = told("console")
    in_a_handler(log)
    assert TITLE in out.getvalue()
    monkeypatch.setattr(logs, "harmless", lambda logger, method, event: event)
    log, out = told("console")
    as_a_value(log)
    assert CONTENT in out.getvalue()


@pytest.mark.parametrize("way", [by_a_library, by_a_thread, in_a_destructor])
def test_without_the_hooks_memories_would_be_told(way: Callable[[Any], None]) -> None:
    """Control: what Python prints by itself has the message."""
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import test_logs as t; t.{way.__name__}(None)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert CONTENT in ran.stderr


# --- what peers say

FORGED = "failed\n2026-01-01T00:00:00Z [info] sync.health now=in_step\x1b]0;owned\x07\u202e peer=desk"


@pytest.mark.parametrize("style", ["json", "console"])
def test_no_value_passes_for_a_line_or_for_another_value(style: str) -> None:
    """One line an event, whatever is in its values, its name, its keys; and of bounded length."""
    log, out = told(style)
    log.warning(f"alarm.{FORGED}", reason=FORGED, peer=FORGED, deep={FORGED: [FORGED, (FORGED,)]})
    log.warning("long", reason="x" * 10**6, many=["y" * 10**5] * 10**3, number=1 << 100_000)
    first, second, rest = out.getvalue().split("\n")
    assert rest == ""
    assert len(second) < 20_000
    for line in (first, second):
        assert not re.search("[\x00-\x1f\x7f-\x9f\u202e]", line)
    if style == "json":
        assert not re.search("[\x00-\x1f\x7f-\x9f\u202e]", str(json.loads(first)))
    else:
        assert " peer='failed" in first, "in quotes, as it has blanks"


def test_the_checks_see_a_forged_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: without the rule one event has two lines, and the terminal is given orders."""
    monkeypatch.setattr(logs, "harmless", lambda logger, method, event: event)
    log, out = told("console")
    log.warning(f"alarm.{FORGED}")
    assert out.getvalue().count("\n") == 2
    assert "\x1b]0;" in out.getvalue()


# --- a log that cannot be written


def sink(stream: Any) -> Sink:
    return Sink(stream, lambda lost: f"lost {lost}")


def test_a_full_disk_and_no_stream_at_all_are_no_errors() -> None:
    """The line is left out."""
    with Path("/dev/full").open("w") as full:
        sink(full).write("line\n")
    sink(None).write("line\n")


def test_a_reader_that_does_not_read_is_not_waited_for() -> None:
    """What it does not take at once is left out, and counted in the first line that it takes again, which is whole."""
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as pipe, os.fdopen(reading, "rb") as end:
        out = sink(pipe)
        for number in range(3_000):
            out.write(f"{number} {'x' * 100}\n")
        os.set_blocking(reading, False)
        before = end.read()
        assert before is not None
        out.write("after\n")
        again = end.read()
    lines = before.decode().splitlines()
    whole = [line for line in lines if len(line.partition(" ")[2]) == 100]
    note, last = again.decode().strip("\n").split("\n")
    assert (note, last) == (f"lost {3_000 - len(whole)}", "after")


def test_a_reader_that_went_away_is_no_error() -> None:
    """As `2>&1 | head` leaves it."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as pipe:
        sink(pipe).write("line\n")


def test_a_plain_stream_fails_for_whoever_logs() -> None:
    """Control: Python's own stream raises."""
    full = Path("/dev/full").open("w")  # noqa: SIM115  # closing it fails as well
    with pytest.raises(OSError, match="No space left"):
        print("line", file=full, flush=True)
    with pytest.raises(OSError, match="No space left"):
        full.close()


NAMES = [
    "passphrase", "password", "PASSPHRASE", "db_passphrase", "secret", "client_secret", "api_key", "apikey",
    "X-Api-Key", "AI_MEMORY_DB_KEY", "authorization", "private_key", "token", "credentials",
]  # fmt: skip


@pytest.mark.parametrize("style", ["json", "console"])
@pytest.mark.parametrize("name", NAMES)
def test_a_secret_is_not_told(style: str, name: str) -> None:
    """Whatever is called like a secret is replaced: at the top, below, in lists, and bound beforehand."""
    log, out = told(style)
    log.info("event", **{name: SECRET})
    log.info("event", request={"headers": {name: SECRET}})
    log.info("event", requests=[{name: SECRET}, ({name: [SECRET]},)])
    log.bind(**{name: SECRET}).info("event")
    assert SECRET not in out.getvalue()
    assert out.getvalue().count(REDACTED) == 5


def test_what_is_no_secret_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: other names pass, deep ones as well; and without the filter a secret would be told."""
    log, out = told()
    log.info("the passphrase is wrong", peer="desk", found={"keys": [{"fingerprint": "sha256:00"}]})
    told_of = json.loads(out.getvalue())
    assert told_of["event"] == "the passphrase is wrong"
    assert told_of["found"] == {"keys": [{"fingerprint": "sha256:00"}]}
    monkeypatch.setattr(logs, "redact", lambda logger, method, event: event)
    log, out = told()
    log.info("event", requests=[{"token": SECRET}])
    assert SECRET in out.getvalue()


def test_logs_go_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    """Standard output is for what was asked for."""
    logs.configure("json", "info")
    structlog.get_logger("test").info("event")
    out, err = capsys.readouterr()
    assert out == ""
    assert json.loads(err)["event"] == "event"
