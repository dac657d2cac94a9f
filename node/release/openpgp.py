"""OpenPGP signatures, checked by gpg in a folder of its own that holds the keyring's keys and nothing else."""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from node.release import bounded
from node.release.errors import Finding, ReleaseError, Unfit
from node.release.keys import Signer, moment

_OPTIONS = (
    "--no-options", "--batch", "--no-tty", "--quiet", "--no-autostart", "--no-auto-key-retrieve",
    "--no-auto-check-trustdb", "--trust-model", "always", "--weak-digest", "SHA1", "--weak-digest", "RIPEMD160",
)  # fmt: skip
_REFUSALS = {
    "BADSIG": "its signature does not belong to its text: one of them was changed",
    "REVKEYSIG": "signed with a key that its owner has revoked",
    "EXPSIG": "its signature has expired",
    "NO_PUBKEY": "signed by a stranger: no key of the keyring made the signature",
    "NODATA": "its signature cannot be read",
}
_LONGEST = 60
"""Seconds that gpg may take for any one thing."""
"""What gpg says, in the order in which it is looked for, and what we say of it."""


@dataclass(frozen=True, slots=True)
class Signature:
    """A genuine signature: fingerprints of the primary key and of the key that made it; when, by its maker's clock."""

    primary: str
    key: str
    made: int


@dataclass(frozen=True, slots=True)
class KeyLife:
    """When a key was made and when it ends, as its owner has signed it: seconds since 1970, 0 for no end."""

    created: int
    expires: int


def verify(about: str, payload: bytes, armor: bytes, signers: Sequence[Signer]) -> Signature | Finding:
    """Who of `signers` made the signature, or why it does not count.

    Raises ReleaseError where gpg is not there, or a key file does not hold the key that the table says.
    """
    try:
        packet = bounded.signature(armor)
    except Unfit as error:
        return Finding(about, f"its signature {error}")
    with _home(signers) as run:
        text, signature = run.folder / "text", run.folder / "text.sig"
        text.write_bytes(payload)
        signature.write_bytes(packet)  # and not the armor, in which gpg might find something else
        status = run("--status-fd", "1", "--verify", str(signature), str(text)).stdout
        return judged(about, status, lives(run("--with-colons", "--list-keys").stdout))


def judged(about: str, status: str, keys: Mapping[str, KeyLife]) -> Signature | Finding:
    """The same, from what gpg said. A key's end is compared with the signature's date: gpg compares it with today."""
    said: dict[str, list[list[str]]] = {}
    for line in status.splitlines():
        if line.startswith("[GNUPG:] "):
            word, *rest = line.removeprefix("[GNUPG:] ").split(" ")
            said.setdefault(word, []).append(rest)
    for word, text in _REFUSALS.items():
        if word in said:
            return Finding(about, text)
    valid = said.get("VALIDSIG", [])
    if len(valid) != 1 or len(valid[0]) < 10 or len(said.get("NEWSIG", [])) != 1:
        found = ", ".join(said) or "nothing"
        return Finding(
            about, f"its signature is not one that counts (gpg says {found}); expected one, with SHA-256 or better"
        )
    key, made, primary = valid[0][0], int(valid[0][2]), valid[0][9]
    for fingerprint in (primary, key):
        life = keys.get(fingerprint)
        if life is None:
            return Finding(about, f"signed by {fingerprint}, which is not on the keyring")
        if life.expires and made >= life.expires:
            return Finding(about, f"signed on {moment(made)} with a key that had expired on {moment(life.expires)}")
        if made < life.created:
            return Finding(about, f"signed on {moment(made)} with a key made only on {moment(life.created)}")
    return Signature(primary, key, made)


def lives(listing: str) -> dict[str, KeyLife]:
    """Fingerprint to life, from gpg's list with colons (its doc/DETAILS): rows `pub` and `sub`, then `fpr` for each."""
    found: dict[str, KeyLife] = {}
    life: KeyLife | None = None
    for line in listing.splitlines():
        row = line.split(":")
        if row[0] in ("pub", "sub"):
            life = KeyLife(int(row[5] or 0), int(row[6] or 0))
        elif row[0] == "fpr" and life is not None:
            found[row[9]], life = life, None
    return found


@dataclass(frozen=True, slots=True)
class _Gpg:
    program: str
    folder: Path

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {"GNUPGHOME": str(self.folder), "PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}
        command = [self.program, *_OPTIONS, *arguments]
        try:
            return subprocess.run(
                command, env=environment, capture_output=True, text=True, errors="replace", timeout=_LONGEST
            )
        except subprocess.TimeoutExpired:
            raise ReleaseError(f"gpg has not answered within {_LONGEST} s, so the signature was not checked") from None


@contextmanager
def _home(signers: Sequence[Signer]) -> Iterator[_Gpg]:
    program = shutil.which("gpg")
    if program is None:
        raise ReleaseError(
            "gpg is not installed, so the tag's signature was not checked; install GnuPG (Debian: apt-get install gpg)"
        )
    with tempfile.TemporaryDirectory(prefix="gpg-") as name:
        run = _Gpg(program, Path(name))
        for signer in signers:
            before = set(lives(run("--with-colons", "--list-keys").stdout))
            done = run("--import", str(signer.file))
            listing = run("--with-colons", "--list-keys").stdout
            primaries = set(re.findall(r"^pub:.*\n(?:(?!fpr:).*\n)*fpr:+([0-9A-F]+):", listing, re.MULTILINE))
            new = primaries - before
            if new != {signer.fingerprint}:
                found = ", ".join(sorted(new)) or done.stderr.strip() or "none"
                raise ReleaseError(f"{signer.file}: expected the public key {signer.fingerprint} alone, found {found}")
        yield run
