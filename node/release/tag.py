"""A tag as git keeps it, read without git: what it names, who signed it, and the bytes that were signed."""

import hashlib
import re
from dataclasses import dataclass
from typing import Final

from node.release.errors import Finding
from node.release.keys import Keyring, Signer, moment
from node.release.openpgp import Signature

PREFIX: Final = "v"
MAX_TEXT: Final = 1 << 16
"""Bytes of a tag's or a commit's text."""
_BEGIN = re.compile(rb"^-----BEGIN [A-Z ]+-----$", re.MULTILINE)
_ARMOR = re.compile(
    rb"-----BEGIN PGP SIGNATURE-----\n[\x20-\x7e\n]*?\n-----END PGP SIGNATURE-----\n*",
)
_HEAD = re.compile(
    rb"object ([0-9a-f]{40}|[0-9a-f]{64})\ntype ([a-z]+)\ntag ([^\n]+)\ntagger ([^\n]*?) (\d{1,12}) [+-]\d{4}\n\n"
)
_COMMIT = re.compile(
    rb"tree ([0-9a-f]+)\n(?:parent [0-9a-f]+\n)*author [^\n]+\ncommitter [^\n]*? (\d{1,12}) [+-]\d{4}\n"
)
_DRIFT = 300
"""Seconds by which the clocks of those who commit and tag may differ."""


@dataclass(frozen=True, slots=True)
class Tag:
    """`id` and `target` are object ids, `when` the tagger's clock (s since 1970), `signature` the ASCII armor."""

    id: str
    target: str
    kind: str
    name: str
    tagger: str
    when: int
    payload: bytes
    signature: bytes


def object_id(kind: str, body: bytes, like: str) -> str:
    """The id of a git object, by the hash function that made the id `like`."""
    data = b"%s %d\0%s" % (kind.encode(), len(body), body)
    # git's own naming, not a choice of ours; the artefacts are bound by SHA-256.
    made = hashlib.sha256(data) if len(like) == 64 else hashlib.sha1(data, usedforsecurity=False)
    return made.hexdigest()


def read(name: str, body: bytes) -> Tag | Finding:
    """An annotated tag with an OpenPGP signature; the reason where it is no such thing."""
    if len(body) > MAX_TEXT:
        return Finding(name, f"has {len(body)} bytes, expected at most {MAX_TEXT}: say less in it, and sign it anew")
    head = _HEAD.match(body)
    if head is None:
        return Finding(
            name, "not the text of an annotated tag: expected object, type, tag and tagger, and nothing else"
        )
    begun = _BEGIN.search(body, head.end())
    if begun is None:
        return Finding(name, f"is not signed; sign it anew: git tag -s {name}")
    if _ARMOR.fullmatch(body, begun.start()) is None:
        found = begun[0].decode()
        return Finding(
            name, f"ends in something else than one OpenPGP signature ({found}); sign it anew: git tag -s {name}"
        )
    target, kind, named, tagger, when = (part.decode(errors="replace") for part in head.groups())
    payload, signature = body[: begun.start()], body[begun.start() :]
    return Tag(object_id("tag", body, target), target, kind, named, tagger, int(when), payload, signature)


def commit_time(body: bytes) -> int | None:
    """When a commit was made, by its committer's clock; None where this is not the text of one."""
    found = _COMMIT.match(body) if len(body) <= MAX_TEXT else None
    return int(found[2]) if found else None


def named(tag: Tag, version: str) -> list[Finding]:
    """Does the tag itself say that it is this version's, and of a commit? A reference can be pointed at any tag."""
    expected, findings = f"{PREFIX}{version}", []
    if tag.name != expected:
        findings.append(Finding(expected, f"the tag that stands under this name calls itself {tag.name}"))
    if tag.kind != "commit":
        findings.append(Finding(expected, f"names a {tag.kind}, expected a commit"))
    return findings


def dated(tag: Tag, commit: int, now: int) -> list[Finding]:
    """Is the tag younger than its commit, and not of the future? A tag dated back would escape a key's end."""
    if tag.when + _DRIFT < commit:
        return [Finding(tag.name, f"is dated {moment(tag.when)}, before its commit ({moment(commit)})")]
    if tag.when > now + _DRIFT:
        return [Finding(tag.name, f"is dated {moment(tag.when)}, in the future (now {moment(now)}); check both clocks")]
    return []


def trusted(tag: Tag, signature: Signature, keyring: Keyring) -> Signer | Finding:
    """Whose signature it is, where that counts: on the keyring, and both its date and the tagger's within the span."""
    signer = keyring.signer(signature.primary)
    if signer is None:
        return Finding(tag.name, f"signed by {signature.primary}, who is not on the keyring {keyring.folder}")
    if abs(signature.made - tag.when) > _DRIFT:
        dates = f"{moment(signature.made)}, the tag {moment(tag.when)}"
        return Finding(tag.name, f"its signature is dated {dates}: expected the same time")
    for when in (signature.made, tag.when):
        if fault := signer.span.fault(when):
            return Finding(tag.name, f"signed with the key of {signer.owner}, {fault}")
    return signer


def unmoved(tag: Tag, version: str, keyring: Keyring) -> list[Finding]:
    """Is it the tag that was released under this version, as far as the keyring knows?"""
    known = keyring.released.get(version)
    if known is None or known == (tag.id, tag.target):
        return []
    text = f"was moved: released were tag {known[0]} of commit {known[1]}, this is tag {tag.id} of commit {tag.target}"
    return [Finding(f"{PREFIX}{version}", f"{text}; what was changed since needs a new version")]
