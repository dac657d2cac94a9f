"""Ids of new memories: one title in one namespace gets one id on every node (protocol section 3, *Id*)."""

import hashlib
import re
import uuid

# A fixed namespace (RFC 9562 section 5.5), so that two nodes which never met agree. It can never change.
IDS = uuid.UUID("6f1d4c1e-2f0a-5b7e-9a53-0b6c1f2f9d41")
_PREFIX = IDS.bytes


def memory_id(namespace: str, title: str, k: int) -> str:
    """UUIDv5 of namespace, title and k. The separator cannot occur in either, so no two triples collide."""
    # As uuid.uuid5, which takes three times as long to build an object that nobody needs: this runs for each record.
    digest = hashlib.sha1(_PREFIX + f"{namespace}\0{title}\0{k}".encode(), usedforsecurity=False).hexdigest()
    variant = "89ab"[int(digest[16], 16) & 3]
    return f"{digest[:8]}-{digest[8:12]}-5{digest[13:16]}-{variant}{digest[17:20]}-{digest[20:32]}"


_NATIVE = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


def is_native(record_id: str) -> bool:
    """True for an id of the form that only nodes of this program give: other writers use random ones (version 4)."""
    return bool(_NATIVE.fullmatch(record_id))
