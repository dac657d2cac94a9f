"""A stranger who floods a gate from many addresses, in a process of its own: `python -m tests.flood.stranger`.

Silent sockets, halves of hellos, hellos byte by byte, hellos with nothing after them, and whole handshakes with a
certificate that nobody listed: each as often as the gate lets it, until the process is ended. With a certificate that
is listed it asks for large pages that it does not read.
"""

import argparse
import asyncio
import contextlib
import json
import os
import signal
import socket
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import uvloop
from knocking import client_hello

from tests.bench.wire import client_context

DRIP = 0.02
"""Seconds between two bytes of one who says hello byte by byte."""
TIRED = 10.0
"""Seconds after which a connection is given up, and another one begun."""


class Stranger:
    """`ways` to be a nuisance, each `workers` times at once from each of `addresses`."""

    def __init__(self, port: int, context: ssl.SSLContext, addresses: list[str]) -> None:
        self._port, self._context, self._addresses = port, context, addresses
        self._hello = client_hello(context)
        self.done: Counter[str] = Counter()
        self._ways: dict[str, Callable[[str], Awaitable[None]]] = {
            "silent": lambda address: self._says(address, b""),
            "half": lambda address: self._says(address, self._hello[: len(self._hello) // 2]),
            "drip": self._drips,
            "hello": lambda address: self._says(address, self._hello),
            "whole": self._shakes_hands,
            "deaf": self._asks,
        }

    async def floods(self, ways: dict[str, int]) -> None:
        async with asyncio.TaskGroup() as group:
            for address in self._addresses:
                for way, workers in ways.items():
                    for _ in range(workers):
                        group.create_task(self._again_and_again(way, address))

    async def _again_and_again(self, way: str, address: str) -> None:
        while True:
            try:
                async with asyncio.timeout(TIRED):
                    await self._ways[way](address)
            except (OSError, RuntimeError):  # refused, reset, alerted, tired (uvloop: closed): that is what it is for
                await asyncio.sleep(0)
            self.done[way] += 1

    async def _says(self, address: str, words: bytes) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port, local_addr=(address, 0))
        try:
            writer.write(words)
            await reader.read()
        finally:
            writer.transport.abort()

    async def _drips(self, address: str) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port, local_addr=(address, 0))
        ended = asyncio.create_task(reader.read())
        try:
            for place in range(len(self._hello) - 1):
                writer.write(self._hello[place : place + 1])
                await asyncio.wait((ended,), timeout=DRIP)
                if ended.done():
                    return
        finally:
            ended.cancel()
            writer.transport.abort()

    async def _asks(self, address: str) -> None:
        """Who is listed asks for ten large pages at once, and reads nothing."""
        _, writer = await asyncio.open_connection(
            "127.0.0.1", self._port, ssl=self._context, local_addr=(address, 0), limit=1_024
        )
        writer.transport.pause_reading()
        try:
            writer.write(b"GET /api/v1/sync/since?limit=10000 HTTP/1.1\r\nHost: node\r\n\r\n" * 10)
            await asyncio.sleep(TIRED)
        finally:
            writer.transport.abort()

    async def _shakes_hands(self, address: str) -> None:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self._port, ssl=self._context, local_addr=(address, 0)
        )
        try:
            await reader.read()
        finally:
            writer.transport.abort()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("folder", type=Path, help="with ca.pem, node.pem, node.key")
    parser.add_argument("ways", type=json.loads, help='{"silent": 8, …}: how many of each at once, from each address')
    parser.add_argument("addresses", nargs="+")
    asked = parser.parse_args()
    os.nice(5)  # as it would be on a machine of its own, it does not compete with who is measured
    context = client_context(*(asked.folder / name for name in ("ca.pem", "node.pem", "node.key")))
    stranger = Stranger(asked.port, context, asked.addresses)

    async def until_ended() -> None:
        # uvloop reports each connection that was reset under it, some hundred a second.
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
        flooding = asyncio.create_task(stranger.floods(asked.ways))
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, flooding.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await flooding

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(until_ended())
    print(json.dumps(stranger.done))


if __name__ == "__main__":
    socket.setdefaulttimeout(TIRED)
    main()
