"""The process of a node: started in order, served until a signal or the loss of its store, and taken down again."""

import asyncio
import contextlib
import gc
import os
import resource
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import structlog
import uvloop

from node import allocator, logs
from node.config import Config
from node.daemon import Daemon
from node.home import Home
from node.opening import Patience
from node.store import Store
from node.store.errors import StoreError, StoreLocked
from node.store.lock import NODE
from tls.watch import Watcher

LAST_WORDS = 10.0
"""Seconds that a node without a writer has to say goodbye."""
FILES = 8_192
"""Descriptors; the listeners have bounds far below it."""
LOST = 4
"""The exit code of a node whose store is lost to it (node/cli/output.py)."""

log = structlog.get_logger("node")


@contextlib.asynccontextmanager
async def running(
    home: Home, config: Config, passphrase: str, stop: asyncio.Event | None = None
) -> AsyncIterator[Daemon]:
    """A node that serves. Raises ConfigError, KeyringError, StoreError or TlsError where it cannot.

    `stop`: ends the wait for a store that another process has; then Stopped is raised.
    """
    store = await _opened(home, config, passphrase, stop)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(asyncio.to_thread, store.close)
        daemon = Daemon(home, config, store)
        stack.push_async_callback(daemon.exchange.close)
        rewritten = await daemon.exchange.start()
        if rewritten:
            log.warning("store.restated", records=rewritten, reason="they lay in the future of this node's clock")
        if daemon.bridge is not None:
            await daemon.bridge.prepare(daemon.book)
        runner = await daemon.serve_local()
        stack.callback(home.clear_run)
        stack.push_async_callback(runner.cleanup)
        stack.push_async_callback(daemon.door.close)
        await daemon.door.settle()
        daemon.warn_of_expiry()
        store.writer.on_commit(daemon.committed)
        stack.push_async_callback(daemon.links.close)
        await daemon.settle_links(daemon.book)
        stack.push_async_callback(daemon.close)
        daemon.begin(daemon.keep_time(), "time")
        daemon.begin(daemon.edits.keep(), "edits")
        daemon.begin(daemon.links.keep_looking(), "links")
        daemon.begin(allocator.give_back(), "allocator")
        watcher = Watcher(daemon.edits.watched)
        watcher.start()
        stack.push_async_callback(watcher.close)
        daemon.poke = watcher.poke
        yield daemon


class Stopped(Exception):
    """The node was told to stop before it had its store."""


async def _opened(home: Home, config: Config, passphrase: str, stop: asyncio.Event | None) -> Store:
    """The store. A command that has it for a moment, at boot say, is waited for; another node that serves is not."""
    patience = Patience(lambda text: log.warning("store.waiting", reason=text))
    while True:
        try:
            return await asyncio.to_thread(
                Store.open, home.store(config), passphrase, readers=config["store", "readers"], holder=NODE
            )
        except StoreLocked as error:
            if error.holder == NODE and home.running() is not None:
                raise
            pause = patience.after(error)
        if stop is not None and stop.is_set():
            raise Stopped
        await asyncio.sleep(pause)


async def serve(home: Home, config: Config, passphrase: str, *, ready: Callable[[Daemon], None]) -> None:
    """Run until SIGINT or SIGTERM; SIGHUP reloads what may be edited. `ready` is called once both listeners are."""
    stop, lost = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(logs.of_loop)
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    try:
        async with running(home, config, passphrase, stop) as daemon:
            loop.add_signal_handler(signal.SIGHUP, daemon.poke)
            gc.collect()
            gc.freeze()  # what exists now lives as long as the process: no collection need look at it again
            daemon.store.writer.on_end(lambda: _end(loop, lost, stop))
            ready(daemon)
            await stop.wait()
            log.info("node.stopping")
    except Stopped:
        log.info("node.stopping")
    if lost.is_set():
        raise StoreError(
            "the writer of the store has ended: nothing can be stored any more.",
            "See the log, and start the node again.",
        )


def _end(loop: asyncio.AbstractEventLoop, lost: threading.Event, stop: asyncio.Event) -> None:
    """On the writer's thread, which ends. The process ends with it, in good order or not: a supervisor sees that."""
    lost.set()
    log.critical("store.lost", reason="the writer of the store has ended: the node stops")
    timer = threading.Timer(LAST_WORDS, os._exit, (LOST,))
    timer.daemon = True
    timer.start()
    with contextlib.suppress(RuntimeError):  # the loop is closed already
        loop.call_soon_threadsafe(stop.set)


def _more_files() -> None:
    """As many descriptors as the system lets this process have: 1,024 are few for peers, clients and store."""
    few, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if most == resource.RLIM_INFINITY else min(FILES, most)
    if few != resource.RLIM_INFINITY and few < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


def run(main: Callable[[], Any]) -> None:
    """Run a coroutine function on the fast event loop, with short turns between threads."""
    allocator.keep_little()
    _more_files()
    sys.setswitchinterval(0.0001)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
