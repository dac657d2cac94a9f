"""Disks that fill up or cannot be written, each in a process of its own: nothing of it is felt outside.

`run` hands a scenario (a function of a test module) to a child process, which prepares the disk, calls the scenario and
prints what it returns. Small and read-only disks are mounted in a private mount namespace, which needs root or user
namespaces; the limit on the size of files needs no privilege at all.
"""

import ctypes
import functools
import importlib.util
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

SUPPORT = Path(__file__).parent
SMALL_DISK = "size=3m"
PATIENCE = 90
_NEW_MOUNTS, _NEW_USER = 0x00020000, 0x10000000
_PRIVATE, _BIND, _REMOUNT, _READ_ONLY = 1 << 14 | 1 << 18, 1 << 12, 1 << 5, 1


class Disk:
    """A folder on a disk that the scenario can fill, and free again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def fill(self) -> None:
        """Leave no room at all."""

    def free(self) -> None:
        """There is room again."""


class SmallDisk(Disk):
    """A file system of its own, filled by a file that has nothing to do with the store."""

    def fill(self) -> None:
        with (self.folder / "ballast").open("ab", buffering=0) as ballast:
            for size in (65_536, 4_096, 1):
                try:
                    while ballast.write(bytes(size)):
                        pass
                except OSError:
                    continue

    def free(self) -> None:
        (self.folder / "ballast").unlink()


class LimitedFiles(Disk):
    """No file of this process may grow: every write beyond its end fails, as on a full disk."""

    def fill(self) -> None:
        largest = max(path.stat().st_size for path in self.folder.iterdir())
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest, resource.RLIM_INFINITY))

    def free(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def run(scenario: Callable[[Disk], Any], folder: Path, kind: str) -> Any:
    """Run a scenario in a child process and return what it returns, as JSON has it."""
    place = f"{scenario.__code__.co_filename}:{scenario.__name__}"
    done = subprocess.run(
        [sys.executable, __file__, kind, str(folder), place],
        capture_output=True,
        env={**os.environ, "PYTHONPATH": f"{SUPPORT}:{SUPPORT.parent.parent}"},
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


@functools.cache
def obstacle() -> str | None:
    """Why no disk can be mounted here; None where it can."""
    if not sys.platform.startswith("linux"):
        return "mount namespaces exist on Linux only"
    done = subprocess.run([sys.executable, __file__, "probe"], capture_output=True, timeout=PATIENCE)
    return None if done.returncode == 0 else f"no disk can be mounted here: {done.stderr.decode().splitlines()[-1]}"


def _own_mounts() -> Callable[..., None]:
    """Enter a private mount namespace; returns a function that mounts."""
    libc = ctypes.CDLL(None, use_errno=True)

    def checked(result: int, what: str) -> None:
        if result:
            raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")

    if os.geteuid() == 0:
        checked(libc.unshare(_NEW_MOUNTS), "unshare")
    else:
        user, group = os.geteuid(), os.getegid()
        checked(libc.unshare(_NEW_MOUNTS | _NEW_USER), "unshare")
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {user} 1")
        Path("/proc/self/gid_map").write_text(f"0 {group} 1")

    def mount(source: str, target: str, kind: str = "none", flags: int = 0, options: str = "") -> None:
        checked(libc.mount(source.encode(), target.encode(), kind.encode(), flags, options.encode()), "mount")

    mount("none", "/", flags=_PRIVATE)
    return mount


def _prepared(kind: str, folder: Path) -> Disk:
    match kind:
        case "small disk":
            _own_mounts()("tmpfs", str(folder), "tmpfs", 0, SMALL_DISK)
            return SmallDisk(folder)
        case "limited files":
            return LimitedFiles(folder)
        case "read-only disk":
            mount = _own_mounts()
            mount(str(folder), str(folder), flags=_BIND)
            mount("none", str(folder), flags=_BIND | _REMOUNT | _READ_ONLY)
            return Disk(folder)
        case "no permission":
            folder.chmod(0o500)
            _without_capabilities()
            return Disk(folder)
        case _:
            raise ValueError(kind)


def _without_capabilities() -> None:
    """Let permissions count for root, too (capset(2), version 3 of its structures)."""
    header, nothing = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    if ctypes.CDLL(None, use_errno=True).capset(header, nothing):
        raise OSError(ctypes.get_errno(), "capset")


def _main(kind: str, folder: str = "/tmp", place: str = "") -> None:
    if kind == "probe":
        _own_mounts()("tmpfs", folder, "tmpfs", 0, SMALL_DISK)
        return
    disk = _prepared(kind, Path(folder))
    file, _, name = place.rpartition(":")
    spec = importlib.util.spec_from_file_location("scenarios", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    print(json.dumps(getattr(module, name)(disk)))


if __name__ == "__main__":
    _main(*sys.argv[1:])
