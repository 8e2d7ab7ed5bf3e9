"""Find the smallest model that keeps a promise, by trying as few sizes as possible."""

from collections.abc import Callable


class OutOfTime(Exception):
    """There is no time left for this trial or another."""


def smallest_that_keeps(count: int, try_size: Callable[[int], bool], max_trials: int) -> int | None:
    """Bisect sizes 0 .. count - 1, from the smallest model upwards.

    What is larger than a size that keeps the promise is taken to keep it too, and what is smaller than one that breaks
    it to break it. Where noise makes that untrue, the answer is still a size that was tried and that kept the promise.
    If none has kept it when a single trial is left, that one is for the largest.

    Args:
        count: How many sizes there are.
        try_size: Whether a size keeps the promise; called at most once a size. Raises `OutOfTime` to end the search.
        max_trials: The most calls.

    Returns:
        The smallest size that kept the promise, or None if none did.
    """
    low, kept = 0, count
    for trials_left in range(max_trials, 0, -1):
        if low == kept:
            break
        last_chance = kept == count and trials_left == 1
        size = count - 1 if last_chance else (low + kept) // 2
        try:
            keeps = try_size(size)
        except OutOfTime:
            break
        if keeps:
            kept = size
        else:
            low = size + 1
    return kept if kept < count else None
