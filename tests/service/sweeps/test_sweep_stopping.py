from __future__ import annotations

import itertools
import math
import statistics
from dataclasses import dataclass, field
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from service.jobs.states import TERMINAL, State
from service.sweeps.stopping import MedianStopping, Standing, SuccessiveHalving, verdict_of

VALUES = st.floats(0, 1, width=16) | st.just(math.nan)


def standing(name: str, *values: float, state: State = State.QUEUED, epochs: int = 9) -> Standing:
    return Standing(name, state, epochs, dict(enumerate(values, start=1)))


@dataclass
class Runner:
    """A member of a simulated sweep, with the values that it records after each epoch."""

    name: str
    curve: list[float]
    fails_after: int | None = None
    ends_early: bool = False
    state: State = State.QUEUED
    done: int = 0
    until: int | None = None

    def train(self) -> None:
        """Train one more epoch, or end, or stop at `until`."""
        if self.done == self.fails_after:
            self.state = State.FAILED
        elif self.done == len(self.curve):
            self.state = State.SUCCEEDED
        elif self.done == self.until:
            self.state = State.QUEUED
        else:
            self.done += 1

    @property
    def epochs(self) -> int:
        return len(self.curve) + self.ends_early

    def standing(self) -> Standing:
        values = dict(enumerate(self.curve[: self.done], start=1))
        return Standing(self.name, self.state, self.epochs, values)


@dataclass
class Simulation:
    """A simulated sweep with workers of random speed and a scheduler that can die between any two moves."""

    rule: SuccessiveHalving
    runners: list[Runner]
    parallel: int
    random: Random
    reasons: dict[str, str] = field(default_factory=dict)

    def run(self) -> None:
        while any(runner.state not in TERMINAL for runner in self.runners):
            self._pass()
            running = [runner for runner in self.runners if runner.state is State.RUNNING]
            for runner in self.random.sample(running, self.random.randint(0, len(running))):
                runner.train()

    def _pass(self) -> None:
        verdict = verdict_of(self.rule, [runner.standing() for runner in self.runners])
        by_name = {runner.name: runner for runner in self.runners}
        for name, reason in verdict.stop.items():
            assert by_name[name].state is State.QUEUED
            if self.random.random() < 0.3:
                return  # the scheduler dies here, and a new one starts
            by_name[name].state, self.reasons[name] = State.CANCELLED, reason
        for runner in self.runners:
            running = sum(other.state is State.RUNNING for other in self.runners)
            if runner.state is State.QUEUED and runner.name not in verdict.hold and running < self.parallel:
                runner.state, runner.until = State.RUNNING, verdict.until


def survivors_of(rule: SuccessiveHalving, runners: list[Runner]) -> set[str]:
    """Reference: successive halving with complete curves."""
    left = runners
    for rung in rule.rungs(max(runner.epochs for runner in runners)):
        reached = [
            runner
            for runner in left
            if runner.curve[:rung] and (runner.fails_after is None or runner.fails_after >= rung)
        ]

        def rank(runner: Runner, rung: int = rung) -> tuple[bool, float, str]:
            value = runner.curve[:rung][-1]
            # NaN is not comparable, so it is replaced.
            return math.isnan(value), 0 if math.isnan(value) else -value, runner.name

        left = sorted(reached, key=rank)[: -(-len(reached) // rule.factor)]
    return {runner.name for runner in left}


def random_runners(random: Random) -> list[Runner]:
    """Random members: some have equal values, some fail, some end early, some record NaN."""
    epochs = random.randint(2, 12)
    runners = []
    for number in range(random.randint(1, 12)):
        ends_early = random.random() < 0.2
        length = random.randrange(1, epochs) if ends_early else epochs
        curve = [random.choice([math.nan, 0.25, 0.5, random.random()]) for _ in range(length)]
        fails_after = random.randrange(length) if random.random() < 0.2 else None
        runners.append(Runner(f"job-{number:02}", curve, fails_after, ends_early))
    return runners


RULES = st.builds(
    SuccessiveHalving,
    type=st.just("halving"),
    metric=st.just("val/accuracy"),
    factor=st.integers(2, 4),
    first=st.integers(1, 3),
)


@given(rule=RULES, parallel=st.integers(1, 4), seed=st.integers(0, 2**32))
def test_survivors_do_not_depend_on_the_order_and_on_crashes(rule: SuccessiveHalving, parallel: int, seed: int) -> None:
    random = Random(seed)
    runners = random_runners(random)
    expected = survivors_of(rule, runners)
    simulation = Simulation(rule, runners, parallel, random)
    simulation.run()
    stopped = {runner.name for runner in runners if runner.state is State.CANCELLED}
    out = {runner.name for runner in runners if runner.state is State.FAILED}
    assert stopped.isdisjoint(expected)
    left = {runner.name for runner in runners if runner.state is State.SUCCEEDED}
    # Members that end early are excluded: they have ended, whether or not they are among the best.
    early = {runner.name for runner in runners if runner.ends_early}
    assert left - early == expected - early - out
    assert all(reason.startswith("stopped_by_sweep: val/accuracy ") for reason in simulation.reasons.values())
    for runner in runners:
        if runner.name in stopped:
            assert runner.done in rule.rungs(runner.epochs), "members are stopped at a rung"


@given(rule=RULES, seed=st.integers(0, 2**32))
def test_a_verdict_does_not_depend_on_the_order_of_members(rule: SuccessiveHalving, seed: int) -> None:
    random = Random(seed)
    runners = random_runners(random)
    for runner in runners:
        runner.done = random.randint(0, len(runner.curve))
    members = [runner.standing() for runner in runners]
    mixed = random.sample(members, len(members))
    assert verdict_of(rule, mixed) == verdict_of(rule, members)
    median = MedianStopping(type="median", metric="val/accuracy", after_epochs=rule.first, members=rule.factor)
    assert verdict_of(median, mixed) == verdict_of(median, members)


@given(count=st.integers(1, 40), factor=st.integers(2, 5))
def test_one_of_factor_members_continues(count: int, factor: int) -> None:
    rule = SuccessiveHalving(type="halving", metric="val/loss", factor=factor, first=2)
    members = [standing(f"job-{number:02}", 9, number) for number in range(count)]
    verdict = verdict_of(rule, members)
    left = [member.id for member in members if member.id not in verdict.stop]
    assert left == [f"job-{number:02}" for number in range(math.ceil(count / factor))]
    assert verdict.until == (2 * factor if 2 * factor < 9 else None)


HALVING = SuccessiveHalving(type="halving", metric="val/accuracy", factor=2, first=1)


def test_reasons_of_halving() -> None:
    members = [standing("a", 0.25), standing("b", 0.5), standing("c", math.nan), standing("d")]
    waiting = "waiting_for_sweep: other members have not reached the end of epoch 1"
    assert verdict_of(HALVING, members) == ({}, dict.fromkeys("abc", waiting), 1)
    stop, hold, until = verdict_of(HALVING, [*members[:3], standing("d", 0.25, state=State.RUNNING)])
    assert stop == {"c": "stopped_by_sweep: val/accuracy not a finite number at epoch 1 is not among the best 2 of 4"}
    assert (hold, until) == ({}, 2), "a and d are equal, and a comes first; d still runs"
    stop, _, _ = verdict_of(HALVING, [*members[:3], standing("d", 0.5)])
    assert stop["a"] == "stopped_by_sweep: val/accuracy 0.25 at epoch 1 is not among the best 2 of 4"


def test_paused_members_are_waited_for_and_not_stopped() -> None:
    best = standing("a", 0.5)
    assert verdict_of(HALVING, [best, standing("b", state=State.PAUSED)]).hold.keys() == {"a"}
    assert verdict_of(HALVING, [best, standing("b", 0.1, state=State.PAUSED)]).stop == {}
    assert verdict_of(HALVING, [best, standing("b", 0.1)]).stop.keys() == {"b"}


def test_stopped_members_still_count() -> None:
    """Every pass makes the same decision again."""
    members = [standing(name, value) for name, value in zip("abcd", (0.4, 0.3, 0.2, 0.1), strict=True)]
    first = verdict_of(HALVING, members)
    assert first.stop.keys() == {"c", "d"}
    members[2:] = [member._replace(state=State.CANCELLED) for member in members[2:]]
    assert verdict_of(HALVING, members) == ({}, {}, 2)


@given(
    curves=st.lists(st.lists(VALUES, min_size=1, max_size=6), min_size=1, max_size=6),
    after=st.integers(1, 4),
    least=st.integers(1, 3),
)
def test_the_median_rule_against_a_reference(curves: list[list[float]], after: int, least: int) -> None:
    rule = MedianStopping(type="median", metric="val/loss", after_epochs=after, members=least)
    members = [standing(str(number), *curve, state=State.RUNNING) for number, curve in enumerate(curves)]
    costs = [[math.inf if math.isnan(value) else value for value in curve] for curve in curves]
    expected = set()
    for number, own in enumerate(costs):
        epoch = len(own)
        others = [sum(other[:epoch]) / epoch for at, other in enumerate(costs) if at != number and len(other) >= epoch]
        if epoch >= after and len(others) >= least and min(own) > statistics.median(others):
            expected.add(str(number))
    assert verdict_of(rule, members).stop.keys() == expected


def test_reason_of_the_median_rule() -> None:
    rule = MedianStopping(type="median", metric="val/accuracy", after_epochs=2, members=2)
    members = [standing("a", 0.1, 0.2), standing("b", 0.5, 0.25), standing("c", 0.75, 0.25), standing("d", 0.75)]
    assert verdict_of(rule, members).stop == {
        "a": "stopped_by_sweep: val/accuracy was at best 0.2 up to epoch 2, worse than 0.4375, the median of the "
        "averages of 2 other members"
    }


def test_the_median_rule_stops_only_waiting_and_running_members() -> None:
    rule = MedianStopping(type="median", metric="val/accuracy", after_epochs=1, members=1)
    for state in State:
        stop = verdict_of(rule, [standing("a", 0.1, state=state), standing("b", 0.5)]).stop
        assert (stop.keys() == {"a"}) == (state in {State.QUEUED, State.STARTING, State.RUNNING})


def test_rungs_end_before_the_last_epoch() -> None:
    rungs = {
        epochs: list(SuccessiveHalving(type="halving", metric="val/loss", first=2).rungs(epochs))
        for epochs in range(2, 20)
    }
    assert rungs[2] == []
    assert rungs[6] == [2]
    assert rungs[7] == rungs[18] == [2, 6]
    assert rungs[19] == [2, 6, 18]
    assert all(before <= after for before, after in itertools.pairwise(rungs.values()))
