"""Commands that make and run a node: init, serve, backup, demo."""

import shutil
import signal
import socket
import sys
from pathlib import Path
from typing import Any, get_args

import click

from node import config as configuration
from node import daemon, ephemeral, logs, passphrase, setup
from node.cli.backend import running_node
from node.cli.context import Invocation, command
from node.cli.output import UNREACHABLE, CommandError
from node.store.backup import back_up
from tls.authority import KeyType

KEY_TYPES = get_args(KeyType)


@click.command()
@click.option("--name", help="What this node calls itself [the host's name].")
@click.option("--host", "hosts", multiple=True, help="A DNS name or address of it; several may be given.")
@click.option("--ca-cert", type=click.Path(path_type=Path, dir_okay=False), help="Use this CA instead of a new one.")
@click.option("--ca-key", type=click.Path(path_type=Path, dir_okay=False), help="Its private key.")
@click.option(
    "--key-type", type=click.Choice(KEY_TYPES), default="ec", show_default=True, help="Of certificate and CA."
)
@click.option("--no-passphrase-file", is_flag=True, help="The passphrase will come from somewhere else.")
@command
def init(
    invocation: Invocation,
    name: str | None,
    hosts: tuple[str, ...],
    ca_cert: Path | None,
    ca_key: Path | None,
    key_type: KeyType,
    no_passphrase_file: bool,
) -> None:
    """Make a node: certificate and key, configuration, allowlist.

    Without --ca-cert a CA is minted too; keep ca.key safe, or move it away. Without --no-passphrase-file a random
    passphrase is written beside the store: back it up, for without it the store cannot be read.
    """
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
    )
    home = invocation.home.path
    told = {"home": str(home), "name": chosen, "fingerprint": made.fingerprint.text, "ca": str(home / "ca.pem")}
    lines = [f"a node in {home}", "for other operators' allowlists:", f"  {made.fingerprint.text}  # {chosen}"]
    if made.minted_ca:
        lines.append(f"and for their CA bundles: {home / 'ca.pem'}")
    if made.passphrase_file is not None:
        lines.append(f"the store's passphrase is in {made.passphrase_file}: back it up")
    invocation.show(told, "\n".join(lines))


@click.command()
@click.option("--db", type=click.Path(path_type=Path, dir_okay=False), help="Another store than the configured one.")
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
    secret = passphrase.find(config, invocation.home)

    def ready(node: daemon.Daemon) -> None:
        where = {"local": node.local_url, "federation": node.federation_url}
        daemon.log.info("node.ready", home=str(invocation.home.path), **where)

    daemon.run(lambda: daemon.serve(invocation.home, config, secret, create=True, ready=ready))


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

        def ready(node: daemon.Daemon) -> None:
            assert node.federation_url is not None, "its allowlist is not empty"
            click.echo(made.ready_line(node.federation_url, node.local_url))

        daemon.run(lambda: daemon.serve(made.home, config, secret, create=True, ready=ready))
    finally:
        shutil.rmtree(made.home.path)


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@command
def backup(invocation: Invocation, file: Path) -> None:
    """Write an encrypted copy of the store to FILE, which opens with the same passphrase.

    The node may run meanwhile. A copy of the files of a stopped node is a backup too, encrypted as the store is.
    """
    config = invocation.config()
    size = back_up(invocation.home.store(config), passphrase.find(config, invocation.home), file.absolute())
    invocation.show({"file": str(file), "bytes": size}, f"{file}: {size} bytes")


@click.group()
def sync() -> None:
    """How this node and its peers stand."""


@sync.command()
@command
def status(invocation: Invocation) -> None:
    """Per peer: in step or not, how far behind, since when, and why.

    Exit code 1 where a peer is not in step, memories from it wait, or there is an alarm.
    """
    running = running_node(invocation)
    if running is None:
        raise CommandError(UNREACHABLE, "not_running", "no node runs here; start it with `ai-memory serve`")
    told = running.call("GET", "/sync/status")
    invocation.show(told, _status_text(told))
    if not all_is_well(told):
        raise SystemExit(1)


def all_is_well(told: dict[str, Any]) -> bool:
    """Whether a status has nothing that an operator should look at."""
    return not told["alarms"] and all(peer["state"] == "in_step" and not peer["waiting"] for peer in told["peers"])


def _status_text(told: dict[str, Any]) -> str:
    lines = [f"{told['node']}  feed {told['feed']}  digest {told['digest']}  conflicts {told['conflicts']}"]
    if told["federation_url"] is None:
        lines.append("the federation listener is closed: the allowlist is empty")
    for peer in told["peers"]:
        since = "" if peer["for_seconds"] is None else f" for {_duration(peer['for_seconds'])}"
        behind = f", {peer['behind']} behind" if peer["behind"] else ""
        lines.append(f"{peer['peer']:16}{peer['state'].replace('_', ' ')}{since}{behind}: {peer['reason']}")
        lines += [f"{'':16}{note}" for note in peer["notes"]]
    lines += [f"ALARM {alarm['kind']} {alarm['peer'] or ''}: {alarm['detail']}" for alarm in told["alarms"]]
    return "\n".join(lines)


def _duration(seconds: float) -> str:
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


@click.command()
@click.option("--nodes", default=3, show_default=True, type=click.IntRange(2, 8), help="How many nodes.")
@click.option("--records", default=4_000, show_default=True, type=click.IntRange(10, 200_000), help="How many.")
@command
def demo(invocation: Invocation, nodes: int, records: int) -> None:
    """A real mesh on this machine: real text, edits, deletes, a stranger at the gate, and the figures."""
    from node import demo as demonstration

    raise SystemExit(demonstration.run(nodes, records, invocation.as_json))


COMMANDS = (init, serve, backup, sync, demo)
