"""The judge of simulated histories: the true ancestor set of every write, recorded beside the code under test.

After healing, what each node keeps must be exactly the maximal elements of all that reached it. The oracle never looks
at a clock of the protocol: what a write replaced is seen in the store, at the moment when it happens.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from memory_store import MemoryStore

from sync import context
from sync.batch import Batch
from sync.ports import FeedPage, Kept, PageRequest, PeerState
from sync.version import Key, Version


@dataclass(frozen=True)
class Fault:
    """A broken promise.

    `kind`: lost, undead, diverged, digests, reissued, forged, untrusted, stripped, twins, twice, winner, unsettled,
    unseen, future, restless or raised.
    """

    kind: str
    detail: str


class SimStore(MemoryStore):
    """Also remembers, for the oracle, what it ever kept and what it wrote. A restore forgets, as a disk would."""

    def __init__(self, owner: str = "") -> None:
        super().__init__()
        self.owner = owner
        self.known: frozenset[bytes] = frozenset()
        self.written: frozenset[bytes] = frozenset()

    def transaction(self, body: Any, *args: Any) -> Any:
        """Without a copy to go back to: nothing fails here but what `World.die_in` lets die, which keeps one."""
        return body(self, *args)

    def peer(self, peer: str) -> PeerState:
        """As the store in memory says it, and without a state in reserve: nothing is asked for as often."""
        found = self._peers.get(peer)
        return PeerState(peer) if found is None else found

    def page(self, request: PageRequest) -> FeedPage:
        """As the store in memory cuts it; of nothing new without a look at every key."""
        number, head = self._position.number, self._position.head
        if request.after >= number:
            return FeedPage(b"", b"", b"", 0, b"", number, number, head, None, None)
        return super().page(request)

    def copy(self) -> "SimStore":
        twin = type(self)()
        twin.__dict__ = {
            name: value.copy() if isinstance(value, dict | list) else value for name, value in self.__dict__.items()
        }
        return twin


@dataclass
class Oracle:
    """Everything by a version's tag. `admits`: whether a node's operator would take a version from a peer."""

    admits: Callable[[str, Version], bool] = lambda _node, _version: True
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
    daemons: set[bytes] = field(default_factory=set)
    """Written by daemons without lives: what nobody's context orders of these is ordered by time."""
    crowded: bool = False
    """A context was full: an old version may come back beside its successor."""
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
            after = {one.version.tag for one in kept}
            come = after.difference(before)
            gone = [tag for tag in before if tag not in after]
            if sum(one.giver is None for one in kept) > 1:
                self._note(Fault("twice", f"{store.owner} keeps two versions of {key} that it wrote itself"))
            for one in kept:
                if one.giver is None and one.version.tag in come:
                    self._written(one.version, gone)
                    store.written |= {one.version.tag}
                elif one.version.tag in come and not self.admits(store.owner, one.version):
                    self._note(Fault("untrusted", f"{store.owner} took {shown(one.version)}"))
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
        self.crowded |= len(version.context) >= context.MAX_ENTRIES
        seen = [tag for tag in replaced if tag in self.ancestors]  # all, while no forgery is accepted
        self.ancestors[version.tag] = frozenset(seen).union(*(self.ancestors[tag] for tag in seen))

    def forgery(self, version: Version, seen: Sequence[bytes]) -> None:
        """A liar made this version, having truly seen those."""
        self._written(version, seen)
        self.forged.add(version.tag)

    def by_daemon(self, version: Version, seen: Sequence[bytes]) -> None:
        """A daemon wrote this version, having truly seen those."""
        self._written(version, seen)
        self.daemons.add(version.tag)

    def _outdated(self, known: Set[bytes]) -> set[bytes]:
        """Daemons' versions of keys of which a later one is known, or was seen by what is: the last write counts."""
        found = {self.versions[tag] for tag in (known | self._under(known)) & self.daemons}
        return {one.tag for one in found if any(one.key == other.key and one.at < other.at for other in found)}

    def settled(self, node: str, winner: Version, kept: Set[bytes], seen: Set[bytes], left: Set[bytes]) -> None:
        """Somebody settled a conflict: what was kept, what they had seen, and what is left."""
        if seen == kept and (len(left) != 1 or left <= kept):
            self._note(Fault("unsettled", f"{node} still has {len(left)} of {shown(winner)}"))
        if seen != kept and left != kept:
            self._note(Fault("unseen", f"{node} let go of {shown(winner)}, which nobody had seen in this conflict"))

    def restored(self, store: SimStore, old: SimStore) -> None:
        """`old` is about to take the place of `store`."""
        self.orphans |= store.written - old.written

    def faults(
        self,
        stores: Mapping[str, SimStore],
        links: Sequence[tuple[str, str]],
        lets_through: Callable[[str, str, str], bool],
        *,
        alike: bool,
    ) -> list[Fault]:
        """What is broken, once all nodes have the same keyring.

        `links`: from whom to whom. `lets_through`: whether from one node to the next a namespace may come. `alike`: no
        scopes anywhere.
        """
        kept = {
            name: {one.version.tag for some in store.everything().values() for one in some}
            for name, store in stores.items()
        }
        # What waits for its time is held, and told to the operator, though nobody reads it yet.
        waits = {one.version.tag for store in stores.values() for one in store.waiting_all()}
        lied_about = {self.versions[tag].key for tag in self.forged}
        refused = self._refused(stores)
        silenced = self.orphans | refused | self._under(refused)
        excused = self.forged | waits | {tag for tag in silenced if self.versions[tag].key in lied_about}
        come = self._come(stores, links, lets_through, refused, kept)
        found = [*self.at_once, *self._stripped(stores), *_misordered(stores)]
        for name in stores:
            known = come[name]
            dead = self._under(known)
            for one, other in self.twins:
                gone = [tag for tag in (one, other) if tag in known - dead - kept[name]]
                if one in known and other in known and gone and not waits:
                    found.append(Fault("twins", f"{name} let go of {shown(self.versions[gone[0]])}"))
            unanswered = self._unanswered(stores[name], refused)
            for tag in known - dead - kept[name] - excused - self._outdated(known):
                if self.versions[tag].key not in unanswered:
                    found.append(Fault("lost", f"{name} lacks {shown(self.versions[tag])}"))
            for tag in kept[name] & dead if not self.crowded else ():
                if self.versions[tag].key not in lied_about:
                    found.append(Fault("undead", f"{name} keeps {shown(self.versions[tag])}"))
        if alike and not waits:
            first, *others = stores
            apart = {self.versions[tag].key for tag in refused}
            for name in others:
                if _order(stores[name], apart) != _order(stores[first], apart):
                    found.append(Fault("diverged", f"{first} and {name}"))
                if not apart and stores[name].position().digest != stores[first].position().digest:
                    found.append(Fault("digests", f"{first} and {name}"))
        return found

    def _stripped(self, stores: Mapping[str, SimStore]) -> Iterator[Fault]:
        """A copy without its signature goes where the signed version has come.

        Unless a lie took the signed one's place first, and another lie, which has not seen as much, that one's: then
        nobody there knows that the copy is old. Nor where a context was full, and what had seen the signed one says so
        no more.
        """
        lied_about = {self.versions[tag].key for tag in self.forged - self.stripped.keys()}
        for name, store in stores.items():
            for key, some in store.everything().items():
                kept = {one.version.tag for one in some}
                for one in some:
                    signed = self.stripped.get(one.version.tag)
                    if signed in (kept if key in lied_about or self.crowded else store.known):
                        yield Fault("stripped", f"{name} keeps {shown(one.version)} though it had the signed one")

    def _refused(self, stores: Mapping[str, SimStore]) -> frozenset[bytes]:
        """What is known somewhere, and nobody takes any more: its key was revoked."""
        everything = frozenset[bytes]().union(*(store.known for store in stores.values()))
        return frozenset(tag for tag in everything if not all(self.admits(name, self.versions[tag]) for name in stores))

    def _under(self, tags: Iterable[bytes]) -> frozenset[bytes]:
        """What these truly replaced."""
        return frozenset[bytes]().union(*(self.ancestors[tag] for tag in tags))

    def _unanswered(self, store: SimStore, refused: frozenset[bytes]) -> set[Key]:
        """Keys of which a node has a lie, or what was written by somebody who had read one, and nobody reads that."""
        return {
            self.versions[tag].key
            for tag in store.known & refused
            if tag in self.forged or not self.forged.isdisjoint(self.ancestors[tag])
        }

    def _come(
        self,
        stores: Mapping[str, SimStore],
        links: Sequence[tuple[str, str]],
        lets_through: Callable[[str, str, str], bool],
        refused: frozenset[bytes],
        kept: Mapping[str, Set[bytes]],
    ) -> dict[str, frozenset[bytes]]:
        """What reached each node, or has to reach it.

        What a lie hides at a node that nobody answers is not sent by it.
        A version that others refuse goes nowhere, nor does what it replaced where it was taken: it is kept no more.
        """
        come = {name: set(store.known) for name, store in stores.items()}
        stay = {name: refused | self._under(store.known & refused) for name, store in stores.items()}
        hidden = {name: self._unanswered(store, refused) for name, store in stores.items()}
        allowed: dict[tuple[str, str, str], bool] = {}
        moved = True
        while moved:
            moved = False
            for p, q in links:
                for tag in come[p] - come[q] - stay[p]:
                    key = self.versions[tag].key
                    if key in hidden[p] and tag not in kept[p]:
                        continue
                    hop = (p, q, key[0])
                    if hop not in allowed:
                        allowed[hop] = lets_through(*hop)
                    if allowed[hop]:
                        come[q].add(tag)
                        moved = True
        return {name: frozenset(tags) for name, tags in come.items()}


def _order(store: SimStore, but: Collection[Key]) -> dict[Key, tuple[bytes, ...]]:
    """What is kept of all keys but some, the winner of each first."""
    return {key: tuple(one.version.tag for one in some) for key, some in store.everything().items() if key not in but}


def _misordered(stores: Mapping[str, SimStore]) -> Iterator[Fault]:
    """The winner is the greatest by time, then by signature, then by content (protocol section 4)."""
    for name, store in stores.items():
        for some in store.everything().values():
            first, *others = [one.version for one in some]
            if any((one.at, one.signature, one.content) > (first.at, first.signature, first.content) for one in others):
                yield Fault("winner", f"{name} shows {shown(first)}, which is not the greatest")


def shown(version: Version) -> str:
    """A version for people."""
    past = f"d{version.depth} [{version.context!r}]"
    name = f"{version.namespace}/{version.id} of {version.at}"
    return f"{version.kind} {name} {version.dot.actor}:{version.dot.counter} {past}"
