"""Hosts with a network of their own: a network namespace each, joined by a switch in user space. Needs root on Linux.

The namespaces have no names. They live as long as somebody holds them open or runs in them, so that nothing is left
behind, however the run ends.
"""

import ctypes
import fcntl
import os
import signal
import socket
import struct
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Self

from switch import Switch, Weather

DEVICE = b"mesh0"
NEW_NETWORK, NEW_MOUNTS = 0x40000000, 0x00020000
_PRIVATE, _DETACH = 1 << 14 | 1 << 18, 2
_SET_DEATH_SIGNAL = 1
_TUNSETIFF, _TAP, _NO_HEADER = 0x400454CA, 0x0002, 0x1000
_SIOCSIFADDR, _SIOCSIFNETMASK, _SIOCSIFHWADDR, _SIOCSIFFLAGS, _SIOCSARP = 0x8916, 0x891C, 0x8924, 0x8914, 0x8955
_UP, _ETHERNET, _COMPLETE, _PERMANENT = 0x1, 1, 0x2, 0x4
_libc = ctypes.CDLL(None, use_errno=True)


def obstacle() -> str | None:
    """Why no network can be made here; None where one can."""
    if not sys.platform.startswith("linux"):
        return "network namespaces exist on Linux only"
    if os.geteuid() != 0:
        return "making network namespaces and mounting small disks needs root"
    return None if os.path.exists("/dev/net/tun") else "there is no /dev/net/tun"  # noqa: PTH110


def private_mounts() -> None:
    """From here on this process and its children mount in private; call it while there is one thread."""
    _checked(_libc.unshare(NEW_MOUNTS), "unshare")
    _checked(_libc.mount(b"none", b"/", b"none", _PRIVATE, b""), "mount")


def mount_small_disk(folder: str, size: int) -> None:
    """A file system of `size` bytes, in memory."""
    _checked(_libc.mount(b"tmpfs", folder.encode(), b"tmpfs", 0, f"size={size}".encode()), "mount")


def unmount(folder: str) -> None:
    """Take a file system away, whoever still looks at it."""
    _checked(_libc.umount2(folder.encode(), _DETACH), "umount")


def die_with_parent() -> None:
    """For `preexec_fn`: the process is killed when the thread that started it ends, however that comes about."""
    _libc.prctl(_SET_DEATH_SIGNAL, signal.SIGKILL)


class Host:
    """One namespace with one address. `number` counts from 1."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.address = f"10.99.0.{number}"
        self._namespace = _new_namespace()
        with self.inside():
            self.device = _tap()
            _configure(b"lo", "127.0.0.1", 8)
            with _control() as control:
                _ioctl(control, _SIOCSIFHWADDR, _named(DEVICE, struct.pack("=H6s", _ETHERNET, hardware(number))))
            _configure(DEVICE, self.address, 24)

    @contextmanager
    def inside(self) -> Iterator[None]:
        """The calling thread, and what it starts, is on this host."""
        outside = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            _checked(_libc.setns(self._namespace, NEW_NETWORK), "setns")
            try:
                yield
            finally:
                _checked(_libc.setns(outside, NEW_NETWORK), "setns")
        finally:
            os.close(outside)

    def connect(self, address: tuple[str, int], timeout: float) -> socket.socket:
        """A connection that begins on this host."""
        with self.inside():
            return socket.create_connection(address, timeout)

    def know(self, others: Iterable["Host"]) -> None:
        """Learn the hardware addresses of others, so that nobody has to ask for them over a lossy network."""
        with self.inside(), _control() as control:
            for one in others:
                if one is not self:
                    request = struct.pack(
                        "=16s14s2xi16s16s",
                        _socket_address(one.address),
                        struct.pack("=H6s", _ETHERNET, hardware(one.number)),
                        _COMPLETE | _PERMANENT,
                        b"",
                        DEVICE,
                    )
                    _ioctl(control, _SIOCSARP, request)

    def link(self, up: bool) -> None:
        """Pull the cable, or put it back. Call `know` again afterwards."""
        with self.inside(), _control() as control:
            _ioctl(control, _SIOCSIFFLAGS, _named(DEVICE, struct.pack("=H", _UP if up else 0)))

    def close(self) -> None:
        os.close(self.device)
        os.close(self._namespace)


class Lab:
    """Hosts and the switch between them. A context manager."""

    def __init__(self, count: int) -> None:
        self._stack = ExitStack()
        self.hosts = [Host(number) for number in range(1, count + 1)]
        for host in self.hosts:
            self._stack.callback(host.close)
            host.know(self.hosts)
        self._switch = Switch([host.device for host in self.hosts])
        self._stack.callback(self._switch.close)
        self._weather, self._cuts, self._seed = Weather(), frozenset[tuple[int, int]](), 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def weather(self, weather: Weather, seed: int) -> None:
        """From now on, for every frame. `seed`: of what is lost and how late each is."""
        self._weather, self._seed = weather, seed
        self._switch.order(weather, self._cuts, seed)

    def cut(self, *directions: tuple[int, int]) -> None:
        """Nothing passes in these directions any more: (from, to), by the places of the hosts, from 0."""
        self._cuts |= set(directions)
        self._switch.order(self._weather, self._cuts, self._seed)

    def mend(self, *directions: tuple[int, int]) -> None:
        """The reverse of `cut`."""
        self._cuts -= set(directions)
        self._switch.order(self._weather, self._cuts, self._seed)


def hardware(number: int) -> bytes:
    """The hardware address of a host; the switch finds the host in its last byte."""
    return bytes((0x02, 0, 0, 0, 0, number))


def _new_namespace() -> int:
    made: list[int | OSError] = []

    def make() -> None:
        try:
            _checked(_libc.unshare(NEW_NETWORK), "unshare")
            made.append(os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC))
        except OSError as error:
            made.append(error)

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    if isinstance(made[0], OSError):
        raise made[0]
    return made[0]


def _tap() -> int:
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    _ioctl(device, _TUNSETIFF, _named(DEVICE, struct.pack("=H", _TAP | _NO_HEADER)))
    return device


def _configure(name: bytes, address: str, bits: int) -> None:
    mask = socket.inet_ntoa((0xFFFFFFFF << (32 - bits) & 0xFFFFFFFF).to_bytes(4, "big"))
    with _control() as control:
        _ioctl(control, _SIOCSIFADDR, _named(name, _socket_address(address)))
        _ioctl(control, _SIOCSIFNETMASK, _named(name, _socket_address(mask)))
        _ioctl(control, _SIOCSIFFLAGS, _named(name, struct.pack("=H", _UP)))


def _control() -> socket.socket:
    return socket.socket(socket.AF_INET, socket.SOCK_DGRAM)


def _socket_address(address: str) -> bytes:
    return struct.pack("=HH4s8x", socket.AF_INET, 0, socket.inet_aton(address))


def _named(name: bytes, value: bytes) -> bytes:
    return struct.pack("=16s24s", name, value)


def _ioctl(file: int | socket.socket, request: int, argument: bytes) -> None:
    fcntl.ioctl(file, request, argument)


def _checked(result: int, what: str) -> None:
    if result:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")
