"""Commands about who may use the local listener: the API key, and tokens for single agents."""

import click

from node import setup, tokens
from node.cli.context import Invocation, command
from node.cli.output import NO, CommandError
from node.timekeeper import Timekeeper
from node.tokens import Token


@click.group(name="api-key")
def api_key() -> None:
    """The key that clients on this machine must send as X-Api-Key."""


@api_key.command()
@command
def rotate(invocation: Invocation) -> None:
    """Make another API key, or the first one of a node that asked for none. Tokens stay as they are.

    The running node takes the new key from the next request on, and the old one no more. Commands in this folder notice
    by themselves.
    """
    is_running = invocation.home.running() is not None
    path, is_first = setup.require_api_key(invocation.home)
    told = {"file": str(path), "restart_needed": is_first and is_running}
    text = f"a new key is in {path}"
    if told["restart_needed"]:
        text += "; the running node asks for none yet: start it again"
    invocation.show(told, text)


@click.group()
def token() -> None:
    """Tokens: each lets a client on this machine write as one agent, and see some namespaces."""


@token.command()
@click.argument("agent")
@click.option("--read", multiple=True, help="Namespaces that it sees (globs); may be given several times.")
@click.option("--write", multiple=True, help="Namespaces that it may write (globs); may be given several times.")
@command
def add(invocation: Invocation, agent: str, read: tuple[str, ...], write: tuple[str, ...]) -> None:
    """Make a token for AGENT, and show it this once. The client sends it as X-Api-Key, in place of the API key.

    Without --read and --write it is for all namespaces; with one of them, for nothing of the other. What it may not see
    is to the client as if it were not there; a change takes both. A running node takes it at once.

        ai-memory token add ai:helper --read 'team/**' --write team/notes
    """
    config = invocation.config()
    text, made = tokens.add(invocation.home.tokens, agent, read, write, Timekeeper().now())
    lines = [text, _line(made)]
    is_guarded = config["local", "api_key_file"] is not None
    if not is_guarded:
        lines.append(
            "this node asks for no API key: who sends nothing may still do everything (ai-memory api-key rotate)"
        )
    invocation.show({"token": text, **_told(made), "guarded": is_guarded}, *lines)


@token.command(name="list")
@command
def listed(invocation: Invocation) -> None:
    """Show the tokens, without what opens."""
    invocation.config()  # where there is no node that is the first thing to say
    found = tokens.load(invocation.home.tokens)
    invocation.show([_told(one) for one in found], *(map(_line, found) if found else ("no tokens",)))


@token.command()
@click.argument("who", metavar="ID|AGENT")
@command
def revoke(invocation: Invocation, who: str) -> None:
    """Take away a token, by 4 or more digits of its id, or all of an agent's. A running node refuses it at once."""
    invocation.config()
    gone = tokens.revoke(invocation.home.tokens, who)
    if not gone:
        raise CommandError(NO, "not_found", f"there is no token {who!r}; see `ai-memory token list`")
    invocation.show({"revoked": [_told(one) for one in gone]}, *(f"revoked: {_line(one)}" for one in gone))


def _told(one: Token) -> dict[str, object]:
    return {
        "id": one.id,
        "agent": one.agent,
        "read": list(one.read),
        "write": list(one.write),
        "made_at": one.made_at,
    }


def _line(one: Token) -> str:
    reads, writes = (", ".join(globs) or "nothing" for globs in (one.read, one.write))
    return f"{one.id}  {one.agent}  sees {reads}; writes {writes}; made {one.made_at}"


COMMANDS = (api_key, token)
