"""What is measured with: native pages of real text, about 1.9 KB a record, made before the clock runs."""

import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from node.demo.corpus import texts
from sync import dot as dots
from sync import moment
from sync.attest import Author, KeyPair, Stamp, Unsigned
from sync.context import NOTHING
from sync.dot import Dot
from sync.ids import memory_id
from sync.memory import Memory
from sync.record import memory_version
from sync.version import Version

SHORTEST, LONGEST = 500, 2_000
"""Characters of a content; docstrings are joined until they are that long."""
SECRET = bytes(32)
LIFE = "be" * 8


@dataclass(frozen=True, slots=True)
class Record:
    """A memory to be: what a client would store."""

    namespace: str
    title: str
    content: str


NOBODY = Unsigned("bench:writer")
SIGNER = KeyPair.of("bench:writer", bytes(32))


def records(seed: int = 1) -> Iterator[Record]:
    """Real text without end; no (namespace, title) twice for one seed."""
    rng = random.Random(seed)
    pieces = [(one.namespace, one.content) for one in texts()]
    count = 0
    while True:
        start = rng.randrange(len(pieces))
        namespace = pieces[start][0]
        goal = rng.randint(SHORTEST, LONGEST)
        content = ""
        for _, piece in itertools.islice(itertools.cycle(pieces), start, None):
            content += piece + "\n\n"
            if len(content) >= goal:
                break
        count += 1
        yield Record(namespace, f"record {seed}-{count}", content[:goal].strip())


def versions(source: Iterator[Record], count: int, first: int, now: int, author: Author = NOBODY) -> list[Version]:
    """The next `count` records as versions of a peer, whose feed they enter at number `first`."""
    made = []
    for offset in range(count):
        one = next(source)
        at = moment.text(now + offset)
        memory = Memory(
            id=memory_id(one.namespace, one.title, 0),
            tier="long",
            namespace=one.namespace,
            title=one.title,
            content=one.content,
            tags=["docs", "python"],
            priority=5,
            confidence=1.0,
            source="api",
            created_at=at,
            updated_at=at,
        )
        made.append(memory_version(memory, author, Stamp(NOTHING, 1, _counted(memory, first + offset))))
    return made


def _counted(memory: Memory, number: int) -> Callable[[str], Dot]:
    key = memory.namespace, memory.id
    return lambda check: Dot(LIFE, dots.counter(SECRET, *key, check, number), check)
