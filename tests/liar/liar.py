"""A listed liar: it pushes what no honest node would, answers with the same, and learns from what it is answered."""

import asyncio
import gzip
import json
import random
import ssl
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp
from aiohttp import web

from sync import moment
from sync.attest import KeyPair, Stamp
from sync.context import MAX_ENTRIES, Context
from sync.dot import CHECK_DIGITS, MAC_BITS, Dot
from sync.draft import Fields, new_memory
from sync.ids import memory_id
from sync.record import memory_version

API = "/api/v1/sync"
AT_ONCE = 4
"""Lanes to each node."""
SIZES = (2**14, 2**20, 15 * 2**20)
"""Bytes of what fills a list, as it unfolds."""
TIMEOUT = aiohttp.ClientTimeout(total=60)
KEY = KeyPair.of("ai:liar", b"\7" * 32)
LISTS = ("memories", "tombstones", "links", "offers")
ZERO = "0" * 16
UNKNOWN = "0" * CHECK_DIGITS
HONEST, OWN = "honest", "of the liar:"


@dataclass(frozen=True, slots=True)
class Place:
    """Where the liar is, whom it calls, and what it chooses."""

    cert: str
    key: str
    ca: str
    port: int
    nodes: Sequence[int]
    seed: int


def filled(unit: bytes, size: int) -> bytes:
    """A list of as many of these as fit."""
    return b"[" + b",".join([unit] * max(1, size // (len(unit) + 1))) + b"]"


JUNK: dict[str, Callable[[int], bytes]] = {
    "numbers": lambda size: filled(b"1", size),
    "objects": lambda size: filled(b"{}", size),
    "texts": lambda size: filled(b'""', size),
    "many members": lambda size: b"[{" + b",".join(b'"%d":1' % number for number in range(size // 10)) + b"}]",
    "many objects in one": lambda size: b'[{"metadata":{"a":' + filled(b"{}", size) + b"}}]",
    "many objects in many": lambda size: filled(b'{"metadata":{"a":' + filled(b"{}", 2**19) + b"}}", size),
    "a long text": lambda size: b'["' + b"x" * size + b'"]',
    "long tiers": lambda size: filled(b'{"id":"a","tier":"' + b"x" * 50_000 + b'"}', size),
    "deep": lambda size: b"[" * (size // 2) + b"]" * (size // 2),
    "no JSON at its end": lambda size: b"[" + b"1," * (size // 2) + b"NaN]",
    "ids": lambda size: b"[" + b",".join(b'{"id":"%d"}' % number for number in range(size // 16)) + b"]",
}


class Liar:
    """What it knows of each node, and what it makes of that."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self.life = self._life()
        self.theirs = ZERO
        self.have: str | None = None
        self.titles: deque[str] = deque(maxlen=50)
        """Of honest memories that a node showed it."""

    def _life(self) -> str:
        return f"{self._random.getrandbits(64):016x}"

    def listed(self) -> bytes:
        """Something to fill a list with."""
        return self._random.choice([self._junk, *map(self._versions, self.lies()), self._junk])()

    def lies(self) -> tuple[Callable[[], bytes], ...]:
        """What makes one version each, that a node reads as one."""
        return self._forged, self._early, self._twin, self._crowded, self._hiding

    def push(self) -> bytes:
        """A push: junk or lies, often under a new life, and as the page that goes on from what was taken."""
        if self._random.random() < 0.5:
            self.life = self._life()
        name = self._random.choice(LISTS)
        to = f"{self.life}.{self._random.getrandbits(20)}.{2**20}.{ZERO}.{'0' * 8}"
        listed = self._offers() if name == "offers" and self._random.random() < 0.5 else self.listed()
        head = {"sender_agent_id": "ai:liar", "life": self.life, "after": self.have, "to": to, "for": self.theirs}
        return json.dumps(head).encode()[:-1] + b',"%b":%b}' % (name.encode(), listed)

    def answer(self) -> bytes:
        """An answer to a push."""
        name = self._random.choice(("wanted", "refused", "alarms"))
        refused = b'{"id":"%d","kind":"m","reason":"scope","detail":"' + b"x" * 200 + b'"}'
        listed = b"[" + b",".join(refused % self._random.getrandbits(40) for _ in range(900)) + b"]"
        if name != "refused" or self._random.random() < 0.5:
            listed = self._junk()
        return b'{"life":"%b","have":null,"%b":%b}' % (self._life().encode(), name.encode(), listed)

    def since(self) -> bytes:
        """An answer to since, mostly one of many."""
        cursor = f"{self.life}.{self._random.getrandbits(20)}.{2**20}.{ZERO}.{'0' * 8}"
        head = {"life": self.life, "cursor": cursor, "more": self._random.random() < 0.8, "for": self.theirs}
        name = self._random.choice(LISTS[:3])
        return json.dumps(head).encode()[:-1] + b',"%b":%b}' % (name.encode(), self.listed())

    def learn_of(self, body: bytes) -> None:
        """What a node showed of its memories."""
        shown = [one["title"] for one in json.loads(body).get("memories", ()) if one["namespace"] == HONEST]
        self.titles.extend(one for one in shown if not one.startswith(OWN))

    def learn(self, body: bytes) -> None:
        """What a node answered to a push."""
        told = json.loads(body)
        self.theirs, self.have = told.get("life", self.theirs), told.get("have", self.have)

    # --- what it fills lists with

    def _junk(self) -> bytes:
        return self._random.choice(list(JUNK.values()))(self._random.choice(SIZES))

    def _offers(self) -> bytes:
        offers = [
            [HONEST, f"{self._random.getrandbits(64):x}", f"{self._random.getrandbits(128):032x}"] for _ in range(5_000)
        ]
        return json.dumps(offers).encode()

    def _versions(self, one: Callable[[], bytes]) -> Callable[[], bytes]:
        return lambda: b"[" + b",".join(one() for _ in range(200)) + b"]"

    def _version(
        self, title: str, by: str, number: int, seen: Iterable[Dot] = (), depth: int = 1, ahead: int = 0
    ) -> bytes:
        now = time.time_ns() // 1_000 + ahead * moment.SECOND
        content = f"a lie {self._random.random()}"
        fields = Fields(namespace=HONEST, title=title, content=content)
        memory = new_memory(fields, memory_id(HONEST, title, 0), now)
        stamp = Stamp(Context(list(seen)), depth, lambda check: Dot(by, number << MAC_BITS, check))
        return memory_version(memory, KEY, stamp).doc

    def _own(self, kind: str, most: int) -> str:
        return f"{OWN} {kind} {self._random.randrange(most)}"

    def _some_dot(self, actor: str) -> Dot:
        """As if somebody had written there, a little or very much."""
        return Dot(actor, self._random.getrandbits(self._random.choice((21, 50))) + 1, UNKNOWN)

    def _forged(self) -> bytes:
        """Signed under a life of the node that it is sent to."""
        return self._version(self._own("forged", 50), self.theirs, self._random.getrandbits(30) + 1)

    def _early(self) -> bytes:
        """From the future."""
        return self._version(self._own("early", 3), self._life(), 1, ahead=10**7)

    def _twin(self) -> bytes:
        """Another text under one counter."""
        return self._version(self._own("twin", 3), "ab" * 8, 1)

    def _crowded(self) -> bytes:
        """Of an author who says that it has seen as many as a context holds."""
        seen = [self._some_dot(self._life()) for _ in range(MAX_ENTRIES)]
        return self._version(self._own("crowded", 9), self._life(), 1, seen, depth=self._random.getrandbits(40))

    def _hiding(self) -> bytes:
        """Over an honest memory, by an author who says that it has seen all that a node ever wrote."""
        title = self._random.choice([*self.titles, self._own("hiding", 3)])
        return self._version(title, self._life(), 1, [self._some_dot(self.theirs)], depth=self._random.getrandbits(40))


def run(place: Place, seconds: float) -> None:
    """The liar's process."""
    asyncio.run(lie(place, seconds))


async def lie(place: Place, seconds: float) -> None:
    """Serve and push until the time is over."""
    liar = Liar(place.seed)
    runner = web.AppRunner(_application(liar), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", place.port, ssl_context=_context(place, ssl.PROTOCOL_TLS_SERVER)).start()
    connector = aiohttp.TCPConnector(ssl=_context(place, ssl.PROTOCOL_TLS_CLIENT), limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=TIMEOUT) as session, asyncio.TaskGroup() as lanes:
        for number, port in enumerate([*place.nodes] * AT_ONCE):
            lanes.create_task(_lane(session, Liar(place.seed + number + 1), port, seconds))
    await runner.cleanup()


async def _lane(session: aiohttp.ClientSession, liar: Liar, port: int, seconds: float) -> None:
    end = time.monotonic() + seconds
    url = f"https://127.0.0.1:{port}{API}"
    headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
    for ask in _turns():
        if time.monotonic() > end:
            return
        try:
            if ask:
                async with session.get(f"{url}/since?limit=10000") as answer:
                    liar.learn_of(await answer.read())
                continue
            body = await asyncio.to_thread(lambda: gzip.compress(liar.push(), 1))
            async with session.post(f"{url}/push", data=body, headers=headers) as answer:
                liar.learn(await answer.read())
        except (aiohttp.ClientError, TimeoutError, ValueError):
            await asyncio.sleep(0.05)


def _turns() -> Iterator[bool]:
    """True: ask for a page."""
    while True:
        yield from (False, False, False, True)


def _application(liar: Liar) -> web.Application:
    async def since(_: web.Request) -> web.Response:
        return web.Response(body=liar.since(), content_type="application/json")

    async def push(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(body=liar.answer(), content_type="application/json")

    application = web.Application(client_max_size=2**25)
    application.router.add_get(f"{API}/since", since)
    application.router.add_post(f"{API}/push", push)
    return application


def _context(place: Place, protocol: Any) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(place.ca)
    context.load_cert_chain(place.cert, place.key)
    return context
