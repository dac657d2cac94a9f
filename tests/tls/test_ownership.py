"""Files that decide over a node: refused where others could change them; and whose a file is that is not to be had."""

import errno
import os
import stat
from pathlib import Path
from types import SimpleNamespace

import pytest
from certs import Mesh

from tls import allowlist, identity, ownership
from tls.allowlist import AllowlistError
from tls.errors import IdentityError
from tls.ownership import SharedFileError, advice, is_alone, read_own, require_own

BOB, GROUP = 1_001, 2_002
SHARED = [0o666, 0o664, 0o646, 0o620, 0o602, 0o777, 0o2664]
OWN = [0o600, 0o400, 0o644, 0o640, 0o604, 0o755, 0o444]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"what counts")
    return path


@pytest.fixture
def shared_group(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the tests may be alone in a group: here nobody is."""
    monkeypatch.setattr(ownership, "is_alone", lambda user, group: False)


def seen(path: Path, **changes: int) -> os.stat_result:
    """What `stat` says of a path, some of it replaced."""
    found = list(path.stat())
    for name, value in changes.items():
        found[getattr(stat, name.upper())] = value
    return os.stat_result(found)


@pytest.mark.usefixtures("shared_group")
@pytest.mark.parametrize("mode", OWN)
def test_what_its_owner_alone_changes_is_read(file: Path, mode: int) -> None:
    """Others may read it: nothing in it is secret."""
    file.chmod(mode)
    assert read_own(file) == b"what counts"


@pytest.mark.usefixtures("shared_group")
@pytest.mark.parametrize("way", ["itself", "a link"])
@pytest.mark.parametrize("mode", SHARED)
def test_what_others_can_change_is_refused(file: Path, tmp_path: Path, mode: int, way: str) -> None:
    """The sentence has the mode that was found, the one that is expected, and what to run."""
    file.chmod(mode)
    path = file
    if way == "a link":
        path = tmp_path / "link"
        path.symlink_to(file)
    with pytest.raises(SharedFileError) as caught:
        read_own(path)
    told = str(caught.value)
    assert told.startswith(f"{path}: mode is {mode:04o}, with which every user of ")
    assert told.endswith(
        f"expected {mode & ~0o022:04o}; look whether it still is as you left it, then run: chmod go-w {path}"
    )


def test_without_the_check_it_is_read(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: the same file."""
    file.chmod(0o666)
    with pytest.raises(SharedFileError):
        read_own(file)
    monkeypatch.setattr(ownership, "require_own", lambda path, found: None)
    assert read_own(file) == b"what counts"


@pytest.mark.parametrize("mode", [0o777, 0o757])
def test_a_folder_in_which_others_write_is_refused(file: Path, tmp_path: Path, mode: int) -> None:
    """They can put another file in the place. Not where it is sticky; and of a link, it is the folder it leads to."""
    link = tmp_path / "away" / "link"
    link.parent.mkdir()
    link.symlink_to(file)
    tmp_path.chmod(mode)
    for path in (file, link):
        with pytest.raises(SharedFileError, match=rf"mode is {mode:04o}, .*; look .* chmod go-w {tmp_path}$"):
            read_own(path)
    tmp_path.chmod(mode | stat.S_ISVTX)
    assert read_own(link) == read_own(file) == b"what counts"
    with pytest.raises(SharedFileError):
        require_own(tmp_path, tmp_path.stat())  # as a node's own folder: in a sticky one others make new files
    tmp_path.chmod(0o700)
    assert read_own(link) == b"what counts"


def test_a_file_of_another_user_is_taken(file: Path) -> None:
    """An operator may own the list that a service reads; only the mode lets in whom nobody meant."""
    require_own(file, seen(file, st_uid=BOB))


PEOPLE = {
    "of the same name, nobody else in it": ("bob", [], [BOB], True),
    "its owner named in it": ("bob", ["bob"], [BOB], True),
    "another member": ("bob", ["eve"], [BOB], False),
    "another name": ("staff", [], [BOB], False),
    "somebody else's first group": ("bob", [], [BOB, 7], False),
}


def people(monkeypatch: pytest.MonkeyPatch, group: str, members: list[str], first: list[int]) -> None:
    monkeypatch.setattr(ownership.pwd, "getpwuid", lambda user: SimpleNamespace(pw_name="bob"))
    monkeypatch.setattr(ownership.pwd, "getpwall", lambda: [SimpleNamespace(pw_uid=one, pw_gid=GROUP) for one in first])
    monkeypatch.setattr(ownership.grp, "getgrgid", lambda number: SimpleNamespace(gr_name=group, gr_mem=members))


@pytest.mark.parametrize("case", PEOPLE)
def test_a_group_that_is_a_users_own_is_the_user(case: str, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the umask 002 every file of such a user may be written by that group, in which nobody else is."""
    group, members, first, is_own = PEOPLE[case]
    people(monkeypatch, group, members, first)
    assert is_alone(BOB, GROUP) is is_own
    file.chmod(0o664)
    found = seen(file, st_uid=BOB, st_gid=GROUP)
    if is_own:
        require_own(file, found)
        file.chmod(0o666)
        found = seen(file, st_uid=BOB, st_gid=GROUP)
    with pytest.raises(SharedFileError):
        require_own(file, found)


def test_roots_group_is_nobodys_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some container platforms put every user into it. A group that has no name is nobody's either."""
    people(monkeypatch, "bob", [], [0])
    assert not is_alone(0, GROUP)
    assert not is_alone(BOB, 0)
    monkeypatch.undo()
    assert not is_alone(4_000_000_001, 4_000_000_001)


# --- where they are used


@pytest.mark.usefixtures("shared_group")
def test_an_allowlist_that_others_can_change_lets_nobody_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever writes there connects. Control: without the check it is read."""
    path = tmp_path / "allowlist"
    path.write_text(f"{'a' * 64}\n")
    path.chmod(0o664)
    with pytest.raises(
        AllowlistError, match=r"found mode 0664, with which .* expected 0644; look .*: chmod go-w"
    ) as caught:
        allowlist.load(path)
    assert str(caught.value).endswith(f"chmod go-w {path}")
    assert caught.value.lines == (str(caught.value),)
    monkeypatch.setattr(ownership, "require_own", lambda path, found: None)
    assert len(allowlist.load(path)) == 1


@pytest.mark.usefixtures("shared_group")
@pytest.mark.parametrize("which", ["cert", "ca"])
def test_a_certificate_that_others_can_change_is_no_identity(
    tmp_path: Path, which: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who adds a CA has one half of what opens the gate. Control: without the check it is loaded."""
    files = Mesh(tmp_path).node.files
    path: Path = getattr(files, which)
    path.chmod(0o666)
    with pytest.raises(IdentityError, match="mode is 0666") as caught:
        files.load()
    assert str(caught.value).count("chmod go-w") == 1
    monkeypatch.setattr(ownership, "require_own", lambda path, found: None)
    assert files.load().fingerprint


# --- what is told where access is denied

DENIED = PermissionError(errno.EACCES, "Permission denied")


@pytest.fixture
def somebody(monkeypatch: pytest.MonkeyPatch) -> int:
    """This process seems to be another user than the one who made the files."""
    monkeypatch.setattr(ownership.os, "geteuid", lambda: BOB)
    return os.getuid()


def test_whose_a_file_is_is_told(file: Path, somebody: int) -> None:
    """Who owns it, who this is, and as whom to run; nothing for any other error."""
    told = advice(DENIED, file) or ""
    assert told.startswith("it belongs to user ")
    assert f"({somebody}), and this is user " in told
    assert f"{BOB}" in told
    assert "run the command as the owner" in told
    assert advice(OSError(errno.ENOSPC, "No space left on device"), file) is None


def test_the_folder_that_is_in_the_way_is_named(
    file: Path, tmp_path: Path, somebody: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one that cannot be entered; or that in which something was to be made."""
    assert (advice(DENIED, tmp_path / "new") or "").startswith(f"{tmp_path} belongs to user ")
    monkeypatch.setattr(ownership.os, "access", lambda folder, right, **_: folder != tmp_path)
    monkeypatch.setattr(ownership.os, "supports_effective_ids", {ownership.os.access})
    assert (advice(DENIED, file) or "").startswith(f"{tmp_path} belongs to user ")
    assert (advice(DENIED, tmp_path / "below" / "file") or "").startswith(f"{tmp_path} belongs to user ")


def test_the_mode_of_ones_own_file_is_told(file: Path, tmp_path: Path) -> None:
    """And the command; where the mode is no obstacle nothing is invented."""
    file.chmod(0o200)
    assert advice(DENIED, file) == f"the mode of it is 0200; run: chmod u+rw {file}"
    file.chmod(0o600)
    assert advice(DENIED, file) is None
    (tmp_path / "below").mkdir(0o500)
    told = advice(DENIED, tmp_path / "below" / "new")
    assert told == f"the mode of {tmp_path / 'below'} is 0500; run: chmod u+rwx {tmp_path / 'below'}"


def test_whose_a_list_or_a_certificate_is_is_told(
    tmp_path: Path, somebody: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it cannot be read; of anything else that is no file, to look at it."""
    files, listing = Mesh(tmp_path).node.files, tmp_path / "allowlist"
    listing.touch()

    def denied(path: Path) -> bytes:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    for module in (identity, allowlist):
        monkeypatch.setattr(module, "read_own", denied)
    with pytest.raises(AllowlistError, match=rf"permission denied, .*; it belongs to user .*\({somebody}\)"):
        allowlist.load(listing)
    with pytest.raises(IdentityError, match=rf"Permission denied. It belongs to user .*\({somebody}\)"):
        files.load()
    monkeypatch.undo()
    files.cert.unlink()
    files.cert.mkdir()
    with pytest.raises(IdentityError, match=r"Is a directory. Look what lies there\."):
        files.load()
