"""A release from a stranger costs little: nothing is unpacked before it is vouched for, and then within bounds."""

import base64
import gzip
import io
import json
import os
import struct
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from releases import Maker, findings, maker, put
from signing import gpg, private

from node.release import bounded, contents, dsse, openpgp, tag, unpacked
from node.release.errors import Finding, Unfit, shown
from node.release.folder import PROVENANCE, SIGNATURE, SUMS, Names, sums
from node.release.keys import Span

NAMES = Names("0.1.0")
WHEEL, SDIST, SBOM = NAMES.artefacts
TOP = "ai_memory-0.1.0"
MIB = 1 << 20
EVERY = 1 << 40


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Maker]:
    key = Ed25519PrivateKey.generate()
    with gpg() as home:
        yield maker(tmp_path_factory.mktemp("maker"), home, private(key), key)


def signed(files: dict[str, bytes], key: Ed25519PrivateKey) -> dict[str, bytes]:
    """The files with a list of digests that this key has signed."""
    listed = sums({name: data for name, data in files.items() if name not in (SUMS, SIGNATURE)})
    return files | {SUMS: listed, SIGNATURE: key.sign(listed)}


def packed(*members: tuple[tarfile.TarInfo, bytes], after: bytes = b"") -> bytes:
    """An sdist of just these headers, each with what follows it, in blocks of 512 bytes."""
    blocks = [info.tobuf(tarfile.USTAR_FORMAT) + data + bytes(-len(data) % 512) for info, data in members]
    return gzip.compress(b"".join(blocks) + bytes(1024) + after, 1, mtime=0)


def header(name: str = f"{TOP}/x", size: int = 0, kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info


def extended(*records: bytes) -> tuple[tarfile.TarInfo, bytes]:
    """A pax header of records such as `b"path=x"`."""
    text = b""
    for record in records:
        size = len(record) + 2
        while len(b"%d %b\n" % (size, record)) != size:
            size += 1
        text += b"%d %b\n" % (size, record)
    return header("pax", len(text), tarfile.XHDTYPE), text


def zipped(*members: tuple[str, bytes], how: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", how) as archive:
        for name, data in members:
            archive.writestr(zipfile.ZipInfo(name), data, how)
    return file.getvalue()


def bomb(size: int) -> bytes:
    return packed((header(f"{TOP}/PKG-INFO", size), bytes(size)))


# --- nothing before it is vouched for


def test_a_strangers_archives_are_not_unpacked(made: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All is signed, by a key of nobody's. Control: if any key were a builder's, they would be."""

    def opened(*a: Any) -> Any:
        raise AssertionError("it was unpacked")

    files = signed(made.files() | {SDIST: bomb(MIB), WHEEL: zipped(("x", bytes(MIB)))}, Ed25519PrivateKey.generate())
    release = put(tmp_path / "r", files)
    monkeypatch.setattr(unpacked, "sdist", opened)
    monkeypatch.setattr(unpacked, "wheel", opened)
    assert {one.about for one in findings(release, made.keyring)} == {SUMS, SIGNATURE}
    monkeypatch.setattr(dsse, "genuine", lambda *a: True)
    with pytest.raises(AssertionError, match="it was unpacked"):
        findings(release, made.keyring)


def test_what_is_not_what_the_list_says_is_not_unpacked(
    made: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bomb in the place of an artefact, whose digest nobody signed. Control: with that digest it would be."""
    release = put(tmp_path / "r", made.files() | {SDIST: bomb(MIB)})
    asked: list[int] = []
    monkeypatch.setattr(unpacked, "sdist", lambda data, wanted: asked.append(len(data)) or {})
    assert [one.about for one in findings(release, made.keyring)] == [SDIST] and not asked
    put(release, signed(made.files() | {SDIST: bomb(MIB)}, made.key))
    assert findings(release, made.keyring) and asked


def test_a_release_signed_with_an_ended_key_is_not_unpacked(
    made: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor one whose tag somebody else signed. Control: both are, with the look taken away."""
    asked: list[int] = []
    monkeypatch.setattr(unpacked, "sdist", lambda data, wanted: asked.append(len(data)) or {})
    monkeypatch.setattr(Span, "fault", lambda self, when: "which has ended")
    release = put(tmp_path / "r", made.files())
    assert findings(release, made.keyring) and not asked
    monkeypatch.undo()
    monkeypatch.setattr(unpacked, "sdist", lambda data, wanted: asked.append(len(data)) or {})
    assert findings(release, made.keyring) and asked


def test_a_bomb_of_whoever_stole_the_builders_key_costs_what_is_allowed(
    made: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """128 MiB in 600 KB, properly signed. Control: without the two bounds it is all in memory."""
    release = put(tmp_path / "r", signed(made.files() | {SDIST: bomb(128 * MIB)}, made.key))

    def peak() -> tuple[int, tuple[Finding, ...]]:
        tracemalloc.start()
        try:
            found = findings(release, made.keyring)
            return tracemalloc.get_traced_memory()[1], found
        finally:
            tracemalloc.stop()

    cost, found = peak()
    assert cost < 24 * MIB and any(one.about == SDIST and "has more than" in one.text for one in found), (cost, found)
    monkeypatch.setattr(unpacked, "MAX_UNPACKED", EVERY)
    monkeypatch.setattr(contents, "MAX_METADATA", EVERY)
    assert peak()[0] > 128 * MIB


# --- the sdist, the wheel: (bytes, words of the refusal, the bound that refuses it, what lifts that)

Lift = tuple[Any, str, Any]
SDISTS: dict[str, tuple[Callable[[], bytes], str, Lift | None]] = {
    "unpacks to too much": (lambda: bomb(65 * MIB), "unpacks to more than", (unpacked, "MAX_UNPACKED", EVERY)),
    "too many members": (
        lambda: packed(*((header(f"{TOP}/{n}"), b"") for n in range(unpacked.MAX_MEMBERS + 1))),
        "more than 10000 members", (unpacked, "MAX_MEMBERS", EVERY),
    ),
    "a huge pax header": (
        lambda: packed(extended(*[b"mtime=%d" % n for n in range(10**6, 10**6 + 400)]), (header(), b"")),
        "pax header of 6800 bytes", (unpacked, "MAX_PAX", EVERY),
    ),
    "a pax header that overrules a size": (
        lambda: packed(extended(b"size=3"), (header(), b"")), "pax header with b'size'",
        (unpacked, "_PAX_KEYS", frozenset((b"size",))),
    ),
    "a sparse map in a pax header": (
        lambda: packed(extended(b"GNU.sparse.major=1", b"GNU.sparse.minor=0"), (header(), b"")), "GNU.sparse",
        (unpacked, "_PAX_KEYS", frozenset((b"GNU.sparse.major", b"GNU.sparse.minor"))),
    ),
    "a path that leaves by a pax header": (
        lambda: packed(extended(b"path=../x"), (header(), b"")), "'../x'", (unpacked, "_name_fault", lambda name: None),
    ),
    "a path that leaves": (
        lambda: packed((header(f"{TOP}/../../x"), b"")), "below the archive's own top",
        (unpacked, "_name_fault", lambda name: None),
    ),
    "an absolute path": (
        lambda: packed((header("/etc/x"), b"")), "below the archive's own top",
        (unpacked, "_name_fault", lambda name: None),
    ),
    "a name twice": (
        lambda: packed((header(f"{TOP}/Straße"), b""), (header(f"{TOP}/STRASSE"), b"")), "two members are called",
        (unpacked, "unicodedata", type("Nothing", (), {"normalize": lambda form, name: os.urandom(9).hex()})),
    ),
    "a pax header of another form": (
        lambda: packed((header("pax", 9, tarfile.XHDTYPE), b"99 path=x"), (header(), b"")), "of another form", None,
    ),
    "two pax headers in a row": (
        lambda: packed(extended(b"path=x"), extended(b"path=y"), (header(), b"")), "kind b'x'", None,
    ),
    "a folder with content": (lambda: packed((header(size=3, kind=tarfile.DIRTYPE), b"abc")), "has content", None),
    "cut short": (lambda: gzip.compress(header(size=9_999).tobuf() + bytes(512)), "cut short", None),
    "more after the end": (lambda: packed((header(), b""), after=b"more"), "after the end", None),
    "a second gzip member": (lambda: packed((header(), b"")) + gzip.compress(b""), "one gzip member", None),
    "more after gzip": (lambda: packed((header(), b"")) + b"more", "one gzip member", None),
    **{
        f"of the kind {kind!r}": (
            (lambda kind=kind: packed((header(kind=kind), b""))), "expected a file or a folder", None  # type: ignore[misc]  # bound now, not in the end
        )
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE,
                     tarfile.CONTTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.GNUTYPE_SPARSE,
                     tarfile.XGLTYPE)
    },
}  # fmt: skip


def altered(data: bytes, at: int, form: str, value: int) -> bytes:
    """With a field of the last record of a ZIP archive changed; `at` counts from the record's start."""
    changed = bytearray(data)
    struct.pack_into(form, changed, len(data) - 22 + at, value)
    return bytes(changed)


def overlapping() -> bytes:
    """Two entries of the directory for one member: the trick by which 42 KB become petabytes."""
    whole = zipped(("a", bytes(MIB)))
    start = struct.unpack_from("<L", whole, len(whole) - 6)[0]
    entry = whole[start:-22]
    made = whole[:start] + entry + entry.replace(b"a", b"b") + whole[-22:]
    made = altered(altered(made, 8, "<H", 2), 10, "<H", 2)
    return altered(made, 12, "<L", 2 * len(entry))


def directory(data: bytes, at: int, form: str, value: int) -> bytes:
    """With a field of the first entry of the directory changed."""
    changed = bytearray(data)
    struct.pack_into(form, changed, struct.unpack_from("<L", data, len(data) - 6)[0] + at, value)
    return bytes(changed)


WHEELS: dict[str, tuple[Callable[[], bytes], str, Lift | None]] = {
    "unpacks to too much": (
        lambda: zipped(("a", bytes(33 * MIB)), ("b", bytes(33 * MIB))), "unpacks to more than",
        (unpacked, "MAX_UNPACKED", EVERY),
    ),
    "too many members": (
        lambda: zipped(*((str(n), b"") for n in range(unpacked.MAX_MEMBERS + 1))), "10001 members",
        (unpacked, "MAX_MEMBERS", EVERY),
    ),
    "entries over each other": (
        overlapping, "does not begin where", (unpacked, "_checked_entries", lambda *a: None),
    ),
    "a path that leaves": (
        lambda: zipped(("../x", b"")), "below the archive's own top", (unpacked, "_name_fault", lambda name: None),
    ),
    "a folder": (
        lambda: zipped(("x/", b"")), "below the archive's own top", (unpacked, "_name_fault", lambda name: None),
    ),
    "a link": (
        lambda: directory(zipped(("x", b"")), 38, "<L", 0o120777 << 16), "no plain file",
        (unpacked, "_checked_entries", lambda *a: None),
    ),
    "another compression": (
        lambda: zipped(("x", bytes(MIB)), how=zipfile.ZIP_BZIP2), "packed in another way",
        (unpacked, "_METHODS", (zipfile.ZIP_BZIP2,)),
    ),
    "another size in the directory": (
        lambda: directory(zipped(("x", b"abc")), 24, "<L", 2), "is not what the directory says", None,
    ),
    "something before the first member": (lambda: b"#!" + zipped(("x", b"")), "between its directory and", None),
    "a comment": (lambda: altered(zipped(("x", b"")), 20, "<H", 4) + b"more", "does not end as", None),
    "fewer members than it says": (
        lambda: altered(zipped(("x", b"")), 10, "<H", 3), "says that there are 3", None,
    ),
    "too short": (lambda: b"PK", "too short", None),
}  # fmt: skip


@pytest.mark.parametrize("case", SDISTS)
def test_an_sdist_that_is_not_as_ours_is_refused(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: one of ours is taken, and the odd one is not refused for that where its bound is lifted."""
    refused(unpacked.sdist, *SDISTS[case], monkeypatch)
    assert unpacked.sdist(packed((header(size=3), b"abc")), lambda name: 3) == {f"{TOP}/x": b"abc"}
    assert unpacked.sdist(packed(extended(b"path=long"), (header(size=1), b"a")), lambda name: 3) == {"long": b"a"}


@pytest.mark.parametrize("case", WHEELS)
def test_a_wheel_that_is_not_as_ours_is_refused(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: one of ours is taken, and the odd one is not refused for that where its bound is lifted."""
    refused(unpacked.wheel, *WHEELS[case], monkeypatch)
    assert unpacked.wheel(zipped(("x", b"abc")), lambda name: 3) == {"x": b"abc"}


def refused(
    reader: Any, made: Callable[[], bytes], words: str, lift: Lift | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = made()
    with pytest.raises(Unfit) as error:
        reader(data, lambda name: 0)
    assert words in str(error.value)
    if lift is not None:
        monkeypatch.setattr(*lift)
        try:
            reader(data, lambda name: 0)
        except (Unfit, zipfile.BadZipFile) as other:
            assert words not in str(other), other
        monkeypatch.undo()


def test_an_archive_inside_an_archive_stays_packed() -> None:
    """Whatever it would unpack to."""
    inner = bomb(32 * MIB)
    assert unpacked.wheel(zipped(("x.tar.gz", inner)), lambda name: MIB) == {"x.tar.gz": inner}


# --- files, JSON, signatures, texts


def test_a_file_that_is_too_long_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its size, and where it grows under the reader. Control: with room for it, it is."""
    path = tmp_path / "x"
    path.write_bytes(bytes(11))
    for read in (bounded.digest, bounded.data):
        with pytest.raises(Unfit, match="11 bytes, expected at most 10"):
            read(path, 10)
        assert read(path, 11)
    monkeypatch.setattr(bounded.os, "fstat", lambda fd: type("Small", (), {"st_mode": 0o100600, "st_size": 1}))
    with pytest.raises(Unfit, match="more than 10 bytes"):
        bounded.data(path, 10)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x")
    with pytest.raises(Unfit, match="no plain file"):
        bounded.data(tmp_path / "x", 10)


def test_a_file_that_is_exchanged_while_it_is_verified_is_told(
    made: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After its digest was found right. Control: unless it is looked at again, it is believed."""
    release = put(tmp_path / "r", made.files())
    real = bounded.digest
    other = json.dumps(json.loads(made.files()[SBOM]), indent=3).encode()

    def exchanged(path: Path, limit: int) -> str:
        found = real(path, limit)
        if path.name == SBOM:
            path.write_bytes(other)
        return found

    monkeypatch.setattr(bounded, "digest", exchanged)
    assert [(one.about, one.text) for one in findings(release, made.keyring)] == [
        (SBOM, "was changed while it was verified")
    ]
    put(release, made.files())
    data = bounded.data
    monkeypatch.setattr(bounded, "data", lambda path, limit, sha256=None: data(path, limit))
    assert not any("while" in one.text for one in findings(release, made.keyring))


def test_a_folder_of_many_files_is_not_looked_through(made: Maker, tmp_path: Path) -> None:
    """Control: with one less it is, and each is named."""
    release = put(tmp_path / "r", made.files() | {f"x{n}": b"" for n in range(65 - len(NAMES.all))})
    assert next(one.text for one in findings(release, made.keyring)).startswith("holds more than 64 files")
    (release / "x0").unlink()
    assert not any("more than 64 files" in one.text for one in findings(release, made.keyring))


def test_a_report_is_short_and_shows_no_control_character(made: Maker, tmp_path: Path) -> None:
    """However many findings there are, and whatever the files are called."""
    release = put(tmp_path / "r", made.files() | {f"\x1b]0;{n}\x07": b"" for n in range(52)})
    found = findings(release, made.keyring)
    assert len(found) == 51 and found[-1].text == "2 more findings"
    assert all(str(one).isprintable() for one in found)
    assert "\x1b" not in shown("\x1b[2J") and len(shown("x" * 10_000)) < 500


JSON: dict[str, tuple[bytes, Lift]] = {
    "deep": (b"[" * 40 + b"]" * 40, (bounded, "_TOKEN", bounded.re.compile(rb"\Z"))),
    "deep in a string's shadow": (b'["\\"",' + b"[" * 40 + b"]" * 41, (bounded, "_TOKEN", bounded.re.compile(rb"\Z"))),
    "many values": (b"[" + b"1," * 200_000 + b"1]", (bounded, "_TOKEN", bounded.re.compile(rb"\Z"))),
    "many empty lists": (b"[" + b"[]," * 100_000 + b"1]", (bounded, "_TOKEN", bounded.re.compile(rb"\Z"))),
}


@pytest.mark.parametrize("case", JSON)
def test_json_that_costs_too_much_is_not_parsed(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: without the count it is."""
    text, lift = JSON[case]
    with pytest.raises(Unfit, match="more than"):
        bounded.parsed(text)
    monkeypatch.setattr(*lift)
    assert bounded.parsed(text)


def test_json_in_another_encoding_is_refused() -> None:
    """In which the count would be another. Brackets in strings are none, whatever they look like."""
    with pytest.raises(ValueError):
        bounded.parsed(json.dumps(["∀"], ensure_ascii=False).encode("utf-16"))
    assert bounded.parsed(json.dumps({"[" * 99: ["\\", '"' + "{" * 99]}).encode())


def test_json_that_is_only_quotes_is_read_once() -> None:
    """A scan that began anew at each would take hours for this: the time limit of all tests is the check."""
    with pytest.raises(ValueError):
        bounded.parsed(b'"' + b'\\"' * MIB)


def armored(packet: bytes) -> bytes:
    lines = base64.encodebytes(packet)
    return b"-----BEGIN PGP SIGNATURE-----\n\n" + lines + b"=AAAA\n-----END PGP SIGNATURE-----\n"


@pytest.mark.parametrize(
    ("packet", "words"),
    [
        (b"\xc8\x03abc", "kind 8"),  # compressed data
        (b"\xa3abc", "unknown length"),  # the same, as long as the file is, in the older form
        (b"\xc2\xef" + b"a" * 99, "unknown length"),  # a part of a signature of unknown length
        (b"\xc2\x03abcd", "no more"),
        (b"\xc2\xff\xff\xff\xff\xffabc", "no more"),
        (b"\xc2\x03abc\xc2\x03abc", "no more"),
        (b"\x02\x03abc", "no OpenPGP packet"),
        (b"\xc2\xff" + (20_000).to_bytes(4, "big") + b"a" * 20_000, "no more"),
        (b"\xc2\xff" + (40_000).to_bytes(4, "big") + b"a" * 40_000, "longer than"),
    ],
)
def test_what_is_no_single_signature_never_reaches_gpg(
    packet: bytes, words: str, made: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Control: a signature does, and so would this without the look."""
    reached: list[bytes] = []

    class Reached(Exception):
        pass

    def home(signers: Any) -> Any:
        raise Reached

    monkeypatch.setattr(openpgp, "_home", home)
    found = openpgp.verify("v1", b"text", armored(packet), made.keyring.signers)
    assert isinstance(found, Finding) and words in found.text, found
    with pytest.raises(Reached):
        openpgp.verify("v1", b"text", armored(b"\xc2\x03abc"), made.keyring.signers)
    monkeypatch.setattr(bounded, "signature", lambda armor: reached.append(armor) or armor)
    with pytest.raises(Reached):
        openpgp.verify("v1", b"text", armored(packet), made.keyring.signers)


def test_a_long_tag_is_not_read(made: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: with room for it, it is."""
    body = made.verified.tag_body.replace(b"A release", b"A release" + b"x" * tag.MAX_TEXT, 1)
    found = tag.read("v0.1.0", body)
    assert isinstance(found, Finding) and "expected at most 65536" in found.text
    assert tag.commit_time(made.verified.commit_body + bytes(tag.MAX_TEXT)) is None
    monkeypatch.setattr(tag, "MAX_TEXT", EVERY)
    assert not isinstance(tag.read("v0.1.0", body), Finding)


@pytest.mark.parametrize("name", sorted(NAMES.all))
def test_every_file_has_a_longest_length(name: str, made: Maker, tmp_path: Path) -> None:
    """One byte more is a finding about that file, with the list of digests anew; what a release has is far from it."""
    limit = NAMES.limit(name)
    assert len(made.files()[name]) < limit // 4
    release = put(tmp_path / "r", signed(made.files() | {name: bytes(limit + 1)}, made.key))
    if name in (SUMS, SIGNATURE):
        (release / name).write_bytes(bytes(limit + 1))
    found = findings(release, made.keyring)
    assert any(one.about == name and f"expected at most {limit}" in one.text for one in found), found


@pytest.mark.parametrize("about", [SBOM, SBOM + PROVENANCE])
def test_json_of_a_stolen_key_is_a_finding(about: str, made: Maker, tmp_path: Path) -> None:
    """Deep, and with many values; in the SBOM, in an envelope, and in what the envelope holds."""
    sealed = dsse.seal(b"[" * 50_000, made.key)
    for text in (b"[" * 50_000, b"[" + b"1," * 200_000 + b"1]", sealed):
        found = findings(put(tmp_path / "r", signed(made.files() | {about: text}, made.key)), made.keyring)
        assert any(one.about == about for one in found), found
