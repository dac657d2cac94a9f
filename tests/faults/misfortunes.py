"""How each kind of fault begins and ends: a table."""

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from netns import Lab

from tests.faults.member import Member
from tests.faults.pen import Pen, from_file
from tests.faults.script import SKEW, Fault
from tests.faults.truth import World
from tests.faults.witness import Witness
from tls.fingerprint import Fingerprint


@dataclass(slots=True)
class Scene:
    """What a fault may touch."""

    lab: Lab
    members: Sequence[Member]
    edges: frozenset[tuple[int, int]]
    world: World
    witness: Witness
    pen: Pen
    began: float
    """When the round began, monotonic."""
    old: dict[int, Fingerprint] = field(default_factory=dict)
    """Certificates before their rotation."""
    rolled_back: set[int] = field(default_factory=set)
    """Nodes whose peers will prove to them that their store is not what it was."""
    closed_after: list[float] = field(default_factory=list)
    """Seconds from taking a certificate off a list until its connections were closed."""
    forgetful: frozenset[int] = frozenset()
    """Nodes that forget their cursors in this round, as their clocks jump: they cannot prove a rollback to others."""
    copied_at: dict[int, tuple[float, int]] = field(default_factory=dict)
    """When a copy of the store was taken, and where its feed stood."""

    def neighbours(self, node: int) -> Iterator[Member]:
        for first, second in self.edges:
            if node in (first, second):
                yield self.members[second if node == first else first]


def _end(how: int) -> Callable[[Scene, Fault], None]:
    def begin(scene: Scene, fault: Fault) -> None:
        scene.world.stopped.add(fault.target)
        scene.members[fault.target].end(how)

    return begin


def _start(scene: Scene, fault: Fault) -> None:
    scene.members[fault.target].start()
    scene.world.stopped.discard(fault.target)


def _crash(scene: Scene, fault: Fault) -> None:
    scene.world.in_transition.add(fault.target)
    scene.members[fault.target].end(signal.SIGKILL)
    scene.members[fault.target].launch()


def _recovered(scene: Scene, fault: Fault) -> None:
    scene.members[fault.target].await_ready()
    scene.world.in_transition.discard(fault.target)


def _pause(scene: Scene, fault: Fault) -> None:
    scene.world.paused.add(fault.target)
    scene.members[fault.target].signal(signal.SIGSTOP)


def _resume(scene: Scene, fault: Fault) -> None:
    scene.members[fault.target].signal(signal.SIGCONT)
    scene.world.paused.discard(fault.target)


def _directions(fault: Fault) -> tuple[tuple[int, int], ...]:
    there = (fault.target, fault.other)
    return (there,) if fault.kind == "half_cut" else (there, there[::-1])


def _cut(scene: Scene, fault: Fault) -> None:
    scene.world.cut |= set(_directions(fault))
    scene.lab.cut(*_directions(fault))


def _mend(scene: Scene, fault: Fault) -> None:
    scene.lab.mend(*_directions(fault))
    scene.world.cut -= set(_directions(fault))


def _unplug(scene: Scene, fault: Fault) -> None:
    scene.world.unplugged.add(fault.target)
    scene.members[fault.target].host.link(False)


def _plug(scene: Scene, fault: Fault) -> None:
    host = scene.members[fault.target].host
    host.link(True)
    host.know(scene.lab.hosts)
    scene.world.unplugged.discard(fault.target)


def _skew(seconds: float) -> Callable[[Scene, Fault], None]:
    def begin(scene: Scene, fault: Fault) -> None:
        (scene.world.ahead if seconds > 0 else scene.world.behind).add(fault.target)
        scene.members[fault.target].shift_clock(seconds)

    return begin


def _right_clock(scene: Scene, fault: Fault) -> None:
    scene.members[fault.target].shift_clock(0.0)
    scene.world.ahead.discard(fault.target)
    scene.world.behind.discard(fault.target)


def _fill(scene: Scene, fault: Fault) -> None:
    scene.members[fault.target].fill_disk()
    scene.world.full.add(fault.target)


def _free(scene: Scene, fault: Fault) -> None:
    scene.members[fault.target].free_disk()
    scene.world.full.discard(fault.target)


def _note_closed(scene: Scene) -> None:
    scene.world.closed = {one.place for one in scene.members if one.lists_nobody}


def _rotate(scene: Scene, fault: Fault) -> None:
    """Without a word: the old certificate is struck off everywhere, the new one is listed nowhere."""
    member = scene.members[fault.target]
    old = scene.old[fault.target] = member.fingerprint
    member.install(member.new_identity(scene.members[0].ca))
    for other in scene.neighbours(fault.target):
        other.unlist(old)
    scene.world.rotated.add(fault.target)
    _note_closed(scene)


def _rotate_announced(scene: Scene, fault: Fault) -> None:
    """As it should be done: the others list the new certificate beside the old one first."""
    member = scene.members[fault.target]
    scene.world.in_transition.add(fault.target)
    scene.old[fault.target] = member.fingerprint
    identity = member.new_identity(scene.members[0].ca)
    for other in scene.neighbours(fault.target):
        other.list(identity.fingerprint, member.name)
    member.install(identity)


def _accept_rotation(scene: Scene, fault: Fault) -> None:
    for other in scene.neighbours(fault.target):
        other.introduce(scene.members[fault.target])
        other.unlist(scene.old[fault.target])
    _note_closed(scene)
    scene.world.rotated.discard(fault.target)
    scene.world.in_transition.discard(fault.target)


def _unlist(scene: Scene, fault: Fault) -> None:
    """Traffic flows; the connections are closed in the same step in which the node takes the list in."""
    other = scene.members[fault.other]
    start, began = other.log.stat().st_size, time.monotonic()
    other.unlist(scene.members[fault.target].fingerprint)
    scene.world.unlisted.add((fault.other, fault.target))
    _note_closed(scene)
    world = scene.world
    while other.place not in world.stopped | world.paused | world.in_transition and time.monotonic() < began + 10:
        if any(event["event"] == "allowlist.loaded" and event["removed"] for event in other.logged(start)):
            scene.closed_after.append(time.monotonic() - began)
            return
        time.sleep(0.02)


def _list(scene: Scene, fault: Fault) -> None:
    target = scene.members[fault.target]
    scene.members[fault.other].list(target.fingerprint, target.name)
    _note_closed(scene)
    scene.world.unlisted.discard((fault.other, fault.target))


def _lose_disk(scene: Scene, fault: Fault) -> None:
    """`empty`: a new disk. `rollback`: the copy that was taken when the round began."""
    member = scene.members[fault.target]
    since, copied = scene.copied_at[fault.target] if fault.kind == "rollback" else (scene.began, 0)
    if _is_known_beyond(member, copied, {scene.members[node].name for node in scene.forgetful}):
        scene.rolled_back.add(fault.target)
    scene.world.stopped.add(fault.target)
    member.end(signal.SIGKILL)
    with scene.pen.lock, ExitStack() as files:
        others = [files.enter_context(from_file(one)) for one in scene.members if one is not member]
        scene.witness.disk_lost(fault.target, since, others)
    if fault.kind == "rollback":
        member.restore_store()
    else:
        member.wipe_store()


def _is_known_beyond(member: Member, number: int, but: set[str]) -> bool:
    """Whether some peer, but for these, has confirmed more of its feed than up to `number`."""
    told = member.status()
    return any(one["state"] == "in_step" and one["peer"] not in but and told["feed"] > number for one in told["peers"])


MISFORTUNES: dict[str, tuple[Callable[[Scene, Fault], None], Callable[[Scene, Fault], None]]] = {
    "stop": (_end(signal.SIGTERM), _start),
    "kill": (_end(signal.SIGKILL), _start),
    "crash": (_crash, _recovered),
    "pause": (_pause, _resume),
    "cut": (_cut, _mend),
    "half_cut": (_cut, _mend),
    "link_down": (_unplug, _plug),
    "skew_ahead": (_skew(SKEW), _right_clock),
    "skew_behind": (_skew(-SKEW), _right_clock),
    "full": (_fill, _free),
    "rotate": (_rotate, _accept_rotation),
    "rotate_overlap": (_rotate_announced, _accept_rotation),
    "unlist": (_unlist, _list),
    "empty": (_lose_disk, _start),
    "rollback": (_lose_disk, _start),
}
"""Kind to how it begins and how it ends."""


def begin(scene: Scene, faults: Sequence[Fault]) -> None:
    """Each at its moment."""
    for fault in faults:
        time.sleep(max(0.0, scene.began + fault.at - time.monotonic()))
        MISFORTUNES[fault.kind][0](scene, fault)


def end(scene: Scene, faults: Sequence[Fault]) -> None:
    """In the order that was drawn."""
    for fault in sorted(faults, key=lambda one: one.turn):
        MISFORTUNES[fault.kind][1](scene, fault)
