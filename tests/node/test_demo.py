"""The demo, small: its one JSON object, and the tools with which it proves what it says."""

import io
import itertools
import sysconfig
import textwrap
from pathlib import Path

import pytest
from commands import run
from rich.console import Console

from node import demo
from node.demo import Report, corpus
from node.demo.corpus import Text, texts
from node.demo.evidence import Knock, plaintext_in
from sync.memory import content_fault, namespace_fault, title_fault

SENTENCE = "The quick brown fox, unquestionably, jumps over the lazy dog."


@pytest.mark.timeout(110)
def test_the_demo_tells_what_it_saw() -> None:
    """Two real nodes, two hundred texts: they agree, the stranger stays out, nothing lies about in plain text."""
    ran = run("demo", "--json", "--nodes", "2", "--records", "200")
    assert (ran.code, ran.err) == (0, "")
    told = ran.json
    assert set(told) == {
        "nodes", "records", "bytes", "converged", "seconds", "propagation_ms", "stranger", "plaintext_hits", "digests",
    }  # fmt: skip
    assert (told["nodes"], told["converged"], told["plaintext_hits"]) == (2, True, 0)
    assert told["records"] > 200  # less what was deleted, more what was written to measure
    assert told["bytes"] > 200 * corpus.MIN_CHARACTERS
    assert set(told["propagation_ms"]) == {"p50", "p99"}
    assert 0 < told["propagation_ms"]["p50"] <= told["propagation_ms"]["p99"]
    assert set(told["stranger"]) == {"refused", "alert", "http_bytes"}
    assert (told["stranger"]["refused"], told["stranger"]["http_bytes"]) == (True, 0)
    assert "certificate unknown" in told["stranger"]["alert"]
    one, other = told["digests"]
    assert one == other
    assert len(one) == 32


@pytest.mark.parametrize(
    ("converged", "stranger", "hits", "good"),
    [
        (True, Knock(True, "alert", 0), 0, True),
        (False, Knock(True, "alert", 0), 0, False),
        (True, Knock(False, None, 9), 0, False),
        (True, Knock(True, "alert", 0), 1, False),
    ],
)
def test_the_demo_is_good_only_where_everything_held(converged: bool, stranger: Knock, hits: int, good: bool) -> None:
    """Its exit code is made of this: nodes that differ, a stranger who got in, or one readable piece each spoil it."""
    report = Report(2, 1, 1, converged, 1.0, (1.0, 1.0), stranger, hits, ("a", "a"))
    assert report.good is good


def summary_of(alert: str) -> str:
    out = io.StringIO()
    stranger = Knock(True, alert, 0)
    demo._summary(Report(2, 1, 1, True, 1.0, (1.0, 1.0), stranger, 0, (alert, alert)), demo._console(file=out))
    return out.getvalue()


def test_what_nodes_answer_is_no_markup(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither of rich's own kind nor of the terminal's; and (control) a console as it comes takes it for that."""
    shown = summary_of("[bold]x[/bold] :pile_of_poo: \x1b[2J\n")
    for part in ("[bold]x[/bold]", ":pile_of_poo:", "\\x1b[2J\\n"):
        assert part in shown
    assert "\x1b" not in shown
    monkeypatch.setattr(demo, "_console", lambda file: Console(file=file))
    assert "[bold]" not in summary_of("[bold]x[/bold]")


@pytest.mark.parametrize("option", [("--nodes", "1"), ("--nodes", "9"), ("--records", "9")])
def test_a_demo_of_an_impossible_size_is_refused(option: tuple[str, str]) -> None:
    """Before anything is started."""
    assert run("demo", "--json", *option).error["code"] == "usage"


# --- no plain text: the search finds what it is meant to find


@pytest.mark.parametrize(
    ("data", "hits"),
    [
        (SENTENCE.encode(), 2),
        (b"\0\xff" * 50 + SENTENCE.encode() + b"\0", 2),
        (b"only a word: unquestionably", 1),
        (b"\xff" + SENTENCE.encode()[:40] + b"\xff", 2),
        (b"\xff" + SENTENCE.encode()[:20] + b"\xff", 0),
        (bytes(range(128, 256)) * 100, 0),
        (b"", 0),
    ],
    ids=["all of it", "in the midst of others", "a long word", "a part", "too short a part", "noise", "nothing"],
)
def test_plain_text_is_found_in_any_file(tmp_path: Path, data: bytes, hits: int) -> None:
    """A sentence counts as a piece, a long word as another; in whatever file below the folder, whatever its name."""
    path = tmp_path / "below" / "store.db-wal"
    path.parent.mkdir()
    path.write_bytes(data)
    assert len(plaintext_in([tmp_path], [SENTENCE, "another memory"])) == hits
    assert plaintext_in([tmp_path], ["another memory, of which nothing was ever written"]) == []


# --- the corpus


def test_real_texts_are_unique_and_within_the_limits() -> None:
    """Each is a memory that a node takes, under a title of its own in its namespace."""
    found = list(itertools.islice(texts(), 3_000))
    assert len(found) == 3_000
    assert len({(one.namespace, one.title) for one in found}) == 3_000
    for one in found:
        assert namespace_fault(one.namespace) is None
        assert title_fault(one.title) is None
        assert content_fault(one.content) is None
        assert len(one.content) >= corpus.MIN_CHARACTERS


def library(folder: Path, files: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> list[Text]:
    """The texts of a standard library that has these files."""
    for name, source in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    monkeypatch.setattr(sysconfig, "get_path", lambda _: str(folder))
    return list(texts())


def documented(name: str, text: str = SENTENCE) -> str:
    return f"def {name}():\n    {text!r}\n"


def test_a_text_is_named_after_its_object(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Namespace from the module, title the object's name, content the docstring."""
    source = f"{SENTENCE!r}\nclass A:\n    {SENTENCE!r}\n" + textwrap.indent(documented("method"), "    ")
    found = library(tmp_path, {"pack/__init__.py": documented("f"), "pack/mod.py": source}, monkeypatch)
    assert [(one.namespace, one.title) for one in found] == [
        ("python/pack", "pack.f"),
        ("python/pack/mod", "pack.mod"),
        ("python/pack/mod", "pack.mod.A"),
        ("python/pack/mod", "pack.mod.A.method"),
    ]
    assert {one.content for one in found} == {SENTENCE}


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("broken.py", "def ("),
        ("nul.py", "\0"),
        ("short.py", documented("f", "Short.")),
        ("long.py", documented("f", "x" * 65_537)),
        ("test/x.py", documented("f")),
        ("a/b/c/d/e/f/g/h.py", documented("f")),
        ("two words.py", documented("f")),
    ],
)
def test_what_does_not_fit_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, source: str) -> None:
    """The library ships broken files and odd texts; the rest of it is loaded all the same."""
    found = library(tmp_path, {name: source, "zz.py": documented("good")}, monkeypatch)
    assert [one.title for one in found] == ["zz.good"]


def test_characters_that_no_memory_takes_become_spaces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control characters, and halves of a surrogate pair, which docstrings about encodings have."""
    source = f"def f():\n    '{SENTENCE}\\x07\\ud800\\r.'\n"
    (found,) = library(tmp_path, {"odd.py": source}, monkeypatch)
    assert found.content == f"{SENTENCE}   ."


def test_a_title_comes_only_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An object that is defined twice, a module that is also a package, names that differ only beyond the limit."""
    long = "x" * 600
    files = {
        "twice.py": documented("f") + documented("f", SENTENCE + " Again."),
        "both.py": documented("f"),
        "both/__init__.py": documented("f"),
        "cut.py": documented(long + "a") + documented(long + "b"),
    }
    found = library(tmp_path, files, monkeypatch)
    keys = [(one.namespace, one.title) for one in found]
    assert len(keys) == len(set(keys)) == 3
