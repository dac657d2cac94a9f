"""Signed envelopes, DSSE 1.0: a payload with its type, and an Ed25519 signature over both."""

import base64
import binascii
import json

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from node.release import bounded
from node.release.errors import Finding
from node.release.keys import Builder, Keyring, keyid

IN_TOTO = "application/vnd.in-toto+json"


def signed_text(kind: str, payload: bytes) -> bytes:
    """The bytes that are signed: DSSE's pre-authentication encoding."""
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind.encode(), len(payload), payload)


def seal(payload: bytes, key: Ed25519PrivateKey) -> bytes:
    """An envelope as JSON text; the same payload and key always give the same bytes."""
    signature = key.sign(signed_text(IN_TOTO, payload))
    envelope = {
        "payloadType": IN_TOTO,
        "payload": base64.b64encode(payload).decode(),
        "signatures": [{"keyid": keyid(key.public_key()), "sig": base64.b64encode(signature).decode()}],
    }
    return json.dumps(envelope).encode() + b"\n"


def unseal(about: str, text: bytes, keyring: Keyring) -> tuple[bytes, Builder] | Finding:
    """The payload, and whose key vouches for it; `about` names the envelope in a finding."""
    try:
        envelope = bounded.parsed(text)
        payload, kind = base64.b64decode(envelope["payload"], validate=True), envelope["payloadType"]
        ((key_id, signature),) = [
            (one["keyid"], base64.b64decode(one["sig"], validate=True)) for one in envelope["signatures"]
        ]
    except (ValueError, TypeError, KeyError, RecursionError, binascii.Error):
        return Finding(about, "is not a DSSE envelope with one signature")
    if kind != IN_TOTO:
        return Finding(about, f"holds {kind!r}, expected {IN_TOTO}")
    if (builder := keyring.builder(key_id)) is None:
        return Finding(about, f"signed with the key {key_id!r}, which is not on the keyring {keyring.folder}")
    if not genuine(builder, signature, signed_text(kind, payload)):
        return Finding(about, f"its signature is not that of {builder.id}: text or signature was changed")
    return payload, builder


def genuine(builder: Builder, signature: bytes, text: bytes) -> bool:
    try:
        builder.key.verify(signature, text)
    except InvalidSignature:
        return False
    return True
