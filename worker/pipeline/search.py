"""Find the smallest model that keeps a promise, by trying as many sizes as there may be trials."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal


class OutOfTime(Exception):
    """There is no time left for this trial or another."""


def in_time(on_step: Callable[[float, str], None], deadline: float) -> Callable[[float, str], None]:
    """What a part of a search calls at each step, so that it ends with the search's time.

    Args:
        on_step: Called with the share done and a message.
        deadline: On the monotonic clock; past it the step raises `OutOfTime`.
    """

    def step(done: float, message: str) -> None:
        if time.monotonic() > deadline:
            raise OutOfTime
        on_step(done, message)

    return step


@dataclass(frozen=True)
class Found:
    """What a search came to.

    Attributes:
        size: The smallest that kept the promise, or None if none did.
        ended_by: What ended it: there was no size left to try, or no trial, or no time.
        untried: How many smaller sizes might keep the promise too: each is larger than any that is known to break it.
    """

    size: int | None
    ended_by: Literal["sizes", "trials", "minutes"]
    untried: int = 0


def smallest_that_keeps(
    count: int, try_size: Callable[[int], bool | None], max_trials: int, is_last: Callable[[], bool] = lambda: False
) -> Found:
    """Bisect sizes 0 .. count - 1, from the smallest model upwards.

    What is larger than a size that keeps the promise is taken to keep it too, and what is smaller than one that breaks
    it to break it. Noise makes that untrue now and then: trials that are left bisect once more, over the sizes that
    were passed over below the smallest that has kept the promise, so that one unlucky trial does not decide. The answer
    is always a size that was tried and that kept the promise. If none has kept it when there is a single trial left, or
    time for one, that one is for the largest.

    Args:
        count: How many sizes there are.
        try_size: Whether a size keeps the promise; None where its training came to nothing, which tends to befall
            large models first: smaller ones are tried then, and if none of them keeps it, larger ones, which may not
            need the training. Called at most once a size. Raises `OutOfTime` to end the search.
        max_trials: The most calls.
        is_last: Whether the next trial is likely the last one that there is time for.
    """
    bisected = _Bisected(count)
    for trials_left in range(max_trials, 0, -1):
        size = bisected.next_size()
        if size is None:
            return bisected.found("sizes")
        if bisected.kept == count and (trials_left == 1 or is_last()):
            size = bisected.untried[-1]
        try:
            bisected.tell(size, try_size(size))
        except OutOfTime:
            return bisected.found("minutes")
    return bisected.found("sizes" if bisected.next_size() is None else "trials")


class _Bisected:
    """What is known of sizes 0 .. count - 1, and which is tried next.

    Attributes:
        untried: Sizes that were not tried, in order.
        kept: The smallest that has kept the promise; `count` if none has.
    """

    def __init__(self, count: int) -> None:
        self.untried = list(range(count))
        self.kept = count
        self._count = count
        self._broken: list[int] = []
        self._collapsed: list[int] = []
        self._low, self._high = 0, count
        self._upwards = self._again = False

    def next_size(self) -> int | None:
        """The middle of what is open; None if nothing is."""
        if not self._open() and self.kept == self._count and self._collapsed and not self._upwards:
            self._low, self._high, self._upwards = max(self._collapsed) + 1, self._count, True
        elif not self._open() and self.kept < self._count and not self._again:
            self._low, self._high, self._upwards, self._again = 0, self.kept, False, True
        elif not self._open() and self.kept < self._count and (left := self._unknown()):
            self._low, self._high = left[0], self.kept  # above one whose training came to nothing
        between = self._open()
        return between[len(between) // 2] if between else None

    def tell(self, size: int, keeps: bool | None) -> None:
        """Take in what became of a size; see `smallest_that_keeps`."""
        self.untried.remove(size)
        if keeps:
            self.kept = self._high = size
            return
        (self._collapsed if keeps is None else self._broken).append(size)
        if keeps is None and not self._upwards:
            self._high = size
        else:
            self._low = size + 1

    def found(self, ended_by: Literal["sizes", "trials", "minutes"]) -> Found:
        """The end of the search."""
        if self.kept == self._count:
            return Found(None, ended_by)
        return Found(self.kept, ended_by, len(self._unknown()))

    def _unknown(self) -> list[int]:
        """The untried sizes below the one that has kept the promise, and above all there that have broken it."""
        largest_broken = max((size for size in self._broken if size < self.kept), default=-1)
        return [size for size in self.untried if largest_broken < size < self.kept]

    def _open(self) -> list[int]:
        return [size for size in self.untried if self._low <= size < self._high]
