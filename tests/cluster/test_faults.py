"""What befalls machines and the network between them. In between the nodes say why; afterwards they agree.

`agreement` (conftest.py) ends each test: all digests equal, all peers in step, every acknowledged write on every node.
"""

import pytest
from cluster import TESTS, Cluster, ClusterNode, docker, eventually, says

GONE = ("not_listening", "unknown_host", "disconnected", "timeout")
"""What may be said of a node that is not there: which of them is a matter of the moment, and of the engine's DNS."""
FILL = """
import os
file = os.open('/data/filler', os.O_WRONLY | os.O_CREAT)
size = 1 << 20
while size:
    try:
        assert os.write(file, bytes(size)) == size
    except (OSError, AssertionError):
        size //= 2
"""


def _says_identical(node: ClusterNode) -> bool:
    code, text = node.command("sync", "status")
    return code == 0 and text.count("identical") == 2


def test_what_is_written_on_each_is_on_all(cluster: Cluster) -> None:
    """Created on one, changed on another, deleted on the third; and the command says so."""
    a, b, c = cluster.nodes
    with cluster.traffic():
        cluster.some_more(30)
    assert cluster.ledger.store(a.call, "made on a", "first")
    cluster.agree()
    assert cluster.ledger.store(b.call, "made on a", "changed on b")
    cluster.agree()
    assert c.memories()["made on a"] == "changed on b"
    assert cluster.ledger.delete(c.call, "made on a")
    cluster.agree()
    eventually(lambda: _says_identical(a), "the command says that all are identical", cluster.report)


def test_stopped_and_started(cluster: Cluster) -> None:
    """It ends by itself when asked to, within its time; the others say that it is not there, and the command fails."""
    a, b, c = cluster.nodes
    with cluster.traffic():
        container = b.container
        cluster.compose("stop", "b")
        assert docker("inspect", "--format", "{{.State.ExitCode}} {{.State.OOMKilled}}", container) == "0 false"
        assert '"node.stopping"' in cluster.log_of(container)
        for other in (a, c):
            says(other, "b", *GONE)
        code, text = a.command("sync", "status")
        assert code == 13, text
        assert "unreachable" in text
        cluster.some_more()
        cluster.up("--no-deps", "b")
        b.wait_up()
        cluster.some_more()


def test_killed(cluster: Cluster) -> None:
    """kill -9 of the program in the middle of writes: the engine starts it again, and nothing is missing."""
    a, b, _ = cluster.nodes
    before = int(b.inspect("{{.RestartCount}}"))
    with cluster.traffic():
        cluster.some_more()
        b.kill()
        says(a, "b", *GONE)
        eventually(lambda: int(b.inspect("{{.RestartCount}}")) == before + 1, "the engine starts it again")
        b.wait_up()
        cluster.some_more()


def test_cut_off_and_healed(cluster: Cluster) -> None:
    """Off the network between the nodes: both sides go on writing, and both say that the other cannot be reached."""
    a, b, c = cluster.nodes
    with cluster.traffic():
        cluster.cut(c)
        for one, other in ((a, "c"), (b, "c"), (c, "a"), (c, "b")):
            says(one, other, "unknown_host", "timeout")
        assert a.of("b")["state"] != "failing"
        cluster.some_more()
        cluster.heal(c)
        cluster.some_more()


def test_paused(cluster: Cluster) -> None:
    """A machine that hangs: connections stay open, and nothing is answered."""
    a, b, c = cluster.nodes
    with cluster.traffic("a", "b"):
        docker("pause", c.container)
        try:
            for other in (a, b):
                says(other, "c", "timeout")
            cluster.some_more()
        finally:
            docker("unpause", c.container)


@pytest.mark.parametrize(
    ("minutes", "told"),
    [
        # Who has something of whom that lies in its future: the others, or it itself.
        pytest.param(10, (("a", "c"), ("b", "c")), id="fast"),
        pytest.param(-10, (("c", "a"), ("c", "b")), id="slow"),
    ],
)
def test_a_wrong_clock(cluster: Cluster, minutes: int, told: tuple[tuple[str, str], ...]) -> None:
    """What comes from the future waits, and the command says that a clock is wrong; set right, all of it counts."""
    nodes = {one.name: one for one in cluster.nodes}
    with cluster.traffic():
        nodes["c"].set_clock(60 * minutes)
        try:
            for one, other in told:
                says(nodes[one], other, "clock_skew")
            code, text = nodes[told[0][0]].command("sync", "status")
            assert code == 12, text
            assert "set the clock that is wrong" in text
            assert nodes["a"].memories() != nodes["c"].memories()
            cluster.some_more()
        finally:
            nodes["c"].set_clock(0)
        cluster.some_more()


def test_a_disk_full_and_freed(cluster: Cluster) -> None:
    """Writes are refused, and every sender says why; there is space again, and it goes on by itself."""
    a, b, c = cluster.nodes
    with cluster.other_files(str(TESTS / "small-disk.yaml")):
        cluster.replace(c)
        cluster.agree()
        c.execute("python3", "-c", FILL)
        with cluster.traffic():
            for other in (a, b):
                says(other, "c", "http_507")
            # The log has a little room that is used again, which one of these may still find.
            big = {"title": "refused", "content": "no room " * 8_000}
            answers: list[tuple[int, str | None]] = []

            def is_refused() -> bool:
                status, answer = c.call("POST", "/memories", big)
                answers.append((status, answer.get("code")))
                return status != 201

            eventually(is_refused, "there is no room for it")
            assert answers[-1] == (507, "store_full")
            refused = cluster.ledger.counts["refused"]
            eventually(lambda: cluster.ledger.counts["refused"] > refused, "its writer is refused")
            c.execute("rm", "/data/filler")
            eventually(lambda: c.call("POST", "/memories", {"title": "x", "content": "y"})[0] == 201, "it takes writes")
            cluster.some_more()
        cluster.agree()
    cluster.replace(c)  # on its own disk again, which is older
