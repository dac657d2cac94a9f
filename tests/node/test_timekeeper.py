"""The clock that notices when it was set."""

import pytest

from node.timekeeper import JUMP_US, Timekeeper


class Clocks:
    """A wall clock and a time since boot, moved by hand; microseconds."""

    def __init__(self) -> None:
        self.wall, self.boot = 1_800_000_000_000_000, 5_000_000

    def keeper(self) -> Timekeeper:
        return Timekeeper(lambda: self.wall, lambda: self.boot)

    def pass_by(self, microseconds: int) -> None:
        self.wall += microseconds
        self.boot += microseconds


def test_time_that_passes_is_no_jump() -> None:
    """A year in which the machine also slept: both clocks went on alike."""
    clocks = Clocks()
    keeper = clocks.keeper()
    clocks.pass_by(365 * 86_400 * 1_000_000)
    assert keeper.now() == clocks.wall
    assert keeper.jumped() == 0


@pytest.mark.parametrize("jump", [JUMP_US + 1, -JUMP_US - 1, 86_400_000_000, -86_400_000_000])
def test_a_clock_that_was_set_is_told_until_it_is_taken_in(jump: int) -> None:
    """By how much, in which direction; it is no news any more once what it asks for was done."""
    clocks = Clocks()
    keeper = clocks.keeper()
    clocks.pass_by(1_000_000)
    clocks.wall += jump
    assert keeper.jumped() == jump
    assert keeper.jumped() == jump
    keeper.take_in(jump)
    assert keeper.jumped() == 0
    assert keeper.now() == clocks.wall


@pytest.mark.parametrize("jump", [JUMP_US, -JUMP_US, 1])
def test_a_small_correction_is_no_jump(jump: int) -> None:
    """Time servers correct clocks by less than a second all day."""
    clocks = Clocks()
    keeper = clocks.keeper()
    clocks.wall += jump
    assert keeper.jumped() == 0


def test_small_corrections_add_up() -> None:
    """Control for the last: they are measured from the last jump, so many small ones are seen, too."""
    clocks = Clocks()
    keeper = clocks.keeper()
    clocks.wall += JUMP_US
    assert keeper.jumped() == 0
    clocks.wall += 1
    assert keeper.jumped() == JUMP_US + 1


def test_the_machines_own_clocks_are_read() -> None:
    """Without others it is the wall clock in microseconds since 1970, and it did not jump just now."""
    keeper = Timekeeper()
    first = keeper.now()
    assert 1_700_000_000_000_000 < first <= keeper.now()
    assert keeper.jumped() == 0
