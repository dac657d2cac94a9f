"""What tests of whole nodes share: certificates of one mesh, and what the nodes log."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from certs import Mesh
from structlog.testing import capture_logs


@pytest.fixture
def mesh(tmp_path: Path) -> Mesh:
    return Mesh(tmp_path)


@pytest.fixture
def logs() -> Iterator[list[Any]]:
    with capture_logs() as found:
        yield found
