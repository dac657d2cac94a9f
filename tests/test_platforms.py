"""What docs/platforms.md says: nothing that only one system has is called where it may be missing."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
from stores import Keeper, faults, until

from node import disk

ROOT = Path(__file__).parent.parent
ROOMS = ("node", "sync", "tls")
LINUX_ALONE = {
    "os": {
        "fdatasync", "posix_fallocate", "posix_fadvise", "sched_setaffinity", "sched_getaffinity", "sched_setscheduler",
        "memfd_create", "eventfd", "pidfd_open", "splice", "copy_file_range", "getrandom", "O_TMPFILE", "O_DIRECT",
        "O_PATH", "O_NOATIME", "setresuid", "setresgid", "unshare", "setns", "getxattr", "setxattr", "pipe2", "accept4",
        "preadv2", "pwritev2", "RWF_SYNC",
    },
    "socket": {
        "SO_REUSEPORT_LB", "TCP_USER_TIMEOUT", "TCP_QUICKACK", "TCP_KEEPIDLE", "TCP_CORK", "TCP_DEFER_ACCEPT",
        "SO_PEERCRED", "SO_BINDTODEVICE", "SO_MARK", "AF_NETLINK", "AF_PACKET", "SOCK_NONBLOCK", "SOCK_CLOEXEC",
        "TCP_INFO", "MSG_NOSIGNAL",
    },
    "signal": {"signalfd", "sigtimedwait", "sigwaitinfo", "SIGPWR", "SIGSTKFLT", "SIGRTMIN"},
    "select": {"epoll", "EPOLLIN"},
    "fcntl": {"F_OFD_SETLK", "F_SETPIPE_SZ", "F_ADD_SEALS", "F_NOTIFY"},
    "resource": {"prlimit", "RLIMIT_RTPRIO", "RLIMIT_NICE"},
}  # fmt: skip
"""By module, of what Python has on Linux and not on macOS, whatever anybody may think of."""


def calls(source: str) -> set[str]:
    """What a module's text takes from these modules by name, so that it fails where the name is missing."""
    found = set()
    for item in ast.walk(ast.parse(source)):
        if isinstance(item, ast.Attribute) and isinstance(item.value, ast.Name):
            module, name = item.value.id, item.attr
            if name in LINUX_ALONE.get(module, ()):
                found.add(f"{module}.{name}")
        elif isinstance(item, ast.ImportFrom) and item.module in LINUX_ALONE:
            found |= {f"{item.module}.{one.name}" for one in item.names if one.name in LINUX_ALONE[item.module]}
        elif (
            isinstance(item, ast.Constant)
            and isinstance(item.value, str)
            and item.value.startswith(("/proc/", "/sys/"))
        ):
            found.add(item.value)
    return found


# modules that only a release is made with, on Linux
ELSEWHERE = ("node/release/",)


@pytest.mark.parametrize("room", ROOMS)
def test_no_call_is_of_linux_alone(room: str) -> None:
    """Each such name is asked for with `getattr`, or not at all."""
    found = {
        str(path.relative_to(ROOT)): names
        for path in sorted((ROOT / room).rglob("*.py"))
        if not str(path.relative_to(ROOT)).startswith(ELSEWHERE) and (names := calls(path.read_text()))
    }
    assert found == {}


@pytest.mark.parametrize(
    "text", ["os.fdatasync(1)", "from os import fdatasync", "socket.TCP_USER_TIMEOUT", "open('/proc/self/fd')"]
)
def test_such_a_call_is_seen(text: str) -> None:
    """Control: in each of its forms."""
    assert len(calls(text)) == 1
    assert calls('getattr(os, "fdatasync", os.fsync)(1)') == set()


def test_the_store_keeps_what_it_is_given_where_the_disk_is_waited_for_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on macOS: no `fdatasync`, and another way to wait; the log is made longer, copied and closed as ever."""
    waited = []
    monkeypatch.delattr(os, "fdatasync", raising=False)
    monkeypatch.setattr(disk, "_WHOLE", 51)
    monkeypatch.setattr(disk.fcntl, "fcntl", lambda file, command: waited.append((file, command)))
    keeper = Keeper(tmp_path / "memories.db")
    keeper.write("one")
    until(lambda: not keeper.store.writer._log.is_due)
    keeper.write("two")
    keeper.close()
    assert {command for _, command in waited} == {51}
    assert faults(keeper.path) == []


def test_without_either_name_it_still_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A system that has neither gets the plain `fsync`."""
    synced = []
    monkeypatch.delattr(os, "fdatasync", raising=False)
    monkeypatch.setattr(os, "fsync", synced.append)
    monkeypatch.setattr(disk, "_WHOLE", None)
    disk.flush_data(7)
    disk.flush(8)
    assert synced == [7, 8]


def test_windows_is_told_so(tmp_path: Path) -> None:
    """One sentence, whatever is run there, and no trace of a module that is missing."""
    text = "import sys; sys.platform = 'win32'; import node.cli"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert done.returncode == 2
    assert done.stderr.strip().endswith("docs/platforms.md")
    assert "Windows" in done.stderr
    assert "Traceback" not in done.stderr
