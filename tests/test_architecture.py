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


# --- what reaches a terminal

TALKING = [
    *(ROOT / "node" / "cli").glob("*.py"),
    *(ROOT / "node" / "demo").glob("*.py"),
    *(ROOT / "node" / "legacy").rglob("*.py"),
]
OWN_STREAMS = {"output.py", "streams.py"}
ALONE = {"verify.py": {"echo"}}
"""The line of progress that is written over, which holds numbers."""


def spoken(source: str) -> set[str]:
    """The ways in which a module's text writes to a terminal by itself, or hands over several lines as one."""
    found: set[str] = set()
    for item in ast.walk(ast.parse(source)):
        if not isinstance(item, ast.Call):
            continue
        name = item.func.attr if isinstance(item.func, ast.Attribute) else getattr(item.func, "id", "")
        if name in ("echo", "secho", "print") and getattr(getattr(item.func, "value", None), "id", "click") == "click":
            found.add(name)
        if ast.unparse(item.func).startswith(("sys.stdout.write", "sys.stderr.write")):
            found.add("write")
        if name in ("show", "CommandError", "remark", "say") and any(
            "'\\n'.join" in ast.unparse(one) for one in item.args
        ):
            found.add("joined")
    return found


def test_commands_speak_through_one_function() -> None:
    """So that nothing which somebody else wrote gets around it, and no line of theirs passes for several of ours."""
    assert len(TALKING) > 20
    for path in TALKING:
        if path.name not in OWN_STREAMS:
            assert spoken(path.read_text()) <= ALONE.get(path.name, set()), path


def test_the_check_sees_who_speaks_otherwise() -> None:
    """Control: each way is found."""
    for text, way in (
        ("click.echo(x)", "echo"),
        ("print(x)", "print"),
        ("sys.stdout.write(x)", "write"),
        ("invocation.show(told, '\\n'.join(lines))", "joined"),
        ("raise CommandError(1, 'x', '\\n'.join(lines))", "joined"),
    ):
        assert spoken(text) == {way}
    assert spoken("console.print(x)") == spoken("invocation.show(told, *lines)") == set()
