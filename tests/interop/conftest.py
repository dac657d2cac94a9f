"""Certificates for the tests against the older daemon."""

import pytest
from certs import Mesh


@pytest.fixture(scope="session")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Mesh:
    """One CA and its certificates; nothing here changes them."""
    return Mesh(tmp_path_factory.mktemp("mesh"))
