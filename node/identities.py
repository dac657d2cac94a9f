"""The agents of this node and their keys: what is known of them, and how one gets another key.

Public halves only: a private one leaves its store by a file (`node.privatekey`), never over HTTP and never into a log.
"""

import difflib
import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import msgspec

from node.inputs import decoded
from node.rights import OWNER, Rights
from node.store import Store, keys
from node.store.evidence import Signed, signed_here
from node.store.keys import Execute, Keys, Sealed
from node.store.ledger import SqlLedger
from sync import ed25519, moment
from sync.attest import KeyPair, base64url
from sync.errors import RemoteError
from sync.keyline import key_text, successor_text
from sync.memory import agent_fault
from sync.ports import Ledger


class Wanted(msgspec.Struct, kw_only=True, frozen=True):
    """Whose key a client asks for."""

    agent_id: str


MOST_NAMED = 10
"""Agents that an error names."""
_wanted = msgspec.json.Decoder(Wanted)


# --- inside a transaction over the keys


def current(execute: Execute, known: Keys, agent: str) -> Sealed:
    """The key that an agent signs with, as a row; not written where it has none."""
    found = keys.by_agent(keys.read(execute)).get(agent)
    return found[-1] if found else Sealed(agent, known.derived(agent).key)


def require_known(execute: Execute, own: str, agent: str) -> None:
    """Raises RemoteError `not_found`, which names the agents that there are, where this one never had a key here.

    Who mistypes an agent would get another one's key. `own`: the node's. Reads what was written here, where it has to.
    """
    agents = {own, *keys.by_agent(keys.read(execute))}
    if agent in agents:
        return
    agents |= {one.agent for one in signed_here(execute)}
    if agent in agents:
        return
    close = difflib.get_close_matches(agent, sorted(agents), 1)
    meant = f"did you mean {close[0]}? " if close else ""
    named = ", ".join(sorted(agents)[:MOST_NAMED]) + (", …" if len(agents) > MOST_NAMED else "")
    raise RemoteError(
        "not_found",
        f"agent {agent} has no key here; {meant}there are: {named}. `ai-memory identity generate {agent}` makes it one",
    )


def generate(execute: Execute, known: Keys, agent: str) -> Sealed:
    """The key that an agent signs with; from now on the store names the agent, though it may not write yet."""
    one = current(execute, known, agent)
    if not keys.by_agent(keys.read(execute)).get(agent):
        keys.seal(execute, one)
    return one


def rotate(execute: Execute, known: Keys, agent: str, now: int) -> Sealed:
    """A new random key for an agent, signed by the one that it takes the place of. `now`: microseconds."""
    old = known.pair(generate(execute, known, agent))
    new = KeyPair.of(agent, secrets.token_bytes(ed25519.SEED_BYTES))
    at = moment.text(now)
    by = old.sign(successor_text(agent, new.key, old.key, at))
    one = Sealed(agent, new.key, new.seed, "rotated", at, old.key, by)
    keys.seal(execute, one)
    return one


def take_in(execute: Execute, known: Keys, pair: KeyPair, now: int) -> tuple[Sealed, bool]:
    """Have an agent sign with a key from elsewhere, and whether that changes anything. `now`: microseconds.

    Raises RemoteError `invalid` for a key that another agent has here: a keyring knows one agent for a key.
    """
    other = next((one for one in keys.read(execute) if one.key == pair.key and one.agent != pair.agent), None)
    if other is not None:
        raise RemoteError("invalid", f"it is the key of {other.agent} here; every agent needs a key of its own")
    before = generate(execute, known, pair.agent)
    if before.key == pair.key:
        return before, False
    former = {one.key: one for one in keys.by_agent(keys.read(execute))[pair.agent]}.get(pair.key)
    at = moment.text(now)
    one = replace(former, since=at) if former else Sealed(pair.agent, pair.key, pair.seed, "imported", at)
    keys.seal(execute, one)
    return one, True


# --- for local clients


class Identities:
    """The agents of a store, for the API and the commands. `agent`: the node's own; `now`: microseconds since 1970."""

    def __init__(self, store: Store, agent: str, now: Callable[[], int], rights: Rights = OWNER) -> None:
        self._store, self._agent, self._now, self._rights = store, agent, now, rights

    def under(self, rights: Rights) -> "Identities":
        """The same, for a client with these rights: it is told of its own agent alone."""
        return Identities(self._store, self._agent, self._now, rights)

    async def listed(self) -> dict[str, Any]:
        """Every agent that wrote here, or whose key was asked for. Reads every version that was written here."""
        scope = self._rights.scope
        signed = await self._store.reader.run(lambda reader: signed_here(reader.execute, scope))
        sealed = await self._store.reader.run(lambda reader: keys.read(reader.execute))
        by_agent = keys.by_agent(sealed)
        agents = {self._agent, *by_agent, *(one.agent for one in signed)}
        if self._rights.agent is not None:
            agents = {self._rights.agent}
        return {"identities": [self._told(agent, by_agent.get(agent, ()), signed) for agent in sorted(agents)]}

    async def generate(self, body: bytes) -> dict[str, Any]:
        """Show an agent's key, which is made where there is none. Raises RemoteError `invalid`."""
        agent = _agent(body)
        return await self._changed(lambda execute: generate(execute, self._store.keys, agent))

    async def rotate(self, body: bytes) -> dict[str, Any]:
        """Give an agent a new key, signed by its predecessor; what it writes from the answer on is signed by it.

        Raises RemoteError `invalid`; `not_found` for an agent that has none.
        """
        agent = _agent(body)
        await self._store.reader.run(lambda reader: require_known(reader.execute, self._agent, agent))
        return await self._changed(lambda execute: rotate(execute, self._store.keys, agent, self._now()))

    async def reload(self) -> dict[str, Any]:
        """Take in what was sealed beside this process. Returns how many keys there are."""
        sealed = await self._store.writer.run(lambda ledger: keys.read(_execute(ledger)))
        self._store.keys.replace(sealed)
        return {"keys": len(sealed)}

    async def _changed(self, task: Callable[[Execute], Sealed]) -> dict[str, Any]:
        def run(ledger: Ledger) -> tuple[Sealed, list[Sealed]]:
            one = task(_execute(ledger))
            return one, keys.read(_execute(ledger))

        # The writer's results come in its order, so an older list never takes the place of a newer one.
        one, sealed = await self._store.writer.run(run)
        self._store.keys.replace(sealed)
        return {"agent": one.agent, **described(one)}

    def _told(self, agent: str, sealed: Sequence[Sealed], signed: Sequence[Signed]) -> dict[str, Any]:
        rows = list(sealed) or [Sealed(agent, self._store.keys.derived(agent).key)]
        counts = {one.key: one.versions for one in signed if one.agent == agent}
        told = [
            {**described(one), "current": one is rows[-1], "signed": counts.pop(base64url(one.key), 0)}
            for one in reversed(rows)
        ]
        lost = {"origin": "unknown", "since": None, "after": None, "by": None, "current": False}
        told += [{"key": f"ed25519:{key}", **lost, "signed": count} for key, count in sorted(counts.items())]
        return {"agent": agent, "keys": told}


def described(one: Sealed) -> dict[str, Any]:
    """What may be told of a key, as JSON."""
    return {
        "key": key_text(one.key),
        "origin": one.origin,
        "since": one.since,
        "after": key_text(one.after) if one.after else None,
        "by": base64url(one.by) if one.by else None,
    }


def _agent(body: bytes) -> str:
    agent = decoded(_wanted, body).agent_id
    if fault := agent_fault(agent):
        raise RemoteError("invalid", fault)
    return agent


def _execute(ledger: Ledger) -> Execute:
    assert isinstance(ledger, SqlLedger), "only the store itself has tables"
    execute: Execute = ledger.execute
    return execute
