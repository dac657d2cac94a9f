"""What is remembered while histories are played changes none of them, and is what the code would say again."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from sync import attest, ed25519, wire
from sync.errors import RemoteError
from tests.simulation import remembered, shapes
from tests.simulation.remembered import LASTING, OF_A_HISTORY
from tests.simulation.shapes import SHAPES, drawn, play
from tests.simulation.world import World

TOLD = ("nothing", "everything with liars", "keyrings with liars", "tiny, with everything")
"""Shapes of which some histories are played in both ways."""


def ends(name: str, number: int) -> list[object]:
    """What a history ends in: each node's feed and digest, and what is left to chance next."""
    one = drawn(SHAPES[name], f"remembered/{number}")
    with shapes.in_force(one.limits):
        world = World(one.topology, keys=one.keys, **one.options)
        for op in one.ops:
            world.do(op)
        world.heal()
    positions = [node.store.position() for node in world.nodes.values()]
    return [*positions, world.alarms, world.bodies_sent, world.random.random(), world.faults()]


@pytest.mark.parametrize("name", TOLD)
def test_a_history_ends_alike_whether_or_not_anything_is_remembered(name: str) -> None:
    """To the last draw of a random number."""
    for number in range(5):
        without = ends(name, number)
        with remembered.remembered(LASTING), remembered.remembered(OF_A_HISTORY):
            assert ends(name, number) == without


Asked = list[tuple[Callable[..., Any], tuple[Any, ...], Any]]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[Asked]:
    """All that was remembered: each function, the arguments, and the answer."""
    told: Asked = []

    def remembering(maxsize: int) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        def around(function: Callable[..., Any]) -> Callable[..., Any]:
            known: dict[tuple[Any, ...], Any] = {}

            def asking(*args: Any) -> Any:
                if args not in known:
                    known[args] = function(*args)
                    told.append((function, args, known[args]))
                return known[args]

            return asking

        return around

    monkeypatch.setattr(remembered, "lru_cache", remembering)
    yield told


def test_what_is_remembered_the_code_would_say_again(asked: Asked) -> None:
    """Nobody has changed an answer since, and none of them hung on anything but the arguments."""
    for name in ("liars and restores", "keyrings with liars", "daemons"):
        with shapes.verified_once():
            assert play(SHAPES[name], "remembered/7") == []
    assert len({function for function, _, _ in asked}) >= len({*LASTING, *OF_A_HISTORY}) - 4
    for function, args, answer in asked:
        assert function(*args) == answer


def test_nothing_is_remembered_afterwards() -> None:
    """The functions are the product's own again, and an error did not stay either."""
    before = [getattr(module, name) for module, name in (*LASTING, *OF_A_HISTORY)]
    with remembered.remembered(LASTING), remembered.remembered(OF_A_HISTORY):
        assert ed25519.verifies is not before[0]
        for _ in range(2):
            with pytest.raises(RemoteError):
                wire.decode_push(b"{", "cert-A")
    assert [getattr(module, name) for module, name in (*LASTING, *OF_A_HISTORY)] == before


def test_a_rule_that_is_taken_away_between_two_histories_is_missed_in_the_second(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Control: what the first has read does not stand for what the second would read."""
    with shapes.verified_once():
        assert play(SHAPES["nothing"], "remembered/0") == []
        monkeypatch.setattr(attest, "agent_fault", lambda _agent: "no agent id")
        assert [fault.kind for fault in play(SHAPES["nothing"], "remembered/0")] == ["raised"]
