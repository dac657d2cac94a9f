"""The command about releases: is what one has downloaded what it claims to be?"""

import sys
from pathlib import Path

import click

from node.cli.context import Invocation, command
from node.cli.given import Place
from node.cli.output import NO, USAGE, CommandError
from node.release import keys as keyrings
from node.release.errors import ReleaseError
from node.release.keys import moment
from node.release.verification import Report, verify


@click.command("verify-release")
@click.argument("folder", type=Place(file_okay=False))
@click.option("--keys", type=Place(file_okay=False), help="The keyring to trust, instead of the one shipped.")
@command
def verify_release(invocation: Invocation, folder: Path, keys: Path | None) -> None:
    """Verify a release that was downloaded into FOLDER: tag, digests, SBOM and provenance. Needs gpg, and no network.

    Trusted is the keyring that came with this program, so verify with the version that you have, before you install.
    """
    try:
        keyring = keyrings.load(keys or keyrings.shipped())
        report = verify(folder, keyring)
    except ReleaseError as error:
        raise CommandError(USAGE, "not_verified", f"not verified: {error}") from None
    invocation.show(_told(report, keyring), *_lines(report))
    if report.findings:
        sys.exit(NO)


def _told(report: Report, keyring: keyrings.Keyring) -> dict[str, object]:
    origin, signer, builder = report.origin, report.signer, report.builder
    return {
        "verified": not report.findings,
        "version": report.version,
        "commit": origin and origin.commit,
        "tag": origin and origin.tag_id,
        "signer": signer and {"owner": signer.owner, "fingerprint": signer.fingerprint},
        "builder": builder and builder.id,
        "keys": str(keyring.folder),
        "findings": [{"file": one.about, "text": one.text} for one in report.findings],
    }


def _lines(report: Report) -> tuple[str, ...]:
    if report.findings:
        return (*map(str, report.findings), f"not what it claims to be: {len(report.findings)} findings")
    origin, signer, builder = report.origin, report.signer, report.builder
    assert origin and signer and builder
    return (
        f"tag         {origin.tag} of {origin.repository}, {origin.tag_id}",
        f"signed by   {signer.owner} ({signer.fingerprint}) on {moment(origin.tagged)}",
        f"commit      {origin.commit}",
        f"built by    {builder.id} ({builder.keyid})",
        "verified    tag, digests, SBOM and provenance",
    )


COMMANDS = (verify_release,)
