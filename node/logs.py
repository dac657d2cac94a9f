"""Structured logs: one line an event, for people or as JSON. What looks like a secret never gets out."""

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any, TextIO

import structlog

SECRET = re.compile(r"pass(phrase|word)?|secret|(api|db)[-_]?key|authorization|private|token|credential", re.IGNORECASE)
REDACTED = "[redacted]"


def redact(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
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


def configure(style: str, level: str, stream: TextIO | None = None) -> None:
    """`style`: console or json. Logs go to standard error, so that standard output is only what was asked for."""
    out = stream or sys.stderr
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if style == "json"
        else structlog.dev.ConsoleRenderer(colors=out.isatty(), sort_keys=False)
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            redact,
            *([structlog.processors.format_exc_info] if style == "json" else []),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(out),
        cache_logger_on_first_use=False,
    )
