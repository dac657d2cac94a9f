"""What `make verify-tag`, `make reproduce` and `make release` run, in a checkout."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import click

from node import plain
from node.release import keys as keyrings
from node.release.errors import Finding, ReleaseError
from node.release.keys import moment
from node.release.making import release
from node.release.repository import Repository, verify_tag
from node.release.reproduction import reproduce

_ROOT = Path()
_keys = click.option(
    "--keys", type=click.Path(path_type=Path, file_okay=False), default=_ROOT / "keys", show_default=True
)
_remote = click.option(
    "--remote", help="Compare the tag with this remote's; `none` for no comparison. [default: origin]"
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Releases, made in a checkout; docs/release.md says how."""


@main.command("verify-tag")
@click.argument("version")
@_keys
@_remote
def verify_tag_command(version: str, keys: Path, remote: str | None) -> None:
    """May VERSION be released from here? Exit code 1 with all reasons where it may not."""
    found = verify_tag(Repository(_ROOT), version, keyrings.load(keys), remote)
    if isinstance(found, list):
        _refuse(found)
    tag, signer = found.tag, found.signer
    _say(f"{tag.name} is tag {tag.id} of commit {tag.target}")
    _say(f"signed by {signer.owner} ({signer.fingerprint}) on {moment(tag.when)}")
    for note in found.notes:
        _say(note)


@main.command("reproduce")
@click.option("--commit", default="HEAD", show_default=True)
def reproduce_command(commit: str) -> None:
    """Build a commit three times in different circumstances, and compare. Exit code 1 where anything differs."""
    repository = Repository(_ROOT)
    if repository.dirt():
        _say("note: what is not committed is not built", err=True)
    found = reproduce(repository, repository.line("rev-parse", f"{commit}^{{commit}}"))
    _say(f"commit {found.commit}")
    for one, digests in found.builds:
        _say(str(one))
        for name, digest in digests.items():
            _say(f"  {digest}  {name}")
    if found.findings:
        _refuse(found.findings)
    _say("identical")


@main.command("release")
@click.argument("version")
@_keys
@_remote
@click.option(
    "--key", type=click.Path(path_type=Path, dir_okay=False), required=True, help="The builder's private key."
)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=_ROOT / "dist", show_default=True)
def release_command(version: str, keys: Path, remote: str | None, key: Path, out: Path) -> None:
    """Make OUT/release-VERSION of the signed tag vVERSION."""
    made = release(Repository(_ROOT), version, keyrings.load(keys), key, out, remote)
    if isinstance(made, list):
        _refuse(made)
    for name, digest in made.digests.items():
        _say(f"{digest}  {name}")
    _say(f"{made.folder}: {'made and verified' if made.is_new else 'was there, and is the same'}")
    tag = made.verified.tag
    _say(f"for {keys / keyrings.LEDGER}: {version} {tag.id} {tag.target}")


def _say(text: str, *, err: bool = False) -> None:
    """A line: what tags, archives and files are called was chosen by others."""
    click.echo(plain.line(text), err=err)


def _refuse(findings: Sequence[Finding]) -> NoReturn:
    for one in findings:
        _say(f"refused: {one}", err=True)
    sys.exit(1)


if __name__ == "__main__":
    try:
        main()
    except ReleaseError as error:
        _say(f"not done: {error}", err=True)
        sys.exit(2)
