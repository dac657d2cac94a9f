"""Building wheel and sdist in circumstances that are chosen: user, umask, locale, time zone, day, hash seed."""

import os
import shutil
import stat
import subprocess
import sys
import tarfile
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from node.release.errors import ReleaseError

_DAY = 86_400
_NOBODY = 65_534
_CLOCK = Path("tests/cluster/skew.c")


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What must not show in what is built. `days` is how wrong the clock is.

    With `from_sdist` the wheel is built from the unpacked sdist, as an installation from it does. `python` and
    `user` are those of this process where they are None.
    """

    name: str
    umask: int = 0o022
    locale: str = "C.UTF-8"
    zone: str = "UTC"
    seed: int = 0
    days: int = 0
    from_sdist: bool = False
    user: int | None = None
    python: str | None = None

    def __str__(self) -> str:
        user = "the same user" if self.user is None else f"user {self.user}"
        wheel = "wheel from the sdist" if self.from_sdist else "wheel from the files"
        told = f"umask {self.umask:04o}, {self.locale}, {self.zone}, hash seed {self.seed}, clock {self.days:+} days"
        return f"{self.name}: {user}, {self.python or 'this Python'}, {told}, {wheel}"


@dataclass(frozen=True, slots=True)
class Built:
    """What a build left behind."""

    wheel: Path
    sdist: Path


def ours() -> Circumstances:
    return Circumstances("first")


def others() -> Circumstances:
    """As unlike `ours` as may be; as root, another user too. Raises ReleaseError where that one can run no Python."""
    user = python = None
    if os.geteuid() == 0:
        user, python = _NOBODY, _python_for(_NOBODY)
    return Circumstances("second", 0o077, "C", "Pacific/Kiritimati", 4711, 400, True, user, python)


def tools(locks: Path, folder: Path) -> Path:
    """The build back end and what it needs, from build.lock by hash, in a folder to be put on Python's path.

    All of them are plain Python, so any interpreter can use it. Wheels lie in the folder `wheels` beside, as they came.
    """
    wheels, place = folder / "wheels", folder / "tools"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    lock = ["--require-hashes", "--only-binary", ":all:", "-r", str(locks / "build.lock")]
    _run([*pip, "download", "--no-deps", *lock, "-d", str(wheels)], "the build tools cannot be fetched")
    local = ["--no-index", "--find-links", str(wheels), "--target", str(place), "--no-compile", "--no-deps"]
    _run([*pip, "install", *local, *lock], "the build tools cannot be installed")
    _open(folder)
    return place


def build(source: Path, place: Path, folder: Path, epoch: int, one: Circumstances) -> Built:
    """Build `source` with the tools in `place` into `folder`, which is made. `epoch` is SOURCE_DATE_EPOCH, in seconds.

    The files of `source` get other times, and another owner where the circumstances say so.
    """
    folder.mkdir()
    home = folder.parent / f"home-{folder.name}"
    home.mkdir()
    when = time.time() - one.days * _DAY
    for path in (source, *source.rglob("*"), folder, home):
        if path.is_symlink():
            continue
        if one.user is not None:
            os.chown(path, one.user, one.user)
        if path.is_file():
            os.utime(path, (when, when))
    environment = {
        "HOME": str(home),
        "TMPDIR": str(home),
        "PATH": os.defpath,
        "LC_ALL": one.locale,
        "TZ": one.zone,
        "PYTHONHASHSEED": str(one.seed),
        "PYTHONPATH": str(place),
        "PYTHONDONTWRITEBYTECODE": "1",
        "SOURCE_DATE_EPOCH": str(epoch),
    }
    environment |= clock(folder.parent, one.days)
    python = one.python or sys.executable
    _backend(python, source, folder, "sdist", environment, one)
    (sdist,) = folder.glob("*.tar.gz")
    tree = source
    if one.from_sdist:
        unpacked = folder.parent / f"sdist-{folder.name}"
        with tarfile.open(sdist) as archive:
            archive.extractall(unpacked, filter="data")
        (tree,) = unpacked.iterdir()
        for path in (unpacked, *unpacked.rglob("*")):
            if one.user is not None:
                os.chown(path, one.user, one.user)
    _backend(python, tree, folder, "wheel", environment, one)
    (wheel,) = folder.glob("*.whl")
    return Built(wheel, sdist)


def clock(folder: Path, days: int) -> dict[str, str]:
    """The variables that make a program's clock wrong by `days`: libfaketime's, or those of the shim of our tests."""
    if not days:
        return {}
    if shutil.which("faketime"):
        found = subprocess.run(
            ["faketime", "-f", "+0d", "sh", "-c", 'echo "$LD_PRELOAD"'], capture_output=True, text=True, check=True
        )
        return {"LD_PRELOAD": found.stdout.strip(), "FAKETIME": f"{days:+}d"}
    compiler, shim = shutil.which("cc"), folder / "skew.so"
    if compiler is None or not _CLOCK.is_file():
        raise ReleaseError(
            "the clock cannot be varied; install faketime or a C compiler (Debian: apt-get install faketime)"
        )
    if not shim.exists():
        _run([compiler, "-O2", "-shared", "-fPIC", "-nostdlib", "-o", str(shim), str(_CLOCK)], "no shim for the clock")
        (folder / "skew").write_bytes((days * _DAY * 10**9).to_bytes(8, sys.byteorder, signed=True))
        for path in (shim, folder / "skew"):
            path.chmod(0o755)
    return {"LD_PRELOAD": str(shim), "SKEW": str(folder / "skew")}


def open_folder() -> tempfile.TemporaryDirectory[str]:
    """A folder for builds that other users can enter."""
    made = tempfile.TemporaryDirectory(prefix="release-")
    Path(made.name).chmod(0o755)
    return made


def _backend(
    python: str, source: Path, folder: Path, target: str, environment: dict[str, str], one: Circumstances
) -> None:
    command = [python, "-P", "-m", "hatchling", "build", "-t", target, "-d", str(folder)]
    other = {} if one.user is None else {"user": one.user, "group": one.user, "extra_groups": []}
    done = subprocess.run(
        command, cwd=source, env=environment, umask=one.umask, capture_output=True, text=True, **other
    )  # type: ignore[call-overload]  # the stubs know no options that are given as a mapping
    if done.returncode:
        raise ReleaseError(f"{target} was not built ({one}):\n{done.stdout}{done.stderr}")


def _python_for(user: int) -> str:
    """An interpreter that this user can run; ours may lie in somebody's home."""
    names = (
        sys.executable,
        *(
            shutil.which(n, path="/usr/local/bin:/usr/bin:/bin")
            for n in ("python3", "python3.13", "python3.12", "python3.11")
        ),
    )
    for name in names:
        test = "import sys; sys.exit(sys.version_info < (3, 11))"
        try:
            found = (
                name
                and not subprocess.run(
                    [name, "-c", test], user=user, group=user, extra_groups=[], capture_output=True, cwd="/", env={}
                ).returncode
            )
        except OSError:
            continue
        if name and found:
            return name
    raise ReleaseError(
        "there is no Python 3.11 or newer that another user than root can run, so the user cannot be varied"
    )


def _open(folder: Path) -> None:
    """Let every user read it."""
    for path in (folder, *folder.rglob("*")):
        path.chmod(path.stat().st_mode | stat.S_IRGRP | stat.S_IROTH | (0o111 if path.is_dir() else 0))


def _run(command: list[str], trouble: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise ReleaseError(f"{trouble}:\n{done.stdout}{done.stderr}")
