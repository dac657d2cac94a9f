"""The documents say what the program does: no setting, route, code, command or module is left out, or invented."""

import ast
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import msgspec
import pytest
from aiohttp import web
from documents import GENERATED, ROOMS, ROOT, block, read, regenerated, room_says

from node.api.errors import STATUS
from node.api.federation import Federation
from node.api.local import Local
from node.cli import main
from node.config import OTHER_VARIABLES
from node.replicator import STORE_TROUBLE
from node.store.schema import MIGRATIONS
from sync import trust, wire
from sync.draft import Fields
from sync.memory import SOURCES, Memory, Tombstone
from tls import allowlist, explain

DOCUMENTS = sorted((*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")))
DECISIONS = ROOT / "docs" / "decisions"
REGENERATE = "run `.venv/bin/python tests/support/documents.py` and read what it changed"


# --- the generated parts


@pytest.mark.parametrize("name", GENERATED)
def test_a_generated_part_is_what_the_program_says(name: str) -> None:
    """Floor plan, settings and commands are the program's own words; any difference fails."""
    text = read(GENERATED[name][0])
    assert text == regenerated(name, text), REGENERATE
    assert regenerated(name, block(name).sub(r"\1\2", text)) != block(name).sub(r"\1\2", text)


def test_every_module_says_what_it_is() -> None:
    """The floor plan's sentences are whole: each module has a docstring that ends its first sentence."""
    for room in ROOMS:
        for path in (ROOT / room).rglob("*.py"):
            assert room_says(path).rstrip("`)").endswith((".", ":", "?")), path


# --- tables of names, compared both ways


def section(text: str, title: str) -> str:
    """A document's part below a heading, to the next heading of its level."""
    found = re.search(rf"^(#+) {re.escape(title)}\n(.*?)(?=^#{{1,2}} |\Z)", text, re.DOTALL | re.MULTILINE)
    assert found, f"there is no section {title!r}"
    return found[2]


def first_column(text: str) -> list[str]:
    """The names in the first column of the tables in a text."""
    cells = re.findall(r"^\| ([^|]*`[^|]*) \|", text, re.MULTILINE)
    return [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]


def routes(application: web.Application) -> set[str]:
    """`METHOD /path` of everything that an application answers by name."""
    found = {(one.method, one.resource.canonical) for one in application.router.routes() if one.resource is not None}
    return {f"{method} {path}" for method, path in found if method != "*"}


def called_with(*names: str, place: int = 0) -> set[str]:
    """Texts that stand, in the product's code, at a place among the arguments of calls of these names."""
    found: set[str] = set()
    for room in ROOMS:
        for path in (ROOT / room).rglob("*.py"):
            for call in ast.walk(ast.parse(path.read_text())):
                if isinstance(call, ast.Call) and len(call.args) > place:
                    name = getattr(call.func, "id", None) or getattr(call.func, "attr", None)
                    argument = call.args[place]
                    if name in names and isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                        found.add(argument.value)
    return found


async def anything(*_: Any) -> Any:
    return None


LISTENERS = {
    "Local listener": lambda: Local(*[anything] * 5, max_body=1).application(),  # type: ignore[arg-type]
    "Federation listener": lambda: Federation(anything, anything, "").application(),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("listener", LISTENERS)
def test_every_route_is_documented(listener: str) -> None:
    """The headings of a listener's part are exactly the routes that it serves."""
    documented = set(re.findall(r"^### `(.+)`$", section(read("docs/api.md"), listener), re.MULTILINE))
    assert documented == routes(LISTENERS[listener]())


def test_a_route_that_is_not_documented_is_seen() -> None:
    """Control: a new route of the application changes what the documents are compared with."""
    application = web.Application()
    application.router.add_get("/api/v1/new", anything, allow_head=False)
    assert routes(application) == {"GET /api/v1/new"}


def test_every_error_code_is_documented_with_its_status() -> None:
    """The table of errors is the program's, codes and statuses."""
    rows = re.findall(r"^\| `(\w+)` \| (\d+) \|", section(read("docs/api.md"), "Errors"), re.MULTILINE)
    assert {code: int(status) for code, status in rows} == dict(STATUS)


def test_every_reason_for_a_refusal_is_documented() -> None:
    """What a record may be refused for, wherever the code says so."""
    said = called_with("Refused", place=2) | called_with("Fault")
    said |= {row.reason for row in trust.TABLE.values() if row.reason}
    assert set(first_column(section(read("docs/api.md"), "Reasons for refusing a record"))) == said


def test_every_alarm_is_documented() -> None:
    """What an operator may be alarmed by, wherever the code says so."""
    assert set(first_column(section(read("docs/api.md"), "Alarms"))) == called_with("Alarm", "_alarm")


def test_every_reason_for_being_out_of_step_is_documented() -> None:
    """The codes that `sync status` may show."""
    said = {code for _, code, _ in explain._ALERTS} | called_with("Explanation", place=0)
    said |= {"http_<status>", "answer_too_large", "internal", "clock_skew", "quota", *STORE_TROUBLE}
    assert set(first_column(section(read("docs/api.md"), "Why a peer is not in step"))) == said


@pytest.mark.parametrize(
    ("title", "message"),
    [
        ("`POST /api/v1/memories`", Fields),
        ("A memory", Memory),
        ("`POST /api/v1/sync/push`", wire._Push),
        ("`POST /api/v1/sync/push`", wire._Answer),
    ],
)
def test_every_field_is_documented(title: str, message: type[msgspec.Struct]) -> None:
    """Fields that a client may send, those that a memory has, and those of a push and of its answer."""
    text = read("docs/api.md")
    part = re.search(rf"^#+ {re.escape(title)}\n(.*?)(?=^#)", text, re.DOTALL | re.MULTILINE)
    assert part
    assert {one.encode_name for one in msgspec.structs.fields(message)} <= set(first_column(part[1]))


def test_sources_and_tombstones_are_documented() -> None:
    """The values of `source`, and the members of a tombstone."""
    text = section(read("docs/api.md"), "A memory")
    row = next(line for line in text.splitlines() if line.startswith("| `source`"))
    assert set(re.findall(r"`(\w+)`", row)) - {"source"} == SOURCES
    stone = next(line for line in text.splitlines() if line.startswith("A tombstone"))
    assert set(re.findall(r'"(\w+)"', stone)) == {one.name for one in msgspec.structs.fields(Tombstone)}


def test_every_query_parameter_is_documented() -> None:
    """Whatever a handler asks the query for stands in the page of the API."""
    source = read("node/memories.py") + read("node/api/federation.py") + read("node/api/local.py")
    asked = set(re.findall(r'query\.get\("(\w+)"|query, "(\w+)"', source))
    names = {name for pair in asked for name in pair if name}
    assert {"q", "cursor", "since", "offset", "namespace"} <= names
    assert names <= set(re.findall(r"`\??(\w+)=?`", read("docs/api.md")))


def test_every_variable_is_documented() -> None:
    """Variables that are no setting have a row of their own."""
    assert set(first_column(section(read("docs/configuration.md"), "The environment"))) == OTHER_VARIABLES


def test_every_table_of_the_store_is_documented() -> None:
    """The tables of the schema, and `migration`, are those that ARCHITECTURE.md explains."""
    made = {"migration"}
    for statement in (statement for migration in MIGRATIONS for statement in migration):
        made.update(re.findall(r"CREATE (?:VIRTUAL )?TABLE (\w+)", statement))
        made.difference_update(re.findall(r"DROP TABLE (\w+)", statement))
    assert set(first_column(section(read("ARCHITECTURE.md"), "What is derived"))) == made


# --- what a reader types


def shell_lines(text: str) -> Iterator[str]:
    """Lines of shell blocks, continued ones joined, and inline code."""
    for found in re.findall(r"```sh\n(.*?)```", text, re.DOTALL):
        yield from re.sub(r"\\\n\s*", " ", found).splitlines()
    yield from re.findall(r"`((?:ai-memory|make) [^`\n]*)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))


def programs(line: str) -> Iterator[list[str]]:
    """The programs that a line runs, each with its arguments; comments and assignments are left out."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] = []
    for word in (*lexer, ";"):
        if set(word) <= set("();<>|&"):
            if words:
                yield words
            words = []
        elif words or "=" not in word:
            words.append(word)


def fault(words: list[str]) -> str | None:
    """What is wrong with a command that a document shows; None for a program that is not ours."""
    name, *rest = words
    if name == "make":
        targets = set(re.findall(r"^([a-z-]+):", read("Makefile"), re.MULTILINE))
        return next((f"make {word}" for word in rest if word not in targets), None)
    if Path(name).name != "ai-memory":
        return None
    command: click.Command = main
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        found = command.commands.get(rest[0])
        if found is None:
            return f"no command {rest[0]}"
        command, rest = found, rest[1:]
    known = {option for one in command.params for option in one.opts} | {"--help", "-h"}
    return next((f"no option {word}" for word in rest if word.startswith("-") and word not in {*known, "-"}), None)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_document_tells_to_type_exists(path: Path) -> None:
    """Every command, option and make target in shell blocks and inline code."""
    for line in shell_lines(path.read_text()):
        for words in programs(line):
            assert fault(words) is None, line


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("ai-memory peers list", "no command peers"),
        ("ai-memory init && ai-memory serve --fast  # quick", "no option --fast"),
        ("FOO=1 ai-memory store a b --tag x | tee f", None),
        ("make dmo", "make dmo"),
    ],
)
def test_a_wrong_command_is_seen(line: str, found: str | None) -> None:
    """Control: a command, an option or a target that does not exist."""
    assert next((wrong for words in programs(line) if (wrong := fault(words))), None) == found


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_readme_shows_how_to_try_the_gate(tmp_path: Path) -> None:
    """Its two blocks, run as printed: the listed certificate is answered, each other gets the promised alert."""
    part = section(read("README.md"), "Try the gate")
    serve, knock = re.findall(r"```sh\n(.*?)```", part, re.DOTALL)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AI_MEMORY_")}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    options: dict[str, Any] = {"cwd": tmp_path, "env": environment, "text": True}
    with subprocess.Popen(["bash", "-c", serve], stdout=subprocess.PIPE, start_new_session=True, **options) as node:
        try:
            assert node.stdout is not None
            line = json.loads(node.stdout.readline())
            done = subprocess.run(["bash", "-ec", knock], capture_output=True, timeout=30, check=True, **options)
        finally:
            os.killpg(node.pid, signal.SIGTERM)
            node.wait(30)
    promised = re.findall(r"^try.*# .*?(?:alert (.+)|(\{.*))$", knock, re.MULTILINE)
    alerts = [alert for alert, _ in promised if alert]
    assert done.stdout.count('"status":"ok"') == len(promised) - len(alerts) == 1
    told = done.stderr.splitlines()
    assert len(told) == len(alerts) >= 4
    assert all(alert in said for alert, said in zip(alerts, told, strict=True)), done.stderr
    assert set(first_column(part)) == set(line)


def test_the_example_allowlist_is_read_without_complaint() -> None:
    """Every form of the grammar stands in it, and none is an error or a warning."""
    text = read("allowlist.example")
    found = allowlist.parse(text, "allowlist.example")
    assert not found.warnings
    lines = {entry.line: text.splitlines()[entry.line - 1] for entry in found.entries}
    bodies = [line.partition("#")[0].strip() for line in lines.values()]
    assert {body[:7] for body in bodies if not body[0].isdigit()} >= {"sha256:", "SHA256:"}
    assert any(re.fullmatch("[0-9a-f]{64}", body) for body in bodies)
    assert any(re.fullmatch("([0-9a-f]{2}:){31}[0-9a-f]{2}", body) for body in bodies)
    assert any(re.search("[A-F]", body[7:]) and re.search("[a-f]", body[7:]) for body in bodies)
    assert any(not entry.label for entry in found.entries)
    assert any("#" in entry.label for entry in found.entries)
    assert any(line.startswith(" ") for line in lines.values())


# --- how the documents hang together


def anchors(text: str) -> set[str]:
    """The names that a document's headings give, as they are made on the web."""
    titles = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def broken_links(path: Path, text: str) -> list[str]:
    """Links of a document to files, or places in them, that are not there."""
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"```.*?```", "", text, flags=re.DOTALL)):
        if "://" in target:
            continue
        name, _, place = target.partition("#")
        file = path.parent / name
        if (name and not file.is_file()) or (place and place not in anchors(file.read_text() if name else text)):
            broken.append(target)
    return broken


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    """Links between documents, to files and to headings in them."""
    assert broken_links(path, path.read_text()) == []


def test_a_broken_link_is_seen() -> None:
    """Control: a file, a heading and a heading elsewhere that are not there."""
    text = "# A b\n[1](#a-b) [2](#c) [3](README.md#two-commands) [4](README.md#x) [5](nothing.md)"
    assert broken_links(ROOT / "X.md", text) == ["#c", "README.md#x", "nothing.md"]


def test_decisions_are_numbered_listed_and_whole() -> None:
    """A number for each, each in the list under its own title, each with its four parts."""
    pages = sorted(DECISIONS.glob("[0-9]*.md"))
    assert len({page.name[:4] for page in pages}) == len(pages)
    listed = []
    for page in pages:
        number, text = int(page.name[:4]), page.read_text()
        title = text.splitlines()[0].removeprefix(f"# {number:04}. ")
        assert page.name.startswith(f"{number:04}-") and title != text.splitlines()[0], page.name
        for part in ("Context", "Decision", "Consequences", "Rejected"):
            assert f"\n**{part}.**" in text, (page.name, part)
        listed.append(f"- [{number:04}]({page.name}) {title}")
    assert [line for line in read("docs/decisions/README.md").splitlines() if line.startswith("- [")] == listed


def test_the_code_names_decisions_that_exist() -> None:
    """A comment that refers to a decision says which, and there is one."""
    for room in ROOMS:
        for path in (ROOT / room).rglob("*.py"):
            for number in re.findall(r"docs/decisions(?:/(\d{4})|)", path.read_text()):
                assert number and list(DECISIONS.glob(f"{number}-*.md")), path


def test_the_tests_that_prove_a_promise_exist() -> None:
    """Every test that a document names is a test."""
    named = [found for path in DOCUMENTS for found in re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", path.read_text())]
    assert len(named) > 20
    for file, test in named:
        assert (ROOT / file).is_file(), file
        assert not test or re.search(rf"def {test}\(", read(file)), f"{file}::{test}"


def test_the_changelog_has_this_version() -> None:
    """The version of the package has a heading."""
    version = re.search(r'^version = "(.+)"$', read("pyproject.toml"), re.MULTILINE)
    assert version
    assert f"## [{version[1]}]" in read("CHANGELOG.md")
