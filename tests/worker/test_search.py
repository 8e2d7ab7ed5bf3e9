"""The smallest size that keeps a promise, found in few trials."""

import random

import pytest

from worker.pipeline.search import Found, OutOfTime, smallest_that_keeps


class Trials:
    """Stands in for trials: knows which sizes keep the promise, and remembers what was asked."""

    def __init__(self, keeping: set[int], time_for: int = 10**6, collapsing: set[int] | None = None) -> None:
        self.keeping = keeping
        self.time_for = time_for
        self.collapsing = collapsing or set()
        self.asked: list[int] = []

    @property
    def tried_and_kept(self) -> list[int]:
        """Of the sizes that were asked for."""
        return [size for size in self.asked if size in self.keeping]

    def __call__(self, size: int) -> bool | None:
        if len(self.asked) == self.time_for:
            raise OutOfTime
        self.asked.append(size)
        return None if size in self.collapsing else size in self.keeping


@pytest.mark.parametrize("count", [1, 2, 7, 32, 33])
def test_where_larger_is_never_worse_the_smallest_is_found_in_logarithmic_time(count: int) -> None:
    for smallest in range(count + 1):
        trials = Trials(set(range(smallest, count)))
        assert smallest_that_keeps(count, trials, 64) == Found(smallest if smallest < count else None, "sizes")
        assert len(trials.asked) == len(set(trials.asked)) <= 2 * count.bit_length()
        assert smallest == count or smallest in trials.asked[: count.bit_length()]


@pytest.mark.parametrize("seed", range(20))
def test_noise_never_leads_to_a_size_that_did_not_keep_the_promise(seed: int) -> None:
    draw = random.Random(seed)
    trials = Trials({size for size in range(32) if draw.random() < size / 31})
    assert smallest_that_keeps(32, trials, 8).size == min(trials.tried_and_kept, default=None)


def test_a_cap_on_trials_holds_and_the_best_so_far_is_the_answer() -> None:
    trials = Trials(set(range(5, 32)))
    assert smallest_that_keeps(32, trials, 2) == Found(8, "trials", untried=8)
    assert trials.asked == [16, 8]


@pytest.mark.parametrize("cap", [1, 2, 3])
def test_the_last_trial_is_for_the_largest_if_nothing_has_kept_the_promise(cap: int) -> None:
    trials = Trials({31})
    assert smallest_that_keeps(32, trials, cap) == Found(31, "trials", untried=[31, 14, 6][cap - 1])
    assert len(trials.asked) == cap
    assert trials.asked[-1] == 31


def test_trials_that_are_left_go_to_sizes_that_one_unlucky_trial_had_ruled_out() -> None:
    trials = Trials(set(range(5, 32)) - {16})  # the first that is asked
    found = smallest_that_keeps(32, trials, 10).size
    assert trials.asked[:6] == [16, 24, 20, 18, 17, 8]
    assert found == 5


def test_where_training_of_large_models_collapses_smaller_ones_are_tried() -> None:
    trials = Trials(set(range(2, 32)), collapsing=set(range(6, 32)))
    assert smallest_that_keeps(32, trials, 8) == Found(2, "sizes")
    assert trials.asked[:3] == [16, 8, 4]


def test_where_all_collapse_the_last_trial_is_for_the_largest_too() -> None:
    trials = Trials(set(), collapsing=set(range(32)))
    assert smallest_that_keeps(32, trials, 4) == Found(None, "trials")
    assert trials.asked[-1] == 31


def test_nothing_found_is_none() -> None:
    trials = Trials(set())
    assert smallest_that_keeps(32, trials, 8) == Found(None, "sizes")
    assert trials.asked == [16, 24, 28, 30, 31]


def test_where_smaller_ones_fail_too_those_above_the_collapse_are_tried() -> None:
    """As where training does harm at each size, and the largest need none."""
    trials = Trials(set(range(24, 28)), collapsing=set(range(15, 24)))
    assert smallest_that_keeps(28, trials, 10).size == 24
    assert trials.asked[:8] == [14, 21, 18, 16, 15, 25, 23, 24]


def test_above_a_collapse_another_one_leads_upwards() -> None:
    trials = Trials({31}, collapsing=set(range(31)))
    assert smallest_that_keeps(32, trials, 64).size == 31
    assert trials.asked[:5] == [16, 8, 4, 2, 1]
    assert trials.asked[6:10] == [24, 28, 30, 31]


def test_sizes_between_one_that_collapsed_and_the_answer_are_tried_too() -> None:
    trials = Trials({6, 5}, collapsing={0, 2, 3, 4})
    assert smallest_that_keeps(13, trials, 16) == Found(5, "sizes")
    assert trials.asked[0] == 6


@pytest.mark.parametrize("seed", range(200))
def test_a_search_that_runs_out_of_sizes_has_left_none_untried(seed: int) -> None:
    draw = random.Random(seed)
    count = draw.randint(1, 40)
    collapsing = {size for size in range(count) if draw.random() < 0.3}
    keeping = {size for size in range(count) if draw.random() < size / count} - collapsing
    trials = Trials(keeping, collapsing=collapsing)
    assert smallest_that_keeps(count, trials, count) == Found(min(trials.tried_and_kept, default=None), "sizes")


def test_the_last_trial_that_there_is_time_for_is_for_the_largest() -> None:
    trials = Trials({31}, time_for=3)
    assert smallest_that_keeps(32, trials, 8, lambda: len(trials.asked) == 2) == Found(31, "minutes", untried=6)
    assert trials.asked == [16, 24, 31]
    keeping = Trials({16, *range(20, 32)}, time_for=3)  # one has kept it: smaller ones are tried to the end
    assert smallest_that_keeps(32, keeping, 8, lambda: len(keeping.asked) == 1).size == 16
    assert keeping.asked == [16, 8, 12]


def test_when_time_is_up_the_best_so_far_is_the_answer() -> None:
    assert smallest_that_keeps(32, Trials(set(range(5, 32)), time_for=1), 8) == Found(16, "minutes", untried=16)
    assert smallest_that_keeps(32, Trials(set(range(5, 32)), time_for=0), 8) == Found(None, "minutes")


@pytest.mark.parametrize(("trials", "untried"), [(4, 1), (5, 0)])
def test_what_is_untried_below_the_answer_is_counted(trials: int, untried: int) -> None:
    """Sizes below one that breaks the promise are not."""
    found = smallest_that_keeps(32, Trials(set(range(5, 32))), trials)
    assert (found.size, found.untried) == (5 + untried, untried)
