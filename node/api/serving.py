"""Runs an application so that every error has the program's form, even where no handler is reached.

aiohttp answers by itself, in text or HTML, what is no HTTP at all, what has no route and what its router refuses, and
logs a trace for much of it. Here all of that passes through the one guard.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

import structlog
from aiohttp import web

from node.api.errors import OURS, Handler, answer, guarded
from node.api.sending import sent
from node.told import Told

KEEPALIVE = 75.0
GRACE = 5.0
"""Seconds that requests under way get at the end."""

ANSWERS = web.AppKey[Mapping[str, str]]("ANSWERS")
"""Where an application says which headers every answer has, whoever makes it."""

log = structlog.get_logger("http")


class Runner(web.AppRunner):
    """Serves an application on whatever accepts connections. `is_impatient`: who does not read is cut off.

    `most`: connections at one time; None where whoever accepts them counts.
    """

    def __init__(self, application: web.Application, *, is_impatient: bool = False, most: int | None = None) -> None:
        super().__init__(application, shutdown_timeout=GRACE)
        self._most = most
        self._connection = _ImpatientConnection if is_impatient else _Connection
        self._headers = application.get(ANSWERS, {})

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        handler = guarded(made.request_handler)
        return _Server(handler, made.request_factory, self._connection, self._headers, self._most)


class _Server(web.Server):
    def __init__(
        self,
        handler: Handler,
        request_factory: Any,
        connection: "type[_Connection]",
        headers: Mapping[str, str],
        most: int | None,
    ) -> None:
        async def answered(request: web.BaseRequest) -> web.StreamResponse:
            response = await handler(request)
            response.headers.update(headers)
            return response

        super().__init__(answered, request_factory=request_factory)
        self.told = Told()
        self._connection = connection
        self.answer_headers = headers
        self._most = most

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        """Where there are too many, the one that has been idle for longest goes; where none is, the new one."""
        super().connection_made(handler, transport)
        if self._most is None or len(self.connections) <= self._most:
            return
        there = [one for one in self.connections if one.transport is not None]  # not those that are being closed
        if len(there) > self._most:
            idle = (one for one in there if one is not handler and one._current_request is None)
            next(idle, handler).force_close()
            self.told.say("warning", "http.crowded", most=self._most, reason="too many connections at one time")

    def __call__(self) -> web.RequestHandler:
        return self._connection(
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
            manager = self._manager
            assert isinstance(manager, _Server), "which made this connection"
            manager.told.say("info", "http.malformed", address=request.remote, reason=what)
            response = answer("malformed", f"this is not a valid HTTP/1.1 request: {what}")
        else:
            log.error("http.bug", address=request.remote, exc_info=exc)
            response = answer("internal", OURS)
        response.force_close()
        assert isinstance(self._manager, _Server), "it was made by one"
        response.headers.update(self._manager.answer_headers)
        return response


class _ImpatientConnection(_Connection):
    """Every answer on it is read, or the connection ends: errors too, which no handler of ours sends."""

    __slots__ = ()

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        if isinstance(resp, web.StreamResponse):
            await sent(request, resp)  # nothing where the handler has done it
        return await super().finish_response(request, resp, start_time)
