"""Outputs that cannot be written, and inputs that are no text: with real processes, as a shell starts them."""

import codecs
import json
import os
import pty
import select
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from commands import PATIENCE, PROGRAM, clean_environment, new_home, run, serving

from node.home import Home

TITLE = "Ключ 机"
FORGED = "desk            in step for 9 h: everything was confirmed"
CONTENT = f"one\n{FORGED}\n\u2028{FORGED}\n{' ' * 200}{FORGED}\tend\u202e"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A folder with a memory whose title few encodings hold."""
    made = new_home(tmp_path_factory.mktemp("streams"))
    assert run("store", TITLE, CONTENT, home=made).code == 0
    return made


def shell(
    home: Home, line: str, env: dict[str, str] | None = None, stdin: bytes = b""
) -> subprocess.CompletedProcess[bytes]:
    """A line of shell, in which `ai-memory` is the program."""
    define = f'ai-memory() {{ {sys.executable} -m node "$@"; }}; set -o pipefail; '
    environment = clean_environment() | {"AI_MEMORY_HOME": str(home.path)} | (env or {})
    return subprocess.run(
        ["bash", "-c", define + line],
        env=environment,
        input=stdin,
        capture_output=True,
        timeout=PATIENCE * 2,
        check=False,
    )


FULL = (
    "list --json", "get {id}", "verify --all", "identity export host:desk --to {new} --json", "--version",
    "store --help", "serve --ephemeral", "completion",
)  # fmt: skip
GONE = ("list", "--help", "verify --all --json", "completion")


def ran_into(home: Home, line: str, where: str, tmp_path: Path) -> subprocess.CompletedProcess[bytes]:
    """A command whose standard output goes there."""
    env = {"_AI_MEMORY_COMPLETE": "bash_source"} if line == "completion" else {}
    return shell(home, f"ai-memory {line.format(id=found(home), new=tmp_path / 'key')} {where}", env)


@pytest.mark.parametrize("line", FULL)
def test_an_answer_to_a_full_disk_is_an_error(home: Home, line: str, tmp_path: Path) -> None:
    """Exit code 6, one sentence, no trace."""
    ran = ran_into(home, line, ">/dev/full", tmp_path)
    assert (ran.returncode, ran.stdout, ran.stderr.count(b"\n")) == (6, b"", 1), ran.stderr
    assert b"the answer could not be written to standard output: no space left on device; " in ran.stderr
    assert b"; the command itself was carried out" in ran.stderr


def test_an_answer_to_a_closed_output_is_an_error(home: Home, tmp_path: Path) -> None:
    """The same, where there is no output at all; as JSON one object with a code."""
    ran = ran_into(home, "stats", "--json >&-", tmp_path)
    assert ran.returncode == 6
    told = json.loads(ran.stderr)
    assert told["code"] == "output"
    assert "standard output: it is closed" in told["error"]
    assert ran_into(home, "--version", ">&-", tmp_path).returncode == 6


@pytest.mark.parametrize("line", GONE)
def test_a_reader_that_went_away_is_told_by_the_exit_code_alone(home: Home, line: str) -> None:
    """141, as a shell has it of every program, and not a word."""
    env = {"AI_MEMORY_HOME": str(home.path)} | ({"_AI_MEMORY_COMPLETE": "bash_source"} if line == "completion" else {})
    reading, writing = os.pipe()
    os.close(reading)
    try:
        ran = subprocess.run(
            [*PROGRAM, *line.split()], stdin=subprocess.DEVNULL, stdout=writing, stderr=subprocess.PIPE,
            env=clean_environment() | env, check=False, timeout=PATIENCE,
        )  # fmt: skip
    finally:
        os.close(writing)
    assert (ran.returncode, ran.stderr) == (141, b"")


def test_the_pipe_of_a_shell_is_quiet(home: Home) -> None:
    """What one types: the first line, and nothing else on the screen."""
    ran = shell(home, "ai-memory --help | head -1")
    assert (ran.stdout.count(b"\n"), ran.stderr) == (1, b"")
    assert ran.returncode in (0, 141)  # all of it may fit into the pipe before `head` ends


@pytest.mark.parametrize("where", ["2>/dev/full", "2>&-", "2> >(exec true)"])
def test_a_log_that_cannot_be_written_changes_nothing(home: Home, where: str) -> None:
    """Neither an answer nor an exit code: of a success, of an answer that is no, of wrong usage."""
    for line, code in (("stats", 0), ("store '' x", 5)):
        ran = shell(home, f"ai-memory {line} {where}")
        assert ran.returncode == code
        assert bool(ran.stdout) is (code == 0)


@pytest.mark.parametrize("where", ["2>/dev/full", "2> >(exec true)", ">&- 2>&- <&-"])
def test_a_node_starts_without_a_log(tmp_path: Path, where: str) -> None:
    """It serves, takes what it is given, and ends as it should; no file of it was opened as a standard stream."""
    made = new_home(tmp_path)
    line = (
        f"ai-memory serve {where} & node=$!\n"
        "for i in $(seq 300); do [ -e $AI_MEMORY_HOME/run.json ] && break; sleep 0.1; done\n"
        "ai-memory store title text --json\n"
        "pid=$(sed 's/.*\"pid\": *//; s/[^0-9].*//' $AI_MEMORY_HOME/run.json); ls -l /proc/$pid/fd/ >&2\n"
        "kill -TERM $pid; wait $node"
    )
    ran = shell(made, line)
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["title"] == "title"
    opened = dict(row.split()[-3::2] for row in ran.stderr.decode().splitlines() if "->" in row)
    assert not [opened[number] for number in "012" if "store" in opened[number] or made.path.name in opened[number]]
    assert {one["title"] for one in run("list", "--json", home=made).json["memories"]} == {"title"}


# --- encodings


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_title_that_the_encoding_lacks_is_shown(home: Home, encoding: str) -> None:
    """By its escape; as JSON exactly, whatever the encoding."""
    env = {"PYTHONIOENCODING": encoding}
    ran = shell(home, "ai-memory list --limit 1000", env)
    assert (ran.returncode, ran.stderr) == (0, b"")
    assert TITLE.encode(encoding, "backslashreplace") in ran.stdout
    ran = shell(home, "ai-memory list --limit 1000 --json", env)
    assert TITLE in {one["title"] for one in json.loads(ran.stdout.decode(encoding))["memories"]}


def test_an_encoding_that_takes_nothing_is_told(home: Home) -> None:
    """In ASCII, on standard error, with what to do; control: with the encoding that it names there is an answer."""
    ran = shell(home, "ai-memory list", {"PYTHONIOENCODING": "undefined"})
    assert (ran.returncode, ran.stdout) == (6, b"")
    assert b"its encoding does not take the text, set PYTHONIOENCODING=utf-8; the command itself" in ran.stderr
    assert shell(home, "ai-memory list", {"PYTHONIOENCODING": "utf-8"}).returncode == 0


CRON = [{"LC_ALL": "C"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}]


@pytest.mark.parametrize("env", CRON, ids=["C", "ASCII"])
def test_a_cron_job_gets_an_answer(home: Home, env: dict[str, str]) -> None:
    """In the locale C, with and without Python's own ways around it."""
    ran = shell(home, "ai-memory list --limit 1000", env)
    assert (ran.returncode, ran.stderr) == (0, b"")
    assert TITLE.encode() in ran.stdout or TITLE.encode("ascii", "backslashreplace") in ran.stdout
    ran = shell(home, f"ai-memory get '{TITLE}'", env)
    assert (ran.returncode, ran.stdout) == (1, b"") or b"is not UTF-8 text" in ran.stderr


def test_a_text_that_the_encoding_lacks_is_not_altered(home: Home) -> None:
    """`get` into a pipe is the text or an error, never something like it."""
    made = run("store", "in Russian", "Ключ", "--json", home=home).json["id"]
    ran = shell(home, f"ai-memory get {made}", {"PYTHONIOENCODING": "ascii"})
    assert (ran.returncode, ran.stdout) == (6, b"")
    assert b"ascii cannot hold U+041A: use --json, or set PYTHONIOENCODING=utf-8" in ran.stderr
    assert shell(home, f"ai-memory get {made}").stdout.endswith("\n\nКлюч\n".encode())


# --- a memory on a terminal


def on_a_terminal(home: Home, arguments: Sequence[str], columns: int = 80) -> str:
    """What a command shows on a terminal."""
    ours, theirs = pty.openpty()
    environment = clean_environment() | {"AI_MEMORY_HOME": str(home.path), "COLUMNS": str(columns), "TERM": "xterm"}
    with subprocess.Popen(
        [*PROGRAM, *arguments], stdin=theirs, stdout=theirs, stderr=theirs, env=environment
    ) as started:
        os.close(theirs)
        seen = b""
        while select.select([ours], [], [], PATIENCE)[0]:
            try:
                part = os.read(ours, 65_536)
            except OSError:  # Linux says so where the other side is closed
                break
            if not part:
                break
            seen += part
        started.wait(PATIENCE)
    os.close(ours)
    return seen.decode().replace("\r\n", "\n")


def found(home: Home) -> str:
    memories: list[dict[str, Any]] = run("list", "--limit", "1000", "--json", home=home).json["memories"]
    return next(str(one["id"]) for one in memories if one["title"] == TITLE)


def test_a_text_on_a_terminal_passes_for_nothing_of_ours(home: Home) -> None:
    """Each row of it stands behind a mark, also where the terminal would wrap; a pipe gets the bytes."""
    shown = on_a_terminal(home, ("get", found(home)))
    head, _, below = shown.partition("\n\n")
    assert head.startswith("id ")
    rows = below.splitlines()
    assert len(rows) > 4
    assert all(row[:2].strip() in ("|", ":") and len(row) < 80 for row in rows)
    assert "\\u202e" in shown and "\u202e" not in shown and "\u2028" not in shown
    ran = shell(home, f"ai-memory get {found(home)}")
    assert ran.stdout.partition(b"\n\n")[2] == CONTENT.encode() + b"\n"
    told = json.loads(shell(home, f"ai-memory get {found(home)} --json").stdout)
    assert told["memory"]["content"] == CONTENT


def test_the_check_sees_a_text_as_it_is(home: Home) -> None:
    """Control: what a pipe gets has rows that look like ours."""
    rows = shell(home, f"ai-memory get {found(home)}").stdout.decode().splitlines()
    assert FORGED in rows


# --- what stands on standard input

TEXT = "first\nsecond ü\n"
TAKEN = {
    "UTF-8": (TEXT.encode(), TEXT),
    "with a mark": (codecs.BOM_UTF8 + TEXT.encode(), TEXT),
    "CR LF": (TEXT.replace("\n", "\r\n").encode(), TEXT),
    "CR alone": (b"a\rb", "a\nb"),
    "a mark in the middle": ("a\ufeffb".encode(), "a\ufeffb"),
}
NOT_TAKEN = {
    "Latin-1": (TEXT.encode("latin-1"), "standard input is not UTF-8 text: byte 13 is 0xfc"),
    "UTF-16 with a mark": (TEXT.encode("utf-16"), "standard input is UTF-16 text, UTF-8 expected; convert it: iconv"),
    "UTF-16 without": (TEXT.encode("utf-16-le"), "standard input is UTF-16 text"),
    "UTF-16, big end first": (codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"), "standard input is UTF-16 text"),
    "UTF-32": (TEXT.encode("utf-32"), "standard input is UTF-32 text"),
    "a NUL": (b"some text \0 and more of it", "standard input is not text: byte 10 is NUL"),
    "half a character": (b"abc\xc3", "standard input is not UTF-8 text: byte 3 is 0xc3"),
    "a surrogate": (b"\xed\xa0\x80", "standard input is not UTF-8 text: byte 0 is 0xed"),
    "far too much": (b"x" * (1 << 21), "standard input has more than 1048576 bytes"),
    "nothing": (b"", "content: empty, some text expected"),
    "ESC": (b"a\x1b[2J", "content: control character U+001B at 1"),
}


@pytest.mark.parametrize("name", TAKEN)
def test_text_is_taken(home: Home, name: str) -> None:
    """Line ends and marks become what memories have."""
    given, expected = TAKEN[name]
    record_id = run("store", "piped", "-", "--json", home=home, stdin=given).json["id"]
    assert run("get", record_id, "--json", home=home).json["memory"]["content"] == expected


@pytest.mark.parametrize("env", [{"LC_ALL": "C"}, {"PYTHONIOENCODING": "latin-1"}], ids=["C", "latin-1"])
def test_a_pipe_brings_utf_8(home: Home, env: dict[str, str]) -> None:
    """Whatever the encoding of the terminal is."""
    ran = shell(home, "ai-memory store piped - --json", env, TEXT.replace("\n", "\r\n").encode())
    assert (ran.returncode, ran.stderr) == (0, b"")
    assert run("get", json.loads(ran.stdout)["id"], "--json", home=home).json["memory"]["content"] == TEXT


@pytest.mark.parametrize("name", NOT_TAKEN)
def test_what_is_no_text_is_refused_by_what_it_is(home: Home, name: str, tmp_path: Path) -> None:
    """From standard input and from a file alike: one sentence about that, and exit code 5."""
    given, expected = NOT_TAKEN[name]
    for line in ("store piped -", "update abcd --content -"):
        ran = run(*line.split(), home=home, stdin=given)
        assert ran.code == 5 or (name in ("nothing", "ESC") and "update" in line)
        assert expected in ran.err or "update" in line
    file = tmp_path / "text"
    file.write_bytes(given)
    if name not in ("nothing", "ESC"):
        ran = run("conflicts", "resolve", "abcd", "--content", str(file), "--yes", home=home)
        assert (ran.code, expected.replace("standard input", str(file)) in ran.err) == (5, True)


def test_a_closed_input_is_told(home: Home) -> None:
    """Nothing can be read from it."""
    ran = shell(home, "ai-memory store piped - <&-")
    assert ran.returncode == 5
    assert b"standard input" in ran.stderr and b"Traceback" not in ran.stderr


# --- a mistake in the program


def test_a_mistake_is_told_without_what_it_was_about(home: Home) -> None:
    """Kind and place, no value, and an exit code that is no answer's."""
    code = (
        "from node.cli import main, memory\n"
        "def fail(*_): raise ValueError('the text of a memory')\n"
        "memory._table = fail\nmain(prog_name='ai-memory')"
    )
    environment = clean_environment() | {"AI_MEMORY_HOME": str(home.path)}
    for json_option in ((), ("--json",)):
        ran = subprocess.run(
            [sys.executable, "-c", code, "list", *json_option],
            env=environment, capture_output=True, text=True, check=False, timeout=PATIENCE,
        )  # fmt: skip
        assert (ran.returncode, ran.stdout) == (70, "")
        assert "the text of a memory" not in ran.stderr
        assert "in fail" in ran.stderr
        told = "a mistake in this program; please report this:\nValueError\n"
        if json_option:
            assert json.loads(ran.stderr)["code"] == "bug"
            assert json.loads(ran.stderr)["error"].startswith(told)
        else:
            assert ran.stderr.startswith(f"ai-memory: {told}")


# --- controls


def test_python_by_itself_answers_otherwise() -> None:
    """Control: what a program without this gives for a full disk and for a log that cannot be written."""
    code = "import sys; print('answer', file=sys.{}); sys.exit(0)"
    for name, where, expected in (("stdout", ">/dev/full", 120), ("stderr", "2>/dev/full", 1)):
        line = f'{sys.executable} -c "{code.format(name)}" {where}'
        ran = subprocess.run(["bash", "-c", line], capture_output=True, check=False, timeout=PATIENCE)
        assert ran.returncode in (1, 120), expected


def test_a_running_node_answers_alike(tmp_path: Path) -> None:
    """The same outputs fail in the same way where a node is asked."""
    made = new_home(tmp_path)
    with serving(made):
        assert shell(made, "ai-memory store title text >/dev/full").returncode == 6
        assert shell(made, "ai-memory list >/dev/full").returncode == 6
        assert shell(made, "ai-memory sync status >/dev/full").returncode == 6
        assert shell(made, "ai-memory list 2>/dev/full").returncode == 0
