"""Which libraries the wheels really bring along, asked of the code that is linked.

It imports nothing of ours, so that an environment that holds the pins and nothing else can run it as a file.
"""

import json
import re
import sys
from collections.abc import Callable, Iterator

VERSION = re.compile(r"\d+\.\d+\.\d+")


def _first(text: str) -> str:
    found = VERSION.search(text)
    if found is None:
        raise ValueError(f"no version in {text!r}")
    return found[0]


def _cryptography() -> Iterator[tuple[str, str]]:
    from cryptography.hazmat.backends.openssl import backend

    yield "openssl", _first(backend.openssl_version_text())


def _sqlcipher3() -> Iterator[tuple[str, str]]:
    import sqlcipher3

    connection = sqlcipher3.connect(":memory:")
    connection.execute("PRAGMA key = 'asked for its version'")
    yield "sqlcipher", _first(connection.execute("PRAGMA cipher_version").fetchone()[0])
    yield "sqlite", _first(sqlcipher3.sqlite_version)
    provider = connection.execute("PRAGMA cipher_provider").fetchone()[0]
    yield provider, _first(connection.execute("PRAGMA cipher_provider_version").fetchone()[0])
    connection.close()


def _uvloop() -> Iterator[tuple[str, str]]:
    from uvloop import loop

    number = loop.libuv_get_version()  # type: ignore[attr-defined]  # a compiled module, whose stubs leave it out
    yield "libuv", f"{number >> 16}.{number >> 8 & 255}.{number & 255}"


ASKED: dict[str, Callable[[], Iterator[tuple[str, str]]]] = {
    "cryptography": _cryptography,
    "sqlcipher3": _sqlcipher3,
    "uvloop": _uvloop,
}
"""By package. What is linked without a word about its version (libsodium, libffi, llhttp) cannot be asked."""


def linked() -> dict[str, dict[str, str]]:
    """Package to library to version, for the packages that this interpreter has."""
    answers: dict[str, dict[str, str]] = {}
    for package, ask in ASKED.items():
        try:
            answers[package] = dict(ask())
        except ModuleNotFoundError as error:
            if error.name is None or error.name.split(".")[0] != package:
                raise
    return answers


if __name__ == "__main__":
    json.dump(linked(), sys.stdout)
