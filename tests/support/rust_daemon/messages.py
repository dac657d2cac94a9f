"""Requests and answers as values, and how the daemon words the ones that are not its own work."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote

from rust_daemon.rules import agent_fault
from rust_daemon.serde import Refused
from rust_daemon.store import compact

API = "/api/v1"
PUSH, SINCE = f"{API}/sync/push", f"{API}/sync/since"
MAX_BODY = 2 * 2**20
TEXT = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Request:
    """One request, as it came."""

    method: str
    path: str
    """Percent-encoded, without the query."""
    query: str
    """Percent-encoded."""
    headers: tuple[tuple[str, str], ...]
    """In order, names as they were sent; values with raw bytes beyond ASCII as UTF-8 or surrogates."""
    body: bytes
    certificate: str | None = None
    """SHA-256 of the client's certificate, 64 hex digits."""

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name), None)

    @property
    def parameters(self) -> dict[str, str]:
        """Decoded; `+` is a space."""
        return dict(parse_qsl(self.query, keep_blank_values=True))


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer. A body that is a dict goes out as JSON, a text as plain text, None as nothing."""

    status: int
    body: dict[str, Any] | str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str | None = None

    @property
    def data(self) -> bytes:
        if self.body is None:
            return b""
        return (self.body if isinstance(self.body, str) else compact(self.body)).encode()

    @property
    def kind(self) -> str | None:
        if self.body is None:
            return None
        return self.content_type or (TEXT if isinstance(self.body, str) else "application/json")


class Stop(Exception):
    """Ends a handler with an answer."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(str(answer.status))
        self.answer = answer


def error(status: int, text: str, **more: Any) -> Answer:
    return Answer(status, {"error": text, **more})


def refused(fault: Refused) -> Answer:
    return Answer(fault.status, fault.text)


def body_fault(request: Request) -> Answer | None:
    """What the extractor says before it looks at the JSON."""
    kind = (request.header("content-type") or "").split(";")[0].strip().lower()
    if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        return Answer(415, "Expected request with `Content-Type: application/json`")
    if len(request.body) > MAX_BODY:
        return Answer(413, "Failed to buffer the request body: length limit exceeded")
    return None


def caller(request: Request, name: str = "x-agent-id", given: str | None = None) -> str:
    """Who asks: what the body says, else the header, else somebody new each time. Raises Stop."""
    agent = given if given is not None else request.header("x-agent-id")
    if agent is None:
        return f"anonymous:req-{uuid.uuid4().hex[:8]}"
    fault = agent_fault(agent)
    if fault is not None:
        raise Stop(error(400, f"invalid {name}: {fault}"))
    return agent


def unsigned(parameters: Mapping[str, str], name: str, default: int) -> int:
    """A number in the query. Raises Stop."""
    text = parameters.get(name)
    if text is None:
        return default
    digits = text.removeprefix("+")
    if not digits.isascii() or not digits.isdigit():
        says = "cannot parse integer from empty string" if not text else "invalid digit found in string"
        raise Stop(Answer(400, f"Failed to deserialize query string: {name}: {says}"))
    return int(digits)


def segment(request: Request, at: int) -> str:
    """A decoded segment of the path; 0 is the first after `/api/v1`."""
    return unquote(request.path.removeprefix(API).split("/")[at + 1])
