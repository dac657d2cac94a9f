"""The judge of simulated histories: the true ancestor set of every write, recorded beside the code under test.

After healing, what each node keeps must be exactly the maximal elements of all that reached it. The oracle never looks
at a clock of the protocol: what a write replaced is seen in the store, at the moment when it happens.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from memory_store import MemoryStore

from sync.batch import Batch
from sync.ports import Kept
from sync.version import Key, Version


@dataclass(frozen=True)
class Fault:
    """A broken promise. `kind`: lost, undead, diverged, digests, reissued or restless."""

    kind: str
    detail: str


class SimStore(MemoryStore):
    """Also remembers, for the oracle, what it ever kept and what it wrote. A restore forgets, as a disk would."""

    def __init__(self) -> None:
        super().__init__()
        self.known: frozenset[bytes] = frozenset()
        self.written: frozenset[bytes] = frozenset()


@dataclass
class Oracle:
    """Everything by a version's tag."""

    versions: dict[bytes, Version] = field(default_factory=dict)
    ancestors: dict[bytes, frozenset[bytes]] = field(default_factory=dict)
    forged: set[bytes] = field(default_factory=set)
    orphans: set[bytes] = field(default_factory=set)
    """Versions whose author was restored to before it wrote them: nobody can stand up for these against a lie."""
    reissued: list[Fault] = field(default_factory=list)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Record, at each change of the feed, what each own write truly replaced."""
        original = Batch.put

        def put(batch: Batch, key: Key, kept: tuple[Kept, ...]) -> int:
            store = batch.ledger
            assert isinstance(store, SimStore)
            before = [one.version.tag for one in batch.kept(key)]
            after = [one.version.tag for one in kept]
            gone = [tag for tag in before if tag not in after]
            for one in kept:
                if one.giver is None and one.version.tag not in before:
                    self._written(one.version, gone)
                    store.written |= {one.version.tag}
            store.known |= set(after)
            return original(batch, key, kept)

        Batch.put = put  # type: ignore[method-assign]
        try:
            yield
        finally:
            Batch.put = original  # type: ignore[method-assign]

    def _written(self, version: Version, replaced: Sequence[bytes]) -> None:
        if version.tag in self.ancestors:
            self.reissued.append(Fault("reissued", f"{version} was written twice"))
            return
        self.versions[version.tag] = version
        self.ancestors[version.tag] = frozenset(replaced).union(*(self.ancestors[tag] for tag in replaced))

    def forgery(self, version: Version, seen: Sequence[bytes]) -> None:
        """A liar made this version, having truly seen those."""
        self._written(version, seen)
        self.forged.add(version.tag)

    def restored(self, store: SimStore, old: SimStore) -> None:
        """`old` is about to take the place of `store`."""
        self.orphans |= store.written - old.written

    def faults(
        self, stores: Mapping[str, SimStore], reaching: Callable[[str, str], set[str]], *, alike: bool
    ) -> list[Fault]:
        """What is broken. `reaching`: from which nodes a namespace may come to a node. `alike`: no scopes anywhere."""
        kept = {
            name: {one.version.tag for some in store.everything().values() for one in some}
            for name, store in stores.items()
        }
        # What waits for its time is held, and told to the operator, though nobody reads it yet.
        waits = {one.version.tag for store in stores.values() for one in store.waiting_all()}
        lied_about = {self.versions[tag].key for tag in self.forged}
        excused = self.forged | waits | {tag for tag in self.orphans if self.versions[tag].key in lied_about}
        found = list(self.reissued)
        for name in stores:
            known = self._come_to(name, stores, reaching)
            dead = frozenset[bytes]().union(*(self.ancestors[tag] for tag in known))
            for tag in known - dead - kept[name] - excused:
                found.append(Fault("lost", f"{name} lacks {self.versions[tag]}"))
            for tag in kept[name] & dead:
                if not any(tag in self.ancestors[one] for one in known & self.forged):
                    found.append(Fault("undead", f"{name} keeps {self.versions[tag]}"))
        if alike and not waits:
            first, *others = stores
            for name in others:
                if kept[name] != kept[first]:
                    found.append(Fault("diverged", f"{first} and {name}"))
                if stores[name].position().digest != stores[first].position().digest:
                    found.append(Fault("digests", f"{first} and {name}"))
        return found

    def _come_to(
        self, name: str, stores: Mapping[str, SimStore], reaching: Callable[[str, str], set[str]]
    ) -> frozenset[bytes]:
        from_where: dict[str, set[str]] = {}
        come: set[bytes] = set()
        for other, store in stores.items():
            for tag in store.known:
                namespace = self.versions[tag].namespace
                if namespace not in from_where:
                    from_where[namespace] = reaching(name, namespace)
                if other in from_where[namespace]:
                    come.add(tag)
        return frozenset(come)
