"""Commands that make and run a node: init, serve, backup, restore, demo."""

import shutil
import signal
import socket
import sys
from pathlib import Path
from typing import Any, get_args

import click

from node import config as configuration
from node import ephemeral, logs, passphrase, process, setup
from node.cli.backend import HttpBackend, running_node, secret_of
from node.cli.context import Invocation, command
from node.cli.given import Place
from node.cli.output import UNREACHABLE, CommandError, say
from node.config import ConfigError
from node.daemon import Daemon
from node.opening import Patience
from node.restoring import put_back
from node.standing import exit_code, lines
from node.store.backup import back_up
from node.timekeeper import Timekeeper
from sync import moment
from sync.errors import RemoteError
from tls.authority import KeyType

KEY_TYPES = get_args(KeyType)


@click.command()
@click.option("--name", help="What this node calls itself [the host's name].")
@click.option(
    "--host",
    "hosts",
    multiple=True,
    help="A DNS name or address of it; several may be given [its name, localhost, 127.0.0.1].",
)
@click.option("--ca-cert", type=Place(dir_okay=False), help="Use this CA instead of a new one.")
@click.option("--ca-key", type=Place(dir_okay=False), help="Its private key.")
@click.option(
    "--key-type", type=click.Choice(KEY_TYPES), default="ec", show_default=True, help="Of certificate and CA."
)
@click.option("--no-passphrase-file", is_flag=True, help="The passphrase will come from somewhere else.")
@click.option("--no-api-key", is_flag=True, help="Let every user of this machine use the node.")
@click.option("--store", "only_store", is_flag=True, help="Make only a new, empty store, for a node that has none.")
@command
def init(
    invocation: Invocation,
    name: str | None,
    hosts: tuple[str, ...],
    ca_cert: Path | None,
    ca_key: Path | None,
    key_type: KeyType,
    no_passphrase_file: bool,
    no_api_key: bool,
    only_store: bool,
) -> None:
    """Make a node: certificate and key, configuration, allowlist, and its empty store.

    Without --ca-cert a CA is minted too; keep ca.key safe, or move it away. Where the passphrase has no other source, a
    random one is written beside the store: back it up, for without it the store cannot be read. Without --no-api-key
    clients must send the key in the file api-key; commands in this folder do so by themselves.

    No other command makes a store. Where it is lost and there is no backup, or its passphrase was not known at first,
    --store makes an empty one.
    """
    if only_store:
        if name or hosts or ca_cert or ca_key or no_passphrase_file or no_api_key:
            raise click.UsageError("--store goes with nothing else: it makes the store of a node that is there")
        config = invocation.config()
        path = setup.new_store(invocation.home, config, passphrase.find(config, invocation.home))
        invocation.show({"store": str(path)}, f"a new, empty store: {path}")
        return
    if (ca_cert is None) != (ca_key is None):
        raise click.UsageError("--ca-cert and --ca-key belong together")
    chosen = name or socket.gethostname()
    usual = tuple(host for host in (chosen, "localhost", "127.0.0.1") if setup.host_fault(host) is None)
    made = setup.init(
        invocation.home,
        chosen,
        hosts or usual,
        ca=(ca_cert, ca_key) if ca_cert is not None and ca_key is not None else None,
        key_type=key_type,
        write_passphrase=not no_passphrase_file,
        api_key=not no_api_key,
    )
    home = invocation.home.path
    told = {"home": str(home), "name": chosen, "fingerprint": made.fingerprint.text, "ca": str(home / "ca.pem")}
    lines = [f"a node in {home}", "for other operators' allowlists:", f"  {made.fingerprint.text}  # {chosen}"]
    if made.minted_ca:
        lines.append(f"and for their CA bundles: {home / 'ca.pem'}")
    if made.passphrase_file is not None:
        lines.append(f"the store's passphrase is in {made.passphrase_file}: back it up")
    if made.store is None:
        lines.append("there is no store yet: once its passphrase is there, make it with `ai-memory init --store`")
    if made.api_key_file is not None:
        lines.append(f"what clients on this machine must send as X-Api-Key is in {made.api_key_file}")
    invocation.show(told, *lines)


@click.command()
@click.option("--db", type=Place(dir_okay=False), help="Another store than the configured one.")
@click.option("--ephemeral", "throw_away", is_flag=True, help="A throw-away node: prints one JSON line when ready.")
@click.option("--key-type", type=click.Choice(KEY_TYPES), help="Of an ephemeral node's certificates [ec].")
@command
def serve(invocation: Invocation, db: Path | None, throw_away: bool, key_type: KeyType | None) -> None:
    """Run the node until SIGINT or SIGTERM. SIGHUP reads allowlist, keyring and certificates again.

    \b
    curl with the certificates that `serve --ephemeral` names:
        curl --cacert CA --cert CLIENT_CERT --key CLIENT_KEY FEDERATION_URL/api/v1/health
    """
    if throw_away:
        if db is not None:
            raise click.UsageError("--ephemeral has a store of its own: leave out --db")
        _serve_ephemeral(key_type or "ec")
        return
    if key_type is not None:
        raise click.UsageError("--key-type is for --ephemeral: the key of this node is made by `ai-memory init`")
    config = invocation.config()
    logs.configure("json" if invocation.as_json else config["log", "format"], config["log", "level"])
    if db is not None:
        config = config.with_values({("store", "path"): str(db.absolute())})
    secret = secret_of(invocation.home, config)

    def ready(node: Daemon) -> None:
        where = {"local": node.local_url, "federation": node.federation_url}
        process.log.info("node.ready", home=str(invocation.home.path), **where)

    process.run(lambda: process.serve(invocation.home, config, secret, ready=ready))


def _serve_ephemeral(key_type: KeyType) -> None:
    # Until the node is there to be stopped, the signal must leave a way to remove the folder.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    made = ephemeral.prepare(key_type)
    try:
        logs.configure("json", "warning")
        # The environment is another node's: its store, its passphrase, its certificates.
        config = configuration.load(made.home.config, {}).with_values(
            {
                ("local", "listen"): "127.0.0.1:0",
                ("federation", "listen"): "127.0.0.1:0",
                # The visitor with the listed certificate is no configured peer; here it may try everything.
                ("federation", "default_read"): ["**"],
                ("federation", "default_write"): ["**"],
            }
        )
        secret = passphrase.from_file(made.home.passphrase)

        def ready(node: Daemon) -> None:
            assert node.federation_url is not None, "its allowlist is not empty"
            say(made.ready_line(node.federation_url, node.local_url))

        process.run(lambda: process.serve(made.home, config, secret, ready=ready))
    finally:
        shutil.rmtree(made.home.path)


@click.command()
@click.argument("file", type=Place(dir_okay=False))
@command
def backup(invocation: Invocation, file: Path) -> None:
    """Write an encrypted copy of the store to FILE, which opens with the same passphrase.

    The node may run meanwhile. A copy of the files of a stopped node is a backup too, encrypted as the store is.
    """
    config, home = invocation.config(), invocation.home
    size = back_up(home.store(config), secret_of(home, config), file.absolute())
    invocation.show({"file": str(file), "bytes": size}, f"{file}: {size} bytes")


@click.command()
@click.argument("file", type=Place())
@command
def restore(invocation: Invocation, file: Path) -> None:
    """Put the backup FILE in the place of the store. The node must be stopped.

    The backup is verified first, and stays as it is; the old store is kept beside the new one. Killed at any point, the
    old one or the new one is there. The peers send what they have of the time since the backup.
    """
    config, home = invocation.config(), invocation.home
    secret = passphrase.find(config, home)
    now = moment.text(Timekeeper().now())
    done = put_back(file.absolute(), home.store(config), secret, config.agent_id, now, Patience(invocation.tell))
    kept = str(done.kept) if done.kept is not None else None
    told = {"store": str(home.store(config)), "memories": done.memories, "feed": done.number, "kept": kept}
    lines = [f"{home.store(config)}: {done.memories} memories, feed {done.number}, from {file}"]
    if kept is not None:
        lines.append(f"the old store is kept in {kept}: remove that once you miss nothing")
    invocation.show(told, *lines)


@click.group()
def sync() -> None:
    """How this node and its peers stand."""


@sync.command()
@command
def status(invocation: Invocation) -> None:
    """Per peer: how this node and it stand, since when, and why.

    \b
    Exit code, of the heaviest that there is to say:
       0  identical (the peer's digest is this node's), or in step (within the scope)
       1  this node has an alarm, or an edit of its files is not in force
       3  no node runs here
      10  in step, but records are refused now, here or there
      11  everything was confirmed, nothing is refused, and the digests differ
      12  behind: changes are on their way or wait for their time; or no answer yet
      13  unreachable
      14  refused by the peer: it does not let this node in, or takes nothing from it
      15  this node does not accept the certificate that the peer shows
      16  another failure, of this node or of the peer
    """
    told = _told(invocation)
    invocation.show(told, *lines(told))
    if code := exit_code(told):
        raise SystemExit(code)


def _told(invocation: Invocation) -> dict[str, Any]:
    """The status of the node that runs here. That its configuration was broken since is among what it has to tell."""
    try:
        running, broken = running_node(invocation), None
    except ConfigError as error:
        found, broken = invocation.home.running(), error
        key = invocation.home.api_key  # where `init` puts it: what else it might be stands in what is broken
        running = None if found is None else HttpBackend(found, passphrase.from_file(key) if key.exists() else None)
    if running is None:
        raise broken or CommandError(UNREACHABLE, "not_running", "no node runs here; start it with `ai-memory serve`")
    try:
        told: dict[str, Any] = running.call("GET", "/sync/status")
    except RemoteError as error:
        if broken is not None and error.code == "unauthorized":
            raise broken from None  # where its key lies stands in the file that cannot be read
        raise
    return told


@click.command()
@click.option("--nodes", default=3, show_default=True, type=click.IntRange(2, 8), help="How many nodes.")
@click.option("--records", default=4_000, show_default=True, type=click.IntRange(10, 200_000), help="How many.")
@command
def demo(invocation: Invocation, nodes: int, records: int) -> None:
    """A real mesh on this machine: real text, edits, deletes, a stranger at the gate, and the figures."""
    from node import demo as demonstration

    raise SystemExit(demonstration.run(nodes, records, invocation.as_json))


COMMANDS = (init, serve, backup, restore, sync, demo)
