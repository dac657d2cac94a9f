"""Verifies the signatures of large pages in a process of its own.

A signature takes 0.1 ms of arithmetic outside the interpreter's lock. In a thread beside a busy event loop each of them
would wait up to 5 ms to get that lock back; in a process of its own it waits for nobody, on another core, and the event
loop answers meanwhile (docs/decisions/0037). The process is started with the first large page.
"""

import asyncio
import itertools
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Sequence
from typing import Self

import structlog

from node import verifying
from node.verifying import Claim
from sync import attest, ed25519
from sync.version import Version

STEP = 100
"""Claims of one request: the first slice of a page is written while the next is verified."""

log = structlog.get_logger("verifier")


class Checks:
    """The signatures of one page, verified in their order. A context: nobody waits for what is left at its end."""

    def __init__(self, steps: Sequence["asyncio.Task[list[bool]]"] = ()) -> None:
        self._steps = steps

    async def between(self, start: int, end: int) -> frozenset[int]:
        """Which of the page's versions from `start` to `end` are genuine, counted from `start`; as soon as known.

        `start`: a multiple of `STEP`.
        """
        some = await asyncio.gather(*self._steps[start // STEP : -(-end // STEP)])
        return frozenset(place for place, is_genuine in enumerate(itertools.chain(*some)) if is_genuine)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for step in self._steps:
            step.cancel()


class Verifier:
    """One process, one request at a time. Closed with the node."""

    def __init__(self) -> None:
        self._process: Process | None = None
        self._turn = asyncio.Lock()
        self._requests: set[asyncio.Task[bytes]] = set()

    def begin(self, versions: Sequence[Version]) -> Checks:
        """Begin to verify these."""
        starts = range(0, len(versions), STEP)
        return Checks([asyncio.ensure_future(self._check(versions[start : start + STEP])) for start in starts])

    async def _check(self, versions: Sequence[Version]) -> list[bool]:
        signed = [one for one in versions if one.signature]
        if not signed:
            return [False] * len(versions)
        claims = await asyncio.to_thread(lambda: [attest.claim_of(one) for one in signed])
        results = iter(await self.verify(claims))
        return [bool(one.signature and next(results)) for one in versions]

    async def verify(self, claims: list[Claim]) -> bytes:
        """A byte for each claim, 1 where it is genuine."""
        # A request that was sent is answered, though nobody waits for it: the next answer belongs to the next request.
        request = asyncio.ensure_future(self._ask(claims))
        self._requests.add(request)
        request.add_done_callback(self._requests.discard)
        return await asyncio.shield(request)

    async def _ask(self, claims: list[Claim]) -> bytes:
        async with self._turn:
            for _ in range(2):  # a process that died is replaced, once
                try:
                    return await self._answer(await self._running(), claims)
                except (OSError, asyncio.IncompleteReadError) as error:
                    log.warning("verifier.died", reason=str(error))
                    await self._end()
        # There is no room for another process: slower here, and no less strict.
        return await asyncio.to_thread(lambda: bytes(ed25519.verifies(*claim) for claim in claims))

    async def _answer(self, process: Process, claims: list[Claim]) -> bytes:
        assert process.stdin is not None and process.stdout is not None, "both are pipes"
        process.stdin.write(verifying.encoded(claims))
        await process.stdin.drain()
        return await process.stdout.readexactly(len(claims))

    async def _running(self) -> Process:
        if self._process is None:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", verifying.__name__,
                stdin=PIPE, stdout=PIPE, stderr=DEVNULL,
                start_new_session=True,  # the terminal's interrupt is for the node, which ends it
                env={**os.environ, "PYTHONSAFEPATH": "1"},
            )  # fmt: skip
        return self._process

    async def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.returncode is None:
            process.kill()
        await process.wait()

    async def close(self) -> None:
        """End the process."""
        await asyncio.gather(*self._requests, return_exceptions=True)
        async with self._turn:
            await self._end()
