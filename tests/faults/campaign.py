"""One mesh and the rounds that it lives through. Each ends with all nodes alike, nothing lost and every reason told."""

import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from marker import holding
from netns import Lab

from tests.faults import misfortunes
from tests.faults.member import Member, NoAnswer, members
from tests.faults.misfortunes import Scene
from tests.faults.pen import Pen, from_file, look
from tests.faults.script import DISKS_LOST, JUMPS, Round, Topology
from tests.faults.truth import Truth, World, truth
from tests.faults.witness import Witness

PATIENCE = 60.0
"""Seconds in which a reason must be told, and all must agree again."""
LOOK_EVERY = 0.05


class Broken(Exception):
    """A promise was broken; the text is for whoever has to find out why."""


@dataclass(frozen=True, slots=True)
class Report:
    """What a round did."""

    script: Round
    seconds: tuple[float, ...]
    """Until all faults had begun, all reasons were told, all faults had ended, all nodes were alike."""
    told: int
    """Reasons that had to be told, and were."""
    counts: Mapping[str, int]
    died: int
    """Acknowledged writes that were on no disk but one that was lost."""
    closed_after: Sequence[float]
    """Seconds from taking a certificate off a list until its connections were closed."""
    digest: str

    def __str__(self) -> str:
        script, counts = self.script, self.counts
        faults = "; ".join(map(str, script.faults))
        writes = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
        died = f", {self.died} died with their disk" if self.died else ""
        seconds = "+".join(f"{one:.1f}" for one in self.seconds)
        return (
            f"seed {script.seed:5} {sum(self.seconds):5.1f} s ({seconds})  {script.topology.name}, {script.weather} | "
            f"{faults} | {self.told} reasons | {writes}{died} | {self.digest[:12]}"
        )


class Campaign:
    """A mesh on a lab of its own."""

    def __init__(self, lab: Lab, nodes: Sequence[Member], topology: Topology, folder: Path, patience: float) -> None:
        self._lab, self._members, self._topology, self._patience = lab, nodes, topology, patience
        self._folder = folder
        self._witness = Witness()
        self._disks_lost: set[int] = set()

    def play(self, script: Round) -> Report:
        """One round. Raises Broken."""
        began = time.monotonic()
        world = World()
        copied = {
            one.target: self._copied(one.target) for one in script.faults if one.kind == "rollback"
        }  # fmt: skip
        self._lab.weather(script.weather, script.seed)
        pen = Pen(self._members, world, self._witness, script.writes)
        scene = Scene(self._lab, self._members, self._topology.edges, world, self._witness, pen, time.monotonic())
        scene.copied_at = copied
        scene.forgetful = frozenset(one.target for one in script.faults if one.kind in JUMPS)
        pen.start()
        try:
            misfortunes.begin(scene, script.faults)
            struck = time.monotonic()
            told = self._until_told(world)
            known = time.monotonic()
            misfortunes.end(scene, script.faults)
            assert world.is_calm, world
        finally:
            pen.finish()
        healed = time.monotonic()
        self._disks_lost |= {one.target for one in script.faults if one.kind in DISKS_LOST}
        digest = self._until_alike(scene.rolled_back)
        with from_file(self._members[0]) as file:
            losses = self._witness.judge(look(self._members[script.seed % len(self._members)].client), file)
        if losses:
            raise Broken("\n".join(f"{one.kind}: {one.detail}" for one in losses))
        writes = self._witness.writes
        died = sum(one.mortal and one.acknowledged for one in writes if one.ended >= scene.began)
        seconds = (struck - began, known - struck, healed - known, time.monotonic() - healed)
        return Report(script, seconds, told, pen.counts, died, scene.closed_after, digest)

    @property
    def by_arrival(self) -> int:
        """Writes over which another was written just as they arrived there."""
        return sum(one.by_arrival for one in self._witness.writes)

    def _copied(self, node: int) -> tuple[float, int]:
        at, feed = time.monotonic(), int(self._members[node].status()["feed"])
        self._members[node].copy_store()
        return at, feed

    def finish(self) -> None:
        """At the end: all nodes show the same memories, no file shows any, no log has a bug. Raises Broken."""
        shown = [frozenset(look(one.client)) for one in self._members]
        for member, one in zip(self._members[1:], shown[1:], strict=True):
            if one != shown[0]:
                odd = sorted(str(each) for each in one ^ shown[0])
                raise Broken(f"{self._members[0].name} and {member.name} have one digest and differ in: {odd[:5]}")
        for member in self._members:
            member.end(signal.SIGTERM)
            if member.mistakes():
                raise Broken(f"{member.name} has made mistakes: {member.mistakes()[:3]}")
        if found := list(holding(self._folder)):
            raise Broken(f"plain text of a memory stands in {found}")

    # --- what must become true

    def _until_told(self, world: World) -> int:
        """Wait until each node tells of each peer what is true of it."""
        open_ = {
            (one.place, other.place): found
            for one in self._members
            for other in self._members
            if one is not other and frozenset((one.place, other.place)) in map(frozenset, self._topology.edges)
            if (found := truth(world, one.place, other.place)) is not None
        }
        count, last = len(open_), dict[tuple[int, int], str]()
        for _ in self._patiently():
            for observer in {pair[0] for pair in open_}:
                for entry in self._status(observer).get("peers", ()):
                    pair = (observer, "abcdefgh".index(entry["peer"]))
                    if pair in open_:
                        last[pair] = f"{entry['state']}, {entry['code']}: {entry['reason']}"
                        if open_[pair][1].is_told(entry, self._members[observer].fingerprint.text):
                            del open_[pair]
            if not open_:
                return count
        raise Broken("\n".join(self._untold(pair, *found, last.get(pair)) for pair, found in open_.items()))

    def _untold(self, pair: tuple[int, int], rule: str, wanted: Truth, last: str | None) -> str:
        observer, peer = (self._members[place].name for place in pair)
        codes = ", ".join(sorted(str(code) for code in wanted.codes))
        return f"{rule}: {observer} should say of {peer} {codes} ({wanted.words}); it says: {last}"

    def _until_alike(self, rolled_back: set[int]) -> str:
        """Wait until all have one digest, all links are in step, and those that were rolled back say so."""
        problem = ""
        for _ in self._patiently():
            told = [self._status(one.place) for one in self._members]
            if not all(told):
                problem = (
                    f"no answer from {[one.name for one, said in zip(self._members, told, strict=True) if not said]}"
                )
                continue
            digests = {one["digest"] for one in told}
            away = [
                f"{one['node']} of {peer['peer']}: {peer['state']}, {peer['reason']}"
                for one in told
                for peer in one["peers"]
                if peer["state"] != "in_step"
            ]
            alarms = [{alarm["kind"] for alarm in one["alarms"]} for one in told]
            silent = [self._members[node].name for node in rolled_back if "rolled_back" not in alarms[node]]
            false = [
                f"{one.name}: {kind}"
                for one in self._members
                for kind in alarms[one.place]
                if kind != "rolled_back" or one.place not in self._disks_lost
            ]
            if len(digests) == 1 and not away and not silent and not false:
                return str(digests.pop())
            problem = f"{len(digests)} digests; not in step: {away}; no alarm at: {silent}; false alarms: {false}"
        raise Broken(f"not alike after {self._patience:.0f} s: {problem}")

    def _patiently(self) -> Iterator[None]:
        deadline = time.monotonic() + self._patience
        while time.monotonic() < deadline:
            yield
            time.sleep(LOOK_EVERY)

    def _status(self, node: int) -> dict[str, Any]:
        """Empty where it does not answer just now: a machine with much else to do is no fault of the node."""
        try:
            return self._members[node].status()
        except NoAnswer:
            return {}

    def evidence(self) -> str:
        """What everybody says and the ends of their logs, for a failure."""
        parts = []
        for member in self._members:
            try:
                told = str(member.status())
            except NoAnswer as error:
                told = str(error)
            parts.append(f"--- {member.name}: {told}\n{member.log_tail()}")
        return "\n".join(parts)


@contextmanager
def mesh(
    topology: Topology, folder: Path, patience: float = PATIENCE, sabotaged: Mapping[int, str] | None = None
) -> Iterator[Campaign]:
    """A running mesh; everything of it ends with the block."""
    folder.mkdir(parents=True)
    with Lab(topology.nodes) as lab:
        nodes = members(lab.hosts, topology.edges, folder, sabotaged or {})
        try:
            for one in nodes:
                one.launch()
            for one in nodes:
                one.await_ready()
            yield Campaign(lab, nodes, topology, folder, patience)
        finally:
            for one in nodes:
                one.close()
