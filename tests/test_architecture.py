"""The arrows of ARCHITECTURE.md: node -> sync, node -> tls, and nothing else."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("node", "sync", "tls")
FORBIDDEN = {"sync": {"node", "tls"}, "tls": {"node", "sync"}, "node": set[str]()}
OTHERS = {"tls": {"cryptography", "OpenSSL"}, "sync": {"msgspec", "nacl", "rfc8785"}}
"""What a room may import that is neither of the standard library nor its own."""
# `sync` decides whether data is lost, so it is driven by tests with a clock and a network of their own.
NO_IO = {"socket", "ssl", "asyncio", "sqlcipher3", "sqlite3", "aiohttp", "os", "pathlib", "time", "threading", "random"}


def imported(source: str) -> set[str]:
    """The top-level packages that a module's text imports."""
    names: set[str] = set()
    for item in ast.walk(ast.parse(source)):
        if isinstance(item, ast.Import):
            names |= {alias.name.split(".")[0] for alias in item.names}
        elif isinstance(item, ast.ImportFrom) and item.module and not item.level:
            names.add(item.module.split(".")[0])
    return names


def modules(room: str) -> list[Path]:
    return sorted((ROOT / room).rglob("*.py"))


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_what_its_arrow_allows(room: str) -> None:
    """`sync` and `tls` import neither each other nor `node`."""
    assert modules(room)
    for path in modules(room):
        assert not imported(path.read_text()) & FORBIDDEN[room], path


@pytest.mark.parametrize("room", OTHERS)
def test_a_room_needs_no_library_beyond_its_own(room: str) -> None:
    """`tls` knows no HTTP, `sync` no database: each lives from the standard library and a named few."""
    for path in modules(room):
        strange = imported(path.read_text()) - sys.stdlib_module_names - OTHERS[room] - {room}
        assert not strange, f"{path}: {strange}"


def test_sync_does_no_io() -> None:
    """`sync` imports nothing that could open a socket or a file, or read a clock."""
    for path in modules("sync"):
        assert not imported(path.read_text()) & NO_IO, path


def test_the_check_sees_a_forbidden_import() -> None:
    """Control: the walk finds an import wherever it stands."""
    assert imported("def f():\n    from node.store import x\n    import time as t") == {"node", "time"}
