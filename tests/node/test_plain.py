"""What somebody else wrote, shown: nothing in it commands a terminal, begins a line, or is there without being seen."""

import json
import re
import sys
import unicodedata

import pytest

from node import plain

EVERY = [chr(code) for code in range(sys.maxunicode + 1)]
SEEN_IN_ARABIC_AND_OTHERS = set(range(0x0600, 0x0606)) | {0x06DD, 0x070F, 0x0890, 0x0891, 0x08E2, 0x110BD, 0x110CD}
SEEN_IN_OLD_SCRIPTS = set(range(0x13430, 0x13456))
"""Of category Cf, and no less visible than letters: number signs of Arabic, joiners of hieroglyphs."""
EVIL = "\x1b]0;owned\x07\x9b2J\x7f\r\n\u0085\u2028\u2029\u202e\u2066\u200e\u200f\u061c\u200b\ufeff\U000e0041\ud800"


@pytest.mark.parametrize(
    ("sentences", "line"),
    [
        (["One is wrong. Put it back.", "it was not taken"], "One is wrong. Put it back; it was not taken"),
        (["one", "two."], "one; two."),
        (["One of the same CA."], "One of the same CA."),
    ],
)
def test_sentences_become_clauses_of_one_line(sentences: list[str], line: str) -> None:
    """No full stop is followed by a semicolon. Control: joined as they are, one is."""
    assert plain.clauses(sentences) == line
    assert (".; " in "; ".join(sentences)) == (sentences[0].endswith(".") and len(sentences) > 1)


def is_hostile(character: str) -> bool:
    """By Unicode's own tables, which the function does not read."""
    category = unicodedata.category(character)
    if ord(character) in SEEN_IN_ARABIC_AND_OTHERS | SEEN_IN_OLD_SCRIPTS:
        return False
    return category in ("Cc", "Cf", "Zl", "Zp", "Cs")


def obeyed(text: str) -> list[str]:
    """The characters of a text that a terminal would obey, or hide."""
    return [character for character in text if is_hostile(character)]


def test_no_character_that_commands_or_hides_gets_through() -> None:
    """All of Unicode, in a field, in a line, in a text and in JSON, between letters."""
    for character in EVERY:
        if not is_hostile(character):
            continue
        given = f"a{character}b"
        for shown in (plain.line(given), plain.field(given), plain.as_json(given), *plain.block(given, 80)):
            assert not obeyed(shown), hex(ord(character))
        assert json.loads(plain.as_json(given)) == given


def test_letters_of_all_scripts_stay_what_they_are() -> None:
    """Nothing that can be seen is changed, and the joiners stay where they belong to a script or an emoji."""
    for text in ("Ключ 机 ü", "می\u200cخواهم", "👩\u200d💻 ❤\ufe0f", "क्\u200dष", "a\u0301", "№ 5 ½ €", "C:\\temp"):
        assert plain.line(text) == plain.field(text) == text
        assert plain.as_json(text) == json.dumps(text, ensure_ascii=False)
    assert plain.line("pay\u200dpal") == "pay\\u200dpal"


def test_what_is_shown_names_what_was_there() -> None:
    """Escapes that everybody knows."""
    assert plain.line("\x1b[2J\n\t\r\x9b\u202e\U000e0041") == "\\x1b[2J\\n\\t\\r\\x9b\\u202e\\U000e0041"
    assert plain.as_json("\x7f\u202e\U000e0041") == '"\\u007f\\u202e\\udb40\\udc41"'


def test_a_field_is_bounded_and_pushes_nothing_away() -> None:
    """Neither by its length nor by blanks: what follows must not come to stand where a terminal begins a new row."""
    assert plain.field("x" * 1_000, 20) == "x" * 19 + "…"
    for blank in " \u00a0\u3000\u2800\u2003":
        assert plain.field(f"a{blank * 70}forged") == "a forged"
    assert plain.field("\x1b" * 9, 10) == "\\x1b\\x1b\\…"
    assert plain.field(f"a{' ' * 500}b", 20) == "a …"
    assert plain.field("x" * 20, 20) == "x" * 20
    assert len(plain.line("x" * 10**6)) < plain.MOST_LINE + 60


@pytest.mark.parametrize("width", [10, 40, 80, 1 << 30])
def test_no_piece_of_a_text_begins_as_a_line_of_ours_does(width: int) -> None:
    """However the text is padded, each row of the terminal begins with a mark; and all of the text is there."""
    forged = "desk            in step for 9 h: everything was confirmed"
    text = f"one\n{forged}\n{' ' * 77}{forged}\n\n{'机' * 100}\ttab\n{EVIL}"
    rows = list(plain.block(text, width))
    assert all(row[:2].strip() in ("|", ":") for row in rows)
    assert not obeyed("".join(rows))
    room = max(width, plain.LEAST_WIDTH)
    for row in rows:
        assert sum(2 if unicodedata.east_asian_width(one) in "WF" else 1 for one in row) < room
    told = "".join(row[2:] for row in rows).replace(" ", "")
    for part in (forged, "机" * 100):
        assert part.replace(" ", "") in told


def test_the_checks_see_what_gets_through(monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: without the table of characters each of them reaches the terminal."""
    monkeypatch.setattr(plain, "_HOSTILE", re.compile("(?!)"))
    assert len(obeyed(plain.line(EVIL))) == len(obeyed(EVIL)) > 15
    assert obeyed(plain.as_json("\u202e\x7f"))
    assert obeyed("".join(plain.block(EVIL, 80)))


def test_an_encoding_that_lacks_a_character_gets_its_escape() -> None:
    """A terminal of another alphabet shows something, and JSON stays JSON."""
    assert plain.encodable("Ключ ü", "latin-1") == "\\u041a\\u043b\\u044e\\u0447 ü"
    for encoding in ("ascii", "latin-1", "utf-8", "koi8-r"):
        told = plain.json_encodable(plain.as_json({"title": "Ключ ü 👩"}), encoding)
        assert json.loads(told.encode(encoding).decode(encoding)) == {"title": "Ключ ü 👩"}
