"""Lock files: pins with digests, and not one line of anything else."""

from pathlib import Path

import pytest

from node.release.locks import Pin, ReleaseError, parse

ROOT = Path(__file__).parent.parent.parent
DIGEST = "0" * 64
GOOD = f"Some.Thing==1.0 ; python_full_version < '3.13' \\\n    --hash=sha256:{DIGEST}\n"


def test_a_pin_is_read_with_all_that_the_lock_says_of_it() -> None:
    """Name as an index compares it, version, marker, digests."""
    assert parse(f"# a comment\n\n{GOOD}") == {
        "some-thing": Pin("some-thing", "1.0", "python_full_version < '3.13'", (DIGEST,))
    }


@pytest.mark.parametrize("name", ["requirements.lock", "build.lock", "requirements-dev.lock"])
def test_the_locks_of_this_tree_are_pins_and_nothing_else(name: str) -> None:
    """Each reads, and holds as many digests as its text."""
    text = (ROOT / name).read_text()
    assert sum(len(pin.digests) for pin in parse(text).values()) == text.count("--hash=")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "pins nothing"),
        ("thing==1.0\n", "digests"),
        (f"thing==1.0 \\\n    --hash=md5:{DIGEST}\n", "digests"),
        (f"thing==1.0 \\\n    --hash=sha256:{DIGEST} \\\n    --no-binary=thing\n", "digests"),
        (f"thing>=1.0 \\\n    --hash=sha256:{DIGEST}\n", "name==version"),
        (f"thing @ https://example.org/thing.whl \\\n    --hash=sha256:{DIGEST}\n", "name==version"),
        (f"--index-url https://example.org/\n{GOOD}", "name==version"),
        (f"--find-links wheels\n{GOOD}", "name==version"),
        (f"-e .\n{GOOD}", "name==version"),
        (GOOD + GOOD, "pinned twice"),
    ],
)
def test_anything_else_is_refused(text: str, says: str) -> None:
    """Addresses, options, ranges, other digests and none; the text says where and what to do."""
    with pytest.raises(ReleaseError, match=says):
        parse(text)
