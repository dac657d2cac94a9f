"""Sends answers in slices that have to make progress: who does not read is not waited for, nor held in memory."""

import asyncio

import structlog
from aiohttp import web

SLICE = 256 * 1024
"""Bytes that are encrypted at one go; what waits beyond them is the answer's own body, once."""
PATIENCE = 30.0
"""Seconds that the peer has for each slice. With what the transport holds: no less than some 20 KiB a second."""

log = structlog.get_logger("http")


async def sent(request: web.BaseRequest, response: web.StreamResponse) -> web.StreamResponse:
    """The response, sent. Raises ConnectionResetError, and has closed the connection, where the peer does not read."""
    body = response.body if isinstance(response, web.Response) else None
    try:
        if isinstance(body, bytes) and len(body) > SLICE:
            return await _sliced(request, response, body)
        async with asyncio.timeout(PATIENCE):
            await response.prepare(request)
            await response.write_eof()
        return response
    except TimeoutError:
        hang_up(request)
        raise ConnectionResetError("the peer does not read its answer") from None


async def _sliced(request: web.BaseRequest, response: web.StreamResponse, body: bytes) -> web.StreamResponse:
    parted = web.StreamResponse(status=response.status, headers=response.headers)
    parted.content_length = len(body)
    async with asyncio.timeout(PATIENCE):
        await parted.prepare(request)
    view = memoryview(body)
    for start in range(0, len(body), SLICE):
        async with asyncio.timeout(PATIENCE):
            await parted.write(view[start : start + SLICE])
    async with asyncio.timeout(PATIENCE):
        await parted.write_eof()
    return parted


def hang_up(request: web.BaseRequest) -> None:
    """Close the connection, and drop what waits to be sent."""
    log.info("http.unread", address=request.remote, patience=PATIENCE)
    if request.transport is not None:
        request.transport.abort()
