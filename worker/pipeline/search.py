"""Find the smallest model that keeps a promise, by trying as many sizes as there may be trials."""

import time
from collections.abc import Callable

LOOKS = 2
"""How often the sizes are bisected, trials permitting."""


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


def smallest_that_keeps(count: int, try_size: Callable[[int], bool | None], max_trials: int) -> int | None:
    """Bisect sizes 0 .. count - 1, from the smallest model upwards.

    What is larger than a size that keeps the promise is taken to keep it too, and what is smaller than one that breaks
    it to break it. Noise makes that untrue now and then: trials that are left bisect once more, over the sizes that
    were passed over below the smallest that has kept the promise, so that one unlucky trial does not decide. The answer
    is always a size that was tried and that kept the promise. If none has kept it when a single trial is left, that one
    is for the largest.

    Args:
        count: How many sizes there are.
        try_size: Whether a size keeps the promise; None where its training came to nothing, which tends to befall
            large models first and says nothing about smaller ones. Called at most once a size. Raises `OutOfTime` to
            end the search.
        max_trials: The most calls.

    Returns:
        The smallest size that kept the promise, or None if none did.
    """
    untried, kept = list(range(count)), count
    low, high, looks = 0, count, 1
    collapsed = False
    for trials_left in range(max_trials, 0, -1):
        between = [size for size in untried if low <= size < high]
        if not between and looks < LOOKS and (kept < count or collapsed):
            low, high, looks = 0, kept, looks + 1
            between = [size for size in untried if size < kept]
        if not between:
            break
        last_chance = kept == count and trials_left == 1
        size = untried[-1] if last_chance else between[len(between) // 2]
        untried.remove(size)
        try:
            keeps = try_size(size)
        except OutOfTime:
            break
        if keeps:
            kept = high = size
        elif keeps is None:
            high, collapsed = size, True
        else:
            low = size + 1
    return kept if kept < count else None
