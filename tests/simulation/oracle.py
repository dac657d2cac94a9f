"""The judge of simulated histories: the true ancestor set of every write, recorded beside the code under test.

After healing, what each node keeps must be exactly the maximal elements of all that reached it. The oracle never looks
at a clock of the protocol: what a write replaced is seen in the store, at the moment when it happens.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from memory_store import MemoryStore

from sync.batch import Batch
from sync.ports import Kept
from sync.version import Key, Version


@dataclass(frozen=True)
class Fault:
    """A broken promise.

    `kind`: lost, undead, diverged, digests, reissued, forged, stripped, twins, winner, future, restless or raised.
    """

    kind: str
    detail: str


class SimStore(MemoryStore):
    """Also remembers, for the oracle, what it ever kept and what it wrote. A restore forgets, as a disk would."""

    def __init__(self) -> None:
        super().__init__()
        self.known: frozenset[bytes] = frozenset()
        self.written: frozenset[bytes] = frozenset()

    def transaction(self, body: Any, *args: Any) -> Any:
        """Without a copy to go back to: nothing fails here but what `World.die_in` lets die, which keeps one."""
        return body(self, *args)

    def copy(self) -> "SimStore":
        twin = type(self)()
        twin.__dict__ = {
            name: value.copy() if isinstance(value, dict | list) else value for name, value in self.__dict__.items()
        }
        return twin


@dataclass
class Oracle:
    """Everything by a version's tag."""

    versions: dict[bytes, Version] = field(default_factory=dict)
    ancestors: dict[bytes, frozenset[bytes]] = field(default_factory=dict)
    forged: set[bytes] = field(default_factory=set)
    orphans: set[bytes] = field(default_factory=set)
    """Versions whose author was restored to before it wrote them: nobody can stand up for these against a lie."""
    lies: set[bytes] = field(default_factory=set)
    """Documents under signatures that are nobody's: never to be kept."""
    stripped: dict[bytes, bytes] = field(default_factory=dict)
    """Signed versions by the copies of them that a liar took the signature from."""
    twins: list[tuple[bytes, bytes]] = field(default_factory=list)
    """Two versions that a liar made under one counter."""
    at_once: list[Fault] = field(default_factory=list)
    """Faults that were seen when they happened."""

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
                if one.version.doc in self.lies or one.version.tag not in self.versions:
                    self._note(Fault("forged", f"{shown(one.version)} was accepted"))
            store.known |= self.versions.keys() & after
            return original(batch, key, kept)

        Batch.put = put  # type: ignore[method-assign]
        try:
            yield
        finally:
            Batch.put = original  # type: ignore[method-assign]

    def _note(self, fault: Fault) -> None:
        if fault not in self.at_once:
            self.at_once.append(fault)

    def _written(self, version: Version, replaced: Sequence[bytes]) -> None:
        if version.tag in self.ancestors:
            self.at_once.append(Fault("reissued", f"{shown(version)} was written twice"))
            return
        self.versions[version.tag] = version
        seen = [tag for tag in replaced if tag in self.ancestors]  # all, while no forgery is accepted
        self.ancestors[version.tag] = frozenset(seen).union(*(self.ancestors[tag] for tag in seen))

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
        found = [*self.at_once, *self._stripped(stores), *_misordered(stores)]
        for name in stores:
            known = self._come_to(name, stores, reaching)
            dead = frozenset[bytes]().union(*(self.ancestors[tag] for tag in known))
            for one, other in self.twins:
                if one in known and other in known and (one in kept[name]) != (other in kept[name]) and not waits:
                    found.append(
                        Fault(
                            "twins",
                            f"{name} keeps one of {shown(self.versions[one])} and {shown(self.versions[other])}",
                        )
                    )
            for tag in known - dead - kept[name] - excused:
                found.append(Fault("lost", f"{name} lacks {shown(self.versions[tag])}"))
            for tag in kept[name] & dead:
                if not any(tag in self.ancestors[one] for one in known & self.forged):
                    found.append(Fault("undead", f"{name} keeps {shown(self.versions[tag])}"))
        if alike and not waits:
            first, *others = stores
            for name in others:
                if _order(stores[name]) != _order(stores[first]):
                    found.append(Fault("diverged", f"{first} and {name}"))
                if stores[name].position().digest != stores[first].position().digest:
                    found.append(Fault("digests", f"{first} and {name}"))
        return found

    def _stripped(self, stores: Mapping[str, SimStore]) -> Iterator[Fault]:
        """A copy without its signature goes where the signed version has come."""
        for name, store in stores.items():
            for some in store.everything().values():
                for one in some:
                    if self.stripped.get(one.version.tag) in store.known:
                        yield Fault("stripped", f"{name} keeps {shown(one.version)} though it had the signed one")

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


def _order(store: SimStore) -> dict[Key, tuple[bytes, ...]]:
    """What is kept, the winner of each key first."""
    return {key: tuple(one.version.tag for one in some) for key, some in store.everything().items()}


def _misordered(stores: Mapping[str, SimStore]) -> Iterator[Fault]:
    """The winner is the greatest by time, then by signature, then by content (protocol section 4)."""
    for name, store in stores.items():
        for some in store.everything().values():
            first, *others = [one.version for one in some]
            if any((one.at, one.signature, one.content) > (first.at, first.signature, first.content) for one in others):
                yield Fault("winner", f"{name} shows {shown(first)}, which is not the greatest")


def shown(version: Version) -> str:
    """A version for people."""
    return f"{version.kind} {version.namespace}/{version.id} of {version.at} {dict(version.clock)}"
