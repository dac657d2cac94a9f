"""Real text: the docstrings of the Python standard library on this machine."""

import ast
import re
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sync.memory import MAX_TITLE, content_fault, namespace_fault, title_fault

_LEFT_OUT = frozenset(("test", "tests", "idlelib", "lib2to3", "site-packages", "dist-packages", "__pycache__"))
_NO_TEXT = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
MIN_CHARACTERS = 24
_Documented = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


@dataclass(frozen=True, slots=True)
class Text:
    """One memory to be: namespace from the module, title the object's name, content its docstring."""

    namespace: str
    title: str
    content: str


def texts() -> Iterator[Text]:
    """All of them, module by module; some twenty thousand, each (namespace, title) once."""
    root = Path(sysconfig.get_path("stdlib"))
    seen: set[tuple[str, str]] = set()
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        if _LEFT_OUT.isdisjoint(parts):
            for text in _of_module(path, tuple(part for part in parts if part != "__init__")):
                if (text.namespace, text.title) not in seen:
                    seen.add((text.namespace, text.title))
                    yield text


def _of_module(path: Path, parts: tuple[str, ...]) -> Iterator[Text]:
    namespace = "/".join(("python", *parts))
    if namespace_fault(namespace):
        return
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return  # the library ships a few files that are broken on purpose
    for name, node in _documented(tree, ".".join(parts) or "python"):
        title = name[:MAX_TITLE]
        content = _NO_TEXT.sub(" ", ast.get_docstring(node) or "").strip()
        if len(content) >= MIN_CHARACTERS and not (title_fault(title) or content_fault(content)):
            yield Text(namespace, title, content)


def _documented(tree: ast.Module, name: str) -> Iterator[tuple[str, ast.Module | _Documented]]:
    yield name, tree
    todo: list[tuple[str, ast.AST]] = [(name, tree)]
    while todo:
        prefix, node = todo.pop()
        for child in ast.iter_child_nodes(node):
            if isinstance(child, _Documented):
                title = f"{prefix}.{child.name}"
                yield title, child
                todo.append((title, child))
