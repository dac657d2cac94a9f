"""A mesh whose folders are made in one place: who knows whom, what is kept, and who stays out."""

import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from node import config as configuration
from node import mesh, setup
from node.config import ConfigError
from node.home import Home
from node.mesh import Member
from tls import allowlist
from tls.errors import IdentityError
from tls.fingerprint import Fingerprint

A, B, C = (Member(name, f"https://{name}.mesh:9443") for name in "abc")
STRANGER = Member("stranger", "https://stranger.mesh:9443", is_stranger=True)
MEMBERS = (A, B, C, STRANGER)


def knows(folder: Path, name: str) -> set[str]:
    """The names that a node calls; each must be pinned to the certificate in that name's folder."""
    peers = configuration.load(Home(folder / name).config).peers
    assert {one.fingerprint for one in peers} == {fingerprint(folder, one.name) for one in peers}
    return {one.name for one in peers}


def lets_in(folder: Path, name: str) -> set[Fingerprint]:
    return set(allowlist.load(folder / name / "allowlist").fingerprints)


def fingerprint(folder: Path, name: str) -> Fingerprint:
    return Fingerprint.of_pem((folder / name / "node.pem").read_bytes())


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def news(folder: Path, members: Sequence[Member] = MEMBERS, **options: Any) -> set[str]:
    return {one.member.name for one in mesh.make(folder, members, **options) if one.is_new}


def test_every_node_knows_every_other_and_nobody_the_stranger(tmp_path: Path) -> None:
    """Calls and lists agree: a, b and c each the other two; the stranger all three, and none of them the stranger."""
    assert news(tmp_path) == {"a", "b", "c", "stranger"}
    for name in "abc":
        others = set("abc") - {name}
        assert knows(tmp_path, name) == others
        assert lets_in(tmp_path, name) == {fingerprint(tmp_path, other) for other in others}
    assert knows(tmp_path, "stranger") == set("abc")


def test_each_has_secrets_of_its_own_and_one_ca(tmp_path: Path) -> None:
    """Key, passphrase and API key differ and are private; the certificates are of one CA, whose key no node has."""
    mesh.make(tmp_path, MEMBERS)
    for secret in ("node.key", "passphrase", "api-key"):
        paths = [tmp_path / one.name / secret for one in MEMBERS]
        assert len({path.read_bytes() for path in paths}) == len(MEMBERS)
        assert {stat.S_IMODE(path.stat().st_mode) for path in paths} == {0o600}
    authority = x509.load_pem_x509_certificate((tmp_path / "ca" / "ca.pem").read_bytes())
    for one in MEMBERS:
        leaf = x509.load_pem_x509_certificate((tmp_path / one.name / "node.pem").read_bytes())
        leaf.verify_directly_issued_by(authority)
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert one.host in names.get_values_for_type(x509.DNSName)
    assert list(tmp_path.rglob("ca.key")) == [tmp_path / "ca" / "ca.key"]


def test_run_again_it_changes_nothing(tmp_path: Path) -> None:
    """It may run at every start of a cluster."""
    mesh.make(tmp_path, MEMBERS)
    before = contents(tmp_path)
    assert news(tmp_path) == set()
    assert contents(tmp_path) == before


def test_whom_an_operator_shut_out_stays_out(tmp_path: Path) -> None:
    """A peer that was removed is not paired again by the next start."""
    mesh.make(tmp_path, MEMBERS)
    setup.remove_peer(Home(tmp_path / "a"), "b")
    mesh.make(tmp_path, MEMBERS)
    assert knows(tmp_path, "a") == {"c"}


def test_without_the_note_of_who_was_paired_it_would_come_back(tmp_path: Path) -> None:
    """Negative control: the note is what keeps a removed peer out."""
    mesh.make(tmp_path, MEMBERS)
    setup.remove_peer(Home(tmp_path / "a"), "b")
    (tmp_path / "ca" / "members.json").unlink()
    mesh.make(tmp_path, MEMBERS)
    assert knows(tmp_path, "a") == {"b", "c"}


def test_a_node_that_joins_is_paired_with_all(tmp_path: Path) -> None:
    """The others keep what they have."""
    mesh.make(tmp_path, (A, B))
    before = {name: fingerprint(tmp_path, name) for name in "ab"}
    assert news(tmp_path, (A, B, C)) == {"c"}
    assert {name: fingerprint(tmp_path, name) for name in "ab"} == before
    assert [knows(tmp_path, name) for name in "abc"] == [{"b", "c"}, {"a", "c"}, {"a", "b"}]


@pytest.mark.parametrize("lost", ["config.toml", "node.key", None])
def test_an_interrupted_run_is_completed(tmp_path: Path, lost: str | None) -> None:
    """Whatever was written when the power failed, the next run ends with the whole mesh."""
    mesh.make(tmp_path, (A, B))
    (tmp_path / "ca" / "members.json").unlink()
    setup.remove_peer(Home(tmp_path / "a"), "b")
    if lost is not None:
        for name in (lost, "config.toml"):  # `init` writes the configuration last, and pairing begins after it
            (tmp_path / "b" / name).unlink(missing_ok=True)
        (tmp_path / "b" / "allowlist").write_text(setup.ALLOWLIST_INTRODUCTION)
    mesh.make(tmp_path, (A, B))
    assert (knows(tmp_path, "a"), knows(tmp_path, "b")) == ({"b"}, {"a"})
    assert fingerprint(tmp_path, "b") in lets_in(tmp_path, "a")


def test_a_renewed_certificate_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    """New certificate and key, known to all under the old name; the old one is on no list; the passphrase stays."""
    mesh.make(tmp_path, MEMBERS)
    old, passphrase = fingerprint(tmp_path, "b"), (tmp_path / "b" / "passphrase").read_bytes()
    assert news(tmp_path, renew=["b"]) == {"b"}
    assert fingerprint(tmp_path, "b") != old
    for name in ("a", "c", "stranger"):
        assert "b" in knows(tmp_path, name)
        assert old not in lets_in(tmp_path, name)
    Home(tmp_path / "b").identity(configuration.load(Home(tmp_path / "b").config)).load()
    assert (tmp_path / "b" / "passphrase").read_bytes() == passphrase


def test_a_lost_folder_is_an_error_until_it_is_asked_for(tmp_path: Path) -> None:
    """A node that vanished is not made anew unasked: nothing would tell it from an impostor."""
    mesh.make(tmp_path, MEMBERS)
    for path in (tmp_path / "b").iterdir():
        path.unlink()
    with pytest.raises(ConfigError, match="b was paired before; to make and pair it anew: `ai-memory mesh renew`"):
        mesh.make(tmp_path, MEMBERS)
    mesh.make(tmp_path, MEMBERS, renew=["b"])
    assert knows(tmp_path, "b") == {"a", "c"}
    assert knows(tmp_path, "a") == {"b", "c"}


def test_a_folder_that_lost_its_configuration_alone_can_be_renewed(tmp_path: Path) -> None:
    """`init` refuses beside a list with entries; whoever asks for a renewal has asked for another certificate."""
    mesh.make(tmp_path, MEMBERS)
    old = fingerprint(tmp_path, "b")
    (tmp_path / "b" / "config.toml").unlink()
    with pytest.raises(ConfigError, match="an allowlist with entries"):
        setup.init(Home(tmp_path / "b"), "b", ("b.mesh",))
    mesh.make(tmp_path, MEMBERS, renew=["b"])
    assert fingerprint(tmp_path, "b") != old
    assert lets_in(tmp_path, "a") == {fingerprint(tmp_path, name) for name in "bc"}


def test_a_lost_key_is_renewed_as_a_private_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An edit keeps the mode of what is there, and nothing is. Control: without a private file all can read it."""
    mesh.make(tmp_path, MEMBERS)
    key = tmp_path / "b" / "node.key"
    key.unlink()
    mesh.make(tmp_path, MEMBERS, renew=["b"])
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert lets_in(tmp_path, "a") == {fingerprint(tmp_path, name) for name in "bc"}
    key.unlink()
    monkeypatch.setattr(mesh, "write_private", lambda path, data: None)
    with pytest.raises(IdentityError, match="mode is 0644"):
        mesh.make(tmp_path, MEMBERS, renew=["b"])


@pytest.mark.parametrize("lost", [("ca.key",), ("ca.pem",), ("ca.pem", "ca.key")], ids=str)
def test_a_ca_that_nodes_are_of_is_never_made_anew(tmp_path: Path, lost: tuple[str, ...]) -> None:
    """Its key may be kept elsewhere. What needs it is refused, nothing is written; what does not, goes on."""
    mesh.make(tmp_path, (A, B))
    for name in lost:
        (tmp_path / "ca" / name).unlink()
    before = contents(tmp_path)
    with pytest.raises(ConfigError) as caught:
        mesh.make(tmp_path, (A, B, C))
    assert [one.split(":")[0] for one in caught.value.problems] == [str(tmp_path / "ca" / name) for name in lost]
    assert news(tmp_path, (A, B)) == set()
    assert contents(tmp_path) == before
    if "ca.key" not in lost:  # the key of a CA alone: not even where nobody was paired
        (tmp_path / "ca" / "members.json").unlink()
        with pytest.raises(ConfigError, match="put it back from where you keep it"):
            mesh.make(tmp_path, (A, B))


@pytest.mark.parametrize(
    "members, renew, said",
    [
        ((A,), (), "a mesh of fewer than 2 nodes"),
        ((A, STRANGER), (), "a mesh of fewer than 2 nodes"),
        ((A, B, A), (), "node 'a' is named 2 times"),
        ((A, B), ("c",), "node 'c' is to be renewed, and not named as a node"),
        ((A, Member("ca", "https://x:1")), (), "node 'ca', expected a name that a folder can have"),
        ((A, Member("..", "https://x:1")), (), "node '..', expected a name that a folder can have"),
        ((A, Member("x/y", "https://x:1")), (), "node 'x/y', expected a name that a folder can have"),
        ((A, Member("x", "https://x:1/path")), (), "has a path"),
        ((A, Member("x", "https://x y:1")), (), "expected a DNS name"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(
    tmp_path: Path, members: Sequence[Member], renew: Sequence[str], said: str
) -> None:
    """Names that no folder can have, addresses that are none, a mesh of one."""
    with pytest.raises(ConfigError, match=said):
        mesh.make(tmp_path, members, renew)
    assert contents(tmp_path) == {}


def test_a_note_that_is_none_is_refused(tmp_path: Path) -> None:
    """Without knowing who was paired, nobody is."""
    mesh.make(tmp_path, (A, B))
    (tmp_path / "ca" / "members.json").write_text("a\nb\n")
    with pytest.raises(ConfigError, match=r"members\.json: not what `ai-memory mesh init` wrote"):
        mesh.make(tmp_path, (A, B))
