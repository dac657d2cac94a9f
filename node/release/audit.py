"""The audit: every pin of every lock against known advisories; what could not be looked at has not passed.

Run `python -m node.release.audit [--advisories FILE]` (`make audit`). Exit codes: 0 for nothing that is not accepted,
1 for findings or an acceptance that has expired, 2 for *not run*.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from node.release import advisories, bounded
from node.release.errors import shown
from node.release.locks import ReleaseError, normalised, parse

LOCKS = ("requirements.lock", "build.lock", "requirements-dev.lock")
POLICY = Path("audit.toml")
LONGEST = timedelta(days=180)
"""How far ahead a finding may be accepted."""
CANARY = ("jinja2", "2.10")
"""Known to have advisories: a source that finds none for it has not looked."""
MAX_VALUES = 1_000_000
"""Of the report, which repeats what the source says."""
CLEAN, FOUND, NOT_RUN = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Finding:
    """An advisory that a pin is affected by."""

    package: str
    version: str
    ids: tuple[str, ...]
    """Its identifier first, then the others that it is known by."""
    fixed_in: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Acceptance:
    """A finding that is lived with, by somebody's decision, until a day."""

    id: str
    package: str
    until: date
    reason: str


def pinned(root: Path) -> dict[str, str]:
    """Name to version over all locks. Raises ReleaseError where two of them pin one package differently."""
    found: dict[str, str] = {}
    for name in LOCKS:
        for package, pin in parse((root / name).read_text(encoding="utf-8"), name).items():
            if found.setdefault(package, pin.version) != pin.version:
                raise ReleaseError(f"{package} is pinned at {found[package]} and, in {name}, at {pin.version}: pin one")
    return found


def policy(text: str, today: date) -> tuple[Acceptance, ...]:
    """What `audit.toml` accepts. Raises ReleaseError for an entry without a reason, or without an end in sight."""
    try:
        rows = tomllib.loads(text).get("accepted", [])
        found = tuple(Acceptance(row["id"], normalised(row["package"]), row["until"], row["reason"]) for row in rows)
    except (tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        raise ReleaseError(f"{POLICY}: each [[accepted]] needs id, package, until and reason ({error})") from error
    for one in found:
        if type(one.until) is not date or one.until > today + LONGEST:
            raise ReleaseError(f"{POLICY}: {one.id}: until has to be a date, at most {LONGEST.days} days ahead")
        if not str(one.reason).strip():
            raise ReleaseError(f"{POLICY}: {one.id}: say why it is accepted")
    return found


def judged(found: Sequence[Finding], accepted: Sequence[Acceptance], today: date) -> tuple[list[str], list[str]]:
    """What makes the audit fail, and what is only said."""
    failing, said = [], []
    valid = {(one.package, one.id): one for one in accepted if one.until >= today}
    for one in accepted:
        if one.until < today:
            failing.append(
                f"{one.id} in {one.package} was accepted until {one.until}: decide anew, or take the entry out"
            )
        elif not any(finding.package == one.package and one.id in finding.ids for finding in found):
            said.append(f"{one.id} in {one.package} is accepted and not found: take the entry out")
    for finding in found:
        reason = next((valid[finding.package, i] for i in finding.ids if (finding.package, i) in valid), None)
        text = f"{finding.package} {finding.version}: {', '.join(finding.ids)}"
        if reason is None:
            failing.append(f"{text}; fixed in {', '.join(finding.fixed_in) or 'no version yet'}")
        else:
            said.append(f"{text}; accepted until {reason.until}: {reason.reason}")
    return failing, said


def read(report: str, asked: Mapping[str, str]) -> list[Finding]:
    """The findings of pip-audit's report. Raises ReleaseError unless it has looked at every pin, in its version."""
    try:
        dependencies: list[Mapping[str, Any]] = bounded.parsed(report.encode(), MAX_VALUES)["dependencies"]
    except (ValueError, KeyError, TypeError) as error:
        raise ReleaseError("pip-audit gave no report") from error
    looked = {normalised(one["name"]): one["version"] for one in dependencies if "skip_reason" not in one}
    if looked != dict(asked):
        missed = sorted(name for name, version in asked.items() if looked.get(name) != version)
        raise ReleaseError(f"pip-audit has not looked at {', '.join(missed) or 'what it was asked about'}")
    return [
        Finding(normalised(one["name"]), one["version"], (each["id"], *each["aliases"]), tuple(each["fix_versions"]))
        for one in dependencies
        for each in one["vulns"]
    ]


def run(asked: Mapping[str, str], url: str | None) -> list[Finding]:
    """Have pip-audit look up these pins, at OSV or at `url`. Raises ReleaseError where it could not."""
    with tempfile.TemporaryDirectory(prefix="audit-") as folder:
        # Without the markers: a pin that this machine does not install is looked up as well. Nothing is downloaded, so
        # the digests only tell pip-audit that nothing has to be resolved.
        listed = Path(folder) / "pins.txt"
        listed.write_text("".join(f"{name}=={version} --hash=sha256:{0:064}\n" for name, version in asked.items()))
        command = [sys.executable, "-m", "pip_audit", "--requirement", str(listed), "--disable-pip", "--strict"]
        command += ["--vulnerability-service", "osv", *(["--osv-url", url] if url else [])]
        command += [
            "--format",
            "json",
            "--aliases",
            "on",
            "--progress-spinner",
            "off",
            "--cache-dir",
            f"{folder}/cache",
        ]
        surroundings = {**os.environ, **({"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"} if url else {})}
        done = subprocess.run(command, check=False, capture_output=True, text=True, env=surroundings)
    try:
        return read(done.stdout, asked)
    except ReleaseError as error:
        # Its code is 1 for a finding and for a source that cannot be reached: only the report tells them apart.
        last = done.stderr.strip().splitlines()[-1:] or ["and said nothing"]
        raise ReleaseError(f"{error}: {last[0]}") from error


def audit(root: Path, source: Path | None, today: date) -> tuple[list[str], list[str], int]:
    """What fails, what is said, and how many pins were looked at. Raises ReleaseError where that could not be done."""
    asked = pinned(root)
    accepted = policy((root / POLICY).read_text(encoding="utf-8"), today)
    with ExitStack() as stack:
        if source is None:
            canary, version = CANARY
            found = run({**asked, canary: asked.get(canary, version)}, None)
            if not any(one.package == canary for one in found):
                raise ReleaseError(f"the source knows nothing against {canary} {version}, which has known advisories")
            found = [one for one in found if one.package in asked]
        else:
            found = run(asked, stack.enter_context(advisories.serve(advisories.load(source))))
    failing, said = judged(found, accepted, today)
    return failing, said, len(asked)


def main(arguments: Sequence[str] | None = None) -> int:
    """Audit the tree in which it is started."""
    parser = argparse.ArgumentParser(prog="python -m node.release.audit", description=main.__doc__)
    parser.add_argument(
        "--advisories", type=Path, metavar="FILE", help="OSV records, JSON or ZIP, in place of the network"
    )
    chosen = parser.parse_args(arguments)
    try:
        failing, said, count = audit(Path(), chosen.advisories, datetime.now(UTC).date())
    except (ReleaseError, OSError) as error:
        print(f"audit NOT RUN: {shown(str(error))}", file=sys.stderr)
        print(
            "Run it where the source can be reached, or give OSV records: make audit ADVISORIES=FILE", file=sys.stderr
        )
        return NOT_RUN
    for line in (*said, *failing):
        print(shown(line))
    print(f"audit: {count} pins of {len(LOCKS)} locks looked at, {len(failing)} to deal with")
    return FOUND if failing else CLEAN


if __name__ == "__main__":
    sys.exit(main())
