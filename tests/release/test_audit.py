"""The audit: what it finds, what is accepted until when, and what has not run has not passed."""

import json
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from node.release import audit as module
from node.release.audit import CLEAN, FOUND, LOCKS, LONGEST, NOT_RUN, Acceptance, Finding, judged, main, policy, read
from node.release.locks import ReleaseError

ROOT = Path(__file__).parent.parent.parent
TODAY = date(2026, 1, 31)
PINS = {"requirements.lock": "idna==3.4", "build.lock": "packaging==26.3", "requirements-dev.lock": "idna==3.4"}
ABSENT_HERE = " ; python_version < '3'"


def advisory(name: str, fixed: str) -> dict[str, Any]:
    ranges = [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": fixed}]}]
    affected = [{"package": {"ecosystem": "PyPI", "name": name}, "ranges": ranges}]
    return {"id": f"TEST-{name}", "aliases": [f"CVE-0-{name}"], "summary": "planted", "affected": affected}


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small tree with a pin that a planted advisory speaks of, and the advisories beside it."""
    for name, pin in PINS.items():
        (tmp_path / name).write_text(f"{pin} \\\n    --hash=sha256:{0:064}\n")
    (tmp_path / "audit.toml").write_text("")
    (tmp_path / "found.json").write_text(json.dumps([advisory("idna", "3.7"), advisory("another", "9")]))
    (tmp_path / "nothing.json").write_text(json.dumps(advisory("another", "9")))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def accepted(tree: Path, *, id: str = "CVE-0-idna", days: int = 1) -> None:
    until = module.datetime.now(module.UTC).date() + timedelta(days=days)
    text = f'[[accepted]]\nid = "{id}"\npackage = "idna"\nuntil = {until}\nreason = "not called"\n'
    (tree / "audit.toml").write_text(text)


def test_a_planted_vulnerable_pin_is_found(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By pip-audit itself, with what fixes it; advisories for other packages find nothing."""
    assert main(["--advisories", "found.json"]) == FOUND
    said = capsys.readouterr().out
    assert "idna 3.4: CVE-0-idna, TEST-idna; fixed in 3.7" in said
    assert "2 pins of 3 locks looked at, 1 to deal with" in said
    assert main(["--advisories", "nothing.json"]) == CLEAN
    assert "2 pins of 3 locks looked at, 0 to deal with" in capsys.readouterr().out


def test_a_pin_of_another_platform_is_looked_at(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pip-audit leaves out what this machine would not install; the audit does not. Without the markers it is seen."""
    for name in ("requirements.lock", "requirements-dev.lock"):
        (tree / name).write_text(f"idna==3.4{ABSENT_HERE} \\\n    --hash=sha256:{0:064}\n")
    assert main(["--advisories", "found.json"]) == FOUND
    real = module.pinned
    monkeypatch.setattr(module, "pinned", lambda root: {**real(root), "idna": f"3.4{ABSENT_HERE}"})
    assert main(["--advisories", "found.json"]) == NOT_RUN


def test_an_acceptance_lasts_until_its_day(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Accepted by an alias: clean, and still said. After its day: a failure, even where the finding is gone."""
    accepted(tree)
    assert main(["--advisories", "found.json"]) == CLEAN
    assert "not called" in capsys.readouterr().out
    accepted(tree, days=-1)
    assert main(["--advisories", "found.json"]) == FOUND
    assert main(["--advisories", "nothing.json"]) == FOUND
    assert "decide anew" in capsys.readouterr().out
    accepted(tree, id="CVE-0-other")
    assert main(["--advisories", "found.json"]) == FOUND


def test_a_source_that_cannot_be_reached_is_not_run(
    tree: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither clean nor a finding, and it says so; pip-audit's own exit code would be that of a finding."""
    real = module.run
    monkeypatch.setattr(module, "run", lambda asked, url: real(asked, "http://127.0.0.1:1/v1/query"))
    assert main([]) == NOT_RUN
    said = capsys.readouterr()
    assert "NOT RUN" in said.err and "ADVISORIES=FILE" in said.err and "looked at" not in said.out
    assert main(["--advisories", "absent.json"]) == NOT_RUN


def test_a_source_that_knows_nothing_at_all_has_not_looked(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Online, a package with known advisories is asked about as well. Control: a source that knows them is believed."""
    canary = Finding(*module.CANARY, ("TEST-canary",), ())
    monkeypatch.setattr(module, "run", lambda asked, url: [])
    assert main([]) == NOT_RUN
    monkeypatch.setattr(module, "run", lambda asked, url: [canary])
    assert main([]) == CLEAN
    monkeypatch.setattr(module, "run", lambda asked, url: [canary, Finding("idna", "3.4", ("X",), ())])
    assert main([]) == FOUND


def report(**packages: dict[str, Any]) -> str:
    return json.dumps({"dependencies": [{"name": name, **fields} for name, fields in packages.items()]})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "gave no report"),
        ("[]", "gave no report"),
        (report(), "has not looked at a, b"),
        (report(a={"version": "1", "vulns": []}), "has not looked at b"),
        (report(a={"version": "1", "vulns": []}, b={"skip_reason": "not found"}), "has not looked at b"),
        (report(a={"version": "1", "vulns": []}, b={"version": "3", "vulns": []}), "has not looked at b"),
    ],
)
def test_a_report_with_a_gap_is_no_pass(text: str, says: str) -> None:
    """Every pin was looked at in its version, or the audit has not run."""
    whole = report(a={"version": "1", "vulns": []}, b={"version": "2", "vulns": []})
    assert read(whole, {"a": "1", "b": "2"}) == []
    with pytest.raises(ReleaseError, match=says):
        read(text, {"a": "1", "b": "2"})


@pytest.mark.parametrize(
    "row",
    [
        'id = "X"\npackage = "idna"\nuntil = 2026-02-01',
        'id = "X"\npackage = "idna"\nreason = "r"',
        'id = "X"\npackage = "idna"\nuntil = 2026-02-01\nreason = " "',
        'id = "X"\npackage = "idna"\nuntil = "2026-02-01"\nreason = "r"',
        'id = "X"\npackage = "idna"\nuntil = 2026-02-01T00:00:00Z\nreason = "r"',
        f'id = "X"\npackage = "idna"\nuntil = {TODAY + LONGEST + timedelta(days=1)}\nreason = "r"',
        'package = "idna"\nuntil = 2026-02-01\nreason = "r"',
        "id =",
    ],
)
def test_an_acceptance_needs_a_reason_and_an_end_in_sight(row: str) -> None:
    """Anything less is refused, not ignored."""
    good = f'[[accepted]]\nid = "X"\npackage = "Idna"\nuntil = {TODAY + LONGEST}\nreason = "r"'
    assert policy(good, TODAY) == (Acceptance("X", "idna", TODAY + LONGEST, "r"),)
    with pytest.raises(ReleaseError, match=r"audit\.toml"):
        policy(f"[[accepted]]\n{row}", TODAY)


def test_an_acceptance_is_for_one_package() -> None:
    """The same identifier in another package is another decision; what is not found any more is only said."""
    found = [Finding("other", "1.0", ("X",), ())]
    failing, said = judged(found, [Acceptance("X", "idna", TODAY, "r")], TODAY)
    assert failing == ["other 1.0: X; fixed in no version yet"]
    assert said == ["X in idna is accepted and not found: take the entry out"]


def test_two_locks_that_pin_differently_are_refused(tree: Path) -> None:
    """One of them would not be looked at."""
    (tree / "build.lock").write_text(f"idna==3.5 \\\n    --hash=sha256:{0:064}\n")
    assert main(["--advisories", "found.json"]) == NOT_RUN


def test_the_policy_and_the_locks_of_this_tree_are_in_order() -> None:
    """The policy reads, and every package is pinned once. What expires fails the audit, not the tests of a change."""
    policy((ROOT / "audit.toml").read_text(), module.datetime.now(module.UTC).date())
    assert len(module.pinned(ROOT)) > len(LOCKS)


def test_what_a_source_says_cannot_command_the_terminal(
    tree: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Control: as the source wrote it, it would."""
    found = [Finding("idna", "3.4", ("TEST-\x1b]0;title\x07",), ())]
    monkeypatch.setattr(module, "run", lambda asked, url: found)
    assert main(["--advisories", "found.json"]) == FOUND
    assert "\x1b" not in capsys.readouterr().out
    monkeypatch.setattr(module, "shown", str)
    assert main(["--advisories", "found.json"]) == FOUND
    assert "\x1b" in capsys.readouterr().out


def test_a_report_without_end_is_no_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: with room for it, it is read."""
    text = json.dumps({"dependencies": [{"name": "idna", "version": "3.4", "vulns": []}], "more": [1] * 100})
    assert read(text, {"idna": "3.4"}) == []
    monkeypatch.setattr(module, "MAX_VALUES", 50)
    with pytest.raises(ReleaseError, match="gave no report"):
        read(text, {"idna": "3.4"})
