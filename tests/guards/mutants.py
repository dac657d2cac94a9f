"""Guards taken away one at a time: from the text of a module to the texts that it would be without each of them."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass

LEAVES = (ast.Return, ast.Raise, ast.Continue, ast.Break)
OFF_BY_ONE = {ast.Lt: "<=", ast.LtE: "<", ast.Gt: ">=", ast.GtE: ">"}


@dataclass(frozen=True, slots=True)
class Mutant:
    """One module with one guard less."""

    file: str
    kind: str
    """`never` (an `if` that leaves is never true), `bound` (off by one), `operand` (dropped), `raise` (removed)."""
    guard: str
    """What was there, on one line."""
    which: int
    """Counted among those of this file, kind and guard: no line numbers, so that a list of them outlives an edit."""
    line: int
    text: str
    """Of the whole module."""

    @property
    def key(self) -> tuple[str, str, str, int]:
        return self.file, self.kind, self.guard, self.which


def mutants(file: str, text: str) -> list[Mutant]:
    """Every mutant of a module, in the order of its lines."""
    source = _Source(text)
    found: list[Mutant] = []
    counts: dict[tuple[str, str], int] = {}
    changes = sorted(_changes(source), key=lambda change: (change[1].lineno, change[1].col_offset))
    for kind, node, guard, new in changes:
        which = counts[kind, guard] = counts.get((kind, guard), -1) + 1
        found.append(Mutant(file, kind, guard, which, node.lineno, source.with_(node, new)))
    return found


def _changes(source: "_Source") -> Iterator[tuple[str, ast.expr | ast.stmt, str, str]]:
    """Kind, what is replaced, how it is named, and by what."""
    only_raise = set()
    for node in ast.walk(source.tree):
        if isinstance(node, ast.If) and any(isinstance(one, LEAVES) for one in node.body):
            yield "never", node.test, f"if {source.of(node.test)}", "False"
            only_raise.update(id(one) for one in node.body if len(node.body) == 1)
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in OFF_BY_ONE:
            left, right = source.of(node.left), source.of(node.comparators[0])
            yield "bound", node, source.of(node), f"({left} {OFF_BY_ONE[type(node.ops[0])]} {right})"
        elif isinstance(node, ast.BoolOp):
            word = " and " if isinstance(node.op, ast.And) else " or "
            for place, dropped in enumerate(node.values):
                rest = [f"({source.of(one)})" for index, one in enumerate(node.values) if index != place]
                guard = f"{source.of(dropped)} in {source.of(node)}"
                yield "operand", node, guard, f"({word.join(rest)})"
        elif isinstance(node, ast.Raise) and id(node) not in only_raise:
            yield "raise", node, source.of(node), "pass"


class _Source:
    """A module's text and tree. Positions of `ast` are in UTF-8 bytes."""

    def __init__(self, text: str) -> None:
        self.tree = ast.parse(text)
        self._data = text.encode()
        self._starts = [0]
        for line in self._data.splitlines(keepends=True):
            self._starts.append(self._starts[-1] + len(line))

    def _span(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        assert node.end_lineno is not None and node.end_col_offset is not None, "a parsed node has an end"
        return self._starts[node.lineno - 1] + node.col_offset, self._starts[node.end_lineno - 1] + node.end_col_offset

    def of(self, node: ast.expr | ast.stmt) -> str:
        start, end = self._span(node)
        return " ".join(self._data[start:end].decode().split())

    def with_(self, node: ast.expr | ast.stmt, new: str) -> str:
        start, end = self._span(node)
        return (self._data[:start] + new.encode() + self._data[end:]).decode()
