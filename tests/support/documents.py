"""The parts of the documents that the program writes itself; run this file as a program to write them anew.

They stand between `<!-- generated: name -->` and `<!-- /generated -->`.
"""

import ast
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import click

from node.cli import main
from node.settings import PEER_SETTINGS, SETTINGS, Setting

ROOT = Path(__file__).parent.parent.parent
ROOMS = ("tls", "sync", "node")
WIDTH = 100
TYPES = {str: "text", int: "whole number", float: "number", bool: "true or false", list: "list of texts"}


def read(name: str) -> str:
    return (ROOT / name).read_text()


def modules() -> str:
    """The floor plan: every module with the first sentence that it says of itself."""
    lines: list[str] = []
    for room in ROOMS:
        lines += [f"### `{room}/`", "", room_says(ROOT / room / "__init__.py"), "", "| module | |", "|---|---|"]
        for path in sorted((ROOT / room).rglob("*.py")):
            if path != ROOT / room / "__init__.py":
                lines.append(f"| `{path.relative_to(ROOT / room)}` | {room_says(path)} |")
        lines.append("")
    return "\n".join(lines).rstrip()


def room_says(path: Path) -> str:
    docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
    paragraph = " ".join(docstring.partition("\n\n")[0].split())
    return re.split(r"(?<=\.) (?=[A-Z])", paragraph)[0]


def settings() -> str:
    """All keys of the configuration, section by section."""
    lines: list[str] = []
    for section in dict.fromkeys(one.section for one in (*SETTINGS, *PEER_SETTINGS)):
        some = [one for one in (*SETTINGS, *PEER_SETTINGS) if one.section == section]
        has_variables = section != "peer"
        lines += [f"### {'[' + section + ']' if has_variables else '[[peer]]'}", ""]
        lines += ["| key | type | default | meaning |" + (" variable |" if has_variables else "")]
        lines += ["|---|---|---|---|" + ("---|" if has_variables else "")]
        for one in some:
            default = "not set" if one.default is None else f"`{json.dumps(one.default)}`"
            row = f"| `{one.key}` | {TYPES[one.kind]} | {default} | {one.doc}{allowed(one)} |"
            lines.append(row + (f" `{one.variable}` |" if has_variables else ""))
        lines.append("")
    return "\n".join(lines).rstrip()


def allowed(setting: Setting) -> str:
    """What the program itself says that it expects, asked with a value that it refuses."""
    if setting.check is None or setting.kind is list:
        return ""
    fault = setting.check(-1 if setting.kind in (int, float) else "") or ""
    expected = fault.rpartition("expected ")[2]
    return "" if expected in setting.doc or expected.startswith("one of") else f" Expected: {expected}."


def commands() -> str:
    """Every command with its own help."""
    lines: list[str] = []
    for path, context in contexts(
        click.Context(main, info_name="ai-memory", terminal_width=WIDTH, **main.context_settings)
    ):
        lines += [f"## {path}", "", "```text", context.get_help().rstrip(), "```", ""]
    return "\n".join(lines).rstrip()


def contexts(context: click.Context) -> Iterator[tuple[str, click.Context]]:
    yield context.command_path, context
    if isinstance(context.command, click.Group):
        for name, command in sorted(context.command.commands.items()):
            yield from contexts(click.Context(command, info_name=name, parent=context))


GENERATED: dict[str, tuple[str, Callable[[], str]]] = {
    "modules": ("ARCHITECTURE.md", modules),
    "settings": ("docs/configuration.md", settings),
    "commands": ("docs/cli.md", commands),
}


def block(name: str) -> re.Pattern[str]:
    return re.compile(rf"(<!-- generated: {name} -->\n).*?(<!-- /generated -->)", re.DOTALL)


def regenerated(name: str, text: str) -> str:
    """The document's text with its generated part as it is today."""
    new, count = block(name).subn(lambda found: f"{found[1]}{GENERATED[name][1]()}\n{found[2]}", text)
    assert count == 1, f"one place for the generated part {name} expected, {count} found"
    return new


if __name__ == "__main__":
    for _name, (_document, _) in GENERATED.items():
        _text = read(_document)
        if (_new := regenerated(_name, _text)) != _text:
            (ROOT / _document).write_text(_new)
            print(f"{_document}: {_name}")
