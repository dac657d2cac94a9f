"""Takes lists of records apart without reading them. Used only where a body as a whole is no JSON that a reader takes.

One record that holds NaN, half a surrogate pair or ten thousand brackets makes the whole body unreadable, for ever: the
sender would send it again and again. Taken apart, it refuses only itself. What is found here is not checked in any way:
the envelope and each record still pass the strict decoder.
"""

import re
from collections.abc import Collection

MOST_TOKENS = 1_000_000
"""A body with more strings, commas and runs of brackets is not looked into (some 0.3 s)."""
# A string that does not end reaches to the end, and nothing is tried twice: the search takes linear time.
_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)|[\[{]+|[\]}]+|,', re.DOTALL)
_LIST_FOLLOWS = re.compile(rb"\s*:\s*(?=\[)")


def elements(body: bytes, most: int = MOST_TOKENS) -> list[bytes] | None:
    """The elements of a list that is the whole body; None where it is none, or has more than `most`."""
    start = len(body) - len(body.lstrip())
    found = _Scan(body, most).array(start) if body[start : start + 1] == b"[" else None
    if found is None or body[found[1] :].strip():
        return None
    return found[0]


def are_few(body: bytes, most: int) -> bool:
    """True where the whole body is a list of at most so many elements, none of them of many pieces."""
    scan = _Scan(body, most, tokens=4 * most + 1_000)
    return scan.array(len(body) - len(body.lstrip())) is not None


def lists(body: bytes, names: Collection[str], most: int = MOST_TOKENS) -> tuple[bytes, dict[str, list[bytes]]] | None:
    """An object's own lists with these names taken out: the object with `[]` in their places, and their elements.

    None where there are none, or more than `most` elements in all.
    """
    scan = _Scan(body, most)
    quoted = {f'"{name}"'.encode(): name for name in names}
    found: dict[str, list[bytes]] = {}
    rest: list[bytes] = []
    depth = position = copied = 0
    while (token := scan.next(position)) is not None:
        position = token.end()
        text = token[0]
        if text[0] in b"[{":
            depth += len(text)
        elif text[0] in b"]}":
            depth -= len(text)
        elif depth == 1 and text in quoted and (follows := _LIST_FOLLOWS.match(body, position)):
            array = scan.array(follows.end())
            if array is None:
                return None
            found[quoted[text]], position = array
            rest += (body[copied : follows.end()], b"[]")
            copied = position
    return (b"".join((*rest, body[copied:])), found) if found and not scan.gave_up else None


class _Scan:
    def __init__(self, body: bytes, most: int, tokens: int | None = None) -> None:
        self._body = body
        self._left = MOST_TOKENS if tokens is None else tokens
        self._room = most

    @property
    def gave_up(self) -> bool:
        return self._left <= 0

    def next(self, position: int) -> re.Match[bytes] | None:
        self._left -= 1
        return None if self.gave_up else _TOKEN.search(self._body, position)

    def array(self, start: int) -> tuple[list[bytes], int] | None:
        """The elements of the list that begins at `start`, and where it ends; None where it does not."""
        found: list[bytes] = []
        depth, position, begin = 0, start, start + 1
        while (token := self.next(position)) is not None:
            position = token.end()
            text = token[0]
            if text[0] in b"[{":
                depth += len(text)
            elif text[0] in b"]}":
                if len(text) >= depth:
                    end = token.start() + depth - 1
                    if found or self._body[begin:end].strip():
                        found.append(self._body[begin:end])
                        self._room -= 1
                    return (found, end + 1) if self._room >= 0 else None
                depth -= len(text)
            elif text == b"," and depth == 1:
                found.append(self._body[begin : token.start()])
                begin = position
                self._room -= 1
                if self._room < 0:
                    return None
        return None
