"""Whose a file is: who else could change it, and what to do where its owner keeps others out."""

import errno
import grp
import os
import pwd
import stat
from pathlib import Path

_OTHERS = stat.S_IWGRP | stat.S_IWOTH
_THEN = "look whether it still is as you left it, then run"
_DENIED = (errno.EACCES, errno.EPERM)


class SharedFileError(ValueError):
    """Others could change a file that decides over this node. `fault`: its mode and whom it lets in."""

    def __init__(self, path: Path, fault: str, expected: str, advice: str) -> None:
        self.fault, self.expected, self.advice = fault, expected, advice
        super().__init__(f"{path}: mode is {fault}, expected {expected}; {advice}")


def read_own(path: Path) -> bytes:
    """What a file holds that nobody but its owner and root can change: what is looked at is what is read.

    Of a symbolic link, what it leads to is judged. The folder counts too, since whoever can write there exchanges the
    file; not where it is sticky, as /tmp is. Raises SharedFileError, OSError.
    """
    with path.open("rb") as file:
        require_own(path, os.fstat(file.fileno()))
        folder = Path(os.path.realpath(path)).parent
        found = folder.stat()
        if not found.st_mode & stat.S_ISVTX:
            require_own(folder, found)
        return file.read()


def require_own(path: Path, found: os.stat_result, made: int | None = None) -> None:
    """Raises SharedFileError where others could change a file or a folder, by what `stat` says of it.

    `made`: the mode that such a file is made with, where that is for its owner alone.

    Who owns it is not judged: whoever gave a file to somebody meant it, and nobody else can.
    """
    mode = stat.S_IMODE(found.st_mode)
    if mode & stat.S_IWOTH:
        who = "every user"
    elif mode & stat.S_IWGRP and not is_alone(found.st_uid, found.st_gid):
        who = f"every user of the group {_group(found.st_gid)}"
    else:
        return
    fault = f"{mode:04o}, with which {who} of this machine can change it"
    expected, change = (f"{mode & ~_OTHERS:04o}", "go-w") if made is None else (f"{made:04o}", f"{made:03o}")
    raise SharedFileError(path, fault, expected, f"{_THEN}: chmod {change} {path}")


def is_alone(user: int, group: int) -> bool:
    """Whether a group is a user's own, as many systems make one for each: of the same name, with nobody else in it.

    A file that such a group may write is written by its owner alone; with the umask 002 of these systems all are so.
    Root's group is never taken for one: some container platforms put every user into it.
    """
    if user == 0 or group == 0:
        return False
    try:
        owner, found = pwd.getpwuid(user), grp.getgrgid(group)
    except KeyError:
        return False
    if found.gr_name != owner.pw_name or set(found.gr_mem) - {owner.pw_name}:
        return False
    return all(one.pw_uid == user for one in pwd.getpwall() if one.pw_gid == group)


def advice(error: OSError, path: Path) -> str | None:
    """What to do where the system denies access: whose the file is, or the folder on the way; else None."""
    if error.errno not in _DENIED:
        return None
    barrier = _barrier(path)
    try:
        found = barrier.stat()
    except OSError:
        return None
    what, me = "it" if barrier == path else str(barrier), os.geteuid()
    if found.st_uid != me:
        return (
            f"{what} belongs to {_user(found.st_uid)}, and this is {_user(me)}: run the command as the owner,"
            " or have the owner give you access"
        )
    needed = stat.S_IRWXU if stat.S_ISDIR(found.st_mode) else stat.S_IRUSR | stat.S_IWUSR
    if needed & ~found.st_mode:
        rights = "rwx" if stat.S_ISDIR(found.st_mode) else "rw"
        return f"the mode of {what} is {stat.S_IMODE(found.st_mode):04o}; run: chmod u+{rights} {barrier}"
    return None


def _barrier(path: Path) -> Path:
    """The first folder on the way that this process may not enter; else the path, or where it is to be made."""
    whole = path.absolute()
    effective = os.access in os.supports_effective_ids
    for folder in reversed(whole.parents):
        if not os.access(folder, os.X_OK, effective_ids=effective):
            return folder
    return path if os.path.lexists(whole) else whole.parent


def _user(number: int) -> str:
    try:
        return f"user {pwd.getpwuid(number).pw_name} ({number})"
    except KeyError:
        return f"user {number}"


def _group(number: int) -> str:
    try:
        return f"{grp.getgrgid(number).gr_name} ({number})"
    except KeyError:
        return str(number)
