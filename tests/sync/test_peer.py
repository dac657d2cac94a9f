"""One peer seen from here, as dialogues: what the machine wants to do, what happened, what it wants next."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sync import peer
from sync.errors import LocalError
from sync.peer import LULL, PATIENCE, THIN_PAGES, THIN_WAIT, Action, Health, Pace, PeerMachine, View

PUSH, PULL = Action.PUSH, Action.PULL
LIFE, OTHER_LIFE = "a" * 16, "b" * 16
PERIOD = 36.0


class Playbook:
    """A dialogue with one machine, checked line by line. Time stands still until `at` or `after` moves it.

    Without jitter a period is 0.9 of what is configured, and a wait half of it; the pace here makes both round.
    """

    def __init__(self, *, push: bool = True, pull: bool = True, jitter: float = 0.0, **pace: float) -> None:
        usual = {"period": 40.0, "first_retry": 2.0, "longest_retry": 60.0}
        self.machine = PeerMachine(push=push, pull=pull, pace=Pace(**{**usual, **pace}), jitter=lambda: jitter)
        self.now = 0.0

    def at(self, now: float) -> "Playbook":
        self.now = now
        return self

    def after(self, seconds: float) -> "Playbook":
        return self.at(self.now + seconds)

    # what the machine says

    def wants(self, *actions: Action) -> "Playbook":
        """It starts exactly these now."""
        assert self.machine.poll(self.now) == actions
        return self

    def sleeps(self, seconds: float | None) -> "Playbook":
        """It wants to be polled again so many seconds from now, and nothing before; None: only an event wakes it."""
        timer = self.machine.timer()
        assert timer == (None if seconds is None else pytest.approx(self.now + seconds))
        return self

    def is_(self, health: Health, behind: int = 0) -> "Playbook":
        assert (self.machine.health, self.machine.behind) == (health, behind)
        return self

    # what happens

    def commit(self, number: int) -> "Playbook":
        self.machine.committed(number)
        return self

    def answered(
        self,
        covered: int = 0,
        *,
        have: str | None = None,
        life: str = LIFE,
        wanted: frozenset[bytes] = frozenset(),
        again: float = 0.0,
    ) -> "Playbook":
        """The push was answered; the receiver's cursor stands at `covered` in our feed."""
        self.machine.push_done(self.now, View(have or f"cursor {covered}", life), covered, wanted, again)
        return self

    def put_off(self, covered: int) -> "Playbook":
        self.machine.push_put_off(self.now, covered)
        return self

    def pulled(self, *, more: bool = False, thin: bool = False) -> "Playbook":
        self.machine.pull_done(self.now, more, thin=thin)
        return self

    def fails(self, action: Action, code: str = "unreachable", retry_after: float = 0.0) -> "Playbook":
        self.machine.failed(self.now, action, code, "it does not answer", retry_after)
        return self

    def hears(self, *, ends_a_wait: bool) -> "Playbook":
        assert self.machine.heard_from(self.now) is ends_a_wait
        return self


def in_step(**options: Any) -> Playbook:
    """A machine that has said hello, pulled to the end, and rests at 0."""
    book = Playbook(**options)
    actions = book.machine.poll(0.0)
    if PUSH in actions:
        book.answered()
    if PULL in actions:
        book.pulled()
    return book


# --- the two lanes


def test_at_start_it_says_hello_and_pulls_at_once() -> None:
    """Catching up waits for no news; then it rests for its period."""
    book = Playbook().is_(Health.STARTING).sleeps(0).wants(PUSH, PULL).is_(Health.STARTING).sleeps(None).wants()
    book.answered().is_(Health.STARTING).pulled().is_(Health.IN_STEP).sleeps(PERIOD).wants()
    book.after(PERIOD).wants(PUSH, PULL)


@pytest.mark.parametrize(
    ("lanes", "first"), [({"pull": False}, (PUSH,)), ({"push": False}, (PULL,)), ({"push": False, "pull": False}, ())]
)
def test_a_lane_that_is_off_does_nothing(lanes: dict[str, bool], first: tuple[Action, ...]) -> None:
    """One direction alone is in step by itself; with neither there is nothing to wait for."""
    Playbook(**lanes).wants(*first)
    book = in_step(**lanes).is_(Health.IN_STEP).sleeps(PERIOD if first else None).commit(5)
    book.wants(*(action for action in first if action is PUSH))


def test_a_commit_is_pushed_at_once_and_what_commits_meanwhile_goes_in_the_next() -> None:
    """One push in flight; no timer, and nothing queues up."""
    book = in_step().at(1).commit(1).is_(Health.BEHIND, 1).sleeps(-1).wants(PUSH)
    book.commit(2).commit(3).wants().is_(Health.BEHIND, 3).sleeps(PERIOD - 1)
    book.answered(1).is_(Health.BEHIND, 2).wants(PUSH)
    book.answered(3).is_(Health.IN_STEP).wants().sleeps(PERIOD - 1)


def test_a_pull_is_repeated_at_once_until_there_is_no_more() -> None:
    """Catch-up drains; it is never one page a period."""
    book = Playbook(push=False).wants(PULL)
    for _ in range(3):
        book.pulled(more=True).is_(Health.BEHIND).sleeps(0).wants(PULL)
    book.pulled().is_(Health.IN_STEP).sleeps(PERIOD).wants()


def test_a_push_goes_on_while_a_pull_is_under_way() -> None:
    """Neither lane waits for the other."""
    book = in_step().at(PERIOD).wants(PUSH, PULL).answered().commit(1).wants(PUSH).answered(1)
    book.sleeps(PERIOD).pulled().is_(Health.IN_STEP)


def test_what_was_wanted_is_sent_at_once() -> None:
    """The tags are held for the next page only, and that one follows without a wait."""
    tags = frozenset((b"t" * 16,))
    book = in_step().commit(1).wants(PUSH).answered(0, wanted=tags)
    assert book.machine.wanted == tags
    book.wants(PUSH).answered(1)
    assert book.machine.wanted == frozenset()


def test_a_receiver_that_was_restarted_is_asked_for_its_news() -> None:
    """Its life in the answer is another: what it says of itself may have changed."""
    in_step().commit(1).wants(PUSH).answered(1).wants().commit(2).wants(PUSH).answered(2, life=OTHER_LIFE).wants(PULL)


def test_periods_are_spread_by_jitter() -> None:
    """Nodes started together do not ask together for ever."""
    in_step(jitter=0.0, period=10).sleeps(9)
    in_step(jitter=0.5, period=10).sleeps(10)
    in_step(jitter=0.999, period=10).sleeps(10.998)


# --- pages with nothing in them


def test_a_page_with_nothing_for_the_receiver_waits_for_a_lull() -> None:
    """What came from it, or is not for it, costs no request of its own; its cursor is moved over it a little later."""
    book = in_step().commit(5).wants(PUSH)
    assert book.machine.may_put_off
    book.put_off(5).is_(Health.IN_STEP).wants().sleeps(LULL)
    book.after(LULL).wants(PUSH)
    assert not book.machine.may_put_off
    book.answered(5).is_(Health.IN_STEP).sleeps(PERIOD - LULL)


def test_more_of_it_does_not_put_the_lull_off() -> None:
    """Under steady news the cursor still moves once a lull."""
    book = in_step().commit(5).wants(PUSH).put_off(5)
    book.after(LULL / 2).commit(6).wants(PUSH).put_off(6).wants().sleeps(LULL / 2)


@pytest.mark.parametrize("begin", [Playbook, lambda: in_step().at(PERIOD)], ids=["a hello", "a push that was due"])
def test_a_page_that_is_due_is_sent_though_it_be_empty(begin: Callable[[], Playbook]) -> None:
    """A hello and the push of a period carry the receiver's cursor on."""
    book = begin().wants(PUSH, PULL)
    assert not book.machine.may_put_off


# --- what the receiver asks another for


def test_what_another_is_asked_for_is_offered_again_when_the_receiver_said() -> None:
    """It counts as no stall, however often: the receiver does take what it needs."""
    book = in_step().commit(5)
    for _ in range(5):
        book.wants(PUSH).answered(0, have="old", again=0.5).is_(Health.BEHIND, 5).wants().sleeps(0.5)
        book.after(0.5)
    book.wants(PUSH).answered(5).is_(Health.IN_STEP)


def test_without_being_told_when_the_lane_asks_at_once_and_then_ever_more_rarely() -> None:
    """Control: the same answers without a time are stalls."""
    book = in_step().commit(5).wants(PUSH).answered(0, have="old").wants(PUSH).answered(0, have="old")
    book.wants(PUSH).answered(0, have="old").wants().sleeps(2.0)


def test_news_do_not_wait_for_what_another_is_asked_for() -> None:
    """A change that commits meanwhile is sent at once."""
    book = in_step().commit(5).wants(PUSH).answered(0, have="old", again=0.5).wants()
    book.commit(5).wants().commit(6).wants(PUSH)


def test_what_is_wanted_goes_before_the_rest_is_offered_again() -> None:
    """Of two offers one is wanted: its body is sent now."""
    in_step().commit(5).wants(PUSH).answered(0, have="old", wanted=frozenset((b"t",)), again=0.5).wants(PUSH)


# --- failures


WAITS = [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]  # half of 2, 4, 8 … 60, 60


@pytest.mark.parametrize("action", [PUSH, PULL])
def test_waits_double_up_to_a_limit(action: Action) -> None:
    """And only one request probes while the peer does not answer."""
    book = in_step().at(PERIOD).commit(1).wants(PUSH, PULL)
    book.answered(1) if action is PULL else book.pulled()
    book.fails(action).is_(Health.FAILING, 0 if action is PULL else 1)
    for wait in WAITS:
        book.sleeps(wait).after(wait - 0.01).wants().after(0.01)
        (probe,) = book.machine.poll(book.now)
        book.wants().fails(probe)


def test_a_wait_is_between_half_and_all_of_its_length() -> None:
    """By jitter, so that peers that lost one node at one moment do not come back at one moment."""
    for jitter, expected in ((0.0, 1.0), (0.5, 1.5), (0.999, 1.999)):
        Playbook(pull=False, jitter=jitter).wants(PUSH).fails(PUSH).sleeps(expected)


def test_a_peer_that_never_answers_breaks_no_arithmetic() -> None:
    """After thousands of attempts the wait is still the longest one."""
    book = Playbook(pull=False)
    for _ in range(3_000):
        book.wants(PUSH).fails(PUSH)
        book.at(book.machine.timer() or 0.0)
    book.wants(PUSH).fails(PUSH).sleeps(30)
    assert book.machine.trouble is not None
    assert book.machine.trouble.attempts == 3_001


def test_a_peer_may_ask_for_a_longer_wait() -> None:
    """A shorter one than our own is not taken."""
    Playbook(pull=False).wants(PUSH).fails(PUSH, retry_after=100).sleeps(100)
    Playbook(pull=False).wants(PUSH).fails(PUSH, retry_after=0.1).sleeps(1)


def test_after_a_failure_one_lane_probes_and_the_other_waits_for_its_answer() -> None:
    """Whichever is first; once it is answered both go on, and the pull catches up without its period."""
    book = in_step().at(PERIOD).wants(PUSH, PULL).fails(PUSH).fails(PULL, "refused")
    book.after(2).wants(PUSH).wants().sleeps(None).answered().wants(PULL)


def test_trouble_says_what_since_when_and_how_often() -> None:
    """The last reason, the first time; it ends with the first answer."""
    book = in_step().at(PERIOD).wants(PUSH, PULL).pulled().fails(PUSH, "unreachable").after(1).wants(PUSH)
    book.fails(PUSH, "refused")
    trouble = book.machine.trouble
    assert trouble is not None
    assert (trouble.code, trouble.since, trouble.attempts) == ("refused", PERIOD, 2)
    book.after(2).wants(PUSH).answered()
    assert book.machine.trouble is None


def test_a_failed_push_forgets_what_was_known_of_the_receiver() -> None:
    """It may have been restarted or restored: the next push is a hello again. A failed pull forgets nothing."""
    book = in_step().commit(1).wants(PUSH).answered(0, wanted=frozenset((b"t" * 16,))).wants(PUSH).fails(PUSH)
    assert (book.machine.view, book.machine.wanted) == (None, frozenset())
    book = in_step().at(PERIOD).wants(PUSH, PULL).answered(0, have="c").fails(PULL)
    assert book.machine.view == View("c", LIFE)


def test_traffic_from_the_peer_ends_the_wait() -> None:
    """It is up: both lanes go on at once, and the pull asks what was missed. With nothing to end it says so."""
    book = in_step().at(PERIOD).wants(PUSH, PULL).pulled().fails(PUSH).wants()
    book.hears(ends_a_wait=True).wants(PUSH, PULL).hears(ends_a_wait=False)
    in_step().hears(ends_a_wait=False).wants()


def test_traffic_without_end_ends_a_wait_a_second_and_no_more() -> None:
    """Who calls all the time and answers nothing would have this node call all the time as well."""
    book, tries = in_step(first_retry=30.0).at(PERIOD), 0
    for _ in range(1_000):  # ten seconds
        for action in book.machine.poll(book.now):
            book.fails(action)
            tries += action is PULL
        book.machine.heard_from(book.now)
        book.after(0.01)
    assert 9 <= tries <= 12


def test_pages_with_next_to_nothing_in_them_are_asked_for_with_pauses() -> None:
    """An honest feed has some in a row, and a liar as many as it likes; a page with something in it ends that."""
    book = in_step(push=False).at(PERIOD).wants(PULL)
    for _ in range(THIN_PAGES):
        book.pulled(more=True, thin=True).wants(PULL)
    for _ in range(3):
        book.pulled(more=True, thin=True).wants().sleeps(THIN_WAIT).after(THIN_WAIT).wants(PULL)
    book.pulled(more=True).wants(PULL).pulled(more=True, thin=True).wants(PULL)


def test_traffic_does_not_say_that_all_is_well() -> None:
    """Only an answer to a request of ours does."""
    book = in_step().at(PERIOD).wants(PUSH, PULL).pulled().fails(PUSH).hears(ends_a_wait=True).is_(Health.FAILING)
    book.wants(PUSH, PULL).answered().is_(Health.IN_STEP)


def test_without_the_reset_a_peer_that_is_back_would_be_left_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: hearing from it is what ends the wait."""
    monkeypatch.setattr(PeerMachine, "heard_from", lambda self, now: True)
    with pytest.raises(AssertionError):
        test_traffic_does_not_say_that_all_is_well()


# --- one lane fails, the other works


@pytest.mark.parametrize("failing", [PUSH, PULL])
def test_a_lane_that_works_does_not_hide_the_one_that_fails(failing: Action) -> None:
    """A node with a full disk takes nothing in, however well its pushes go."""
    book = in_step().at(PERIOD).wants(PUSH, PULL).fails(failing, "store_full")
    (book.pulled if failing is PUSH else book.answered)()
    book.is_(Health.FAILING).wants(failing)
    assert book.machine.trouble is not None
    assert book.machine.trouble.code == "store_full"


def test_a_lane_that_works_again_says_so() -> None:
    """Its trouble ends with its own success; how often it failed in a row is its own, too."""
    book = in_step().at(PERIOD).wants(PUSH, PULL).fails(PULL).answered().wants(PULL).fails(PULL)
    assert book.machine.trouble is not None
    assert book.machine.trouble.attempts == 2
    book.after(1.0).wants(PULL).pulled().is_(Health.IN_STEP)
    assert book.machine.trouble is None


def test_a_peer_that_takes_no_push_is_pulled_from() -> None:
    """While one request at a time is made, the lane that failed lets the other go first."""
    book = in_step().at(PERIOD).wants(PUSH, PULL).pulled().fails(PUSH)
    for _ in range(5):
        book.after(PERIOD).wants(PULL).pulled().wants(PUSH).fails(PUSH, "http_507")


def test_a_push_that_always_goes_first_would_keep_the_pull_from_its_turn() -> None:
    """Control: with the lanes in one order for ever, a peer whose disk is full is never pulled from again."""
    book = in_step().at(PERIOD).wants(PUSH, PULL).pulled().fails(PUSH)
    book.machine._failed_last = PULL
    book.after(PERIOD).wants(PUSH)


# --- a receiver that answers but takes nothing


def test_a_receiver_that_takes_nothing_is_asked_ever_more_rarely() -> None:
    """Its waiting table is full, say. At first it is asked again at once, then after 2, 4, 8 … seconds, up to 60."""
    book = in_step(pull=False, period=1_000).commit(1)
    for _ in range(PATIENCE):
        book.wants(PUSH).answered(0)
    for wait in (2, 4, 8, 16, 32, 60, 60, 60):
        book.wants().sleeps(wait).after(wait).wants(PUSH).answered(0)


@pytest.mark.parametrize(
    "progress",
    [{"covered": 1}, {"covered": 0, "have": "another"}, {"covered": 0, "wanted": frozenset((b"n" * 16,))}],
    ids=["it moved", "its cursor is another", "it wants something new"],
)
def test_any_progress_ends_that_patience(progress: dict[str, Any]) -> None:
    """The next page goes at once."""
    book = in_step().commit(2)
    for _ in range(PATIENCE):
        book.wants(PUSH).answered(0)
    book.wants().after(2).wants(PUSH).answered(**progress).wants(PUSH)


def test_wanting_the_same_again_and_again_is_no_progress() -> None:
    """A receiver that asks for what it never takes gets it ever more rarely, too."""
    tags = frozenset((b"t" * 16,))
    book = in_step().commit(1).wants(PUSH).answered(0, wanted=tags)
    for _ in range(PATIENCE):
        book.wants(PUSH).answered(0, wanted=tags)
    book.wants().sleeps(2)


def test_without_patience_a_full_receiver_would_be_asked_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: it is the count of stalls that makes it wait."""
    monkeypatch.setattr(peer, "PATIENCE", 10**9)
    with pytest.raises(AssertionError):
        test_wanting_the_same_again_and_again_is_no_progress()


# --- what an operator sees


def test_in_step_since_is_when_it_came_into_step() -> None:
    """It stays through rest and ends with news or trouble."""
    book = in_step()
    assert book.machine.in_step_since == 0
    book.at(PERIOD).wants(PUSH, PULL).answered().pulled()
    assert book.machine.in_step_since == 0
    book.after(1).commit(1).wants(PUSH).after(1).answered(1)
    assert book.machine.in_step_since == 0
    book.after(1).commit(2).wants(PUSH).answered(1)
    assert book.machine.in_step_since is None
    book.after(1).wants(PUSH).answered(2)
    assert book.machine.in_step_since == book.now
    book.at(99).wants(PUSH, PULL).fails(PULL)
    assert book.machine.in_step_since is None


def test_commits_only_ever_grow() -> None:
    """A number that comes late changes nothing."""
    in_step().commit(7).commit(3).is_(Health.BEHIND, 7).wants(PUSH).answered(7).is_(Health.IN_STEP)


# --- illegal moves

ILLEGAL: dict[str, tuple[Callable[[], Playbook], Callable[[Playbook], object]]] = {
    "an answer to no push": (in_step, lambda book: book.answered()),
    "a second answer to a push": (lambda: in_step().commit(1).wants(PUSH).answered(1), lambda book: book.answered(1)),
    "an answer to no pull": (in_step, lambda book: book.pulled()),
    "a failure of no push": (in_step, lambda book: book.fails(PUSH)),
    "a failure of no pull": (in_step, lambda book: book.fails(PULL)),
    "a push that failed already": (lambda: Playbook().wants(PUSH, PULL).fails(PUSH), lambda book: book.answered()),
    "a push on a lane that is off": (lambda: in_step(push=False), lambda book: book.answered()),
    "a page put off that nobody cut": (in_step, lambda book: book.put_off(1)),
    "a hello put off": (lambda: Playbook().wants(PUSH, PULL), lambda book: book.put_off(1)),
    "a due page put off": (lambda: in_step().at(PERIOD).wants(PUSH, PULL), lambda book: book.put_off(1)),
}


@pytest.mark.parametrize("case", ILLEGAL)
def test_an_illegal_move_raises_and_changes_nothing(case: str) -> None:
    """It is an error of ours, and the dialogue can go on as if it had not been tried."""
    before, move = ILLEGAL[case]
    book = before()
    state = copy.deepcopy({name: value for name, value in vars(book.machine).items() if name != "_jitter"})
    with pytest.raises(LocalError):
        move(book)
    assert {name: value for name, value in vars(book.machine).items() if name != "_jitter"} == state


# --- any dialogue


@given(st.lists(st.tuples(st.integers(0, 9), st.floats(0, 1), st.floats(0, 40)), max_size=40))
@example(
    [
        (0, 0.0, 1.8652397080751157),
        (0, 0.5, 27.0),
        (0, 0.5, 1.6734069490351118),
        (0, 1.0, 1.6734069490351118),
        (0, 0, 0),
    ]
)
def test_in_any_dialogue_the_timer_tells_the_truth(steps: list[tuple[int, float, float]]) -> None:
    """Whatever happens: one request a lane, nothing to do before the timer, something to do when it is due."""
    book = Playbook()
    machine, under_way, number = book.machine, set[Action](), 0
    for what, chance, seconds in steps:
        timer = machine.timer()
        if timer is not None and timer > book.now:
            assert machine.poll(book.now) == ()
            between = (book.now + timer) / 2
            assert between == timer or machine.poll(between) == ()  # of two neighbours there is no number between
        if timer is not None and what < 5:
            book.at(max(book.now, timer))
            actions = machine.poll(book.now)
            assert actions
            assert under_way.isdisjoint(actions)
            under_way |= set(actions)
        book.after(seconds)
        number += what % 2
        book.commit(number)
        if under_way and chance < 0.8:
            action = sorted(under_way, key=lambda one: one.value)[0]
            under_way.discard(action)
            if chance < 0.2:
                book.fails(action)
            elif action is PULL:
                book.pulled(more=chance < 0.4)
            elif chance < 0.4 and machine.may_put_off:
                book.put_off(number)
            else:
                book.answered(number if chance < 0.6 else 0)
        elif chance > 0.9:
            machine.heard_from(book.now)
        assert (machine.timer() is None) <= bool(under_way)


# --- our own rules for what comes in


def test_other_rules_are_read_by_at_once() -> None:
    """The period is not waited for."""
    book = in_step().after(1).wants()
    book.machine.read_again(book.now)
    book.wants(PULL).pulled().wants()


def test_a_pull_under_other_rules_is_repeated() -> None:
    """It may have been asked for, and judged, by the old ones. Once is enough."""
    book = in_step(push=False).after(PERIOD).wants(PULL)
    book.machine.read_again(book.now)
    book.pulled().wants(PULL).pulled().wants()


@pytest.mark.parametrize(
    ("lanes", "asked"), [({}, PULL), ({"push": False}, PULL), ({"pull": False}, PUSH)], ids=["both", "pull", "push"]
)
def test_a_peer_that_hung_up_is_asked_at_once(lanes: dict[str, bool], asked: Action) -> None:
    """It may be gone, and seems in step until it is asked: once, over one lane, and not while it fails anyway."""
    book = in_step(**lanes).after(1).wants()
    book.machine.hung_up(book.now)
    book.wants(asked).fails(asked).wants()
    book.machine.hung_up(book.now)
    book.wants()


def test_a_peer_that_was_pulled_from_and_never_answered_a_hello_is_no_peer_in_step() -> None:
    """Both lanes have to have worked once."""
    book = Playbook().wants(PUSH, PULL).pulled().is_(Health.STARTING)
    book.answered().is_(Health.IN_STEP)


def test_an_empty_page_is_not_put_off_where_nothing_is_known_of_the_receiver() -> None:
    """Its answer is what is lacking."""
    book = in_step().after(1).commit(1).wants(PUSH).fails(PUSH).after(2).commit(2).wants(PUSH)
    assert not book.machine.may_put_off


def test_a_receiver_that_wants_nothing_more_and_takes_nothing_is_asked_more_rarely() -> None:
    """That it wanted something before is no progress."""
    book = in_step().commit(1).wants(PUSH).answered(0, wanted=frozenset((b"t" * 16,)))
    for _ in range(PATIENCE):
        book.wants(PUSH).answered(0)
    book.wants().sleeps(2)


def test_a_receiver_that_has_everything_stalls_nothing() -> None:
    """However often it is asked meanwhile, news go at once."""
    book = in_step()
    for _ in range(3 * PATIENCE):
        book.after(PERIOD).wants(PUSH, PULL).answered().pulled()
    book.commit(1).wants(PUSH)


def test_news_do_not_end_the_wait_for_a_receiver_that_takes_nothing() -> None:
    """It would take them no more than what it has not taken yet."""
    book = in_step(pull=False, period=1_000).commit(1)
    for _ in range(PATIENCE):
        book.wants(PUSH).answered(0)
    book.commit(2).wants().sleeps(2)
