"""Verifies the signatures of large pages in a process of its own.

A signature takes 0.1 ms of arithmetic outside the interpreter's lock. In a thread beside a busy event loop each of them
would wait up to 5 ms to get that lock back; in a process of its own it waits for nobody, on another core, and the event
loop answers meanwhile (docs/decisions/0037). The process is started with the first large page.

It may be killed or stopped at any time, and no page waits for it for ever: a request that is not answered in time ends
the process, the next one gets its own, and where that is no better they are verified on a thread for a while (0047).
"""

import asyncio
import itertools
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Awaitable, Callable, Sequence
from typing import Self

import structlog

from node import verifying
from node.verifying import Claim
from sync import attest, ed25519
from sync.version import Version

STEP = 100
"""Claims of one request: the first slice of a page is written while the next is verified."""

PATIENCE = 5.0
"""Seconds for a request, in which a process is started if there is none: a hundred signatures take 10 ms."""
ATTEMPTS = 2
"""Processes that a request may need; then it is verified on a thread."""
REST = 60.0
"""Seconds after that in which no process is tried."""

log = structlog.get_logger("verifier")


Verify = Callable[[list[Claim]], Awaitable[bytes]]
"""A byte for each claim, 1 where it is genuine; never on the event loop's own thread."""


async def each_genuine(versions: Sequence[Version], verify: Verify) -> list[bool]:
    """Whether each of these signed versions is signed by all the keys that it names."""
    groups = await asyncio.to_thread(lambda: [attest.claims_of(one) for one in versions])
    results = iter(await verify([claim for some in groups for claim in some]))
    verdicts = [[next(results) for _ in some] for some in groups]
    return [all(some) for some in verdicts]


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
    """One process, one request at a time. Closed with the node. `tell`: is told for the operator when it fails."""

    def __init__(self, tell: Callable[[str], None] = lambda _: None) -> None:
        self._tell = tell
        self._process: Process | None = None
        self._turn = asyncio.Lock()
        self._requests: set[asyncio.Task[bytes]] = set()
        self._closing = False
        self._rest_until = 0.0
        """The loop's time."""

    def begin(self, versions: Sequence[Version]) -> Checks:
        """Begin to verify these."""
        starts = range(0, len(versions), STEP)
        return Checks([asyncio.ensure_future(self._check(versions[start : start + STEP])) for start in starts])

    async def _check(self, versions: Sequence[Version]) -> list[bool]:
        signed = [one for one in versions if one.signature]
        if not signed:
            return [False] * len(versions)
        results = iter(await each_genuine(signed, self.verify))
        return [bool(one.signature and next(results)) for one in versions]

    async def verify(self, claims: list[Claim]) -> bytes:
        """A byte for each claim, 1 where it is genuine; never on the event loop's own thread."""
        # A request that was sent is answered, though nobody waits for it: the next answer belongs to the next request.
        request = asyncio.ensure_future(self._ask(claims))
        self._requests.add(request)
        request.add_done_callback(self._requests.discard)
        return await asyncio.shield(request)

    async def _ask(self, claims: list[Claim]) -> bytes:
        async with self._turn:
            for _ in range(ATTEMPTS):
                if self._closing or asyncio.get_running_loop().time() < self._rest_until:
                    break
                try:
                    async with asyncio.timeout(PATIENCE):
                        return await self._answer(await self._running(), claims)
                except TimeoutError:
                    await self._failed("stuck", f"it did not answer within {PATIENCE:.0f} s")
                except (OSError, asyncio.IncompleteReadError) as error:
                    await self._failed("died", f"it ended while it was asked ({type(error).__name__})")
            else:
                self._rest_until = asyncio.get_running_loop().time() + REST
                self._tell(f"the process that verifies signatures does not work: they take longer for {REST:.0f} s")
        # Slower here, and no less strict.
        return await asyncio.to_thread(lambda: bytes(ed25519.verifies(*claim) for claim in claims))

    async def _failed(self, event: str, reason: str) -> None:
        """A process that is of no use is replaced."""
        await self._end()
        if not self._closing:
            log.warning(f"verifier.{event}", reason=reason)
            self._tell(f"the process that verifies signatures was replaced: {reason}")

    async def _answer(self, process: Process, claims: list[Claim]) -> bytes:
        assert process.stdin is not None and process.stdout is not None, "both are pipes"
        try:
            process.stdin.write(verifying.encoded(claims))
            await process.stdin.drain()
        except RuntimeError as error:  # the fast event loop's word for a pipe that is closed
            raise BrokenPipeError(str(error)) from None
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
            process.kill()  # which ends a stopped one, too
        try:
            async with asyncio.timeout(PATIENCE):
                await process.wait()
        except TimeoutError:
            log.error("verifier.left", pid=process.pid, reason="it was killed and does not end: the machine holds it")

    async def close(self) -> None:
        """End the process. What it is asked at that moment is verified without it."""
        self._closing = True
        process = self._process
        if process is not None and process.returncode is None:
            process.kill()
        await asyncio.gather(*self._requests, return_exceptions=True)
        async with self._turn:
            await self._end()
