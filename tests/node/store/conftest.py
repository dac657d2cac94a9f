"""What the tests of the encrypted store share."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import stores
from stores import Keeper

from node import store as store_module
from node.store import backup, restore


@pytest.fixture(autouse=True)
def _each_key_is_derived_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is opened again and again need not wait 0.1 s for its key each time."""
    for module in (store_module, backup, restore):
        monkeypatch.setattr(module, "derive", stores.key_of)


@pytest.fixture
def keeper(tmp_path: Path) -> Iterator[Keeper]:
    """A new store with an engine over it; closed at the end."""
    path = tmp_path / "memories.db"
    path.write_bytes(stores.empty())
    opened = Keeper(path, create=False)
    yield opened
    opened.close()
