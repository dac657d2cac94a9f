"""The rules of the keyring taken away, each by one monkeypatch: `mutations` and `breakages` have the others."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from sync import keyring, policy, trust
from sync.policy import Policy
from sync.receive import Receiver
from sync.record import Refused
from sync.trust import Standing
from sync.version import Version
from tests.simulation.breakages import Patch


def _standing(patch: Patch, change: Callable[[Standing], Standing]) -> None:
    """Let `judge` see another standing of a key."""
    true = trust.standing_of
    patch.setattr(trust, "standing_of", lambda *said: change(true(*said)))


def the_unsigned_are_believed(patch: Patch) -> None:
    """Under a keyring, too, what nobody signed is taken."""
    patch.setitem(trust.TABLE, "none", replace(trust.TABLE["none"], allowed=lambda _: True))


def whose_a_key_is_is_not_looked_at(patch: Patch) -> None:
    """A key that is another agent's, or nobody's where its agent has one, signs for whom it says."""
    _standing(patch, lambda found: "enrolled" if found == "foreign" else found)


def one_key_is_as_good_as_another(patch: Patch) -> None:
    """A key that is listed signs for every agent that is."""
    true = trust.standing_of

    def standing(ring: keyring.Keyring, agent: str, key: bytes, at: str) -> Standing:
        entry = ring.find(key)
        return true(ring, agent if entry is None else entry.agent, key, at)

    patch.setattr(trust, "standing_of", standing)


def the_unknown_are_believed(patch: Patch) -> None:
    """An agent that is not enrolled is taken at its word where only enrolled ones are."""
    patch.setitem(trust.TABLE, "unknown", replace(trust.TABLE["unknown"], allowed=lambda _: True))


def revocation_is_not_looked_at(patch: Patch) -> None:
    """What a revoked key signed is taken, whatever its time."""
    _standing(patch, lambda found: "enrolled" if found == "revoked" else found)


def revocation_begins_a_moment_late(patch: Patch) -> None:
    """What is dated at the very time of the revocation is taken."""
    true = trust.standing_of

    def standing(ring: keyring.Keyring, agent: str, key: bytes, at: str) -> Standing:
        entry = ring.find(key)
        found = true(ring, agent, key, at)
        return "enrolled" if found == "revoked" and entry is not None and entry.revoked == at else found

    patch.setattr(trust, "standing_of", standing)


def a_revoked_key_signed_nothing(patch: Patch) -> None:
    """What a revoked key signed before is refused as well."""
    true = trust.standing_of

    def standing(ring: keyring.Keyring, agent: str, key: bytes, at: str) -> Standing:
        entry = ring.find(key)
        found = true(ring, agent, key, at)
        return "revoked" if found == "enrolled" and entry is not None and entry.revoked is not None else found

    patch.setattr(trust, "standing_of", standing)


def an_agent_has_one_key(patch: Patch) -> None:
    """A successor is not its agent's key: only the first that is listed is."""
    true = trust.standing_of

    def standing(ring: keyring.Keyring, agent: str, key: bytes, at: str) -> Standing:
        entries = ring.of(agent)
        return "foreign" if entries and entries[0].key != key else true(ring, agent, key, at)

    patch.setattr(trust, "standing_of", standing)


def what_was_refused_is_not_asked_for_again(patch: Patch) -> None:
    """A cursor reached under another keyring counts on: what was refused for want of a key never comes."""
    patch.setattr(Policy, "tag", property(lambda self: self.scope.tag))


def a_keyring_is_told_by_its_keys(patch: Patch) -> None:
    """A cursor reached under other revocations counts on."""

    def tag(self: Policy) -> str:
        entries = sorted(f"{one.agent} {one.key.hex()}" for one in self.trust.keyring.entries)
        return f"{self.scope.tag} {entries}"

    patch.setattr(Policy, "tag", property(tag))


def what_waited_is_believed(patch: Patch) -> None:
    """What was taken aside is merged when it is due, whatever the rules say of it by then."""
    true = Receiver.due

    def due(self: Any, _policy_of: Any, limit: int) -> Any:
        return true(self, lambda _peer: _Anything(), limit)

    patch.setattr(Receiver, "due", due)


class _Anything:
    """Rules that refuse nothing."""

    def refusal(self, _version: Version, *, genuine: bool) -> Refused | None:
        return None


def the_keyring_is_not_asked(patch: Patch) -> None:
    """Signatures are verified, and nobody asks whose key it was."""
    patch.setattr(policy, "judge", lambda _trust, _version: "attested")
