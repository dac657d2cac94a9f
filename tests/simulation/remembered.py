"""What the code under test works out again and again from the same values is worked out once, and remembered.

A page that is sent twice is read twice, a version that reaches four nodes is read, verified and judged four times; and
the keyring of one history has the lines of another's. All of these are functions of their arguments alone, which are
immutable, as is what they return: so the product's own code runs for each different input, and only there.

What reads or verifies a record depends on limits that histories change, and on rules that `mutate` takes away: it is
remembered for one history. What reads a line of a keyring does not, and is remembered for as long as somebody plays.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from types import ModuleType

from sync import attest, ed25519, keyline, keyring, link, moment, record, trust, wire
from sync.feed import Cursor

MOST = 4_096
"""Answers that are remembered of each function."""
Functions = Sequence[tuple[ModuleType | type, str]]
LASTING: Functions = (
    (ed25519, "verifies"),
    (moment, "text"),
    (Cursor, "parse"),
    (keyline, "read"),
    (keyring, "parse"),
    (keyring, "add"),
    (keyring, "add_successor"),
    (keyring, "revoke"),
    (keyring, "remove"),
)
"""Of texts, keys and signatures."""
OF_A_HISTORY: Functions = (
    (wire, "_check_place"),
    (wire, "decode_push"),
    (wire, "decode_since"),
    (wire, "decode_answer"),
    (record, "read"),
    (link, "read"),
    (attest, "is_genuine"),
    (attest, "words_of"),
    (trust, "words_of"),
)
"""Of what goes over the wire. Each name as it is looked up where it is called."""


@contextmanager
def remembered(functions: Functions) -> Iterator[None]:
    """Each of these runs once for the same arguments; an error that it raises is not remembered."""
    true = [(place, name, vars(place)[name]) for place, name in functions]
    for place, name in functions:
        setattr(place, name, lru_cache(maxsize=MOST)(getattr(place, name)))
    try:
        yield
    finally:
        for place, name, function in true:
            setattr(place, name, function)
