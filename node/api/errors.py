"""One shape for every error on both listeners (protocol section 9): `{"error": sentence, "code": identifier}`."""

import asyncio
import functools
import zlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import structlog
from aiohttp import web

from node.store.errors import StoreError, StoreFull, StoreReadOnly
from sync.errors import RemoteError

log = structlog.get_logger("http")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

STATUS: Mapping[str, int] = {
    "malformed": 400,
    "invalid": 400,
    "limits": 400,
    "bad_cursor": 400,
    "bad_query": 400,
    "not_native": 400,
    "unsupported": 422,
    "not_found": 404,
    "method_not_allowed": 405,
    "ambiguous_id": 409,
    "title_taken": 409,
    "too_large": 413,
    "unsupported_media_type": 415,
    "unauthorized": 401,
    "forbidden_host": 403,
    "direction": 403,
    "busy": 503,
    "timeout": 408,
    "store_full": 507,
    "store_read_only": 503,
    "store": 500,
    "internal": 500,
}
"""Code to HTTP status: every code that this program answers with."""


@dataclass(frozen=True, slots=True)
class Problem:
    """An error to be answered."""

    code: str
    text: str


class ApiError(Exception):
    """Raised by a handler that wants to answer with an error."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.problem = Problem(code, text)


def answer(code: str, text: str) -> web.Response:
    """The response for an error. `code` is one of `STATUS`."""
    headers = {"Retry-After": "5"} if STATUS[code] in (503, 507) else None
    return json_response({"error": text, "code": code}, STATUS[code], headers)


def json_response(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """A JSON body, encoded by the one codec of the program."""
    return web.Response(
        body=msgspec.json.encode(value), status=status, content_type="application/json", headers=headers
    )


def raw_response(body: bytes, status: int = 200) -> web.Response:
    """A body that is JSON already."""
    return web.Response(body=body, status=status, content_type="application/json")


def guarded(handler: Handler) -> Handler:
    """Turn whatever a handler raises into an answer that tells a stranger nothing but what they did wrong."""

    @functools.wraps(handler)
    async def wrapped(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except ApiError as error:
            return answer(error.problem.code, error.problem.text)
        except RemoteError as error:
            return answer(error.code if error.code in STATUS else "invalid", str(error))
        except web.HTTPRequestEntityTooLarge:
            return answer("too_large", "the body is larger than this listener takes")
        except web.HTTPException as error:
            code = {404: "not_found", 405: "method_not_allowed"}.get(error.status, "malformed")
            return answer(code, f"{error.reason.lower()}: {request.method} {request.path[:100]}")
        except TimeoutError:
            return answer("timeout", "the request took too long to arrive; send it again")
        except StoreFull:
            log.error("store.full", path=request.path)
            return answer("store_full", "this node's disk is full: nothing was stored; try again once it has space")
        except StoreReadOnly:
            log.error("store.read_only", path=request.path)
            return answer("store_read_only", "the disk of this node cannot be written: nothing was stored")
        except StoreError:
            log.exception("store.error", path=request.path)
            return answer("store", "the store of this node has a problem; its operator finds it in the log")
        except ConnectionError:
            raise  # the client went away: there is nobody to answer
        except Exception:
            log.exception("http.bug", path=request.path)
            return answer("internal", "this node made a mistake; its operator finds it in the log")

    return wrapped


async def read_body(request: web.Request, limit: int, patience: float) -> bytes:
    """The body, at most `limit` bytes, within `patience` seconds. Refuses before buffering where the length is stated.

    aiohttp is told not to decompress; a compressed body is taken only as gzip or deflate and counted as it unfolds.
    """
    if (request.content_length or 0) > limit:
        raise ApiError("too_large", f"the body has {request.content_length} bytes, at most {limit} are taken")
    encoding = request.headers.get("Content-Encoding", "identity").lower()
    unfold = _decompressor(encoding, limit)
    parts: list[bytes] = []
    size = 0
    async with asyncio.timeout(patience):
        async for part in request.content.iter_any():
            part = unfold(part)
            size += len(part)
            if size > limit:
                raise ApiError("too_large", f"the body has more than {limit} bytes, that many at most are taken")
            parts.append(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _decompressor(encoding: str, limit: int) -> Callable[[bytes], bytes]:
    if encoding in ("", "identity"):
        return lambda part: part
    if encoding not in ("gzip", "deflate"):
        raise ApiError(
            "unsupported_media_type", f"content-encoding {encoding[:20]!r}: identity, gzip or deflate expected"
        )
    inflate = zlib.decompressobj(zlib.MAX_WBITS | (16 if encoding == "gzip" else 0))

    def unfold(part: bytes) -> bytes:
        try:
            # One byte more than allowed is enough to know: a bomb is never unfolded.
            return inflate.decompress(part, limit + 1)
        except zlib.error:
            raise ApiError("malformed", f"the body is not valid {encoding}") from None

    return unfold
