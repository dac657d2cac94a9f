"""The allowlist file: what it may say, what is wrong with it and where, and edits that leave the rest alone."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tls import allowlist
from tls.allowlist import EMPTY, AllowlistError, add, load, parse, remove
from tls.fingerprint import Fingerprint

A, B, C = ("a1" * 32, "b2" * 32, "c3" * 32)
COLONS = ":".join("a1" for _ in range(32))
BOM = "\ufeff"


def _labels(text: str) -> dict[str, str]:
    return {entry.fingerprint.hex: entry.label for entry in parse(text, "list").entries}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        pytest.param("", {}, id="empty"),
        pytest.param("\n\r\n \t\n", {}, id="blank lines"),
        pytest.param("# nobody yet\n  # indented\n", {}, id="comments"),
        pytest.param(A, {A: ""}, id="bare digits, no final newline"),
        pytest.param(f"sha256:{A}\n", {A: ""}, id="prefix"),
        pytest.param(f"SHA256:{A}\nSha256:{B}\n", {A: "", B: ""}, id="prefix in any case"),
        pytest.param(A.upper() + "\n", {A: ""}, id="upper case"),
        pytest.param(f"{COLONS}\nsha256:{COLONS.upper().replace('A1', 'B2')}\n", {A: "", B: ""}, id="colons"),
        pytest.param(f"  \t{A}\t \n", {A: ""}, id="spaces and tabs around"),
        pytest.param(f"{A} # desk\n{B}# lap top \n{C}#\n", {A: "desk", B: "lap top", C: ""}, id="labels"),
        pytest.param(f"{A} # ünïcode, # and : and \x0c\n", {A: "ünïcode, # and : and"}, id="anything in a label"),
        pytest.param(f"{A} # desk\r\n# x\r\n{B}\r\n", {A: "desk", B: ""}, id="CRLF"),
        pytest.param(f"{BOM}{A}\n", {A: ""}, id="byte order mark"),
        pytest.param(f"# a\u2028{B}\x85{B}\r{B}\x0b{B}\n{A}\n", {A: ""}, id="only a newline ends a comment"),
    ],
)
def test_the_grammar_accepts(text: str, found: dict[str, str]) -> None:
    """Each form that the grammar allows gives these fingerprints with these labels."""
    assert _labels(text) == found


@pytest.mark.parametrize(
    ("line", "column", "found", "expected"),
    [
        pytest.param("hello", 1, "'h'", "sha256: or a hex digit", id="a word"),
        pytest.param("sha256:xyz", 8, "'x'", "a hex digit", id="no hex after the prefix"),
        pytest.param("sha256:", 1, "0 hex digits", "exactly 64", id="only the prefix"),
        pytest.param("sha1:" + A, 1, "'s'", "sha256: or a hex digit", id="another hash"),
        pytest.param(A[:-1], 1, "63 hex digits", "exactly 64", id="63 digits"),
        pytest.param("  " + A + "0", 3, "65 hex digits", "exactly 64", id="65 digits"),
        pytest.param(A[:10] + "g" + A[11:], 11, "'g'", "between hex digits", id="a wrong letter"),
        pytest.param(f"{A} {B}", 65, "' '", "between hex digits", id="two on a line"),
        pytest.param(f"{A[:8]}\t{A[8:]}", 9, "U+0009", "between hex digits", id="a tab inside"),
        pytest.param(f"{A} desk", 65, "' '", "between hex digits", id="a label without #"),
        pytest.param("a1::" + A[2:], 4, "':'", "one : between", id="two colons"),
        pytest.param(A + ":", 65, "':'", "one : between", id="a colon at the end"),
        pytest.param(":" + A, 1, "':'", "sha256: or a hex digit", id="a colon at the start"),
        pytest.param(A[:5] + "\x00" + A[6:], 6, "U+0000", "between hex digits", id="NUL"),
        pytest.param("\x0c" + A, 1, "U+000C", "sha256: or a hex digit", id="a form feed before"),
        pytest.param(A + "\x0c", 65, "U+000C", "between hex digits", id="a form feed behind"),
        pytest.param("\x0c", 1, "U+000C", "sha256: or a hex digit", id="a form feed alone"),
        pytest.param("\u00a0" + A, 1, "U+00A0", "sha256: or a hex digit", id="a no-break space"),
        pytest.param(f"{A}\u2028{B}", 65, "U+2028", "between hex digits", id="a line separator"),
        pytest.param(f"{A}\r{B}", 65, "U+000D", "between hex digits", id="a carriage return inside"),
        pytest.param(BOM + A, 1, "U+FEFF", "sha256: or a hex digit", id="a second byte order mark"),
        pytest.param(A[:-1] + "\u0661", 64, "'\u0661'", "between hex digits", id="an Arabic digit"),
        pytest.param(A[:-1] + "\uff11", 64, "'\uff11'", "between hex digits", id="a full-width digit"),
        pytest.param("\u0430" + A[1:], 1, "'\u0430'", "sha256: or a hex digit", id="a Cyrillic a"),
        pytest.param("\u017fha256:" + A, 1, "'\u017f'", "sha256: or a hex digit", id="a long s in the prefix"),
    ],
)
def test_anything_else_is_an_error_with_its_place(line: str, column: int, found: str, expected: str) -> None:
    """File, line, column, what was found and what was expected; the column counts characters."""
    with pytest.raises(AllowlistError) as caught:
        parse(f"{BOM}# first\n{line}\n", "some/allowlist")
    (problem,) = caught.value.problems
    assert (problem.file, problem.line, problem.column, problem.found) == ("some/allowlist", 2, column, found)
    assert expected in problem.expected
    assert f"some/allowlist:2:{column}: found {found}, expected " in str(caught.value)


def test_all_broken_lines_are_reported_at_once() -> None:
    """Every wrong line is named in one go, good ones between them or not, and nothing is let in."""
    with pytest.raises(AllowlistError) as caught:
        parse(f"one\n{A}\n\nsha256:2\n{B}:\n", "list")
    assert [(problem.line, problem.column) for problem in caught.value.problems] == [(1, 1), (4, 1), (5, 65)]
    assert len(str(caught.value).splitlines()) == 3
    assert "#" in caught.value.next_step
    assert caught.value.lines[-1].endswith("one : between hex digits. Correct the line, or put a # before it.")


def test_a_duplicate_is_one_entry_and_a_warning() -> None:
    """The first label stays, in whatever spelling the second comes, and the linter names both lines."""
    found = parse(f"{A} # desk\n{B}\nSHA256:{COLONS.upper()} # again\n{B}\n", "list")
    assert [(entry.label, entry.line) for entry in found.entries] == [("desk", 1), ("", 2)]
    assert found.warnings == (
        "list:3: the same fingerprint as in line 1 (desk)",
        "list:4: the same fingerprint as in line 2 (no label)",
    )


def test_membership_and_labels() -> None:
    """A list answers who is on it and under which name; the empty one has nobody."""
    found = parse(f"{A} # desk\n{B}\n", "list")
    assert Fingerprint(A) in found
    assert Fingerprint(C) not in found
    assert A not in found, "a string is no fingerprint"
    assert found.label_of(Fingerprint(A)) == "desk"
    assert found.label_of(Fingerprint(B)) == ""
    assert found.label_of(Fingerprint(C)) is None
    assert (len(found), len(EMPTY)) == (2, 0)
    assert Fingerprint(A) not in EMPTY
    assert found.fingerprints == {Fingerprint(A), Fingerprint(B)}


@pytest.mark.parametrize(
    ("content", "line", "column", "byte"),
    [
        pytest.param(b"\xff" + A.encode(), 1, 1, "0xff", id="Latin 1"),
        pytest.param(f"# x\n{A} # é".encode() + b"\xe9\n", 2, 69, "0xe9", id="columns are characters"),
        pytest.param(BOM.encode() + b"# \xc3\x28", 1, 3, "0xc3", id="behind a byte order mark"),
        pytest.param(A.encode("utf-16"), 1, 1, "0xff", id="UTF-16"),
        pytest.param(b"# \xed\xa0\x80", 1, 3, "0xed", id="a surrogate"),
    ],
)
def test_a_file_that_is_not_utf_8_is_an_error_with_its_place(
    tmp_path: Path, content: bytes, line: int, column: int, byte: str
) -> None:
    """The first wrong byte is named, even where it is in a comment."""
    path = tmp_path / "allowlist"
    path.write_bytes(content)
    with pytest.raises(AllowlistError) as caught:
        load(path)
    (problem,) = caught.value.problems
    assert (problem.file, problem.line, problem.column) == (str(path), line, column)
    assert (problem.found, problem.expected) == (f"the byte {byte}", "text in UTF-8")


@pytest.mark.parametrize("kind", ["missing", "a folder"])
def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path, kind: str) -> None:
    """Missing and unreadable are told apart, in the same form as everything else."""
    path = tmp_path / "allowlist"
    if kind == "a folder":
        path.mkdir()
    with pytest.raises(AllowlistError) as caught:
        load(path)
    (problem,) = caught.value.problems
    assert problem.found == ("is a directory" if kind == "a folder" else "no such file or directory")
    assert (problem.file, problem.expected) == (str(path), "a readable file")
    do = "look what lies there" if kind == "a folder" else "put it back from a backup, or make an empty file there"
    assert f"expected a readable file; {do}" in str(caught.value)
    assert caught.value.lines == (str(caught.value),)
    assert "Correct the line" not in str(caught.value)


def test_an_error_without_words_is_one_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not every system has some for each."""

    def failing(_: Path) -> bytes:
        raise OSError

    monkeypatch.setattr(allowlist, "read_own", failing)
    with pytest.raises(AllowlistError, match="found an error, expected a readable file; look what lies there"):
        load(tmp_path / "allowlist")


def test_a_file_is_read_as_it_is_written(tmp_path: Path) -> None:
    """Nothing translates line ends on the way in, so that an edit can put them back."""
    path = tmp_path / "allowlist"
    path.write_bytes(f"{A} # one\r\n".encode())
    assert allowlist.read(path) == f"{A} # one\r\n"
    assert load(path).label_of(Fingerprint(A)) == "one"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param("", f"sha256:{B}  # lap top\n", id="empty"),
        pytest.param("# hi\n", f"# hi\nsha256:{B}  # lap top\n", id="at the end"),
        pytest.param(f"{A} # x", f"{A} # x\nsha256:{B}  # lap top\n", id="no final newline"),
        pytest.param(f"{A}\r\n", f"{A}\r\nsha256:{B}  # lap top\r\n", id="CRLF"),
        pytest.param(BOM, f"{BOM}sha256:{B}  # lap top\n", id="only a byte order mark"),
        pytest.param(f"{B} # old name\n", f"{B} # old name\n", id="listed already"),
    ],
)
def test_adding(before: str, after: str) -> None:
    """One line more, in the file's own line ends; a label cannot begin a line of its own."""
    assert add(before, Fingerprint(B), "lap\n top ") == after


def test_adding_without_a_label() -> None:
    """No label, no comment sign."""
    assert add("", Fingerprint(A), "  ") == f"sha256:{A}\n"


def test_adding_to_a_broken_file_is_refused() -> None:
    """An edit does not bury a wrong line deeper."""
    with pytest.raises(AllowlistError):
        add("oops\n", Fingerprint(A), "")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(f"{A}\n{B}\n", f"{B}\n", id="the first"),
        pytest.param(f"{B}\n{A}", f"{B}\n", id="the last, without a newline"),
        pytest.param(f"{A} # 1\n# {A}\nsha256:{COLONS.upper()} # 2\n{B}\n", f"# {A}\n{B}\n", id="every spelling"),
        pytest.param(f"{BOM}{A}\r\n# x\r\n", f"{BOM}# x\r\n", id="a byte order mark stays"),
        pytest.param(f"{A} # one\x0ctwo\u2028three\rfour\n{B}\n", f"{B}\n", id="a label with odd characters"),
        pytest.param(f"# see\u2028{A}\n{B}\n", f"# see\u2028{A}\n{B}\n", id="a fingerprint inside a comment"),
        pytest.param(f"oops\n{A}\n", "oops\n", id="a broken line stays"),
        pytest.param(f"{B}\n", f"{B}\n", id="not listed"),
    ],
)
def test_removing(before: str, after: str) -> None:
    """Every line of this fingerprint goes, whole, and no other byte."""
    assert remove(before, Fingerprint(A)) == after


_hexes = st.text("0123456789abcdef", min_size=64, max_size=64)
_comment = st.text(st.characters(exclude_characters="\n\r", exclude_categories=["Cs"]), max_size=12)
_spelled = st.tuples(
    _hexes,
    st.sampled_from(["", "sha256:", "SHA256:", "Sha256:"]),
    st.booleans(),
    st.booleans(),
    st.one_of(st.none(), _comment),
)


def _line(parts: tuple[str, str, bool, bool, str | None]) -> str:
    digits, prefix, upper, colons, comment = parts
    text = digits.upper() if upper else digits
    text = ":".join(text[i : i + 2] for i in range(0, 64, 2)) if colons else text
    return prefix + text + (f" #{comment}" if comment is not None else "")


_files = st.builds(
    lambda bom, lines, newline: bom + "".join(line + newline for line in lines),
    st.sampled_from(["", BOM]),
    st.lists(st.one_of(_spelled.map(_line), _comment.map(lambda c: f"#{c}"), st.just("")), max_size=6),
    st.sampled_from(["\n", "\r\n"]),
)


@settings(max_examples=150, deadline=None)
@given(_files)
def test_what_is_written_back_says_the_same(text: str) -> None:
    """Entries written in the plain form parse to the same fingerprints and labels."""
    before = parse(text, "list")
    again = ""
    for entry in before.entries:
        again = add(again, entry.fingerprint, entry.label)
    spaced = {fingerprint: " ".join(label.split()) for fingerprint, label in before.labels.items()}
    assert parse(again, "list").labels == spaced


@settings(max_examples=150, deadline=None)
@given(_files, _hexes, _comment)
def test_adding_and_removing_leaves_every_byte(text: str, digits: str, label: str) -> None:
    """An added entry is there, and after its removal the file is what it was."""
    fingerprint = Fingerprint(digits)
    added = add(text, fingerprint, label)
    assert fingerprint in parse(added, "list")
    assert added.startswith(text)
    listed = fingerprint in parse(text, "list")
    assert remove(added, fingerprint) == (remove(text, fingerprint) if listed else text)


@settings(max_examples=150, deadline=None)
@given(_files, st.data())
def test_removing_takes_that_one_and_nobody_else(text: str, data: st.DataObject) -> None:
    """After a removal everybody else is listed as before, under the same labels."""
    before = parse(text, "list")
    if not before.entries:
        assert remove(text, Fingerprint(A)) == text
        return
    gone = data.draw(st.sampled_from([entry.fingerprint for entry in before.entries]))
    after = parse(remove(text, gone), "list")
    assert after.labels == {key: label for key, label in before.labels.items() if key != gone}


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=200))
def test_no_text_is_anything_but_a_list_or_an_allowlist_error(text: str) -> None:
    """Whatever the file says, parsing ends in a list or in the one documented error."""
    try:
        parse(text, "list")
    except AllowlistError as error:
        assert error.problems
        assert all(problem.line >= 1 and problem.column >= 1 for problem in error.problems)
