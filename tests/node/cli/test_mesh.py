"""`ai-memory mesh init`: what it says, and what it refuses."""

from pathlib import Path

import pytest
from commands import run

from node.home import Home

NODES = ("--node", "desk=desk.local:9443", "--node", "laptop=laptop.local:9443")


def test_mesh_init_says_who_is_who(tmp_path: Path) -> None:
    """One line, or one object, for each node; the second run says that nothing changed."""
    ran = run("mesh", "init", str(tmp_path), *NODES, "--stranger", "guest=guest.local:9443", "--json")
    assert [(one["name"], one["url"], one["new"]) for one in ran.json] == [
        ("desk", "https://desk.local:9443", True),
        ("laptop", "https://laptop.local:9443", True),
        ("guest", "https://guest.local:9443", True),
    ]
    line = run("fingerprint", home=Home(tmp_path / "desk")).out.strip()
    assert line == f"{ran.json[0]['fingerprint']}  # desk"
    again = run("mesh", "init", str(tmp_path), *NODES)
    assert again.code == 0
    assert [text.split()[:4] for text in again.out.splitlines()] == [
        [name, "as", "it", "was"] for name in ("desk", "laptop")
    ]


@pytest.mark.parametrize("text", ["desk", "=desk:1", "desk="])
def test_a_node_without_name_or_address_is_refused(tmp_path: Path, text: str) -> None:
    """The form is named."""
    ran = run("mesh", "init", str(tmp_path), "--node", text, "--json")
    assert (ran.code, ran.error["error"]) == (2, f"{text!r}, expected NAME=HOST:PORT")


def test_a_mesh_of_one_is_refused(tmp_path: Path) -> None:
    """What was given is not valid, and the exit code says so."""
    ran = run("mesh", "init", str(tmp_path), *NODES[:2])
    assert (ran.code, ran.out) == (5, "")
    assert "fewer than 2 nodes" in ran.err


def test_mesh_renew_needs_nothing_but_the_name(tmp_path: Path) -> None:
    """Who belongs to the mesh stands in its folder; only the one that is named changes."""
    before = run("mesh", "init", str(tmp_path), *NODES, "--stranger", "guest=guest.local:9443", "--json").json
    after = run("mesh", "renew", str(tmp_path), "laptop", "--json").json
    assert [one["new"] for one in after] == [False, True, False]
    assert [a["fingerprint"] == b["fingerprint"] for a, b in zip(after, before, strict=True)] == [True, False, True]
    assert [one["url"] for one in after] == [one["url"] for one in before]


def test_mesh_renew_knows_whom_it_can_renew(tmp_path: Path) -> None:
    """An unknown name is told apart from a mesh that is not there."""
    assert "known are: none" in run("mesh", "renew", str(tmp_path), "desk").err
    run("mesh", "init", str(tmp_path), *NODES)
    ran = run("mesh", "renew", str(tmp_path), "attic", "--json")
    assert (ran.code, ran.error["code"]) == (1, "not_found")
    assert "known are: desk, laptop" in ran.error["error"]
