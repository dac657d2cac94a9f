"""What a daemon of the older protocol does to a row that a node wrote accuses nobody, wherever the row ends up.

The row carries our attestation along, whatever becomes of the row. Its counters are MACs over the key that it was
signed for, so under another key they are what a liar would say.
"""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest
from certs import Mesh
from lines import Caller
from nodes import Place, eventually, local, peer
from older import NAMESPACE, QUICK
from rust_daemon import V063, V070, Release, Request, RustDaemon

from node.daemon import Daemon
from sync import moment
from sync.attest import Said

RELEASES = pytest.mark.parametrize("release", [V063, V070], ids=["0.6.3", "0.7.0"])
FAR = "far"


@dataclass
class Mesh3:
    """Node `a` writes. Node `b` takes what is far and nothing else, from `a` and from the daemon. Both know both."""

    a: Daemon
    b: Daemon
    at_a: Caller
    at_b: Caller
    old: RustDaemon

    async def write(self, title: str, namespace: str = NAMESPACE) -> str:
        """On `a`; returned once the daemon has it."""
        body = {"title": title, "content": f"of {title}", "namespace": namespace, "tier": "long"}
        made = str((await self.at_a("POST", "/memories", body)).json["id"])

        async def arrived() -> bool:
            return self.old.store.titled(title, namespace) is not None

        await eventually(arrived)
        return made

    async def there(self, method: str, path: str, body: Any = None) -> Any:
        """What a client of the daemon asks it."""
        headers = (("content-type", "application/json"), ("x-agent-id", "ai:old"))
        answer = await self.old.handle(Request(method, f"/api/v1{path}", "", headers, _json(body)))
        assert answer.status < 300, answer
        return answer.body

    async def rewrite(self, record_id: str, **fields: Any) -> None:
        """A row put there past the daemon's own rules, as by a program of its operator's that has the database."""
        row = self.old.store.get(record_id)
        assert row is not None
        self.old.store.delete(record_id)
        at = moment.text(moment.microseconds(moment.canonical(row["updated_at"]) or "") + moment.SECOND)
        assert self.old.store.merge(row | {"updated_at": at} | fields)

    async def agree(self) -> None:
        """Return once the daemon has what `a` shows, and `b` what of it is far."""

        def shown(rows: list[dict[str, Any]]) -> set[tuple[str, str, str]]:
            return {(one["namespace"], one["title"], one["content"]) for one in rows}

        async def look() -> bool:
            at_a, at_b = [
                shown((await caller("GET", "/memories?limit=1000")).json["memories"])
                for caller in (self.at_a, self.at_b)
            ]
            return at_a == shown(self.old.store.all()) and at_b == {one for one in at_a if one[0] == FAR}

        try:
            await eventually(look)
        except TimeoutError:
            raise AssertionError(f"{await self.told()}, {shown(self.old.store.all())}") from None

    async def told(self) -> list[Any]:
        """Of each node: its alarms, its conflicts, how many lives it has had."""
        found = []
        for daemon, caller in ((self.a, self.at_a), (self.b, self.at_b)):
            status = (await caller("GET", "/sync/status")).json
            lives = await daemon.store.reader.run(lambda reader: reader.execute("SELECT count(*) FROM life").fetchone())
            found.append((status["alarms"], status["conflicts"], lives[0]))
        return found


def _json(body: Any) -> bytes:
    return b"" if body is None else json.dumps(body).encode()


@asynccontextmanager
async def three(mesh: Mesh, release: Release = V063) -> AsyncIterator[Mesh3]:
    old = RustDaemon(release, name="old")
    a, b = Place(mesh, "a", QUICK), Place(mesh, "b", QUICK)
    async with old.serving(mesh.node, [a.fingerprint, b.fingerprint]):
        bridge = peer("old", mesh.node.fingerprint, url=old.url, legacy=True)
        far = peer("old", mesh.node.fingerprint, url=old.url, legacy=True, write=[FAR], read=["nothing"])
        a.configure(bridge, b.as_peer(allow_unsigned=True))
        b.configure(far, a.as_peer(write=(FAR,), allow_unsigned=True))
        a.list(b.fingerprint, mesh.node.fingerprint)
        b.list(a.fingerprint, mesh.node.fingerprint)
        async with a.serving() as at_a, b.serving() as at_b, local(at_a) as to_a, local(at_b) as to_b:
            yield Mesh3(at_a, at_b, to_a, to_b, old)


async def moved(mesh: Mesh3) -> None:
    made = await mesh.write("one")
    await mesh.there("PUT", f"/memories/{made}", {"namespace": FAR})


async def moved_and_edited(mesh: Mesh3) -> None:
    made = await mesh.write("one")
    await mesh.there("PUT", f"/memories/{made}", {"namespace": FAR, "content": "edited", "title": "other"})


async def moved_and_back(mesh: Mesh3) -> None:
    await moved(mesh)
    await mesh.agree()
    (row,) = mesh.old.store.all()
    await mesh.there("PUT", f"/memories/{row['id']}", {"namespace": NAMESPACE})


async def moved_here_and_back_there(mesh: Mesh3) -> None:
    """`a` left a tombstone there, and the daemon was told of it."""
    made = await mesh.write("one", FAR)
    await mesh.agree()
    assert (await mesh.at_a("PUT", f"/memories/{made}", {"namespace": NAMESPACE})).status == 200
    await mesh.agree()
    (row,) = mesh.old.store.all()
    assert row["namespace"] == NAMESPACE
    await mesh.there("PUT", f"/memories/{row['id']}", {"namespace": FAR})


async def renamed(mesh: Mesh3) -> None:
    made = await mesh.write("one", FAR)
    await mesh.there("PUT", f"/memories/{made}", {"title": "other", "content": "edited"})


async def copied(mesh: Mesh3) -> None:
    """By a client that takes all fields over, our attestation among them."""
    made = await mesh.write("one")
    row = mesh.old.store.get(made)
    assert row is not None
    body = {name: row[name] for name in ("title", "content", "tags", "metadata", "tier")}
    await mesh.there("POST", "/memories", body | {"namespace": FAR})


async def merged(mesh: Mesh3) -> None:
    ids = [await mesh.write("one", FAR), await mesh.write("two", FAR)]
    body = {"ids": ids, "title": "both", "summary": "of both", "namespace": FAR}
    await mesh.there("POST", "/consolidate", body)
    await forgotten(mesh, ids)


async def archived_and_restored(mesh: Mesh3) -> None:
    made = await mesh.write("one", FAR)
    await mesh.there("POST", "/archive", {"ids": [made]})
    await mesh.there("POST", f"/archive/{made}/restore", {})


async def under_another_id(mesh: Mesh3) -> None:
    made = await mesh.write("one", FAR)
    await mesh.agree()
    await mesh.rewrite(made, id="another", content="edited")


async def under_another_id_and_namespace(mesh: Mesh3) -> None:
    made = await mesh.write("one")
    await mesh.rewrite(made, id="another", namespace=FAR)
    await forgotten(mesh, [made])


async def unaltered_elsewhere(mesh: Mesh3) -> None:
    """Its time is that of the attestation still: a move by a program that leaves it alone."""
    made = await mesh.write("one")
    row = mesh.old.store.get(made)
    assert row is not None
    await mesh.rewrite(made, namespace=FAR, updated_at=row["updated_at"])


async def swapped(mesh: Mesh3) -> None:
    """Each of two rows with the other's attestation."""
    one, two = await mesh.write("one", FAR), await mesh.write("two", FAR)
    await mesh.agree()
    rows = [mesh.old.store.get(each) for each in (one, two)]
    assert rows[0] is not None and rows[1] is not None
    await mesh.rewrite(one, metadata=rows[1]["metadata"], content="edited one")
    await mesh.rewrite(two, metadata=rows[0]["metadata"], content="edited two")


async def forgotten(mesh: Mesh3, ids: list[str]) -> None:
    """What is gone at the daemon without a word stays here: its operator takes it away here too."""
    for record_id in ids:
        await mesh.at_a("DELETE", f"/memories/{record_id}")


DONE: list[Callable[[Mesh3], Awaitable[None]]] = [
    moved, moved_and_edited, moved_and_back, moved_here_and_back_there, renamed, copied, merged, archived_and_restored,
    under_another_id, under_another_id_and_namespace, unaltered_elsewhere, swapped,
]  # fmt: skip


@RELEASES
@pytest.mark.parametrize("done", DONE, ids=lambda done: done.__name__)
async def test_what_a_daemon_does_to_our_row_accuses_nobody(
    done: Callable[[Mesh3], Awaitable[None]], mesh: Mesh, release: Release
) -> None:
    """No alarm and no life more on either node, and in the end all three have the same.

    No conflict either, but where a row says nothing of what it replaces: a swapped one, and one that came back over a
    delete, where the node that reads it first did not tell the daemon of that delete itself.
    """
    async with three(mesh, release) as nodes:
        await done(nodes)
        await nodes.agree()
        told = await nodes.told()
        assert [(alarms, lives) for alarms, _, lives in told] == [([], 1), ([], 1)]
        assert done in (swapped, moved_here_and_back_there) or all(conflicts == 0 for _, conflicts, _ in told)


async def test_without_the_key_in_what_is_signed_an_honest_node_is_accused(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Control: the writer of a memory that the daemon moved, for nothing."""
    true = Said.undotted.fget  # type: ignore[attr-defined]  # a property of a class
    monkeypatch.setattr(Said, "undotted", property(lambda said: true(replace(said, namespace=""))))
    async with three(mesh) as nodes:
        await moved(nodes)

        async def accused() -> bool:
            (alarms, _, _), _ = await nodes.told()
            return [one["kind"] for one in alarms] == ["forged_claim"]

        await eventually(accused)
