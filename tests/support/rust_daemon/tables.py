"""The daemon's tables and its statements, as SQL: what it does follows from these, faults included."""

COLUMNS = (
    "id",
    "tier",
    "namespace",
    "title",
    "content",
    "tags",
    "priority",
    "confidence",
    "source",
    "access_count",
    "created_at",
    "updated_at",
    "last_accessed_at",
    "expires_at",
    "metadata",
    "extras",
)
_MEMORY = """
    id TEXT PRIMARY KEY, tier TEXT NOT NULL, namespace TEXT NOT NULL, title TEXT NOT NULL, content TEXT NOT NULL,
    tags TEXT NOT NULL, priority INTEGER NOT NULL, confidence REAL NOT NULL, source TEXT NOT NULL,
    access_count INTEGER NOT NULL, created_at TEXT NOT NULL, updated_at TEXT NOT NULL, last_accessed_at TEXT,
    expires_at TEXT, metadata TEXT NOT NULL, extras TEXT NOT NULL"""
SCHEMA = f"""
CREATE TABLE memories ({_MEMORY});
CREATE UNIQUE INDEX title_namespace ON memories (title, namespace);
CREATE TABLE archived_memories ({_MEMORY}, archived_at TEXT NOT NULL, archive_reason TEXT NOT NULL);
CREATE TABLE memory_links (
    source_id TEXT NOT NULL REFERENCES memories (id) ON DELETE CASCADE,
    target_id TEXT NOT NULL REFERENCES memories (id) ON DELETE CASCADE,
    relation TEXT NOT NULL, created_at TEXT NOT NULL, PRIMARY KEY (source_id, target_id, relation));
CREATE TABLE namespace_meta (
    namespace TEXT PRIMARY KEY, standard_id TEXT NOT NULL, updated_at TEXT NOT NULL, parent_namespace TEXT);
CREATE TABLE pending_actions (
    id TEXT PRIMARY KEY, action_type TEXT NOT NULL, memory_id TEXT, namespace TEXT NOT NULL, payload TEXT NOT NULL,
    requested_by TEXT NOT NULL, requested_at TEXT NOT NULL, status TEXT NOT NULL, decided_by TEXT, decided_at TEXT,
    approvals TEXT NOT NULL);
CREATE TABLE sync_state (
    agent_id TEXT NOT NULL, peer_id TEXT NOT NULL, last_seen_at TEXT NOT NULL, last_pulled_at TEXT NOT NULL,
    last_pushed_at TEXT, PRIMARY KEY (agent_id, peer_id));
"""
_LIST = ", ".join(COLUMNS)
_VALUES = f"INSERT INTO memories ({_LIST}) VALUES ({', '.join('?' * len(COLUMNS))})"
# The first author of a title stays its author, whoever wins.
_METADATA = """
    CASE WHEN json_extract(memories.metadata, '$.agent_id') IS NULL THEN excluded.metadata
    ELSE json_set(excluded.metadata, '$.agent_id', json_extract(memories.metadata, '$.agent_id')) END"""
_NEVER_LESS = """
    priority = MAX(memories.priority, excluded.priority),
    confidence = MAX(memories.confidence, excluded.confidence),
    tier = CASE WHEN excluded.tier = 'long' OR memories.tier = 'long' THEN 'long'
                WHEN excluded.tier = 'mid' THEN 'mid' ELSE memories.tier END,
    expires_at = CASE WHEN excluded.tier = 'long' OR memories.tier = 'long' THEN NULL
                 ELSE COALESCE(excluded.expires_at, memories.expires_at) END"""
# Times are compared as text, and two versions of one id with one time never replace each other.
_NEWER = """(excluded.updated_at > memories.updated_at
    OR (excluded.updated_at = memories.updated_at AND excluded.id > memories.id))"""


def _if_newer(*columns: str) -> str:
    return ", ".join(f"{c} = CASE WHEN {_NEWER} THEN excluded.{c} ELSE memories.{c} END" for c in columns)


MERGE = f"""{_VALUES} ON CONFLICT (title, namespace) DO UPDATE SET
    {_if_newer("content", "tags", "source", "extras")},
    {_NEVER_LESS},
    access_count = MAX(memories.access_count, excluded.access_count),
    updated_at = MAX(memories.updated_at, excluded.updated_at),
    metadata = CASE WHEN {_NEWER} THEN {_METADATA} ELSE memories.metadata END"""
"""What came from a peer. An id that exists under another title violates the primary key, which no clause covers."""

STORE = f"""{_VALUES} ON CONFLICT (title, namespace) DO UPDATE SET
    content = excluded.content, tags = excluded.tags, source = excluded.source, extras = excluded.extras,
    {_NEVER_LESS},
    updated_at = excluded.updated_at,
    metadata = {_METADATA}"""
"""What a client of this daemon stores: always the newest."""

SINCE = f"""SELECT {_LIST} FROM memories WHERE (?1 IS NULL OR updated_at > ?1) ORDER BY updated_at ASC LIMIT ?2"""

ARCHIVE = f"""INSERT OR REPLACE INTO archived_memories ({_LIST}, archived_at, archive_reason)
    SELECT {_LIST}, ?2, ?3 FROM memories WHERE id = ?1"""

RESTORE = f"""INSERT INTO memories ({_LIST}) SELECT {
    _LIST.replace("updated_at", "?2")
    .replace("tier", "COALESCE(?3, tier)")
    .replace("expires_at", "CASE WHEN ?3 IS NULL THEN expires_at END")
} FROM archived_memories WHERE id = ?1"""

OBSERVE = """INSERT INTO sync_state (agent_id, peer_id, last_seen_at, last_pulled_at) VALUES (?1, ?2, ?3, ?4)
    ON CONFLICT (agent_id, peer_id) DO UPDATE SET
    last_seen_at = MAX(last_seen_at, excluded.last_seen_at), last_pulled_at = excluded.last_pulled_at"""

# The first push to a peer that nothing was pulled from yet makes "now" the place from which it is pulled.
RECORD_PUSH = """INSERT INTO sync_state (agent_id, peer_id, last_seen_at, last_pulled_at, last_pushed_at)
    VALUES (?1, ?2, ?4, ?4, ?3)
    ON CONFLICT (agent_id, peer_id) DO UPDATE SET last_pushed_at = excluded.last_pushed_at"""
