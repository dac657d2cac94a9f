"""Logs: one line an event, for people or as JSON, and no secret in any of them."""

import io
import json
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from node import logs
from node.logs import REDACTED

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
    assert first == {"event": "peer.failing", "level": "info", "peer": "büro", "reason": "two\nlines", "behind": 3}
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
    """`exception` shows where it came from; as JSON it is one value of the one object."""
    log, out = told(style)
    try:
        raise ValueError("what happened")
    except ValueError:
        log.exception("http.bug")
    assert "ValueError: what happened" in out.getvalue()
    if style == "json":
        assert "Traceback" in json.loads(out.getvalue())["exception"]


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
