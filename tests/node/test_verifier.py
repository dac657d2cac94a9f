"""Signatures of large pages are verified in a process of their own, which may die at any time."""

import asyncio
import io
import os
import signal
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import uvloop
from keys import pair
from stamps import stamp
from versions import ALICE, memory

from node import verifier, verifying
from node.verifier import Checks, Verifier
from sync.attest import Unsigned, claims_of
from sync.record import memory_version
from sync.version import Version

WRITER = pair("ai:writer")


def page(count: int, forged: frozenset[int] = frozenset(), unsigned: frozenset[int] = frozenset()) -> list[Version]:
    """Versions of as many memories; some of them signed by another than they say."""
    versions = []
    for number in range(count):
        author = Unsigned("ai:writer") if number in unsigned else WRITER
        made = memory_version(memory(title=str(number)), author, stamp({ALICE: (number + 1) << 20}))
        if number in forged:
            made = memory_version(memory(title=str(number)), pair("ai:other"), stamp({ALICE: (number + 1) << 20}))
            made = Version(
                made.namespace, made.id, "m", made.at, made.dot, made.context, made.depth, made.content, made.signature,
                made.doc.replace(b'"agent":"ai:other"', b'"agent":"ai:writer"'),
            )  # fmt: skip
        versions.append(made)
    return versions


@pytest.fixture
def told() -> list[str]:
    """What the operator is told."""
    return []


@pytest.fixture
async def one(told: list[str]) -> AsyncIterator[Verifier]:
    found = Verifier(told.append)
    yield found
    await found.close()


async def test_each_version_of_a_page_is_judged_in_its_place(one: Verifier) -> None:
    """Over several requests, with unsigned ones and forged ones between them."""
    forged, unsigned = frozenset((0, 99, 100, 249)), frozenset((1, 50, 101))
    with one.begin(page(250, forged, unsigned)) as checks:
        genuine = await checks.between(0, 250)
        later = await checks.between(200, 250)
    assert genuine == frozenset(range(250)) - forged - unsigned
    assert later == frozenset(range(49))


def is_nowhere(pid: int, number: int) -> bool:
    """Whether a process has the null device for this descriptor."""
    return Path(f"/proc/{pid}/fd/{number}").stat().st_rdev == Path(os.devnull).stat().st_rdev


async def test_what_the_process_would_print_goes_nowhere(one: Verifier) -> None:
    """A trace of it would have what it was given: the texts that are signed are those of memories."""
    with one.begin(page(1)) as checks:
        await checks.between(0, 1)
    assert one._process is not None
    assert is_nowhere(one._process.pid, 2)
    assert not is_nowhere(one._process.pid, 1)  # control: its answers


async def test_nothing_signed_starts_no_process(one: Verifier) -> None:
    """A mesh that signs nothing pays nothing."""
    with one.begin(page(20, unsigned=frozenset(range(20)))) as checks:
        assert await checks.between(0, 20) == frozenset()
    assert one._process is None
    assert await Checks().between(0, 8) == frozenset()


async def test_a_process_that_died_is_replaced(one: Verifier) -> None:
    """Between two pages, and while it is asked; what it was asked is answered."""
    with one.begin(page(10)) as checks:
        assert len(await checks.between(0, 10)) == 10
    assert one._process is not None
    first = one._process.pid
    os.kill(first, signal.SIGKILL)
    with one.begin(page(10, frozenset((3,)))) as checks:
        assert len(await checks.between(0, 10)) == 9
    assert one._process is not None
    assert one._process.pid != first


def test_a_process_that_died_is_replaced_on_the_fast_event_loop_too() -> None:
    """It has its own way of saying that nobody reads any more: a node runs on it."""

    async def main() -> tuple[int, int]:
        one = Verifier()
        process = await begun(one)
        process.kill()
        await process.wait()
        with one.begin(page(10, frozenset((3,)))) as checks:
            found = await checks.between(0, 10)
        assert one._process is not None
        another = one._process.pid
        await one.close()
        return len(found), another - process.pid

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        count, difference = runner.run(main())
    assert count == 9
    assert difference != 0


async def test_without_a_process_nothing_is_believed_either(one: Verifier, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that lets no process start verifies on a thread."""

    async def refused(*_: object, **__: object) -> None:
        raise OSError("no more processes")

    monkeypatch.setattr(asyncio, "create_subprocess_exec", refused)
    with one.begin(page(10, frozenset((3,)))) as checks:
        assert await checks.between(0, 10) == frozenset(range(10)) - {3}


async def test_a_page_that_is_given_up_leaves_the_next_its_answers(one: Verifier) -> None:
    """The answer to what nobody waits for any more is not taken for the next one's."""
    with one.begin(page(300, frozenset(range(300)))):
        await asyncio.sleep(0)
    with one.begin(page(10)) as checks:
        assert await checks.between(0, 10) == frozenset(range(10))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that does not answer is given up at once."""
    monkeypatch.setattr(verifier, "PATIENCE", 0.3)


async def begun(one: Verifier) -> Process:
    """The process, which has answered."""
    with one.begin(page(10)) as checks:
        assert len(await checks.between(0, 10)) == 10
    assert one._process is not None
    return one._process


async def test_a_process_that_is_stopped_holds_up_nothing(
    one: Verifier, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is killed after a patience, another takes its place, all is judged as before, and the operator is told."""
    process = await begun(one)
    monkeypatch.setattr(verifier, "PATIENCE", 2.0)
    os.kill(process.pid, signal.SIGSTOP)
    async with asyncio.timeout(60):
        with one.begin(page(300, frozenset((3, 250)))) as checks:
            assert await checks.between(0, 300) == frozenset(range(300)) - {3, 250}
    assert process.returncode == -signal.SIGKILL
    assert any("did not answer within 2 s" in one for one in told)


async def test_without_a_patience_it_would_hold_up_all(one: Verifier, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: whoever waits for a stopped process waits for as long as it is stopped."""
    process = await begun(one)
    monkeypatch.setattr(verifier, "PATIENCE", None)
    os.kill(process.pid, signal.SIGSTOP)
    with one.begin(page(300)) as checks, pytest.raises(TimeoutError):
        async with asyncio.timeout(1.0):
            await checks.between(0, 300)
    monkeypatch.undo()
    os.kill(process.pid, signal.SIGCONT)


async def test_where_no_process_answers_it_is_verified_without_one(
    one: Verifier, told: list[str], quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two are tried; then none for a while, so that a long page does not wait for each of its parts."""
    started = []

    async def stopped(*args: Any, **how: Any) -> Process:
        made = await true(*args, **how)
        os.kill(made.pid, signal.SIGSTOP)
        started.append(made)
        return made

    true = asyncio.create_subprocess_exec
    monkeypatch.setattr(asyncio, "create_subprocess_exec", stopped)
    for _ in range(2):
        with one.begin(page(500, frozenset((3,)))) as checks:
            assert await checks.between(0, 500) == frozenset(range(500)) - {3}
    assert len(started) == verifier.ATTEMPTS
    assert "they take longer" in told[-1]


async def test_a_stopped_process_does_not_keep_a_node_from_ending(one: Verifier) -> None:
    """What it was asked is verified without it, and it is gone."""
    process = await begun(one)
    os.kill(process.pid, signal.SIGSTOP)
    with one.begin(page(100)) as checks:
        waiting = asyncio.ensure_future(checks.between(0, 100))
        while not one._requests:
            await asyncio.sleep(0)
        async with asyncio.timeout(verifier.PATIENCE):
            await one.close()
        assert len(await waiting) == 100
    assert process.returncode == -signal.SIGKILL


async def test_it_ends_with_the_node(one: Verifier) -> None:
    """No process is left behind."""
    with one.begin(page(10)) as checks:
        await checks.between(0, 10)
    process = one._process
    assert process is not None
    await one.close()
    assert process.returncode is not None


def test_requests_and_answers_follow_each_other() -> None:
    """A byte a claim; nothing at the end of the input."""
    claims = [claim for version in page(3, frozenset((1,))) for claim in claims_of(version)]
    requests = io.BytesIO(verifying.encoded(claims) + verifying.encoded(claims[:1]))
    answers = io.BytesIO()
    verifying.serve(requests, answers)
    assert answers.getvalue() == b"\1\0\1\1"


def test_slices_begin_where_requests_do() -> None:
    """Or a slice would wait for what is not its own."""
    from node.exchange import LONG_SLICE, SLICE

    assert SLICE % verifier.STEP == LONG_SLICE % verifier.STEP == 0
