"""What differs between the two releases of the older daemon that the fake plays, as one table."""

from dataclasses import dataclass

TIERS = ("short", "mid", "long")
FOUR_RELATIONS = ("related_to", "supersedes", "contradicts", "derived_from")


@dataclass(frozen=True, slots=True)
class Release:
    """One release. Recorded: the answers of the running program; what was only read in its source says so."""

    version: str
    push_members: int
    """Members of the body of a push, as its error about an array says."""
    api_relations: tuple[str, ...]
    """What `POST /links` takes."""
    push_relations: tuple[str, ...] | None
    """What the body of a push may hold at all, else 422; None: any text, checked row by row."""
    extra_fields: bool
    """A memory has the later fields (`citations`, `memory_kind`, ...); without them they are dropped."""
    peer_id: bool
    """`x-peer-id` is sent, and asked for on push; since is scoped by it."""
    quota: bool
    restore_keeps_tier: bool
    keeps_link_time: bool
    """The `created_at` of a link that arrives is kept; else it is stamped anew."""
    duplicate_is_conflict: bool
    """`POST /memories` with a title that exists answers 409; else it overwrites."""


V063 = Release(
    version="0.6.3",
    push_members=12,
    api_relations=FOUR_RELATIONS,
    push_relations=None,
    extra_fields=False,
    peer_id=False,
    quota=False,
    restore_keeps_tier=False,
    keeps_link_time=False,
    duplicate_is_conflict=False,
)
V070 = Release(
    version="0.7.0",
    push_members=13,
    api_relations=(*FOUR_RELATIONS, "reflects_on"),
    push_relations=(*FOUR_RELATIONS, "reflects_on", "derives_from"),
    extra_fields=True,
    peer_id=True,
    quota=True,
    restore_keeps_tier=True,
    keeps_link_time=True,
    duplicate_is_conflict=True,
)
