"""Adding and removing peers: the operator's files change in those lines, and in no other byte."""

import dataclasses
from pathlib import Path

import pytest
from commands import new_home

from node import config as configuration
from node import editing, peerfile
from node.config import ConfigError, NotThere, PeerConfig
from node.home import Home
from node.setup import add_peer, list_certificate, remove_peer
from tls import allowlist
from tls.allowlist import AllowlistError
from tls.authority import Authority
from tls.fingerprint import Fingerprint

ALL = ("**",)
DESK = PeerConfig("desk", "https://desk.local:9443", Fingerprint("a" * 64), "both", ALL, ALL)
ATTIC = PeerConfig("attic", None, Fingerprint("b" * 64), "push", ("team/**", "notes"), ())
QUOTED = PeerConfig('the "big" one', None, Fingerprint("c" * 64), "pull", ALL, ALL)

EDITED = f"""\
# my own words
[node]
name = "laptop"   # not to be touched

# downstairs
[[peer]]
name = "desk"
# the certificate of May
fingerprint = "sha256:{"a" * 64}"

# under the roof
[[peer]]
name = "attic"
fingerprint = "sha256:{"b" * 64}"  # of June
read = [
    "team/**",  # ours
    "notes",
]

# how loud
[log]
level = "debug"
[[peer]]
name = "shed"
fingerprint = "{"D" * 64}"
"""


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return new_home(tmp_path, "laptop")


def files(home: Home) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in home.path.iterdir()}


def peers(home: Home) -> tuple[PeerConfig, ...]:
    return configuration.load(home.config, {}).peers


def listed(home: Home) -> list[tuple[str, str]]:
    return [(one.fingerprint.hex, one.label) for one in allowlist.load(home.path / "allowlist").entries]


@pytest.mark.parametrize("peer", [DESK, ATTIC, QUOTED], ids=lambda one: one.name)
def test_a_peer_is_added_and_removed_without_a_trace(home: Home, peer: PeerConfig) -> None:
    """After the round trip every file is as it was, byte for byte."""
    before = files(home)
    add_peer(home, peer, None)
    assert peers(home) == (peer,)
    assert listed(home) == [(peer.fingerprint.hex, peer.name)]
    assert files(home)["config.toml"].startswith(before["config.toml"])
    assert remove_peer(home, peer.name) == peer
    assert files(home) == before


def test_adding_a_peer_again_changes_nothing(home: Home) -> None:
    """Neither its place among the others nor a byte of any file."""
    for peer in (DESK, ATTIC, QUOTED):
        add_peer(home, peer, None)
    before = files(home)
    for peer in (DESK, ATTIC, QUOTED):
        add_peer(home, peer, home.path / "ca.pem")
    assert files(home) == before


def test_adding_a_peer_again_keeps_what_a_person_wrote(home: Home) -> None:
    """A table with comments and a layout of its own says the same already, so it is left as it is."""
    home.config.write_text(EDITED)
    add_peer(home, dataclasses.replace(DESK, url=None), None)
    assert home.config.read_text() == EDITED


def test_a_peer_is_changed_where_it_stands(home: Home) -> None:
    """The same name and fingerprint with another address: its table is replaced, its neighbours stay."""
    home.config.write_text(EDITED)
    moved = dataclasses.replace(DESK, url="https://10.0.0.1:1")
    add_peer(home, moved, None)
    head, old = EDITED.split("[[peer]]\n", 1)
    rest = old[old.index("\n# under the roof") :]
    table = f'[[peer]]\nname = "desk"\nurl = "https://10.0.0.1:1"\nfingerprint = "sha256:{"a" * 64}"\n'
    assert home.config.read_text() == head + table + rest


@pytest.mark.parametrize(
    ("name", "gone"),
    [
        ("desk", f'\n[[peer]]\nname = "desk"\n# the certificate of May\nfingerprint = "sha256:{"a" * 64}"\n'),
        ("attic", EDITED[EDITED.index('[[peer]]\nname = "attic"') : EDITED.index("\n# how loud")]),
        ("shed", EDITED[EDITED.index('[[peer]]\nname = "shed"') :]),
    ],
)
def test_what_stands_around_a_removed_peer_stays(home: Home, name: str, gone: str) -> None:
    """Comments before and after it, other sections, other peers: only its own lines go."""
    home.config.write_text(EDITED)
    remove_peer(home, name)
    left = home.config.read_text()
    assert left == EDITED.replace(gone.removeprefix("\n"), "")
    for words in ("# my own words", "# not to be touched", "# downstairs", "# under the roof", "# how loud"):
        assert words in left


def test_line_ends_are_kept(home: Home) -> None:
    """A file from Windows stays one, its new lines too."""
    home.config.write_bytes(home.config.read_bytes().replace(b"\n", b"\r\n"))
    allowed = home.path / "allowlist"
    allowed.write_bytes(allowed.read_bytes().replace(b"\n", b"\r\n"))
    before = files(home)
    add_peer(home, ATTIC, None)
    for name in ("config.toml", "allowlist"):
        after = files(home)[name]
        assert len(after) > len(before[name])
        assert after.count(b"\n") == after.count(b"\r\n")
    remove_peer(home, ATTIC.name)
    assert files(home) == before


@pytest.mark.parametrize("text", ["", EDITED[EDITED.index("[[peer]]") :]], ids=["as init writes it", "a peer first"])
def test_a_byte_order_mark_stays(home: Home, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Editors of Windows write one: the file is read, edited around it, and a peer right behind it is found."""
    home.config.write_text("\ufeff" + (text or home.config.read_text()))
    before = peers(home)
    add_peer(home, QUOTED, None)
    assert peers(home) == (*before, QUOTED)
    assert home.config.read_text().startswith("\ufeff")
    remove_peer(home, QUOTED.name)
    if text:
        remove_peer(home, "desk")
    assert peers(home) == before[1:]
    assert home.config.read_bytes().count("\ufeff".encode()) == 1
    monkeypatch.setattr(configuration, "BOM", "")  # the control
    with pytest.raises(ConfigError):
        configuration.load(home.config, {})


@pytest.mark.parametrize("label", ["an older name", ""])
def test_the_label_of_a_certificate_that_is_listed_stays_and_is_told(home: Home, label: str) -> None:
    """The operator's own line; who asked for another label is told which one it has."""
    path = home.path / "allowlist"
    assert list_certificate(home, path, DESK.fingerprint, label) is None
    before = path.read_bytes()
    assert add_peer(home, DESK, None) == label
    assert list_certificate(home, path, DESK.fingerprint, "a third") == label
    assert path.read_bytes() == before
    assert add_peer(home, ATTIC, None) is None


def test_a_file_without_a_last_newline_gets_one(home: Home) -> None:
    """The table must not begin in the middle of a line."""
    home.config.write_text('[log]\nlevel = "info"')
    add_peer(home, DESK, None)
    assert peers(home) == (DESK,)
    assert configuration.load(home.config, {})["log", "level"] == "info"


# --- what is refused, before anything is written


def refuses(home: Home, peer: PeerConfig, ca: Path | None = None) -> list[str]:
    """The problems for which a peer is not added. Fails where any file changed all the same."""
    before = files(home)
    with pytest.raises((ConfigError, AllowlistError)) as caught:
        add_peer(home, peer, ca)
    assert files(home) == before
    return str(caught.value).splitlines()


def test_a_known_name_with_another_fingerprint_is_refused(home: Home) -> None:
    """A certificate is replaced on purpose, not by repeating a command."""
    add_peer(home, DESK, None)
    other = dataclasses.replace(DESK, fingerprint=ATTIC.fingerprint)
    assert refuses(home, other) == ["peer desk has another fingerprint; run `ai-memory peer remove desk` first"]


def test_a_nodes_own_certificate_is_no_peers(home: Home) -> None:
    """Of two lines the wrong one was pasted: it would be in step with itself, and have no copy anywhere."""
    own = Fingerprint.of_pem((home.path / "node.pem").read_bytes())
    before = files(home)
    with pytest.raises(ConfigError, match="is this node's own certificate"):
        add_peer(home, dataclasses.replace(DESK, fingerprint=own), None)
    assert files(home) == before


def test_a_known_fingerprint_under_another_name_is_refused(home: Home) -> None:
    """With the line of the configuration as it would be, and the assurance that it is not so."""
    add_peer(home, DESK, None)
    problem, assurance = refuses(home, dataclasses.replace(DESK, name="other"))
    assert problem.endswith(f"[[peer]] fingerprint '{DESK.fingerprint.text}' is used by a peer above")
    assert assurance == f"{home.config}: nothing was changed"


def test_a_broken_allowlist_is_refused(home: Home) -> None:
    """File, line and column, and no peer that nobody lets in."""
    path = home.path / "allowlist"
    path.write_text("# friends\n  sha256:oops\n")
    (problem, *_) = refuses(home, DESK)
    assert problem.startswith(f"{path}:2:10: found 'o'")
    with pytest.raises(ConfigError):
        remove_peer(home, "desk")


def test_a_broken_configuration_is_refused(home: Home) -> None:
    """Nothing is added to a file that could not be read."""
    for text, place in (("[log]\nlevel = \n", ":2:9: "), ("[log]\nlevel = 'loud'\n", ":2: [log] level: ")):
        home.config.write_text(text)
        assert refuses(home, DESK)[0].startswith(f"{home.config}{place}")
    home.config.write_bytes(b"\xff")
    assert refuses(home, DESK)[0].startswith(f"{home.config}: not UTF-8 text (byte 0 is 0xff)")


def test_a_missing_configuration_is_refused(tmp_path: Path) -> None:
    """With the command that makes one."""
    assert "run `ai-memory init` first" in refuses(Home(tmp_path), DESK)[0]


def test_peers_in_a_form_that_is_not_understood_are_left_alone(home: Home) -> None:
    """An array on one line is good TOML; a program that cannot edit it must not try."""
    inline = f'peer = [{{name = "desk", fingerprint = "{"a" * 64}"}}]\n'
    home.config.write_text(inline)
    assert refuses(home, ATTIC)[-1] == f"{home.config}: nothing was changed"
    with pytest.raises(ConfigError, match="nothing was changed: its peers are in a form that only a person can edit"):
        remove_peer(home, "desk")
    assert home.config.read_text() == inline


def test_an_edit_that_would_say_something_else_is_not_written(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: the edited text is read again, so a mistake of the editor cannot reach the file."""
    add_peer(home, DESK, None)
    before = files(home)
    monkeypatch.setattr(peerfile, "with_peer", lambda text, peer: text)
    with pytest.raises(ConfigError, match="nothing was changed"):
        add_peer(home, ATTIC, None)
    monkeypatch.setattr(peerfile, "without_peer", lambda text, name: text)
    with pytest.raises(ConfigError, match="nothing was changed"):
        remove_peer(home, "desk")
    assert files(home) == before


def test_a_peer_that_is_not_there_cannot_be_removed(home: Home) -> None:
    """The error has the names that are."""
    with pytest.raises(NotThere, match="there is no peer 'desk'; known are: none"):
        remove_peer(home, "desk")
    add_peer(home, ATTIC, None)
    with pytest.raises(NotThere, match="there is no peer 'desk'; known are: attic"):
        remove_peer(home, "desk")


# --- the peers' CAs


def test_a_cas_certificate_is_added_once(home: Home, tmp_path: Path) -> None:
    """To the bundle that is there, behind what is in it, whatever else stands in the given file."""
    bundle, given = home.path / "ca.pem", tmp_path / "given.pem"
    other, third = Authority.create("other"), Authority.create("third")
    given.write_bytes(b"a comment\n" + other.cert_pem + third.cert_pem + other.cert_pem)
    before = bundle.read_bytes()
    for _ in range(2):
        add_peer(home, DESK, given)
        assert bundle.read_bytes() == before + other.cert_pem + third.cert_pem
    assert len(home.identity(configuration.load(home.config, {})).load().authorities) == 3
    remove_peer(home, "desk")
    assert bundle.read_bytes() == before + other.cert_pem + third.cert_pem


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ("a leaf", "given.pem: a certificate of a node, the certificate of its CA expected (its ca.pem)"),
        ("no certificate", "given.pem: no certificate in it, a CA's PEM file expected"),
        ("no file", "given.pem: no such file or directory"),
        ("a broken bundle", "ca.pem: no certificate in it, a CA's PEM file expected"),
        ("no bundle", "ca.pem: no such file or directory"),
    ],
)
def test_what_is_no_ca_is_refused(home: Home, tmp_path: Path, case: str, expected: str) -> None:
    """Each names the file that is wrong, and no file is changed."""
    bundle, given = home.path / "ca.pem", tmp_path / "given.pem"
    other = Authority.create("other")
    given.write_bytes(other.issue("leaf").cert_pem if case == "a leaf" else other.cert_pem)
    match case:
        case "no certificate":
            given.write_text("junk")
        case "no file":
            given.unlink()
        case "a broken bundle":
            bundle.write_text("junk")
        case "no bundle":
            bundle.unlink()
    (problem,) = refuses(home, DESK, given)
    assert problem.endswith(expected)


def test_the_allowlist_is_written_before_the_configuration(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut off in between, a removed peer is shut out already; and either command can be repeated."""
    real, steps = editing.write_kept, []

    def noted(path: Path, data: bytes) -> None:
        steps.append(path.name)
        real(path, data)

    monkeypatch.setattr(editing, "write_kept", noted)
    add_peer(home, DESK, None)
    remove_peer(home, "desk")
    assert steps == ["allowlist", "config.toml"] * 2
