"""Making a node's folder: what `init` writes, and what it never destroys."""

import itertools
import stat
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from node import config as configuration
from node import setup
from node.config import ConfigError
from node.home import Home
from node.settings import SETTINGS
from node.store.errors import StoreError
from tls import allowlist
from tls.authority import Authority
from tls.errors import IdentityError
from tls.fingerprint import Fingerprint

HOSTS = ("localhost", "127.0.0.1")
MODES = {
    "ca.key": 0o600,
    "ca.pem": 0o644,
    "node.pem": 0o644,
    "node.key": 0o600,
    "allowlist": 0o644,
    "passphrase": 0o600,
    "api-key": 0o600,
    "config.toml": 0o644,
    "edit.lock": 0o600,
    "store.db": 0o600,
    "store.db.lock": 0o600,
}
FILES = ("passphrase", "ca.pem", "ca.key", "node.pem", "node.key", "allowlist", "api-key", "config.toml")
"""Those that `init` writes itself, in this order; the store comes after the first."""


def init(home: Home, name: str = "desk", **options: Any) -> setup.Made:
    return setup.init(home, name, HOSTS, **options)


def contents(home: Home) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in home.path.iterdir()}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "below" / "node")


@pytest.fixture
def authority(tmp_path: Path) -> tuple[Path, Path]:
    """A CA's certificate and key, in files elsewhere."""
    made = Authority.create("another mesh")
    cert, key = tmp_path / "given.pem", tmp_path / "given.key"
    cert.write_bytes(made.cert_pem)
    key.touch(0o600)
    key.write_bytes(made.key_pem)
    return cert, key


# --- what it makes


def test_a_node_is_made(home: Home) -> None:
    """A folder that only its owner enters, and in it all that `serve` needs, secrets private."""
    made = init(home)
    assert stat.S_IMODE(home.path.stat().st_mode) == 0o700
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in home.path.iterdir()} == MODES
    config = configuration.load(home.config, {})
    assert config.name == "desk"
    loaded = home.identity(config).load()
    assert loaded.fingerprint == made.fingerprint
    assert loaded.leaf.verify_directly_issued_by(loaded.authorities[0]) is None
    assert made.minted_ca
    assert made.passphrase_file == home.passphrase
    assert len(home.passphrase.read_text().strip()) >= 32


def test_an_existing_folder_is_closed_to_others(home: Home) -> None:
    """A folder that somebody made beforehand, with the usual mode."""
    home.path.mkdir(mode=0o755, parents=True)
    init(home)
    assert stat.S_IMODE(home.path.stat().st_mode) == 0o700


def test_two_nodes_share_no_secret(tmp_path: Path) -> None:
    """Each has a key and a passphrase of its own."""
    made = [contents(home) for home in (Home(tmp_path / "a"), Home(tmp_path / "b")) if init(home)]
    for name in ("ca.key", "node.key", "passphrase"):
        assert made[0][name] != made[1][name]


def test_the_allowlist_has_instructions_and_nobody(home: Home) -> None:
    """Nobody is let in by default; an operator who opens the file learns what to do."""
    init(home)
    path = home.path / "allowlist"
    assert len(allowlist.load(path)) == 0
    for word in ("sha256:", "ai-memory fingerprint", "nobody"):
        assert word in path.read_text()
    assert allowlist.add(path.read_text(), Fingerprint("a" * 64), "x").startswith(path.read_text())


@pytest.mark.parametrize(
    ("key_type", "kind"),
    [("ec", ec.EllipticCurvePrivateKey), ("rsa", rsa.RSAPrivateKey), ("ed25519", ed25519.Ed25519PrivateKey)],
)
def test_keys_are_of_the_kind_that_was_asked_for(home: Home, key_type: Any, kind: type) -> None:
    """CA and node alike."""
    init(home, key_type=key_type)
    for name in ("ca.key", "node.key"):
        assert isinstance(serialization.load_pem_private_key((home.path / name).read_bytes(), None), kind)


def test_a_given_ca_signs_and_its_key_is_not_copied(home: Home, authority: tuple[Path, Path]) -> None:
    """The key of the mesh's CA stays where it is."""
    made = init(home, ca=authority)
    assert not made.minted_ca
    assert set(contents(home)) == set(MODES) - {"ca.key"}
    assert contents(home)["ca.pem"] == authority[0].read_bytes()
    loaded = home.identity(configuration.load(home.config, {})).load()
    loaded.leaf.verify_directly_issued_by(x509.load_pem_x509_certificate(authority[0].read_bytes()))


def test_a_passphrase_of_another_source_is_not_written(home: Home) -> None:
    """Where it comes from a credential, no copy of another one lies beside the store."""
    assert init(home, write_passphrase=False).passphrase_file is None
    assert not home.passphrase.exists()


def test_hosts_are_in_the_certificate(home: Home) -> None:
    """DNS names and addresses, each as what it is."""
    setup.init(home, "desk", ("desk.local", "10.0.0.1", "fe80::1"))
    leaf = home.identity(configuration.load(home.config, {})).load().leaf
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["desk.local"]
    assert list(map(str, names.get_values_for_type(x509.IPAddress))) == ["10.0.0.1", "fe80::1"]


@pytest.mark.parametrize("name", ["desk", "büro 1", 'quoted "\\', "x" * 64, "机"])
def test_a_name_may_be_any_text(home: Home, name: str) -> None:
    """It comes back from the configuration as it was given."""
    init(home, name)
    assert configuration.load(home.config, {}).name == name


# --- what it refuses


def test_a_second_time_is_refused(home: Home) -> None:
    """Nothing of the node that is there changes."""
    init(home)
    before = contents(home)
    with pytest.raises(
        ConfigError, match="there is a node in this folder already; to make another, name another --home"
    ):
        init(home)
    assert contents(home) == before


def refused_ca(tmp_path: Path, case: str, good: tuple[Path, Path]) -> tuple[Path, Path]:
    """A CA that cannot be used, in one of the ways that happen."""
    cert, key = tmp_path / "bad.pem", tmp_path / "bad.key"
    other = Authority.create("other")
    leaf = other.issue("leaf")
    cert.write_bytes({"no PEM": b"junk", "a leaf": leaf.cert_pem}.get(case, good[0].read_bytes()))
    key.touch(0o600)
    key.write_bytes({"a leaf": leaf.key_pem, "another's key": other.key_pem}.get(case, good[1].read_bytes()))
    if case == "no such file":
        cert.unlink()
    if case == "a key with a passphrase":
        loaded = serialization.load_pem_private_key(good[1].read_bytes(), None)
        sealed = serialization.BestAvailableEncryption(b"x")
        key.write_bytes(loaded.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, sealed))
    return cert, key


@pytest.mark.parametrize("case", ["no PEM", "a leaf", "another's key", "no such file", "a key with a passphrase"])
def test_a_ca_that_cannot_be_used_leaves_nothing_behind(
    home: Home, tmp_path: Path, authority: tuple[Path, Path], case: str
) -> None:
    """It is refused before anything is written, so `init` can simply be run again."""
    with pytest.raises((ConfigError, IdentityError)):
        init(home, ca=refused_ca(tmp_path, case, authority))
    assert not home.path.exists()
    init(home, ca=authority)


@pytest.mark.parametrize("name", ["", "x" * 65, "two\nlines", "a # b", " desk"])
def test_a_name_that_would_break_a_line_is_refused(home: Home, name: str) -> None:
    """It becomes the label of a line in other operators' files."""
    with pytest.raises(ConfigError, match="expected 1 to 64 printable characters"):
        init(home, name)
    assert not home.path.exists()


@pytest.mark.parametrize("host", ["", "büro.local", "two words", "https://desk", "desk:9443", "a..b", "x" * 64])
def test_a_host_that_is_no_name_is_refused(home: Home, host: str) -> None:
    """An error of one line, not a trace from the depths of a library."""
    with pytest.raises(ConfigError, match="expected a DNS name"):
        setup.init(home, "desk", ("localhost", host))
    assert not home.path.exists()


# --- what it never destroys


@pytest.mark.parametrize("writes", range(len(FILES)))
def test_after_a_crash_it_can_be_run_again(home: Home, writes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut off after any of its writes the folder is no node yet, and a second run makes it one."""
    counter = itertools.count()
    for name in ("write_private", "write_kept"):
        real = getattr(setup, name)

        def cut_off(path: Path, data: bytes, real: Any = real) -> None:
            if next(counter) == writes:
                raise KeyboardInterrupt
            real(path, data)

        monkeypatch.setattr(setup, name, cut_off)
    with pytest.raises(KeyboardInterrupt):
        init(home)
    monkeypatch.undo()
    before = contents(home)
    assert {*before} & {*FILES} == {*FILES[:writes]}
    assert not home.config.exists()
    made = init(home)
    kept = [name for name in before if name != "store.db.lock"]
    if "ca.key" not in before:
        kept = [name for name in kept if name != "ca.pem"]  # of a CA whose key there never was
    if "node.key" not in before:
        kept = [name for name in kept if name != "node.pem"]
    assert {name: contents(home)[name] for name in kept} == {name: before[name] for name in kept}
    assert set(contents(home)) == set(MODES)
    loaded = home.identity(configuration.load(home.config, {})).load()
    loaded.leaf.verify_directly_issued_by(loaded.authorities[0])
    assert loaded.fingerprint == made.fingerprint
    Authority.load((home.path / "ca.pem").read_bytes(), home.ca_key.read_bytes())


def test_what_cannot_be_made_again_is_kept(home: Home) -> None:
    """Who removes the configuration and begins anew keeps the CA of the mesh, and the passphrase of the store."""
    init(home)
    before = contents(home)
    home.config.unlink()
    made = init(home)
    after = contents(home)
    for name in ("ca.key", "ca.pem", "node.key", "node.pem", "allowlist", "passphrase", "api-key"):
        assert after[name] == before[name]
    assert made.fingerprint == Fingerprint.of_pem(before["node.pem"])
    assert made.minted_ca


def spoil_time(home: Home, authority: tuple[Path, Path]) -> None:
    made = Authority.load((home.path / "ca.pem").read_bytes(), home.ca_key.read_bytes())
    old = made.issue("desk", hosts=HOSTS, not_after=datetime.now(UTC) - timedelta(seconds=5))
    (home.path / "node.pem").write_bytes(old.cert_pem)
    (home.path / "node.key").write_bytes(old.key_pem)


def nothing(home: Home, authority: tuple[Path, Path]) -> None:
    pass


Spoil = Callable[[Home, tuple[Path, Path]], object]
MISFITS: dict[str, tuple[Spoil, dict[str, Any], str]] = {
    "another name": (nothing, {"name": "attic"}, "its name is 'desk', expected 'attic'"),
    "another host": (
        nothing, {"hosts": ("desk.local", "::1")}, "its hosts are 127.0.0.1, localhost, expected ::1, desk.local",
    ),
    "another kind of key": (nothing, {"key_type": "rsa"}, "its key is of the type ec, expected rsa"),
    "expired": (spoil_time, {}, "it ended at "),
    "no CA any more": (
        lambda home, _: [(home.path / name).unlink() for name in ("ca.pem", "ca.key")], {},
        "it is of the CA 'CN=desk mesh CA', not of the one that signs here",
    ),
    "a CA that is given": (
        lambda home, _: home.ca_key.unlink(), {"ca": ...}, "it is of the CA 'CN=desk mesh CA', not of",
    ),
    "a CA that is given beside the key of another": (
        nothing, {"ca": ...}, "a CA lies here already, and is not the one",
    ),
    "the key of another certificate": (
        lambda home, _: (home.path / "node.key").write_bytes(Authority.create("x").issue("x").key_pem), {},
        "node.key does not belong to",
    ),
    "a key alone": (
        lambda home, _: (home.path / "node.pem").unlink(), {}, "lies here without its certificate node.pem",
    ),
    "a key that others read": (
        lambda home, _: (home.path / "node.key").chmod(0o644), {}, "mode is 0644, expected 0600",
    ),
    "the key of a CA alone": (lambda home, _: (home.path / "ca.pem").unlink(), {}, "without its certificate ca.pem"),
    "a store under another passphrase": (
        lambda home, _: home.passphrase.write_text("another"), {}, "wrong passphrase",
    ),
    "a store without a passphrase": (lambda home, _: home.passphrase.unlink(), {}, "no passphrase for it"),
}  # fmt: skip


@pytest.mark.parametrize("case", MISFITS)
def test_what_does_not_fit_is_refused_before_anything_is_written(
    home: Home, authority: tuple[Path, Path], case: str
) -> None:
    """No byte and no mode of the folder changes; the error names what was found and what was expected."""
    spoil, asked, expected = MISFITS[case]
    init(home)
    home.config.unlink()
    spoil(home, authority)
    home.path.chmod(0o711)
    before = contents(home), home.path.stat().st_mode
    options = {"name": "desk", "hosts": HOSTS} | asked
    if "ca" in options:
        options["ca"] = authority
    with pytest.raises((ConfigError, IdentityError, StoreError)) as caught:
        setup.init(home, **options)
    assert expected in str(caught.value)
    assert (contents(home) | {"store.db.lock": b""}, home.path.stat().st_mode) == (
        before[0] | {"store.db.lock": b""}, before[1],
    )  # fmt: skip


def test_without_the_look_at_it_a_pair_would_be_replaced(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: the same folder, and the certificate is gone. Who asks for another one, as a renewal does, gets it."""
    made = init(home)
    home.config.unlink()
    assert init(home).fingerprint == made.fingerprint
    home.config.unlink()
    anew = init(home, anew=True).fingerprint
    assert anew != made.fingerprint
    home.config.unlink()
    monkeypatch.setattr(setup.pair, "found", lambda *_: None)
    assert init(home).fingerprint not in (made.fingerprint, anew)


def test_a_list_and_a_bundle_that_lie_there_are_kept(home: Home) -> None:
    """What an operator wrote into an empty list, and the CAs of others, stand nowhere else."""
    init(home)
    listing, bundle = home.path / "allowlist", home.path / "ca.pem"
    listing.write_text(f"# {'a' * 64}  # away until May\n")
    bundle.write_bytes(bundle.read_bytes() + Authority.create("other").cert_pem)
    before = listing.read_bytes(), bundle.read_bytes()
    home.config.unlink()
    init(home)
    assert (listing.read_bytes(), bundle.read_bytes()) == before
    home.config.unlink()
    init(home, anew=True)
    assert bundle.read_bytes() == before[1]


@pytest.mark.parametrize("listed", [f"sha256:{'c' * 64}  # desk\n", "no fingerprint\n"], ids=["an entry", "a mistake"])
def test_a_node_whose_configuration_is_gone_is_not_made_anew(home: Home, listed: str) -> None:
    """Its peers know its certificate, and whom it lists stands nowhere else; what is said says what to do."""
    init(home)
    with (home.path / "allowlist").open("a") as file:
        file.write(listed)
    home.config.unlink()
    before = {path.name: path.read_bytes() for path in home.path.iterdir()}
    with pytest.raises(ConfigError, match=r"no config.toml: put that file back"):
        init(home)
    assert {path.name: path.read_bytes() for path in home.path.iterdir()} == before
    with pytest.raises(ConfigError, match="there was a node in this folder: put the file back"):
        configuration.load(home.config)


def test_every_setting_has_its_own_line_in_the_default_file() -> None:
    """One line a key, so that the place of an error is the place of the key."""
    lines = setup.default_config("desk").splitlines()
    keys = [line.removeprefix("# ").split(" = ")[0] for line in lines if " = " in line and not line.startswith("# #")]
    wanted = [one.key for one in SETTINGS]
    assert keys[: len(wanted)] == wanted


@pytest.mark.parametrize("mode", [0o640, 0o604])
def test_a_cas_key_that_others_read_signs_nothing(
    home: Home, authority: tuple[Path, Path], mode: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever read it can mint certificates of this mesh. Control: without the look at it the node is made."""
    authority[1].chmod(mode)
    with pytest.raises(ConfigError, match=f"mode is {mode:04o}, expected 0600; run: chmod 600 {authority[1]}"):
        init(home, ca=authority)
    assert not home.path.exists()
    monkeypatch.setattr(setup, "read_private", Path.read_bytes)
    assert init(home, ca=authority).fingerprint
