"""`ai-memory verify-release`: what was changed, added, taken away, or vouched for by a stranger is found, by name."""

import json
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from commands import run
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from releases import ROOT, Maker, artefacts, findings, flipped, maker, put
from signing import DAY, Entry, builder_entry, gpg, keyring, private

from node.release import bounded, contents, dsse, folder, openpgp, provenance, tag, verification
from node.release import keys as keyrings
from node.release.errors import ReleaseError
from node.release.folder import MANIFEST, PROVENANCE, SIGNATURE, SUMS, Names, sums
from node.release.keys import Keyring, Span
from node.release.sbom import bill

NAMES = Names("0.1.0")
WHEEL, SDIST, SBOM = NAMES.artefacts
VOUCHING = (SUMS, SIGNATURE, NAMES.tag, NAMES.commit)
"""Files without which nobody says whose the others are."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Maker]:
    key = Ed25519PrivateKey.generate()
    with gpg() as home:
        yield maker(tmp_path_factory.mktemp("maker"), home, private(key), key)


def resigned(made: Maker, files: dict[str, bytes]) -> dict[str, bytes]:
    """By somebody who has the builder's key: digests and their signature are made anew, only the inside can tell."""
    files = {name: data for name, data in files.items() if name not in (SUMS, SIGNATURE)}
    listed = sums(files)
    return {**files, SUMS: listed, SIGNATURE: made.key.sign(listed)}


def test_a_release_verifies(made: Maker, tmp_path: Path) -> None:
    """Text and JSON, exit code 0; and made again it is the same bytes."""
    release = put(tmp_path / "release", made.files())
    done = run("verify-release", str(release), "--keys", str(made.keys))
    assert done.code == 0 and "verified    tag, digests, SBOM and provenance" in done.out, done
    told = run("verify-release", str(release), "--keys", str(made.keys), "--json").json
    assert told["verified"] and told["signer"]["fingerprint"] == made.signer and told["findings"] == []
    assert made.files() == made.files()
    assert set(made.files()) == NAMES.all


@pytest.mark.parametrize("name", sorted(NAMES.all))
def test_one_bit_flipped_in_a_file_names_that_file(name: str, made: Maker, tmp_path: Path) -> None:
    """At the first byte, the last, and two in between; and no other file is blamed."""
    files, bits = made.files(), random.Random(name)  # an altered list of digests and its signature are blamed together
    pair = {SUMS, SIGNATURE} if name in (SUMS, SIGNATURE) else {name}
    last = len(files[name]) * 8 - 1
    for place in (0, bits.randrange(last), bits.randrange(last), last):
        release = put(tmp_path / "release", files | {name: flipped(files[name], place)})
        done = run("verify-release", str(release), "--keys", str(made.keys), "--json")
        assert done.code == 1 and not done.json["verified"]
        assert {one["file"] for one in done.json["findings"]} == pair, (place, done.json)


@pytest.mark.parametrize("name", sorted(NAMES.all))
def test_a_file_that_is_missing_is_named(
    name: str, made: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Control: without the look at the names, nobody misses it; what vouches for the rest is missed all the same."""
    files = made.files()
    del files[name]
    release = put(tmp_path / "r", files)
    assert [one.about for one in findings(release, made.keyring)] == [name]
    monkeypatch.setattr(verification, "complete", lambda *a: [])
    left = [one.text for one in findings(release, made.keyring)]
    assert left == (["or the tag is missing: nobody vouches for this release"] if name in VOUCHING else [])


def test_what_was_added_is_named(made: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file, a folder, and a link in the place of a file. Control: each goes unseen without its look."""
    release = put(tmp_path / "r", made.files() | {"extra.whl": b"x"})
    (release / WHEEL).rename(tmp_path / "elsewhere")
    (release / WHEEL).symlink_to(tmp_path / "elsewhere")
    (release / "more").mkdir()
    assert {one.about for one in findings(release, made.keyring)} == {"extra.whl", "more", WHEEL}
    (release / "more").rmdir()
    monkeypatch.setattr(bounded, "is_plain", Path.is_file)
    assert {one.about for one in findings(release, made.keyring)} == {"extra.whl"}
    monkeypatch.setattr(verification, "complete", lambda *a: [])
    assert not findings(release, made.keyring)


# --- what whoever has one of the keys can do, and what still tells; each with the guard that tells it


def another_wheel(made: Maker, files: dict[str, bytes]) -> dict[str, bytes]:
    return files | {WHEEL: files[WHEEL] + b"more"}


def another_sbom(made: Maker, files: dict[str, bytes]) -> dict[str, bytes]:
    """All is signed by the builder, but the SBOM is not what the wheel holds."""
    other = json.dumps(json.loads(files[SBOM]), indent=2).encode()
    listed = {**{name: files[name] for name in NAMES.artefacts}, SBOM: other}
    payload = json.loads(dsse.unseal("x", files[SBOM + PROVENANCE], made.keyring)[0])  # type: ignore[index]  # no finding: it was sealed here
    payload["subject"][0]["digest"]["sha256"] = contents.digests({SBOM: other})[SBOM]
    sealed = dsse.seal(json.dumps(payload).encode(), made.key)
    origin = verification.verify(put(made.keys.parent / "r", files), made.keyring).origin
    assert origin is not None
    return files | {
        SBOM: other, SBOM + PROVENANCE: sealed, MANIFEST: folder.manifest(origin, made.keyring.builders[0].id, listed)
    }  # fmt: skip


def provenance_of_another(made: Maker, files: dict[str, bytes]) -> dict[str, bytes]:
    return files | {WHEEL + PROVENANCE: files[SDIST + PROVENANCE]}


def another_commit(made: Maker, files: dict[str, bytes]) -> dict[str, bytes]:
    payload = dsse.unseal("x", files[WHEEL + PROVENANCE], made.keyring)[0]  # type: ignore[index]  # no finding: it was sealed here
    changed = payload.replace(made.verified.tag.target.encode(), b"0" * 40)
    return files | {WHEEL + PROVENANCE: dsse.seal(changed, made.key)}


def another_lock(made: Maker, files: dict[str, bytes]) -> dict[str, bytes]:
    payload = json.loads(dsse.unseal("x", files[WHEEL + PROVENANCE], made.keyring)[0])  # type: ignore[index]  # no finding: it was sealed here
    payload["predicate"]["buildDefinition"]["resolvedDependencies"][1]["digest"]["sha256"] = "0" * 64
    return files | {WHEEL + PROVENANCE: dsse.seal(json.dumps(payload).encode(), made.key)}


def strange_provenance(made: Maker, files: dict[str, bytes]) -> dict[str, bytes]:
    payload = dsse.unseal("x", files[WHEEL + PROVENANCE], made.keyring)[0]  # type: ignore[index]  # no finding: it was sealed here
    envelope = json.loads(dsse.seal(payload, Ed25519PrivateKey.generate()))
    envelope["signatures"][0]["keyid"] = made.keyring.builders[0].keyid
    return files | {WHEEL + PROVENANCE: json.dumps(envelope).encode()}


def another_manifest(made: Maker, files: dict[str, bytes]) -> dict[str, bytes]:
    return files | {MANIFEST: files[MANIFEST].replace(b'"version": "0.1.0"', b'"version": "0.1.1"')}


def another_tag_text(made: Maker, files: dict[str, bytes]) -> dict[str, bytes]:
    return files | {NAMES.tag: files[NAMES.tag].replace(b"A release", b"Some other")}


def a_commit_that_is_not_the_tags(made: Maker, files: dict[str, bytes]) -> dict[str, bytes]:
    return files | {NAMES.commit: files[NAMES.commit] + b"more"}


class Equal:
    """What is the same as everything."""

    __hash__ = None  # type: ignore[assignment]  # a mutable class says so in this way

    def __eq__(self, other: object) -> bool:
        return True


def forgiving(about: str, payload: bytes, armor: bytes, signers: Any) -> openpgp.Signature:
    """Every signature is genuine, made by the first on the keyring at the tag's time."""
    when = int(payload.split(b"\ntagger ")[1].split(b"\n")[0].split()[-2])
    return openpgp.Signature(signers[0].fingerprint, signers[0].fingerprint, when)


Remove = tuple[Any, str, Any]
ATTACKS: dict[str, tuple[Callable[[Maker, dict[str, bytes]], dict[str, bytes]], str, str, Remove]] = {
    "another wheel": (another_wheel, WHEEL, "is not what was built", (provenance, "judged", lambda *a: [])),
    "another SBOM": (another_sbom, SBOM, "is not the SBOM that the wheel", (contents, "sbom_faults", lambda *a: [])),
    "the provenance of another": (
        provenance_of_another, WHEEL + PROVENANCE, "says subject", (provenance, "judged", lambda *a: []),
    ),
    "another commit": (another_commit, WHEEL + PROVENANCE, "says commit", (provenance, "judged", lambda *a: [])),
    "another lock": (another_lock, WHEEL + PROVENANCE, "says build.lock", (contents, "digests", lambda files: {})),
    "a stranger's provenance": (
        strange_provenance, WHEEL + PROVENANCE, "its signature is not that of", (dsse, "genuine", lambda *a: True),
    ),
    "another manifest": (
        another_manifest, MANIFEST, "does not say what", (verification, "manifest", lambda *a: Equal()),
    ),
    "another text of the tag": (
        another_tag_text, NAMES.tag, "does not belong to its text", (openpgp, "verify", forgiving),
    ),
    "another commit's text": (
        a_commit_that_is_not_the_tags, NAMES.commit, "is not the commit",
        (tag, "object_id", lambda kind, body, like: like),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", ATTACKS)
def test_what_a_stolen_builders_key_cannot_hide(
    case: str, made: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All digests and their signature are right. Control: without the one look, nothing is found."""
    change, name, words, guard = ATTACKS[case]
    release = put(tmp_path / "r", resigned(made, change(made, made.files())))
    found = findings(release, made.keyring)
    assert any(one.about == name and words in one.text for one in found), found
    monkeypatch.setattr(*guard)
    assert not any(words in one.text for one in findings(release, made.keyring))


def test_without_the_look_at_signatures_one_flipped_bit_stays_unseen(
    made: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Control of the flipped bits: in the signature of the digests, if any signature were genuine."""
    files = made.files()
    release = put(tmp_path / "r", files | {SIGNATURE: flipped(files[SIGNATURE], 7)})
    assert findings(release, made.keyring)
    monkeypatch.setattr(dsse, "genuine", lambda *a: True)
    assert not findings(release, made.keyring)


def test_a_lock_that_the_sbom_does_not_fit_is_told(made: Maker, tmp_path: Path) -> None:
    """A package left out, and one with another digest; both builds are whole and signed."""
    bom = json.loads(bill(ROOT))
    gone = next(one for one in bom["components"] if one["name"] == "aiohttp")
    bom["components"].remove(gone)
    next(one for one in bom["components"] if one["name"] == "click")["hashes"][0]["content"] = "0" * 64
    built = artefacts(tmp_path / "built", json.dumps(bom).encode())
    found = findings(put(tmp_path / "r", made.files(built)), made.keyring)
    assert {one.about for one in found} == {SBOM}
    assert any("lists aiohttp not" in one.text for one in found) and any("click" in one.text for one in found)


def test_artefacts_of_another_version_are_told(made: Maker, tmp_path: Path) -> None:
    """Whole, signed, and not what their names say."""
    built = artefacts(tmp_path / "built", bill(ROOT), b"Metadata-Version: 2.4\nName: ai-memory\nVersion: 0.0.9\n\n")
    with pytest.raises(ReleaseError, match=r"is ai-memory 0\.0\.9, expected ai-memory 0\.1\.0"):
        made.files(built)


@pytest.mark.parametrize("who", ["signer", "builder", "revoked", "too late", "moved"])
def test_whom_the_keyring_does_not_believe_is_not_believed(
    who: str, made: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same release under other keyrings. Control: under its own it verifies, and without the look too."""
    signer, key = Entry(made.signer, made.gpg.public(made.signer)), made.key
    stranger = made.gpg.new_key(f"Stranger {who}")
    other = {
        "signer": lambda: keyring(tmp_path / "k", Entry(stranger, made.gpg.public(stranger)), builder=key),
        "builder": lambda: keyring(tmp_path / "k", signer, builder=Ed25519PrivateKey.generate()),
        "revoked": lambda: keyring(tmp_path / "k", signer, builder=builder_entry(key, revoked="stolen")),
        "too late": lambda: keyring(tmp_path / "k", signer, builder=builder_entry(key, valid_until=-DAY // 2)),
        "moved": lambda: keyring(tmp_path / "k", signer, builder=key, released=f"0.1.0 {'0' * 40} {'1' * 40}\n"),
    }[who]()
    release = put(tmp_path / "r", made.files())
    ring = keyrings.load(other)
    assert findings(release, ring)
    assert not findings(release, made.keyring)
    look: dict[str, Remove] = {
        "signer": (openpgp, "verify", forgiving),
        "builder": (dsse, "genuine", lambda *a: True),
        "revoked": (Span, "fault", lambda *a: None),
        "too late": (Span, "fault", lambda *a: None),
        "moved": (tag, "unmoved", lambda *a: []),
    }
    monkeypatch.setattr(*look[who])
    if who == "builder":  # the envelopes name their key: two looks, and either would do
        assert findings(release, ring)
        monkeypatch.setattr(Keyring, "builder", lambda self, key_id: self.builders[0])
    assert not findings(release, ring)


# --- what cannot be checked has not passed


def test_without_gpg_it_is_an_error_and_no_pass(made: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    release = put(tmp_path / "r", made.files())
    monkeypatch.setattr(openpgp.shutil, "which", lambda *a, **k: None)
    done = run("verify-release", str(release), "--keys", str(made.keys), "--json")
    assert done.code == 2 and done.error["code"] == "not_verified" and "gpg is not installed" in done.error["error"]


def test_a_keyring_without_one_of_its_parts_verifies_nothing(made: Maker, tmp_path: Path) -> None:
    """No signer, no builder, no repository: an error each. Control: with all three it verifies."""
    release = put(tmp_path / "r", made.files())
    whole = made.keyring
    assert not findings(release, whole)
    for part in ({"signers": ()}, {"builders": ()}, {"repository": ""}):
        with pytest.raises(ReleaseError, match="nothing can be verified with it"):
            verification.verify(release, replace(whole, **part))  # type: ignore[arg-type]  # one field of three types


def test_the_keyring_as_shipped_verifies_nothing_yet(made: Maker, tmp_path: Path) -> None:
    """It names nobody; a folder that is no release is a finding, one that is not there an error."""
    release = put(tmp_path / "r", made.files())
    done = run("verify-release", str(release))
    assert done.code == 2 and "nothing can be verified with it" in done.err
    assert [one.about for one in findings(put(tmp_path / "empty", {}), made.keyring)] == ["release"]
    assert run("verify-release", str(tmp_path / "none"), "--keys", str(made.keys)).code == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("repository = 1", "expected, found"),
        ("[signer]\nowner = 'x'", "is one table"),
        ("[[signer]]\nowner = 'x'", "expected (and revoked), found owner"),
        (
            "[[builder]]\nid = 'x'\nfile = '../x'\nvalid_from = 2026-01-01T00:00:00Z\nvalid_until = 2027-01-01T00:00:00Z",  # noqa: E501
            "name of a file in this folder",
        ),
        (
            "[[builder]]\nid = 'x'\nfile = 'x'\nvalid_from = 2026-01-01T00:00:00\nvalid_until = 2027-01-01T00:00:00Z",
            "no time zone",
        ),
        (
            "[[builder]]\nid = 'x'\nfile = 'x'\nvalid_from = 2027-01-01T00:00:00Z\nvalid_until = 2026-01-01T00:00:00Z",
            "not after",
        ),
        ("]", "keys.toml"),
    ],
)
def test_a_wrong_table_is_refused_whole(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "keys.toml").write_text(text)
    with pytest.raises(ReleaseError) as error:
        keyrings.load(tmp_path)
    assert words in str(error.value)


def test_a_span_ends_where_it_says() -> None:
    now = int(time.time())
    span = Span(now, now + 1, "")
    assert [span.fault(when) is None for when in (now - 1, now, now + 1)] == [False, True, False]
