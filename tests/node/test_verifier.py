"""Signatures of large pages are verified in a process of their own, which may die at any time."""

import asyncio
import io
import os
import signal
from collections.abc import AsyncIterator

import pytest
from keys import pair
from versions import ALICE, memory

from node import verifier, verifying
from node.verifier import Checks, Verifier
from sync.attest import Unsigned, claim_of
from sync.record import memory_version
from sync.version import Version

WRITER = pair("ai:writer")


def page(count: int, forged: frozenset[int] = frozenset(), unsigned: frozenset[int] = frozenset()) -> list[Version]:
    """Versions of as many memories; some of them signed by another than they say."""
    versions = []
    for number in range(count):
        author = Unsigned("ai:writer") if number in unsigned else WRITER
        made = memory_version(memory(title=str(number)), author, {ALICE: (number + 1) << 20})
        if number in forged:
            made = memory_version(memory(title=str(number)), pair("ai:other"), made.clock)
            made = Version(
                made.namespace, made.id, "m", made.at, made.clock, made.content, made.signature,
                made.doc.replace(b'"agent":"ai:other"', b'"agent":"ai:writer"'),
            )  # fmt: skip
        versions.append(made)
    return versions


@pytest.fixture
async def one() -> AsyncIterator[Verifier]:
    found = Verifier()
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
    claims = [claim_of(version) for version in page(3, frozenset((1,)))]
    requests = io.BytesIO(verifying.encoded(claims) + verifying.encoded(claims[:1]))
    answers = io.BytesIO()
    verifying.serve(requests, answers)
    assert answers.getvalue() == b"\1\0\1\1"


def test_slices_begin_where_requests_do() -> None:
    """Or a slice would wait for what is not its own."""
    from node.exchange import LONG_SLICE, SLICE

    assert SLICE % verifier.STEP == LONG_SLICE % verifier.STEP == 0
