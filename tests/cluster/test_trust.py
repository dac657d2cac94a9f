"""Certificates, lists and stores that change under a running cluster, and somebody whom nobody knows.

`agreement` (conftest.py) ends each test: all digests equal, all peers in step, every acknowledged write on every node.
"""

import json

import pytest
from cluster import Cluster, ClusterError, ClusterNode, eventually, says

ISSUE = """
from pathlib import Path
from node.files import write_kept, write_private
from tls.authority import Authority
ca = Path('/mesh/ca')
made = Authority.load((ca / 'ca.pem').read_bytes(), (ca / 'ca.key').read_bytes()).issue('b', hosts=['b.mesh'])
write_private(Path('/mesh/b/node.key'), made.key_pem)
write_kept(Path('/mesh/b/node.pem'), made.cert_pem)
"""


def test_a_certificate_rotated(cluster: Cluster) -> None:
    """Unannounced, both sides say what is wrong, each from where it stands; announced to all, they go on.

    Who calls it keeps the connection that it has (SECURITY.md, *A living connection*), so b is started anew.
    """
    a, b, c = cluster.nodes
    before = b.status()["fingerprint"]
    with cluster.traffic():
        cluster.compose("run", "--rm", "-T", "--entrypoint", "python3", "pair", "-c", ISSUE)
        for other in (a, c):
            says(b, other.name, "refused")
        cluster.compose("restart", "b")
        b.wait_up()
        for other in (a, c):
            says(other, "b", "wrong_pin")
            says(b, other.name, "refused")
        line = f"{b.status()['fingerprint']}  # b"
        assert before not in line
        assert line in b.of("a")["reason"]  # what its operator has to send to the others
        cluster.some_more()
        told = json.loads(cluster.compose("run", "--rm", "-T", "pair", "mesh", "renew", "/mesh", "b", "--json"))
        assert [one["name"] for one in told if one["new"]] == ["b"]
        eventually(lambda: b.status()["fingerprint"] not in (before, line[:71]), "b has its third certificate")
        cluster.some_more()


def test_a_fingerprint_removed_while_traffic_flows(cluster: Cluster) -> None:
    """Taken off one list it is refused there and told so; what it writes still reaches all, by way of the third."""
    a, b, c = cluster.nodes
    line = c.command("fingerprint")[1].strip()
    with cluster.traffic():
        cluster.some_more()
        assert a.command("allowlist", "remove", line.split()[0])[0] == 0
        says(a, "c", "peer_unlisted")
        says(c, "a", "refused")
        assert line in c.of("a")["reason"]
        assert b.of("c")["state"] != "failing"
        cluster.some_more()
    eventually(lambda: len({one.status()["digest"] for one in cluster.nodes}) == 1, "by way of b", cluster.report)
    assert cluster.ledger.wrong(a.memories()) == []
    assert says(c, "a", "refused")  # and still it is out
    # A start of the cluster lets nobody in again who was shut out.
    cluster.up()
    assert says(c, "a", "refused")
    with cluster.traffic():
        assert a.command("allowlist", "add", line.split()[0], "--label", "c")[0] == 0
        cluster.some_more()


def test_a_node_replaced_by_an_empty_one(cluster: Cluster) -> None:
    """Its store is gone, its identity is not: it is given everything again, and its own writes come back to it."""
    a, b, _ = cluster.nodes
    with cluster.traffic("a", "c"):
        cluster.compose("rm", "-sf", "b", "pair")  # which has the volume, too
        cluster.remove_volume("b-data")
        says(a, "b", "not_listening", "unknown_host", "disconnected", "timeout")
        with pytest.raises(ClusterError, match=r"there is no store at /data/store\.db"):
            cluster.compose("run", "-T", "--rm", "--no-deps", "b", "stats")  # an empty one is made by nobody unasked
        cluster.compose("run", "-T", "--rm", "--no-deps", "b", "init", "--store")
        cluster.up("--no-deps", "b")
        b.wait_up()
        cluster.some_more()


def test_a_node_rolled_back_to_an_older_volume(cluster: Cluster) -> None:
    """An older store put back without a word: the others prove it, the node says so, and gets back what it lacks."""
    a, b, _ = cluster.nodes
    cluster.compose("rm", "-sf", "b")
    cluster.copy_volume("b-data", "older")
    cluster.up("--no-deps", "b")
    b.wait_up()
    with cluster.traffic():
        cluster.some_more(30)
    cluster.agree()
    cluster.compose("rm", "-sf", "b")
    cluster.copy_volume("older", "b-data")
    cluster.up("--no-deps", "b")
    b.wait_up()
    with cluster.traffic():
        alarm = eventually(lambda: _alarm(b, "rolled_back"), "b says that it was rolled back", cluster.report)
        assert "this store once held" in alarm
        code, text = b.command("sync", "status")
        assert code == 1, text
        assert "ALARM rolled_back" in text
        cluster.some_more()
    cluster.agree()
    cluster.compose("restart", "b")  # the alarm was seen
    b.wait_up()
    assert a.of("b")["peer"] == "b"


def _alarm(node: ClusterNode, kind: str) -> str | None:
    return next((one["detail"] for one in node.status()["alarms"] if one["kind"] == kind), None)


def test_a_stranger_stays_outside(cluster: Cluster) -> None:
    """A certificate of the same CA, on no list: it is refused by each, is told so, and learns nothing."""
    stranger = cluster.stranger
    cluster.compose("--profile", "stranger", "up", "-d", "--no-deps", "stranger")
    stranger.wait_up()
    with cluster.traffic():
        for name in ("a", "b", "c"):
            says(stranger, name, "refused")
        cluster.some_more()
    assert stranger.memories() == {}
    for node in cluster.nodes:
        assert '"gate.refused"' in cluster.log_of(node.container)
        assert node.memories() != {}
    cluster.compose("--profile", "stranger", "rm", "-sf", "stranger")
