"""Where versions of tests stand among each other: stamps, from clocks or from the versions that were seen."""

from collections.abc import Mapping

from sync.attest import Stamp
from sync.context import Context, join
from sync.dot import CHECK_DIGITS, LEGACY, MAC_BITS, Dot, seen_until
from sync.version import Version

GAP = 1_000
"""Between two numbers of a test's clock, so that one lies just above or below a third."""
UNKNOWN = "0" * CHECK_DIGITS
_UP = 1 << MAC_BITS


def stamp(clock: Mapping[str, int], depth: int | None = None) -> Stamp:
    """The stamp of a write by the last actor of a clock, which has seen all that the clock says.

    It has seen it whatever it was: its entries lie just above what they stand for.
    """
    *seen, (actor, own) = clock.items()
    if actor == LEGACY:
        assert not seen, "what a daemon writes over something: `sync.legacy.past.written`"
        from sync.legacy.past import written  # a program without it runs tests, too

        return written((), own)
    entries = [seen_until(n) if one == LEGACY else Dot(one, _place(n) + _UP, UNKNOWN) for one, n in seen]
    if _place(own) > GAP * _UP:
        entries.append(Dot(actor, _place(own) - _UP, UNKNOWN))
    deep = depth if depth is not None else sum(number for one, number in clock.items() if one != LEGACY)
    return Stamp(Context(entries), deep, lambda check: Dot(actor, _place(own), check))


def _place(number: int) -> int:
    """The counter of a number of a test's clock, which may be given shifted already."""
    return (number >> MAC_BITS or number) * GAP << MAC_BITS


def over(
    *seen: Version,
    actor: str = "c" * 16,
    counter: int = 1,
    depth: int | None = None,
    unseen: tuple[Version, ...] = (),
    lies: tuple[Dot, ...] = (),
) -> Stamp:
    """The stamp of a write by an actor that has seen these. `unseen`: what its context has no room for.

    `lies`: what it says to have seen besides.
    """
    everything = join([(one.context, one.dot) for one in seen], 2**53)
    gone = {one.dot for one in unseen}
    context = Context((*(entry for entry in everything if entry not in gone), *lies))
    deep = depth if depth is not None else 1 + max((one.depth for one in seen), default=0)
    return Stamp(context, deep, lambda check: Dot(actor, counter << MAC_BITS, check))
