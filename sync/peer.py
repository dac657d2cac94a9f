"""One peer, seen from here: when to push, when to pull, when to wait. Time is an argument; no I/O (as in aioquic).

Two lanes, each with at most one request in flight. What commits while a push is under way goes in the next; nothing
queues up, since what is still to be sent is always "the feed after the receiver's cursor".

    push lane   unknown ──hello──▶ in step ──commit──▶ behind ──push──▶ in step
    pull lane   due ──since──▶ (more: due again at once) ──▶ waits for its period

A failure puts both lanes off: the wait doubles up to a limit, with jitter, and traffic arriving from the peer ends it.
Each lane keeps its own trouble until it works itself: a peer with a full disk takes no push and can be pulled from.
The driver calls: `poll(now)` for what to do, `…_done` or `failed` when it was done, `timer()` for when to poll again.
"""

import enum
from collections.abc import Callable
from dataclasses import dataclass

from sync.errors import LocalError

PATIENCE = 2
"""Pushes in a row that may move nothing before the next one waits."""
LULL = 1.0
"""Seconds after which the receiver's cursor is moved over what was not for it."""
WAKING = 1.0
"""Seconds at least between two waits that a call of the peer ends: it may call without end, and answer none of ours."""
THIN_PAGES = 4
"""Pages in a row with next to nothing in them, and more to come, before the next one is asked for with a pause."""
THIN_WAIT = 0.05
"""Seconds. An honest feed has such pages where much of it came from here, and a liar as many as it likes."""


class Action(enum.Enum):
    """What to do next on a lane."""

    PUSH = "push"
    """Cut a page after the view's `have` and send it; a hello where there is no view."""
    PULL = "pull"
    """Ask for what comes after our cursor."""


class Health(enum.Enum):
    """What an operator wants to know first."""

    STARTING = "starting"
    IN_STEP = "in_step"
    BEHIND = "behind"
    FAILING = "failing"


@dataclass(frozen=True, slots=True)
class Pace:
    """How often and how patiently. All in seconds."""

    period: float = 30.0
    """Between pulls, and between hellos on a push lane that has nothing to say."""
    first_retry: float = 0.25
    longest_retry: float = 60.0


@dataclass(frozen=True, slots=True)
class View:
    """What we know of the receiver, from its last answer: its cursor on us and its life."""

    have: str | None
    life: str


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why the last attempt failed."""

    code: str
    text: str
    since: float
    attempts: int


@dataclass(slots=True)
class _Lane:
    on: bool
    busy: bool = False
    due_at: float = 0.0
    trouble: Trouble | None = None


class PeerMachine:
    """Decides for one peer. `jitter` gives numbers in [0, 1)."""

    def __init__(self, *, push: bool, pull: bool, pace: Pace, jitter: Callable[[], float]) -> None:
        self._pace = pace
        self._jitter = jitter
        self._push = _Lane(push)
        self._pull = _Lane(pull)
        self._retry_at = 0.0
        self._attempts = 0
        self._failed_last = Action.PULL
        self._covered = -1  # the feed number up to which the receiver is known to have seen us
        self._last = 0  # the feed number at our last commit
        self._pulled: bool | None = None  # None: never; False: there was more; True: to the end
        self._thin = 0  # pages in a row
        self._woken_at = -WAKING
        self._pull_anew = False  # the rules changed while a pull under the old ones was under way
        self._stalls = 0
        self._due = False
        self._resume_at = 0.0
        self._is_asked_later = False  # `_resume_at` is what the receiver said, and holds for nothing newer
        self._wanted: frozenset[bytes] = frozenset()
        self.view: View | None = None
        self.in_step_since: float | None = None

    # --- what happened

    def committed(self, number: int) -> None:
        """Our feed stands at `number` now."""
        if number > self._last and self._is_asked_later:
            self._is_asked_later, self._resume_at = False, 0.0
        self._last = max(self._last, number)

    def heard_from(self, now: float) -> bool:
        """A request from this peer arrived: it is up, so do not sit out a wait. True where there was one."""
        if not self._attempts:
            return False
        at = max(now, self._woken_at + WAKING)
        self._attempts = 0
        self._woken_at = self._retry_at = self._resume_at = at
        self._pull.due_at = at  # ask what we missed
        return True

    def read_again(self, now: float) -> None:
        """Our rules for what comes from this peer have changed: what was refused may be taken now."""
        self._pull.due_at = now
        self._pull_anew = self._pull.busy

    def hung_up(self, now: float) -> None:
        """The peer has closed the connections that were kept to it: ask whether it is there, not after its period."""
        lane = self._pull if self._pull.on else self._push
        lane.due_at = min(lane.due_at, now)

    def push_put_off(self, now: float, covered: int) -> None:
        """The page was empty: all up to `covered` came from the peer itself, or is not for it. It can wait a little.

        The receiver's cursor stays behind until something is sent, so an empty page is sent when the lane is due.
        """
        if not self.may_put_off:
            raise LocalError("an empty page was put off although the lane was due")
        self._end(self._push, now)
        self._covered = covered
        self._push.due_at = min(self._push.due_at, now + LULL)
        self._note_step(now)

    @property
    def may_put_off(self) -> bool:
        """True where the push under way was started by news, and not because the lane was due."""
        return self.view is not None and not self._due

    def push_done(self, now: float, view: View, covered: int, wanted: frozenset[bytes], again: float = 0.0) -> None:
        """The peer answered a push or a hello. `covered`: the number in its `have`, judged by our feed; 0 for none.

        `again`: seconds after which it wants to be offered again what it has asked somebody else for.
        """
        self._end(self._push, now)
        if self.view is not None and self.view.life != view.life:
            self._pull.due_at = now  # it was restarted: whatever it says of itself may have changed
        self._note_progress(now, view, wanted)
        self.view = view
        self._covered = covered
        self._wanted = wanted
        self._is_asked_later = bool(again) and not wanted
        if self._is_asked_later:
            self._stalls, self._resume_at = 0, now + again
        self._push.due_at = now + self._period()
        self._note_step(now)

    def pull_done(self, now: float, more: bool, *, thin: bool = False) -> None:
        """An answer to since was applied. `thin`: there was next to nothing in it."""
        self._end(self._pull, now)
        self._pulled = not more
        is_due = more or self._pull_anew
        self._pull_anew = False
        self._thin = self._thin + 1 if more and thin else 0
        wait = THIN_WAIT if self._thin > THIN_PAGES else 0.0
        self._pull.due_at = now + (wait if is_due else self._period())
        self._note_step(now)

    def failed(self, now: float, action: Action, code: str, text: str, retry_after: float = 0.0) -> None:
        """A request could not be made, or its answer could not be used. `retry_after`: what the peer asked for, s."""
        lane = self._lane(action)
        if not lane.busy:
            raise LocalError(f"{action.value} failed but was not under way")
        lane.busy = False
        self._attempts += 1
        wait = min(self._pace.longest_retry, self._pace.first_retry * 2.0 ** min(self._attempts - 1, 32))
        self._retry_at = now + max(retry_after, wait * (0.5 + 0.5 * self._jitter()))
        self._failed_last = action
        before = lane.trouble
        lane.trouble = Trouble(code, text, before.since if before else now, before.attempts + 1 if before else 1)
        self.in_step_since = None
        if action is Action.PUSH:
            self.view = None  # it may have been restarted or restored: ask again before sending more
            self._wanted = frozenset()

    # --- what to do

    def poll(self, now: float) -> tuple[Action, ...]:
        """What to start now; the lanes named are busy from here on."""
        if now < self._retry_at or self._is_probing:
            return ()
        actions = []
        lanes = [(Action.PUSH, self._push), (Action.PULL, self._pull)]
        if self._attempts and self._failed_last is Action.PUSH:
            lanes.reverse()  # while one request at a time is made, a lane that fails must leave the other its turn
        for action, lane in lanes:
            if lane.on and not lane.busy and now >= self._start_at(action):
                lane.busy = True
                if action is Action.PUSH:
                    self._due = now >= lane.due_at
                actions.append(action)
                if self._is_probing:
                    break
        return tuple(actions)

    def timer(self) -> float | None:
        """When to poll again if nothing happens before; None where only an event can change anything."""
        if self._is_probing:
            return None
        waits = [
            max(self._retry_at, self._start_at(action))
            for action, lane in ((Action.PUSH, self._push), (Action.PULL, self._pull))
            if lane.on and not lane.busy
        ]
        return min(waits, default=None)

    @property
    def trouble(self) -> Trouble | None:
        """Why a lane does not work, the one that failed last before the other; None where both do."""
        last, other = self._lane(self._failed_last), self._push if self._failed_last is Action.PULL else self._pull
        return last.trouble or other.trouble

    @property
    def wanted(self) -> frozenset[bytes]:
        """Tags that the receiver asked for among what was offered."""
        return self._wanted

    @property
    def behind(self) -> int:
        """How many numbers of our feed the receiver has not confirmed."""
        return max(0, self._last - max(0, self._covered)) if self._push.on else 0

    @property
    def health(self) -> Health:
        """In step means: it has confirmed all of ours, and the last pull got all of its."""
        if self.trouble is not None:
            return Health.FAILING
        if (self._push.on and self.view is None) or (self._pull.on and self._pulled is None):
            return Health.STARTING
        if self.behind or self._pulled is False:
            return Health.BEHIND
        return Health.IN_STEP

    @property
    def _is_probing(self) -> bool:
        """After a failure one request is enough until the peer answers."""
        return bool(self._attempts) and (self._push.busy or self._pull.busy)

    def _start_at(self, action: Action) -> float:
        if action is Action.PUSH and (self.view is None or self._covered < self._last):
            return self._resume_at
        return self._lane(action).due_at

    def _note_progress(self, now: float, view: View, wanted: frozenset[bytes]) -> None:
        """A receiver that answers but takes nothing (its waiting table is full, say) is asked ever more rarely."""
        stuck = self.view is not None and view == self.view and (not wanted or wanted == self._wanted)
        self._stalls = self._stalls + 1 if stuck and self._covered < self._last else 0
        if self._stalls < PATIENCE:
            self._resume_at = 0.0
        else:
            wait = self._pace.first_retry * 2.0 ** min(self._stalls - PATIENCE, 32)
            self._resume_at = now + min(self._pace.longest_retry, wait)

    def _lane(self, action: Action) -> _Lane:
        return self._push if action is Action.PUSH else self._pull

    def _end(self, lane: _Lane, now: float) -> None:
        if not lane.busy:
            raise LocalError("an answer arrived for a request that was not under way")
        lane.busy = False
        if self._attempts:
            self._pull.due_at = now  # back after a failure: catch up without waiting for the period
        self._attempts = 0
        self._retry_at = 0.0
        lane.trouble = None

    def _note_step(self, now: float) -> None:
        if self.health is not Health.IN_STEP:
            self.in_step_since = None
        elif self.in_step_since is None:
            self.in_step_since = now

    def _period(self) -> float:
        return self._pace.period * (0.9 + 0.2 * self._jitter())
