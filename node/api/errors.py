"""One shape for every error on both listeners (protocol section 9): `{"error": sentence, "code": identifier}`."""

import asyncio
import zlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import structlog
from aiohttp import web

from node.store.errors import PartlyStored, StoreError, StoreFull, StoreReadOnly, StoreReplaced
from node.told import Told
from sync.errors import RemoteError

log = structlog.get_logger("http")
Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

STATUS: Mapping[str, int] = {
    "malformed": 400,
    "invalid": 400,
    "limits": 400,
    "bad_cursor": 400,
    "bad_query": 400,
    "not_native": 400,
    "not_legacy": 400,
    "unsupported": 422,
    "unprocessable": 422,
    "not_found": 404,
    "method_not_allowed": 405,
    "ambiguous_id": 409,
    "title_taken": 409,
    "conflict_changed": 409,
    "too_large": 413,
    "unsupported_media_type": 415,
    "unauthorized": 401,
    "forbidden_host": 403,
    "forbidden_site": 403,
    "forbidden": 403,
    "direction": 403,
    "scope": 403,
    "busy": 503,
    "timeout": 408,
    "store_full": 507,
    "store_read_only": 503,
    "store_replaced": 503,
    "unwell": 503,
    "store": 500,
    "internal": 500,
}
"""Code to HTTP status: every code that this program answers with."""
OURS = "this node made a mistake; its operator finds it in the log"


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

    told = Told()  # whoever is answered so may ask again at once

    async def wrapped(request: web.BaseRequest) -> web.StreamResponse:
        try:
            return await handler(request)
        except ApiError as error:
            return answer(error.problem.code, error.problem.text)
        except RemoteError as error:
            return answer(error.code if error.code in STATUS else "invalid", str(error))
        except web.HTTPException as error:
            return _of_http(request, error)
        except web.RequestPayloadError:
            return answer("malformed", "the body ends before its stated length, or its chunks are not well-formed")
        except TimeoutError:
            return answer("timeout", "the request took too long to arrive; send it again")
        except PartlyStored as error:
            told.say(
                "error", "store.partly", path=request.path, stored=error.stored, of=error.count, reason=str(error.cause)
            )
            return _partly(error)
        except StoreFull:
            told.say("error", "store.full", path=request.path)
            return answer("store_full", "this node's disk is full: nothing was stored; try again once it has space")
        except StoreReadOnly:
            told.say("error", "store.read_only", path=request.path)
            return answer("store_read_only", "the disk of this node cannot be written: nothing was stored")
        except StoreReplaced as error:
            told.say("error", "store.replaced", path=request.path, reason=str(error))
            return answer(
                "store_replaced", f"this node's store was taken away under it: nothing was stored. {StoreReplaced.DO}"
            )
        except StoreError:
            told.say("error", "store.error", path=request.path, exc_info=True)
            return answer("store", "the store of this node has a problem; its operator finds it in the log")
        except ConnectionError:
            raise  # the client went away: there is nobody to answer
        except Exception:
            told.say("error", "http.bug", path=request.path, exc_info=True)
            return answer("internal", OURS)

    return wrapped


_WHY: Mapping[type[StoreError], tuple[str, str]] = {
    StoreFull: ("store_full", "this node's disk is full"),
    StoreReadOnly: ("store_read_only", "the disk of this node cannot be written"),
    StoreReplaced: ("store_replaced", "this node's store was taken away under it"),
}


def _partly(error: PartlyStored) -> web.Response:
    """An error that says beside its sentence what of a request is stored, and what is not."""
    code, why = _WHY.get(type(error.cause), ("store", "the store of this node has a problem"))
    text = f"{error.stored} of {error.count} were stored, and the others were not: {why}"
    headers = {"Retry-After": "5"} if STATUS[code] in (503, 507) else None
    return json_response({"error": text, "code": code, **error.told}, STATUS[code], headers)


def _of_http(request: web.BaseRequest, error: web.HTTPException) -> web.Response:
    """What the router says, in our own words and form."""
    asked = f"{request.method} {request.path[:100]}"
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(error.allowed_methods))
        response = answer("method_not_allowed", f"there is no {asked}; this path knows {allowed}")
        response.headers["Allow"] = allowed
        return response
    if isinstance(error, web.HTTPNotFound):
        return answer("not_found", f"there is nothing at {asked}")
    if error.status >= 500:
        log.error("http.bug", path=request.path, exc_info=error)
        return answer("internal", OURS)
    return answer("malformed", f"{error.reason.lower()}: {asked}")


def require_json(request: web.BaseRequest) -> None:
    """Raises ApiError `unsupported_media_type` for a request with an effect that does not say it is JSON.

    A page elsewhere can send a form without being asked for permission, but not JSON. For a DELETE a browser always
    asks, so it may do without a body, and then without a type.
    """
    if request.method in ("GET", "HEAD"):
        return
    if request.method == "DELETE" and not request.can_read_body and "Content-Type" not in request.headers:
        return
    if request.content_type != "application/json":
        raise ApiError(
            "unsupported_media_type", f"content-type is {request.content_type[:40]!r}, application/json expected"
        )


async def read_json(request: web.Request, limit: int, patience: float) -> bytes:
    """A body that says it is JSON. As `read_body`."""
    require_json(request)
    return await read_body(request, limit, patience)


async def read_body(request: web.Request, limit: int, patience: float) -> bytes:
    """The body, at most `limit` bytes, within `patience` seconds. Refuses before buffering where the length is stated.

    aiohttp is told not to decompress; a compressed body is taken only as gzip or deflate and counted as it unfolds.
    """
    if (request.content_length or 0) > limit:
        raise ApiError("too_large", f"the body has {request.content_length} bytes, at most {limit} are taken")
    encoding = request.headers.get("Content-Encoding", "identity").lower()
    body = _Plain() if encoding in ("", "identity") else _Folded(encoding, limit)
    parts: list[bytes] = []
    sent = size = 0
    async with asyncio.timeout(patience):
        async for part in request.content.iter_any():
            sent += len(part)
            part = body.unfold(part)
            size += len(part)
            if max(sent, size) > limit:
                raise ApiError("too_large", f"the body has more than {limit} bytes, that many at most are taken")
            parts.append(part)
    body.end()
    return parts[0] if len(parts) == 1 else b"".join(parts)


class _Plain:
    """A body as it is."""

    def unfold(self, part: bytes) -> bytes:
        return part

    def end(self) -> None:
        pass


class _Folded(_Plain):
    """A compressed body."""

    def __init__(self, encoding: str, limit: int) -> None:
        if encoding not in ("gzip", "deflate"):
            raise ApiError(
                "unsupported_media_type", f"content-encoding {encoding[:20]!r}: identity, gzip or deflate expected"
            )
        self._wrong = ApiError("malformed", f"the body is not exactly one valid {encoding} stream")
        self._limit = limit
        self._inflate = zlib.decompressobj(zlib.MAX_WBITS | (16 if encoding == "gzip" else 0))

    def unfold(self, part: bytes) -> bytes:
        if self._inflate.eof:
            raise self._wrong  # zlib would keep what follows the end
        try:
            # One byte more than allowed is enough to know: a bomb is never unfolded.
            return self._inflate.decompress(part, self._limit + 1)
        except zlib.error:
            raise self._wrong from None

    def end(self) -> None:
        if not self._inflate.eof or self._inflate.unused_data:
            raise self._wrong
