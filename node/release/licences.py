"""Licences against the list of those that may be shipped: of every component of the bill, down to bundled libraries.

Run `python -m node.release.licences` (`make licences`). The list is `[tool.ai-memory.licences]` in `pyproject.toml`.
"""

import argparse
import json
import sys
import tomllib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from license_expression import ExpressionError, get_spdx_licensing

from node.release.locks import ReleaseError
from node.release.sbom import bill

SPDX = get_spdx_licensing()


def allowed(expression: str, allow: Collection[str]) -> bool:
    """Whether one may choose from an SPDX expression so that every licence that applies is on the list.

    Raises ReleaseError for what is no SPDX expression.
    """
    try:
        parsed = SPDX.parse(expression, validate=True)
    except ExpressionError as error:
        raise ReleaseError(f"{expression!r} is no SPDX expression: {error}") from error
    return parsed is not None and _holds(parsed, allow)


def _holds(node: Any, allow: Collection[str]) -> bool:
    if isinstance(node, SPDX.OR):
        return any(_holds(one, allow) for one in node.args)
    if isinstance(node, SPDX.AND):
        return all(_holds(one, allow) for one in node.args)
    return str(node) in allow  # `A WITH B` is a licence of its own: the exception has to be on the list with it


def refused(document: Mapping[str, Any], allow: Collection[str]) -> list[str]:
    """The components that may not be shipped, in words."""
    found = []
    for path, component in _components(document["components"], ""):
        stated = [_text(one) for one in component.get("licenses", ())]
        if not stated:
            found.append(f"{path}: no licence is stated")
        found += [f"{path}: {text} is not on the list" for text in stated if not allowed(text, allow)]
    return found


def _components(components: list[Mapping[str, Any]], above: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for one in components:
        path = f"{above}{one['name']} {one.get('version', '')}".rstrip()
        yield path, one
        yield from _components(one.get("components", []), f"{path} / ")


def _text(stated: Mapping[str, Any]) -> str:
    """An entry of `licenses`: an expression, an identifier, or a name that is neither."""
    one = stated.get("license", {})
    return str(stated.get("expression") or one.get("id") or one.get("name"))


def allow_list(root: Path) -> frozenset[str]:
    """What may be shipped. Raises ReleaseError where the list is missing."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    try:
        return frozenset(project["tool"]["ai-memory"]["licences"]["allow"])
    except KeyError as error:
        raise ReleaseError(f"pyproject.toml lacks {error} of [tool.ai-memory.licences] allow") from error


def main() -> int:
    """Check the bill of the tree in which it is started."""
    parser = argparse.ArgumentParser(prog="python -m node.release.licences", description=main.__doc__)
    parser.add_argument("--sbom", type=Path, metavar="FILE", help="another bill than that of this tree")
    chosen = parser.parse_args()
    try:
        document = json.loads(chosen.sbom.read_bytes() if chosen.sbom else bill(Path()))
        found = refused(document, allow_list(Path()))
    except (ReleaseError, OSError, ValueError, KeyError) as error:
        sys.exit(f"licences NOT CHECKED: {error}")
    for line in found:
        print(line)
    count = sum(1 for _ in _components(document["components"], ""))
    print(f"licences: {count} components, {len(found)} that may not be shipped")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
