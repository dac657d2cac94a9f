"""Ids of new memories: one title in one namespace gets one id on every node (protocol section 3, *Id*)."""

import uuid

# A fixed namespace (RFC 9562 section 5.5), so that two nodes which never met agree. It can never change.
_IDS = uuid.UUID("6f1d4c1e-2f0a-5b7e-9a53-0b6c1f2f9d41")


def memory_id(namespace: str, title: str, k: int) -> str:
    """UUIDv5 of namespace, title and k. The separator cannot occur in either, so no two triples collide."""
    return str(uuid.uuid5(_IDS, f"{namespace}\0{title}\0{k}"))
