"""Which handler answers which path, and what is answered where none does."""

from typing import TYPE_CHECKING

from rust_daemon import api, federation, groups, lookup
from rust_daemon.api import Handler
from rust_daemon.messages import API, Answer, Request, Stop, error

if TYPE_CHECKING:
    from rust_daemon.daemon import RustDaemon


async def health(daemon: "RustDaemon", request: Request) -> Answer:
    body = {
        "embedder_ready": False,
        "federation_enabled": bool(daemon.fanout.peers),
        "service": "ai-memory",
        "status": "ok",
        "version": daemon.release.version,
    }
    return Answer(200, body)


ROUTES: dict[str, dict[str, Handler]] = {
    "/health": {"GET": health},
    "/sync/push": {"POST": federation.push},
    "/sync/since": {"GET": federation.since},
    **api.ROUTES,
    **groups.ROUTES,
    **lookup.ROUTES,
}


async def answered(daemon: "RustDaemon", request: Request) -> Answer:
    found = _found(daemon, request.path)
    if found is None:
        return Answer(404)
    allowed = ",".join(f"{method},HEAD" if method == "GET" else method for method in found)
    if request.method == "OPTIONS":
        return Answer(200, headers={"allow": allowed})
    handler = found.get(request.method)
    if handler is None:
        return Answer(405, headers={"allow": allowed})
    if not _has_key(daemon, request):
        return error(401, "missing or invalid API key")
    async with daemon.lock:
        pass  # every request waits for the one connection, `health` too
    try:
        return await handler(daemon, request)
    except Stop as stop:
        return stop.answer


def _found(daemon: "RustDaemon", path: str) -> dict[str, Handler] | None:
    if not path.startswith(API):
        return None
    wanted = path.removeprefix(API).split("/")
    for pattern, methods in ROUTES.items():
        parts = pattern.split("/")
        if len(parts) == len(wanted) and all(p == w or (p == "{}" and w) for p, w in zip(parts, wanted, strict=True)):
            return methods if pattern not in groups.LATER or daemon.release.quota else None
    return None


def _has_key(daemon: "RustDaemon", request: Request) -> bool:
    if daemon.api_key is None or request.path == f"{API}/health":
        return True
    if daemon.release.peer_id and daemon.certified and request.path.startswith(f"{API}/sync/"):
        return True
    return daemon.api_key in (request.header("x-api-key"), request.parameters.get("api_key"))
