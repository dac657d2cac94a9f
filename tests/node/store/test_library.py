"""The SQLite of this installation is asked what it is before any file is opened."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlcipher3 import dbapi2 as sqlcipher
from stores import PASSPHRASE, Keeper, files_of

from node.store import Store, library
from node.store.errors import StoreError
from node.store.library import OPTIONS, faults

GOOD = ("3.51.0", "4.12.0 community", tuple(OPTIONS))


@pytest.fixture(autouse=True)
def _asked_anew() -> Iterator[None]:
    library.check.cache_clear()
    yield
    library.check.cache_clear()


# version of SQLite, of SQLCipher, options, what is said
BUILDS: dict[str, tuple[str, str, tuple[str, ...], str]] = {
    "an older SQLite": ("3.50.4", *GOOD[1:], "SQLite 3.50.4 found, 3.51.0 or later expected"),
    "an old one whose numbers look greater": ("3.9.2", *GOOD[1:], "SQLite 3.9.2 found"),
    "an older SQLCipher": (GOOD[0], "3.4.2 community", GOOD[2], "SQLCipher 3.4.2 community found, 4.0.0 or later"),
    "no SQLCipher": (GOOD[0], "", GOOD[2], "no encryption"),
    **{
        f"without {name}": (*GOOD[:2], tuple(one for one in OPTIONS if one != name), f"without {name}: {why}")
        for name, why in OPTIONS.items()
    },
}


@pytest.mark.parametrize("build", BUILDS)
def test_a_build_that_cannot_keep_a_store_is_named(build: str) -> None:
    """What was found, what was expected, or what would break."""
    *asked, text = BUILDS[build]
    found = faults(*asked)  # type: ignore[arg-type]
    assert len(found) == 1
    assert text in found[0]


@pytest.mark.parametrize("version", ["3.51.0", "3.51.1", "3.53.4", "4.0.0"])
def test_a_build_that_can_is_not(version: str) -> None:
    """Control: of these versions, with these options, nothing is wrong."""
    assert faults(version, *GOOD[1:]) == []


def test_this_installation_can(tmp_path: Path) -> None:
    """Control: the locked one is asked, and found to be good."""
    library.check()
    assert sqlcipher.sqlite_version_info >= library.SQLITE


def test_a_start_is_refused_before_any_file_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what to do, and nothing lies where the store would be."""
    monkeypatch.setattr(library, "SQLITE", (9, 0, 0))
    with pytest.raises(StoreError, match=r"SQLite .* found, 9\.0\.0 or later expected\. Install the locked"):
        Store.open(tmp_path / "memories.db", PASSPHRASE, create=True)
    assert files_of(tmp_path / "memories.db") == []
    monkeypatch.undo()
    library.check.cache_clear()
    Keeper(tmp_path / "memories.db").close()
