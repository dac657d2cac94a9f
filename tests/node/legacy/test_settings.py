"""Who is a daemon of the older protocol: the peer that is configured so, and nobody that only says so."""

from pathlib import Path
from typing import Any

import pytest
from certs import Mesh
from commands import new_home, run
from nodes import Place, eventually, federation, local, peer, push, serving, status_of, write
from older import QUICK, couple
from rust_daemon import V063, RustDaemon

from node import config as configuration

BODY = {"sender_agent_id": "host:old", "memories": []}


async def test_only_a_peer_that_is_configured_so_is_answered_so(mesh: Mesh) -> None:
    """The headers claim the same for both; the certificate decides. And a node is told that it is no daemon."""
    place = Place(mesh, "ours", {})
    friend, stranger = mesh.friend, mesh.issue("another")
    place.configure(peer("old", friend.fingerprint, legacy=True), peer("node", stranger.fingerprint))
    place.list(friend.fingerprint, stranger.fingerprint)
    claims = {"x-peer-id": "host:old", "x-agent-id": "host:old"}
    async with place.serving() as daemon, federation(daemon, mesh, friend) as old:
        assert (await old("POST", "/sync/push", BODY, claims)).status == 200
        assert (await old("GET", "/sync/since?since=2026-01-01T00%3A00%3A00Z")).json["count"] == 0
        assert (await old("POST", "/sync/push", push())).code == "not_legacy"
        async with federation(daemon, mesh, stranger) as native:
            assert (await native("POST", "/sync/push", BODY, claims)).code == "not_native"
            assert (await native("GET", "/sync/since?since=2026-01-01T00%3A00%3A00Z")).code == "unsupported"
            assert (await native("POST", "/sync/push", push())).status == 200


async def test_strangers_may_be_daemons_where_the_operator_says_so(mesh: Mesh) -> None:
    """`default_legacy`: within the default scope, and only that."""
    settings = {("federation", "default_legacy"): True, ("federation", "default_write"): ["team"]}
    place = Place(mesh, "ours", settings)
    place.list(mesh.friend.fingerprint)
    async with place.serving() as daemon, federation(daemon, mesh, mesh.friend) as old, local(daemon) as client:
        rows = [row("one", "team"), row("two", "elsewhere")]
        told = (await old("POST", "/sync/push", BODY | {"memories": rows})).json
        assert (told["applied"], told["skipped"]) == (1, 1)
        assert [one["title"] for one in (await client("GET", "/memories")).json["memories"]] == ["one"]


async def test_what_it_may_not_write_fills_no_table(mesh: Mesh) -> None:
    """Whatever it shows outside its scope: nothing is written down of it, under however many titles it comes."""
    settings = {("federation", "default_legacy"): True, ("federation", "default_write"): ["team"]}
    place = Place(mesh, "ours", settings)
    place.list(mesh.friend.fingerprint)

    def rows_kept(reader: Any) -> list[tuple[int, int]]:
        counts = "(SELECT count(*) FROM legacy_record), (SELECT count(*) FROM legacy_due)"
        return [tuple(one) for one in reader.execute(f"SELECT {counts}")]

    async with place.serving() as daemon, federation(daemon, mesh, mesh.friend) as old:
        for start in range(0, 200, 50):
            rows = [row(f"two {n}", "elsewhere") for n in range(start, start + 50)]
            told = (await old("POST", "/sync/push", BODY | {"memories": [row("one", "team"), *rows]})).json
            assert told["skipped"] == 50
        assert await daemon.store.reader.run(rows_kept) == [(1, 0)]


def row(title: str, namespace: str) -> dict[str, Any]:
    at = "2026-01-01T00:00:00.5+00:00"
    fields = {"id": f"id-{title}", "tier": "long", "namespace": namespace, "title": title, "content": "c", "tags": []}
    fields |= {"priority": 5, "confidence": 1.0, "source": "api", "access_count": 0, "created_at": at}
    return fields | {"updated_at": at, "metadata": {}}


async def test_a_daemon_that_is_taken_out_is_forgotten(mesh: Mesh) -> None:
    """Tables and index go empty with it, and put in again it is sent everything anew, and nothing that it has."""
    async with couple(mesh, V063) as both:
        await both.write("ours")
        await both.same("ours")
        await both.settled()
        config = both.place.home.config
        text = config.read_text()
        config.write_text(text[: text.index("[[peer]]")])
        both.daemon.poke()

        async def gone() -> bool:
            return not (await both.local("GET", "/sync/status")).json["peers"]

        await eventually(gone)

        def rows(reader: Any) -> tuple[int, int]:
            index = reader.execute("SELECT count(*) FROM sqlite_master WHERE name = 'legacy_at'").fetchone()[0]
            return reader.execute("SELECT count(*) FROM legacy_record").fetchone()[0], index

        async def forgotten() -> bool:
            return await both.daemon.store.reader.run(rows) == (0, 0)

        await eventually(forgotten)
        both.old.store.delete(both.theirs()["ours"]["id"])
        config.write_text(text)
        both.daemon.poke()
        await both.same("ours")
        await both.settled()
        assert both.old.complaints == []


def test_the_command_writes_what_the_configuration_reads(tmp_path: Path) -> None:
    """`peer add --legacy`, and the list says so."""
    home = new_home(tmp_path)
    added = run("peer", "add", "old", "--legacy", "--fingerprint", "sha256:" + 64 * "a", "--json", home=home)
    assert added.json["legacy"] is True
    (one,) = configuration.load(home.config, {}).peers
    assert one.legacy
    assert run("peer", "list", "--json", home=home).json[0]["legacy"] is True


@pytest.mark.parametrize("file", ["old-key", "not-there"])
async def test_a_daemon_that_asks_for_a_key_is_given_it(file: str, mesh: Mesh) -> None:
    """The key comes from a file in the node's folder; without it the status says what the daemon said."""
    old = RustDaemon(V063, name="old", api_key="open sesame")
    place = Place(mesh, "a", QUICK)
    place.write_secret("old-key", "open sesame\n")
    async with old.serving(mesh.node, [place.fingerprint]):
        place.configure(peer("old", mesh.node.fingerprint, url=old.url, legacy=True, api_key_file=file))
        place.list(mesh.node.fingerprint)
        async with serving(place) as [(_, at)]:
            await write(at, "ours")

            async def told() -> bool:
                if file == "old-key":
                    return [row["title"] for row in old.store.all()] == ["ours"]
                status = await status_of(at, "old")
                return bool(status["code"] == "http_401" and "API key" in status["reason"])

            await eventually(told)


@pytest.mark.parametrize("arguments", [(), ("--legacy",)], ids=["of this protocol", "never called"])
def test_a_key_for_whom_it_is_never_sent_to_is_refused(arguments: tuple[str, ...], tmp_path: Path) -> None:
    """It is for daemons of the older protocol that this node calls; the configuration stays as it was."""
    home = new_home(tmp_path)
    before = home.config.read_bytes()
    added = run(
        "peer", "add", "old", *arguments, "--api-key-file", "key", "--fingerprint", "sha256:" + 64 * "a", home=home
    )
    assert added.code != 0 and "expected legacy = true and a url" in added.err
    assert home.config.read_bytes() == before
