"""The inverted index of texts and namespaces, kept in step after the answer (docs/decisions/0009).

A namespace is one word of the column `place`. A B-tree of namespaces would be written at one place more for each row;
an inverted index is only ever appended to.

Rows of `memory` with a number up to `indexed.number` are in the index; those after it are the *tail*, which a search
reads for itself. What was overwritten since it was indexed stands in `dead` until it is taken out; a search never shows
it, since its row is gone. Each step is one short transaction together with its record, so a crash repeats or loses
nothing.
"""

from node.store.connection import FAULTS, Connection

STEP = 500
"""Rows of one step while only pages are taken in: about 15 ms."""
SHARED_STEP = 100
"""Rows of one step while others write too: about 4 ms."""
LONG = 300
"""Numbers of a tail that is worked off in every gap between tasks, without waiting for a lull."""
TAIL = 2_000
"""Numbers that the index may lag behind while there is other work."""
STEPS_BEFORE_MERGE = 64

PLACE_MARK = "\ue000"
"""Begins the word of a namespace: a letter (of private use, so of no text) to the tokenizer. Hex digits follow."""

_INSERT = f"""
INSERT INTO text(rowid, title, content, tags, place)
SELECT number, title, CAST(doc AS TEXT) ->> 'content', CAST(doc AS TEXT) ->> 'tags', '{PLACE_MARK}' || hex(namespace)
FROM memory WHERE number > ? AND number <= ? AND kind = 'm' ORDER BY number
"""
_GONE = "SELECT number FROM dead ORDER BY number LIMIT ?"


def place_of(namespace: str) -> str:
    """A query for the memories of a namespace."""
    return f'place : "{PLACE_MARK}{namespace.encode().hex()}"'


class TextIndex:
    """The writer's side of the index."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._indexed = int(connection.execute("SELECT number FROM indexed").fetchone()[0])
        self._last = int(connection.execute("SELECT max(number) FROM head").fetchone()[0])
        self._steps = STEPS_BEFORE_MERGE  # whatever the process before this one left behind
        self._hindered = False
        self._dead = bool(connection.execute("SELECT EXISTS(SELECT 1 FROM dead)").fetchone()[0])

    def committed(self, number: int) -> None:
        """The feed stands at `number` now."""
        self._dead = self._dead or number > self._last
        self._last = number
        self._hindered = False  # the disk takes writes: try again

    @property
    def is_pressing(self) -> bool:
        """True where the tail has grown so long that searches would feel it.

        Not while the disk hinders the index: tasks would wait for it without an answer instead of failing themselves.
        """
        return self._last - self._indexed > TAIL and not self._hindered

    @property
    def is_long(self) -> bool:
        """True where pages are being taken in: while the next is decoded, the index has time for the last."""
        return self._last - self._indexed > LONG and not self._hindered

    @property
    def is_behind(self) -> bool:
        return self._last > self._indexed or self._dead

    def step(self, rows: int) -> bool:
        """Take in up to `rows` rows of the tail, and take out what is dead. False where the disk did not let it."""
        upto = min(self._last, self._indexed + rows)
        execute = self._connection.execute
        try:
            execute("BEGIN IMMEDIATE")
            execute(f"DELETE FROM text WHERE rowid IN ({_GONE})", (rows,))
            gone = execute(f"DELETE FROM dead WHERE number IN ({_GONE})", (rows,))
            if upto > self._indexed:
                execute(_INSERT, (self._indexed, upto))
                execute("UPDATE indexed SET number = ?", (upto,))
            execute("COMMIT")
        except FAULTS as error:
            self._connection.undo(error)
            self._hindered = True
            return False  # nothing is lost: the tail is searched as it is, and a later step takes it in
        self._hindered = False
        self._steps += 1
        self._indexed = upto
        self._dead = gone.rowcount == rows
        return True

    @property
    def is_untidy(self) -> bool:
        """True where many small steps left many small segments behind."""
        return self._steps >= STEPS_BEFORE_MERGE

    def tidy(self) -> None:
        """Merge a few segments (5 ms); called again and again while there is nothing else to do."""
        before = self._connection.total_changes
        try:
            self._connection.execute("INSERT INTO text(text, rank) VALUES('merge', 16)")
        except FAULTS as error:
            self._connection.undo(error)
            self._steps = 0  # a full disk: the next steps ask again
            return
        if self._connection.total_changes - before < 2:  # FTS5's own sign that little is left to merge
            self._steps = 0
