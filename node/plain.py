"""What somebody else wrote, on its way to a terminal or a log line: never a command to the terminal, never a new line.

Titles, namespaces, labels, file names, names in certificates, the sentences of peers: none of it is ours, and a
terminal obeys what it is shown. An escape sequence moves the cursor and rewrites what stands there already, a line end
begins a row that nobody of ours wrote, a bidirectional control turns the order of what is read around, and what has no
width makes two names look like one. All of that is shown by its escape (`\\x1b`, `\\n`, `\\u202e`) here, and only here
(docs/decisions/0051). Sources: ECMA-48 (C0, C1 and the sequences that they begin), UAX #9 (bidirectional controls),
UTR #36 and UTS #55 (what is invisible, and what it is used for).
"""

import json
import re
import unicodedata
from collections.abc import Iterable, Iterator
from typing import Any

MOST = 500
"""Characters of one field, unless something else is said."""
MOST_LINE = 4_000
"""Characters of one line, whatever it is made of."""
FIRST, NEXT = "| ", ": "
"""Before a line of a text that is shown as it was written, and before each further piece of a line that is too long."""
LEAST_WIDTH = 20
MORE = "…"


def clauses(sentences: Iterable[str]) -> str:
    """Sentences in one line, divided by `;`: the full stop of one goes where another one follows."""
    *others, last = sentences
    return "; ".join((*(one.removesuffix(".") for one in others), last))


_ALWAYS = (
    "\x00-\x1f\x7f-\x9f"  # C0, DEL and C1: ESC, CSI, OSC, line ends, U+0085 among them
    "\u2028\u2029"  # line and paragraph separator: Python, JavaScript and some terminals begin a new line there
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # bidirectional controls
    "\u00ad\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u2060-\u2065\u206a-\u206f\u3164\ufeff\uffa0"  # no width
    "\ufff0-\uffff\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"  # specials, format characters
    "\U000e0000-\U000e0fff"  # tags and variation selectors in which a whole text can be hidden
    "\ud800-\udfff"  # halves of surrogate pairs: no encoding can hold them
)
# A joiner belongs to an emoji, or to a script that needs it, where it stands between two characters that are not ASCII.
_JOINERS = "\u200c\u200d"
_HOSTILE = re.compile(f"[{_ALWAYS}]|(?<![^\x00-\x7f])[{_JOINERS}]|[{_JOINERS}](?![^\x00-\x7f])")
_BLANKS = re.compile("[ \u00a0\u1680\u2000-\u200a\u202f\u205f\u2800\u3000]{2,}")
_NAMED = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def line(text: str, most: int = MOST_LINE) -> str:
    """One line for a terminal: escapes for what is not meant to be seen, and a bound. Blanks stay as they are."""
    if len(text) > most:
        text = f"{text[:most]}{MORE} and {len(text) - most} characters more"
    return _HOSTILE.sub(_escape, text)


def field(value: object, most: int = MOST) -> str:
    """One value inside a line, at most so many characters as it is shown.

    Runs of blanks become one, so that none pushes the rest to where a terminal would begin a new row.
    """
    text = value if isinstance(value, str) else str(value)
    looked_at = 4 * most
    shown = _HOSTILE.sub(_escape, _BLANKS.sub(" ", text[:looked_at]))
    return shown if len(shown) <= most and len(text) <= looked_at else shown[: most - 1] + MORE


def block(text: str, width: int) -> Iterator[str]:
    """A whole text for a terminal of this width, each line of it behind a mark that no line of ours begins with."""
    room = max(LEAST_WIDTH, width) - max(len(FIRST), len(NEXT)) - 1
    for row in text.split("\n"):
        mark = FIRST
        for piece in _pieces(_HOSTILE.sub(_escape, row.expandtabs(8)), room):
            yield (mark + piece).rstrip()
            mark = NEXT


def as_json(value: Any) -> str:
    """A JSON value in one line: the same value to whoever parses it, and harmless to a terminal."""
    return _HOSTILE.sub(_json_escape, json.dumps(value, ensure_ascii=False))


def encodable(text: str, encoding: str) -> str:
    """The text with escapes for what an encoding cannot hold."""
    return text.encode(encoding, "backslashreplace").decode(encoding)


def json_encodable(text: str, encoding: str) -> str:
    """JSON with its own escapes for what an encoding cannot hold."""
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return re.sub("[^\x00-\x7f]", _json_escape, text)
    return text


def _escape(found: re.Match[str]) -> str:
    character = found[0]
    if ord(character) <= 0x7F:
        return _NAMED.get(character) or f"\\x{ord(character):02x}"
    return character.encode("ascii", "backslashreplace").decode()


def _json_escape(found: re.Match[str]) -> str:
    return json.dumps(found[0])[1:-1] if ord(found[0]) != 0x7F else "\\u007f"


def _pieces(row: str, room: int) -> Iterator[str]:
    """A line cut where a terminal would wrap it. Wide characters take two columns (UAX #11)."""
    start = used = 0
    for place, character in enumerate(row):
        size = 2 if unicodedata.east_asian_width(character) in "WF" else 1
        if used + size > room:
            yield row[start:place]
            start, used = place, 0
        used += size
    yield row[start:]
