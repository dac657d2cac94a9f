"""The federation listener: open while the allowlist names somebody and the gate has proven itself, closed otherwise."""

import asyncio
import os
import time
from collections.abc import Callable

import structlog
from aiohttp import web

from node.api.serving import Runner
from node.config import Address, ConfigError
from tls.gate import Gate, self_test
from tls.listener import HandshakeEvent, Limits, Listener
from tls.ration import Rationed

FRESH = 2.0
"""Seconds after which an error of the listener is over: while it lasts, it comes ten times a second."""

log = structlog.get_logger("node")


class Door:
    """Opens and closes the listener. `application` is made anew each time; `on_change` is told of each opening."""

    def __init__(
        self,
        gate: Gate,
        application: Callable[[], web.Application],
        address: Address,
        limits: Limits,
        on_change: Callable[[], None],
    ) -> None:
        self._gate = gate
        self._application = application
        self._address = address
        self._limits = limits
        self._on_change = on_change
        self._events = Rationed(_at_the_gate)
        self._failing: tuple[float, str] | None = None
        self._turn = asyncio.Lock()
        self._open: tuple[Listener, Runner] | None = None
        self._is_told_closed = False

    @property
    def is_open(self) -> bool:
        return self._open is not None

    @property
    def url(self) -> str | None:
        """None while nothing listens."""
        if self._open is None:
            return None
        return f"https://{self._address.from_here(self._open[0].port).text}"

    @property
    def connections(self) -> int:
        """Of peers that passed the gate."""
        return self._open[0].connections if self._open is not None else 0

    def troubles(self) -> list[str]:
        """Why listed peers cannot get in now; empty where they can, or nobody is listed. Names no path."""
        if not self._gate.allowlist.entries:
            return []
        found = [] if self._open is not None else ["the federation listener is not open"]
        if self._open is not None and not self._open[0].is_accepting:
            found.append("the federation listener accepts nobody")
        if self._failing is not None and time.monotonic() - self._failing[0] < FRESH:
            found.append(self._failing[1])
        if self._gate.identity.days_left() < 0:
            found.append("the certificate of this node has expired")
        return found

    def _happened(self, event: HandshakeEvent) -> None:
        if event.kind == "error":
            self._failing = time.monotonic(), event.reason or "the federation listener fails"
        self._events(event)

    async def settle(self) -> None:
        """Open or close, as the allowlist says. Raises ConfigError where the address cannot be listened on."""
        async with self._turn:
            wanted = bool(self._gate.allowlist.entries)
            if wanted and self._open is None:
                await asyncio.to_thread(self_test)
                self._open = await self._listen()
                log.info("federation.open", url=self.url, entries=len(self._gate.allowlist))
                self._on_change()
                self._is_told_closed = False
            elif not wanted and not self._is_told_closed:
                if self._open is not None:
                    await self._shut()
                    self._on_change()
                log.warning("federation.closed", reason="the allowlist is empty: add a peer's fingerprint to open it")
                self._is_told_closed = True

    def drop_unlisted(self) -> int:
        """Cut the connections of certificates that are not listed any more; returns how many."""
        return self._open[0].drop_unlisted() if self._open is not None else 0

    def drop_all(self, reason: str) -> int:
        """Cut all connections of peers; returns how many."""
        return self._open[0].drop_all(reason) if self._open is not None else 0

    async def close(self) -> None:
        """For good."""
        async with self._turn:
            await self._shut()

    async def _listen(self) -> tuple[Listener, Runner]:
        runner = Runner(self._application(), is_impatient=True)
        await runner.setup()
        assert runner.server is not None, "it was set up"
        address = self._address
        listener = Listener(self._gate, runner.server, address.host, address.port, self._limits, self._happened)
        try:
            await listener.start()
        except OSError as error:
            await runner.cleanup()
            raise unheard("federation", address, error) from None
        return listener, runner

    async def _shut(self) -> None:
        if self._open is None:
            return
        listener, runner = self._open
        self._open = None
        await listener.close()
        await runner.cleanup()
        self._events.sum_up()


def unheard(section: str, address: Address, error: OSError) -> ConfigError:
    """The error where nobody can listen there. The event loop's own text has the address as a tuple of Python."""
    number = error.errno or 0  # a resolver's are negative, and have a text of their own
    why = os.strerror(number) if number > 0 else str(error.strerror or error)
    return ConfigError([f"[{section}] listen {address.text}: {why.lower()}; name another address"])


def _at_the_gate(event: HandshakeEvent) -> None:
    known = {"address": event.address, "peer": event.label, "reason": event.reason}
    if event.fingerprint is not None:
        known["fingerprint"] = event.fingerprint.text
    level = log.debug if event.kind == "accepted" else log.warning
    level(f"gate.{event.kind}", **{key: value for key, value in known.items() if value is not None})
