"""Where an artefact comes from, as SLSA 1.2 provenance in an in-toto statement: made here, and read back."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from node.release import bounded
from node.release.errors import Finding
from node.release.keys import Builder, moment

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://slsa.dev/provenance/v1"


@dataclass(frozen=True, slots=True)
class Origin:
    """What all artefacts of a release share; `tagged` is the tag's time and `epoch` the commit's, since 1970 in s."""

    repository: str
    version: str
    tag: str
    tag_id: str
    commit: str
    tagged: int
    epoch: int

    @property
    def build_type(self) -> str:
        """A URI for the kind of build: the document that describes it, at the tag."""
        return f"{self.repository}#docs/release.md"

    @property
    def source(self) -> str:
        return f"git+{self.repository}@refs/tags/{self.tag}"


def statement(origin: Origin, builder: str, name: str, sha256: str, dependencies: Sequence[Mapping[str, Any]]) -> bytes:
    """The statement for one artefact. Its times are the tag's, so the same tag gives the same bytes at any time."""
    source = {"uri": origin.source, "digest": {"gitCommit": origin.commit}, "annotations": {"gitTag": origin.tag_id}}
    return json.dumps(
        {
            "_type": STATEMENT,
            "subject": [{"name": name, "digest": {"sha256": sha256}}],
            "predicateType": PREDICATE,
            "predicate": {
                "buildDefinition": {
                    "buildType": origin.build_type,
                    "externalParameters": {
                        "repository": origin.repository,
                        "tag": origin.tag,
                        "version": origin.version,
                    },
                    "internalParameters": {"sourceDateEpoch": origin.epoch},
                    "resolvedDependencies": [source, *dependencies],
                },
                "runDetails": {
                    "builder": {"id": builder},
                    "metadata": {
                        "invocationId": f"{origin.source}#{origin.tag_id}",
                        "startedOn": moment(origin.tagged),
                        "finishedOn": moment(origin.tagged),
                    },
                },
            },
        },
        sort_keys=True,
    ).encode()


def judged(
    about: str, payload: bytes, builder: Builder, origin: Origin, name: str, sha256: str, locks: Mapping[str, str]
) -> list[Finding]:
    """Does it speak of this artefact, of this origin, and of these lock files (name to SHA-256)?

    `about` names the provenance; a digest that differs is a finding about the artefact.
    """
    try:
        found = bounded.parsed(payload)
        (subject,) = found["subject"]
        build, run = found["predicate"]["buildDefinition"], found["predicate"]["runDetails"]
        materials = build["resolvedDependencies"]
        told = {one.get("name"): one.get("digest", {}).get("sha256") for one in materials}
        facts = (
            ("type", found["_type"], STATEMENT),
            ("predicate type", found["predicateType"], PREDICATE),
            ("subject", subject["name"], name),
            ("build type", build["buildType"], origin.build_type),
            ("repository", build["externalParameters"]["repository"], origin.repository),
            ("tag", build["externalParameters"]["tag"], origin.tag),
            ("version", build["externalParameters"]["version"], origin.version),
            ("source", materials[0]["uri"], origin.source),
            ("commit", materials[0]["digest"]["gitCommit"], origin.commit),
            ("tag id", materials[0]["annotations"]["gitTag"], origin.tag_id),
            ("SOURCE_DATE_EPOCH", build["internalParameters"]["sourceDateEpoch"], origin.epoch),
            ("builder", run["builder"]["id"], builder.id),
            *((lock, told.get(lock), digest) for lock, digest in locks.items()),
        )
        digest = subject["digest"]["sha256"]
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError) as error:
        return [Finding(about, f"is not the provenance of one artefact ({type(error).__name__}: {error})")]
    findings = [
        Finding(about, f"says {what} {said!r}, expected {expected!r}")
        for what, said, expected in facts
        if said != expected
    ]
    if fault := builder.span.fault(origin.tagged):
        findings.append(Finding(about, f"signed with the key of {builder.id}, {fault}"))
    if digest != sha256:
        findings.append(Finding(name, f"is not what was built: its SHA-256 is {sha256}, its provenance says {digest}"))
    return findings
