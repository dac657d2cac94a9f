"""The engine: every decision about what this node keeps and sends, behind one object. `node` performs them.

It holds no clock, no socket and no file. What it remembers in memory can be lost without harm: which cursors this
process has seen confirmed, when it last believed a peer that we were rolled back, and what it asked whom for.
"""

from collections.abc import Callable, Container, Iterable, Sequence, Set
from dataclasses import replace

from sync import lives, moment, settle, writes
from sync.adoption import Adopted, Adopter
from sync.asked import Asked
from sync.attest import Keychain
from sync.batch import Batch
from sync.draft import Fields
from sync.errors import RemoteError
from sync.link import LinkFields
from sync.policy import Policy
from sync.ports import FeedReader, Ledger
from sync.receive import MAX_HELD, Alarm, Page, Part, PolicyOf, Receiver, Taken, forget_cursors
from sync.serve import Ask, Cut, RolledBack, cut
from sync.version import Key, Version

ROLLBACK_INTERVAL = 3600 * moment.SECOND
"""A peer is believed at most once in this time when it says that we were rolled back."""
MAX_DUE = 500
MAX_LIVES_SEEN = 64
MAX_RETURNS = 2
"""Pages of a life that has ended which may still be on their way when the next one is heard of: one on each lane."""


class Engine:
    """One per store. `agent`: the agent id of what the node itself writes (settling, re-writing).

    `keys`: who signs for an agent of this node. It is asked inside write transactions, and has an answer for each agent
    that the verbs below are called with.
    """

    def __init__(self, agent: str, random_bytes: Callable[[int], bytes], keys: Keychain) -> None:
        self.agent = agent
        self.keys = keys
        self._mint = lives.minting(random_bytes)
        self._confirmed: dict[tuple[str, str], str] = {}
        self._believed: dict[str, int] = {}
        self._asked = Asked()
        self._lives_seen: dict[str, dict[str, int]] = {}  # by peer: how often each came back, the newest last

    # --- lives

    def begin_life(self, ledger: Ledger, now: int, reason: str) -> int:
        """Begin a life (at every start, and when the wall clock jumped) and re-write what we keep of our own future.

        A jump may be a machine that was rolled back while it ran: what was received between the jump and its
        discovery came under the old life, so no cursor reached then is trusted. Returns how many were re-written.
        """
        batch = Batch(ledger, self._mint)
        if reason == lives.CLOCK_JUMP:
            forget_cursors(ledger)
        batch.begin_life(reason)
        horizon = moment.text(now + writes.SKEW_BOUND)
        future = ledger.own_after(horizon)
        for key in future:
            writes.restate_future(batch, key, self.keys, horizon, now)
        batch.commit()
        return len(future)

    def rolled_back(self, ledger: Ledger, peer: str, now: int) -> tuple[Alarm, ...]:
        """A peer's cursor speaks of a rollback: a new life, and no cursor of ours is trusted any more.

        It may be a lie: nobody can tell who has lost what it speaks of, and a new life costs little. Empty where that
        peer was believed less than an hour ago.
        """
        if not self._may_believe(peer, now):
            return ()
        self._believed[peer] = now
        self.restored(ledger)
        found_out = "its cursor says that this store once held a feed that it lacks now"
        return (Alarm("rolled_back", peer, f"{found_out}: {lives.WHAT_TO_DO}, and if that is in order this peer lied"),)

    def restored(self, ledger: Ledger) -> None:
        """This store is an older copy of itself: a new life, and no cursor of ours is trusted any more.

        A peer says so, or whoever put the copy there says so before anything else is written.
        """
        batch = Batch(ledger, self._mint)
        batch.begin_life(lives.ROLLED_BACK)
        forget_cursors(ledger)

    # --- local writes

    def store(self, ledger: Ledger, fields: Fields, agent: str, now: int, *, blind: bool = False) -> writes.Written:
        """Store under a title. Raises RemoteError `invalid`, and then has changed nothing. `blind`: `writes.store`."""
        batch = Batch(ledger, self._mint)
        written = writes.store(batch, fields, self.keys.author(agent), now, blind=blind)
        batch.commit()
        return written

    def store_many(
        self, ledger: Ledger, drafts: Iterable[tuple[Fields, str]], now: int, blind: Container[int] = ()
    ) -> list[writes.Written | RemoteError]:
        """Store each of these (fields, agent) in one go; one that is invalid leaves the others alone.

        `blind`: places of those whose writer sees nothing there (`writes.store`).
        """
        batch = Batch(ledger, self._mint)
        results: list[writes.Written | RemoteError] = []
        for place, (fields, agent) in enumerate(drafts):
            try:
                author = self.keys.author(agent)
                results.append(writes.store(batch, fields, author, now, blind=place in blind))
            except RemoteError as error:
                results.append(error)
        batch.commit()
        return results

    def update(
        self, ledger: Ledger, key: Key, fields: Fields, agent: str, now: int
    ) -> writes.Written | writes.Missing | writes.TitleTaken:
        batch = Batch(ledger, self._mint)
        result = writes.update(batch, key, fields, self.keys.author(agent), now)
        batch.commit()
        return result

    def delete(self, ledger: Ledger, key: Key, agent: str, now: int) -> writes.Written | writes.Missing:
        batch = Batch(ledger, self._mint)
        result = writes.delete(batch, key, self.keys.author(agent), now)
        batch.commit()
        return result

    def link(
        self, ledger: Ledger, namespace: str, fields: LinkFields, agent: str, now: int
    ) -> writes.Written | writes.Missing:
        """Link two memories; `Missing` where the first is not in this namespace. Raises RemoteError `invalid`."""
        batch = Batch(ledger, self._mint)
        result = writes.link(batch, namespace, fields, self.keys.author(agent), now)
        batch.commit()
        return result

    def unlink(self, ledger: Ledger, keys: Sequence[Key], agent: str, now: int) -> int:
        """Take these links back; returns how many there were."""
        batch = Batch(ledger, self._mint)
        taken = writes.unlink(batch, keys, self.keys.author(agent), now)
        batch.commit()
        return taken

    def resolve(
        self, ledger: Ledger, key: Key, choice: settle.Choice, seen: Set[bytes], agent: str, now: int
    ) -> settle.Settled | settle.Changed | settle.Unanimous:
        """End a key's conflict, if exactly the versions with the tags `seen` are kept. Raises RemoteError `invalid`."""
        batch = Batch(ledger, self._mint)
        result = settle.settle(batch, key, choice, seen, self.keys.author(agent), now)
        batch.commit()
        return result

    def settle_future(self, ledger: Ledger, now: int) -> int:
        """Write on for now, in their authors' names, what is kept from the future (protocol section 4, *Time*).

        For an operator whose store holds what an author with a wrong clock wrote, who cannot take it back any more.
        Returns how many memories, links, tombstones and unlinks it was.
        """
        batch = Batch(ledger, self._mint)
        future = ledger.kept_after(moment.text(now + writes.SKEW_BOUND))
        for key in future:
            writes.carry(batch, key, self.keys.author(self.agent), now)
        batch.commit()
        return len(future)

    # --- pages in

    def receive(self, ledger: Ledger, page: Page, part: Part, policy: Policy, before: Taken, now: int) -> Taken:
        """Apply one part of a peer's page. After the commit of the last, call `received` with the sum."""
        receiver = Receiver(ledger, self._mint, self.agent, self.keys, now)
        return receiver.take(page, part, policy, before, self._may_believe(page.peer, now))

    def received(self, page: Page, taken: Taken, now: int) -> tuple[Alarm, ...]:
        """Learn from a page that was applied and committed. Returns alarms beyond those in `taken`."""
        if any(alarm.kind == "rolled_back" for alarm in taken.alarms):
            self._believed[page.peer] = now
        if taken.moved and page.to is not None:
            self._confirm(page.peer, page.life, page.to)
        return self._alternation(page)

    def asking(self, page: Page, versions: Iterable[Version], taken: Taken, now: int) -> Taken:
        """What is answered to a page that was applied and committed: of what is wanted, what this peer is asked for.

        `versions`: of the whole page. What another peer was asked for a moment ago it is not asked for; `again` says
        when it should offer that once more.
        """
        refused = {(one.id, one.kind) for one in taken.refused}
        sent = [(version.tag, (version.shown, version.kind) in refused) for version in versions]
        self._asked.refused(page.peer, (tag for tag, is_refused in sent if is_refused))
        self._asked.came(page.peer, (tag for tag, is_refused in sent if not is_refused), now)
        if not taken.wanted:
            return taken
        choice = self._asked.choose(page.peer, taken.wanted, now)
        return replace(taken, wanted=choice.wanted, again=choice.again)

    def _confirm(self, peer: str, life: str, cursor: str) -> None:
        if (peer, life) not in self._confirmed:
            lives_of = [key for key in self._confirmed if key[0] == peer]
            for key in lives_of[: max(0, len(lives_of) + 1 - MAX_HELD)]:
                del self._confirmed[key]  # the store forgets the cursors on a peer's older lives as well
        self._confirmed[peer, life] = cursor

    def forget(self, peer: str) -> None:
        """This certificate is on the list no more: free what was kept for it."""
        self._confirmed = {key: cursor for key, cursor in self._confirmed.items() if key[0] != peer}
        self._believed.pop(peer, None)
        self._lives_seen.pop(peer, None)
        self._asked.forget(peer)

    def unreachable(self, peer: str) -> None:
        """A request to this peer failed: what it was asked for may be asked of others."""
        self._asked.failed(peer)

    def due(self, ledger: Ledger, policy_of: PolicyOf, now: int) -> Taken:
        """Judge again what waited in the future until now; at most `MAX_DUE` versions."""
        return Receiver(ledger, self._mint, self.agent, self.keys, now).due(policy_of, MAX_DUE)

    def adopt(self, ledger: Ledger, versions: Sequence[Version], now: int, *, dry_run: bool = False) -> Adopted:
        """Take in versions that no peer's page brought, such as those of an import; `dry_run` only says what it would.

        No version of a dry run is kept.
        """
        return Adopter(ledger, self._mint, self.agent, self.keys, now).adopt(versions, dry_run=dry_run)

    # --- pages out

    def cut(self, reader: FeedReader, ask: Ask, now: int) -> Cut | RolledBack:
        """Cut a page of our feed; `RolledBack` asks for `rolled_back` first. Raises RemoteError `bad_cursor`."""
        return cut(reader, ask, self._confirmed, judged=not self._may_believe(ask.peer, now))

    def _may_believe(self, peer: str, now: int) -> bool:
        last = self._believed.get(peer)
        return last is None or not 0 <= now - last < ROLLBACK_INTERVAL

    def _alternation(self, page: Page) -> tuple[Alarm, ...]:
        """Two lives that take turns behind one certificate: a node that was cloned with its identity."""
        seen = self._lives_seen.setdefault(page.peer, {})
        other = next(reversed(seen), page.life)
        if page.life == other and seen:
            return ()
        returns = seen[page.life] = seen.pop(page.life, -1) + 1
        if len(seen) > MAX_LIVES_SEEN:
            del seen[next(iter(seen))]
        if returns <= MAX_RETURNS:
            return ()
        detail = f"lives {other} and {page.life} take turns behind one certificate: a node was cloned with its key"
        return (Alarm("duplicate_identity", page.peer, detail),)


def slices(versions: Sequence[object], size: int) -> int:
    """How many parts a page of this many versions has; an empty page has one."""
    return max(1, -(-len(versions) // size))
