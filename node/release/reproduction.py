"""Is what is built the same wherever, whenever and by whomever it is built? Two clones and packed files, compared."""

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from node.release import build
from node.release.build import Built, Circumstances
from node.release.errors import Finding, ReleaseError
from node.release.making import compare
from node.release.repository import Repository, digest


@dataclass(frozen=True, slots=True)
class Reproduction:
    """What was built of `commit`: circumstances to name to SHA-256, in the order of the builds."""

    commit: str
    builds: tuple[tuple[Circumstances, dict[str, str]], ...]
    findings: tuple[Finding, ...]


def reproduce(repository: Repository, commit: str) -> Reproduction:
    """Build `commit` three times, each in other circumstances. Raises ReleaseError where one of them cannot be had."""
    with build.open_folder() as name:
        work = Path(name)
        tools = build.tools(repository.root, work / "fetched")
        done: list[tuple[Circumstances, Built]] = []
        for one, source in _sources(repository, commit, work):
            done.append((one, build.build(source, tools, source.parent / "built", repository.time_of(commit), one)))
        findings = [
            Finding(found.about, f"{done[0][0].name} and {one.name}: {found.text}")
            for one, built in done[1:]
            for found in compare(done[0][1], built)
        ]
        told = tuple((one, {path.name: digest(path) for path in (built.wheel, built.sdist)}) for one, built in done)
    return Reproduction(commit, told, tuple(findings))


def _sources(repository: Repository, commit: str, work: Path) -> Iterator[tuple[Circumstances, Path]]:
    """A clone for each of both circumstances, and the files as `git archive` packs them; each in its own folder."""
    ours, others = build.ours(), build.others()
    for one, folder in ((ours, work / "a"), (others, work / "another-folder" / "with a longer name" / "b")):
        clone = folder / "clone"
        folder.mkdir(parents=True)
        for command in (
            ["git", "clone", "-q", "--no-hardlinks", "--no-checkout", str(repository.root.resolve()), str(clone)],
            ["git", "-C", str(clone), "checkout", "-q", "--detach", commit],
        ):
            done = subprocess.run(
                command, umask=one.umask, capture_output=True, text=True, env=os.environ | {"LC_ALL": "C"}
            )
            if done.returncode:
                raise ReleaseError(f"{' '.join(command[:2])}: {done.stderr.strip()}")
        yield replace(one, name=f"{one.name} clone"), clone
    packed = work / "packed" / "source"
    packed.mkdir(parents=True)
    repository.unpack(commit, packed)
    yield replace(ours, name="packed files", umask=0o007, zone="America/St_Johns", seed=1, days=-3), packed
