"""What a refused peer may still send: its alert has to arrive, and its bytes have to end."""

import contextlib
import ssl

import pytest
from certs import Mesh
from knocking import plain_client

from tls import channel as channel_module
from tls.channel import LINGER_BYTES, Channel, PeerRefused
from tls.gate import Gate


def _refused(mesh: Mesh) -> tuple[Channel, ssl.MemoryBIO]:
    """A server's channel that has refused a stranger, and what it reads from."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    gate = Gate(mesh.node.files, mesh.listing(mesh.friend))
    server: Channel = gate.server_context().wrap_bio(to_server, to_client, server_side=True)
    client = plain_client(mesh, mesh.stranger).wrap_bio(to_client, to_server)
    for one in (client, server, client, server):
        with contextlib.suppress(ssl.SSLWantReadError):
            one.do_handshake()
    assert server.refusal.reason == "not on the allowlist"
    return server, to_server


def _sends(server: Channel, incoming: ssl.MemoryBIO, size: int) -> bool:
    """Whether the channel still waits after so many bytes more."""
    incoming.write(bytes(size))
    try:
        server.do_handshake()
    except ssl.SSLWantReadError:
        return True
    except ssl.SSLError:
        return False
    raise AssertionError("a refused handshake ended well")


@pytest.mark.parametrize("part", [1_024, 65_536])
def test_the_linger_bears_its_budget_and_not_a_byte_more(mesh: Mesh, part: int) -> None:
    """In parts of any size: up to the budget it waits for the peer to hang up, with the next byte it is over."""
    server, incoming = _refused(mesh)
    assert all(_sends(server, incoming, part) for _ in range(LINGER_BYTES // part))
    assert incoming.pending == 0, "what came was thrown away"
    assert not _sends(server, incoming, 1)
    assert not _sends(server, incoming, 1), "and it stays over"


def test_without_the_budget_it_goes_on(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: with a budget that nobody uses up, the same bytes are borne."""
    monkeypatch.setattr(channel_module, "LINGER_BYTES", 10**12)
    server, incoming = _refused(mesh)
    assert all(_sends(server, incoming, 65_536) for _ in range(2 * LINGER_BYTES // 65_536))


def test_a_server_that_refused_never_reads(mesh: Mesh) -> None:
    """What lingers is no connection: it has no peer, whatever arrives."""
    server, incoming = _refused(mesh)
    assert _sends(server, incoming, 100)
    assert server.peer is None


def test_what_a_server_dies_of_are_openssls_own_words(mesh: Mesh) -> None:
    """Only who has called somebody is told more, which certificate it was among it; a server has its event for that."""
    server, incoming = _refused(mesh)
    assert server.refusal.alert == "certificate verify failed"
    incoming.write(bytes(LINGER_BYTES + 1))
    with pytest.raises(ssl.SSLCertVerificationError) as failed:
        server.do_handshake()
    assert not isinstance(failed.value, PeerRefused)
