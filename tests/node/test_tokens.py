"""The file of tokens: what is kept, what is refused, and what a pattern lets a client see."""

from pathlib import Path

import pytest

from node import tokens
from node.config import ConfigError
from node.rights import OWNER
from sync.errors import RemoteError

AGENT = "ai:helper"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tokens.json"


@pytest.mark.parametrize(
    ("read", "write", "sees", "writes"),
    [
        ((), (), {"a", "a/b", "global"}, {"a", "a/b", "global"}),
        (("a/**",), (), {"a", "a/b"}, set()),
        ((), ("a/*",), set(), {"a/b"}),
        (("*",), ("a",), {"a", "global"}, {"a"}),
    ],
)
def test_what_is_said_is_what_it_is_for(
    path: Path, read: tuple[str, ...], write: tuple[str, ...], sees: set[str], writes: set[str]
) -> None:
    """Neither: everything. One of them: nothing of the other."""
    rights = tokens.add(path, AGENT, read, write, 0)[1].rights
    for namespace in ("a", "a/b", "global"):
        assert rights.may_read(namespace) is (namespace in sees)
        if namespace in writes:
            rights.require_write(namespace)
        else:
            with pytest.raises(RemoteError, match=f"this token may not write in the namespace '{namespace}'"):
                rights.require_write(namespace)
    assert not rights.is_owner


def test_the_owner_may_do_everything() -> None:
    assert OWNER.is_owner
    assert OWNER.scope is None
    OWNER.require_write("anything")
    OWNER.require_agent("ai:anybody")


def test_tokens_differ_and_only_their_hashes_are_kept(path: Path) -> None:
    """Two for one agent are two; what opens has 256 random bits."""
    texts = [tokens.add(path, AGENT, ("a",), (), 0)[0] for _ in range(3)]
    assert len({*texts}) == 3
    assert {one.hash for one in tokens.load(path)} == {tokens.hash_of(text) for text in texts}
    assert min(map(len, texts)) >= len(tokens.PREFIX) + 43
    assert not [text for text in texts if text in path.read_text()]


def test_the_file_stays_readable(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many tokens, or too much in them, is refused before it is written: what could not be read lets nobody in."""
    monkeypatch.setattr(tokens, "MOST", 2)
    for _ in range(2):
        tokens.add(path, AGENT, ("a",), (), 0)
    with pytest.raises(ConfigError, match="there are 2 tokens, at most 2; revoke some"):
        tokens.add(path, AGENT, ("a",), (), 0)
    monkeypatch.undo()
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="at most 1048576; revoke some tokens"):
        tokens.add(path, AGENT, [f"n{number}" for number in range(100_000)], (), 0)
    assert path.read_bytes() == before


def test_an_editors_mark_at_its_beginning_is_no_fault(path: Path) -> None:
    """Some editors write it, and it is not seen."""
    tokens.add(path, AGENT, (), (), 0)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(tokens.load(path)) == 1


def test_who_is_revoked_is_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By digits that fit one token, or by the agent; digits that fit several take nothing away."""
    monkeypatch.setattr(tokens, "MIN_PREFIX", 0)
    made = [tokens.add(path, agent, ("a",), (), 0)[1] for agent in (AGENT, AGENT, "ai:else")]
    with pytest.raises(RemoteError, match="begins the ids of 3 tokens; give more of it"):
        tokens.revoke(path, "")
    assert tokens.revoke(path, "no such") == ()
    assert tokens.revoke(path, made[2].id) == (made[2],)
    assert tokens.revoke(path, AGENT) == (made[0], made[1])
    assert tokens.load(path) == ()


def test_a_file_that_cannot_be_looked_at_is_not_none(tmp_path: Path) -> None:
    """A link that leads nowhere, a folder that is none: whoever has tokens must hear that they cannot be read."""
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for path in (tmp_path / "file" / "tokens.json", tmp_path / "link"):
        assert not path.exists()  # control: by this question there would be no tokens, and nothing to say
        with pytest.raises(ConfigError, match="expected a file with mode 0600"):
            tokens.load(path)
    assert tokens.load(tmp_path / "none") == ()
