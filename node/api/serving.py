"""Runs an application so that every error has the program's form, even where no handler is reached.

aiohttp answers by itself, in text or HTML, what is no HTTP at all, what has no route and what its router refuses, and
logs a trace for much of it. Here all of that passes through the one guard.
"""

import asyncio
from typing import Any

import structlog
from aiohttp import web

from node.api.errors import OURS, Handler, answer, guarded

KEEPALIVE = 75.0
GRACE = 5.0
"""Seconds that requests under way get at the end."""

log = structlog.get_logger("http")


class Runner(web.AppRunner):
    """Serves an application on whatever accepts connections."""

    def __init__(self, application: web.Application) -> None:
        super().__init__(application, shutdown_timeout=GRACE)

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        return _Server(guarded(made.request_handler), made.request_factory)


class _Server(web.Server):
    def __init__(self, handler: Handler, request_factory: Any) -> None:
        super().__init__(handler, request_factory=request_factory)

    def __call__(self) -> web.RequestHandler:
        return _Connection(
            self,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type]
            keepalive_timeout=KEEPALIVE,
            auto_decompress=False,
        )


class _Connection(web.RequestHandler):
    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """What could not be parsed (400); all else passed the guard, unless the guard itself is wrong."""
        if isinstance(exc, ConnectionError) or request.writer.output_size > 0:
            raise ConnectionResetError("nobody is there to be answered, or has had part of an answer") from exc
        if status == 400:
            what = (message or "").partition("\n")[0].partition(":")[0].strip()[:100]
            log.info("http.malformed", address=request.remote, reason=what)
            response = answer("malformed", f"this is not a valid HTTP/1.1 request: {what}")
        else:
            log.error("http.bug", address=request.remote, exc_info=exc)
            response = answer("internal", OURS)
        response.force_close()
        return response
