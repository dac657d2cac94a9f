"""The forge's files: least privilege, pinned actions, no caches where a release is made, and the same make targets."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent.parent
WORKFLOWS = sorted((ROOT / ".github" / "workflows").iterdir())
PINNED = re.compile(r"^[\w.-]+/[\w./-]+@[0-9a-f]{40}$")
COMMENTED = re.compile(r"uses: \S+@[0-9a-f]{40} # v\d+(\.\d+)*$")
TARGETS = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def steps(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for job in document["jobs"].values():
        yield from job["steps"]


def triggers(document: dict[Any, Any]) -> set[str]:
    found = document[True]  # YAML 1.1 reads the key `on` as a truth value
    return {found} if isinstance(found, str) else set(found)


def faults(text: str) -> list[str]:
    """What is wrong with a workflow."""
    document = yaml.safe_load(text)
    found = []
    if document.get("permissions") != {}:
        found.append("the workflow has permissions of its own: `permissions: {}`")
    if risky := triggers(document) & {"pull_request_target", "workflow_run", "issue_comment"}:
        found.append(f"strangers start it with this repository's rights: {risky}")
    for name, job in document["jobs"].items():
        rights = job.get("permissions")
        if not isinstance(rights, dict) or not set(rights.values()) <= {"read", "write", "none"}:
            found.append(f"job {name} does not name its permissions")
        elif "write" in rights.values() and any("uses" in one or "make " in one.get("run", "") for one in job["steps"]):
            found.append(f"job {name} may write and runs code of others")
        if "timeout-minutes" not in job:
            found.append(f"job {name} has no time limit")
    for step in steps(document):
        uses, run = step.get("uses", ""), step.get("run", "")
        if uses and not PINNED.match(uses):
            found.append(f"{uses} is not pinned by a commit")
        if "checkout" in uses and step.get("with", {}).get("persist-credentials") is not False:
            found.append("the checkout leaves its token behind")
        if "${{" in run:
            found.append(f"an expression is pasted into a shell: {run}")
        if "tags" in document[True].get("push", {}) and (("cache" in uses) or "cache" in step.get("with", {})):
            found.append("a release takes what another job left in a cache")
    lines = [line.strip().removeprefix("- ") for line in text.splitlines() if "uses:" in line]
    found += [f"{line}: say which version that is" for line in lines if not COMMENTED.match(line)]
    return found


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_is_in_order(path: Path) -> None:
    """Nothing is wrong with it."""
    assert faults(path.read_text()) == []


CHECKOUT = "actions/checkout@08c6903cd8c0fde910a37f88322edcfb5dd907a8 # v5.0.0"
SPOILT: dict[str, tuple[Callable[[str], str], str]] = {
    "a tag": (lambda text: text.replace(CHECKOUT, "actions/checkout@v5"), "not pinned"),
    "a short digest": (lambda text: text.replace(CHECKOUT, "actions/checkout@08c6903 # v5.0.0"), "not pinned"),
    "no version": (lambda text: text.replace(" # v5.0.0", ""), "say which version"),
    "all rights": (lambda text: text.replace("permissions: {}", "permissions: write-all"), "permissions of its own"),
    "default rights": (lambda text: text.replace("permissions: {}\n", ""), "permissions of its own"),
    "a job's default rights": (
        lambda text: text.replace("    permissions:\n      contents: read\n", ""),
        "not name its",
    ),
    "a job with all rights": (lambda text: text.replace("contents: read", "contents: write"), "runs code of others"),
    "a stranger's change": (lambda text: text.replace("  push:", "  pull_request_target:\n  push:"), "strangers"),
    "a title in a shell": (
        lambda text: text.replace("run: make env", "run: make env ${{ github.event.head_commit.message }}"),
        "pasted into a shell",
    ),
    "a token left behind": (
        lambda text: text.replace("persist-credentials: false", "submodules: false"),
        "leaves its token",
    ),
    "no limit": (lambda text: text.replace("    timeout-minutes: 45\n", ""), "no time limit"),
    "a cache": (
        lambda text: text.replace(
            "      - run: make env", f"      - uses: actions/cache@{'0' * 40} # v4\n      - run: make env"
        ),
        "left in a cache",
    ),
    "a cache of an action": (
        lambda text: text.replace("persist-credentials: false", "persist-credentials: false\n          cache: pip"),
        "left in a cache",
    ),
}


@pytest.mark.parametrize("kind", SPOILT)
def test_what_is_not_in_order_is_seen(kind: str) -> None:
    """Control: the release, spoilt in one place."""
    spoil, says = SPOILT[kind]
    text = (ROOT / ".github/workflows/release.yml").read_text()
    assert spoil(text) != text
    assert any(says in fault for fault in faults(spoil(text)))


def test_they_call_the_make_targets_that_run_here() -> None:
    """Every target exists; test, supply and audit are called; the audit runs on a schedule."""
    documents = {path.stem: yaml.safe_load(path.read_text()) for path in WORKFLOWS}
    assert documents.keys() == {"audit", "release", "test"}
    called = {
        name: {found for step in steps(one) for found in re.findall(r"^make ([a-z-]+)", step.get("run", ""))}
        for name, one in documents.items()
    }
    assert set().union(*called.values()) <= TARGETS
    assert {"test", "supply"} <= called["test"]
    assert {"verify-tag", "test", "supply", "audit", "reproduce"} <= called["release"]
    assert "audit" in called["audit"]
    assert "schedule" in triggers(documents["audit"])
