"""What an agent can do with memories, however it asks: the one service under the HTTP API and the commands."""

import msgspec

from sync.draft import Fields

MAX_BULK = 1_000
DEFAULT_LIST = 20
MAX_LIST = 1_000
"""As in the existing daemon: a list has 20 entries unless told, and at most 1,000."""

_fields = msgspec.json.Decoder(Fields)
_bulk = msgspec.json.Decoder(list[msgspec.Raw])
