"""What large pages took is given back."""

import platform
import subprocess
import sys

import pytest

from node import allocator

# Eight threads, each of which takes and lets go of large pieces, and keeps a small one between them.
WORK = """
import sys, threading
from node import allocator

def held():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4 // 1024

kept = []

def work():
    for turn in range(10):
        some = [bytes(700_000 + 90_000 * turn) for _ in range(8)]
        kept.append(bytes(2_000))
        del some

if sys.argv[1] == "bounded":
    assert allocator.keep_little()
threads = [threading.Thread(target=work) for _ in range(16)]
before = held()
for one in threads:
    one.start()
for one in threads:
    one.join()
print(held() - before)
"""


def kept_after(how: str) -> int:
    """MiB that a process holds after it let go of everything."""
    ran = subprocess.run([sys.executable, "-c", WORK, how], capture_output=True, text=True, timeout=60, check=True)
    return int(ran.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc")
def test_what_was_let_go_of_goes_back() -> None:
    """Control: left alone, the heaps of sixteen threads keep some of it."""
    assert kept_after("bounded") < 4 <= kept_after("as it comes")


async def test_what_lies_free_goes_back_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is much; and not where it is little."""
    spare, trimmed = [allocator.MOST_SPARE + 1, allocator.MOST_SPARE, allocator.MOST_SPARE + 1], []
    heaps = allocator.Heaps(lambda: spare.pop(), lambda: trimmed.append(len(spare)))
    monkeypatch.setattr(allocator, "heaps", lambda: heaps)
    monkeypatch.setattr(allocator, "EVERY", 0.0)
    with pytest.raises(IndexError):
        await allocator.give_back()
    assert trimmed == [2, 0]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a function of glibc")
def test_the_heaps_can_be_asked() -> None:
    """Bytes that lie free, and a trim, after which it is less or as much."""
    heaps = allocator.heaps()
    assert heaps is not None
    before = heaps.spare()
    heaps.trim()
    assert 0 <= heaps.spare() <= before + 2**20


async def test_elsewhere_there_is_nothing_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another C library: it ends at once."""
    monkeypatch.setattr(allocator, "heaps", lambda: None)
    await allocator.give_back()
