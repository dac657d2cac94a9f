"""Three real nodes in three processes: they agree, through kill -9 and through restored stores.

`MESH_RECORDS` and `MESH_KILLS` scale it: `make test-mesh` runs it at full size, and `make test` leaves it out.
"""

import itertools
import os
import random
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import finished
from marker import MARKER

from node.demo.corpus import Text, texts
from node.demo.evidence import knock, plaintext_in
from node.demo.mesh import HOST, Mesh, MeshNode, NodeError

RECORDS = int(os.environ.get("MESH_RECORDS", "3000"))
KILLS = int(os.environ.get("MESH_KILLS", "3"))
BATCH = 500
PATIENCE = 600.0
QUICK = {"AI_MEMORY_SYNC_PULL_INTERVAL": "2", "AI_MEMORY_SYNC_RETRY_LONGEST": "2"}


def corpus(count: int) -> list[Text]:
    """Real docstrings, repeated under other titles where there are too few."""
    real = list(itertools.islice(texts(), count))
    return [
        Text(
            one.namespace,
            f"{one.title} #{index // len(real)}" if index >= len(real) else one.title,
            f"{one.content}\n{MARKER}",
        )
        for index, one in zip(range(count), itertools.cycle(real), strict=False)
    ]


def load(node: MeshNode, memories: list[Text]) -> None:
    for start in range(0, len(memories), BATCH):
        body = [
            {"namespace": one.namespace, "title": one.title, "content": one.content, "tier": "long"}
            for one in memories[start : start + BATCH]
        ]
        answer = node.call("POST", "/memories/bulk", body)
        assert not answer["errors"], answer["errors"][:3]


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[Mesh]:
    with Mesh(tmp_path, ["a", "b", "c"], QUICK) as started:
        started.start()
        yield started


def agree(mesh: Mesh, total: int) -> None:
    assert mesh.wait_converged(PATIENCE), [node.get("/sync/status") for node in mesh.nodes]
    assert {node.get("/stats")["total"] for node in mesh.nodes} == {total}


def test_what_is_written_anywhere_is_everywhere(mesh: Mesh) -> None:
    """Creates, updates, deletes, a promotion and a move on different nodes: all three end the same."""
    a, b, c = mesh.nodes
    made = a.call("POST", "/memories", {"title": "one", "content": "first", "namespace": "x"})
    other = b.call("POST", "/memories", {"title": "two", "content": "second", "namespace": "x"})
    agree(mesh, 2)
    c.call("PUT", f"/memories/{made['id']}", {"content": "changed on c"})
    a.call("DELETE", f"/memories/{other['id']}")
    agree(mesh, 1)
    b.call("PUT", f"/memories/{made['id']}", {"namespace": "y/z"})
    c_promoted = {"id": made["id"], "promoted": True, "tier": "long"}
    agree(mesh, 1)
    assert c.call("POST", f"/memories/{made['id']}/promote", {}) == c_promoted
    agree(mesh, 1)
    found = {str(node.get(f"/memories/{made['id']}")["memory"]) for node in mesh.nodes}
    assert len(found) == 1
    assert "y/z" in found.pop()


def test_the_same_title_on_two_nodes_is_one_memory(mesh: Mesh) -> None:
    """Two nodes that create one title while apart make two versions of one memory, and both are kept."""
    a, b, c = mesh.nodes
    c.stop()
    b.stop()
    a.call("POST", "/memories", {"title": "both", "content": "from a"})
    a.stop()
    b.start()
    b.call("POST", "/memories", {"title": "both", "content": "from b"})
    a.start()
    c.start()
    agree(mesh, 1)
    assert [node.get("/conflicts")["count"] for node in mesh.nodes] == [1, 1, 1]
    kept = {version["record"]["content"] for version in c.get("/conflicts")["conflicts"][0]["versions"]}
    assert kept == {"from a", "from b"}
    found = c.get("/memories")["memories"][0]
    c.call("PUT", f"/memories/{found['id']}", {"content": "settled"})
    agree(mesh, 1)
    assert [node.get("/conflicts")["count"] for node in mesh.nodes] == [0, 0, 0]


def test_killed_in_the_middle_of_pushes(mesh: Mesh, tmp_path: Path) -> None:
    """Everything that was acknowledged survives kill -9 of each node in turn, while pushes are under way."""
    rng = random.Random(4711)
    memories = corpus(RECORDS)
    base, rest = memories[: RECORDS // 2], memories[RECORDS // 2 :]
    load(mesh.nodes[0], base)
    agree(mesh, len(base))
    rounds = KILLS * len(mesh.nodes)
    share = max(1, len(rest) // rounds)
    acknowledged = len(base)
    for number in range(rounds):
        victim = mesh.nodes[number % len(mesh.nodes)]
        writer = mesh.nodes[(number + 1 + number // len(mesh.nodes) % 2) % len(mesh.nodes)]
        batch = rest[number * share : (number + 1) * share] if number + 1 < rounds else rest[number * share :]
        loading = threading.Thread(target=load, args=(writer, batch))
        loading.start()
        time.sleep(rng.uniform(0.0, 0.25))
        victim.kill()
        loading.join()
        acknowledged += len(batch)
        victim.start()
    agree(mesh, acknowledged)
    assert acknowledged == len(memories)
    mesh.stop()
    assert plaintext_in([node.home.path for node in mesh.nodes], [one.content for one in memories[:2_000]]) == []


def test_a_node_that_was_away_catches_up(mesh: Mesh) -> None:
    """A node that was stopped during many changes gets them all once it is back, without anybody's help."""
    a, _, c = mesh.nodes
    c.stop()
    memories = corpus(RECORDS)
    load(a, memories)
    began = time.monotonic()
    c.start()
    agree(mesh, len(memories))
    print(f"\ncaught up with {len(memories)} changes in {time.monotonic() - began:.1f} s, start included")


@pytest.mark.parametrize("what", ["store", "home", "by the command"])
def test_an_older_copy_restored_without_a_word(mesh: Mesh, tmp_path: Path, what: str) -> None:
    """A store, or a whole home folder, replaced by an older copy: nothing that any node acknowledged is lost.

    `ai-memory restore` does it with a word, and after a kill.
    """
    a, b, c = mesh.nodes
    load(a, corpus(200))
    agree(mesh, 200)
    assert finished(["backup", str(tmp_path / "backup.db"), "--home", str(b.home.path)]).code == 0
    b.stop()
    copy = tmp_path / "copy"
    shutil.copytree(b.home.path, copy)
    b.start()
    for index in range(20):
        b.call("POST", "/memories", {"title": f"after the copy {index}", "content": "kept by the others"})
    agree(mesh, 220)
    if what == "by the command":
        b.kill()
        done = finished(["restore", str(tmp_path / "backup.db"), "--home", str(b.home.path), "--json"])
        assert done.json["memories"] == 200
    else:
        b.stop()
    if what == "home":
        shutil.rmtree(b.home.path)
        shutil.copytree(copy, b.home.path)
    elif what == "store":
        for path in b.home.path.glob("store.db*"):
            path.unlink()
        shutil.copy(copy / "store.db", b.home.path / "store.db")
    b.start()
    for index in range(20):
        b.call("POST", "/memories", {"title": f"after the restore {index}", "content": "new on the restored node"})
    c.call("POST", "/memories", {"title": "meanwhile", "content": "on another"})
    agree(mesh, 241)
    assert [node.get("/conflicts")["count"] for node in mesh.nodes] == [0, 0, 0]


def test_a_stranger_and_a_removed_peer_stay_out(mesh: Mesh, tmp_path: Path) -> None:
    """A certificate of the same CA that is not listed gets an alert; so does a peer taken off the list."""
    a, b, _ = mesh.nodes
    seen = knock(HOST, a.federation_port, a.home.path / "ca.pem", mesh.issue("stranger"), tmp_path)
    assert seen.refused
    assert seen.http_bytes == 0
    assert "certificate unknown" in (seen.alert or "")
    listed = knock(HOST, a.federation_port, a.home.path / "ca.pem", _identity(b), tmp_path)
    assert listed.http_bytes > 0
    allowlist = a.home.path / "allowlist"
    lines = allowlist.read_text().splitlines(keepends=True)
    allowlist.write_text("".join(line for line in lines if b.fingerprint.hex not in line))
    deadline = time.monotonic() + 10
    while _listed_connections(a) > 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(1.0)
    assert knock(HOST, a.federation_port, a.home.path / "ca.pem", _identity(b), tmp_path).http_bytes == 0
    b.call("POST", "/memories", {"title": "unheard", "content": "b writes on"})
    status = _peer_of(b, "a")
    assert status["state"] == "failing"
    assert b.fingerprint.text in status["reason"]  # the line that a's operator would have to add


def _listed_connections(node: MeshNode) -> int:
    return int(node.get("/sync/status")["connections"])


def _peer_of(node: MeshNode, name: str) -> dict[str, object]:
    deadline = time.monotonic() + 15
    while True:
        found = next(one for one in node.get("/sync/status")["peers"] if one["peer"] == name)
        if found["state"] == "failing" or time.monotonic() > deadline:
            return dict(found)
        time.sleep(0.1)


def _identity(node: MeshNode) -> object:
    from tls.authority import Identity

    path = node.home.path
    return Identity((path / "node.pem").read_bytes(), (path / "node.key").read_bytes(), node.fingerprint)


def test_a_wrong_edit_of_the_allowlist_keeps_the_last_good_one(mesh: Mesh) -> None:
    """A broken line, and SIGHUP: the node goes on with what it had, and says which line is wrong."""
    a, b, _ = mesh.nodes
    with (a.home.path / "allowlist").open("a") as file:
        file.write("sha256:this is no fingerprint\n")
    assert a.process is not None
    a.process.send_signal(signal.SIGHUP)
    deadline = time.monotonic() + 10
    while "allowlist.broken" not in a.log_tail() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert "found 't', expected a hex digit" in a.log_tail()
    b.call("POST", "/memories", {"title": "still", "content": "in step"})
    agree(mesh, 1)


def test_a_node_that_cannot_start_says_why(tmp_path: Path) -> None:
    """A taken port is a clear error, not a trace."""
    with Mesh(tmp_path, ["a", "b"]) as mesh:
        mesh.nodes[1].local_port = mesh.nodes[0].local_port
        mesh.nodes[0].start()
        with pytest.raises(NodeError):
            mesh.nodes[1].start()
        assert "ai-memory: [local] listen" in mesh.nodes[1].log_tail()
