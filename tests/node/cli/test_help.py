"""Help worth reading: every command, every option, and the table of exit codes."""

from collections.abc import Iterator

import click
import pytest
from commands import run

from node.cli import main
from node.cli.output import EXIT_CODES


def commands(
    group: click.Command = main, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every group and command below, with the words that call it."""
    yield path, group
    if isinstance(group, click.Group):
        for name, command in group.commands.items():
            yield from commands(command, (*path, name))


ALL = dict(commands())
NAMES = pytest.mark.parametrize("path", ALL, ids=" ".join)


def test_the_walk_finds_the_commands() -> None:
    """Control: the ones that are promised are there."""
    promised = (
        "init", "serve", "fingerprint", "allowlist check", "allowlist list", "allowlist add", "allowlist remove",
        "peer add", "peer list", "peer remove", "sync status", "store", "get", "list", "search", "update", "delete",
        "promote", "conflicts list", "conflicts show", "conflicts resolve", "stats", "backup", "demo",
    )  # fmt: skip
    assert {" ".join(path) for path in ALL} >= set(promised)


@NAMES
def test_every_command_explains_itself(path: tuple[str, ...]) -> None:
    """A sentence that begins with a capital and ends with a full stop, in the list of commands as well."""
    text = (ALL[path].help or "").strip()
    assert text[:1].isupper()
    assert text.split("\n\n")[0].rstrip().endswith((".", ":"))
    assert ALL[path].get_short_help_str(200)


@NAMES
def test_every_option_explains_itself(path: tuple[str, ...]) -> None:
    """No option without a word about it; arguments are explained by the command's own text."""
    options = [one for one in ALL[path].params if isinstance(one, click.Option)]
    assert [one.name for one in options if not (one.help or "").strip()] == []
    assert all((one.help or "").endswith((".", "]")) for one in options)


@NAMES
def test_help_is_shown(path: tuple[str, ...]) -> None:
    """For every command, by either name, and with its options in it."""
    long, short = run(*path, "--help"), run(*path, "-h")
    assert (long.code, short.code, long.err) == (0, 0, "")
    assert long.out == short.out
    assert "Usage: " in long.out
    for option in ALL[path].params:
        if isinstance(option, click.Option):
            assert option.opts[0] in long.out


@NAMES
def test_every_command_takes_home_and_json(path: tuple[str, ...]) -> None:
    """Groups only lead to commands; each command has both."""
    names = {name for option in ALL[path].params for name in option.opts}
    if isinstance(ALL[path], click.Group):
        assert not names & {"--home", "--json"}
    else:
        assert names >= {"--home", "--json"}


def test_the_exit_codes_are_in_the_help() -> None:
    """Scripts need them."""
    text = " ".join(run("--help").out.split())
    for code, meaning in EXIT_CODES.items():
        assert f"{code} {meaning}" in text


def test_examples_in_the_help_are_commands() -> None:
    """Each `ai-memory …` that the help shows names a command that there is."""
    shown = 0
    for path, command in ALL.items():
        for line in (command.help or "").replace("·", "\n").replace("&&", "\n").splitlines():
            _, found, rest = line.partition("ai-memory ")
            if found:
                shown += 1
                words = tuple(rest.split())
                assert words[:1] in ALL or words[:2] in ALL, (path, line)
    assert shown >= 8


def test_the_version_is_shown() -> None:
    """For bug reports."""
    assert run("--version").out.startswith("ai-memory, version ")


def test_without_a_command_the_help_is_shown() -> None:
    """Both for the program and for a group."""
    for words in ((), ("peer",)):
        ran = run(*words)
        assert ran.code == 2
        assert "Usage: " in ran.out + ran.err
