"""Records without a byte of use in them: a few are taken, a flood of them ends the connection, data is not counted."""

import contextlib
import ssl
from collections.abc import Callable

import pytest
from certs import Mesh
from records import ALERT, APPLICATION_DATA, CLOSE_NOTIFY, UPDATE_NOT_REQUESTED, Sealer

from tls import channel as channel_module
from tls.channel import BARREN_BYTES, Channel
from tls.contexts import build
from tls.gate import Gate


class Pair:
    """A server's channel with a handshake behind it, and the means to seal what its client would send."""

    def __init__(self, mesh: Mesh, *, early: Callable[[Sealer], bytes] = lambda sealer: b"") -> None:
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        gate = Gate(mesh.node.files, mesh.listing(mesh.friend))
        self.server: Channel = gate.server_context().wrap_bio(self.incoming, self.outgoing, server_side=True)
        context = build(mesh.friend.files.load(), server=False, allowed=lambda fingerprint: True)
        keylog: list[bytes] = []
        context._native.set_keylog_callback(lambda connection, line: keylog.append(line))
        self.client = context.wrap_bio(self.outgoing, self.incoming)
        for channel in (self.client, self.server, self.client):
            with contextlib.suppress(ssl.SSLWantReadError):
                channel.do_handshake()
        self.sealer = Sealer.of_client(keylog)
        self.incoming.write(early(self.sealer))
        self.server.do_handshake()
        assert self.server.peer == mesh.friend.fingerprint
        self.outgoing.read()

    def read_all(self) -> bytes:
        """What is there to read, as a loop reads it. Raises ssl.SSLError where the channel has had enough."""
        found = b""
        while True:
            try:
                found += self.server.read(262_144)
            except ssl.SSLWantReadError:
                return found


BARREN: dict[str, Callable[[Sealer], bytes]] = {
    "key updates that want an answer": lambda sealer: sealer.update(),
    "key updates that want none": lambda sealer: sealer.update(UPDATE_NOT_REQUESTED),
    "empty records": lambda sealer: sealer.record(APPLICATION_DATA, b""),
}


def _flood(sealer: Sealer, kind: str, size: int) -> bytes:
    sealed = b""
    while len(sealed) < size:
        sealed += BARREN[kind](sealer)
    return sealed


@pytest.mark.parametrize("kind", BARREN)
def test_a_flood_of_them_ends_the_connection(mesh: Mesh, kind: str) -> None:
    """Ten times as many bytes as are borne: most is never looked at, and little is answered."""
    pair = Pair(mesh)
    pair.incoming.write(_flood(pair.sealer, kind, 10 * BARREN_BYTES))
    with pytest.raises(ssl.SSLError):
        pair.read_all()
    assert pair.incoming.pending > 7 * BARREN_BYTES
    assert pair.outgoing.pending < 3 * BARREN_BYTES


@pytest.mark.parametrize("kind", ["key updates that want an answer", "key updates that want none"])
def test_without_the_bound_all_of_them_are_worked_off(mesh: Mesh, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: every key update is gone through, and the answers wait for whoever does not read."""
    monkeypatch.setattr(channel_module, "BARREN_BYTES", 10**9)
    pair = Pair(mesh)
    flood = _flood(pair.sealer, kind, 10 * BARREN_BYTES)
    pair.incoming.write(flood)
    assert pair.read_all() == b""
    assert pair.incoming.pending == 0
    assert (pair.outgoing.pending > 9 * BARREN_BYTES) is ("an answer" in kind)


def test_one_that_comes_with_the_handshake_is_counted_too(mesh: Mesh) -> None:
    """What follows the client's Finished at once is borne as much as what comes later."""
    pair = Pair(mesh, early=lambda sealer: _flood(sealer, "key updates that want an answer", 10 * BARREN_BYTES))
    with pytest.raises(ssl.SSLError):
        pair.read_all()
    assert pair.incoming.pending > 7 * BARREN_BYTES


def test_data_is_no_such_thing_however_it_is_cut(mesh: Mesh) -> None:
    """A megabyte in records of every size, half of one at a time: all of it arrives."""
    pair = Pair(mesh)
    sent = b""
    for size in (1, 2, 100, 16_384, 5_000, 1):
        content = bytes(index % 251 for index in range(size))
        for _ in range(max(40, 100_000 // size) if size < 5_000 else 40):
            sealed = pair.sealer.record(APPLICATION_DATA, content)
            sent += content
            half = len(sealed) // 2
            for part in (sealed[:half], sealed[half:]):
                pair.incoming.write(part)
                got = pair.read_all()
                sent = sent.removeprefix(got)
    assert sent == b""


def test_key_updates_among_data_are_borne(mesh: Mesh) -> None:
    """One with every kilobyte of data: the connection lives."""
    pair = Pair(mesh)
    for _ in range(2_000):
        pair.incoming.write(pair.sealer.update(UPDATE_NOT_REQUESTED))
        pair.incoming.write(pair.sealer.record(APPLICATION_DATA, b"x" * 1_000))
        assert pair.read_all() == b"x" * 1_000


def test_a_close_behind_one_that_openssl_was_given_is_found(mesh: Mesh) -> None:
    """It waits in the loop's buffer, and nothing more will come: whoever left it there would wait for ever."""
    pair = Pair(mesh)
    pair.incoming.write(pair.sealer.update(UPDATE_NOT_REQUESTED))
    pair.server._feed()
    pair.incoming.write(pair.sealer.record(ALERT, CLOSE_NOTIFY))
    pair.server.unwrap()
